"""The listening sockets: what those that are accepted inherit from them."""

import socket
import sys
from collections.abc import Callable

import pytest

from chat_server.server import sockets
from chat_server.settings import ServerSettings, Settings
from tests.rig.ports import free_port

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
            for name, value in sockets.KEEPALIVE_OPTIONS.items():
                assert accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def _settings(bind: str) -> Settings:
    return Settings(server=ServerSettings(bind=bind))


def alone(settings: Settings) -> socket.socket:
    return sockets.listen(settings)


def one_of_several(settings: Settings) -> socket.socket:
    with sockets.reserve(settings) as reserved:
        worker = sockets.share(reserved.getsockname()[:2])
    worker.listen()
    return worker


MAKERS = [alone, one_of_several]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_addresses_are_those_of_ipv4_too(
    make: Callable[[Settings], socket.socket], host: str
) -> None:
    with make(_settings(f"[::]:{free_port()}")) as listener:
        socket.create_connection((host, listener.getsockname()[1]), timeout=5).close()


@needs_ipv6
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0", "::1"])
@pytest.mark.parametrize("option", [None, socket.SO_REUSEPORT])
def test_all_addresses_are_had_or_none(
    make: Callable[[Settings], socket.socket], taken: str, option: int | None
) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET6 if ":" in taken else socket.AF_INET) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind((taken, port))
        other.listen()
        with pytest.raises(sockets.ListenError) as raised:
            make(_settings(f"[::]:{port}"))
    assert str(raised.value) == (
        f"server.bind: cannot listen on [::]:{port}: Address already in use"
    )


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("bind", ["a..b:8000", f"{'x' * 64}.example:8000", "no-such-host:8000"])
def test_a_name_that_is_no_address_is_one_line(
    make: Callable[[Settings], socket.socket], bind: str
) -> None:
    with pytest.raises(sockets.ListenError) as raised:
        make(_settings(bind))
    assert str(raised.value).startswith(f"server.bind: cannot listen on {bind}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("make", MAKERS)
def test_a_system_without_ipv6_says_so(
    make: Callable[[Settings], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ipv6(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", no_ipv6)
    with pytest.raises(sockets.ListenError, match="Address family not supported by protocol"):
        make(_settings("[::]:8000"))
