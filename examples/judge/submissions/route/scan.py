# Dijkstra without a heap: looks at every node to find the next one, O(n^2).
import sys

n, m, *rest = map(int, sys.stdin.buffer.read().split())
edges = [[] for _ in range(n + 1)]
for i in range(0, 3 * m, 3):
    edges[rest[i]].append((rest[i + 1], rest[i + 2]))
best = {1: 0}
done = set()
while True:
    here = None
    for node in range(1, n + 1):
        if node in best and node not in done and (here is None or best[node] < best[here]):
            here = node
    if here is None:
        break
    done.add(here)
    for target, weight in edges[here]:
        best[target] = min(best.get(target, best[here] + weight), best[here] + weight)
print(best.get(n, -1))
