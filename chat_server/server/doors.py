"""Decides whether a worker uses the front door, or passes every request to Quart."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from quart import Quart
from quart.signals import got_request_exception, request_finished, request_started
from werkzeug.exceptions import HTTPException

from ..extension import ChatServer
from ..http.application import ChatQuart
from ..http.pages import File
from ..protocol.batch import BATCH_MESSAGES, BATCH_PATH
from ..settings import Settings
from .front_door import FrontDoor
from .hot_requests import HotRequests
from .hypercorn import HttpConnection

logger = logging.getLogger(__name__)

_OURS = ("chat_server.", "quart.", "quart_cors", "quart_schema")
_TOPIC_RULE = re.compile(r"/api/topics/.*(/messages|>)")
"""In our routes the fixed parts of such a route come before `<path:topic>`."""
_OVERRIDABLE = ("request_class", "response_class", "session_interface")
_SIGNALS = (request_started, request_finished, got_request_exception)


def choose_door(app: Quart) -> Callable[..., HttpConnection]:
    """Return the factory of a worker's connections; its arguments are those of `HttpConnection`.

    Args:
        app: an application with a `ChatServer`.
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
    largest = _largest_bodies(app, chat.settings)
    # A request with an `Origin` is not hot. For other requests quart-cors adds only this header.
    has_cors = any(_module(each) == "quart_cors" for each in _functions(app.after_request_funcs))
    vary = "Origin" if has_cors else ""
    return partial(FrontDoor, HotRequests(chat, vary, largest, _page_files(app, chat)))


def what_would_be_passed_by(app: Quart) -> list[str]:
    """Return the parts of an application that handle requests and would miss hot requests.

    Args:
        app: an application with a `ChatServer`, after its start, because the start may add parts.
    """
    found = ["middleware around asgi_app"] if "asgi_app" in vars(app) else []
    found += [f"a {name} of its own" for name in _OVERRIDABLE if name in vars(app)]
    if type(app) not in (Quart, ChatQuart):
        found.append(f"a class of its own, {type(app).__name__}")
    if app.url_map.host_matching or app.config["SERVER_NAME"]:
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
        "url_value_preprocessor": app.url_value_preprocessors,
    }
    for name, table in tables.items():
        if any(not _module(each).startswith(_OURS) for each in _functions(table)):
            found.append(f"functions of {name}")
    return found + [f"the route {each}" for each in _routes_in_front(app)]


def _largest_bodies(app: Quart, settings: Settings) -> tuple[int, int]:
    """Return the bytes of the largest message and the largest batch, within Quart's own limit."""
    one = settings.limits.max_message_bytes
    many = BATCH_MESSAGES * one
    if (most := app.config["MAX_CONTENT_LENGTH"]) is not None:
        one = min(one, most)
        many = min(many, most * BATCH_MESSAGES if isinstance(app, ChatQuart) else most)
    return one, many


def _page_files(app: Quart, chat: ChatServer) -> dict[str, File]:
    """Return the page's files whose paths lead to our routes, not to routes of the application."""
    routes = app.url_map.bind("localhost")

    def is_ours(path: str) -> bool:
        try:
            endpoint, _ = routes.match(path, "GET")
        except HTTPException:  # our route is for another host
            return False
        return _module(app.view_functions.get(endpoint)).startswith("chat_server.")

    return {path: file for path, file in chat.page_files.items() if is_ours(path)}


def _routes_in_front(app: Quart) -> list[str]:
    """Return the application's routes that may hide our routes of hot requests."""
    return [
        rule.rule
        for rule in app.url_map.iter_rules()
        if (rule.websocket if rule.rule == "/ws" else "POST" in (rule.methods or ["POST"]))
        and (rule.rule in ("/ws", BATCH_PATH) or _TOPIC_RULE.fullmatch(rule.rule))
        and not _module(app.view_functions.get(rule.endpoint)).startswith("chat_server.")
    ]


def _functions(table: Mapping[Any, Iterable[Any]]) -> list[Any]:
    return [each for functions in table.values() for each in functions]


def _module(function: Any) -> str:
    return getattr(getattr(function, "func", function), "__module__", None) or ""
