"""Samples: the numbers that processes exchange, and the sum over several workers."""

from collections.abc import Iterable

from .families import FAMILIES
from .numbers import Histogram

Value = float | list[float]
"""A number; of a histogram the counts of the buckets, and then the sum."""

Samples = dict[str, dict[str, Value]]
"""Values by the name of the family, and the labels' values joined by `SEPARATOR`."""

SEPARATOR = "\x1f"

_GAUGES = frozenset(family.name for family in FAMILIES if family.kind == "gauge")


def labelled(counts: Iterable[tuple[object, float]]) -> dict[str, Value]:
    """Return samples of counts.

    Args:
        counts: pairs of a label's value, or a tuple of several labels' values, and the number.
    """
    return {_key(label): count for label, count in counts}


def _key(label: object) -> str:
    parts = label if isinstance(label, tuple) else (label,)
    return SEPARATOR.join(str(part) for part in parts)


def single(value: float) -> dict[str, Value]:
    """Return the sample of a family without labels."""
    return {"": float(value)}


def observed(histogram: Histogram) -> dict[str, Value]:
    """Return the sample of a histogram."""
    return {"": [*histogram.counts, histogram.total]}


def add(total: Samples, samples: Samples) -> None:
    """Add samples to a total."""
    for name, values in samples.items():
        family = total.setdefault(name, {})
        if name.endswith("_info"):  # a fact about the workers, no count to add
            family.update(values)
            continue
        for key, value in values.items():
            family[key] = _sum(family.get(key), value)


def _sum(one: Value | None, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    if isinstance(one, list) or isinstance(other, list) or one is None:
        return other
    return one + other


def without_gauges(samples: Samples) -> Samples:
    """Return the counters and histograms, to keep after a worker has ended."""
    return {name: values for name, values in samples.items() if name not in _GAUGES}


def sum_of(parts: Iterable[Samples]) -> Samples:
    """Return the sum of several workers' samples."""
    total: Samples = {}
    for part in parts:
        add(total, part)
    return total
