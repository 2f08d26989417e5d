"""What ours is compared with: `subprocess.run` outside any sandbox, and bubblewrap when it is installed."""

from __future__ import annotations

import functools
import os
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
BARE = "bare posix_spawn"
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


# Everybody runs the same program: where LANG names another locale than C, glibc opens a dozen files for it at each
# start, which a sandbox's own environment does not ask for.
os.environ.update(LANG="C", LC_CTYPE="C.UTF-8")
os.environ.pop("LC_ALL", None)


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


def _bare_run(cmd: Sequence[str]) -> Completed:
    """A spawn, two pipes and a wait: what nobody who captures output can be faster than. For short outputs only."""
    (out, out_far), (err, err_far) = os.pipe(), os.pipe()
    to = [(os.POSIX_SPAWN_DUP2, out_far, 1), (os.POSIX_SPAWN_DUP2, err_far, 2)]  # the pipes themselves are CLOEXEC
    pid = os.posix_spawn(cmd[0], list(cmd), os.environ, file_actions=to)
    os.close(out_far)
    os.close(err_far)
    with open(out, "rb", buffering=0) as stdout, open(err, "rb", buffering=0) as stderr:
        captured = stdout.readall(), stderr.readall()
    _, status = os.waitpid(pid, 0)
    return Completed(cmd, os.waitstatus_to_exitcode(status), *captured)


def bare(cmd: Sequence[str], stdout: bytes) -> Contender:
    return Contender(BARE, lambda: _bare_run(cmd), completed_is(stdout))


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
