"""Reads as much of PromQL as it takes to see which metrics and labels an expression names."""

import re
from collections.abc import Iterator

from chat_server.metrics.families import FAMILIES

_STRING = re.compile(r'"[^"]*"')
_METRIC = re.compile(r"\b(chat_\w+|up|ALERTS)\b(?:\s*\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")

SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus adds."""


def series() -> dict[str, frozenset[str]]:
    """Return the names that a scrape brings, each with its labels."""
    found: dict[str, frozenset[str]] = {"up": SCRAPED, "ALERTS": SCRAPED | {"alertstate"}}
    for family in FAMILIES:
        labels = SCRAPED | set(family.labels)
        if family.kind == "histogram":
            found[f"{family.name}_bucket"] = labels | {"le"}
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = labels
        else:
            found[family.name + ("_total" if family.kind == "counter" else "")] = labels
    return found


def metrics(expression: str) -> list[str]:
    """Return the metrics that an expression names."""
    return [match[1] for match in _METRIC.finditer(_STRING.sub('""', expression))]


def mistakes(expression: str, known: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield each name and label of an expression that no scrape brings."""
    text = _STRING.sub('""', expression)
    found = [(match[1], match[2] or "") for match in _METRIC.finditer(text)]
    if not found:
        yield f"no metric: {expression}"
    for name, matchers in found:
        if name not in known:
            yield f"no metric {name}: {expression}"
        else:
            yield from (
                f"no label {label} of {name}: {expression}"
                for label in _LABEL.findall(matchers)
                if label not in known[name]
            )
    labels = frozenset().union(*(known.get(name, frozenset()) for name, _ in found))
    for group in _GROUPING.findall(text):
        for label in filter(None, re.split(r"[\s,]+", group)):
            if label not in labels:
                yield f"no label {label}: {expression}"
