"""Measures how far, and for how long, a tenant that touches memory as fast as it can exceeds its memory limit.

    python bench/overshoot.py [RUNS]

It needs a user for whom no cgroup is found: then init's memory watch is what ends the tenant. The tenant counts what it
has touched in a page that it shares with this script, and notes there when the sum passed twice the limit. The time
above twice the limit ends when `execute` returns: every process of the tenant is gone then, and its memory is free.
Exits with 1 if that takes longer than 100 ms.
"""

from __future__ import annotations

import mmap
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pysandpool import PoolConfig, SandboxConfig, SandboxPool

BUDGET_MS = 100.0
LIMITS_MB = (32, 64, 512)
# What the tenant does, in words and as arguments: how it touches pages, how many processes and threads do that, and for
# how many milliseconds it sleeps before.
HOGS = {
    "one thread": ("private", 1, 1, 0),
    "threads": ("private", 1, 0, 0),
    "processes": ("private", 0, 1, 0),
    "processes, late": ("private", 0, 1, 437),
    "threads, huge pages": ("huge", 1, 0, 0),
    "processes, huge pages": ("huge", 0, 1, 300),
    "60 processes": ("private", 60, 1, 0),
    "shared mappings": ("shared", 0, 1, 0),
    "memfds": ("memfd", 0, 1, 200),
}
MIB = 1 << 20
MOST = 6 << 30  # a tenant that nobody ends stops here


def build(folder: str) -> str:
    path = os.path.join(folder, "hog")
    subprocess.run(["cc", "-O1", "-static", "-pthread", Path(__file__).with_name("hog.c"), "-o", path], check=True)
    return path


def once(pool: SandboxPool, hog: str, counts: Path, name: str, limit_mb: int) -> tuple[float, float, float]:
    """MiB touched in all, MiB touched in a millisecond, and milliseconds above twice the limit."""
    way, processes, threads, delay = HOGS[name]
    cores = os.cpu_count() or 1
    counts.write_bytes(bytes(4096))
    with counts.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as shared, pool.acquire() as lease:
        sizes = [str(processes or cores), str(threads or cores), str(delay), str(2 * limit_mb * MIB), str(MOST)]
        result = lease.execute([hog, str(counts), way, *sizes], timeout=20)
        ended = time.monotonic_ns()
        touched, began, passed = struct.unpack("3q", shared[:24])
    assert (result.oom_killed, result.timed_out) == (True, False), (name, result)
    over = (ended - passed) / 1e6 if passed else 0.0
    return touched / MIB, touched / MIB / ((ended - began) / 1e6), over


def main(runs: int = 10) -> int:
    print(
        f"{platform.platform()}, {os.cpu_count()} cpus, load {os.getloadavg()[0]:.1f}, {runs} runs each; medians, worst"
    )
    worst = 0.0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        hog = build(folder)
        shown = Path(folder, "counts")
        shown.mkdir()
        shown.chmod(0o777)
        counts = shown / "counts"
        counts.touch()
        counts.chmod(0o666)
        for limit_mb in LIMITS_MB:
            config = SandboxConfig(memory_limit_mb=limit_mb, fs_readonly=(hog,), fs_readwrite=(shown,))
            with SandboxPool(config, PoolConfig(min_size=1, max_size=2)) as pool:
                for name in HOGS:
                    samples = [once(pool, hog, counts, name, limit_mb) for _ in range(runs)]
                    touched, pace, over = (sorted(column) for column in zip(*samples))
                    worst = max(worst, over[-1])
                    print(
                        f"{limit_mb:4} MiB, {name:22} touched {touched[runs // 2]:5.0f} MiB, at most {touched[-1]:.0f},"
                        f" {pace[-1]:5.1f} MiB/ms; above twice the limit for {over[runs // 2]:5.1f} ms,"
                        f" at most {over[-1]:5.1f}",
                        flush=True,
                    )
    print(
        f"longest time above twice the limit: {worst:.1f} ms, budget {BUDGET_MS:g} ms:"
        f" {'met' if worst <= BUDGET_MS else 'MISSED'}"
    )
    return worst > BUDGET_MS


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
