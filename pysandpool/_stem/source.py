"""The text that the interpreter of the sandboxes executes, and its parameters. This module alone runs in the host."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pysandpool._config.interpreter import Interpreter

# In this order, so that each finds those that it imports.
_SHARED = (
    *("streams", "channel", "renew", "compact", "awaiting", "snippet", "display", "ending"),
    *("preload", "tenant", "rehearsal"),
)
MODULES = (*_SHARED, "cells", "runtime")
_OF_ONE_SANDBOX = (*_SHARED, "waiting")
# The kernel takes no argument of 128 KiB or more.
_PIECE = 100_000

_BOOT = """\
import sys, types
def boot(stem, sources):
    package = types.ModuleType("_sandpool")
    package.__path__ = []
    sys.modules["_sandpool"] = package
    for name, text in sources:
        module = types.ModuleType("_sandpool." + name)
        module.__package__ = "_sandpool"
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        exec(compile(text, "<sandpool " + name + ">", "exec", dont_inherit=True), module.__dict__)
    for name in [name for name in sys.modules if name.partition(".")[0] == "_sandpool"]:
        del sys.modules[name]
    module.main(stem)
"""


@functools.lru_cache(maxsize=1)
def source() -> bytes:
    """Python source, in which the name `stem` has to stand for the C module of the interpreter. It never returns."""
    return f"{_BOOT}boot(stem, {_sources(MODULES)!r})\n".encode()


def parameters(interpreter: Interpreter) -> bytes:
    """What `stem.parameters()` returns to that source: JSON."""
    fields = {name: getattr(interpreter, name) for name in ("preload", "setup", "warmup", "after_fork")}
    return json.dumps(fields).encode()


def command(interpreter: Interpreter) -> tuple[str, ...]:
    """The command that starts the interpreter in each sandbox, where it waits: for `start="exec"`."""
    if interpreter.command is not None:
        return interpreter.command
    text = f"{_BOOT}boot({parameters(interpreter).decode()!r}, {_sources(_OF_ONE_SANDBOX)!r})\n"
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    return (interpreter.python, "-I", "-B", "-c", "import sys; exec(''.join(sys.argv[1:]))", *pieces)


def _sources(names: tuple[str, ...]) -> list[tuple[str, str]]:
    here = Path(__file__).parent
    return [(name, (here / f"{name}.py").read_text(encoding="utf-8")) for name in names]
