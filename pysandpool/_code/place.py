"""The lease in which code is to run."""

from __future__ import annotations

from typing import Any, NamedTuple

from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxError
from pysandpool._execute.run import CommandDefaults
from pysandpool._ffi import lib
from pysandpool._process.handle import Held


class CodePlace(NamedTuple):
    """One lease of a sandbox that has an interpreter."""

    held: Held
    """what keeps the lease and its pool alive"""
    handle: int
    """the number of the lease"""
    defaults: CommandDefaults
    runs: int
    """who takes the code: SP_RUNS_*"""

    @classmethod
    def of(cls, config: SandboxConfig, held: Held, handle: int, defaults: CommandDefaults) -> CodePlace:
        """The place with these fields. Raises SandboxError if sandboxes of this configuration have no interpreter."""
        if config.interpreter is None:
            hint = "SandboxConfig(interpreter=Interpreter())"
            raise SandboxError("the sandbox has no interpreter that waits for code", hint=hint)
        runs = lib.SP_RUNS_INTERPRETER if config.interpreter.start == "fork" else lib.SP_RUNS_RUNTIME
        return cls(held, handle, defaults, runs)

    @property
    def pool(self) -> Any:
        """The `sp_pool *`."""
        return self.held.pool

    def require_copies(self) -> None:
        """Raises SandboxError if no copy of the interpreter can be made: only that can live on as a session."""
        if self.runs != lib.SP_RUNS_INTERPRETER:
            hint = 'Interpreter(start="fork"), or run_code, which runs one piece of code'
            raise SandboxError('with Interpreter(start="exec") there are no sessions', hint=hint)
