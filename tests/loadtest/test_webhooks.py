"""What a delivery of webhooks costs is measured, and the figures are of that."""

import json
from pathlib import Path

from click.testing import CliRunner

from loadtest.accounting import machine
from loadtest.cli import main
from loadtest.webhooks import Round, Webhooks, WebhooksPlan, webhooks_lines


def test_the_cost_of_a_webhook(tmp_path: Path) -> None:
    """How long it takes is judged by who runs it alone: here other tests run beside it."""
    figures = tmp_path / "webhooks.json"
    arguments = ["webhooks", "--rounds", "2", "--topics", "3", "--events", "120"]
    done = CliRunner().invoke(main, [*arguments, "--json", str(figures)])
    assert done.exit_code == 0, done.output
    rounds = json.loads(figures.read_text("utf-8"))["rounds"]
    assert [each["messages"] for each in rounds] == [4, 4]
    assert all(each["webhook_us"] > 0 and each["bare_cpu_us"] > 0 for each in rounds)
    assert "bare POST" in done.output


def test_the_budget_is_of_the_time_of_a_bare_post() -> None:
    def verdict(*times: float) -> str:
        rounds = [Round(1, 1, each, 1.0, 100.0, 1.0) for each in times]
        return webhooks_lines(Webhooks(machine(), WebhooksPlan(), rounds))[1][-1]

    assert verdict(120.0, 130.0, 900.0) == "met"
    assert verdict(120.0, 131.0, 132.0) == "NOT MET"
