"""The port that one or several workers listen on."""

import socket

from ..settings import Settings

Address = tuple[str, int]
"""Host and port."""


VANISHED = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 90_000,
}
"""After 60 s of silence the kernel asks, and 30 s without any answer end the connection; so do 90 s
(in ms) in which the other side takes nothing of what it was sent."""


class ListenError(Exception):
    """The address cannot be listened on; the text is one line that says why."""


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on `server.bind`, which nobody else may.

    Raises:
        ListenError: it is taken, forbidden or no address of this machine.
    """
    host, port = settings.server.host, settings.server.port
    try:
        alone = socket.create_server((host, port), family=_family(host))
    except OSError as error:
        # Python adds the address, which is named already.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ListenError(
            f"server.bind: cannot listen on {settings.server.bind}: {reason}"
        ) from None
    _find_the_vanished(alone)
    return alone


def reserve(settings: Settings) -> socket.socket:
    """Return a socket that holds `server.bind` for workers that share it, but does not listen.

    Raises:
        ListenError: it is taken, forbidden or no address of this machine.
    """
    # Two servers that both share would silently split the connections between them, so first ask
    # for the port alone.
    with listen(settings) as alone:
        address = alone.getsockname()
    return share(address)


def share(address: Address) -> socket.socket:
    """Return one worker's socket on a reserved address; connections come once it listens."""
    # The kernel spreads connections evenly over such sockets; a single one that all workers accept
    # from gives most of them to whichever wakes first.
    shared = socket.socket(_family(address[0]), socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    _find_the_vanished(shared)
    return shared


def _find_the_vanished(listener: socket.socket) -> None:
    """Let the kernel end connections whose other side has gone without a word.

    Those that are accepted inherit it. The direct transport finds out by itself, and sooner.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in VANISHED.items():
        if option := getattr(socket, name, None):  # not every system has all of them
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
