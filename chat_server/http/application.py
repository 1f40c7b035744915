"""Quart with one difference: an invalid Host header is answered by 400, not by 500."""

from typing import Any, NoReturn

from quart import Quart
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import BadHost
from werkzeug.routing import MapAdapter


class ChatQuart(Quart):
    """Quart that blames the client for an invalid Host header: RFC 9112, section 3.2.

    Quart itself reads the header before it can handle errors, and so logs a fault of ours.
    """

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
