# A right solution that leaves a mark where it can write, and spoils its answer when it finds an older mark.
# Accepted only if no test can see what an earlier one left behind.
import os
import sys
from bisect import bisect_left

for folder in {"/tmp", "/dev/shm", "/var/tmp", os.getcwd()}:  # a set: cwd may be /tmp
    mark = os.path.join(folder, "seen-before")
    if os.path.exists(mark):
        print("found", mark)
    try:
        open(mark, "x").close()
    except OSError:
        pass

piles = []
for word in sys.stdin.buffer.read().split()[1:]:
    at = bisect_left(piles, int(word))
    piles[at : at + 1] = [int(word)]
print(len(piles))
