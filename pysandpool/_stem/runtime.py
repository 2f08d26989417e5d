"""The whole life of the interpreter: it loads, becomes the zygote, is copied, waits, and becomes a tenant."""

from __future__ import annotations

import json
import os
from typing import Any

from . import cells, channel, preload, rehearsal, tenant


def main(stem: Any) -> None:
    """Never returns. `stem` is the C module."""
    preloaded = preload.Preloaded(json.loads(stem.parameters()))
    preloaded.load(rehearsal.rehearse_all)
    if preloaded.problem is not None:
        stem.fail(preloaded.problem)
    try:
        argv, env, fd = stem.serve(lambda must: _prepare(stem, preloaded, must))
    except RuntimeError as error:
        stem.fail(f"RuntimeError: {error}")
        raise
    os._exit(_live(stem, preloaded, argv, env, fd))


def _prepare(stem: Any, preloaded: preload.Preloaded, must: bool) -> None:
    """In a copy. Unless it `must` be ready, a problem is reported to the caller that wants to run code in it. Its
    working directory is the home of the sandbox, which is not /tmp in every tier."""
    os.environ["HOME"] = os.environ["TMPDIR"] = os.getcwd()
    preloaded.problem = preloaded.prepare_copy(rehearsal.rehearse)
    if preloaded.problem is not None and must:
        stem.fail(preloaded.problem)


def _live(stem: Any, preloaded: preload.Preloaded, argv: list[bytes], env: list[bytes], fd: int) -> int:
    tenant.begin(env)
    preloaded.take_interrupts()
    if argv[0] == b"session":
        return cells.Session(stem, preloaded, fd).serve()
    messages = channel.Channel(fd, tenant.limit_of(argv[2]))
    if preloaded.problem is not None:
        return tenant.report_problem(preloaded.problem, messages)
    return tenant.run_code(preloaded.main, argv[1].decode(), messages)
