"""Runs Python code in the interpreters of sandboxes: requests, sessions, and what the code tells over its channel."""
