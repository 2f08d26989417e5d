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


# The string below a field is the reference of that field, as in SandboxConfig.
@dataclass(frozen=True, init=False)
class PoolConfig:
    """How many sandboxes a pool keeps, and how long.

    A configuration is an immutable value, which can be compared, hashed and pickled.

    Raises:
        InvalidPoolConfigError: a field has a value outside its range. The error is a ValueError, and for a value of
            the wrong type a TypeError as well. It names the field, the value, the range, `min_size` and `max_size`.
    """

    min_size: int
    """The number of idle sandboxes that the pool keeps ready.

    Cost: opening the pool creates them. Each one takes about 0.2 MB of memory and two descriptors of the host."""
    max_size: int
    """The largest number of idle sandboxes. Leases are not counted.

    Cost: as for `min_size`, for each sandbox that is idle."""
    max_idle_duration: float | None
    """Seconds after which an idle sandbox is evicted; None: never.

    Cost: as many as `min_size` needs are created again, about 0.6 ms of CPU time each."""
    health_check_interval: int | None
    """Every n-th recycled sandbox must run `health_check_command` successfully before it becomes idle. None and 0: no
    sandbox is checked.

    Cost: each check runs the command in the background, and its sandbox becomes idle that much later."""
    max_in_use: int | None
    """The largest number of leases at a time. Further acquires wait, first come, first served. None: no bound."""
    health_check_command: tuple[str, ...]
    """The command of the health check, which must exit with 0. The sandbox is leased afterwards as the command left it,
    so that the command should write nothing."""
    health_check_timeout: float
    """Seconds that a health check may take. A sandbox that takes longer is evicted."""
    refill_concurrency: int
    """The largest number of sandboxes that are created in the background at a time.

    Cost: an acquire that creates a sandbox may have to wait for that many creations, which keep as many CPUs busy."""

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
