"""`chat-server database`: the schema, from the outside."""

import json
import threading
from pathlib import Path

from click.testing import CliRunner, Result

from chat_server.cli.commands import main
from chat_server.database.schema import NEWEST
from chat_server.settings import DatabaseSettings


def run(*arguments: str, url: str | None) -> Result:
    environ = {"CHAT_ENVIRONMENT": "testing", "CHAT_DATABASE__URL": url}
    return CliRunner(env=environ).invoke(main, ["database", *arguments])


def test_a_schema_is_brought_up_to_date_once(empty_database: DatabaseSettings) -> None:
    url = empty_database.url
    before = run("status", url=url)
    assert before.exit_code == 1
    assert f"schema: none; this version needs {NEWEST}\n" in before.output
    assert "run `chat-server database upgrade`" in before.stderr
    first = run("upgrade", url=url)
    assert (first.exit_code, first.stdout) == (
        0,
        f"the schema is at revision {NEWEST}, from an empty database\n",
    )
    assert run("upgrade", url=url).stdout == f"the schema is up to date, at revision {NEWEST}\n"
    after = run("status", url=url)
    assert (after.exit_code, after.stderr) == (0, "")
    assert f"schema: {NEWEST}; this version needs {NEWEST}\n" in after.stdout


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    for command in ("status", "upgrade"):
        result = run(command, url="postgresql://me:hidden@127.0.0.1:1/chat")
        assert result.exit_code == 1
        assert "hidden" not in result.output
        assert "Connect call failed" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    result = run("upgrade", url=f"sqlite:///{tmp_path / 'nowhere' / 'chat.db'}")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_a_database_is_needed() -> None:
    result = run("upgrade", url="")
    assert (result.exit_code, result.stderr) == (
        2,
        "chat-server: database.url: is not set: set CHAT_DATABASE__URL\n",
    )


def test_another_database_is_refused() -> None:
    for url in ("mysql://me:hidden@db/chat", "sqlite://", "sqlite:///:memory:", "postgresql://db"):
        result = run("status", url=url)
        assert result.exit_code == 2
        assert "database.url: must be sqlite+aiosqlite:///FILE" in result.stderr
        assert "hidden" not in result.output


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    coming = threading.Timer(0.5, folder.mkdir)
    coming.start()
    url = f"sqlite+aiosqlite:///{folder / 'chat.db'}"
    result = run("upgrade", "--wait", "1m", url=url)
    coming.join()
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(run("status", "--json", url=url).stdout)
    assert told["schema"] == told["needed"] == NEWEST


def test_a_wait_ends_with_its_timeout() -> None:
    away = "postgresql://me:hidden@127.0.0.1:1/chat"
    result = run("status", "--wait", "9m", "--timeout", "1s", url=away)
    assert result.exit_code == 1
    assert result.stderr == "chat-server: --timeout: it was not done within 1 s\n"
