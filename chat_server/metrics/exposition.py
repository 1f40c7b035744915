"""Text for Prometheus, in its own format or OpenMetrics, by prometheus-client."""

import math
from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .families import BOUNDS, FAMILIES, Family
from .samples import SEPARATOR, Samples, Value

_BUCKETS = [*(format(bound, "g") for bound in BOUNDS), "+Inf"]


class _Page(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        for family in FAMILIES:
            yield _metric(family, self._samples.get(family.name, {}))


class Pages:
    """Caches the texts of the latest samples, one text for each content type."""

    def __init__(self) -> None:
        self._samples: Samples = {}
        # By content type: two formats of two versions, with four ways to write names.
        self._texts: dict[str, bytes] = {}

    def of(self, samples: Samples, accept: str) -> tuple[bytes, str]:
        """Return the text of samples, and its content type.

        Args:
            samples: of one worker or all.
            accept: the header `Accept` of the request, where Prometheus asks for OpenMetrics.
        """
        if samples is not self._samples:
            self._samples, self._texts = samples, {}
        _, content_type = choose_encoder(accept)
        if content_type not in self._texts:
            self._texts[content_type], _ = expose(samples, accept)
        return self._texts[content_type], content_type


def expose(samples: Samples, accept: str) -> tuple[bytes, str]:
    """Return the text of samples, and its content type; see `Pages`."""
    encode, content_type = choose_encoder(accept)
    return encode(_Page(samples)), content_type


def _metric(family: Family, samples: dict[str, Value]) -> Metric:
    if family.kind == "histogram":
        return _histogram(family, samples)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.meaning, labels=family.labels)
    if not (family.labels or samples):
        samples = {"": 0.0}
    for key, value in sorted(samples.items()):
        assert not isinstance(value, list)  # noqa: S101 - only histograms have several numbers
        metric.add_metric(key.split(SEPARATOR) if family.labels else [], value)
    return metric


def _histogram(family: Family, samples: dict[str, Value]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.meaning)
    value = samples.get("", [0.0] * (len(_BUCKETS) + 1))
    assert isinstance(value, list)  # noqa: S101 - see `Value`
    *counts, total = value
    so_far = 0.0
    buckets = []
    for bound, count in zip(_BUCKETS, counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    metric.add_metric([], buckets, sum_value=total if math.isfinite(total) else 0.0)
    return metric
