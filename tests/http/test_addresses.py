"""Under which address a request is counted."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.addresses import client_address, listed_address


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


@pytest.mark.parametrize(
    "text", ["2001:db8::5", "2001:DB8:0:0::1", "[2001:db8::9]", "2001:db8::/64", "10.0.0.1"]
)
def test_what_a_person_writes_finds_the_connection(text: str) -> None:
    peer = text if text == "10.0.0.1" else "2001:db8::77"
    assert listed_address(text) == client_address(peer, (), 0)


@pytest.mark.parametrize("text", ["", "10.0.0.0/8", "10.0.0.1/64", "2001:db8::/32", "bob"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an IPv4 address, or an IPv6 address or its /64"):
        listed_address(text)
