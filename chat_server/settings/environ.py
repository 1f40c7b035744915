"""Tells the environment variables of this server from foreign ones.

Kubernetes and Docker name variables after services and containers, which may be called `chat`: a
Service `chat-server` puts CHAT_SERVER_PORT and CHAT_SERVER_SERVICE_HOST into its neighbours.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_origin

from msgspec import Struct
from msgspec.structs import fields

from .schema import Namespace, Settings

PREFIX = "CHAT_"

FILE_SUFFIX = "__FILE"
"""Suffix of variables with the name of a file that holds the value, as for Docker secrets."""

_ENVIRONMENT = f"{PREFIX}ENVIRONMENT"

# A Service may be called `chat--x`. Names of Services end in a letter or digit, unlike CHAT_SERVER_
# in CHAT_SERVER__PORT, a mistake to report.
_SERVICE_LINK = re.compile(
    r".*[A-Z0-9]_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.DOTALL,
)
# Docker's links carry the variables of a container called `chat`.
_CONTAINER_LINK = re.compile(r"CHAT_([A-Z0-9_]+_)?ENV_.*", re.DOTALL)
_CLOSE = 0.9
"""Similarity, of at most 1, from which on another name counts as a misspelt setting."""


def variable_of(key: str) -> str:
    """Return the variable that sets a dotted key."""
    return PREFIX + key.upper().replace(".", "__")


def is_setting(name: str) -> bool:
    """Return whether the variable `name` is meant as a setting, and so must be a known key."""
    if name == _ENVIRONMENT:
        return True
    return name.startswith(PREFIX) and "__" in name and not _is_link(name)


def nearest_setting(name: str) -> str | None:
    """Return the setting's variable that `name` resembles, or None."""
    if not name.startswith(PREFIX) or is_setting(name) or _is_link(name):
        return None
    meant = {variable.replace("__", "_"): variable for variable in _variables(Settings, PREFIX)}
    namespaced = re.fullmatch(r"CHAT_NAMESPACES_(.+)_(" + "|".join(_namespace_keys()) + ")", name)
    if namespaced is not None:
        return f"CHAT_NAMESPACES__{namespaced[1]}__{namespaced[2]}"
    close = difflib.get_close_matches(name, meant, n=1, cutoff=_CLOSE)
    return meant[close[0]] if close else None


def _is_link(name: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or _CONTAINER_LINK.fullmatch(name))


def _variables(kind: Any, prefix: str) -> Iterator[str]:
    for field in fields(kind):
        name = f"{prefix}{field.name.upper()}"
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _variables(field.type, f"{name}__")
        elif get_origin(field.type) is not dict:
            yield name


def _namespace_keys() -> list[str]:
    return [field.name.upper() for field in fields(Namespace)]
