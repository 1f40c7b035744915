"""docs/metrics.md has the metrics that the code has."""

import re

from chat_server.metrics.families import BOUNDS, FAMILIES

from .markdown import ROOT, section, tables

TEXT = (ROOT / "docs" / "metrics.md").read_text("utf-8")


def test_the_table_is_that_of_the_code() -> None:
    [table] = tables(section(TEXT, "All of them"))
    assert [list(row.values()) for row in table] == [
        [
            f"`{family.name}{'_total' if family.kind == 'counter' else ''}`",
            family.kind,
            ", ".join(f"`{label}`" for label in family.labels),
            family.meaning,
        ]
        for family in FAMILIES
    ]


def test_the_buckets_are_those_of_the_code() -> None:
    assert f"end at {', '.join(format(bound, 'g') for bound in BOUNDS)} s." in TEXT


def test_every_metric_of_an_expression_exists() -> None:
    named = set(re.findall(r"chat_[a-z_]+", section(TEXT, "What to look at")))
    bases = {name.removesuffix("_total").removesuffix("_bucket") for name in named}
    assert bases
    assert bases <= {family.name for family in FAMILIES}
