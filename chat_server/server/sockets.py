"""The listening sockets of one or several workers."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ..settings import Settings, SettingsError, split_bind

Address = tuple[str, int]
"""Host and port."""


def authority(address: Address) -> str:
    """Return an address in the form of a URL, `127.0.0.1:8000` or `[::1]:8000`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


KEEPALIVE_OPTIONS = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 90_000,
}
"""TCP options by name, in seconds except for the last, in ms. After 60 s of silence the kernel
probes the peer every 10 s. After 3 probes without an answer the kernel drops the connection. The
kernel also drops a connection whose peer has acknowledged nothing for 90 s.
"""


class ListenError(Exception):
    """The server cannot listen on the address; the text has the reason in one line."""


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on `server.bind` alone.

    Raises:
        ListenError: the address is taken, forbidden or not an address of this machine.
    """
    with _explained(settings):
        alone = _bound((settings.server.host, settings.server.port), shared=False)
        try:
            # On a dual-stack address only `listen` detects another socket on IPv4 alone.
            alone.listen()
        except OSError:
            alone.close()
            raise
    return alone


def reserve(settings: Settings) -> socket.socket:
    """Return a socket that reserves `server.bind` for workers; the socket never listens.

    Raises:
        ListenError: the address is taken, forbidden or not an address of this machine.
    """
    # Two servers that both share the port would silently split the connections. So ask for the port
    # alone first.
    with listen(settings) as alone:
        address = alone.getsockname()[:2]
    with _explained(settings):
        return share(address)


def share(address: Address) -> socket.socket:
    """Return one worker's socket on a reserved address; connections come once the socket listens.

    Raises:
        OSError: the system has no socket, or the address is no longer free.
    """
    # The kernel spreads connections evenly over such sockets. If all workers accepted from a single
    # socket, the worker that wakes first would get most connections.
    return _bound(address, shared=True)


def listen_for_operators(bind: str) -> socket.socket:
    """Return one worker's socket on `operators.bind`, an address that all workers share.

    Raises:
        SettingsError: the address is taken, forbidden or not an address of this machine.
    """
    try:
        return share(split_bind(bind))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"operators.bind: cannot listen on {bind}: {reason}") from None


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    # Copies share this mode, and `dup` resets the mode: a worker's accept would block.
    made.setblocking(False)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Then [::] includes IPv4, whatever the system's default is.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        _enable_keepalive(made)
    except BaseException:
        made.close()
        raise
    return made


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        # A name with an empty or too long label raises UnicodeError.
        reason = getattr(error, "strerror", None) or str(error)
        if os.environ.get("LISTEN_PID") == str(os.getpid()):
            reason += "; a socket unit of systemd has it, and the server opens its sockets itself"
        raise ListenError(
            f"server.bind: cannot listen on {settings.server.bind}: {reason}"
        ) from None


def _enable_keepalive(listener: socket.socket) -> None:
    """Let the kernel end connections whose peer has vanished without closing them.

    Accepted sockets inherit the options. The direct transport detects such peers sooner, by its
    pings.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE_OPTIONS.items():
        if option := getattr(socket, name, None):  # not every system has all options
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
