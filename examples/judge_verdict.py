"""What a run of a submission means: the judge's verdicts, as pure functions without any sandbox.

AC accepted, WA wrong answer, TLE time limit, RE runtime error, MLE memory limit, OLE output limit, CE compile
error; IE is the judge's own failure (no sandbox, say) and is never an expected verdict. NR: not run, because the
sandboxes of this machine cannot hold it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Verdict(str, Enum):
    AC = "AC"
    WA = "WA"
    TLE = "TLE"
    RE = "RE"
    MLE = "MLE"
    OLE = "OLE"
    CE = "CE"
    IE = "IE"
    NR = "NR"


class Run(Protocol):
    """The part of ``pysandpool.SandboxResult`` that a verdict needs."""

    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def signal(self) -> int | None: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def stdout_truncated(self) -> bool: ...
    @property
    def stderr_truncated(self) -> bool: ...
    @property
    def oom_killed(self) -> bool: ...
    @property
    def user_time(self) -> float: ...
    @property
    def system_time(self) -> float: ...
    @property
    def max_rss_bytes(self) -> int: ...


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds of CPU, seconds on the wall clock (the backstop for what sleeps), MiB of memory."""

    cpu_seconds: int
    wall_seconds: float
    memory_mb: int


# A program whose allocation failed came close to the limit, but not to it: the block that did not fit is missing.
NEAR_LIMIT = 0.75
# What programs say of a failed allocation. A tenant can write it too: for another rejection, never for an AC.
ALLOCATION_FAILED = (b"MemoryError", b"out of memory", b"Cannot allocate memory", b"std::bad_alloc")


def verdict_of(run: Run, expected: bytes, limits: Limits) -> tuple[Verdict, str]:
    """Returns the verdict on one test and, in a few words, why.

    The order matters: a run that was stopped for flooding or hoarding usually has a signal or a late end as well,
    and the first cause is the one to report. Answers come last: a right one does not excuse a failure.
    """
    cpu = run.user_time + run.system_time
    if run.oom_killed:
        return Verdict.MLE, "killed at the memory limit"
    if run.stdout_truncated or run.stderr_truncated:
        return Verdict.OLE, "more output than is kept"
    if cpu >= limits.cpu_seconds or run.signal == signal.SIGXCPU:
        return Verdict.TLE, f"{cpu:.1f} s cpu"
    if run.timed_out:
        return Verdict.TLE, f"{limits.wall_seconds:g} s wall"
    if why := _memory(run, limits.memory_mb << 20):
        return Verdict.MLE, why
    if run.exit_code != 0:
        return Verdict.RE, how_it_ended(run)
    if not same_answer(run.stdout, expected):
        return Verdict.WA, first_words(run.stdout) or "no output"
    return Verdict.AC, ""


def _memory(run: Run, limit: int) -> str:
    """Without ``oom_killed``: a peak over the limit, or a failed allocation near it.

    A short program may end before the memory watch has looked at it; then its peak says so. With ``data_limit_mb``
    malloc() returns NULL and Python raises MemoryError: the program crashes, or exits with another code than 0.
    """
    if run.max_rss_bytes > limit:
        return "peak above the limit"
    if run.exit_code == 0:
        return ""
    if any(words in run.stderr for words in ALLOCATION_FAILED):
        return "an allocation failed"
    return f"{how_it_ended(run)} near the limit" if run.max_rss_bytes >= NEAR_LIMIT * limit else ""


def how_it_ended(run: Run) -> str:
    if run.signal is None:
        return f"exit code {run.exit_code}"
    try:
        return signal.Signals(run.signal).name
    except ValueError:
        return f"signal {run.signal}"


def same_answer(actual: bytes, expected: bytes) -> bool:
    """Equal but for blanks at the ends of lines and empty lines at the end."""
    return _lines(actual) == _lines(expected)


def _lines(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def first_words(output: bytes, limit: int = 40) -> str:
    """The first line of hostile output, made safe to print on a terminal."""
    line = output.lstrip().split(b"\n", 1)[0][: limit + 1].decode("utf-8", "replace")
    line = "".join(char if char.isprintable() else "?" for char in line).rstrip()
    return line if len(line) <= limit else line[:limit] + "..."
