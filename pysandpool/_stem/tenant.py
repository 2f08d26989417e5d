"""From here on the process is a tenant: it runs one piece of code in the interpreter, and ends."""

from __future__ import annotations

import builtins
import json
import os
import sys
import time
from typing import Any, NamedTuple

from . import channel, display, ending, snippet

FAILED = 1


def environment() -> list[bytes]:
    """`os.environ` as a request has it."""
    return [name + b"=" + value for name, value in _variables().items()]


def take_environment(env: list[bytes]) -> None:
    """Makes `os.environ` the environment of the request, and nothing else."""
    wanted = dict(item.partition(b"=")[::2] for item in env)
    now = _variables()
    zone = now.get(b"TZ")
    for name in [name for name in now if name not in wanted]:
        os.unsetenv(name)
        del now[name]
    for name, value in wanted.items():
        if now.get(name) != value:
            os.putenv(name, value)
            now[name] = value
    if now.get(b"TZ") != zone:
        time.tzset()


def _variables() -> dict[bytes, bytes]:
    """What `os.environ` and `os.environb` show, whose methods in Python would take three times as long."""
    return os.environb._data  # type: ignore[no-any-return,attr-defined]  # noqa: SLF001


def begin(env: list[bytes]) -> None:
    """What differs from the interpreter that waited: environment, arguments and search path."""
    take_environment(env)
    sys.argv = [""]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable]
    if not sys.path or sys.path[0] != "":
        sys.path.insert(0, "")


def limit_of(options: bytes) -> int:
    """How much the host takes of the channel."""
    return int(json.loads(options)["limit"])


def run_code(main: Any, code: str, messages: channel.Channel, rehearses: bool = False) -> int:
    """Runs `code` to its end, and the interpreter to its own, unless it `rehearses`. Returns the exit code."""
    runner = snippet.Runner(main.__dict__)
    ending_of_code = run_snippet(runner, code, "<code>", messages)
    ending.finish(runner.loop.end, rehearses)
    messages.end()
    return FAILED if ending_of_code.failed else ending_of_code.exit_code or 0


def report_problem(problem: str, messages: channel.Channel) -> int:
    """Reports why no code can run here: a traceback, with an exception in its last line. Returns the exit code."""
    name, _, value = problem.rstrip("\n").rpartition("\n")[2].partition(": ")
    messages.add({"t": "error", "name": name, "value": value, "traceback": problem}, "name", "value", "traceback")
    messages.end()
    return FAILED


class Ending(NamedTuple):
    """How a piece of code ended."""

    exit_code: int | None
    """of SystemExit; else None"""
    failed: bool
    """by another exception"""


def run_snippet(runner: snippet.Runner, code: str, filename: str, messages: channel.Channel) -> Ending:
    """Runs a piece of code, and sends its value or its error to the host."""
    outcome = runner.run(code, filename)
    exit_code, failure = outcome.exit_code, outcome.failure
    try:
        if outcome.value is not None:
            builtins._ = outcome.value  # type: ignore[attr-defined]  # as the interactive interpreter does
            for message in display.messages_of(outcome.value):
                messages.add(message, *(["repr"] if message["t"] == "text" else []))
        for message in display.figures():
            messages.add(message)
    except SystemExit as error:
        exit_code = snippet.exit_code(error)
    except BaseException as error:  # noqa: BLE001 - what is shown is the tenant's
        failure = failure or snippet.describe(error, filename)
    if failure is not None:
        messages.add({"t": "error", **failure._asdict()}, "name", "value", "traceback")
    return Ending(exit_code, failure is not None)
