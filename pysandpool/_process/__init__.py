"""Starts processes that run beside the commands of a lease, and talks to them."""
