"""The reference of all settings: keys, comments in default.toml, JSON Schema."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import Struct

from .loading import config_directory
from .schema import Settings, Webhook, masked

DOCUMENTED: Final = {"namespaces": "default", "webhooks": "NAME", "accounts.roles": "member"}
"""By the key of a group with members named by users: the name of all members in default.toml."""

DEFAULT: Final = "default"
"""The source of values that equal default.toml."""

_GROUP = re.compile(r"\[([\w.]+)\]")
_KEY = re.compile(r"(\w+) = ")


def values(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every setting, in the order of the schema."""
    yield from _flattened(msgspec.to_builtins(settings), "")


def shown(key: str, value: Any) -> Any:
    """Return a value without secrets, fit to be shown."""
    group, _, name = key.rpartition(".")
    hidden = masked(name, value)
    if group.startswith("webhooks.") and isinstance(hidden, str) and name == "url":
        # In many services the path itself is the credential.
        return re.sub(r"^(\w+://[^/]*/).+", r"\1********", hidden, flags=re.DOTALL)
    return list(hidden) if isinstance(hidden, tuple) else hidden


def source_of(key: str, sources: Mapping[str, str]) -> str:
    """Return the source of a value, given the sources from `load_settings`."""
    source = sources.get(key, DEFAULT)
    return DEFAULT if source == str(config_directory() / "default.toml") else source


def hides(key: str, value: Any) -> bool:
    """Return whether `shown` leaves anything out."""
    return bool(shown(key, value) != (list(value) if isinstance(value, tuple) else value))


def comments() -> dict[str, str]:
    """Return default.toml's comment on each key and group, among them `webhooks.NAME.url`."""
    found: dict[str, str] = {}
    group, last = "", ""
    pending: list[str] = []
    template = False
    for line in default_toml().splitlines():
        if template or re.fullmatch(rf"# {_GROUP.pattern}", line):
            template, line = True, line.removeprefix("#").removeprefix(" ")
        if match := _GROUP.fullmatch(line):
            group, last = f"{match[1]}.", " ".join(pending)
            found[match[1]] = last
            pending = []
        elif match := _KEY.match(line):
            # Several keys may stand below one comment.
            last = " ".join(pending) or last
            found[f"{group}{match[1]}"] = last
            pending = []
        elif line.startswith("#"):
            pending.append(line.removeprefix("#").strip())
        else:
            pending = []
    return found


def default_toml() -> str:
    """Return the text of default.toml."""
    return (config_directory() / "default.toml").read_text("utf-8")


def defaults() -> Iterator[tuple[str, Any]]:
    """Yield key and default of every setting in default.toml."""
    for key, value in _flattened(msgspec.to_builtins(Settings(webhooks={"NAME": Webhook()})), ""):
        if documented_key(key) == key:
            yield key, value


def documented_key(key: str) -> str:
    """Return the key under which default.toml documents `key`, without names chosen by the user."""
    for group, name in DOCUMENTED.items():
        if key.startswith(f"{group}."):
            _, _, rest = key.removeprefix(f"{group}.").partition(".")
            return ".".join(filter(None, (group, name, rest)))
    return key


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a file of settings, with the comments of default.toml."""
    schema = msgspec.json.schema(Settings)
    said = comments()
    for kind, group in _groups(Settings, ""):
        definition = schema["$defs"][kind.__name__]
        definition["description"] = said.get(group) or _first_line(kind)
        for name, field in definition["properties"].items():
            if text := said.get(f"{group}.{name}" if group else name):
                field["description"] = text
            if pattern := field.get("pattern"):
                # JSON Schema has the patterns of JavaScript, without \Z.
                field["pattern"] = pattern.replace(r"\Z", "$")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of chat_server",
        **schema,
    }


def _flattened(value: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, child in value.items():
        if isinstance(child, Mapping):
            yield from _flattened(child, f"{above}{name}.")
        else:
            yield f"{above}{name}", child


def _groups(kind: Any, key: str) -> Iterator[tuple[Any, str]]:
    """Yield each struct of the schema, and the key under which default.toml documents it."""
    yield kind, key
    for field in msgspec.structs.fields(kind):
        path = f"{key}.{field.name}" if key else field.name
        if get_origin(field.type) is dict:
            yield from _groups(get_args(field.type)[1], f"{path}.{DOCUMENTED[path]}")
        elif isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _groups(field.type, path)


def _first_line(kind: Any) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
