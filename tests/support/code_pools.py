"""Pools whose sandboxes have an interpreter. Each is opened once for all tests of a file that use it."""

from __future__ import annotations

from typing import Any

from pysandpool import Interpreter, PoolConfig, SandboxConfig, SandboxPool

SETUP = "import random, uuid, tempfile, ssl\ndef helper(n):\n    return 2 * n"


def code_config(setup: str = SETUP, config: dict[str, Any] | None = None, **fields: Any) -> SandboxConfig:
    """A configuration with an interpreter; `fields` are those of `Interpreter`."""
    return SandboxConfig(interpreter=Interpreter(setup=setup, **fields), **(config or {}))


def code_pool(min_size: int = 1, **fields: Any) -> SandboxPool:
    """A pool with such a configuration. None of its sandboxes expires while a test counts descriptors."""
    return SandboxPool(code_config(**fields), PoolConfig(min_size=min_size, max_idle_duration=3600))
