"""What a zygote needs to become the interpreter of its sandboxes, and what that one writes while it starts."""

from __future__ import annotations

import errno
import math
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pysandpool._backend.hints import hint_for
from pysandpool._config.interpreter import Interpreter
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxCreateError
from pysandpool._ffi import PROGRAMS, ffi
from pysandpool._stem.source import command, parameters, source

if TYPE_CHECKING:
    from typing_extensions import Self

_MAX_ERRORS = 64 * 1024
_NOT_FREE_THREADED = (
    "the pysandpool of a free-threaded Python preloads no interpreter: use a Python with a GIL, or start='exec'"
)


class StemStart:
    """The options of `sp_sandbox_options` for one start, and the pipe for the errors of the interpreter.

    `environment`: that of the commands, as encoded strings, and their number.

    Without an interpreter in the configuration there are none.
    """

    def __init__(self, config: SandboxConfig, environment: tuple[bytes, int]) -> None:
        self._config = config
        self._environment = environment
        self._kept: list[Any] = []
        self._near = self._far = -1

    def __enter__(self) -> Self:
        if self._config.interpreter is not None:
            self._near, self._far = os.pipe()
            os.set_blocking(self._near, False)
            os.set_blocking(self._far, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for fd in (self._near, self._far):
            if fd != -1:
                os.close(fd)

    def options(self) -> dict[str, Any]:
        """The fields to set. What they point to lives as long as this object."""
        interpreter = self._config.interpreter
        if interpreter is None:
            return {}
        timeout = {"preload_timeout_ns": int(interpreter.preload_timeout * 1e9)}
        if interpreter.start == "exec":
            strings = _runtime_strings(interpreter, *self._environment)
            return {"runtime": self._string(strings), "runtime_len": len(strings), **timeout}
        return {
            "interpreter": self._string(os.fsencode(interpreter.python)),
            "stem_module": self._string(_module_path()),
            "stem_source": self._string(source()),
            "stem_parameters": self._string(parameters(interpreter)),
            **timeout,
            "stem_stderr": self._far,
            "stem_errors": self._near,
        }

    def explain(self, error: SandboxCreateError) -> SandboxCreateError:
        """The error with what the interpreter has written."""
        if error.stage != "preload" or self._near == -1:
            return error
        try:
            text = os.read(self._near, _MAX_ERRORS).decode("utf-8", "replace").strip()
        except BlockingIOError:
            text = ""
        return SandboxCreateError(error.stage, error.errno, error.hint, error.detail, text)

    def _string(self, value: bytes) -> Any:
        self._kept.append(ffi.new("char[]", value))
        return self._kept[-1]


def _runtime_strings(interpreter: Interpreter, env: bytes, envc: int) -> bytes:
    """As CONFIG has them: see docs/protocol.md. It starts at home."""
    words, milliseconds = command(interpreter), math.ceil(interpreter.preload_timeout * 1000)
    head = (str(milliseconds), ".", str(len(words)), *words, str(envc))
    return b"".join(os.fsencode(text) + b"\0" for text in head) + env


def _module_path() -> bytes:
    path = PROGRAMS / "sandpool-stem.abi3.so"
    if not path.exists():
        # What it is loaded by has to have a GIL, and what it is built by, too.
        hint = _NOT_FREE_THREADED if "t" in sys.abiflags else hint_for("spawn_zygote", errno.ENOENT)
        raise SandboxCreateError("spawn_zygote", errno.ENOENT, hint, str(path))
    return os.fsencode(path)
