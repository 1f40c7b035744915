"""Pictures of reports, with matplotlib if it is there."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from .histogram import BUCKETS_PER_E
from .report import Report
from .wire import LoadError


def draw_latency(reports: Sequence[Report], path: str) -> None:
    """Draw for each report which share of deliveries took how long at most.

    Raises:
        LoadError: matplotlib is not installed.
    """
    figure, axes = _figure()
    for report in reports:
        counts = report.delivery_counts
        total = sum(counts)
        if not total:
            continue
        points = [
            (total / (total - seen), math.exp((bucket + 1) / BUCKETS_PER_E) / 1000)
            for bucket, seen in enumerate(accumulate(counts))
            if counts[bucket] and seen < total
        ]
        axes.plot(*zip(*points, strict=True), label=f"{report.target}, {report.scenario}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1, 2, 10, 100, 1000, 10_000], ["0", "50", "90", "99", "99.9", "99.99"])
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms from when a message was due to when it was read")
    _save(figure, axes, path)


def draw_costs(costs: dict[str, float], label: str, path: str) -> None:
    """Draw a bar for each cost.

    Raises:
        LoadError: matplotlib is not installed.
    """
    figure, axes = _figure()
    axes.barh(list(costs)[::-1], list(costs.values())[::-1], label=label)
    _save(figure, axes, path)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LoadError("plots need matplotlib: pip install 'chat-server[peers]'") from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: str) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path)
