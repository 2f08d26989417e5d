"""The bounds of file calls: how many bytes, names and levels of directories they take from a sandbox."""

from __future__ import annotations

import errno
import math
import operator
from typing import NoReturn

READ_BYTES = 64 * 1024 * 1024
"""The default of `max_bytes` of `read_file`."""
DOWNLOAD_BYTES = 1024 * 1024 * 1024
"""The default of `max_bytes` of `download`."""
NAMES = 100_000
"""The most names of one call."""
LEVELS = 100
"""The most levels of directories of one download."""


def checked_bytes(max_bytes: float | None, default: int) -> int | None:
    """The bound, or None if there is none. Raises TypeError or ValueError for what is no bound."""
    if max_bytes is None:
        return default
    if max_bytes == math.inf:
        return None
    try:
        number = operator.index(max_bytes)  # type: ignore[arg-type]  # a float is refused here
    except TypeError:
        raise TypeError(f"max_bytes = {max_bytes!r} is not allowed; expected: an int >= 0, or math.inf") from None
    if number < 0:
        raise ValueError(f"max_bytes = {max_bytes!r} is not allowed; expected: an int >= 0, or math.inf")
    return number


def too_large(limit: int, path: bytes | str) -> NoReturn:
    """Raises the OSError for more than `limit` bytes."""
    raise OSError(errno.EFBIG, f"Larger than max_bytes = {limit}", path)


class Names:
    """Counts the names of one call."""

    __slots__ = ("_left", "_path")

    def __init__(self, path: bytes | str) -> None:
        self._left = NAMES
        self._path = path

    def count(self) -> None:
        """Counts one more. Raises OSError when there are too many, as a tenant could add some without end."""
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.EOVERFLOW, f"More than {NAMES} names", self._path)
