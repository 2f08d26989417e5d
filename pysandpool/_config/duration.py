"""Durations of calls: seconds or `timedelta` from the user, integer nanoseconds for C."""

from __future__ import annotations

import math

from pysandpool._config.fields import Duration, to_seconds

_MAX_NS = 2**63 - 1
UNLIMITED_NS = -1


def to_nanoseconds(value: Duration | None, name: str = "timeout") -> int:
    """`value` in nanoseconds, rounded up; -1 for None, infinity and what an int64 cannot hold (292 years).

    Raises ValueError, naming the argument, for a negative value or NaN, and TypeError for another type.
    """
    if value is None:
        return UNLIMITED_NS
    try:
        seconds = to_seconds(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    except OverflowError:
        raise ValueError(f"{name} is too large a number; math.inf is no limit") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} = {value!r} is not allowed: seconds >= 0")
    if seconds * 1e9 >= _MAX_NS:
        return UNLIMITED_NS
    return math.ceil(seconds * 1e9)
