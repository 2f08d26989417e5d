"""A pool over a stem whose runtime a test writes itself: only what the C module gives, without pysandpool/_stem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from pysandpool import PoolConfig, PooledSandbox, SandboxConfig, SandboxPool, SandboxResult
from pysandpool._backend import linux
from pysandpool._code.request import ChannelCapture
from pysandpool._execute.run import run_command
from pysandpool._ffi import PROGRAMS, ffi, lib

MODULE = PROGRAMS / "sandpool-stem.abi3.so"

# Runs argv[1] as a program of its own. What a test adds comes before.
RUN = """
import os, sys
def prepare(must):
    prepared.append(os.getpid())
prepared = []
argv, env, channel = stem.serve(prepare)
os.environ.clear()
os.environ.update(pair.decode().split("=", 1) for pair in env)
code = 0
try:
    exec(compile(argv[1], "<snippet>", "exec"), {"__name__": "__main__", "stem": stem, "prepared": prepared,
         "argv": argv, "channel": channel})
except SystemExit as end:
    code = end.code
except BaseException:
    sys.excepthook(*sys.exc_info())
    code = 1
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""


class BareStem:
    """Pools whose zygotes become `python` and run `source`; `errors()`: what they have written to their stderr."""

    def __init__(
        self, source: str = RUN, python: str = "/usr/bin/python3", parameters: str = "", module: str = str(MODULE)
    ) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        values = [python, module, source, parameters]
        self._kept = [ffi.new("char[]", value.encode()) for value in values]
        self.preload_timeout = 20.0

    def errors(self) -> str:
        try:
            return os.read(self._read, 1 << 17).decode()
        except BlockingIOError:
            return ""

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Every pool that is opened meanwhile is over this stem."""
        usual = linux._sandbox_options

        def options(*args: object) -> object:
            filled, kept = usual(*args)  # type: ignore[arg-type]
            filled.interpreter, filled.stem_module, filled.stem_source, filled.stem_parameters = self._kept
            filled.preload_timeout_ns = int(self.preload_timeout * 1e9)
            filled.stem_stderr, filled.stem_errors = self._write, self._read
            return filled, kept

        with patch.object(linux, "_sandbox_options", options):
            yield

    @contextmanager
    def pool(self, config: SandboxConfig | None = None, pool_config: PoolConfig | None = None) -> Iterator[SandboxPool]:
        with self.everywhere(), SandboxPool(config, pool_config) as pool:
            yield pool

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)


def run_here(
    lease: PooledSandbox, code: str, *more: str, env: dict[str, str] | None = None
) -> tuple[SandboxResult, bytes]:
    """Has the interpreter of a lease run `code`: the outcome, and what has come over the channel."""
    core = lease._core
    channel = ChannelCapture(lib.SP_RUNS_INTERPRETER, None, 1 << 16)
    result = run_command(
        core.ptr, lease._live_handle(), ("run", code, *more), (None, env, None, None), core.defaults, channel
    )
    return result, channel.found
