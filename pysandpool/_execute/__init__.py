"""One command in one lease: its request, its run and its result."""
