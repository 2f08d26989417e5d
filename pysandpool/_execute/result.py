"""`SandboxResult`: what one command left."""

from __future__ import annotations

from dataclasses import dataclass, field

from pysandpool._errors import CommandFailedError


@dataclass(frozen=True)
class SandboxResult:
    """The outcome of one `execute()`. A timeout is an outcome too, not an exception."""

    stdout: bytes = field(repr=False)
    """the first `max_output_bytes` that the command wrote"""
    stderr: bytes = field(repr=False)
    """likewise; nothing of ours is ever mixed in"""
    exit_code: int | None
    """0 ... 255, or None when a signal ended the command"""
    signal: int | None = None
    """the signal that ended the command (SIGKILL after a timeout), or None when it exited"""
    timed_out: bool = False
    """the wall clock ran out; output up to then is kept, every process of the lease is gone"""
    elapsed: float = 0.0
    """seconds from the request to the command's end"""
    stdout_truncated: bool = False
    """more than `max_output_bytes` came; the rest was read and dropped"""
    stderr_truncated: bool = False
    """likewise"""
    oom_killed: bool = False
    """the memory limit, and nothing else, ended the command"""
    user_time: float = 0.0
    """seconds of cpu in user mode, of the command and its waited children"""
    system_time: float = 0.0
    """seconds of cpu in the kernel, likewise"""
    max_rss_bytes: int = 0
    """peak resident memory of the largest of these processes; in a cgroup, peak memory of the whole sandbox"""

    def check(self) -> SandboxResult:
        """This result when the exit code is 0; otherwise raises `CommandFailedError` with the result."""
        if self.exit_code != 0:
            raise CommandFailedError(self)
        return self

    def __repr__(self) -> str:
        ending = f"exit_code={self.exit_code}" if self.signal is None else f"signal={self.signal}"
        notes = "".join(f" {name}" for name in ("timed_out", "oom_killed") if getattr(self, name))
        out = f"stdout={len(self.stdout)} B" + (" (truncated)" if self.stdout_truncated else "")
        err = f"stderr={len(self.stderr)} B" + (" (truncated)" if self.stderr_truncated else "")
        return f"<SandboxResult {ending}{notes} {out} {err} elapsed={self.elapsed:.6f}>"
