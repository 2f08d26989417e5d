"""Hosts killed at random moments where each sandbox has a cgroup. For tests/vm/run.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pysandpool import SandboxPool

FAULTS = Path(__file__).resolve().parents[1] / "faults"
PARENT = Path("/sys/fs/cgroup" if os.geteuid() == 0 else "/sys/fs/cgroup/user")


def directories() -> list[str]:
    return sorted(path.name for path in PARENT.glob("pysandpool-*"))


def kill_hosts(times: int, seed: int) -> str:
    command = [sys.executable, FAULTS / "kill.py", "host", str(times), str(seed), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hosts_killed_at_random_moments_leave_no_cgroup_to_the_next() -> None:
    """The short form of `python tests/faults/kill.py host 1000`; what a killed host made is removed by the next."""
    assert "'cgroup directories'" in kill_hosts(25, 31), "control: they had cgroups"
    seeds = iter(range(32, 64))
    while not directories():
        kill_hosts(1, next(seeds))  # the last one was killed before it had made any
    with SandboxPool():
        assert all(name.startswith(f"pysandpool-{os.getpid()}-") for name in directories())
    assert directories() == []
