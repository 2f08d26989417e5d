"""The interpreter of one sandbox alone: it loads, says that it is ready, waits for one piece of code, runs it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import channel, preload, rehearsal, tenant

SOCKET = 3
_PIECE = 65536


def main(parameters: str) -> None:
    """Never returns. It speaks the lines of a runtime on descriptor 3: see docs/protocol.md."""
    os.set_inheritable(SOCKET, False)
    preloaded = preload.Preloaded(json.loads(parameters))
    preloaded.load()
    problem = preloaded.problem or preloaded.prepare_copy(rehearsal.rehearse_all)
    if problem is not None:
        sys.stderr.write(problem)
        sys.stderr.flush()
        os._exit(1)
    os.write(SOCKET, b"ready\n")
    request = json.loads(_line())
    os.chdir(request["cwd"])
    env = [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in request["env"].items()]
    tenant.begin(env)
    preloaded.take_interrupts()
    os._exit(_run(preloaded, request))


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
