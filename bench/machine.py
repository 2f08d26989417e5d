"""Where and when the figures were taken."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from peers import bwrap_works

import pysandpool


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return models[0] if models else platform.machine()


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
