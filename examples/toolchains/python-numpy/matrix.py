import numpy as np

a = np.arange(1_000_000, dtype=float).reshape(1000, 1000)
assert np.linalg.norm(a @ a) > 0
print("hello")
