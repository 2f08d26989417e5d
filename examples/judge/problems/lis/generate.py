"""The large test: 160,000 numbers with duplicates, 1 MB."""

from __future__ import annotations

import random
from bisect import bisect_left


def large() -> tuple[bytes, bytes]:
    rng = random.Random(3)
    numbers = [10 * at + rng.randint(0, 400_000) for at in range(160_000)]
    piles: list[int] = []
    for number in numbers:
        at = bisect_left(piles, number)
        piles[at : at + 1] = [number]
    text = f"{len(numbers)}\n{' '.join(map(str, numbers))}\n"
    return text.encode(), f"{len(piles)}\n".encode()
