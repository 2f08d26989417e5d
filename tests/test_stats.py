"""PoolStats: a value, and that it has a field for every counter of the C core."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from pysandpool import Evictions, PoolStats, _ffi

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


def test_has_the_reasons_of_the_core() -> None:
    """In the order of their numbers."""
    numbers = {name[9:].lower(): getattr(_ffi.lib, name) for name in dir(_ffi.lib) if name.startswith("SP_EVICT_")}
    assert numbers.pop("reasons") == len(numbers)
    assert [field.name for field in dataclasses.fields(Evictions)] == sorted(numbers, key=lambda name: numbers[name])


def test_evictions() -> None:
    assert Evictions(age=2, death=3).total == 5
    assert repr(Evictions(age=2, death=3)) == "Evictions(age=2, death=3)"
    assert repr(Evictions()) == "Evictions()"
