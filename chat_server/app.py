"""The whole server as a Quart application."""

import logging

from quart import Quart
from quart_cors import cors
from quart_schema import HttpSecurityScheme, Info

from . import logs
from .clock import Clock
from .extension import ChatServer
from .http import hosts, problems, requests
from .http.application import ChatQuart
from .http.openapi import Description, Provider
from .http.pages import docs_blueprint
from .http.quota import QUOTA_HEADERS
from .realtime.ports import Broker
from .settings import Settings, advice, decide_accounts, load_settings, origin_pattern
from .version import __version__

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None, *, broker: Broker | None = None, clock: Clock | None = None
) -> Quart:
    """Return the whole server as a Quart application.

    Args:
        settings: the settings; read from the files and the environment if None.
        broker: used in place of the broker of the settings.
        clock: used in place of the system's clock.

    Raises:
        SettingsError: a setting is missing, unknown or wrong.
    """
    if settings is None:
        notes: list[str] = []
        settings = load_settings(notes=notes)
        logs.configure(settings.log)
        for line in (*notes, *advice(settings)):
            logger.warning("%s", line)
    settings = decide_accounts(settings)
    app = ChatQuart("chat_server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.limits.max_message_bytes
    app.config["BODY_TIMEOUT"] = settings.http.request_timeout_seconds
    app.config["RESPONSE_TIMEOUT"] = settings.http.request_timeout_seconds
    problems.register(app)
    chat_server = ChatServer(settings, broker=broker, clock=clock)
    requests.register(app, chat_server.handshake_log, chat_server.node.numbers)
    if hosts.restricts(settings):
        hosts.register(app)
    chat_server.init_app(app)
    if settings.http.docs:
        _describe(app)
    if settings.http.allowed_origins:
        methods = {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}
        # Tokens are sent by hand, never by the browser, so credentials stay off.
        return cors(
            app,
            allow_origin=[origin_pattern(text) for text in settings.http.allowed_origins],
            allow_headers=[
                *("Authorization", "Content-Type", requests.REQUEST_ID_HEADER),
                *("traceparent", "tracestate"),
            ],
            allow_methods=sorted(methods - {"HEAD", "OPTIONS"}),
            expose_headers=[requests.REQUEST_ID_HEADER, "Retry-After", *QUOTA_HEADERS],
        )
    return app


def _describe(app: Quart) -> None:
    Description(
        app,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title="chat_server", version=__version__),
        security_schemes={"bearer": HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
        security=[{"bearer": []}],
        conversion_preference="msgspec",
        openapi_provider_class=Provider,
    )
    app.register_blueprint(docs_blueprint())
