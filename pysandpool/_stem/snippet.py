"""Runs one piece of code: compiles it, keeps its source for tracebacks, and finds the value of its last expression."""

from __future__ import annotations
import __future__ as future

import ast
import builtins
import linecache
import sys
import traceback
import types
from typing import Any, NamedTuple

from . import awaiting

MAX_ERROR_CHARACTERS = 64 * 1024
_BYTE_ORDER_MARK = "\ufeff"
_FUTURE_FLAGS = 0
for _name in future.all_feature_names:
    _FUTURE_FLAGS |= getattr(future, _name).compiler_flag


# The beginning of the file names of these modules in an interpreter that waits.
_OURS = "<sandpool"


class Failure(NamedTuple):
    """An exception as text."""

    name: str
    value: str
    traceback: str


class Outcome(NamedTuple):
    """How a piece of code ended."""

    exit_code: int | None
    """of SystemExit; else None"""
    value: Any
    """of the last expression; else None"""
    failure: Failure | None


def new_main() -> types.ModuleType:
    """A fresh `__main__`."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


def keep_source(source: str, filename: str) -> None:
    """Lets tracebacks and the inspect module find the lines."""
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)


def forget_source(filename: str) -> None:
    """No traceback needs the lines any more."""
    linecache.cache.pop(filename, None)


class Runner:
    """Runs pieces of code in one namespace. What one imports from __future__ holds for the next ones. Each may await
    outside of a function."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.loop = awaiting.Loop()
        self._flags = 0

    def run(self, source: str, filename: str) -> Outcome:
        """Runs the code. Whatever it raises becomes part of the outcome."""
        keep_source(source, filename)
        try:
            return Outcome(None, self._execute(source, filename), None)
        except SystemExit as error:
            return Outcome(exit_code(error), None, None)
        except BaseException as error:  # noqa: BLE001 - it is the code's
            return Outcome(None, None, describe(error, filename))

    def _execute(self, source: str, filename: str) -> Any:
        only_tree = ast.PyCF_ONLY_AST | self._flags
        text = source[1:] if source.startswith(_BYTE_ORDER_MARK) else source  # as in a file
        tree: Any = compile(text, filename, "exec", only_tree, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        parts = [self._compiled(tree, filename, "exec")] if tree.body else []
        if last is not None:
            parts.append(self._compiled(ast.Expression(last.value), filename, "eval"))
        return self.loop.run(parts, self.namespace)

    def _compiled(self, tree: ast.AST, filename: str, mode: str) -> Any:
        flags = self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: Any = compile(tree, filename, mode, flags, dont_inherit=True)  # type: ignore[call-overload]
        self._flags |= code.co_flags & _FUTURE_FLAGS
        return code


def describe(error: BaseException, filename: str) -> Failure:
    """The exception as text. Its class and its methods are the tenant's, and may do anything."""
    try:
        name = str(type(error).__name__)
    except BaseException:  # noqa: BLE001
        name = "BaseException"
    try:
        value = _shortened(str(error))
    except BaseException:  # noqa: BLE001
        value = "<the exception cannot be shown>"
    try:
        lines = traceback.format_exception(type(error), error, _of_the_code(error.__traceback__, filename))
        return Failure(name, value, _shortened("".join(lines)))
    except BaseException:  # noqa: BLE001
        return Failure(name, value, f"{name}: {value}\n")


def _of_the_code(whole: types.TracebackType | None, filename: str) -> types.TracebackType | None:
    """The traceback without what it begins with, up to the code in `filename`: these modules, and the event loop."""
    found = whole
    while found is not None:
        if found.tb_frame.f_code.co_filename == filename:
            return found
        found = found.tb_next
    while whole is not None and whole.tb_frame.f_code.co_filename.startswith(_OURS):
        whole = whole.tb_next
    return whole


def _shortened(text: str) -> str:
    if len(text) <= MAX_ERROR_CHARACTERS:
        return text
    half = MAX_ERROR_CHARACTERS // 2
    return text[:half] + "\n[...]\n" + text[-half:]


def exit_code(error: SystemExit) -> int:
    """As the interpreter has it."""
    try:
        code: Any = error.code
        if code is None:
            return 0
        if isinstance(code, int):
            # What does not fit into a C long is -1 for the interpreter.
            return int(code) & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
        print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - its attributes and methods are the tenant's
        return 1
    return 1
