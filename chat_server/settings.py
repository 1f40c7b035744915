"""The server's settings: one frozen, typed object, read from files, the environment and flags.

The structs below are the only definition of a key, its type, its bounds and its default;
config/default.toml documents each of them for the user (a test holds the two together).
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

DEVELOPMENT_SECRET: Final = (
    "this-secret-is-public-and-for-development-only"  # noqa: S105  (no secret: it is published)
    "-set-your-own-with-CHAT_AUTH__SECRET"
)
"""The secret in config/development.toml; whoever knows this repository can sign with it."""

_TEN_YEARS = 315_360_000
_MOST = 2**31 - 1

Seconds = Annotated[
    float, Meta(gt=0, le=_TEN_YEARS, description="a number of seconds above 0, at most ten years")
]
SecondsOrZero = Annotated[
    float, Meta(ge=0, le=_TEN_YEARS, description="a number of seconds, 0 to ten years")
]
Positive = Annotated[int, Meta(ge=1, le=_MOST, description=f"an integer, 1 to {_MOST}")]
Count = Annotated[int, Meta(ge=0, le=_MOST, description=f"an integer, 0 to {_MOST}")]
Rate = Annotated[float, Meta(gt=0, le=1e9, description="a number above 0, at most 1e9")]
KeyPrefix = Annotated[
    str,
    Meta(
        # Braces would be taken for Redis Cluster's hash tag, which belongs to the topic.
        pattern=r"^[A-Za-z0-9._:-]{1,64}\Z",
        description="1 to 64 of the characters A-Z a-z 0-9 . _ : -",
    ),
]
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"
]
Algorithms = Annotated[
    tuple[Algorithm, ...],
    Meta(min_length=1, description=f"a list of one or more of {', '.join(get_args(Algorithm))}"),
]

_DESCRIPTIONS = {str: "text", bool: "true or false", tuple: "a list of strings"}
_NAMESPACE = re.compile(r"[A-Za-z0-9._~@-]{1,255}", re.ASCII)
_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret by algorithm: the size of its hash, RFC 7518 section 3.2."""

_MASK = "********"


class SettingsError(ValueError):
    """A setting is missing, unknown or wrong; the text is one line that names it and its source."""


class _Secretive(Struct, frozen=True, forbid_unknown_fields=True):
    """A group whose secrets stay out of its repr."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, _mask(name, getattr(self, name))) for name in self.__struct_fields__]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    bind: str = "127.0.0.1:8000"
    workers: Positive = 1
    drain_seconds: SecondsOrZero = 10.0
    trusted_proxy_hops: Count = 0

    @property
    def host(self) -> str:
        """The address of `bind`, without brackets."""
        return split_bind(self.bind)[0]

    @property
    def port(self) -> int:
        """The port of `bind`; 0 lets the system choose."""
        return split_bind(self.bind)[1]


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    allowed_origins: tuple[str, ...] = ()
    page: bool = True
    docs: bool = True
    request_timeout_seconds: Seconds = 30.0


class DefaultTopics(Struct, frozen=True, forbid_unknown_fields=True):
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    presence: tuple[str, ...] = ()
    moderate: tuple[str, ...] = ()


class AuthSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    secret: str = ""
    algorithms: Algorithms = ("HS256",)
    public_key_file: str = ""
    jwks_url: str = ""
    jwks_min_refresh_seconds: Seconds = 60.0
    issuer: str = ""
    audience: str = ""
    leeway_seconds: SecondsOrZero = 5.0
    require_expiry: bool = True
    query_token: bool = True
    default_topics: DefaultTopics = DefaultTopics()


class GatewaySettings(Struct, frozen=True, forbid_unknown_fields=True):
    transport: Literal["auto", "direct", "portable"] = "auto"
    compression: bool = False
    auth_timeout_seconds: Seconds = 10.0
    heartbeat_seconds: Seconds = 25.0
    pong_timeout_seconds: Seconds = 10.0
    refresh_grace_seconds: SecondsOrZero = 25.0
    close_timeout_seconds: Seconds = 2.0


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    max_message_bytes: Positive = 65_536
    max_topics: Positive = 128
    max_connections_per_user: Positive = 100
    max_connections_per_address: Positive = 1_000
    messages_per_second: Rate = 50.0
    message_burst: Positive = 100
    max_pending_commands: Positive = 64
    max_replay: Positive = 1_000
    slow_buffer_bytes: Positive = 262_144
    slow_timeout_seconds: Seconds = 15.0


class RedisSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    prefix: KeyPrefix = "chat"
    timeout_seconds: Seconds = 2.0
    max_connections: Positive = 8


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    idempotency_seconds: Seconds = 300.0
    position_seconds: Seconds = 2_592_000.0
    max_pending: Positive = 10_000
    memory_max_topics: Positive = 100_000


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    format: Literal["text", "json"] = "text"


class Namespace(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for the topics whose first segment is the namespace's name."""

    history_size: Count = 1_000
    history_seconds: Seconds = 86_400.0


_FALLBACK = Namespace()


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured; `config/default.toml` says what each key means.

    Built directly, it holds the defaults and whatever it is given, unchecked across keys: see
    `check`.
    """

    environment: Literal["development", "testing", "production"] = "development"
    server: ServerSettings = ServerSettings()
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    gateway: GatewaySettings = GatewaySettings()
    limits: LimitSettings = LimitSettings()
    redis: RedisSettings = RedisSettings()
    broker: BrokerSettings = BrokerSettings()
    log: LogSettings = LogSettings()
    namespaces: dict[str, Namespace] = msgspec.field(
        default_factory=lambda: {"default": Namespace()}
    )

    def namespace(self, topic: str) -> Namespace:
        """Return what holds for `topic`: the namespace of its first segment, else the default."""
        found = self.namespaces.get(topic.partition(":")[0])
        return found or self.namespaces.get("default", _FALLBACK)


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
    for key, value in (flags or {}).items():
        if value is not None:
            overrides.add(_nest(key.split("."), value), "the command line", text=True)

    layers = _Layers()
    layers.read(directory / "default.toml")
    environment = {**layers.values, **overrides.values}.get("environment", "development")
    layers.read(directory / f"{environment}.toml")
    layers.update(overrides)
    if layers.values.setdefault("environment", environment) != environment:
        file = layers.sources["environment"]
        raise _error("environment", "must not be changed by the file it chose", file)
    settings = msgspec.convert(layers.values, Settings)
    check(settings, layers.sources)
    return settings


def check(settings: Settings, sources: Mapping[str, str] | None = None) -> None:
    """Refuse settings that are valid one by one but unsafe or meaningless together.

    Args:
        sources: where each dotted key was set, to be named in the error.

    Raises:
        SettingsError: names the first key at fault.
    """
    for key, reason in _problems(settings):
        raise _error(key, reason, (sources or {}).get(key, ""))


def masked(settings: Settings) -> dict[str, Any]:
    """Return `settings` as plain dicts and lists for printing, with every secret masked."""

    def plain(value: Any, name: str = "") -> Any:
        if isinstance(value, Struct):
            value = {field: getattr(value, field) for field in value.__struct_fields__}
        if isinstance(value, dict):
            return {field: plain(item, field) for field, item in value.items()}
        return list(value) if isinstance(value, tuple) else _mask(name, value)

    result: dict[str, Any] = plain(settings)
    return result


def split_bind(bind: str) -> tuple[str, int]:
    """Split `HOST:PORT`, an IPv6 host being in brackets, into its parts.

    Raises:
        ValueError: `bind` has another form.
    """
    host, _, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif re.fullmatch(r"[A-Za-z0-9.-]+", host) is None:
        raise ValueError("host")
    if re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > 65_535:
        raise ValueError("port")
    return host, int(port)


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    production = settings.environment == "production"
    try:
        host, _ = split_bind(settings.server.bind)
    except ValueError:
        yield "server.bind", "must be HOST:PORT, an IPv6 host in brackets, as in [::1]:8000"
        return
    if settings.server.workers > 1 and not settings.redis.url:
        yield "server.workers", "more than one worker needs Redis between them: set redis.url"
    if settings.redis.url and not _is_url(settings.redis.url, "redis", "rediss", "unix"):
        yield "redis.url", "must be a redis://, rediss:// or unix:// address"
    for origin in settings.http.allowed_origins:
        if origin == "*" and production:
            yield "http.allowed_origins", '"*" is refused in production: name the origins'
        if origin != "*" and not _is_origin(origin):
            yield "http.allowed_origins", 'must hold origins such as "https://chat.example.org"'
    for name, namespace in settings.namespaces.items():
        if _NAMESPACE.fullmatch(name) is None:
            yield f"namespaces.{name}", "must be named like a topic's first segment"
        if namespace.history_seconds > settings.broker.position_seconds:
            yield (
                f"namespaces.{name}.history_seconds",
                "must not exceed broker.position_seconds, or a topic would forget its place first",
            )
    yield from _auth_problems(settings.auth, production, loopback=_is_loopback(host))


def _auth_problems(
    auth: AuthSettings, production: bool, *, loopback: bool
) -> Iterator[tuple[str, str]]:
    if auth.jwks_url and not _is_url(auth.jwks_url, "https", "http"):
        yield "auth.jwks_url", "must be an https:// or http:// address"
    if production and auth.secret == DEVELOPMENT_SECRET:
        yield "auth.secret", "the development secret is public and refused in production"
    shared = [name for name in auth.algorithms if name.startswith("HS")]
    public = [name for name in ("public_key_file", "jwks_url") if getattr(auth, name)]
    if not shared:
        if not public:
            yield "auth.public_key_file", "set this or auth.jwks_url, or no token can be verified"
        if len(public) == 2:
            yield "auth.jwks_url", "set either this or auth.public_key_file, not both"
        return
    if public or len(shared) < len(auth.algorithms):
        # Who accepts both kinds may take a published key for a shared secret: RFC 8725, 2.1.
        yield (
            "auth.algorithms",
            f"{shared[0]} needs a shared secret and excludes the algorithms of public keys"
            + (f" (auth.{public[0]} is set)" if public else ""),
        )
    if not auth.secret:
        yield "auth.secret", "is needed to verify tokens; set it, a public key or a JWKS URL"
    if auth.secret == DEVELOPMENT_SECRET and not loopback:
        yield "auth.secret", "the development secret is public: only a loopback address may use it"
    least = max(_SECRET_BYTES[name] for name in shared)
    if production and len(auth.secret.encode()) < least:
        yield "auth.secret", f"must be at least {least} bytes in production"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.netloc or parts.path) and parts.port != 0
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    plain = re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", text) is not None
    return plain and _is_url(text, "http", "https")


def _mask(name: str, value: Any) -> Any:
    if name == "secret":
        return _MASK if value else ""
    if isinstance(value, str) and name.endswith("url"):
        value = re.sub(r"^(\w+://)?.*@", rf"\g<1>{_MASK}@", value, flags=re.DOTALL)
        return re.sub(r"([?&;]\w*(?:pass|secret|token|key)\w*=)[^&;]*", rf"\g<1>{_MASK}", value)
    return value


# Reading the sources --------------------------------------------------------------------------


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
            raise _error(str(file), f"cannot be read: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise _error(str(file), f"is not valid TOML: {error}") from None
        self.add(table, str(file))

    def add(self, table: dict[str, Any], source: str, *, text: bool = False) -> None:
        """Add nested values; with `text`, strings are parsed into the type that is wanted."""
        self._merge(Settings, table, self.values, (), source, text)

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
                raise _error(key, f"unknown key{_suggestion(kind, path)}", source)
            if not _is_group(child):
                into[name] = _converted(key, value, child, source, text)
                self.sources[key] = source
            elif isinstance(value, dict):
                self._merge(child, value, into.setdefault(name, {}), path, source, text)
            else:
                raise _error(key, "is a group of keys, not a value", source)


def _config_directory() -> Path:
    here = Path(__file__).resolve().parent
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
        raise _error(key, f"must be {_described(kind)}", source) from None


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


def _error(key: str, reason: str, source: str = "") -> SettingsError:
    line = f"{key}: {reason} (from {source})" if source else f"{key}: {reason}"
    return SettingsError("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))
