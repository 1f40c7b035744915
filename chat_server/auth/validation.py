"""From the payload of a token whose signature holds to `Claims` (RFC 7519; docs/protocol.md, 1).

Every rule a token can break is checked here, with the injected time and without any library's
opinion of it, and the error says which one it was.
"""

from typing import Any

import msgspec

from ..protocol.codecs import JSON
from ..protocol.errors import BadRequest, Unauthorized
from ..settings import AuthSettings
from .claims import Claims, TopicGrants
from .permissions import check_pattern

MAX_SUB = 128
MAX_NAME = 128
MAX_INFO_BYTES = 1024
MAX_PATTERNS = 100
"""Patterns in one of a token's lists: a check of permission may have to try them all."""

MAX_TIME = 2**53 - 1
"""The last second that JSON readers agree on; `expires_at` is sent to clients."""

_ACTIONS = TopicGrants.__struct_fields__


def read_claims(
    payload: bytes, settings: AuthSettings, defaults: TopicGrants, now: float
) -> Claims:
    """Check a token's payload and return what it says.

    RFC 7519 section 2 lets a NumericDate have a fraction; this server takes whole seconds only,
    which is what issuers send, so that no date can be infinite, rounded or not a number.

    Args:
        payload: the JSON text of the claims set.
        defaults: the grants of a token that does not list its own.
        now: seconds since 1970.

    Raises:
        Unauthorized: names the claim and the rule it breaks.
    """
    try:
        claims = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        raise Unauthorized("token: its payload is not valid JSON") from None
    if not isinstance(claims, dict):
        raise Unauthorized("token: its payload is not a JSON object")
    expires_at = _check_times(claims, settings, now)
    _check_parties(claims, settings)
    return Claims(
        sub=_text(claims, "sub", MAX_SUB),
        topics=_grants(claims["topics"], defaults) if "topics" in claims else defaults,
        expires_at=expires_at,
        name=_text(claims, "name", MAX_NAME) if claims.get("name") is not None else None,
        info=_info(claims["info"]) if claims.get("info") is not None else None,
    )


def _check_times(claims: dict[str, Any], settings: AuthSettings, now: float) -> int | None:
    leeway = settings.leeway_seconds
    expires_at = _time(claims, "exp")
    if expires_at is None and settings.require_expiry:
        raise Unauthorized("token: has no `exp`")
    if expires_at is not None and now >= expires_at + leeway:
        raise Unauthorized("token: has expired")
    not_before = _time(claims, "nbf")
    if not_before is not None and now < not_before - leeway:
        raise Unauthorized("token: is not yet valid")
    issued_at = _time(claims, "iat")
    if issued_at is not None and now < issued_at - leeway:
        raise Unauthorized("token: was issued in the future")
    return expires_at


def _time(claims: dict[str, Any], name: str) -> int | None:
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise Unauthorized(f"token: `{name}` must be a whole number of seconds since 1970")
    return value


def _check_parties(claims: dict[str, Any], settings: AuthSettings) -> None:
    if settings.issuer and claims.get("iss") != settings.issuer:
        raise Unauthorized("token: `iss` is not the issuer this server trusts")
    if settings.audience:
        audience = claims.get("aud")
        # A single audience may be given without a list: RFC 7519 section 4.1.3.
        if settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthorized("token: `aud` does not name this server")


def _text(claims: dict[str, Any], name: str, most: int) -> str:
    if name not in claims:
        raise Unauthorized(f"token: has no `{name}`")
    value = claims[name]
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise Unauthorized(f"token: `{name}` must be text of 1 to {most} characters")
    return value


def _info(info: Any) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise Unauthorized("token: `info` must be an object")
    try:
        encoded = msgspec.json.encode(info)
        if len(encoded) > MAX_INFO_BYTES:
            raise Unauthorized(f"token: `info` must be at most {MAX_INFO_BYTES} bytes of JSON")
        # It is put into frames of either encoding, so it must pass for `data`.
        JSON.check_data(encoded)
    except OverflowError:
        raise Unauthorized("token: `info`: integers must fit into 64 bits") from None
    except BadRequest as error:
        raise Unauthorized(f"token: `info`: {error.message.removeprefix('data: ')}") from None
    return info


def _grants(topics: Any, defaults: TopicGrants) -> TopicGrants:
    if not isinstance(topics, dict):
        raise Unauthorized("token: `topics` must be an object")
    for name in topics:
        if name not in _ACTIONS:
            raise Unauthorized(f"token: `topics` may hold {', '.join(_ACTIONS)} only")
    return TopicGrants(
        **{
            name: _patterns(name, topics[name]) if name in topics else getattr(defaults, name)
            for name in _ACTIONS
        }
    )


def _patterns(name: str, patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
        raise Unauthorized(
            f"token: `topics.{name}` must be a list of at most {MAX_PATTERNS} patterns"
        )
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise Unauthorized(f"token: `topics.{name}` must hold text only")
        try:
            check_pattern(pattern)
        except ValueError as error:
            raise Unauthorized(f"token: `topics.{name}`: {pattern[:80]!r} {error}") from None
    return tuple(patterns)
