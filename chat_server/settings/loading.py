"""Reads the settings from files, the environment and flags."""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from .rules import check, refuse
from .schema import Settings

_DESCRIPTIONS = {str: "text", bool: "true or false", tuple: "a list of strings"}


def load_settings(
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings from all their sources, later ones winning.

    They are config/default.toml, config/<environment>.toml, `config_file`, the `CHAT_` variables
    and the flags. The environment itself is chosen by any of these but its own file.

    Args:
        config_file: a TOML file in the form of config/default.toml.
        environ: environment variables, those of the process if None; `CHAT_REDIS__URL` sets
            `redis.url`, lists are given as `a,b` or as JSON.
        flags: values by dotted key; None stands for a flag that was not given.

    Raises:
        SettingsError: a source cannot be read, has an unknown key or a wrong value, or the whole
            does not pass `check`.
    """
    directory = _config_directory()
    overrides = _Layers()
    if config_file is not None:
        overrides.read(config_file)
    for name, text in sorted((os.environ if environ is None else environ).items()):
        if name.startswith("CHAT_"):
            path = name.removeprefix("CHAT_").lower().split("__")
            overrides.add(_nest(path, text), f"the environment variable {name}", text=True)
    overrides.add_flags(flags or {})
    layers = _Layers()
    layers.read(directory / "default.toml")
    environment = {**layers.values, **overrides.values}.get("environment", "development")
    layers.read(directory / f"{environment}.toml")
    layers.update(overrides)
    if layers.values.setdefault("environment", environment) != environment:
        file = layers.sources["environment"]
        raise refuse("environment", "must not be changed by the file it chose", file)
    settings = msgspec.convert(layers.values, Settings)
    check(settings, layers.sources)
    return settings


def with_flags(settings: Settings, flags: Mapping[str, object]) -> Settings:
    """Return `settings` with some of them replaced.

    Args:
        settings: as loaded or built.
        flags: values by dotted key; None stands for a flag that was not given.

    Raises:
        SettingsError: as `load_settings`.
    """
    layers = _Layers()
    layers.add(msgspec.to_builtins(settings), "the application")
    layers.add_flags(flags)
    result = msgspec.convert(layers.values, Settings)
    check(result, layers.sources)
    return result


class _Layers:
    """Nested values of several sources, each checked against the schema where it enters."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}

    def read(self, file: Path) -> None:
        """Add a TOML file."""
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise refuse(str(file), f"cannot be read: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise refuse(str(file), f"is not valid TOML: {error}") from None
        self.add(table, str(file))

    def add(self, table: dict[str, Any], source: str, *, text: bool = False) -> None:
        """Add nested values; with `text`, strings are parsed into the type that is wanted."""
        self._merge(Settings, table, self.values, (), source, text)

    def add_flags(self, flags: Mapping[str, object]) -> None:
        """Add what was given on the command line, by dotted key."""
        for key, value in flags.items():
            if value is not None:
                self.add(_nest(key.split("."), value), "the command line", text=True)

    def update(self, other: "_Layers") -> None:
        """Add what `other` has, together with its sources."""
        self.add(other.values, "")
        self.sources.update(other.sources)

    def _merge(
        self,
        kind: Any,
        table: dict[str, Any],
        into: dict[str, Any],
        above: tuple[str, ...],
        source: str,
        text: bool,
    ) -> None:
        for name, value in table.items():
            path = (*above, name)
            key = ".".join(path)
            child = _child(kind, name)
            if child is None:
                raise refuse(key, f"unknown key{_suggestion(kind, path)}", source)
            if not _is_group(child):
                into[name] = _converted(key, value, child, source, text)
                self.sources[key] = source
            elif isinstance(value, dict):
                self._merge(child, value, into.setdefault(name, {}), path, source, text)
            else:
                raise refuse(key, "is a group of keys, not a value", source)


def _config_directory() -> Path:
    here = Path(__file__).resolve().parent.parent
    packaged = here / "config"
    return packaged if packaged.is_dir() else here.parent / "config"


def _nest(path: list[str], value: object) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value if isinstance(value, dict) else {}


def _children(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def _child(kind: Any, name: str) -> Any:
    return get_args(kind)[1] if get_origin(kind) is dict else _children(kind).get(name)


def _is_group(kind: Any) -> bool:
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Struct))


def _suggestion(kind: Any, path: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(path[-1], _children(kind), n=1)
    return f"; did you mean {'.'.join((*path[:-1], close[0]))}?" if close else ""


def _converted(key: str, value: object, kind: Any, source: str, text: bool) -> Any:
    try:
        if isinstance(value, str):
            value.encode()  # bytes of the environment that are not UTF-8 come as lone surrogates
            if text and _bare(kind) is tuple:
                value = _listed(value)
        return msgspec.convert(value, kind, strict=not text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Not the library's words: they would say `got str` of every environment variable.
        raise refuse(key, f"must be {_described(kind)}", source) from None


def _listed(text: str) -> Any:
    if text.lstrip().startswith("["):
        return msgspec.json.decode(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _bare(kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) or kind


def _described(kind: Any) -> str:
    for meta in getattr(kind, "__metadata__", ()):
        return str(meta.description)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return _DESCRIPTIONS[_bare(kind)]
