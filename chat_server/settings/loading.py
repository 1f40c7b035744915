"""Reads the settings from files, the environment and flags."""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from ..files import read_file
from .environ import FILE_SUFFIX, PREFIX, is_setting, nearest_setting
from .rules import mistake, problems
from .schema import Settings, SettingsError

_LINE_ENDS = "\r\n\ufeff"
"""Line ends and the byte order mark, left by tools around a value in a file."""

MAX_VALUE_BYTES = 65_536
"""Bytes of the largest file for `CHAT_…__FILE`; secrets and lists are shorter."""

_DESCRIPTIONS = {str: "text", bool: "true or false", tuple: "a list of strings"}


def load_settings(
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    notes: list[str] | None = None,
    sources: dict[str, str] | None = None,
) -> Settings:
    """Read the settings from all sources; a later source overrides an earlier one.

    The sources are config/default.toml, config/<environment>.toml, `config_file`, the `CHAT_`
    variables and the flags. The environment can be chosen in each source but its own file.

    Args:
        config_file: a TOML file in the form of config/default.toml.
        environ: environment variables, by default of the process; `CHAT_REDIS__URL` sets
            `redis.url`, lists are given as `a,b` or as JSON, and `CHAT_REDIS__URL__FILE` names a
            file that holds the value.
        flags: values by dotted key; None means that a flag was not given.
        notes: gets a line for each value that was corrected.
        sources: gets the source of each value by dotted key, except for defaults.

    Raises:
        SettingsError: a source cannot be read, has unknown keys or wrong values, or the settings do
            not pass `check`; the error has a line for each mistake.
    """
    notes = [] if notes is None else notes
    overrides = _Layers(notes)
    if config_file is not None:
        overrides.read(config_file)
    overrides.add_environ(os.environ if environ is None else environ)
    overrides.add_flags(flags or {})
    layers = _Layers(notes)
    directory = config_directory()
    layers.read(directory / "default.toml")
    chosen = {**layers.values, **overrides.values}.get("environment", "development")
    layers.read(directory / f"{chosen}.toml")
    layers.update(overrides)
    layers.complete_namespaces(str(directory / f"{chosen}.toml"))
    if layers.values.setdefault("environment", chosen) != chosen:
        layers.refuse("environment", "must not be changed by the file it chose")
    if sources is not None:
        sources.update(layers.sources)
    return layers.settings()


def with_flags(settings: Settings, flags: Mapping[str, object]) -> Settings:
    """Return `settings` with some of them replaced.

    Args:
        settings: as loaded or built.
        flags: values by dotted key; None stands for a flag that was not given.

    Raises:
        SettingsError: as `load_settings`.
    """
    layers = _Layers([])
    layers.add(msgspec.to_builtins(settings), "the application")
    layers.add_flags(flags)
    return layers.settings()


class _Layers:
    """The merged values of several sources, each checked against the schema as it is added."""

    def __init__(self, notes: list[str]) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.mistakes: list[tuple[str, str]] = []
        """Pairs of a dotted key and the mistake in its value."""
        self.unread = False
        """Whether a source is missing, so that the whole cannot be judged."""
        self._notes = notes

    def refuse(self, key: str, reason: str, source: str | None = None) -> None:
        """Record a mistake; reading goes on to find others."""
        source = self._source_of(key) if source is None else source
        self.mistakes.append((key, mistake(key, reason, source)))

    def _source_of(self, key: str) -> str:
        """Return the source of a value, or of a group's first value."""
        inside = (of for name, of in self.sources.items() if name.startswith(f"{key}."))
        return self.sources.get(key) or next(inside, "")

    def settings(self) -> Settings:
        """Return the settings of all layers.

        Raises:
            SettingsError: a layer has a mistake, or the settings do not pass `check`.
        """
        settings = msgspec.convert(self.values, Settings)
        wrong = {key for key, _ in self.mistakes}
        # The environment decides which rules hold.
        if not self.unread and "environment" not in wrong:
            for key, reason in problems(settings):
                if key not in wrong:
                    self.refuse(key, reason)
        if self.mistakes:
            raise SettingsError(
                *dict.fromkeys(line for _, line in self.mistakes),
                as_json="log.format" not in wrong and settings.log.format == "json",
            )
        return settings

    def read(self, file: Path) -> None:
        """Add a TOML file."""
        try:
            # Editors on Windows begin a file with a byte order mark.
            table = tomllib.loads(read_file(file).decode("utf-8-sig"))
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        except UnicodeDecodeError:
            reason = "is not valid TOML: it is not encoded in UTF-8"
        except (ValueError, RecursionError) as error:
            reason = f"is not valid TOML: {error}"
        else:
            self.add(table, str(file))
            return
        self.refuse(str(file), reason, "")
        self.unread = True

    def add_environ(self, environ: Mapping[str, str]) -> None:
        """Add the `CHAT_` variables."""
        for name, text in sorted(environ.items()):
            if is_setting(name):
                self._add_variable(name, text, environ)
            elif meant := nearest_setting(name):
                underscores = ", with two underscores" if "__" in meant else ""
                self.refuse(name, f"did you mean {meant}{underscores}?", "")

    def _add_variable(self, name: str, text: str, environ: Mapping[str, str]) -> None:
        value_name = name.removesuffix(FILE_SUFFIX)
        path = value_name.removeprefix(PREFIX).lower().split("__")
        try:
            if value_name != name:
                if value_name in environ:
                    raise ValueError(f"only one of it and {value_name} may be set")
                text = _read_value(text)
        except ValueError as error:
            # The path stays hidden, because by mistake a user may give the secret itself.
            self.mistakes.append((".".join(path), mistake(name, str(error))))
        else:
            source = f"the environment variable {name}"
            self.add(_nest(path, text), source, text=True)

    def add(self, table: dict[str, Any], source: str, *, text: bool = False) -> None:
        """Add nested values; with `text`, parse strings into the types of the schema."""
        self._merge(Settings, table, self.values, (), source, text)

    def add_flags(self, flags: Mapping[str, object]) -> None:
        """Add the flags of the command line, by dotted key."""
        for key, value in flags.items():
            if value is not None:
                self.add(_nest(key.split("."), value), "the command line", text=True)

    def update(self, other: "_Layers") -> None:
        """Add the values of `other`, with their sources."""
        self.add(other.values, "")
        self.sources.update(other.sources)
        self.mistakes += other.mistakes
        self.unread |= other.unread

    def complete_namespaces(self, source: str) -> None:
        """Fill the gaps of each namespace from the values of `source` for all namespaces.

        A namespace with a single value of its own must not lose the environment's other values.
        """
        namespaces = self.values.get("namespaces", {})
        preset = {
            key: value
            for key, value in namespaces.get("default", {}).items()
            if self.sources[f"namespaces.default.{key}"] == source
        }
        for name, own in list(namespaces.items()):
            given = {key: value for key, value in preset.items() if key not in own}
            if own.get("history_size") == 0:
                given.pop("archive", None)  # The archive is written from the history.
            self.add({"namespaces": {name: given}}, source)

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
                self.refuse(key, f"unknown key{_suggestion(kind, path)}", source)
            elif not _is_group(child):
                self._set(into, path, value, child, source, text)
            elif isinstance(value, dict):
                self._merge(child, value, into.setdefault(name, {}), path, source, text)
            else:
                self.refuse(key, "is a group of keys, not a value", source)

    def _set(
        self,
        into: dict[str, Any],
        path: tuple[str, ...],
        value: object,
        kind: Any,
        source: str,
        text: bool,
    ) -> None:
        key = ".".join(path)
        if isinstance(value, str) and value != (bare := value.strip(_LINE_ENDS)):
            # `openssl rand -hex 32 > secret` ends a file, or Kubernetes secret, with one.
            self._notes.append(mistake(key, "the line break around the value is left out", source))
            value = bare
        try:
            into[path[-1]] = _converted(value, kind, text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            # msgspec's message would say `got str` about every environment variable.
            self.refuse(key, f"must be {_described(kind)}", source)
        self.sources[key] = source


def config_directory() -> Path:
    """Return the folder of default.toml and of the files of the environments."""
    here = Path(__file__).resolve().parent.parent
    packaged = here / "config"
    return packaged if packaged.is_dir() else here.parent / "config"


def _read_value(file: str) -> str:
    """Return the text of a file without the line end that editors and `echo` leave.

    Raises:
        ValueError: the file cannot be read, or is no text; the message says why.
    """
    try:
        content = read_file(file, MAX_VALUE_BYTES)
        text = content.decode().removeprefix("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file that it names is not encoded in UTF-8") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"the file that it names cannot be read: {reason}") from None
    if "\0" in text:  # No variable can hold one, so nobody else has this value.
        raise ValueError("the file that it names holds a NUL: is it encoded in UTF-16?")
    return text


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


def _converted(value: object, kind: Any, text: bool) -> Any:
    if isinstance(value, str):
        value.encode()  # Bytes beyond UTF-8 are lone surrogates.
        if text and _bare(kind) is tuple:
            value = _listed(value)
        elif get_origin(kind) is Literal:
            value = _spelled(value, get_args(kind))
    return msgspec.convert(value, kind, strict=not text)


def _spelled(text: str, words: Sequence[str]) -> str:
    """Return the word that equals `text` apart from case, or `text` itself."""
    return next((word for word in words if word.lower() == text.lower()), text)


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
