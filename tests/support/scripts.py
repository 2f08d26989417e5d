"""Scripts that tests run in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from full_tier import head_of_scripts

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]


def run_script(code: str, *args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own: for limits, signals and exits that this one must not have.

    It may fork beside the threads of a pool, of which Python 3.12 and later warn.
    """
    return subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", head_of_scripts() + code, *args],
        cwd=SUPPORT,  # it may import what is defined here
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
