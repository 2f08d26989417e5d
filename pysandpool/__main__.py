"""`python -m pysandpool`."""

import sys

from pysandpool._cli import main

if __name__ == "__main__":
    sys.exit(main())
