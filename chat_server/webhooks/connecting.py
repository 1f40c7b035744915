"""Connects only to addresses that the rules in `addresses` have accepted.

Each connection looks its name up once, and uses one of exactly the addresses that were checked. If
the next look-up leads elsewhere (DNS rebinding), the next connection checks the new addresses. TLS
and `Host` still carry the name.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import httpcore

from .addresses import Address, is_public, parse_address

MAX_ADDRESSES: Final = 4
"""Addresses of a name tried at most."""

LookUp = Callable[[str, int], list[str]]
"""Returns the addresses of a host; blocks, and raises OSError."""


class ForbiddenAddress(Exception):
    """The webhook may not connect to any address of a host."""


def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """The network backend of a webhook.

    Args:
        seconds: time for all addresses of a name together.
        allow_private: True allows every address.
        look_up: replaces the system's resolver.
    """

    def __init__(
        self, seconds: float, *, allow_private: bool = False, look_up: LookUp = look_up
    ) -> None:
        self._seconds = seconds
        self._allow_private = allow_private
        self._look_up = look_up
        self._inner = httpcore.AnyIOBackend()
        self._lookup: asyncio.Future[list[str]] | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that is allowed and answers.

        Raises:
            ForbiddenAddress: no address of the host is allowed.
            OSError: the name cannot be resolved.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        addresses = await self._allowed(host, port)
        # An address that swallows packets leaves time for the other addresses.
        share = self._seconds / (len(addresses) + 1)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _allowed(self, host: str, port: int) -> list[Address]:
        literal = parse_address(host.strip("[]"))
        if literal is not None:
            found = [literal]
        else:
            found = list(filter(None, map(parse_address, await self._resolve(host, port))))
        allowed = [address for address in found if self._allow_private or is_public(address)]
        if not allowed:
            leads = f" leads to {found[0]}, which" if found and literal is None else ""
            raise ForbiddenAddress(f"{host}{leads} is no public address, and others are refused")
        return allowed[:MAX_ADDRESSES]

    async def _resolve(self, host: str, port: int) -> list[str]:
        """Look a name up in a separate thread, one look-up at a time.

        The loop's own threads are few, and other code needs them: an unresponsive name server must
        not occupy them. A caller that gives up leaves its look-up to the next caller.
        """
        if self._lookup is None or self._lookup.done():
            self._lookup = self._start_lookup(host, port)
        return await asyncio.shield(self._lookup)

    def _start_lookup(self, host: str, port: int) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[str]] = loop.create_future()
        # Ignore the failure of a look-up without a waiter.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

        def resolve(found: list[str], failure: Exception | None) -> None:
            if failure is not None and not future.done():
                future.set_exception(failure)
            elif not future.done():
                future.set_result(found)

        def work() -> None:
            found: list[str] = []
            failure: Exception | None = None
            try:
                found = self._look_up(host, port)
            except (OSError, UnicodeError) as error:
                failure = OSError(f"{host} cannot be resolved: {error}")
            except Exception as error:
                failure = error
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(resolve, found, failure)

        # A daemon, so the process need not wait for the thread.
        threading.Thread(target=work, name="webhook-lookup", daemon=True).start()
        return future
