"""`chat-server users`: what it says, and what has become of the users then."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chat_server.cli.commands import main

PASSWORD = "correct horse"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"


def users(url: str, *arguments: str, stdin: str = "") -> Result:
    environ = {
        "CHAT_ENVIRONMENT": "testing",
        "CHAT_DATABASE__URL": url,
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
    }
    return CliRunner(env=environ).invoke(main, ["users", *arguments], input=stdin)


def done(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(result: Result, code: int = 1) -> str:
    assert (result.exit_code, result.stdout) == (code, "")
    [line] = result.stderr.splitlines()
    return line


def add(url: str, name: str, *arguments: str) -> Result:
    return users(url, "add", name, *arguments, "--password-stdin", stdin=f"{PASSWORD}\n")


def test_the_first_administrator_comes_to_be(url: str) -> None:
    assert done(add(url, "Root", "--role", "admin")) == "root is added, with the roles admin\n"
    assert done(add(url, "bob")) == "bob is added, with the roles member\n"
    assert done(users(url, "disable", "Bob")) == ""
    assert done(users(url, "list")) == "bob\tmember\tdisabled\nroot\tadmin\n"
    assert done(users(url, "enable", "bob")) == ""
    assert done(users(url, "role", "bob", "--role", "member", "--role", "admin")) == ""
    assert done(users(url, "list")) == "bob\tmember,admin\nroot\tadmin\n"
    changed = users(url, "password", "bob", "--password-stdin", stdin="another horse\n")
    assert done(changed) == ""
    link = done(users(url, "invite", "--url", "https://chat.example/"))
    assert link.startswith("https://chat.example/#invitation=")
    assert len(link) == len("https://chat.example/#invitation=") + 32 + 1


def test_mistakes_are_one_line(url: str) -> None:
    done(add(url, "alice"))
    assert "name: is taken" in refused(add(url, "ALICE"))
    assert "name: must have letters of one script" in refused(add(url, "\u0430lice"))
    assert "role: must be one of member, admin" in refused(add(url, "bob", "--role", "chief"))
    weak = users(url, "add", "bob", "--password-stdin", stdin="short\n")
    assert "password: must have 8 to 256 characters" in refused(weak)
    assert "there is no user 'bob'" in refused(users(url, "disable", "bob"))
    assert "--role: is missing" in refused(users(url, "role", "alice"), 2)
    assert "--password-stdin" in refused(users(url, "add", "bob"), 2)
    assert "mail.url: is not set" in refused(users(url, "invite", "--mail", "a@example.org"), 2)
    assert "database.url: is not set" in refused(users("", "list"), 2)
