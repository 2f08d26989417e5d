# An adjacency matrix of 20,000 x 20,000 numbers as lists.
import sys

n, m, *rest = map(int, sys.stdin.buffer.read().split())
weight = [[None] * (n + 1) for _ in range(n + 1)]
for i in range(0, 3 * m, 3):
    a, b, w = rest[i : i + 3]
    if weight[a][b] is None or w < weight[a][b]:
        weight[a][b] = w
best = {1: 0}
done = set()
while len(done) < len(best):
    here = min((node for node in best if node not in done), key=best.__getitem__)
    done.add(here)
    for target, w in enumerate(weight[here]):
        if w is not None and best[here] + w < best.get(target, best[here] + w + 1):
            best[target] = best[here] + w
print(best.get(n, -1))
