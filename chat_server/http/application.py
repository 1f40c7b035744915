"""The Quart application of our own, which differs from Quart in one point."""

from typing import Any, NoReturn

from quart import Quart
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import BadHost
from werkzeug.routing import MapAdapter


class Application(Quart):
    """Quart, but a Host header that is none is the client's fault: RFC 9112 section 3.2.

    Quart finds it before it can handle errors, and so logs a fault of ours and answers 500.
    """

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Return what finds a request's route."""
        try:
            return super().create_url_adapter(request)
        except BadHost:
            return _Nowhere(self.url_map, "", "/", None, "http", "/", "GET")


class _Nowhere(MapAdapter):
    """Finds no route, and says why."""

    def match(self, *_: Any, **__: Any) -> NoReturn:
        raise BadHost
