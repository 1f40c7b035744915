"""Samples of several workers are added, and become text that Prometheus' own parsers take."""

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from chat_server.metrics.exposition import expose
from chat_server.metrics.families import BOUNDS, FAMILIES
from chat_server.metrics.numbers import Histogram
from chat_server.metrics.samples import (
    Samples,
    labelled,
    observed,
    single,
    sum_of,
    without_gauges,
)


def worker(seconds: float, connections: int) -> Samples:
    histogram = Histogram()
    histogram.observe(seconds)
    return {
        "chat_connections": labelled([(("direct", "chat.v1.json"), connections)]),
        "chat_commands": labelled([(("publish", "ok"), 2), (("edit", "gone"), 1)]),
        "chat_publish_seconds": observed(histogram),
        "chat_slow_readers": single(True),
    }


def values(text: bytes, parse: Any = parse_prometheus) -> dict[tuple[str, ...], float]:
    """Return every sample of a text by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def test_adds_counters_gauges_and_buckets() -> None:
    shown = values(expose(sum_of([worker(0.002, 3), worker(7.0, 4)]), "")[0])
    assert shown["chat_connections", "chat.v1.json", "direct"] == 7
    assert shown["chat_commands_total", "publish", "ok"] == 4
    assert shown["chat_commands_total", "edit", "gone"] == 2
    assert shown["chat_slow_readers_total",] == 2
    assert shown["chat_publish_seconds_bucket", "0.001"] == 0
    assert shown["chat_publish_seconds_bucket", "0.0025"] == 1
    assert shown["chat_publish_seconds_bucket", "5"] == 1
    assert shown["chat_publish_seconds_bucket", "+Inf"] == 2
    assert shown["chat_publish_seconds_count",] == 2
    assert shown["chat_publish_seconds_sum",] == pytest.approx(7.002)


def test_a_worker_that_has_ended_leaves_its_counters() -> None:
    left = without_gauges(worker(0.002, 3))
    assert left == {k: v for k, v in worker(0.002, 3).items() if k != "chat_connections"}


def test_every_family_is_shown_before_anything_has_happened() -> None:
    text, kind = expose({}, "")
    assert kind.startswith("text/plain")
    shown = {family.name for family in parse_prometheus(text.decode())}
    assert shown == {family.name for family in FAMILIES}


def test_openmetrics_is_spoken_when_it_is_asked_for() -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    text, kind = expose(worker(0.002, 3), accept)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert values(text, parse_openmetrics)["chat_commands_total", "publish", "ok"] == 2


def test_labels_that_are_hostile_stay_labels() -> None:
    samples = {"chat_errors": labelled([('a"} 1\nchat_x{b="', 5)])}
    shown = values(expose(samples, "")[0])
    assert shown["chat_errors_total", 'a"} 1\nchat_x{b="'] == 5


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 0.001, 10.0, 11.0])
def test_an_observation_is_in_the_first_bucket_that_holds_it(seconds: float) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    bounds = [*BOUNDS, float("inf")]
    at = histogram.counts.index(1)
    assert sum(histogram.counts) == 1
    assert max(seconds, 0.0) <= bounds[at]
    assert at == 0 or seconds > bounds[at - 1]
    assert histogram.total == max(seconds, 0.0)


def test_what_the_workers_are_is_not_added_up() -> None:
    info = [{"chat_build_info": labelled([((version, "3.11"), 1)])} for version in "112"]
    shown = values(expose(sum_of(info), "")[0])
    assert {version: shown["chat_build_info", "3.11", version] for version in "12"} == {
        "1": 1,
        "2": 1,
    }
