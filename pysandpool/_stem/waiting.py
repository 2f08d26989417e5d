"""The interpreter of one sandbox alone: it loads, says that it is ready, waits for one piece of code, runs it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NoReturn

from . import channel, preload, rehearsal, tenant

SOCKET = 3
_PIECE = 65536
_MOST_OF_PROBLEM = 8192
_MOST_OF_CHANNEL = 65536
"""Bytes that fit into the pipe and the socket while nobody reads them: no request has come yet."""


def main(parameters: str) -> None:
    """Never returns. It speaks the lines of a runtime on descriptor 3: see docs/protocol.md."""
    os.set_inheritable(SOCKET, False)
    preloaded = preload.Preloaded(json.loads(parameters))
    with _streams_of_the_start():
        preloaded.load()
        problem = preloaded.problem or preloaded.prepare_copy(rehearsal.rehearse_all)
    if problem is not None:
        _fail(problem)
    os.write(SOCKET, b"ready\n")
    request = json.loads(_line())
    os.chdir(request["cwd"])
    env = [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in request["env"].items()]
    tenant.begin(env)
    preloaded.take_interrupts()
    os._exit(_run(preloaded, request))


@contextlib.contextmanager
def _streams_of_the_start() -> Iterator[None]:
    """Meanwhile standard input is empty, and what C code and other programs write to standard output goes to standard
    error: the pipes are those of the code that runs later."""
    kept = [os.dup(fd) for fd in (0, 1)]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        yield
    finally:
        for fd, before in enumerate(kept):
            os.dup2(before, fd)
            os.close(before)


def _fail(problem: str) -> NoReturn:
    """Says why no code can run. While the sandbox is created, init reads it in standard error, once something else than
    "ready" has come. Afterwards nobody waits for that, and the host reads the messages as those of the code."""
    os.set_blocking(2, False)
    with contextlib.suppress(OSError):
        os.write(2, problem.encode("utf-8", "backslashreplace")[-_MOST_OF_PROBLEM:])
    os._exit(tenant.report_problem(problem, channel.Channel(SOCKET, _MOST_OF_CHANNEL)))


def _run(preloaded: preload.Preloaded, request: dict[str, Any]) -> int:
    messages = channel.Channel(SOCKET, request["options"]["limit"])
    return tenant.run_code(preloaded.main, request["code"], messages)


def _line() -> str:
    pieces = b""
    while not pieces.endswith(b"\n"):
        piece = os.read(SOCKET, _PIECE)
        if not piece:  # the sandbox ends
            os._exit(0)
        pieces += piece
    return pieces.decode("utf-8", "surrogateescape")
