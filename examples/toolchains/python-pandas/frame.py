import pandas as pd

frame = pd.DataFrame({"key": [n % 7 for n in range(100_000)], "value": range(100_000)})
assert frame.groupby("key")["value"].sum().sum() == 4_999_950_000
frame.to_csv("frame.csv", index=False)
assert len(pd.read_csv("frame.csv")) == 100_000
print("hello")
