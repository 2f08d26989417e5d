"""What `doctor` reports on macOS: the state of Seatbelt, and what macOS cannot enforce."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from pysandpool._backend import hints
from pysandpool._backend.macos import SANDBOX_EXEC, is_confined
from pysandpool._pool.isolation import NONE, IsolationReport

_TRIAL = ("-p", "(version 1)(allow default)", "/usr/bin/true")


@dataclass(frozen=True)
class Seatbelt:
    """The state of Seatbelt on this machine."""

    macos: str
    """The version of macOS, for example "15.1"; "" on other systems."""
    sandbox_exec: str
    """"" if it runs a program, else the reason why it does not."""
    confined: bool
    """Whether this process is in a sandbox already."""

    def lines(self) -> list[str]:
        """The state as lines of text."""
        return [
            f"macOS             {self.macos or 'unknown'}",
            f"sandbox-exec      {self.sandbox_exec or 'works'}",
            f"in a sandbox      {'yes' if self.confined else 'no'}",
        ]

    def missing(self, isolation: IsolationReport | None) -> Iterator[tuple[str, str]]:
        """Pairs of a missing feature and its fix; `isolation` is the report of a sandbox, if one could be created."""
        if self.confined:
            yield "a place outside of a sandbox", hints.hint_for("seatbelt", errno.EPERM)
        elif self.sandbox_exec:
            yield f"sandbox-exec ({self.sandbox_exec})", f"{SANDBOX_EXEC} is a part of macOS: it must be there and run"
        if isolation is not None and NONE in (isolation.memory, isolation.processes):
            yield (
                "limits of memory and processes: a command may use what its user may use",
                "macOS has none: choose a short timeout, or run hostile tenants on Linux",
            )


def surroundings(sandbox_exec: str = SANDBOX_EXEC) -> Seatbelt:
    """Inspects this machine, and runs `sandbox-exec` with a profile that allows everything."""
    return Seatbelt(platform.mac_ver()[0], _try(sandbox_exec), is_confined())


def _try(sandbox_exec: str) -> str:
    if not os.access(sandbox_exec, os.X_OK):
        return "not there"
    try:
        done = subprocess.run([sandbox_exec, *_TRIAL], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().partition("\n")[0] or f"exit code {done.returncode}")
