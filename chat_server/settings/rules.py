"""Rules between settings, beyond the rules of each setting."""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from msgspec.structs import asdict, replace

from ..auth.patterns import pattern_mistakes
from ..broker.redis.urls import REDIS_URL_RULE, parse_redis_url
from ..database.urls import DATABASE_URL_RULE, parse_database_url
from .hosts import is_loopback
from .mail import mail_problems
from .origins import ANY_PAGE, origin_pattern
from .schema import (
    DEVELOPMENT_SECRET,
    AuthSettings,
    LimitSettings,
    Settings,
    SettingsError,
    split_bind,
)
from .webhooks import webhook_problems

_NAMESPACE = re.compile(r"[A-Za-z0-9._~@-]{1,255}", re.ASCII)
_ROLE = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)
_LEAST_HASH = 2 * 19_456
"""Memory in KiB times passes, as OWASP recommends: 19 MiB and two passes."""

_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes of the shortest secret by algorithm: the size of the hash, RFC 7518 section 3.2."""


def check(settings: Settings, sources: Mapping[str, str] | None = None) -> None:
    """Check that individually valid settings are safe and meaningful together.

    Args:
        settings: individually valid settings.
        sources: the source of each dotted key, for the error.

    Raises:
        SettingsError: names each key at fault.
    """
    lines = [
        mistake(key, reason, (sources or {}).get(key, "")) for key, reason in problems(settings)
    ]
    if lines:
        raise SettingsError(*lines)


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the broken rule of each mistake in `settings`."""
    production = settings.environment == "production"
    try:
        host, _ = split_bind(settings.server.bind)
    except ValueError:
        rule = "must be HOST:PORT, an IPv6 host in brackets, as in [::1]:8000"
        yield "server.bind", f"{rule}; not {settings.server.bind!r}"
        host = "localhost"
    yield from _operator_problems(settings)
    if settings.server.workers > 1 and not settings.redis.url:
        yield "server.workers", "more than one worker needs Redis between them: set redis.url"
    if settings.server.tls_key_file and not settings.server.tls_certificate_file:
        yield "server.tls_key_file", "is of no use without server.tls_certificate_file"
    if settings.redis.url and not _is_redis_url(settings.redis.url):
        yield "redis.url", REDIS_URL_RULE
    if settings.database.url and not _is_database_url(settings.database.url):
        yield "database.url", DATABASE_URL_RULE
    yield from _origin_problems(settings.http.allowed_origins, production)
    if settings.http.page_token_url and not _is_page_token_url(settings.http.page_token_url):
        yield "http.page_token_url", PAGE_ADDRESS_RULE
    yield from _namespace_problems(settings)
    yield from webhook_problems(settings)
    yield from _auth_problems(settings.auth, production)
    yield from _account_problems(settings, production)
    yield from mail_problems(settings)
    if settings.tracing.url and not _is_url(settings.tracing.url, "https", "http"):
        yield "tracing.url", "must be an https:// or http:// address"
    for name, reason in pattern_mistakes(asdict(settings.auth.default_topics)):
        yield f"auth.default_topics.{name}", reason
    if settings.auth.uses_public_secret and not production and not is_loopback(host):
        yield (
            "server.bind",
            f"{settings.server.bind!r} is no loopback address, and no other may use the development"
            " secret, which is public: set auth.secret (`openssl rand -hex 32`), or bind 127.0.0.1",
        )


def _operator_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    if not settings.operators.bind:
        return
    try:
        port = settings.operators.port
    except ValueError:
        yield (
            "operators.bind",
            f"must be HOST:PORT, as in 127.0.0.1:9000; not {settings.operators.bind!r}",
        )
        return
    # Ports tell the two addresses apart.
    if port == 0 or settings.server.bind.endswith(f":{port}"):
        yield "operators.bind", "must have a port of its own: not 0, and not that of server.bind"


def decide_accounts(settings: Settings) -> Settings:
    """Return the settings with "on" or "off" in place of "auto" in `accounts.enabled`."""
    if settings.accounts.enabled != "auto":
        return settings
    possible = settings.database.url and settings.auth.signs_tokens
    accounts = replace(settings.accounts, enabled="on" if possible else "off")
    return replace(settings, accounts=accounts)


def advice(settings: Settings) -> list[str]:
    """Return a line for each setting that is allowed but probably unintended."""
    limits = settings.limits
    lines = []
    if limits.max_topics > max(limits.message_burst, LimitSettings().max_topics):
        # The first subscriptions of a connection are free; further ones count as messages.
        lines.append(
            f"limits.max_topics: {limits.max_topics} is above limits.message_burst"
            f" ({limits.message_burst}): a client that changes all of its topics at once is told"
            " to slow down"
        )
    if settings.gateway.transport == "portable":
        lines.append(
            'gateway.transport: "portable" is called "asgi" now; the old name goes with the next'
            " version"
        )
    return lines


PAGE_ADDRESS_RULE = "must be a path such as /chat-token, or an https:// address with a path"


def _is_page_token_url(url: str) -> bool:
    # Characters that a header or an HTML attribute would have to quote are not allowed.
    return (
        re.fullmatch(r"(https://[\w.:\[\]-]+)?/(?!/)[\w./~%?&=:@!$*+-]*", url, re.ASCII) is not None
    )


def _origin_problems(origins: Iterable[str], production: bool) -> Iterator[tuple[str, str]]:
    for origin in origins:
        try:
            origin_pattern(origin)
        except ValueError as error:
            yield "http.allowed_origins", f"{origin!r} {error}"
        if production and origin in ANY_PAGE:
            yield "http.allowed_origins", f'"{origin}" is refused in production: {ANY_PAGE[origin]}'


def _namespace_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, namespace in settings.namespaces.items():
        if _NAMESPACE.fullmatch(name) is None:
            yield f"namespaces.{name}", "must be named like a topic's first segment"
        if namespace.history_seconds > settings.broker.position_seconds:
            yield (
                f"namespaces.{name}.history_seconds",
                "must not exceed broker.position_seconds, or a topic would forget its place first",
            )
        if namespace.archive and not settings.database.url:
            yield f"namespaces.{name}.archive", "needs a database: set database.url"
        if namespace.archive and not namespace.history_size:
            yield (
                f"namespaces.{name}.archive",
                "needs a history_size above 0: the archive is written from the log",
            )
    latest = settings.broker.spool_seconds + settings.redis.timeout_seconds
    if settings.spools and latest > settings.broker.idempotency_seconds:
        yield (
            "broker.spool_seconds",
            "must, with redis.timeout_seconds, not exceed broker.idempotency_seconds, or what is"
            " sent again could be stored twice",
        )


def _account_problems(settings: Settings, production: bool) -> Iterator[tuple[str, str]]:
    accounts = settings.accounts
    if accounts.enabled == "on" and not settings.auth.signs_tokens:
        yield (
            "accounts.enabled",
            "accounts sign tokens with auth.secret, so auth.algorithms must be HS256, HS384 or"
            " HS512; with public keys only, the accounts are those of the tokens' issuer",
        )
    if accounts.enabled == "on" and not settings.database.url:
        yield "accounts.enabled", "accounts need a database: set database.url"
    if production and accounts.hash_memory_kib * accounts.hash_passes < _LEAST_HASH:
        yield (
            "accounts.hash_memory_kib",
            f"must, times accounts.hash_passes, be at least {_LEAST_HASH} in production, or stolen"
            " hashes are guessed too fast",
        )
    for role, granted in accounts.roles.items():
        if _ROLE.fullmatch(role) is None:
            yield f"accounts.roles.{role}", "must be named by 1 to 32 of a-z 0-9 _ -"
        actions = (*asdict(settings.auth.default_topics), "admin")
        lists = {name: getattr(granted, name) for name in actions}
        for name, reason in pattern_mistakes(lists):
            yield f"accounts.roles.{role}.{name}", reason


def _auth_problems(auth: AuthSettings, production: bool) -> Iterator[tuple[str, str]]:
    if auth.jwks_url and not _is_url(auth.jwks_url, "https", "http"):
        yield "auth.jwks_url", "must be an https:// or http:// address"
    elif "@" in urlsplit(auth.jwks_url).netloc:
        yield "auth.jwks_url", "must hold no user and password: a key set is public"
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
        # A server that accepts both kinds may take a public key for a shared secret: RFC 8725, 2.1.
        yield (
            "auth.algorithms",
            f"{shared[0]} needs a shared secret and excludes the algorithms of public keys"
            + (f" (auth.{public[0]} is set)" if public else ""),
        )
    least = max(_SECRET_BYTES[name] for name in shared)
    if not auth.secret:
        yield (
            "auth.secret",
            "is needed for tokens: set CHAT_AUTH__SECRET (`openssl rand -hex 32` makes one),"
            " or auth.public_key_file or auth.jwks_url with their algorithms",
        )
    elif production and len(auth.secret.encode()) < least:
        yield "auth.secret", f"must be at least {least} bytes in production"


def _is_url(text: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.netloc or parts.path) and parts.port != 0
    except ValueError:
        return False


def _is_redis_url(text: str) -> bool:
    try:
        several = parse_redis_url(text)
    except ValueError:
        return False
    return several is not None or _is_url(text, "redis", "rediss", "unix")


def _is_database_url(text: str) -> bool:
    try:
        parse_database_url(text)
    except ValueError:
        return False
    return True


def mistake(key: str, reason: str, source: str = "") -> str:
    """Return the line about a mistake in `key`, with unprintable characters escaped."""
    line = f"{key}: {reason} (from {source})" if source else f"{key}: {reason}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
