"""What a handshake offers is read as docs/protocol.md, section 1, says."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.protocol.codecs import JSON, MSGPACK, Codec
from chat_server.protocol.errors import BadRequest, Forbidden, Unauthorized
from chat_server.transports.handshake import (
    Credentials,
    Source,
    bearer_token,
    check_origin,
    client_address,
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


@pytest.mark.parametrize(
    "header", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c ", " Bearer a.b.c"]
)
def test_reads_bearer_tokens(header: str) -> None:
    assert bearer_token([header]) == "a.b.c"
    assert bearer_token([BASIC, header]) == "a.b.c"


@pytest.mark.parametrize(
    "headers",
    [
        *([], [BASIC], ["Bearer"], ["Bearer "], ["a.b.c"], ["Bearera.b.c"], [""]),
        *(["Bearer a.b.c", "Bearer d.e.f"], ["Bearer a.b.c", "Bearer"], ["Bearer a.b.c", "x"]),
    ],
)
def test_refuses_other_authorization(headers: list[str]) -> None:
    with pytest.raises(Unauthorized) as caught:
        bearer_token(headers)
    assert "dXNlcjpwYXNz" not in caught.value.message


@pytest.mark.parametrize("header", ["Bearer", "bearer ", "a.b.c"])
def test_what_is_meant_for_us_is_not_passed_over_for_a_token_elsewhere(header: str) -> None:
    with pytest.raises(Unauthorized):
        find_credentials([header], ["bearer.s"], "q")


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        ([], 0, "10.0.0.1"),
        (["1.2.3.4"], 0, "10.0.0.1"),
        (["1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4, 10.0.0.2"], 2, "1.2.3.4"),
        (["6.6.6.6", "1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6", "1.2.3.4,10.0.0.2"], 2, "1.2.3.4"),
        (["1.2.3.4"], 2, "10.0.0.1"),
        ([""], 1, "10.0.0.1"),
        ([", ,"], 1, "10.0.0.1"),
        (["junk, 1.2.3.4"], 1, "1.2.3.4"),
        (["6.6.6.6, junk"], 1, "10.0.0.1"),
        (["6.6.6.6, unknown, 10.0.0.2"], 2, "10.0.0.1"),
    ],
)
def test_believes_as_many_proxies_as_it_is_told(
    forwarded: list[str], hops: int, expected: str
) -> None:
    assert client_address("10.0.0.1", forwarded, hops) == expected


@pytest.mark.parametrize(
    ("spellings", "counted"),
    [
        (
            [
                *("1.2.3.4", "1.2.3.4:5678", " 1.2.3.4 ", '"1.2.3.4:80"', "[1.2.3.4]:80"),
                *("::ffff:1.2.3.4", "[::ffff:1.2.3.4]:80", "::FFFF:102:304", "64:ff9b::1.2.3.4"),
                "0:0:0:0:0:ffff:1.2.3.4",
            ],
            "1.2.3.4",
        ),
        (
            [
                *("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:1", "[2001:db8:1:2::1]", "2001:db8:1:2::"),
                *("[2001:db8:1:2::1]:443", '"[2001:db8:1:2::1]:443"', "2001:db8:1:2:ffff::9"),
            ],
            "2001:db8:1:2::/64",
        ),
        (["fe80::1%eth0", "[fe80::2%eth0]:80"], "fe80::/64"),
        (["::1"], "::/64"),
    ],
)
def test_one_client_is_counted_once_however_it_is_written(
    spellings: list[str], counted: str
) -> None:
    for spelling in spellings:
        assert client_address("10.0.0.1", [spelling], 1) == counted, spelling
        if ":" in spelling and "[" not in spelling and '"' not in spelling and "." not in spelling:
            assert client_address(spelling, [], 0) == counted


@pytest.mark.parametrize(
    "junk",
    [
        *(
            "x" * 100,
            "unknown",
            "_hidden",
            "localhost",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "256.1.1.1",
        ),
        *("0x7f000001", "2130706433", "1.2.3.4:999999", "1.2.3.4:", "[::1", "::1]", "[]", "[x]:80"),
        *("1.2.3.4 5", "::1::", ":", "%", "[::1]x", "\u0661.2.3.4", "1.2.3.4/8"),
    ],
)
def test_what_is_no_address_is_counted_with_its_proxy(junk: str) -> None:
    assert client_address("10.0.0.1", [junk], 1) == "10.0.0.1"
    assert client_address("10.0.0.1", ["6.6.6.6", junk], 1) == "10.0.0.1"


@given(st.text(max_size=50), st.integers(0, 3))
def test_any_header_gives_an_address_or_the_peer(header: str, hops: int) -> None:
    address = client_address("10.0.0.1", [header], hops)
    assert ipaddress.ip_network(address)


def test_a_socket_file_is_counted_as_it_is_called() -> None:
    assert client_address("/run/chat.sock", [], 0) == "/run/chat.sock"


def test_an_unknown_peer_has_a_name_as_well() -> None:
    assert client_address(None, [], 0) == "unknown"
