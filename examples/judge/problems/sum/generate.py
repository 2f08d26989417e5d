"""The large test: 1 MB of pairs, with their sums."""

from __future__ import annotations

import random


def large() -> tuple[bytes, bytes]:
    rng = random.Random(1)
    pairs = [(rng.getrandbits(6_000), rng.getrandbits(6_000)) for _ in range(280)]
    lines = [str(len(pairs)), *(f"{a} {b}" for a, b in pairs)]
    sums = [str(a + b) for a, b in pairs]
    return ("\n".join(lines) + "\n").encode(), ("\n".join(sums) + "\n").encode()
