"""Where the objects of a copy of the interpreter lie."""

from __future__ import annotations

import gc

import pytest

from pysandpool._stem import compact


def pages_of_new_objects(size: int) -> int:
    made = [bytes(size - bytes.__basicsize__) for _ in range(100)]
    return len({id(one) // 4096 for one in made})


@pytest.mark.parametrize("size", [64, 208, 512])
def test_new_objects_lie_side_by_side(size: int) -> None:
    gc.disable()
    try:
        spread = [bytes(size - bytes.__basicsize__) for _ in range(3_200_000 // size)]
        del spread[:: 16384 // size]  # leaves one free place in most pieces of the allocator
        assert pages_of_new_objects(size) > 50
        kept = compact.fill()
        # As many as they need, and one where they do not begin with a page.
        assert pages_of_new_objects(size) <= 100 * size // 4096 + 3
    finally:
        gc.enable()
    assert len(kept) >= 32
