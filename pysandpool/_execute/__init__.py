"""Runs one command in a lease: the request, the run and the result."""
