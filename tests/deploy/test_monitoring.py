"""Alert rules and dashboard name metrics that the code has, and are what Prometheus takes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..architecture.source import ROOT
from ..docs.markdown import anchors
from .promql import mistakes, series

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
RULES = [
    rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/chat-server.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$instance": ".*"}


def dashboard_queries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the title and the target of every query of the dashboard, variables filled in."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], {**target, "expr": expression}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_that_exist_and_leads_somewhere(rule: dict[str, Any]) -> None:
    known = series()
    assert list(mistakes(rule["expr"], known)) == []
    texts = rule["annotations"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(texts) == {"summary", "look"}
    page = ""
    for found, fragment in re.findall(r"(docs/[\w/-]+\.md)?#([\w-]+)", texts["look"]):
        page = found or page
        assert fragment in anchors((ROOT / page).read_text("utf-8")), texts["look"]


@pytest.mark.parametrize("query", list(dashboard_queries()), ids=lambda query: query[0])
def test_a_panel_names_metrics_and_labels_that_exist(query: tuple[str, dict[str, Any]]) -> None:
    known = series()
    _, target = query
    assert list(mistakes(target["expr"], known)) == []
    # What the legend names has to be left over by the aggregation.
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    [kept] = re.findall(r"by \(([^)]*)\)", target["expr"]) or [""]
    assert shown <= {label.strip() for label in kept.split(",")}


def test_the_dashboard_lies_on_its_grid_and_asks_a_data_source_that_one_can_choose() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not places & cells, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        places |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in PANELS:
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "instance"}
    assert list(mistakes(variables["instance"]["query"], series())) == []


def test_the_page_of_metrics_asks_for_what_there_is() -> None:
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    spans = [span for span in re.findall(r"`([^`\n]*chat_[^`\n]*)`", page) if "(" in span]
    assert spans
    for span in spans:
        assert list(mistakes(span.replace("\\|", "|"), series())) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(chat_commands_total{outcome=\"ok\"}[5m])", 0),
        ("rate(chat_commands[5m])", 1),
        ("chat_commands_total{reason=\"ok\"}", 1),
        ("sum by (reason) (chat_commands_total)", 1),
        ("histogram_quantile(0.9, sum by (le) (rate(chat_publish_seconds_bucket[5m])))", 0),
        ("sum by (le) (chat_publish_seconds_sum)", 1),
        ("vector(1)", 1),
    ],
)  # fmt: skip
def test_mistakes_are_seen(expression: str, wrong: int) -> None:
    assert len(list(mistakes(expression, series()))) == wrong


# What Prometheus' own tool says -------------------------------------------------------------------


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: Debian's package is prometheus")
    return program


def _run(*command: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration_and_the_rules(promtool: str, tmp_path: Path) -> None:
    _run(promtool, "check", "config", str(DEPLOY / "prometheus/prometheus.yml"), folder=tmp_path)


def test_alerts_fire_when_something_is_wrong_and_only_then(promtool: str, tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts.yml").read_text("utf-8")
    for rule in RULES:
        assert f'alertname="{rule["alert"]}"' in text
    (tmp_path / "tests.yml").write_text(text.replace("RULES]", f"{ALERTS}]"), "utf-8")
    _run(promtool, "test", "rules", "tests.yml", folder=tmp_path)


def test_every_query_of_the_dashboard_is_promql(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": target["expr"]}
        for number, (_, target) in enumerate(dashboard_queries())
    ]
    (tmp_path / "queries.yml").write_text(yaml.dump({"groups": [{"name": "q", "rules": rules}]}))
    _run(promtool, "check", "rules", "queries.yml", folder=tmp_path)
