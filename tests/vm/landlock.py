"""tests/native/c/test_landlock.c on this machine's kernel, which has Landlock from 5.13 on. For tests/vm/run.py."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

KERNEL = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def test_landlock() -> None:
    program = Path(os.environ["SANDPOOL_PROBES"], "test_landlock")
    done = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("ABI " if KERNEL >= (5, 13) else "skipped: this kernel has no Landlock"), done.stdout
