"""What a handshake offers is read as docs/protocol.md, section 1, says."""

import pytest

from chat_server.protocol.codecs import JSON, MSGPACK, Codec
from chat_server.protocol.errors import BadRequest, Forbidden, Unauthorized
from chat_server.transports.handshake import (
    Credentials,
    Source,
    check_origin,
    find_credentials,
    negotiate,
)

BASIC = "Basic dXNlcjpwYXNz"
ALLOWED = ["https://chat.example.org", "http://localhost:3000"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "example.org"),
        (None, None),
        ("https://chat.example.org", "api.example.org"),
        ("https://CHAT.example.org", "api.example.org"),
        ("https://chat.example.org:443", "api.example.org"),
        ("http://localhost:3000", "localhost:8000"),
        ("http://example.org", "example.org"),
        ("https://example.org", "example.org"),
        ("http://example.org", "example.org:80"),
        ("https://example.org", "example.org:443"),
        ("http://example.org:80", "example.org"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
        ("http://EXAMPLE.org", "example.ORG"),
    ],
)
def test_lets_own_and_allowed_origins_in(origin: str | None, host: str | None) -> None:
    check_origin(origin, host, ALLOWED)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "example.org"),
        ("https://evil.example", None),
        ("null", "example.org"),
        ("", "example.org"),
        ("", None),
        ("example.org", "example.org"),
        ("//example.org", "example.org"),
        ("file://", "example.org"),
        ("file://example.org", "example.org"),
        ("https://example.org.evil.example", "example.org"),
        ("https://example.org@evil.example", "example.org"),
        ("https://evil.example#example.org", "example.org"),
        ("https://evilexample.org", "example.org"),
        ("http://example.org:8001", "example.org:8000"),
        ("http://example.org:8000", "example.org"),
        ("http://example.org", "example.org:8000"),
        ("http://example.org:443", "example.org"),
        ("http://example.org:99999", "example.org:99999"),
        ("http://[::1", "[::1"),
        ("https://chat.example.org/", "api.example.org"),
        ("https://chat.example.org https://evil.example", "api.example.org"),
    ],
)
def test_keeps_other_origins_out(origin: str, host: str | None) -> None:
    with pytest.raises(Forbidden):
        check_origin(origin, host, ALLOWED)


def test_an_asterisk_lets_every_origin_in() -> None:
    check_origin("https://evil.example", "example.org", ["*"])
    check_origin("null", "example.org", ["*"])


@pytest.mark.parametrize(
    ("offered", "codec", "answer"),
    [
        ([], JSON, None),
        (["chat.v1.json"], JSON, "chat.v1.json"),
        (["chat.v1.msgpack"], MSGPACK, "chat.v1.msgpack"),
        (["chat.v1.msgpack", "chat.v1.json"], MSGPACK, "chat.v1.msgpack"),
        (["chat.v1.json", "chat.v1.msgpack"], JSON, "chat.v1.json"),
        (["chat.v2.json", "chat.v1.msgpack"], MSGPACK, "chat.v1.msgpack"),
        (["bearer.a.b.c", "chat.v1.msgpack"], MSGPACK, "chat.v1.msgpack"),
        (["bearer.a.b.c"], JSON, None),
    ],
)
def test_negotiates_the_first_encoding_it_knows(
    offered: list[str], codec: Codec, answer: str | None
) -> None:
    assert negotiate(offered) == (codec, answer)


@pytest.mark.parametrize(
    "offered",
    [["chat.v2.json"], ["graphql-ws", "soap"], ["bearer.a.b.c", "chat.v2.json"], ["CHAT.V1.JSON"]],
)
def test_refuses_encodings_it_does_not_know(offered: list[str]) -> None:
    with pytest.raises(BadRequest, match=r"chat\.v1\.json, chat\.v1\.msgpack"):
        negotiate(offered)


@pytest.mark.parametrize(
    ("authorization", "offered", "query", "expected"),
    [
        ([], [], None, Credentials(Source.NONE)),
        ([], ["chat.v1.json"], None, Credentials(Source.NONE)),
        (["Bearer h"], ["bearer.s"], "q", Credentials(Source.HEADER, "h")),
        ([], ["chat.v1.json", "bearer.s"], "q", Credentials(Source.SUBPROTOCOL, "s")),
        ([], ["bearer.s", "bearer.t"], None, Credentials(Source.SUBPROTOCOL, "s")),
        ([], ["bearer."], "q", Credentials(Source.SUBPROTOCOL, "")),
        ([], ["chat.v1.json"], "q", Credentials(Source.QUERY, "q")),
        ([], [], "", Credentials(Source.QUERY, "")),
        ([BASIC], ["bearer.s"], "q", Credentials(Source.SUBPROTOCOL, "s")),
        (["basic dXNlcjpwYXNz"], [], "q", Credentials(Source.QUERY, "q")),
        (
            ['Digest username="a", realm="b"'],
            ["bearer.s"],
            None,
            Credentials(Source.SUBPROTOCOL, "s"),
        ),
        (["Negotiate YII="], [], None, Credentials(Source.NONE)),
        ([BASIC, "Bearer h"], ["bearer.s"], None, Credentials(Source.HEADER, "h")),
        (["Bearer h", BASIC], [], None, Credentials(Source.HEADER, "h")),
    ],
)
def test_takes_the_token_with_the_highest_precedence(
    authorization: list[str], offered: list[str], query: str | None, expected: Credentials
) -> None:
    assert find_credentials(authorization, offered, query) == expected


@pytest.mark.parametrize("header", ["Bearer", "bearer ", "a.b.c"])
def test_what_is_meant_for_us_is_not_passed_over_for_a_token_elsewhere(header: str) -> None:
    with pytest.raises(Unauthorized):
        find_credentials([header], ["bearer.s"], "q")
