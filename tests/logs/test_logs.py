"""What reaches stderr: its form, and what never does."""

import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.auth.tokens import issue_token
from chat_server.logs import (
    CONNECTION,
    REQUEST,
    JsonFormatter,
    TextFormatter,
    configure,
    identify,
    redact,
)
from chat_server.settings import DEVELOPMENT_SECRET, AuthSettings, LogSettings

from ..rig.clock import ManualClock

JWT = issue_token(
    AuthSettings(secret=DEVELOPMENT_SECRET), sub="alice", ttl_seconds=60, clock=ManualClock()
)
PARTS = [part for part in JWT.split(".") if len(part) > 10]

Capture = Callable[[str], "Stream"]


class Stream(io.StringIO):
    """What replaces stderr; a thread writes to it."""

    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Configure logging in a format, with stderr replaced and no other handler; then undo it."""
    root = logging.getLogger()
    level = root.level

    def start(form: str) -> Stream:
        root.handlers.clear()  # pytest puts its own there for the time of the test, and they raise
        stream = Stream()
        monkeypatch.setattr(sys, "stderr", stream)
        configure(LogSettings(level="DEBUG", format="json" if form == "json" else "text"))
        return stream

    yield start
    for handler in root.handlers[:]:
        if type(handler).__module__ == configure.__module__:
            root.removeHandler(handler)
    root.setLevel(level)


def record(message: str, *args: object, **attributes: Any) -> logging.LogRecord:
    made = logging.LogRecord("chat_server.test", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_700_000_000.25
    made.process = 4711
    vars(made).update(attributes)
    return made


def fail(text: str) -> None:
    raise ValueError(text)


def test_text_form() -> None:
    line = TextFormatter().format(record("%d came", 3, topic="room:lobby", note="a b", n=1.5))
    assert line == (
        "2023-11-14T22:13:20.250Z INFO [4711] chat_server.test: 3 came"
        ' topic=room:lobby note="a b" n=1.5'
    )


def test_a_line_names_the_worker_that_wrote_it() -> None:
    made = record("came", processName="worker 2")
    assert "INFO [worker 2 4711] chat_server.test: came" in TextFormatter().format(made)
    line = json.loads(JsonFormatter().format(made))
    assert (line["process"], line["pid"]) == ("worker 2", 4711)


def test_json_form() -> None:
    extra = {"n": 1, "ok": True, "none": None, "nan": float("nan"), "list": [1], "level": "mine"}
    line = JsonFormatter().format(record("ünï\n%s", "x", **extra))
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "INFO",
        "pid": 4711,
        "process": "server",
        "logger": "chat_server.test",
        "message": "ünï\nx",
        "n": 1,
        "ok": True,
        "none": None,
        "nan": "nan",
        "list": "[1]",
        "level_": "mine",
    }


def test_lines_name_the_worker_the_connection_and_the_request(capture: Capture) -> None:
    stream = capture("json")
    log = logging.getLogger("chat_server.test")
    log.info("before")
    identify(2, "host-1-ab")
    connection, request = CONNECTION.set("c1"), REQUEST.set("r1")
    log.info("within")
    log.info("its own", extra={"connection": "c2"})
    CONNECTION.reset(connection)
    REQUEST.reset(request)
    log.info("after")
    before, within, own, after = (json.loads(line) for line in stream.getvalue().splitlines())
    assert not {"worker", "node", "connection", "request_id"} & set(before)
    names = ("worker", "node", "connection", "request_id")
    assert [within[name] for name in names] == [2, "host-1-ab", "c1", "r1"]
    assert (own["connection"], own["request_id"]) == ("c2", "r1")
    assert (after["worker"], "connection" in after) == (2, False)


def test_text_names_connection_and_request_where_there_are(capture: Capture) -> None:
    stream = capture("text")
    identify(2, "host-1-ab")
    connection = CONNECTION.set("c1")
    logging.getLogger("chat_server.test").info("within")
    CONNECTION.reset(connection)
    assert stream.getvalue().endswith("chat_server.test: within connection=c1\n")


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws?token={JWT} HTTP/1.1",
        f"GET /ws?a=b&TOKEN={JWT}&c=d",
        f"GET /ws?access_token={JWT}",
        f"Authorization: Bearer {JWT}",
        f"authorization: bearer  {JWT}",
        f"Bearer%20{JWT}",
        f"Sec-WebSocket-Protocol: chat.v1.json, bearer.{JWT}",
        f"['chat.v1.json', 'bearer.{JWT}']",
        f"got {JWT}",
        f"got {JWT!r}, and then",
        f"%22{JWT}%22",
        f"x{'-' * 3}({JWT})",
        f'{{"type":"auth","token":"{JWT}"}}',
        json.dumps(f'{{"type":"auth","token" : "{JWT}"}}'),
        f"Auth(id=1, token='{JWT}')",
        f"{JWT} {JWT}\n{JWT}",
    ],
)
def test_tokens_are_redacted_in_every_shape(text: str) -> None:
    result = redact(text)
    assert "********" in result
    assert not any(part in result for part in PARTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ws?token=opaque&room=1", "/ws?token=********&room=1"),
        ("Bearer opaque-0.9_~+/=", "Bearer ********"),
        ("bearer.opaque, chat.v1.json", "bearer.********, chat.v1.json"),
        ("redis://:pass@host:1/0", "redis://********@host:1/0"),
        ("redis://user:pa:ss@host", "redis://********@host"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "********"),
        ("ewogICJhbGciOiAibm9uZSIKfQ.e30", "********"),
    ],
)
def test_what_is_left_of_a_redacted_text(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "token: has expired",
        "token: `aud` does not name this server",
        "chat_server.transports.connections.eyesight: 3.11.7",
        "http://127.0.0.1:8000/ws?last=5",
        "alice@example.org wrote to room:lobby",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_redaction_takes_any_text_and_is_final(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "piece", ["ey", "eyJ", "token='", "token' ", "bearer ", "bearer.", "://", "e.", "eyJ-", "%20ey"]
)
def test_redaction_takes_linear_time(piece: str) -> None:
    start = time.thread_time()
    redact(piece * (400_000 // len(piece)))
    assert time.thread_time() - start < 2  # quadratic would be minutes


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_token_in_messages_arguments_fields_and_tracebacks(capture: Capture, form: str) -> None:
    stream = capture(form)
    log = logging.getLogger("chat_server.test")
    log.info(f"GET /ws?token={JWT}")
    log.info("got %s and %r", JWT, {"token": JWT})
    log.info("extra", extra={"header": f"Bearer {JWT}", "object": [JWT], "stack": b"%s"})
    log.info("does not fit %d", JWT)
    log.info("stack", stack_info=True)
    try:
        try:
            fail(f"bad bearer.{JWT}")
        except ValueError as error:
            raise RuntimeError(JWT) from error
    except RuntimeError:
        log.exception("failed")
    text = stream.getvalue()
    assert text.count("Traceback") == 2
    assert "RuntimeError: ********" in text
    assert "test_no_token_in_messages" in text  # the stack, and the frames of the traceback
    assert not any(part in text for part in PARTS)


@pytest.mark.parametrize(
    "evil",
    [
        "x\n2023-11-14T22:13:20.250Z ERROR chat_server: forged",
        "x\r\nforged",
        "\x1b[2J\x1b]0;title\x07",
        "a\u2028b\u0085c\u202ed",
        "\x00\ud800",
    ],
)
def test_users_cannot_forge_lines_or_control_the_terminal(evil: str) -> None:
    line = TextFormatter().format(record("name=%s", evil, field=evil))
    assert line.isprintable()
    try:
        fail(evil)
    except ValueError:
        text = TextFormatter().format(record("failed", exc_info=sys.exc_info()))
    head, *below = text.split("\n")
    assert head.endswith("failed")
    assert below
    assert all(line.startswith("    ") and line.isprintable() for line in below)
    assert len(JsonFormatter().format(record(evil, field=evil)).splitlines()) == 1


def test_a_message_whose_arguments_fail_is_still_logged() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(JWT)

    line = TextFormatter().format(record("hello %s", Broken()))
    assert "'hello %s' (its arguments do not fit: RuntimeError)" in line


def test_a_record_that_cannot_be_formatted_is_one_line(capture: Capture) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError(JWT)

    stream = capture("json")
    logging.getLogger("chat_server.test").info("hello", extra={"field": Broken()})
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == (
        "a line of chat_server.test cannot be formatted: RuntimeError"
    )


def test_configure_replaces_only_its_own_handler(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = capture("text")
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    second = Stream()
    monkeypatch.setattr(sys, "stderr", second)
    configure(LogSettings(format="json"))
    assert other in logging.getLogger().handlers
    assert len(logging.getLogger().handlers) == 2
    logging.getLogger("chat_server.test").warning("once")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "once"


def test_configure_sets_the_level(capture: Capture) -> None:
    stream = capture("text")
    configure(LogSettings(level="WARNING"))
    logging.getLogger("chat_server.test").info("too much")
    logging.getLogger("chat_server.test").warning("enough")
    assert "too much" not in stream.getvalue()
    assert "enough" in stream.getvalue()
