# Leaves ties in the order of appearance.
import sys
from collections import Counter

for word, count in Counter(sys.stdin.read().split()).most_common(10):
    print(count, word)
