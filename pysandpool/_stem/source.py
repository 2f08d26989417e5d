"""The text that the interpreter of the sandboxes executes, and its parameters. This module alone runs in the host."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pysandpool._config.interpreter import Interpreter

# In this order, so that each finds those that it imports.
MODULES = ("streams", "channel", "renew", "snippet", "display", "ending", "preload", "tenant", "cells", "runtime")

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
    here = Path(__file__).parent
    sources = [(name, (here / f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]
    return f"{_BOOT}boot(stem, {sources!r})\n".encode()


def parameters(interpreter: Interpreter) -> bytes:
    """What `stem.parameters()` returns to that source: JSON."""
    fields = {name: getattr(interpreter, name) for name in ("preload", "setup", "warmup", "after_fork")}
    return json.dumps(fields).encode()
