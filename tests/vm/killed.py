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


def test_hosts_killed_at_random_moments_leave_no_cgroup_to_the_next() -> None:
    """The short form of `python tests/faults/kill.py host 1000`; what a killed host made is removed by the next."""
    command = [sys.executable, FAULTS / "kill.py", "host", "25", "31", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'cgroup directories'" in done.stdout, "control: they had cgroups"
    assert directories(), "control: the last one's is there"
    with SandboxPool():
        assert all(name.startswith(f"pysandpool-{os.getpid()}-") for name in directories())
    assert directories() == []
