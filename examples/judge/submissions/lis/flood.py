# Writes far too much, and then ends as if nothing had happened.
for _ in range(2_000):
    print("4" * 10_000)
