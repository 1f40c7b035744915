"""Fetches a URL in a separate thread, which ends in time even if the other side is hostile.

The loop's executor is not used: a server that sends a byte now and then would occupy its threads
and keep the process from ending.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Generic, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from ..version import __version__

HEADERS = {
    "Accept": "application/jwk-set+json, application/json, */*;q=0.1",
    # Web application firewalls refuse the name Python-urllib.
    "User-Agent": f"chat_server/{__version__}",
}

POLL_SECONDS = 0.02
"""Seconds between two checks whether the thread of an earlier download has ended."""

Result = TypeVar("Result")


class FetchError(Exception):
    """The URL gave no usable answer; the message has the reason."""


class Fetcher(Generic[Result]):
    """GETs an http or https URL; redirects are not followed.

    Args:
        url: the http or https address.
        parse: called in the thread with the body; raises ValueError for a body that is not valid.
        max_bytes: the longest accepted body.
    """

    def __init__(self, url: str, parse: Callable[[bytes], Result], *, max_bytes: int) -> None:
        self._url = url
        self._parse = parse
        self._max_bytes = max_bytes
        self._download: _Download | None = None

    async def fetch(self, *, seconds: float) -> Result:
        """Return the parsed body.

        Args:
            seconds: the limit of the whole download. Then the connection is cut and the thread
                ends, unless the system is still resolving the host's name.

        Raises:
            FetchError: the body does not come in time, is too long, or is not valid.
        """
        await self._one_at_a_time(seconds)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()
        download = self._download = _Download(self._url, seconds, self._max_bytes)

        def resolve(result: Result | None, error: Exception | None) -> None:
            if done.done():
                return  # `fetch` has given up
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result: Result | None = None
            error: Exception | None = None
            try:
                result = self._parse(download.run())
            except ValueError as fault:
                error = FetchError(f"the answer is no key set: {fault}")
            except Exception as fault:
                error = fault
            download.ended = True
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(resolve, result, error)

        # A daemon thread, so that the process need not wait for its end.
        thread = threading.Thread(target=work, name="jwks-fetch", daemon=True)
        try:
            thread.start()
            async with asyncio.timeout(seconds):
                return await done
        except TimeoutError:
            raise FetchError("no answer in time") from None
        finally:
            download.cut()

    async def _one_at_a_time(self, seconds: float) -> None:
        # A cut thread ends within milliseconds, unless it is resolving a name. The end is polled
        # and not awaited, because the loop that started the thread may be closed.
        try:
            async with asyncio.timeout(seconds):
                while self._download is not None and not self._download.ended:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise FetchError("the host's name is still being looked up") from None


class _Download:
    """One GET, which another thread can abort."""

    def __init__(self, url: str, seconds: float, max_bytes: int) -> None:
        self._url = url
        self._seconds = seconds
        self._max_bytes = max_bytes
        self.ended = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def run(self) -> bytes:
        """Return the body.

        Raises:
            FetchError: there is no body, or the body is too long.
        """
        opener = OpenerDirector()
        # Not `build_opener`, which would add handlers for files, FTP, data URLs and redirects.
        for handler in (
            ProxyHandler(),
            UnknownHandler(),
            _Http(self),
            _Https(self),
            HTTPErrorProcessor(),
            HTTPDefaultErrorHandler(),
        ):
            opener.add_handler(handler)
        body = bytearray()
        request = Request(self._url, headers=HEADERS)  # noqa: S310  (the opener has no handler for other schemes)
        host = request.host

        def failed(reason: str) -> FetchError:
            proxied = f" (through the proxy {request.host} of the environment)"
            return FetchError(reason + (proxied if request.host != host else ""))

        try:
            with opener.open(request, timeout=self._seconds) as response:
                while chunk := response.read1(self._max_bytes):
                    body += chunk
                    if len(body) > self._max_bytes:
                        raise FetchError(f"the answer is longer than {self._max_bytes} bytes")
        except HTTPError as error:
            error.close()
            raise failed(f"the answer is HTTP {error.code}") from None
        except URLError as error:
            raise failed(str(error.reason)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise failed(str(error) or type(error).__name__) from None
        finally:
            self.cut()
        return bytes(body)

    def cut(self) -> None:
        """Abort the download: the thread finds the connection closed. May be repeated."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with suppress(OSError):  # not connected any more
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()
                self._socket = None

    def connect(self, *args: Any, **kwargs: Any) -> socket.socket:
        """Connect like `socket.create_connection`, and keep the socket for `cut`."""
        connection = socket.create_connection(*args, **kwargs)
        with self._lock:
            if self._is_cut:
                connection.close()
                raise TimeoutError("no answer in time")
            # A second handle: TLS takes over the first one, and a handshake can be slow as well.
            self._socket = connection.dup()
        return connection

    def connection(self, kind: type[HTTPConnection], *args: Any, **kwargs: Any) -> HTTPConnection:
        """Return an HTTP connection for urllib whose socket `connect` opens."""
        connection = kind(*args, **kwargs)
        connection._create_connection = self.connect  # type: ignore[attr-defined]
        return connection


class _Http(HTTPHandler):
    def __init__(self, download: _Download) -> None:
        super().__init__()
        self._download = download

    def http_open(self, req: Request) -> Any:
        def connect(*args: Any, **kwargs: Any) -> HTTPConnection:
            return self._download.connection(HTTPConnection, *args, **kwargs)

        return self.do_open(connect, req)


class _Https(HTTPSHandler):
    def __init__(self, download: _Download) -> None:
        super().__init__()
        self._download = download

    def https_open(self, req: Request) -> Any:
        def connect(*args: Any, **kwargs: Any) -> HTTPConnection:
            return self._download.connection(HTTPSConnection, *args, **kwargs)

        return self.do_open(connect, req)
