import sys
from bisect import bisect_left

piles = []
for word in sys.stdin.buffer.read().split()[1:]:
    number = int(word)
    at = bisect_left(piles, number)
    piles[at : at + 1] = [number]
print(len(piles))
