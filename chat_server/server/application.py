"""The application of a worker: our own, or an application with a `ChatServer`."""

import importlib
import os
import sys

from quart import Quart

from ..app import create_app
from ..settings import Settings, SettingsError


def make_application(settings: Settings, target: str = "") -> Quart:
    """Return the application to serve.

    Args:
        settings: the settings of our own application.
        target: MODULE:NAME of another application; this application has its own settings.

    Raises:
        SettingsError: the application does not exist, or a key file cannot be read.
    """
    return load_application(target) if target else create_app(settings)


def load_application(target: str) -> Quart:
    """Import an application that embeds a `ChatServer`.

    Args:
        target: MODULE:NAME; Python searches the working directory first.

    Raises:
        SettingsError: the module does not exist, or the name is not an application with a
            `ChatServer`.
    """
    module_name, _, name = target.partition(":")
    if not (module_name and name.isidentifier()):
        raise SettingsError(f"--app: must be MODULE:NAME, as in orders:app, not {target!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # The module exists, but one of its imports does not.
        raise SettingsError(f"--app: there is no module {error.name!r}") from None
    app = getattr(module, name, None)
    if not isinstance(app, Quart):
        raise SettingsError(f"--app: {name!r} in {module_name!r} is no Quart application")
    if "chat_server" not in app.extensions:
        raise SettingsError(f"--app: {target} embeds no ChatServer: call its init_app(app)")
    return app


def application_settings(app: Quart) -> Settings:
    """Return the settings of the `ChatServer` that `app` embeds."""
    settings: Settings = app.extensions["chat_server"].settings
    return settings
