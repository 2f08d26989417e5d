"""The checks of single fields: each returns the normalised value, or raises the exception that `refuse` makes."""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, Union

Duration = Union[int, float, timedelta]
# Makes the exception for a field, its value, the range in words, and whether the value has a wrong type.
Refuse = Callable[[str, object, str, bool], Exception]

MAX_SECONDS = 1e9
_E = TypeVar("_E", bound=enum.Enum)


def integer(refuse: Refuse, name: str, value: Any, low: int, high: int) -> int:
    """An int from low to high, both included. A bool is refused."""
    allowed = f"an int, {low} ... {high}"
    if isinstance(value, bool):
        raise refuse(name, value, allowed, True)
    try:
        number = operator.index(value)
    except TypeError:
        # A float is a number, so that its value is wrong and not its type.
        raise refuse(name, value, allowed, not isinstance(value, float)) from None
    if not low <= number <= high:
        raise refuse(name, value, allowed, False)
    return number


def optional_integer(refuse: Refuse, name: str, value: Any, low: int, high: int) -> int | None:
    """The same, or None."""

    def refuse_with_none(field: str, bad: object, allowed: str, wrong_type: bool) -> Exception:
        return refuse(field, bad, f"{allowed}, or None", wrong_type)

    return None if value is None else integer(refuse_with_none, name, value, low, high)


def command(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    """A command as a tuple of words, from a sequence of str."""
    allowed = "a sequence of str, like ('/bin/true',), that is not empty and has no NUL"
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise refuse(name, value, allowed, True)
    if not all(isinstance(word, str) for word in value):
        raise refuse(name, value, allowed, True)
    if not value or not value[0] or any("\0" in word for word in value):
        raise refuse(name, value, allowed, False)
    return tuple(value)


def seconds(refuse: Refuse, name: str, value: Any, high: float) -> float:
    """Seconds > 0 and <= high as a float, from a number or a timedelta."""
    return _seconds(refuse, name, value, high, f"seconds or a timedelta, > 0 and <= {high:.0f}")


def optional_seconds(refuse: Refuse, name: str, value: Any) -> float | None:
    """Seconds > 0 as a float, from a number or a timedelta; or None."""
    if value is None:
        return None
    return _seconds(refuse, name, value, MAX_SECONDS, f"seconds or a timedelta, > 0 and <= {MAX_SECONDS:.0f}, or None")


def _seconds(refuse: Refuse, name: str, value: Any, high: float, allowed: str) -> float:
    try:
        found = to_seconds(value)
    except TypeError:
        raise refuse(name, value, allowed, True) from None
    except (ValueError, OverflowError):
        raise refuse(name, value, allowed, False) from None
    if not (math.isfinite(found) and 0 < found <= high):
        raise refuse(name, value, allowed, False)
    return found


def flag(refuse: Refuse, name: str, value: Any) -> bool:
    """True or False. Other values that are true or false in a condition are refused."""
    if not isinstance(value, bool):
        raise refuse(name, value, "True or False", True)
    return value


def optional_flag(refuse: Refuse, name: str, value: Any) -> bool | None:
    """The same, or None."""
    if value is not None and not isinstance(value, bool):
        raise refuse(name, value, "True, False or None", True)
    return value


def member(refuse: Refuse, name: str, value: Any, kind: type[_E]) -> _E:
    """A member of the enumeration `kind`."""
    if not isinstance(value, kind):
        raise refuse(name, value, "one of " + ", ".join(str(one) for one in kind), True)
    return value


def to_seconds(value: Duration) -> float:
    """`value` in seconds as a float. Raises TypeError unless it is a real number or a `timedelta`."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    # A bool is an int, but not a duration.
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"a duration is a number of seconds or a timedelta, not {type(value).__name__}")
    return float(value)
