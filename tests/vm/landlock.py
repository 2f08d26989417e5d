"""tests/native/c/test_landlock.c on this machine's kernel, which has to have it. For tests/vm/run.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def test_landlock() -> None:
    program = Path(os.environ["SANDPOOL_PROBES"], "test_landlock")
    done = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("ABI "), done.stdout
