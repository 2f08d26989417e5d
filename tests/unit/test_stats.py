"""PoolStats: a value, and that it has a field for every counter of the C core."""

from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pysandpool import Evictions, Histogram, Latencies, PoolStats, _ffi

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
    assert {field.name for field in dataclasses.fields(PoolStats)} == counters - {"closed", "reserved"}


def test_has_the_reasons_of_the_core() -> None:
    """In the order of their numbers."""
    numbers = {name[9:].lower(): getattr(_ffi.lib, name) for name in dir(_ffi.lib) if name.startswith("SP_EVICT_")}
    assert numbers.pop("reasons") == len(numbers)
    assert [field.name for field in dataclasses.fields(Evictions)] == sorted(numbers, key=lambda name: numbers[name])


def test_evictions() -> None:
    assert Evictions(age=2, death=3).total == 5
    assert repr(Evictions(age=2, death=3)) == "Evictions(age=2, death=3)"
    assert repr(Evictions()) == "Evictions()"


def test_has_the_latencies_of_the_core() -> None:
    numbers = {name[11:].lower(): getattr(_ffi.lib, name) for name in dir(_ffi.lib) if name.startswith("SP_LATENCY_")}
    assert [field.name for field in dataclasses.fields(Latencies)] == sorted(numbers, key=lambda name: numbers[name])


BUCKETS = ((1.0, 10), (2.0, 0), (4.0, 10), (math.inf, 0))
HISTOGRAM = Histogram(35.0, BUCKETS)


def test_histogram() -> None:
    assert (HISTOGRAM.count, HISTOGRAM.mean) == (20, 1.75)
    assert [HISTOGRAM.percentile(q) for q in (0, 25, 50, 75, 100)] == [0.0, 0.5, 1.0, 3.0, 4.0]
    assert pickle.loads(pickle.dumps(HISTOGRAM)) == HISTOGRAM
    assert hash(HISTOGRAM) == hash(Histogram(35.0, BUCKETS))
    assert repr(HISTOGRAM) == "Histogram(count=20, mean=1.75, p50=1, p99=3.96)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        HISTOGRAM.sum = 4.0  # type: ignore[misc]


@pytest.mark.parametrize("empty", [Histogram(), HISTOGRAM - HISTOGRAM], ids=["new", "nothing between"])
def test_a_histogram_of_nothing(empty: Histogram) -> None:
    assert (empty.count, empty.sum) == (0, 0.0)
    assert math.isnan(empty.mean)
    assert math.isnan(empty.percentile(50))
    assert repr(empty) == "Histogram(count=0)"


@pytest.mark.parametrize("q", [-1, 100.1, math.nan])
def test_no_percentage(q: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        HISTOGRAM.percentile(q)


def test_what_has_no_upper_bound_counts_as_the_lower() -> None:
    assert Histogram(99.0, ((1.0, 1), (math.inf, 1))).percentile(100) == 1.0


def test_difference_of_two_snapshots() -> None:
    later = Histogram(40.0, ((1.0, 12), (2.0, 3), (4.0, 10), (math.inf, 0)))
    assert later - HISTOGRAM == Histogram(5.0, ((1.0, 2), (2.0, 3), (4.0, 0), (math.inf, 0)))
    assert later - Histogram() == later


@settings(database=None, deadline=None)  # the tree may be read-only, the machine slow
@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_rise(counts: list[int], one: float, other: float) -> None:
    histogram = Histogram(1.0, tuple(zip((1.0, 2.0, 4.0, math.inf), counts)))
    if histogram.count:
        low, high = sorted((one, other))
        assert 0.0 <= histogram.percentile(low) <= histogram.percentile(high) <= 4.0
