"""Quart with two differences: a batch may be larger, and an invalid Host header is a 400."""

from typing import Any, NoReturn

from quart import Quart, Request
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import BadHost
from werkzeug.routing import MapAdapter

from ..protocol.batch import BATCH_MESSAGES, BATCH_PATH


class _Request(Request):
    """A request with a higher limit of the body for batches.

    MAX_CONTENT_LENGTH holds for all routes, and the body begins to come before Quart has found the
    route.
    """

    def __init__(
        self,
        method: str,
        scheme: str,
        path: str,
        *args: Any,
        max_content_length: int | None = None,
        **options: Any,
    ) -> None:
        if path == BATCH_PATH and max_content_length is not None:
            max_content_length *= BATCH_MESSAGES
        options["max_content_length"] = max_content_length
        super().__init__(method, scheme, path, *args, **options)


class ChatQuart(Quart):
    """Quart that answers 400 to an invalid Host header: RFC 9112, section 3.2.

    Quart itself reads the header before its error handlers work, and so logs a server error.
    """

    request_class = _Request

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Return the adapter that finds the route of a request."""
        try:
            return super().create_url_adapter(request)
        except BadHost:
            return _Nowhere(self.url_map, "", "/", None, "http", "/", "GET")


class _Nowhere(MapAdapter):
    """An adapter that raises `BadHost` for every request."""

    def match(self, *_: Any, **__: Any) -> NoReturn:
        raise BadHost
