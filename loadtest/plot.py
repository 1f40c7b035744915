"""Plots of reports, with matplotlib if installed."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from .histogram import BUCKETS_PER_E
from .report import Report

AXES = {
    "delivery": "ms from when a message was due to when it was read",
    "acknowledgement": "ms from when a message was due to its answer",
    "connecting": "ms from when a connection was due to its subscription",
}
"""Latencies with a plot; the first available one is drawn."""


def draw_latency(reports: Sequence[Report], path: str) -> None:
    """Draw the distribution of the deliveries' latency, or of the first other latency."""
    figure, axes = _figure()
    name = next(name for name in AXES if any(any(report.counts[name]) for report in reports))
    for report in reports:
        counts = report.counts[name]
        total = sum(counts)
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
    axes.set_ylabel(AXES[name])
    _save(figure, axes, path)


def draw_costs(costs: dict[str, float], label: str, path: str) -> None:
    """Draw a bar for each cost."""
    figure, axes = _figure()
    axes.barh(list(costs)[::-1], list(costs.values())[::-1], label=label)
    _save(figure, axes, path)


def _figure() -> tuple[Any, Any]:
    # Part of an extra; the option for a plot has checked it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: str) -> None:
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path)
