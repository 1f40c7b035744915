"""Names and addresses of this very machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether `host`, without port and brackets, means this machine on every machine.

    Such hosts are `localhost` and names below (RFC 6761, section 6.3), 127.0.0.0/8 and ::1.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
