"""`chat-server users`: what it says, and what has become of the users then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.server import ROOT

PASSWORD = "correct horse"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"


def users(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("CHAT_")}
    environ = {
        **inherited,
        "CHAT_ENVIRONMENT": "testing",
        "CHAT_DATABASE__URL": url,
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
    }
    return subprocess.run(
        [sys.executable, "-m", "chat_server", "users", *arguments],
        env=environ,
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refused(result: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert (result.returncode, result.stdout) == (code, "")
    [line] = result.stderr.splitlines()
    return line


def add(url: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
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
