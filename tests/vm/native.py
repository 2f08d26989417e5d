"""Programs of tests/native/c whose subject is what the kernel has, on this machine's. For tests/vm/run.py."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

KERNEL = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])
LANDLOCK = (5, 13)


def run(name: str) -> str:
    """What the program writes. That it passes is asserted."""
    program = Path(os.environ["SANDPOOL_PROBES"], name)
    done = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_landlock() -> None:
    assert run("test_landlock").startswith("ABI " if KERNEL >= LANDLOCK else "skipped: this kernel has no Landlock")


@pytest.mark.parametrize("name", ["test_descriptors", "test_mount_flags", "test_pivot"])
def test_fallbacks(name: str) -> None:
    assert re.search(r"^[1-9]\d* passed, 0 failed, 0 skipped$", run(name), re.MULTILINE)
