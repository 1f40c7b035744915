"""All settings: keys, types, bounds and defaults.

config/default.toml documents each setting for the user; a test compares the two.
"""

import ipaddress
import re
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from ..rates import RATE_PATTERN

DEVELOPMENT_SECRET: Final = (
    "this-secret-is-public-and-for-development-only"  # noqa: S105  (no secret: it is published)
    "-set-your-own-with-CHAT_AUTH__SECRET"
)
"""The secret in config/development.toml, which is public: everybody can sign tokens."""

_TEN_YEARS = 315_360_000
_MOST = 2**31 - 1

Seconds = Annotated[
    float, Meta(gt=0, le=_TEN_YEARS, description="a number of seconds above 0, at most ten years")
]
SecondsOrZero = Annotated[
    float, Meta(ge=0, le=_TEN_YEARS, description="a number of seconds, 0 to ten years")
]
UpToADay = Annotated[
    float,
    # Clients set timers of this length, and a browser's takes 2**31 ms (24.8 days) for none at all.
    Meta(gt=0, le=86_400, description="a number of seconds above 0, at most 86400 (a day)"),
]
UpToADayOrZero = Annotated[
    float, Meta(ge=0, le=86_400, description="a number of seconds, 0 to 86400 (a day)")
]
Positive = Annotated[int, Meta(ge=1, le=_MOST, description=f"an integer, 1 to {_MOST}")]
Count = Annotated[int, Meta(ge=0, le=_MOST, description=f"an integer, 0 to {_MOST}")]
Rate = Annotated[float, Meta(gt=0, le=1e9, description="a number above 0, at most 1e9")]
RateText = Annotated[
    str,
    Meta(
        pattern=RATE_PATTERN,
        description='a number and a time in ms, s, m or h, as in "30/1m", or "" for no limit',
    ),
]
KeyPrefix = Annotated[
    str,
    Meta(
        # Braces would be taken for Redis Cluster's hash tag, which belongs to the topic.
        pattern=r"^[A-Za-z0-9._:-]{1,64}\Z",
        description="1 to 64 of the characters A-Z a-z 0-9 . _ : -",
    ),
]
ClaimName = Annotated[
    str,
    Meta(
        pattern=r"^(/?[^\x00-\x20\x7f]{1,255})\Z",
        description="the name of a claim, as in topics or https://chat.example.org/topics, or a"
        " JSON Pointer, as in /app_metadata/topics",
    ),
]
Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "ES256K",
    "EdDSA",
    "Ed25519",
]
Algorithms = Annotated[
    tuple[Algorithm, ...],
    Meta(min_length=1, description=f"a list of one or more of {', '.join(get_args(Algorithm))}"),
]

_MASK = "********"


class SettingsError(ValueError):
    """Settings are missing, unknown or wrong.

    Args:
        lines: a line for each mistake, with the key and the source.
        as_json: whether the valid part of the settings asks for a log in JSON.
    """

    def __init__(self, *lines: str, as_json: bool = False) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.as_json = as_json

    def __str__(self) -> str:
        """Return all lines."""
        return "\n".join(self.lines)


class _Secretive(Struct, frozen=True, forbid_unknown_fields=True):
    """A group whose secrets stay out of its repr."""

    def __repr__(self) -> str:
        """Return a repr with every secret masked."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the names and values of the repr."""
        return [(name, masked(name, getattr(self, name))) for name in self.__struct_fields__]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[server]`: processes, addresses and TLS."""

    bind: str = "127.0.0.1:8000"
    front_door: Literal["auto", "direct", "quart"] = "auto"
    workers: Positive = 1
    lame_duck_seconds: UpToADayOrZero = 0.0
    drain_seconds: UpToADayOrZero = 10.0
    hang_seconds: SecondsOrZero = 30.0
    tls_certificate_file: str = ""
    tls_key_file: str = ""
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
    """The keys of `[http]`: pages, origins and connections."""

    allowed_origins: tuple[str, ...] = ()
    page: bool = True
    page_token_url: str = ""
    admin_page: bool = False
    docs: bool = True
    request_timeout_seconds: Seconds = 30.0
    head_timeout_seconds: Seconds = 10.0
    keep_alive_seconds: Seconds = 75.0
    max_connections: Positive = 4_096


class DefaultTopics(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[auth.default_topics]`: grants of a token that lists none."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    presence: tuple[str, ...] = ()
    moderate: tuple[str, ...] = ()


class AuthSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[auth]`: which tokens are accepted."""

    secret: str = ""
    algorithms: Algorithms = ("HS256",)
    public_key_file: str = ""
    jwks_url: str = ""
    jwks_min_refresh_seconds: Seconds = 10.0
    issuer: str = ""
    audience: str = ""
    topics_claim: ClaimName = "topics"
    leeway_seconds: SecondsOrZero = 5.0
    require_expiry: bool = True
    query_token: bool = True
    default_topics: DefaultTopics = DefaultTopics()

    @property
    def signs_tokens(self) -> bool:
        """Whether the server can issue tokens itself: it has the secret that signs them."""
        return bool(self.secret) and all(name.startswith("HS") for name in self.algorithms)

    @property
    def uses_public_secret(self) -> bool:
        """Whether the secret is the public one, with which everybody can sign tokens."""
        shared = any(name.startswith("HS") for name in self.algorithms)
        return shared and self.secret == DEVELOPMENT_SECRET


class GatewaySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[gateway]`: WebSocket connections."""

    transport: Literal["auto", "direct", "asgi", "portable"] = "auto"
    compression: bool = False
    auth_timeout_seconds: Seconds = 10.0
    heartbeat_seconds: UpToADay = 25.0
    pong_timeout_seconds: UpToADay = 10.0
    refresh_grace_seconds: UpToADayOrZero = 25.0
    close_timeout_seconds: Seconds = 2.0

    @property
    def leaves_sockets(self) -> bool:
        """Whether every WebSocket stays with the ASGI server; "portable" is the old name of it."""
        return self.transport in ("asgi", "portable")


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[limits]`: what one client may ask for."""

    max_message_bytes: Positive = 65_536
    max_topics: Positive = 128
    max_connections: Positive = 10_000
    max_connections_per_user: Positive = 100
    max_connections_per_address: Positive = 1_000
    connects_per_user: RateText = ""
    connects_per_address: RateText = ""
    joins_per_user: RateText = ""
    joins_per_topic: RateText = ""
    messages_per_connection: RateText = ""
    messages_per_second: Rate = 50.0
    message_burst: Positive = 100
    max_pending_commands: Positive = 64
    max_replay: Positive = 1_000
    resume_seconds: SecondsOrZero = 600.0
    read_bytes_per_second: Rate = 2_097_152.0
    read_burst_bytes: Positive = 134_217_728
    slow_buffer_bytes: Positive = 262_144
    slow_timeout_seconds: Seconds = 15.0


class RedisSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[redis]`: the store, and how it is reached."""

    url: str = ""
    prefix: KeyPrefix = "chat"
    timeout_seconds: Seconds = 2.0
    canary_seconds: Seconds = 5.0
    max_connections: Positive = 8


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[broker]`: how long things are remembered, and how much may wait."""

    idempotency_seconds: Seconds = 300.0
    position_seconds: Seconds = 2_592_000.0
    max_pending: Positive = 10_000
    presence_lease_seconds: UpToADay = 30.0
    memory_max_topics: Positive = 100_000
    memory_max_bytes: Positive = 268_435_456
    spool_bytes: Positive = 16_777_216
    spool_seconds: Seconds = 60.0


class DatabaseSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[database]`: what lasts, and how it is reached."""

    url: str = ""
    migrate: bool = False
    pool_size: Annotated[int, Meta(ge=2, le=1_000, description="an integer, 2 to 1000")] = 5
    timeout_seconds: UpToADay = 10.0


class HookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[hooks]`: functions of an application that embeds the server."""

    timeout_seconds: UpToADay = 5.0
    max_running: Positive = 100
    max_pending: Positive = 2_000


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[accounts.roles.NAME]`: what users with a role may do."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    presence: tuple[str, ...] = ()
    moderate: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()
    users: Literal["own", "read", "manage"] = "own"


class AccountSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[accounts]`: users with passwords."""

    enabled: Literal["off", "on", "auto"] = "off"
    sign_up: Literal["closed", "invited", "open"] = "invited"
    reserved_names: tuple[str, ...] = (
        *("admin", "administrator", "moderator", "root", "server", "support", "system"),
    )
    access_seconds: UpToADay = 600.0
    refresh_seconds: Seconds = 2_592_000.0
    refresh_grace_seconds: UpToADayOrZero = 60.0
    sign_in_seconds: Seconds = 7_776_000.0
    invitation_seconds: Seconds = 604_800.0
    attempts_per_name: Positive = 20
    attempts_per_address: Positive = 200
    attempts_seconds: UpToADay = 900.0
    hash_memory_kib: Annotated[
        int, Meta(ge=8, le=4_194_304, description="an integer, 8 to 4194304 (4 GiB)")
    ] = 24_576
    hash_passes: Annotated[int, Meta(ge=1, le=100, description="an integer, 1 to 100")] = 3
    hash_threads: Annotated[int, Meta(ge=1, le=64, description="an integer, 1 to 64")] = 1
    roles: dict[str, Role] = msgspec.field(
        default_factory=lambda: {"member": Role(), "admin": Role(users="manage")}
    )


class MailSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[mail]`: how invitations are sent."""

    url: str = ""
    sender: str = ""
    page_url: str = ""
    timeout_seconds: UpToADay = 30.0


class MetricsSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[metrics]`."""

    enabled: bool = False
    token: str = ""


class OperatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[operators]`."""

    bind: str = ""

    @property
    def port(self) -> int:
        """The port of `bind`."""
        return split_bind(self.bind)[1]


class ExplainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[explain]`."""

    notes: Annotated[int, Meta(ge=0, le=10_000_000, description="an integer, 0 to 10000000")] = (
        20_000
    )


class TracingSettings(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[tracing]`."""

    enabled: bool = False
    url: str = ""
    sample_ratio: Annotated[float, Meta(ge=0, le=1, description="a number, 0 to 1")] = 1.0


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[log]`."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    format: Literal["text", "json"] = "text"
    connections: Literal["DEBUG", "INFO"] = "DEBUG"


WebhookEvent = Literal["message", "edited", "appended", "deleted", "reaction"]
WebhookEvents = Annotated[
    tuple[WebhookEvent, ...],
    Meta(min_length=1, description=f"a list of one or more of {', '.join(get_args(WebhookEvent))}"),
]


class Webhook(_Secretive, frozen=True, forbid_unknown_fields=True):
    """The keys of `[webhooks.NAME]`: an endpoint that is told of events."""

    url: str = ""
    secrets: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    events: WebhookEvents = get_args(WebhookEvent)
    batch_size: Annotated[int, Meta(ge=1, le=1_000, description="an integer, 1 to 1000")] = 100
    max_requests: Annotated[int, Meta(ge=1, le=64, description="an integer, 1 to 64")] = 4
    timeout_seconds: UpToADay = 15.0
    retry_seconds: SecondsOrZero = 86_400.0
    allow_private: bool = False
    proxy_url: str = ""


class Namespace(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `[namespaces.NAME]`, for topics whose first segment is NAME."""

    history_size: Count = 1_000
    history_seconds: Seconds = 86_400.0
    history_bytes: Count = 16_777_216
    read_receipts: bool = False
    append_window_ms: Annotated[int, Meta(ge=0, le=1_000)] = 0
    spool_messages: Count = 0
    archive: bool = False
    archive_seconds: Annotated[
        float, Meta(ge=0, description="a number of seconds, 0 or above; 0 keeps everything")
    ] = 0.0
    presence: bool = False
    presence_grace_seconds: UpToADayOrZero = 5.0
    presence_batch: Count = 100
    slow_subscribers: Literal["catch_up", "latest", "disconnect"] = "catch_up"
    allow_subscribe: bool = False
    allow_publish: bool = False
    allow_history: bool = False
    allow_presence: bool = False
    messages_per_user: RateText = ""
    messages_per_topic: RateText = ""
    bytes_per_user: RateText = ""
    bytes_per_topic: RateText = ""
    reactions_per_user: RateText = ""
    reactions_per_topic: RateText = ""


_FALLBACK = Namespace()


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; `config/default.toml` says what each key means.

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
    database: DatabaseSettings = DatabaseSettings()
    hooks: HookSettings = HookSettings()
    accounts: AccountSettings = AccountSettings()
    mail: MailSettings = MailSettings()
    metrics: MetricsSettings = MetricsSettings()
    operators: OperatorSettings = OperatorSettings()
    explain: ExplainSettings = ExplainSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()
    namespaces: dict[str, Namespace] = msgspec.field(
        default_factory=lambda: {"default": Namespace()}
    )
    webhooks: dict[str, Webhook] = msgspec.field(default_factory=dict)

    @property
    def spools(self) -> bool:
        """Whether some namespace keeps publications while Redis is away."""
        return bool(self.redis.url) and any(n.spool_messages for n in self.namespaces.values())

    @property
    def has_presence(self) -> bool:
        """Whether some namespace has presence."""
        return any(n.presence for n in self.namespaces.values())

    @property
    def has_archive(self) -> bool:
        """Whether some namespace is archived."""
        return any(n.archive for n in self.namespaces.values())

    def namespace(self, topic: str) -> Namespace:
        """Return the namespace of the first segment of `topic`, else the default one."""
        found = self.namespaces.get(topic.partition(":")[0])
        return found or self.namespaces.get("default", _FALLBACK)


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


def masked(name: str, value: Any) -> Any:
    """Return a value with secrets masked.

    Args:
        name: the last part of the value's key.
        value: the value; a secret is masked entirely.
    """
    if name in ("secret", "token"):
        return _MASK if value else ""
    if name == "secrets":
        return tuple(_MASK for _ in value)
    if isinstance(value, str) and name.endswith("url"):
        value = re.sub(r"^([\w+]+://)?.*@", rf"\g<1>{_MASK}@", value, flags=re.DOTALL)
        return re.sub(r"([?&;]\w*(?:pass|secret|token|key)\w*=)[^&;]*", rf"\g<1>{_MASK}", value)
    return value
