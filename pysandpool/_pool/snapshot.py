"""Reads the counters of a C pool."""

from __future__ import annotations

import math
from typing import Any

from pysandpool._ffi import check, hot, hot_ffi
from pysandpool._pool.stats import Evictions, Histogram, Latencies, PoolStats

_COUNTS = tuple(name for name in PoolStats.__dataclass_fields__ if name.endswith("_count"))
_BOUNDS = (*(hot.sp_histogram_bound_us(bucket) / 1e6 for bucket in range(hot.SP_HISTOGRAM_BUCKETS - 1)), math.inf)


def snapshot(ptr: Any, hot_ptr: Any) -> PoolStats:
    """The statistics of the pool, of which these are the `sp_pool *` of both modules. Raises PoolStateError."""
    found = hot_ffi.new("sp_stats *")
    check(hot.sp_snapshot(hot_ptr, found), ptr)
    counts = {name: getattr(found, name) for name in _COUNTS}
    latencies = Latencies(*map(_histogram, found.latencies))
    return PoolStats(**counts, evictions=Evictions(*found.evictions), latencies=latencies)


def _histogram(found: Any) -> Histogram:
    return Histogram(found.sum_ns / 1e9, tuple(zip(_BOUNDS, hot_ffi.unpack(found.counts, len(_BOUNDS)))))
