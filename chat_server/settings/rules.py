"""What settings have to be together, beyond being valid one by one."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from .schema import DEVELOPMENT_SECRET, AuthSettings, Settings, SettingsError, split_bind
from .urls import REDIS_URL_RULE, take_apart

_NAMESPACE = re.compile(r"[A-Za-z0-9._~@-]{1,255}", re.ASCII)
_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret by algorithm: the size of its hash, RFC 7518 section 3.2."""


def check(settings: Settings, sources: Mapping[str, str] | None = None) -> None:
    """Refuse settings that are valid one by one but unsafe or meaningless together.

    Args:
        sources: where each dotted key was set, to be named in the error.

    Raises:
        SettingsError: names the first key at fault.
    """
    for key, reason in _problems(settings):
        raise refuse(key, reason, (sources or {}).get(key, ""))


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    production = settings.environment == "production"
    try:
        host, _ = split_bind(settings.server.bind)
    except ValueError:
        yield "server.bind", "must be HOST:PORT, an IPv6 host in brackets, as in [::1]:8000"
        return
    if settings.server.workers > 1 and not settings.redis.url:
        yield "server.workers", "more than one worker needs Redis between them: set redis.url"
    if settings.server.tls_key_file and not settings.server.tls_certificate_file:
        yield "server.tls_key_file", "is of no use without server.tls_certificate_file"
    if settings.redis.url and not _is_redis_url(settings.redis.url):
        yield "redis.url", REDIS_URL_RULE
    for origin in settings.http.allowed_origins:
        if origin == "*" and production:
            yield "http.allowed_origins", '"*" is refused in production: name the origins'
        if origin != "*" and not _is_origin(origin):
            yield "http.allowed_origins", 'must hold origins such as "https://chat.example.org"'
    yield from _namespace_problems(settings)
    yield from _auth_problems(settings.auth, production, loopback=_is_loopback(host))


def _namespace_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    for name, namespace in settings.namespaces.items():
        if _NAMESPACE.fullmatch(name) is None:
            yield f"namespaces.{name}", "must be named like a topic's first segment"
        if namespace.history_seconds > settings.broker.position_seconds:
            yield (
                f"namespaces.{name}.history_seconds",
                "must not exceed broker.position_seconds, or a topic would forget its place first",
            )
    latest = settings.broker.spool_seconds + settings.redis.timeout_seconds
    if settings.spools and latest > settings.broker.idempotency_seconds:
        yield (
            "broker.spool_seconds",
            "must, with redis.timeout_seconds, not exceed broker.idempotency_seconds, or what is"
            " sent again could be stored twice",
        )


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


def _is_redis_url(text: str) -> bool:
    try:
        several = take_apart(text)
    except ValueError:
        return False
    return several is not None or _is_url(text, "redis", "rediss", "unix")


def _is_origin(text: str) -> bool:
    plain = re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", text) is not None
    return plain and _is_url(text, "http", "https")


def refuse(key: str, reason: str, source: str = "") -> SettingsError:
    line = f"{key}: {reason} (from {source})" if source else f"{key}: {reason}"
    return SettingsError("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))
