# A fork bomb that ends when fork() fails. It refuses to go off outside of the judge's sandboxes.
import os
import sys

if "JUDGE_SANDBOX" not in os.environ:
    sys.exit("bomb: this is not a sandbox")
while True:
    os.fork()
