"""`PoolConfig`: how many sandboxes a pool keeps, and how long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pysandpool._config.fields import Duration, command, integer, optional_integer, optional_seconds, seconds
from pysandpool._errors import InvalidPoolConfigError, InvalidPoolConfigTypeError

TRUE = "/usr/bin/true" if sys.platform == "darwin" else "/bin/true"
MAX_POOL_SIZE = 16_000
"""Largest `max_size` and `max_in_use`: the ring of the pool holds 16,383 entries."""
MAX_REFILLS = 16
MAX_HEALTH_SECONDS = 5.0
MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True, init=False)
class PoolConfig:
    """How many sandboxes a pool keeps, and how long.

    Raises `InvalidPoolConfigError` (a ValueError) with `min_size` and `max_size` in message and attributes;
    for a value of the wrong type it is a TypeError as well.
    """

    min_size: int
    """idle sandboxes that are kept ready, 0 ... `max_size`"""
    max_size: int
    """most idle sandboxes, 1 ... 16,000; leases are not counted"""
    max_idle_duration: float | None
    """seconds that a sandbox may stay idle; None: for ever"""
    health_check_interval: int | None
    """every n-th recycle is checked by running `health_check_command`; None or 0: never"""
    max_in_use: int | None
    """most leases at a time, 1 ... 16,000, further acquires wait; None: no bound"""
    health_check_command: tuple[str, ...]
    """what must exit with 0 in a checked sandbox, which is leased afterwards as it was left: it should write nothing"""
    health_check_timeout: float
    """seconds that it may take, 5 at most; then the sandbox is evicted"""
    refill_concurrency: int
    """most sandboxes that are made in the background at once, 1 ... 16: what a miss may have to wait for, and how many
    cpus the making may keep busy"""

    def __init__(  # noqa: PLR0913  # one argument for each field
        self,
        min_size: int = 1,
        max_size: int = 16,
        max_idle_duration: Duration | None = 30.0,
        health_check_interval: int | None = None,
        max_in_use: int | None = None,
        health_check_command: Sequence[str] = (TRUE,),
        health_check_timeout: Duration = MAX_HEALTH_SECONDS,
        refill_concurrency: int = 4,
    ) -> None:
        def no(field: str, value: object, allowed: str, wrong_type: bool) -> Exception:
            kind = InvalidPoolConfigTypeError if wrong_type else InvalidPoolConfigError
            return kind(field, value, allowed, min_size, max_size)

        biggest = integer(no, "max_size", max_size, 1, MAX_POOL_SIZE)
        values = {
            "max_size": biggest,
            "min_size": integer(no, "min_size", min_size, 0, biggest),
            "max_idle_duration": optional_seconds(no, "max_idle_duration", max_idle_duration),
            "health_check_interval": optional_integer(
                no, "health_check_interval", health_check_interval, 0, MAX_UINT32
            ),
            "max_in_use": optional_integer(no, "max_in_use", max_in_use, 1, MAX_POOL_SIZE),
            "health_check_command": command(no, "health_check_command", health_check_command),
            "health_check_timeout": seconds(no, "health_check_timeout", health_check_timeout, MAX_HEALTH_SECONDS),
            "refill_concurrency": integer(no, "refill_concurrency", refill_concurrency, 1, MAX_REFILLS),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
