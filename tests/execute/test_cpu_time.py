"""cpu_time: a limit of CPU time for one command."""

from __future__ import annotations

import math
import signal
from datetime import timedelta
from typing import Any

import pytest

from pysandpool import CommandFailedError, PooledSandbox, Sandbox

pytestmark = pytest.mark.slow  # not in `make quick`

SPIN = ["/bin/sh", "-c", "while :; do :; done"]
LIMITS = ["/bin/sh", "-c", "ulimit -S -t; ulimit -H -t"]


def test_a_command_that_spins_is_killed(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(SPIN, cpu_time=0.6, timeout=100)
    assert (result.exit_code, result.signal, result.timed_out) == (None, signal.SIGXCPU, False)
    assert result.cpu_time_exceeded
    assert 0.6 <= result.user_time + result.system_time < 1.6
    with pytest.raises(CommandFailedError, match=r"signal 24, and used \d\.\d+ s of CPU time"):
        result.check()
    assert "cpu_time_exceeded" in repr(result)


def test_a_command_that_ignores_the_signal_gets_one_more_second(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sh", "-c", "trap '' XCPU; while :; do :; done"], cpu_time=0.6, timeout=100)
    assert (result.signal, result.timed_out, result.cpu_time_exceeded) == (signal.SIGKILL, False, True)
    assert 1.2 < result.user_time + result.system_time < 2.6


def test_a_command_that_sleeps_uses_none(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sleep", "1.2"], cpu_time=1).check()
    assert not result.cpu_time_exceeded
    assert result.elapsed > 1.1


def test_fractions_are_told_exactly(sandbox: PooledSandbox) -> None:
    """The kernel limits whole seconds; the result compares what was used."""
    work = ["/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]
    used = sandbox.execute(work).check()
    half = (used.user_time + used.system_time) / 2
    result = sandbox.execute(work, cpu_time=half)
    assert (result.exit_code, result.cpu_time_exceeded) == (0, True)
    with pytest.raises(CommandFailedError, match="which is not below its cpu_time"):
        result.check()
    assert not sandbox.execute(work, cpu_time=20 * half).cpu_time_exceeded


def test_children_that_were_waited_for_count(sandbox: PooledSandbox) -> None:
    script = "for i in 1 2 3; do sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; done"
    alone = sandbox.execute(["/bin/sh", "-c", script]).check()
    result = sandbox.execute(["/bin/sh", "-c", script], cpu_time=(alone.user_time + alone.system_time) / 2)
    assert (result.exit_code, result.cpu_time_exceeded) == (0, True)


def test_each_process_is_limited(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sh", "-c", "sh -c 'while :; do :; done'; echo $?"], cpu_time=0.6, timeout=100)
    assert result.stdout == b"%d\n" % (128 + signal.SIGXCPU)
    assert result.cpu_time_exceeded


@pytest.mark.parametrize(
    ("cpu_time", "limits"),
    [
        (0.6, b"1\n2\n"),
        (0.7, b"2\n3\n"),
        (1, b"2\n3\n"),
        (3, b"5\n6\n"),
        (timedelta(minutes=1), b"90\n91\n"),
        (1e-9, b"1\n2\n"),
        (math.inf, b"unlimited\nunlimited\n"),
        (None, b"unlimited\nunlimited\n"),
    ],
)
def test_the_limit_of_a_process_is_half_as_large_again_and_whole_seconds(
    sandbox: PooledSandbox, cpu_time: Any, limits: bytes
) -> None:
    assert sandbox.execute(LIMITS, cpu_time=cpu_time).stdout == limits


def test_the_limit_is_of_one_call(sandbox: PooledSandbox) -> None:
    assert sandbox.execute(LIMITS, cpu_time=4).stdout == b"6\n7\n"
    assert sandbox.execute(LIMITS).stdout == b"unlimited\nunlimited\n"


@pytest.mark.parametrize(
    ("cpu_time", "error"), [(0, ValueError), (-1, ValueError), (math.nan, ValueError), ("1", TypeError)]
)
def test_bad_values_start_nothing(sandbox: PooledSandbox, cpu_time: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="cpu_time"):
        sandbox.execute(["/bin/touch", "/tmp/started"], cpu_time=cpu_time)
    assert sandbox.execute(["/bin/ls", "/tmp/started"]).exit_code != 0


def test_without_a_pool() -> None:
    with Sandbox() as sandbox:
        assert sandbox.execute(LIMITS, cpu_time=2).stdout == b"3\n4\n"
