"""Pools and their leases: the open C pool, limits, counters, the log, and `Sandbox`, which has no pool."""
