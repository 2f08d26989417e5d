"""The command line: `run`, `bench` and `doctor`."""
