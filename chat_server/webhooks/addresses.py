"""The rules for network addresses that a webhook may connect to."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""The prefix of IPv4 addresses for hosts with IPv6 only: RFC 6052."""

_NOT_PUBLIC: Final = (
    # `is_global` of Python 3.11 is True for these networks.
    IPv4Network("192.0.0.0/24"),  # protocol assignments: RFC 6890
    IPv4Network("192.88.99.0/24"),  # relays to 6to4, deprecated: RFC 7526
    IPv6Network("::/96"),  # IPv4-compatible, deprecated: RFC 4291
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own network: RFC 8215
    IPv6Network("fec0::/10"),  # site-local, deprecated: RFC 3879
)


def parse_address(host: str) -> Address | None:
    """Return the IP address in `host`, without brackets; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Return True if an address belongs to one host of the public Internet.

    For an IPv6 address that embeds an IPv4 address, the rules of the IPv4 address apply.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        embedded = _embedded(address)
        if embedded is not None:
            return is_public(embedded)
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which a translator or a tunnel would forward a packet."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
