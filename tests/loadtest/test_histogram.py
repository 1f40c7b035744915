"""Quantiles are right to within the width of a bucket, whatever the values."""

import math

from hypothesis import given
from hypothesis import strategies as st

from loadtest.histogram import BUCKETS_PER_E, Histogram

WIDTH = math.exp(1 / BUCKETS_PER_E)


def _histogram(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(
    st.lists(st.floats(1, 3.6e9), min_size=1, max_size=50),
    st.floats(0, 1),
)
def test_a_quantile_is_within_two_percent(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * share)) - 1]
    found = _histogram(values).quantile(share)
    assert exact / WIDTH / 1.000001 <= found <= exact * WIDTH * 1.000001


@given(st.lists(st.floats(-1e3, 1e12)), st.lists(st.floats(-1e3, 1e12)))
def test_merging_is_counting_all_in_one(first: list[float], second: list[float]) -> None:
    merged = _histogram(first)
    merged.merge(_histogram(second))
    assert merged.counts == _histogram(first + second).counts
    assert sum(merged.counts) == len(first) + len(second)


def test_nothing_counted_is_zero() -> None:
    assert Histogram().quantile(0.99) == 0.0
