"""The pytest plugin of pysandpool: the fixtures `sandbox_pool` and `sandbox`.

pytest imports this file in every run, so it is no part of the package, which would then be loaded in every run as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pysandpool import PoolConfig, PooledSandbox, SandboxConfig, SandboxPool


@pytest.fixture(scope="session")
def sandbox_config() -> SandboxConfig:
    """What the sandboxes of `sandbox_pool` are allowed: SandboxConfig(). Override it to change that."""
    from pysandpool import SandboxConfig

    return SandboxConfig()


@pytest.fixture(scope="session")
def sandbox_pool_config() -> PoolConfig:
    """How many sandboxes `sandbox_pool` keeps: one to four. Override it to change that."""
    from pysandpool import PoolConfig

    return PoolConfig(min_size=1, max_size=4)


@pytest.fixture(scope="session")
def sandbox_pool(sandbox_config: SandboxConfig, sandbox_pool_config: PoolConfig) -> Iterator[SandboxPool]:
    """A pysandpool.SandboxPool for the whole session."""
    from pysandpool import SandboxPool

    with SandboxPool(sandbox_config, sandbox_pool_config) as pool:
        yield pool


@pytest.fixture
def sandbox(sandbox_pool: SandboxPool) -> Iterator[PooledSandbox]:
    """A lease of a fresh sandbox for this test alone."""
    with sandbox_pool.acquire() as lease:
        yield lease
