"""System calls refused by strace: to a zygote from its start, or to a process that runs already."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from eyes import children, open_fds, status_field
from waiting import wait_until

from pysandpool._backend.linux import zygote_path

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here: apt-get install strace")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may trace zygotes and inits, which are not dumpable"
)


def injections(refusals: tuple[str, ...]) -> list[str]:
    """Each is `call:error=...`, `call:retval=...`, and `:when=` with the number of the call, in each process."""
    calls = ",".join(refusal.partition(":")[0] for refusal in refusals)
    return ["-f", "-qq", "-e", f"trace={calls}", *(f"-einject={refusal}" for refusal in refusals)]


def trace_injected(log: Path) -> bool:
    return "(INJECTED)" in log.read_text(encoding="utf-8", errors="replace")


class Tracer:
    """Stands in for the zygote: starts it under strace."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "zygote"
        self.log = folder / "log"

    def refuse(self, *refusals: str, path: str = "") -> None:
        """`path`: only calls that name it."""
        self.program.unlink(missing_ok=True)
        self.log.write_bytes(b"")
        options = " ".join([*injections(refusals), f"-P {path}" if path else ""])
        script = f"#!/bin/sh\nexec strace -D -o {self.log} {options} {zygote_path()}\n"
        self.program.write_text(script, encoding="utf-8")
        self.program.chmod(0o755)

    def refused(self) -> bool:
        return trace_injected(self.log)


@contextmanager
def refused_to(pid: int, log: Path, *refusals: str) -> Iterator[subprocess.Popen[bytes]]:
    """The tracer ends with the process and what this clones from now on; those that there are already go on."""
    log.write_bytes(b"")
    tracer = subprocess.Popen(["strace", "-p", str(pid), "-o", os.fspath(log), *injections(refusals)])
    try:
        wait_until(lambda: status_field(pid, "TracerPid") != "0", "strace")
        yield tracer
    finally:
        tracer.terminate()
        tracer.wait()


def nothing_is_left(before: set[int], fds: dict[int, str]) -> None:
    """Orphans come to this process, strace too."""

    def all_reaped() -> bool:
        for pid in children() - before:
            with suppress(ChildProcessError):  # a reaper, which only the library waits for
                os.waitpid(pid, os.WNOHANG)
        return children() <= before and set(open_fds()) <= set(fds)

    wait_until(all_reaped, "processes and descriptors")
