"""The peers of the comparison: `subprocess.run` without any sandbox, and bubblewrap if it is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from measure import Contender, expect

from pysandpool import SandboxResult
from pysandpool._execute.encode import BASE_ENV

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


ENVIRONMENT = dict(BASE_ENV)
"""The variables of a sandbox's command. Every peer gets exactly these: with the host's, a peer would do other work, for
glibc opens a dozen files at each start of a program where LANG names a locale other than C."""


def run_outside(cmd: Sequence[str], **options: Any) -> Completed:
    """`subprocess.run` in the environment of a sandbox's command."""
    return subprocess.run(cmd, env=ENVIRONMENT, check=False, **options)


def result_is(stdout: bytes) -> Callable[[SandboxResult], None]:
    """The check of a sample of pysandpool."""

    def check(result: SandboxResult) -> None:
        expect(result.exit_code == 0 and not result.stderr and not result.timed_out, result)
        expect(result.stdout == stdout and not result.stdout_truncated, "stdout differs")

    return check


def completed_is(stdout: bytes | None) -> Callable[[Completed], None]:
    """The same check of a sample of a peer; None if nothing was captured."""

    def check(done: Completed) -> None:
        expect(done.returncode == 0 and not done.stderr, f"exit {done.returncode}: {done.stderr!r}")
        expect(done.stdout == stdout, "stdout differs")

    return check


def spawn(cmd: Sequence[str], stdout: bytes, timeout: float | None = None) -> Contender:
    def run() -> Completed:
        return run_outside(cmd, capture_output=True, timeout=timeout)

    return Contender(SUBPROCESS, run, completed_is(stdout))


def _bare_run(cmd: Sequence[str]) -> Completed:
    """A spawn, two pipes and a wait. No program that captures output can be faster. For short outputs only."""
    (out, out_far), (err, err_far) = os.pipe(), os.pipe()
    to = [(os.POSIX_SPAWN_DUP2, out_far, 1), (os.POSIX_SPAWN_DUP2, err_far, 2)]  # the pipes themselves are CLOEXEC
    pid = os.posix_spawn(cmd[0], list(cmd), ENVIRONMENT, file_actions=to)
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
    """Whether bubblewrap is installed and can create its namespaces on this machine."""
    path = shutil.which("bwrap")
    if path is None:
        return False
    probe = run_outside([path, *BWRAP_OPTIONS, *ECHO], capture_output=True)
    return probe.returncode == 0 and probe.stdout == ECHO_OUT


def bwrap(cmd: Sequence[str], stdout: bytes) -> list[Contender]:
    """Empty if bubblewrap cannot run here, so that it is left out of the round."""
    if not bwrap_works():
        return []
    inside = [shutil.which("bwrap") or "bwrap", *BWRAP_OPTIONS, *cmd]

    def run() -> Completed:
        return run_outside(inside, capture_output=True)

    return [Contender(BWRAP, run, completed_is(stdout))]
