"""The lease in which code is to run."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxError
from pysandpool._execute.run import CommandDefaults


class Keeper(Protocol):
    """A `PoolCore`."""

    @property
    def freed(self) -> bool:
        """Whether the pool of the C core was freed."""


class CodePlace(NamedTuple):
    """One lease of a sandbox that has an interpreter."""

    keeper: Keeper
    """what keeps `pool` alive"""
    pool: Any
    """an `sp_pool *`"""
    handle: int
    """the number of the lease"""
    defaults: CommandDefaults

    @classmethod
    def of(cls, config: SandboxConfig, *fields: Any) -> CodePlace:
        """The place with these fields. Raises SandboxError if sandboxes of this configuration have no interpreter."""
        if config.interpreter is None:
            hint = "SandboxConfig(interpreter=Interpreter())"
            raise SandboxError("the sandbox has no interpreter that waits for code", hint=hint)
        return cls(*fields)
