"""A real-time chat and pub/sub server: WebSocket first, Redis between workers.

The names below are the public API of the server, `chat_server.client` is the Python client's API.
All other names may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import hooks
    from .accounts.access import Identity
    from .app import create_app
    from .extension import ChatServer
    from .outbox import Outbox
    from .protocol import errors
    from .protocol.messages import User
    from .settings import Settings, SettingsError, load_settings

__all__ = [
    "ChatServer",
    "Identity",
    "Outbox",
    "Settings",
    "SettingsError",
    "User",
    "__version__",
    "create_app",
    "errors",
    "hooks",
    "load_settings",
]

_HOMES = {
    "ChatServer": "extension",
    "Identity": "accounts.access",
    "Outbox": "outbox",
    "create_app": "app",
    "errors": "protocol.errors",
    "hooks": "hooks",
    "User": "protocol.messages",
    "Settings": "settings",
    "SettingsError": "settings",
    "load_settings": "settings",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that the client does not wait for the server.

    Raises:
        AttributeError: the name is not public.
        ImportError: the server is not installed, only the client.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}"
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise ImportError(f"{name}: only the client is installed: pip install quart-chat") from None
    value = module if name in ("errors", "hooks") else getattr(module, name)
    globals()[name] = value
    return value
