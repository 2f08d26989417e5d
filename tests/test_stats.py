"""PoolStats: a value, and that it has a field for every counter of the C core."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from pysandpool import PoolStats, _ffi

STATS = PoolStats(hit_count=3, miss_count=1, evict_count=0, idle_count=2, in_use_count=1)


def test_hit_rate() -> None:
    assert STATS.hit_rate == 0.75
    assert dataclasses.replace(STATS, hit_count=0, miss_count=0).hit_rate == 0.0


def test_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(STATS)) == dataclasses.replace(STATS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        STATS.hit_count = 4  # type: ignore[misc]


def test_has_the_counters_of_the_core() -> None:
    counters = {name for name, _ in _ffi.ffi.typeof("sp_stats").fields}
    assert {field.name for field in dataclasses.fields(PoolStats)} == counters - {"closed"}
