"""Takes the free places between the objects of the interpreter, so that copies of it make their objects elsewhere.

The kernel copies a page when a copy of the interpreter writes to it. A module that has been imported leaves free places
all over the memory, and in each of them an object of a copy would cost a page. Where there are none, the objects of a
copy lie side by side.
"""

from __future__ import annotations

_STEP, _LARGEST = 16, 512
"""CPython keeps objects of about the same size together, up to the largest; each size is a multiple of the step."""
_POOL, _FIRST = 16384, 48
"""It gets room for them in pieces of this size (a quarter of it before 3.10); where the first object of a piece is."""
_MOST = 128 * 1024
"""Bytes of each size, if the interpreter has another allocator."""


def fill() -> list[object]:
    """Returns objects, which have to be kept. For each size the last two are the first ones of a new piece."""
    kept: list[object] = []
    for size in range(_STEP, _LARGEST + 1, _STEP):
        before = 0
        for _ in range(_MOST // size):
            kept.append(_object_of(size))
            last, before = before, id(kept[-1])
            if last % _POOL == _FIRST and before == last + size:
                break
    return kept


def _object_of(size: int) -> object:
    if size == _STEP:
        return object()
    return float(size) if size == 2 * _STEP else bytes(size - bytes.__basicsize__)
