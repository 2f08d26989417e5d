# Walks the graph by recursion: the chain of the large test is longer than the interpreter's recursion limit.
import sys

n, m, *rest = map(int, sys.stdin.buffer.read().split())
edges = [[] for _ in range(n + 1)]
for i in range(0, 3 * m, 3):
    edges[rest[i]].append((rest[i + 1], rest[i + 2]))
best = {}


def walk(node, length):
    if length < best.get(node, length + 1):
        best[node] = length
        for target, weight in edges[node]:
            walk(target, length + weight)


walk(1, 0)
print(best.get(n, -1))
