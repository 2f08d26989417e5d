import heapq
import sys

n, m, *rest = map(int, sys.stdin.buffer.read().split())
edges = [[] for _ in range(n + 1)]
for i in range(0, 3 * m, 3):
    edges[rest[i]].append((rest[i + 1], rest[i + 2]))
best = [-1] * (n + 1)
heap = [(0, 1)]
while heap:
    length, node = heapq.heappop(heap)
    if best[node] >= 0:
        continue
    best[node] = length
    for target, weight in edges[node]:
        if best[target] < 0:
            heapq.heappush(heap, (length + weight, target))
print(best[n])
