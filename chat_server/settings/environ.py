"""Tells our environment variables from those of others.

Kubernetes and Docker name variables after other things that are called `chat`: a Service
`chat-server` puts CHAT_SERVER_PORT and CHAT_SERVER_SERVICE_HOST into every container beside it.
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
"""Ends the name of a variable that names a file with the value, as Docker gives secrets."""

_ENVIRONMENT = f"{PREFIX}ENVIRONMENT"

# A Service may be called `chat--x`. Its name ends in a letter or digit, unlike CHAT_SERVER_ in
# CHAT_SERVER__PORT, which is a mistake to be told.
_SERVICE_LINK = re.compile(
    r".*[A-Z0-9]_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.DOTALL,
)
# Docker's links carry the variables of the container that is called so.
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
