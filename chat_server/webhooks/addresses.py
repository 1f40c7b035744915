"""Which addresses of the network a webhook may connect to."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""An IPv4 address for hosts that have IPv6 alone: RFC 6052."""

_NOT_PUBLIC: Final = (
    # Python 3.11 takes these for global.
    IPv4Network("192.0.0.0/24"),  # protocol assignments: RFC 6890
    IPv4Network("192.88.99.0/24"),  # relays to 6to4, deprecated: RFC 7526
    IPv6Network("::/96"),  # IPv4-compatible, deprecated: RFC 4291
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own network: RFC 8215
    IPv6Network("fec0::/10"),  # site-local, deprecated: RFC 3879
)


def parse_address(host: str) -> Address | None:
    """Return the address that `host` is, without brackets; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Return whether an address is of the public Internet, and leads to one host there.

    An IPv6 address that stands for an IPv4 address is judged by that.
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
    """Return the IPv4 address to which a translator or a tunnel would take a packet."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
