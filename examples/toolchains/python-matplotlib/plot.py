import os

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

plt.plot([1, 4, 9])
plt.savefig("plot.png")
assert os.path.getsize("plot.png") > 1000
print("hello")
