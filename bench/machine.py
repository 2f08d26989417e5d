"""Where and when the figures were taken."""

from __future__ import annotations

import os
import platform
import time
from datetime import datetime, timezone
from pathlib import Path

from peers import bwrap_works

import pysandpool

REST_LIMIT = 60.0
REST_WINDOW = 0.5
REST_SHARE = 0.93  # of all cores' time


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return models[0] if models else platform.machine()


def _cpu_ticks() -> tuple[int, int]:
    """All of them since boot, and the idle ones."""
    ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    return sum(ticks), ticks[3] + ticks[4]


def comes_to_rest() -> bool:
    """Waits until other programs leave the cores alone; False when they do not within `REST_LIMIT`."""
    deadline = time.monotonic() + REST_LIMIT
    while time.monotonic() < deadline:
        total, idle = _cpu_ticks()
        time.sleep(REST_WINDOW)
        later, later_idle = _cpu_ticks()
        if later_idle - idle >= REST_SHARE * (later - total):
            return True
    return False


def describe() -> dict[str, str]:
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "pysandpool": getattr(pysandpool, "__version__", "?"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "bubblewrap": "beside" if bwrap_works() else "cannot run here",
        "load before": load,
    }
