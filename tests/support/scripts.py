"""Scripts that tests run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]


def run_script(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own: for limits, signals and exits that this one must not have."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=SUPPORT,  # it may import what is defined here
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
