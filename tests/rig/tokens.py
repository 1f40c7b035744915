"""Tokens that no honest issuer would make."""

import functools
import time
from typing import Any

import jwt

from chat_server.settings import load_settings


@functools.cache
def secret() -> str:
    """Return the secret of the testing environment."""
    return load_settings(environ={"CHAT_ENVIRONMENT": "testing"}).auth.secret


def forge(*, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token with these claims and, by default, a lifetime of one hour.

    Args:
        key: the signing key in place of the server's secret.
        algorithm: "none" leaves the token unsigned.
        claims: None removes a default claim: `sub`, `exp`.
    """
    merged = {"sub": "mallory", "exp": int(time.time()) + 3600, **claims}
    present = {name: value for name, value in merged.items() if value is not None}
    if algorithm == "none":
        return jwt.encode(present, "", algorithm="none")
    return jwt.encode(present, secret() if key is None else key, algorithm=algorithm)


def bad_tokens(now: float | None = None) -> dict[str, str]:
    """Return tokens that no server in the testing environment may accept, by their fault.

    The server has `auth.audience` "chat".
    """
    now = int(time.time() if now is None else now)
    good: dict[str, Any] = {"aud": "chat", "exp": now + 3600}
    head, payload, signature = forge(**good).split(".")
    _, other_payload, _ = forge(sub="admin", **good).split(".")
    return {
        "expired": forge(**{**good, "exp": now - 60}),
        "not yet valid": forge(nbf=now + 3600, **good),
        "issued in the future": forge(iat=now + 3600, **good),
        "another key": forge(key="another-secret-that-is-long-enough-for-hs256", **good),
        "unsigned": forge(algorithm="none", **good),
        "signature cut off": f"{head}.{payload}.",
        "payload swapped": f"{head}.{other_payload}.{signature}",
        "another algorithm": forge(algorithm="HS512", **good),
        "a foreign audience": forge(**{**good, "aud": "mail"}),
        "no audience": forge(exp=now + 3600),
        "no subject": forge(sub=None, **good),
        "an empty subject": forge(sub="", **good),
        "no expiry": forge(aud="chat", exp=None),
        "a pattern that is none": forge(topics={"subscribe": ["x" * 100 + " "]}, **good),
        "not a token": "not-a-token-at-all",
        "three dots": "...",
        "longer than any token": "a" * 9000,
    }
