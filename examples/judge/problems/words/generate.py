"""The large test: 1 MB of words, frequencies as in a natural text (Zipf)."""

from __future__ import annotations

import random
from collections import Counter

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def large() -> tuple[bytes, bytes]:
    rng = random.Random(4)
    lexicon = sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(5_000)})
    rng.shuffle(lexicon)
    words = rng.choices(lexicon, weights=[1 / (rank + 2) for rank in range(len(lexicon))], k=170_000)
    text = "\n".join(" ".join(words[at : at + 12]) for at in range(0, len(words), 12))
    top = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:10]
    return (text + "\n").encode(), "".join(f"{count} {word}\n" for word, count in top).encode()
