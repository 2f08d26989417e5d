"""A place of the table in docs/deployment.md, and how `pysandpool doctor` is asked in one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import oci  # noqa: E402
from scripts import run_script  # noqa: E402

DOCTOR = [sys.executable, "-m", "pysandpool", "doctor", "--json"]


@dataclass(frozen=True)
class Place:
    """Where sandboxes are tried."""

    name: str
    report: Callable[[Sequence[str]], dict[str, Any]]
    """The doctor's report, after these commands or settings of a hint have been followed."""
    missing: Callable[[], str]
    """Why it cannot be run here; "" if it can."""
    instead: Callable[[], dict[str, Any]] | None = None
    """The same program as the hint says, where that is no command; `how` says it in a few words."""
    how: str = ""
    times: int | None = None
    """How often it is run; None: as often as asked for."""


def only_root() -> str:
    return "" if os.geteuid() == 0 else "only root can make it"


def report_of(words: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    return oci.read_report(done)


def report_of_script(code: str) -> dict[str, Any]:
    """In a process that `code` has changed, see tests/support/simulate.py."""
    end = "import sys; from pysandpool.cli.main import main; sys.exit(main(['doctor', '--json']))"
    return oci.read_report(run_script(f"from simulate import *; {code}; {end}"))
