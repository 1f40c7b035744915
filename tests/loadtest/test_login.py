"""What a login costs is measured, and the figures are of that."""

import json
from pathlib import Path

from click.testing import CliRunner

from loadtest.accounting import machine
from loadtest.cli import main
from loadtest.login import Login, LoginPlan, Round, login_lines


def test_the_cost_of_a_login(tmp_path: Path) -> None:
    """How long it takes is judged by who runs it alone: here other tests run beside it."""
    figures = tmp_path / "login.json"
    arguments = ["login", "--rounds", "2", "--logins", "2", "--json", str(figures)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    rounds = json.loads(figures.read_text("utf-8"))["rounds"]
    assert len(rounds) == 2
    assert all(each["login_ms"] > 0 and each["hash_cpu_ms"] > 0 for each in rounds)
    assert "besides the hash" in done.output


def test_the_budget_is_of_what_is_besides_the_hash() -> None:
    def verdicts(*logins: float) -> list[str]:
        rounds = [Round(40.0, 40.0, each, 41.0) for each in logins]
        return [row[5] for row in login_lines(Login(machine(), LoginPlan(), rounds))[1:]]

    assert verdicts(41.0, 42.0, 90.0) == ["met", "met"]
    assert verdicts(41.0, 42.1, 43.0) == ["met", "NOT MET"]
