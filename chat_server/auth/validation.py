"""Reads the payload of a token with a valid signature (RFC 7519; docs/protocol.md, section 1).

This module checks every rule that a token can break, against the injected time, and the error names
the rule. No library checks claims. (A msgspec struct for the claims was tried: its messages had to
be translated rule by rule, which took more lines than the checks.)
"""

import math
from typing import Any

import msgspec

from ..protocol.codecs import JSON
from ..protocol.errors import BadRequest, Unauthorized
from ..settings import AuthSettings
from .claims import Claims, TopicGrants
from .patterns import check_pattern

MAX_SUB = 255
"""Maximum characters of `sub`, from OpenID Connect Core, section 2."""

MAX_NAME = 128
MAX_INFO_BYTES = 1024
MIN_RATE_FACTOR = 0.01
MAX_RATE_FACTOR = 10_000
MAX_PATTERNS = 100
"""Maximum patterns in each list of a token: a check of permission may have to try every pattern."""

MAX_TIME = 253_402_300_799
"""The last second of the year 9999. Milliseconds in place of seconds are greater."""

_ACTIONS = TopicGrants.__struct_fields__
_ABSENT: Any = object()


def read_claims(
    payload: bytes,
    settings: AuthSettings,
    defaults: TopicGrants,
    now: float,
    kid: str | None = None,
) -> Claims:
    """Check a token's payload and return its claims.

    Fractions of seconds, which RFC 7519 allows in a NumericDate, are cut off. Null and an empty
    list in place of grants grant nothing: some languages write an empty map or list like this. Such
    values never stand for the defaults.

    Args:
        payload: the JSON text of the claims set.
        settings: the rules beyond those of every token, such as issuer and audience.
        defaults: the grants for a token without grants.
        now: seconds since 1970.
        kid: the key's id in the token's header.

    Raises:
        Unauthorized: names the claim and the broken rule.
    """
    try:
        claims = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        raise Unauthorized("token: its payload is not valid JSON") from None
    if not isinstance(claims, dict):
        raise Unauthorized("token: its payload is not a JSON object")
    issued_at, valid_from, expires_at = _check_times(claims, settings, now)
    jti = claims.get("jti")
    _check_parties(claims, settings)
    topics = _find_claim(claims, settings.topics_claim)
    return Claims(
        sub=_text(claims, "sub", MAX_SUB),
        topics=defaults if topics is _ABSENT else _grants(topics, defaults, settings.topics_claim),
        expires_at=expires_at,
        name=_text(claims, "name", MAX_NAME) if claims.get("name") not in (None, "") else None,
        info=_info(claims["info"]) if claims.get("info") not in (None, []) else None,
        valid_from=valid_from,
        rate_factor=_rate_factor(claims.get("rate_factor")),
        iat=issued_at,
        # RFC 7519 requires text. Other values are not used as the token's id.
        jti=jti if isinstance(jti, str) and jti else None,
        kid=kid,
    )


def _find_claim(claims: dict[str, Any], name: str) -> Any:
    """Return the value of a claim, by its name or its JSON Pointer (RFC 6901), or `_ABSENT`."""
    if not name.startswith("/"):
        return claims.get(name, _ABSENT)
    value: Any = claims
    for part in name[1:].split("/"):
        if not isinstance(value, dict):
            return _ABSENT
        value = value.get(part.replace("~1", "/").replace("~0", "~"), _ABSENT)
    return value


def _check_times(
    claims: dict[str, Any], settings: AuthSettings, now: float
) -> tuple[int | None, int | None, int | None]:
    """Return the time of issue, and the begin and end of validity, without the leeway."""
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
    begins = [time for time in (not_before, issued_at) if time is not None]
    return issued_at, max(begins, default=None), expires_at


def _time(claims: dict[str, Any], name: str) -> int | None:
    if name not in claims or (claims[name] is None and name != "exp"):
        return None
    value: float = claims[name]
    # A comparison with NaN is never true.
    if type(value) not in (int, float) or not 0 <= value <= MAX_TIME:
        raise Unauthorized(
            f"token: `{name}` must be a number of seconds since 1970, before the year 10000"
        )
    return math.floor(value)


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


def _rate_factor(value: Any) -> float:
    if value is None:
        return 1.0
    if type(value) not in (int, float) or not MIN_RATE_FACTOR <= value <= MAX_RATE_FACTOR:
        raise Unauthorized(
            f"token: `rate_factor` must be a number, {MIN_RATE_FACTOR} to {MAX_RATE_FACTOR}"
        )
    return float(value)


def _info(info: Any) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise Unauthorized("token: `info` must be an object")
    try:
        encoded = msgspec.json.encode(info)
        if len(encoded) > MAX_INFO_BYTES:
            raise Unauthorized(f"token: `info` must be at most {MAX_INFO_BYTES} bytes of JSON")
        # `info` becomes part of payloads in either encoding, so the rules of `data` apply.
        JSON.check_data(encoded)
    except OverflowError:
        raise Unauthorized("token: `info`: integers must fit into 64 bits") from None
    except BadRequest as error:
        raise Unauthorized(f"token: `info`: {error.message.removeprefix('data: ')}") from None
    return info


def _grants(topics: Any, defaults: TopicGrants, claim: str) -> TopicGrants:
    wrong = Unauthorized(f"token: `{claim}` must be an object, or JSON of one")
    if isinstance(topics, str):
        # Some issuers can put only text into a claim.
        try:
            topics = msgspec.json.decode(topics or "null")
        except (ValueError, RecursionError):
            raise wrong from None
    if topics is None or topics == []:
        return TopicGrants()
    if not isinstance(topics, dict):
        raise wrong
    for name in topics:
        if name not in _ACTIONS:
            raise Unauthorized(f"token: `{claim}` may hold {', '.join(_ACTIONS)} only")
    return TopicGrants(
        **{
            name: _patterns(f"{claim}.{name}", topics[name])
            if name in topics
            else getattr(defaults, name)
            for name in _ACTIONS
        }
    )


def _patterns(name: str, patterns: Any) -> tuple[str, ...]:
    if patterns is None:
        return ()
    if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
        raise Unauthorized(f"token: `{name}` must be a list of at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise Unauthorized(f"token: `{name}` must hold text only")
        try:
            check_pattern(pattern)
        except ValueError as error:
            raise Unauthorized(f"token: `{name}`: {pattern[:80]!r} {error}") from None
    return tuple(patterns)
