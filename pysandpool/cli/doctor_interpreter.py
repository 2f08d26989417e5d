"""Whether the Python that runs `doctor` can wait in sandboxes, for `Interpreter()`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pysandpool._config.interpreter import Interpreter
from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig
from pysandpool._errors import SandboxError, SandpoolError
from pysandpool._pool.pool import SandboxPool


@dataclass(frozen=True)
class WaitingPython:
    """The findings about one interpreter."""

    python: str
    works: bool
    start_seconds: float | None = None
    """from the opening of a pool to its first sandbox; None: it did not open"""
    error: str = ""
    hint: str = ""

    def lines(self) -> Iterator[str]:
        """The findings as lines of text."""
        if self.works and self.start_seconds is not None:
            yield f"interpreter       {self.python} waits in sandboxes; it started in {self.start_seconds * 1e3:.0f} ms"
        else:
            yield f"interpreter       {self.python} cannot wait in sandboxes: {self.error}"


def try_python(degradation: NamespaceDegradation) -> WaitingPython:
    """Opens a pool with `Interpreter()`, and runs code in it."""
    python = ""
    try:
        interpreter = Interpreter()
        python = interpreter.python
        started = time.monotonic()
        config = SandboxConfig(interpreter=interpreter, namespace_degradation=degradation)
        with SandboxPool(config, PoolConfig(min_size=1, max_size=1)) as pool:
            seconds = time.monotonic() - started
            pool.run_code("1").check()
            return WaitingPython(python, True, seconds)
    except (SandpoolError, ValueError) as error:
        hint = error.hint if isinstance(error, SandboxError) else ""
        return WaitingPython(python, False, error=str(error).replace(f"; hint: {hint}", ""), hint=hint)
