"""Beside an event loop: the same command without a sandbox, and a process whose ticks show how late the loop is."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from measure import expect
from peers import ECHO, ENVIRONMENT, Completed

PEER = "asyncio.create_subprocess_exec"
TICK = 0.002
STAMP = struct.Struct("d")
# The ticks come from another process, because the timers of asyncio are late by up to a millisecond by themselves.
TICKER = f"""
import os, struct, time
while True:
    time.sleep({TICK})
    os.write(1, struct.pack("d", time.monotonic()))
"""


async def spawn_in_loop() -> Completed:
    """Echo, in the environment of a sandbox's command."""
    process = await asyncio.create_subprocess_exec(
        *ECHO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    out, err = await process.communicate()
    expect(process.returncode is not None, "it has not ended")
    return Completed(ECHO, process.returncode or 0, out, err)


@contextmanager
def ticks(lags: list[float]) -> Iterator[None]:
    """Notes how much later than it was ready the loop has read each tick."""
    loop = asyncio.get_running_loop()
    with subprocess.Popen([sys.executable, "-ISc", TICKER], stdout=subprocess.PIPE) as ticker:
        assert ticker.stdout is not None
        fd = ticker.stdout.fileno()
        os.set_blocking(fd, False)

        def read() -> None:
            with suppress(BlockingIOError):
                (sent,) = STAMP.unpack(os.read(fd, STAMP.size))
                lags.append(time.monotonic() - sent)

        loop.add_reader(fd, read)
        try:
            yield
        finally:
            loop.remove_reader(fd)
            ticker.kill()
