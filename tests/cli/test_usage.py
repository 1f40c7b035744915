"""What the command line says and takes, without a server."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from chat_server import __version__
from chat_server.cli.commands import main
from chat_server.cli.lines import event_line, json_line, text_line
from chat_server.cli.presence import text_user
from chat_server.cli.terminal import escape_controls
from chat_server.client import (
    Appended,
    Deleted,
    Edited,
    Event,
    Message,
    Messages,
    PresentUser,
    Reaction,
    Reactions,
    User,
)
from chat_server.server import main as server
from chat_server.settings import Settings


def run(*arguments: str, **environ: str) -> Result:
    clean = {f"CHAT_{name.upper()}": value for name, value in environ.items()}
    return CliRunner(env={"CHATCLIENT_TOKEN": None, **clean}).invoke(main, arguments)


def claims(token: str) -> Any:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_help_names_every_command() -> None:
    result = run("-h")
    assert result.exit_code == 0
    clients = ("publish", "tail", "history", "edit", "delete", "react", "presence", "call")
    for command in ("serve", "token", *clients):
        assert command in result.output
        assert run(command, "-h").exit_code == 0


def test_a_command_imports_no_library_of_the_server() -> None:
    code = (
        "import sys; import chat_server.cli.commands\n"
        "names = ('quart', 'redis', 'hypercorn', 'sqlalchemy', 'httpcore', 'opentelemetry')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag: str) -> None:
    assert run(flag).output == f"chat-server {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    """As docs/bots.md says."""
    variable = "_CHAT_SERVER_COMPLETE"
    source = run_with({variable: f"{shell}_source"})
    assert source.exit_code == 0
    assert f"{shell}_complete" in source.output
    printed = CliRunner().invoke(main, ["completion", shell], prog_name="chat-server")
    assert printed.output.strip() == source.output.strip()
    for typed, index, found in (("pub", 1, "publish"), ("publish --ti", 2, "--timeout")):
        words = {"COMP_WORDS": f"chat-server {typed}", "COMP_CWORD": str(index)}
        if shell == "fish":
            words["COMP_CWORD"] = typed.rpartition(" ")[2]
        assert found in run_with({variable: f"{shell}_complete", **words}).output


def run_with(environ: dict[str, str]) -> Result:
    return CliRunner(env=environ).invoke(main, prog_name="chat-server")


# serve -----------------------------------------------------------------------------------------


def test_serve_hands_its_flags_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def fake_run(settings: Settings, application: str, notes: list[str], *_: object) -> int:
        assert application == ""
        assert notes == []
        seen.append(settings)
        return 7

    monkeypatch.setattr(server, "run_server", fake_run)
    flags = ("--bind", "127.0.0.1:9", "--workers", "3", "--redis-url", "redis://r:1/0")
    result = run("serve", *flags, redis__prefix="mine")
    assert result.exit_code == 7
    [settings] = seen
    assert settings.server.bind == "127.0.0.1:9"
    assert settings.server.workers == 3
    assert settings.redis.url == "redis://r:1/0"
    assert settings.redis.prefix == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "2"), "more than one worker needs Redis"),
        (("--workers", "two"), "server.workers: must be an integer"),
        (("--bind", "nonsense"), "server.bind: must be HOST:PORT"),
        (("--redis-url", "http://r"), "redis.url: must be a redis://"),
        (("--config", "/nowhere.toml"), "/nowhere.toml: cannot be read"),
    ],
)
def test_wrong_settings_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("chat-server: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_each_wrong_setting_has_a_line() -> None:
    result = run("serve", "--bind", "nowhere:8130", server_workers="2", limits__max_topics="x")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("chat-server: limits.max_topics: must be an integer")
    assert lines[1].startswith("chat-server: CHAT_SERVER_WORKERS: did you mean CHAT_SERVER__WORKER")
    assert lines[2].startswith("chat-server: server.bind: 'nowhere:8130' is no loopback address")
    assert lines[2].endswith("(from the command line)")


def test_a_line_end_in_the_secret_is_noted() -> None:
    secret = "0123456789abcdef" * 2
    result = run("token", "--sub", "ada", auth__secret=f"{secret}\n")
    assert result.exit_code == 0
    assert result.stderr == (
        "chat-server: auth.secret: the line break around the value is left out "
        "(from the environment variable CHAT_AUTH__SECRET)\n"
    )
    assert run("token", "--sub", "ada", auth__secret=secret).stderr == ""


def test_services_of_kubernetes_stop_no_command() -> None:
    links = {"port": "tcp://10.0.0.7:80", "server_service_host": "10.0.0.7", "_x_port": "tcp://x"}
    assert run("token", "--sub", "ada", **links).exit_code == 0


def test_a_config_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(server, "run_server", lambda settings, *_: seen.append(settings))
    file = tmp_path / "chat.toml"
    file.write_text("[limits]\nmax_topics = 5\n")
    assert run("serve", "--config", str(file)).exit_code == 0
    assert seen[0].limits.max_topics == 5


# token -----------------------------------------------------------------------------------------


def test_token_says_what_was_asked_for() -> None:
    result = run(
        "token",
        *("--sub", "alice", "--name", "Alice", "--bot", "--ttl", "2h"),
        *("--subscribe", "room:**", "--subscribe", "news", "--publish", "room:{sub}"),
    )
    assert result.exit_code == 0
    said = claims(result.output.strip())
    assert (said["sub"], said["name"], said["info"]) == ("alice", "Alice", {"bot": True})
    assert said["exp"] - said["iat"] in (7200, 7201)
    assert said["topics"] == {"subscribe": ["room:**", "news"], "publish": ["room:{sub}"]}


def test_token_leaves_topics_to_the_server() -> None:
    said = claims(run("token", "--sub", "alice").output.strip())
    assert not said.get("topics")
    assert "info" not in said


PRODUCTION = {"environment": "production", "auth__secret": "s" * 32}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            (),
            "this token allows nothing; add patterns, say --subscribe 'room:**',"
            " --publish 'room:**', --history 'room:**', or set auth.default_topics",
        ),
        (
            ("--subscribe", "room:**", "--publish", "room:a", "--publish", "room:b"),
            "this token allows subscribe (room:**) and publish (room:a, room:b), but not history;"
            " add patterns, say --history 'room:**', or set auth.default_topics",
        ),
    ],
)
def test_a_token_that_does_not_allow_all_is_explained(
    arguments: tuple[str, ...], told: str
) -> None:
    result = run("token", "--sub", "alice", *arguments, **PRODUCTION)
    assert result.exit_code == 0
    assert result.stderr == f"chat-server: {told}\n"
    assert claims(result.stdout.strip())["sub"] == "alice"


def test_a_token_that_allows_all_is_printed_and_nothing_else() -> None:
    patterns = ("--subscribe", "room:**", "--publish", "room:**", "--history", "room:**")
    assert run("token", "--sub", "alice", *patterns, **PRODUCTION).stderr == ""
    assert run("token", "--sub", "alice").stderr == ""


def test_a_token_too_long_for_proxies_is_told() -> None:
    patterns = [word for n in range(60) for word in ("--subscribe", f"room:{n:090}")]
    result = run("token", "--sub", "alice", *patterns)
    size = len(result.stdout.strip())
    assert size > 7168
    assert result.stderr == (
        f"chat-server: this token has {size} bytes; many proxies refuse headers above 8 KB, see"
        " docs/operations.md\n"
    )


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800)]
)
def test_durations(ttl: str, seconds: int) -> None:
    said = claims(run("token", "--sub", "alice", "--ttl", ttl).output.strip())
    assert said["exp"] - said["iat"] in (seconds, seconds + 1)


@pytest.mark.parametrize("ttl", ["", "1", "h", "1.5h", "-1h", "0s", "1y", "1h30m", "1 h", "１h"])
def test_other_durations_are_refused(ttl: str) -> None:
    result = run("token", "--sub", "alice", f"--ttl={ttl}")
    assert result.exit_code == 2
    assert "no duration" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sub", ""), "`sub`"),
        (("--sub", "x" * 256), "`sub`"),
        (("--sub", "alice", "--publish", "room:"), "publish"),
    ],
)
def test_tokens_that_no_server_takes_are_refused(arguments: tuple[str, ...], words: str) -> None:
    result = run("token", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_token_needs_a_shared_secret(tmp_path: Path) -> None:
    result = run(
        "token", "--sub", "alice", auth__algorithms="RS256", auth__public_key_file="key.pem"
    )
    assert result.exit_code == 2
    assert "only a shared secret" in result.stderr


# publish and tail ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["publish", "tail"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("my room",), "must be segments"),
        (("",), "must not be empty"),
        (("room:a", "--url", "localhost:8000"), "not an http://"),
        ((), "Missing argument 'TOPIC'"),
    ],
)
def test_wrong_calls_are_explained(command: str, arguments: tuple[str, ...], words: str) -> None:
    result = run(command, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_publish_checks_its_json() -> None:
    result = run("publish", "room:a", "--data", "{oops")
    assert result.exit_code == 2
    assert "is not JSON" in result.stderr


@pytest.mark.parametrize("last", ["-1", "301", "many"])
def test_tail_checks_its_number(last: str) -> None:
    assert run("tail", "room:a", f"--last={last}").exit_code == 2


@pytest.mark.parametrize("command", [("publish", "room:a", "x"), ("tail", "room:a")])
def test_outside_development_a_token_must_be_given(command: tuple[str, ...]) -> None:
    result = run(*command, environment="testing")
    assert result.exit_code == 2
    assert result.stderr == (
        "chat-server: no token: give --token or CHATCLIENT_TOKEN (`chat-server token` prints one)\n"
    )


# Lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain grüße 👩‍💻", "plain grüße 👩‍💻"),
        ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
        ("two\nlines\r\n", "two␊lines␍␊"),
        ("tab\tnul\0del\x7f", "tab␉nul␀del␡"),
        ("\x9b31m\x85", "\ufffd31m\ufffd"),
        ("abc\u202edef\u2066\u200f\u2028", "abc\ufffddef\ufffd\ufffd\ufffd"),
    ],
)
def test_nothing_acts_on_the_terminal(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


def message(data: object, sender: User | None = None) -> Message:
    return Message(topic="room:a", seq=1, at=1_700_000_000_000, sender=sender, data=data)


@pytest.mark.parametrize(
    ("sender", "data", "line"),
    [
        (User(user="bob"), {"text": "hi"}, "bob: hi"),
        (User(user="bob", name="Bob"), {"text": "hi", "x": 1}, "Bob: hi"),
        (None, {"text": "hi"}, "(server): hi"),
        (User(user="bob"), {"text": 5}, 'bob: {"text": 5}'),
        (User(user="bob"), ["ü", None], 'bob: ["ü", null]'),
        (User(user="bob", name="\x1b[2J"), {"text": "a\nb"}, "␛[2J: a␊b"),
    ],
)
def test_a_message_is_one_line(sender: User | None, data: object, line: str) -> None:
    time, seq, rest = text_line(message(data, sender)).split(" ", 2)
    assert len(time) == len("12:30:01")
    assert seq == "#1"
    assert rest == line


@pytest.mark.parametrize("at", [10**18, -(10**18), 10**400])
def test_a_time_beyond_all_calendars(at: int) -> None:
    odd = Message(topic="room:a", seq=1, at=at, sender=None, data={"text": "hi"})
    assert text_line(odd) == "--:--:-- #1 (server): hi"


EVIL = User(user="bob", name="\x1b[2J")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state": "streaming"}, "bob: hi …"),
        ({"state": "complete"}, "bob: hi"),
        ({"state": "cancelled"}, "bob: hi (cancelled)"),
        ({"edited_at": 5}, "bob: hi (edited)"),
        ({"deleted": True, "data": None}, "bob: (deleted)"),
        (
            {"reactions": {"👍": Reactions(3, ["a"]), "\x1b": Reactions(1, [])}},
            "bob: hi [👍 3, ␛ 1]",
        ),
    ],
)
def test_a_message_as_it_now_is(changes: dict[str, Any], line: str) -> None:
    changed = replace(message({"text": "hi"}, User(user="bob")), **changes)
    assert text_line(changed).split(" ", 2)[2] == line


def event(kind: Any, **fields: Any) -> Any:
    return kind(**{"topic": "room:a", "seq": 9, "at": 1, "sender": EVIL, "target": 1, **fields})


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (event(Edited, data={"text": "a\nb"}), "␛[2J edited #1: a␊b"),
        (event(Deleted), "␛[2J deleted #1"),
        (event(Reaction, emoji="\x1b"), "␛[2J reacted ␛ to #1"),
        (event(Reaction, emoji="👍", remove=True), "␛[2J took 👍 back from #1"),
        (event(Appended, text="\n", length=9, state="complete"), "␛[2J #1 added: ␊"),
    ],
)
def test_a_change_is_one_line(event: Event, line: str) -> None:
    shown = event_line(event, Messages(0))
    assert shown is not None
    assert shown.split(" ", 1)[1] == line


def test_a_message_that_has_grown_is_shown_whole() -> None:
    messages = Messages(1)
    messages.add([replace(message({"text": "a"}, User(user="bob")), state="streaming")])
    for state, text, length in (("streaming", "\n", 2), ("cancelled", "c", 3)):
        appended = event(Appended, seq=length, text=text, length=length, state=state)
        messages.apply(appended)
        shown = event_line(appended, messages)
        if state == "streaming":
            assert shown is None
    assert shown is not None
    assert shown.split(" ", 1)[1] == "#1 bob: a␊c (cancelled)"


@pytest.mark.parametrize(
    ("user", "line"),
    [
        (PresentUser(user="ann", connections=1), "ann"),
        (PresentUser(user="ann", name="A\n", connections=2), "ann (A␊), 2 connections"),
    ],
)
def test_a_user_is_one_line(user: PresentUser, line: str) -> None:
    assert text_user(user) == line


@pytest.mark.parametrize("command", ["publish", "tail"])
@pytest.mark.parametrize("option", ["--wait", "--timeout"])
def test_waits_are_durations(command: str, option: str) -> None:
    result = run(command, "room:a", option, "soon")
    assert result.exit_code == 2
    assert "'soon' is no duration" in result.stderr


def test_a_message_as_json_is_whole_and_harmless() -> None:
    line = json_line(message({"text": "\x1b\u202eü\n"}, User(user="bob")))
    assert line is not None
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {
        "type": "message",
        "topic": "room:a",
        "seq": 1,
        "at": 1_700_000_000_000,
        "from": {"user": "bob"},
        "data": {"text": "\x1b\u202eü\n"},
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("users add ann", "password: there is no terminal to ask in; give --password-stdin"),
        ("users add ann --password-stdin", "password: stdin is closed"),
    ],
)
def test_a_command_that_asks_says_that_its_stdin_is_closed(
    arguments: str, told: str, tmp_path: Path
) -> None:
    environ = {
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path}/chat.db",
        "CHAT_AUTH__SECRET": "s" * 32,
        "CHATCLIENT_TOKEN": "t",
        "PATH": os.environ["PATH"],
    }
    command = f"exec '{sys.executable}' -m chat_server {arguments} <&-"
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, env=environ, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"chat-server: {told}\n")
