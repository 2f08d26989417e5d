"""`python -m pysandpool`."""

import sys

from pysandpool.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
