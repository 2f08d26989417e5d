import sys

lines = iter(sys.stdin)
for _ in range(int(next(lines))):
    a, b = next(lines).split()
    print(int(a) + int(b))
