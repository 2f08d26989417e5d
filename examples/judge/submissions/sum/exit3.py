# The right answers, but the program says itself that it failed.
import sys

lines = iter(sys.stdin)
for _ in range(int(next(lines))):
    a, b = next(lines).split()
    print(int(a) + int(b))
sys.exit(3)
