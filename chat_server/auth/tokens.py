"""Verifies tokens, and issues them for the command line and tests.

PyJWT only checks the signature; `validation` checks the claims, and `keys` reads keys.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from jwt import PyJWS
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidAlgorithmError, InvalidSignatureError, PyJWTError

from ..clock import Clock
from ..protocol.errors import ANOTHER_USER, ChatError, Unauthorized, Unavailable
from ..settings import AuthSettings, SettingsError
from .claims import Claims, TopicGrants
from .denials import REVOKED, Denials
from .jwks import KeySet
from .keys import PublicKeys, make_jws, parse_key_set, read_public_key
from .open_topics import CLOSED, OpenTopics
from .patterns import pattern_mistakes
from .reading import names_in
from .validation import read_claims
from .verified import MAX_TOKEN_BYTES, VerifiedTokens

MIN_RETRY_MS = 100
"""Minimum of `retry_in_ms` in milliseconds while the issuer's keys are not known."""

_HASHES = {
    "HS256": HMACAlgorithm.SHA256,
    "HS384": HMACAlgorithm.SHA384,
    "HS512": HMACAlgorithm.SHA512,
}
_HMAC_BYTES = 64

_KINDS = {
    "has expired": "expired",
    "is not yet valid": "not_yet_valid",
    "in the future": "not_yet_valid",
    REVOKED: "revoked",
    "its signature": "signature",
    "its algorithm": "algorithm",
    "`kid`": "key",
    "`iss`": "issuer",
    "`aud`": "audience",
    ANOTHER_USER: "another_user",
    "is not a JWT": "malformed",
    "is longer": "malformed",
    "one bearer token": "malformed",
}
"""Kinds of refusals by a part of the message; all other refusals are about claims."""


class Verifier:
    """Verifies tokens and returns their claims; caches the claims of verified tokens.

    Args:
        settings: one family of algorithms and the keys for it.
        clock: the clock for `exp`, `nbf` and `iat`.
        verified: the cache of verified tokens; a new one if None.
        open_topics: the actions that are open to every user with a valid token.
        denials: the users and tokens that operators keep out; none if None.

    Raises:
        SettingsError: the settings name no key, an unreadable key, or a key that does not fit the
            algorithms.
    """

    def __init__(
        self,
        settings: AuthSettings,
        clock: Clock,
        verified: VerifiedTokens | None = None,
        *,
        open_topics: OpenTopics = CLOSED,
        denials: Denials | None = None,
    ) -> None:
        self._settings = settings
        self._denials = Denials(clock) if denials is None else denials
        self._clock = clock
        self._verified = VerifiedTokens(settings.leeway_seconds) if verified is None else verified
        self._defaults = _default_grants(settings)
        self._open_topics = open_topics
        self._algorithms = list(settings.algorithms)
        self._jws = make_jws(self._algorithms)
        self._key: Any = None
        self._key_set: KeySet[PublicKeys] | None = None
        if settings.jwks_url:
            self._key_set = self._remote_keys(settings)
        elif settings.public_key_file:
            self._key = read_public_key(settings, self._jws)
        else:
            self._key = _shared_key(settings)
            _expect_checked_key(self._jws, self._algorithms)

    @property
    def has_keys(self) -> bool:
        """Whether tokens can be verified: False until the first fetch of a key set at a URL."""
        return self._key_set is None or self._key_set.keys is not None

    @property
    def _public_keys(self) -> PublicKeys | None:
        """The present keys of the set at a URL; None without keys or without a set."""
        return None if self._key_set is None else self._key_set.keys

    async def start(self) -> None:
        """Start to keep a key set at a URL fresh; an unreachable URL is not an error."""
        if self._key_set is not None:
            await self._key_set.start()

    async def stop(self) -> None:
        """Stop fetching keys."""
        if self._key_set is not None:
            await self._key_set.stop()

    async def verify(self, token: str) -> Claims:
        """Return the claims of `token`; fetch the issuer's keys first if needed and due.

        Raises:
            Unauthorized: names the rule that the token breaks, and never the token.
            Blocked: an operator keeps the user out.
            Unavailable: the token cannot be judged: the issuer's keys cannot be fetched, or the
                token's key may be new and the next fetch is not due.
        """
        try:
            claims = await self._verify(token)
            if self._denials.is_stale:
                await self._denials.renew()
            self._denials.check(claims)
        except ChatError as error:
            error.log_fields = names_in(token, error.user)
            raise
        return claims

    async def _verify(self, token: str) -> Claims:
        found = self._verified.find(token, self._public_keys, self._clock.time())
        if found is not None:
            return found
        key, kid = self._find_key(token)
        if key is None and self._key_set is not None:
            certain = await self._key_set.refresh(kid)
            key, kid = self._find_key(token)
            if key is None and certain:
                raise Unauthorized("token: its `kid` is unknown")
            if key is None:
                raise self._nothing_known(self._key_set, self._key_set.ask(kid))
        return self._read(token, key, kid)

    def verify_now(self, token: str) -> Claims | None:
        """Return the claims of `token`, or None if `verify` would have to wait for a request."""
        try:
            claims = self._verify_now(token)
            if claims is None or self._denials.is_stale:
                return None
            self._denials.check(claims)
        except ChatError as error:
            error.log_fields = names_in(token, error.user)
            raise
        return claims

    def _verify_now(self, token: str) -> Claims | None:
        found = self._verified.find(token, self._public_keys, self._clock.time())
        if found is not None:
            return found
        key, kid = self._find_key(token)
        if key is None and self._key_set is not None:
            wait = self._key_set.ask(kid)
            if wait > 0:
                raise self._nothing_known(self._key_set, wait)
            return None
        return self._read(token, key, kid)

    def _remote_keys(self, settings: AuthSettings) -> KeySet[PublicKeys]:
        if any(name.startswith("HS") for name in settings.algorithms):
            raise SettingsError("auth.algorithms: HS algorithms exclude auth.jwks_url")
        return KeySet(
            settings.jwks_url,
            lambda body: parse_key_set(body, self._jws, self._algorithms),
            refresh_seconds=settings.jwks_min_refresh_seconds,
            clock=self._clock,
        )

    def _find_key(self, token: str) -> tuple[Any, str | None]:
        """Return the key that must have signed `token`, None for an unknown key, and its `kid`."""
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized(f"token: is longer than {MAX_TOKEN_BYTES} bytes")
        if not token.isascii():
            raise Unauthorized("token: is not a JWT")
        if self._key_set is None:
            return self._key, None
        try:
            header = self._jws.get_unverified_header(token)
        except PyJWTError:
            raise Unauthorized("token: is not a JWT") from None
        algorithm = header.get("alg")
        if algorithm not in self._algorithms:
            raise Unauthorized("token: its algorithm is not allowed")
        candidates = (self._key_set.keys or {}).get(algorithm, {})
        kid = header.get("kid")
        if kid is None and len(candidates) > 1:
            raise Unauthorized("token: has no `kid`, and its issuer has several keys")
        if kid is None:
            # The only key. Its id is no secret, and operators may revoke the key.
            only, key = next(iter(candidates.items()), (None, None))
            return key, only
        return candidates.get(kid), kid

    def _nothing_known(self, key_set: KeySet[PublicKeys], wait: float) -> Unavailable:
        return Unavailable(
            "the key of the token may be new, and is not known yet"
            if key_set.reachable
            else "the keys of the token's issuer cannot be fetched",
            retry_in_ms=max(MIN_RETRY_MS, math.ceil(wait * 1000)),
        )

    def _read(self, token: str, key: Any, kid: str | None) -> Claims:
        try:
            decoded = self._jws.decode_complete(token, key, algorithms=self._algorithms)
        except InvalidAlgorithmError:
            raise Unauthorized("token: its algorithm is not allowed") from None
        except InvalidSignatureError:
            raise Unauthorized("token: its signature does not match") from None
        except (PyJWTError, ValueError):
            raise Unauthorized("token: is not a JWT") from None
        now = self._clock.time()
        named = decoded["header"].get("kid")
        kid = named if isinstance(named, str) else kid
        claims = read_claims(decoded["payload"], self._settings, self._defaults, now, kid)
        claims = msgspec.structs.replace(claims, open_topics=self._open_topics)
        self._verified.keep(token, self._public_keys, claims)
        return claims


def refusal_kind(error: Unauthorized) -> str:
    """Return the reason of a token's refusal in one word, for metrics."""
    return next((kind for text, kind in _KINDS.items() if text in error.message), "claims")


class Issuer:
    """Issues tokens that a server with the same settings accepts.

    Args:
        settings: the secret to sign with, and the issuer and audience to name.
        clock: tells the time of issue.

    Raises:
        SettingsError: there is no shared secret to sign with.
    """

    def __init__(self, settings: AuthSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._algorithm = settings.algorithms[0]
        if not self._algorithm.startswith("HS"):
            raise SettingsError(
                "auth.algorithms: only a shared secret (HS256, HS384, HS512) can issue tokens, "
                f"{self._algorithm} can only verify them"
            )
        self._key = _shared_key(settings)
        self._jws = make_jws([self._algorithm])
        _expect_checked_key(self._jws, [self._algorithm])

    def issue(
        self,
        *,
        sub: str,
        name: str | None = None,
        info: Mapping[str, Any] | None = None,
        topics: Mapping[str, Sequence[str]] | None = None,
        rate_factor: float | None = None,
        ttl_seconds: float,
    ) -> str:
        """Return a token.

        Args:
            sub: the user.
            name: shown to others.
            info: shown to others, at most 1 KiB of JSON.
            topics: patterns by action; a missing action falls back to the server's default.
            rate_factor: multiplies the user's rates.
            ttl_seconds: the life of the token, rounded up to a whole second.

        Raises:
            ValueError: no server would accept the token; the message says why.
        """
        if not 0 < ttl_seconds < 2**52:
            raise ValueError("the time to live must be above 0 seconds")
        if rate_factor is not None and not math.isfinite(rate_factor):
            # JSON has no form for such a number, so the token would not have the claim.
            raise ValueError("the rate factor must be a finite number")
        settings, now = self._settings, self._clock.time()
        claims: dict[str, Any] = {
            "sub": sub,
            "name": name,
            "info": info,
            "rate_factor": rate_factor,
            "iss": settings.issuer or None,
            "aud": settings.audience or None,
            "iat": math.floor(now),
            "exp": math.ceil(now + ttl_seconds),
        }
        if topics is not None:
            lists = {action: list(patterns) for action, patterns in topics.items()}
            claims |= _nested(settings.topics_claim, lists)
        try:
            payload = msgspec.json.encode({k: v for k, v in claims.items() if v is not None})
            read_claims(payload, settings, TopicGrants(), now)
        except Unauthorized as error:
            raise ValueError(error.message) from None
        except (TypeError, RecursionError) as error:
            raise ValueError(f"the claims cannot be written as JSON: {error}") from None
        token = self._jws.encode(payload, self._key, algorithm=self._algorithm)
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"the token would be longer than {MAX_TOKEN_BYTES} bytes")
        return token


def issue_token(
    settings: AuthSettings,
    *,
    sub: str,
    name: str | None = None,
    info: Mapping[str, Any] | None = None,
    topics: Mapping[str, Sequence[str]] | None = None,
    rate_factor: float | None = None,
    ttl_seconds: float,
    clock: Clock,
) -> str:
    """Return one token; for the arguments and errors see `Issuer`."""
    issuer = Issuer(settings, clock)
    return issuer.issue(
        sub=sub,
        name=name,
        info=info,
        topics=topics,
        rate_factor=rate_factor,
        ttl_seconds=ttl_seconds,
    )


def _nested(name: str, value: Any) -> dict[str, Any]:
    """Return claims with `value` at the place of `auth.topics_claim`."""
    parts = name[1:].split("/") if name.startswith("/") else []
    for part in reversed(parts):
        value = {part.replace("~1", "/").replace("~0", "~"): value}
    return value if parts else {name: value}


def _default_grants(settings: AuthSettings) -> TopicGrants:
    grants = msgspec.structs.asdict(settings.default_topics)
    # Settings made in code have passed no checks.
    mistakes = [f"auth.default_topics.{key}: {reason}" for key, reason in pattern_mistakes(grants)]
    if mistakes:
        raise SettingsError(*mistakes)
    return TopicGrants(**grants)


def _shared_key(settings: AuthSettings) -> bytes:
    if not all(name.startswith("HS") for name in settings.algorithms):
        raise SettingsError("auth.algorithms: these need auth.public_key_file or auth.jwks_url")
    if not settings.secret:
        raise SettingsError("auth.secret: is needed to sign and verify tokens")
    # HMAC itself pads a short key with zeros (RFC 2104, section 2). The same padding here changes
    # no signature, but stops PyJWT's warning at each token; `settings.check` checks the length
    # once.
    key = settings.secret.encode().ljust(_HMAC_BYTES, b"\0")
    try:
        PyJWS().get_algorithm_by_name(settings.algorithms[0]).prepare_key(key)
    except PyJWTError:
        raise SettingsError("auth.secret: is a public key or certificate, not a secret") from None
    return key


class _CheckedHMAC(HMACAlgorithm):
    """HMAC without a check at each token whether the secret is a PEM, DER or JWK file.

    This check took a third of the time to verify a token, and half of the time to issue one.
    `_shared_key` makes the check once.
    """

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)  # noqa: S101 - only `_shared_key` makes one
        return key


def _expect_checked_key(jws: PyJWS, algorithms: Sequence[str]) -> None:
    """Make `jws` accept the result of `_shared_key` unchanged."""
    for name in algorithms:
        jws.unregister_algorithm(name)
        jws.register_algorithm(name, _CheckedHMAC(_HASHES[name]))
