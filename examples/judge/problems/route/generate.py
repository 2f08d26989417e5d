"""The large test: 20,000 nodes, 80,000 edges; the cheap ones make a long chain, and short cuts are traps."""

from __future__ import annotations

import heapq
import random

NODES, EDGES = 20_000, 80_000


def shortest(edges: list[tuple[int, int, int]]) -> int:
    out: list[list[tuple[int, int]]] = [[] for _ in range(NODES + 1)]
    for source, target, weight in edges:
        out[source].append((target, weight))
    best = {1: 0}
    heap = [(0, 1)]
    while heap:
        length, node = heapq.heappop(heap)
        if node == NODES:
            return length
        for target, weight in out[node] if length == best[node] else ():
            if length + weight < best.get(target, length + weight + 1):
                best[target] = length + weight
                heapq.heappush(heap, (length + weight, target))
    return -1


def large() -> tuple[bytes, bytes]:
    rng = random.Random(2)
    chain = [(node, node + 1, rng.randint(1, 9)) for node in range(1, NODES)]
    cross = [
        (rng.randint(1, NODES), rng.randint(1, NODES), rng.randint(50_000, 90_000)) for _ in range(EDGES - len(chain))
    ]
    edges = chain + cross
    rng.shuffle(edges)
    text = f"{NODES} {len(edges)}\n" + "".join(f"{a} {b} {w}\n" for a, b, w in edges)
    return text.encode(), f"{shortest(edges)}\n".encode()
