"""Pools and leases: the open C pool, its limits, statistics and log, and `Sandbox`, which needs no pool."""
