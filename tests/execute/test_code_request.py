"""Requests for an interpreter, in sandboxes that have none."""

from __future__ import annotations

import errno
import os

import pytest
from waiting import wait_until

from pysandpool import PoolConfig, PooledSandbox, SandboxError, SandboxPool
from pysandpool._code.request import ChannelCapture
from pysandpool._execute.run import run_command
from pysandpool._ffi import lib


@pytest.fixture
def lease() -> PooledSandbox:
    """The pool creates no other one meanwhile: descriptors are counted here."""
    return SandboxPool(pool_config=PoolConfig(min_size=0)).acquire()


def test_a_sandbox_without_an_interpreter_refuses_code(lease: PooledSandbox) -> None:
    core = lease._core
    channel = ChannelCapture(lib.SP_RUNS_INTERPRETER, None, 100)
    with pytest.raises(SandboxError) as found:
        run_command(core.ptr, lease._live_handle(), ("run", "1"), (None, None, None, None), core.defaults, channel)
    assert (found.value.errno, found.value.stage) == (errno.ENOSYS, "exec")
    assert lease.execute(["/bin/echo", "still there"], text=True).stdout == "still there\n"


def test_the_channel_of_a_refused_request_is_closed(lease: PooledSandbox) -> None:
    core = lease._core
    lease.execute(["/bin/true"])
    before = set(os.listdir("/proc/self/fd"))
    for data in (None, b"input"):
        with pytest.raises(SandboxError):
            run_command(
                core.ptr,
                lease._live_handle(),
                ("run", "1"),
                (data, None, None, None),
                core.defaults,
                ChannelCapture(lib.SP_RUNS_INTERPRETER, None, 0),
            )
    # The janitor may have opened one for a moment.
    wait_until(lambda: set(os.listdir("/proc/self/fd")) <= before, "no descriptor more")
