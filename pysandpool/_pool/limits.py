"""The limits of a C pool, in the units of `sp_pool_options`."""

from __future__ import annotations

from typing import NamedTuple

from pysandpool._config.duration import to_nanoseconds
from pysandpool._config.pool import TRUE, PoolConfig


class PoolLimits(NamedTuple):
    """The fields of `sp_pool_options`. The defaults are those of a pool that keeps no idle sandboxes."""

    min_size: int = 0
    max_size: int = 0
    max_in_use: int = 0
    max_idle_ns: int = 0
    health_check_interval: int = 0
    health_timeout_ns: int = 0
    refill_concurrency: int = 0
    health_command: tuple[str, ...] = (TRUE,)

    @classmethod
    def of(cls, config: PoolConfig) -> PoolLimits:
        """The limits of `config`. Durations become nanoseconds; 0 stands for None."""
        idle = config.max_idle_duration
        return cls(
            config.min_size,
            config.max_size,
            config.max_in_use or 0,
            0 if idle is None else to_nanoseconds(idle),
            config.health_check_interval or 0,
            to_nanoseconds(config.health_check_timeout),
            config.refill_concurrency,
            config.health_check_command,
        )
