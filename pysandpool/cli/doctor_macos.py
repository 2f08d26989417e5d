"""What `doctor` looks at on macOS: Seatbelt, and what cannot be had there. Pure but for `surroundings`."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from pysandpool._backend import hints as _hints
from pysandpool._backend.macos import SANDBOX_EXEC, is_confined
from pysandpool._pool.isolation import NONE, IsolationReport

_TRIAL = ("-p", "(version 1)(allow default)", "/usr/bin/true")


@dataclass(frozen=True)
class Seatbelt:
    """What was found of it."""

    macos: str
    """the version of macOS, as in "15.1"; "" elsewhere"""
    sandbox_exec: str
    """"" when it runs a program, else why it does not"""
    confined: bool
    """whether this process is in a sandbox already"""

    def lines(self) -> list[str]:
        """The same for people."""
        return [
            f"macOS             {self.macos or 'unknown'}",
            f"sandbox-exec      {self.sandbox_exec or 'works'}",
            f"in a sandbox      {'yes' if self.confined else 'no'}",
        ]

    def missing(self, isolation: IsolationReport | None) -> Iterator[tuple[str, str]]:
        """What is missing, and what brings it; `isolation`: the report of a sandbox, where one could be made."""
        if self.confined:
            yield "a place outside of a sandbox", _hints.hint_for("seatbelt", errno.EPERM)
        elif self.sandbox_exec:
            yield f"sandbox-exec ({self.sandbox_exec})", f"{SANDBOX_EXEC} is a part of macOS: it must be there and run"
        if isolation is not None and NONE in (isolation.memory, isolation.processes):
            yield (
                "limits of memory and processes: a command may take what its user may",
                "nothing on macOS brings them: choose a short timeout, or run hostile tenants on Linux",
            )


def surroundings(sandbox_exec: str = SANDBOX_EXEC) -> Seatbelt:
    """Looks at this machine; runs `sandbox-exec` with a profile that allows all."""
    return Seatbelt(platform.mac_ver()[0], _try(sandbox_exec), is_confined())


def _try(sandbox_exec: str) -> str:
    if not os.access(sandbox_exec, os.X_OK):
        return "not there"
    try:
        done = subprocess.run([sandbox_exec, *_TRIAL], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().partition("\n")[0] or f"exit code {done.returncode}")
