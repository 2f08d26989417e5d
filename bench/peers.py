"""What ours is compared with: `subprocess.run` outside any sandbox, and bubblewrap when it is installed."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Sequence

from measure import Contender, expect

from pysandpool import SandboxResult

Completed = subprocess.CompletedProcess[bytes]

ECHO = ["/bin/echo", "hello"]
ECHO_OUT = b"hello\n"
TRUE = ["/bin/true"]

SUBPROCESS = "subprocess.run"
BWRAP = "bwrap"
BWRAP_OPTIONS = (
    "--unshare-all",
    *("--ro-bind", "/usr", "/usr"),
    *("--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/lib", "/lib"),
    *("--symlink", "usr/lib64", "/lib64"),
    *("--proc", "/proc"),
    *("--dev", "/dev"),
    *("--tmpfs", "/tmp"),
)


def result_is(stdout: bytes) -> Callable[[SandboxResult], None]:
    """The check of one of our own samples."""

    def check(result: SandboxResult) -> None:
        expect(result.exit_code == 0 and not result.stderr and not result.timed_out, result)
        expect(result.stdout == stdout and not result.stdout_truncated, "stdout differs")

    return check


def completed_is(stdout: bytes | None) -> Callable[[Completed], None]:
    """The same check of a peer's sample; None where nothing was captured."""

    def check(done: Completed) -> None:
        expect(done.returncode == 0 and not done.stderr, f"exit {done.returncode}: {done.stderr!r}")
        expect(done.stdout == stdout, "stdout differs")

    return check


def spawn(cmd: Sequence[str], stdout: bytes, timeout: float | None = None) -> Contender:
    def run() -> Completed:
        return subprocess.run(cmd, capture_output=True, timeout=timeout, check=False)

    return Contender(SUBPROCESS, run, completed_is(stdout))


@functools.cache
def bwrap_works() -> bool:
    """Whether bubblewrap is here and can make its namespaces on this machine."""
    path = shutil.which("bwrap")
    if path is None:
        return False
    probe = subprocess.run([path, *BWRAP_OPTIONS, *ECHO], capture_output=True, check=False)
    return probe.returncode == 0 and probe.stdout == ECHO_OUT


def bwrap(cmd: Sequence[str], stdout: bytes) -> list[Contender]:
    """Empty when bubblewrap cannot run here, so that it is left out of the round."""
    if not bwrap_works():
        return []
    inside = [shutil.which("bwrap") or "bwrap", *BWRAP_OPTIONS, *cmd]

    def run() -> Completed:
        return subprocess.run(inside, capture_output=True, check=False)

    return [Contender(BWRAP, run, completed_is(stdout))]
