"""Starts a process in an event loop."""

from __future__ import annotations

import signal

from pysandpool._async.current import current
from pysandpool._async.process import AsyncSandboxProcess
from pysandpool._async.run import prepare_lease
from pysandpool._execute.run import CommandDefaults
from pysandpool._execute.text import Coding
from pysandpool._process.handle import Held, ProcessHandle, Program
from pysandpool._process.streams import Stream, Streams


async def start_process(
    held: Held,
    lease: int,
    program: Program,
    streams: tuple[Stream, Stream, Stream],
    defaults: CommandDefaults,
    coding: Coding | None,
) -> AsyncSandboxProcess:
    """`_process.process.start_process` without a thread."""
    if program.terminal and streams != (None, None, None):
        raise ValueError("pty=True is not allowed with stdin, stdout or stderr: all three are the terminal")
    opened = Streams(*streams)
    try:
        await prepare_lease(current(), held.pool, lease)
        handle = ProcessHandle(held, lease, program, (opened.fds, opened.own_pipes), defaults)
        opened.close_far()
        process = AsyncSandboxProcess(handle, program.cmd, coding)
        try:
            await process.start(opened)
        except BaseException:
            handle.signal(signal.SIGKILL)
            handle.close()
            raise
        return process
    finally:
        opened.close()
