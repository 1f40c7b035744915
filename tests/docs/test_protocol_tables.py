"""docs/protocol.md says what the code does: its tables are compared with the code's own."""

from typing import Any

import msgspec
import pytest

from chat_server.auth.claims import TopicGrants
from chat_server.auth.validation import MAX_INFO_BYTES, MAX_NAME, MAX_PATTERNS, MAX_SUB
from chat_server.protocol import codecs, commands, messages
from chat_server.protocol.close_codes import LONG_BACKOFF, STOP, CloseCode
from chat_server.protocol.command_table import COMMANDS
from chat_server.protocol.errors import ERRORS

from .markdown import ROOT, code, section, tables

TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")

ANSWERS: dict[str, type[messages.Ok]] = {
    "auth": messages.AuthOk,
    "subscribe": messages.SubscribeOk,
    "unsubscribe": messages.TopicOk,
    "publish": messages.PublishOk,
    "signal": messages.TopicOk,
    "edit": messages.ChangeOk,
    "append": messages.AppendOk,
    "delete": messages.ChangeOk,
    "react": messages.ChangeOk,
    "history": messages.HistoryOk,
    "presence": messages.PresenceOk,
    "read": messages.ReadOk,
    "unread": messages.UnreadOk,
    "call": messages.CallOk,
}
PUSHES = (
    messages.Welcome,
    messages.Error,
    messages.Message,
    messages.Edited,
    messages.Appended,
    messages.Deleted,
    messages.Reaction,
    messages.SignalPush,
    messages.Join,
    messages.Leave,
    messages.PresencePush,
    messages.ReadPush,
    messages.Gap,
    messages.Goodbye,
    messages.Pong,
)


def _tag(message: type[msgspec.Struct]) -> str:
    return str(message.__struct_config__.tag)


def _fields(message: type[msgspec.Struct], without: str = "") -> list[str]:
    """Return a message's fields as the documentation writes them, optional ones with a mark."""
    fields = [field for field in msgspec.structs.fields(message) if field.name != without]
    return sorted(field.encode_name + ("" if field.required else "?") for field in fields)


def _table(heading: str, number: int = 0) -> list[dict[str, str]]:
    return tables(section(TEXT, heading))[number]


def test_subprotocols() -> None:
    documented = {code(row["subprotocol offered"])[0]: row["frames"] for row in _table("Encodings")}
    assert documented == {
        name: "binary" if codec.binary else "text" for name, codec in codecs.CODECS.items()
    }


def test_claims() -> None:
    rows = {name: row["value"] for row in _table("Tokens") for name in code(row["claim"])}
    assert f"1 to {MAX_SUB} characters" in rows["sub"]
    assert f"1 to {MAX_NAME} characters" in rows["name"]
    assert f"at most {MAX_INFO_BYTES} bytes" in rows["info"]
    assert [
        name for name in TopicGrants.__struct_fields__ if f'"{name}"' not in rows["topics"]
    ] == []
    assert f"may hold {MAX_PATTERNS} patterns" in section(TEXT, "Tokens")


def test_commands() -> None:
    documented = {code(row["type"])[0]: row for row in _table("2. Client to server")}
    assert list(documented) == [_tag(command) for command in COMMANDS]
    for command in COMMANDS:
        row = documented[_tag(command)]
        assert sorted(code(row["fields"])) == _fields(command, without="id"), row
        answer = ANSWERS.get(_tag(command))
        expected = [] if answer is None else _fields(answer)
        assert sorted(code(row["`ok` carries"])) == expected, row


@pytest.mark.parametrize("command", COMMANDS, ids=_tag)
def test_fields_of_commands(command: type[msgspec.Struct]) -> None:
    documented = {code(row["field"])[0]: row["value"] for row in _table("2. Client to server", 1)}
    schema = msgspec.json.schema(command)
    properties = schema["$defs"][command.__name__]["properties"]
    for name, rules in properties.items():
        described = _described(rules, schema["$defs"])
        if described:
            assert described in documented[name]


def _described(rules: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Say what a field's schema restricts, in the words of the documentation."""
    for choice in rules.get("anyOf", ()):
        if choice != {"type": "null"}:
            return _described({**choice, "default": rules["default"]}, definitions)
    if "minLength" in rules:
        return f"text, {rules['minLength']} to {rules['maxLength']} characters"
    if "minimum" in rules:
        default = rules.get("default")
        suffix = "" if default is None else f"; {default} if left out"
        return f"an integer from {rules['minimum']} to {rules['maximum']}{suffix}"
    if "$ref" in rules:
        parts = definitions[rules["$ref"].rpartition("/")[2]]["properties"]
        seq = _described(parts["seq"], definitions)
        return (
            f"a map of `epoch` (text, at most {parts['epoch']['maxLength']} characters) "
            f"and `seq` ({seq})"
        )
    return "true or false" if rules.get("type") == "boolean" else ""


def test_pushes() -> None:
    documented = {code(row["type"])[0]: row for row in _table("3. Server to client")}
    assert list(documented) == [
        "welcome",
        "ok",
        "error",
        "message",
        "edited",
        "appended",
        "deleted",
        "reaction",
        "signal",
        "join",
        "leave",
        "presence",
        "read",
        "gap",
        "goodbye",
        "pong",
    ]
    for push in PUSHES:
        row = documented[_tag(push)]
        assert sorted(code(row["fields"])) == _fields(push), row
    limits = section(TEXT, "3. Server to client")
    assert [name for name in messages.Limits.__struct_fields__ if f"`{name}`" not in limits] == []


def test_every_message_is_documented() -> None:
    def leaves(kind: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
        ours = [sub for sub in kind.__subclasses__() if sub.__module__.startswith("chat_server.")]
        return {leaf for sub in ours for leaf in leaves(sub)} or {kind}

    assert leaves(messages.ServerMessage) == set(PUSHES)
    assert leaves(messages.Ok) == {*ANSWERS.values(), messages.PositionOk}
    assert leaves(commands.Command) == set(COMMANDS)


def test_errors() -> None:
    documented = {code(row["code"])[0]: int(row["HTTP status"]) for row in _table("5. Errors")}
    assert documented == {error.code: error.status for error in ERRORS}


def test_close_codes() -> None:
    documented = {int(row["code"]): row["the client should"] for row in _table("6. Close codes")}
    assert list(documented) == sorted(CloseCode)
    for close_code, advice in documented.items():
        assert advice.startswith("stop") == (close_code in STOP), close_code
        assert advice.endswith("long backoff") == (close_code in LONG_BACKOFF), close_code


def test_every_close_code_is_sent_by_something() -> None:
    sources = "".join(
        path.read_text("utf-8")
        for path in (ROOT / "chat_server").rglob("*.py")
        if path.name != "close_codes.py"
    )
    unsent = {
        int(close_code) for close_code in CloseCode if f"CloseCode.{close_code.name}" not in sources
    }
    # These are those of the layer that reads frames.
    assert unsent <= {1000, 1007, 1009}
