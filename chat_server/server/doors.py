"""Decides by which door requests come in: the front door, or Quart's alone."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from quart import Quart
from quart.signals import got_request_exception, request_finished, request_started

from ..app import ChatServer
from ..http.application import ChatQuart
from .front_door import FrontDoor
from .hot_requests import HotRequests
from .hypercorn import HttpConnection

logger = logging.getLogger(__name__)

_OURS = ("chat_server.", "quart.", "quart_cors", "quart_schema")
_SIGNALS = (request_started, request_finished, got_request_exception)


def choose_door(app: Quart) -> Callable[..., HttpConnection]:
    """Return what makes the connections of a worker, given the arguments of `HttpConnection`.

    Args:
        app: an application with a `ChatServer` in it.
    """
    chat: ChatServer = app.extensions["chat_server"]
    choice = chat.settings.server.front_door
    passed_by = what_would_be_passed_by(app)
    if choice == "quart" or (choice == "auto" and passed_by):
        if choice == "auto":
            logger.info(
                "every request goes through Quart, because the application has %s; see"
                " server.front_door in docs/configuration.md",
                ", ".join(passed_by),
            )
        return HttpConnection
    return partial(FrontDoor, HotRequests(chat))


def what_would_be_passed_by(app: Quart) -> list[str]:
    """Return what of an application sees requests and would not see those of the front door."""
    found = []
    if type(app) not in (Quart, ChatQuart):
        found.append(f"a class of its own, {type(app).__name__}")
    if "asgi_app" in vars(app):
        found.append("middleware around asgi_app")
    if app.url_map.host_matching:
        found.append("routes by host")
    if any(signal.receivers for signal in _SIGNALS):
        found.append("receivers of Quart's signals")
    tables: dict[str, Any] = {
        "before_request": app.before_request_funcs,
        "before_websocket": app.before_websocket_funcs,
        "after_request": app.after_request_funcs,
        "after_websocket": app.after_websocket_funcs,
        "teardown_request": app.teardown_request_funcs,
        "teardown_websocket": app.teardown_websocket_funcs,
    }
    for name, table in tables.items():
        functions = [each for functions in table.values() for each in functions]
        modules = (getattr(each, "func", each).__module__ for each in functions)
        if any(not module.startswith(_OURS) for module in modules):
            found.append(f"functions of {name}")
    return found
