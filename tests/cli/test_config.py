"""`chat-server config` and `token inspect`: what holds, where it comes from, what a token says."""

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from chat_server.cli.commands import main
from chat_server.settings import Settings, Webhook, reference

SECRET = "0123456789abcdef" * 2


def run(*arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
    variables = {f"CHAT_{name.upper()}": value for name, value in environ.items()}
    runner = CliRunner(env={"CHATCLIENT_TOKEN": None, **variables})
    return runner.invoke(main, arguments, input=stdin)


def test_what_is_shown_is_a_file_of_settings_without_secrets() -> None:
    secrets = {"auth__secret": SECRET, "redis__url": f"redis://u:{SECRET}@r:1/0"}
    hook = {"url": f"https://hooks.example/{SECRET}", "secrets": f"whsec_{'A' * 32}"}
    endpoint = {f"webhooks__shop__{name}": value for name, value in hook.items()}
    endpoint |= {"webhooks__shop__topics": "room:**"}
    arguments = ("config", "show", "--workers", "2")
    result = run(*arguments, **secrets, **endpoint, namespaces__room__history_size="5")
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    assert "AAAA" not in result.output
    shown = tomllib.loads(result.output)
    assert shown["auth"]["secret"] == "********"
    assert shown["webhooks"]["shop"]["url"] == "https://hooks.example/********"
    assert shown["redis"]["url"] == "redis://********@r:1/0"
    lines = result.output.splitlines()
    assert "limits.max_topics = 128  # default" in lines
    assert "server.workers = 2  # the command line" in lines
    variable = "the environment variable CHAT_NAMESPACES__ROOM__HISTORY_SIZE"
    assert f"namespaces.room.history_size = 5  # {variable}" in lines
    [development] = [line for line in lines if line.startswith("accounts.sign_up")]
    assert development.endswith("config/development.toml")


def test_only_what_was_changed_is_shown_and_as_json() -> None:
    changes = {"environment": "testing", "limits__max_topics": "9"}
    result = run("config", "show", "--changed", "--json", **changes)
    shown = json.loads(result.output)
    assert shown["limits.max_topics"]["value"] == 9
    assert not [key for key, entry in shown.items() if entry["source"] == "default"]


def test_check_tells_all_mistakes_at_once_and_those_of_files(tmp_path: Path) -> None:
    wrong = run(
        *("config", "check", "--bind", "nonsense"),
        limits__max_topic="1",
        auth__secret__file=str(tmp_path / "none"),
    )
    assert wrong.exit_code == 2
    assert [line.split(":")[1].strip() for line in wrong.stderr.splitlines()] == [
        *("CHAT_AUTH__SECRET__FILE", "limits.max_topic", "server.bind")
    ]
    tls, key = str(tmp_path / "tls.pem"), str(tmp_path / "key.pem")
    files = {"server__tls_certificate_file": tls, "auth__public_key_file": key}
    result = run("config", "check", "--json", **files, auth__algorithms="RS256", auth__secret="")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert [line.partition(":")[0] for line in said["mistakes"]] == [
        *("server.tls_certificate_file", "auth.public_key_file")
    ]
    right = run("config", "check", environment="testing")
    assert (right.exit_code, right.stderr) == (0, "")
    assert right.stdout == "the settings are right; the environment is testing\n"


def test_each_setting_is_explained_and_has_a_variable() -> None:
    result = run("config", "doc", "--json")
    rows = {row["key"]: row for row in json.loads(result.output)}
    documented = msgspec.to_builtins(Settings(webhooks={"NAME": Webhook()}))
    del documented["accounts"]["roles"]["admin"]  # as the other one
    assert set(rows) == set(_keys(documented, ""))
    assert all(row["doc"] for row in rows.values())
    assert rows["limits.max_topics"]["doc"] == "Subscriptions of one connection."
    assert rows["limits.max_topics"]["variable"] == "CHAT_LIMITS__MAX_TOPICS"
    room = run("config", "doc", "namespaces.room.archive_seconds").output
    assert room.splitlines()[-2:] == [
        *("namespaces.default.archive_seconds = 0.0", "CHAT_NAMESPACES__DEFAULT__ARCHIVE_SECONDS")
    ]
    assert run("config", "doc").output == reference.default_toml()
    unknown = run("config", "doc", "limits.max_topic")
    assert unknown.exit_code == 2
    assert "limits.max_topic: unknown key; did you mean limits.max_topics?" in unknown.stderr


def _keys(group: dict[str, Any], above: str) -> list[str]:
    found = []
    for name, value in group.items():
        if isinstance(value, dict):
            found += _keys(value, f"{above}{name}.")
        else:
            found.append(f"{above}{name}")
    return found


def test_variables_with_their_default_and_secrets_are_commented_out() -> None:
    lines = run("config", "env", auth__secret=SECRET, log__level="debug").output.splitlines()
    assert "CHAT_LOG__LEVEL=DEBUG" in lines
    assert "# CHAT_LIMITS__MAX_TOPICS=128" in lines
    assert "# CHAT_AUTH__SECRET=********" in lines


def test_the_schema_has_the_comments_and_the_bounds() -> None:
    schema = json.loads(run("config", "schema").output)
    limits = schema["$defs"]["LimitSettings"]["properties"]
    assert limits["max_topics"]["description"] == "Subscriptions of one connection."
    assert limits["max_topics"]["maximum"] == 2**31 - 1
    url = schema["$defs"]["Webhook"]["properties"]["url"]["description"]
    assert url.startswith("Where to: an https://")
    # Python's end of a text means the letter in the patterns of JSON Schema.
    assert limits["connects_per_user"]["pattern"].endswith("(ms|s|m|h))$")


# token inspect ---------------------------------------------------------------------------------


def test_a_token_is_shown_and_accepted_or_the_rule_is_named() -> None:
    token = run("token", "--sub", "ada", "--publish", "room:a", auth__secret=SECRET).stdout.strip()
    result = run("token", "inspect", stdin=f"{token}\n", auth__secret=SECRET)
    assert result.exit_code == 0, result.output
    assert 'sub: "ada"' in result.output
    assert "may publish: room:a\n" in result.output
    assert result.output.endswith("accepted\n")
    assert SECRET not in result.output
    assert token.rpartition(".")[2] not in result.output
    other = run("token", "inspect", token, auth__secret="x" * 32)
    assert other.exit_code == 1
    assert other.output.endswith("refused: token: its signature does not match\n")
    named = run("token", "inspect", "--json", token, auth__secret=SECRET, auth__issuer="https://i")
    said = json.loads(named.output)
    assert (named.exit_code, said["accepted"], said["grants"]) == (1, False, None)
    assert said["reason"] == "token: `iss` is not the issuer this server trusts"
    assert said["claims"]["sub"] == "ada"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "\x1b[31m.e30.x", "ü.ü.ü", "." * 9_000, b"\xff\x00" * 9_000]
)
def test_what_is_no_token_is_refused_and_harmless(token: str | bytes) -> None:
    result = run("token", "inspect", stdin=token)
    assert result.exit_code == 1
    assert "refused: token: is" in result.output
    assert "\x1b" not in result.output


def test_a_token_can_be_printed_as_json() -> None:
    assert json.loads(run("token", "--sub", "ada", "--json").stdout)["token"].count(".") == 2
