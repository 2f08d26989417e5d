"""Durations of calls: the user gives seconds or a `timedelta`, C takes integer nanoseconds."""

from __future__ import annotations

import math

from pysandpool._config.fields import Duration, to_seconds

_MAX_NS = 2**63 - 1
UNLIMITED_NS = -1


def to_nanoseconds(value: Duration | None, name: str = "timeout") -> int:
    """`value` in nanoseconds, rounded up. None, infinity and more than an int64 can hold (292 years) become -1.

    Raises ValueError for a negative value or NaN, and TypeError for another type. Both name the argument `name`.
    """
    if value is None:
        return UNLIMITED_NS
    try:
        seconds = to_seconds(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    except OverflowError:
        raise ValueError(f"{name} is too large a number; use math.inf for no limit") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} = {value!r} is not allowed; expected: seconds >= 0")
    if seconds * 1e9 >= _MAX_NS:
        return UNLIMITED_NS
    return math.ceil(seconds * 1e9)
