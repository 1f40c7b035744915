"""Addresses of the public Internet, and the many ways to name one that is not."""

import pytest

from chat_server.webhooks.addresses import is_public, parse_address


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
        *("172.16.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::8.8.8.8", "fc00::1", "fd12::1", "fe80::1", "fe80::1%lo"),
        *("fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "2001::1", "100::1"),
        # IPv4 in other clothes: mapped, 6to4, Teredo, NAT64.
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::"),
        *("2001:0:4136:e378:8000:63bf:f5ff:fffe", "64:ff9b::7f00:1", "64:ff9b:1::808:808"),
    ],
)
def test_what_is_not_public(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert not is_public(address)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_is_public(text: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert is_public(address)


@pytest.mark.parametrize("text", ["localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5"])
def test_what_is_a_name_to_be_looked_up(text: str) -> None:
    assert parse_address(text) is None
