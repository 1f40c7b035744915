"""The listening sockets: what those that are accepted inherit from them."""

import socket
import sys
from collections.abc import Callable

import pytest

from chat_server.server import sockets
from chat_server.settings import ServerSettings, Settings

ANYWHERE = Settings(server=ServerSettings(bind="127.0.0.1:0"))


def shared() -> socket.socket:
    with sockets.reserve(ANYWHERE) as reserved:
        return sockets.share(reserved.getsockname()[:2])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
@pytest.mark.parametrize("make", [lambda: sockets.listen(ANYWHERE), shared])
def test_the_kernel_finds_out_who_has_vanished(make: Callable[[], socket.socket]) -> None:
    with make() as listener:
        listener.listen()
        with (
            socket.create_connection(listener.getsockname()) as _,
            listener.accept()[0] as accepted,
        ):
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for name, value in sockets.VANISHED.items():
                assert accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
