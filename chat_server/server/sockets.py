"""The port that one or several workers listen on."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ..settings import Settings, SettingsError, split_bind

Address = tuple[str, int]
"""Host and port."""


def authority(address: Address) -> str:
    """Return an address as it stands in a URL, `127.0.0.1:8000` or `[::1]:8000`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


KEEPALIVE_OPTIONS = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 90_000,
}
"""TCP options by name, in seconds but for the last, in ms. After 60 s of silence the kernel probes
the peer every 10 s and drops the connection after 3 probes without an answer; the kernel also drops
a connection whose peer has acknowledged nothing for 90 s."""


class ListenError(Exception):
    """The address cannot be listened on; the text is one line that says why."""


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on `server.bind` and shares it with no other socket.

    Raises:
        ListenError: it is taken, forbidden or no address of this machine.
    """
    with _explained(settings):
        alone = _bound((settings.server.host, settings.server.port), shared=False)
        try:
            # On a dual-stack address only this finds out that somebody listens on IPv4 alone.
            alone.listen()
        except OSError:
            alone.close()
            raise
    return alone


def reserve(settings: Settings) -> socket.socket:
    """Return a socket that holds `server.bind` for workers that share it, but does not listen.

    Raises:
        ListenError: it is taken, forbidden or no address of this machine.
    """
    # Two servers that both share would silently split the connections between them, so first ask
    # for the port alone.
    with listen(settings) as alone:
        address = alone.getsockname()[:2]
    with _explained(settings):
        return share(address)


def share(address: Address) -> socket.socket:
    """Return one worker's socket on a reserved address; connections come once it listens.

    Raises:
        OSError: the system has no socket, or the address is not free any more.
    """
    # The kernel spreads connections evenly over such sockets; a single one that all workers accept
    # from gives most of them to whichever wakes first.
    return _bound(address, shared=True)


def listen_for_operators(bind: str) -> socket.socket:
    """Return one worker's socket on `operators.bind`, which all workers share.

    Raises:
        SettingsError: it is taken, forbidden or no address of this machine.
    """
    try:
        return share(split_bind(bind))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"operators.bind: cannot listen on {bind}: {reason}") from None


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    # Whoever has a copy shares this mode, and `dup` sets it anew: a worker's accept would block.
    made.setblocking(False)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Then [::] means IPv4 as well, whatever the system's default is.
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
        # A name with a label that is empty or too long is a UnicodeError.
        reason = getattr(error, "strerror", None) or str(error)
        if os.environ.get("LISTEN_PID") == str(os.getpid()):
            reason += "; a socket unit of systemd has it, and the server opens its sockets itself"
        raise ListenError(
            f"server.bind: cannot listen on {settings.server.bind}: {reason}"
        ) from None


def _enable_keepalive(listener: socket.socket) -> None:
    """Let the kernel end connections whose peer has vanished without closing them.

    Accepted sockets inherit the options. The direct transport notices by its own pings, and sooner.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE_OPTIONS.items():
        if option := getattr(socket, name, None):  # not every system has all of them
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
