"""Tokens and key sets as issuers document them, signed with keys of ours."""

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.auth.key_server import PRIVATE, certificate, jwk, sign

TOPICS = {"subscribe": ["user:{sub}"], "publish": ["room:a"]}
SECRET = "0123456789abcdef" * 4

NOW = int(time.time())
TIMES = {"iat": NOW - 5, "exp": NOW + 86_400}


class Issued(NamedTuple):
    """What an issuer publishes and signs.

    Args:
        token: with the issuer and audience of the table in docs/tokens.md.
        keys: the body at its `jwks_url`.
        sub: the user in it.
    """

    token: str
    keys: bytes
    sub: str


def issued(issuer: str, iss: str, aud: str) -> Issued:
    """Return what `issuer`, by its name in the table, makes for that `iss` and `aud`."""
    header, claims, keys = _SHAPES[issuer]
    claims = {name: _filled(value, iss, aud) for name, value in claims.items()}
    name, algorithm = ("P-256", "ES256") if issuer == "Supabase" else ("RSA", "RS256")
    key: Any = PRIVATE[name]
    if issuer.startswith("Laravel"):
        key, algorithm = SECRET, "HS256"
    token = sign(algorithm, key, json.dumps(TIMES | claims).encode(), **header)
    return Issued(token, json.dumps(keys).encode(), str(claims["sub"]))


def _filled(value: Any, iss: str, aud: str) -> Any:
    if isinstance(value, list):
        return [_filled(item, iss, aud) for item in value]
    return {"ISS": iss, "AUD": aud}.get(value, value) if isinstance(value, str) else value


def _set(*keys: Mapping[str, Any]) -> dict[str, Any]:
    return {"keys": list(keys)}


_X5 = {
    "x5t": "NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg",
    "x5c": ["MIIDBzCCAe+gAwIBAgIJ"],
}
_SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Auth0": (
        {"typ": "JWT", "kid": "NjVBRjY5MDlC"},
        {
            "https://chat.example.org/topics": TOPICS,
            "iss": "ISS",
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["AUD", "https://TENANT.eu.auth0.com/userinfo"],
            "scope": "openid profile",
            "azp": "my_client_id",
        },
        _set(
            jwk("RSA", use="sig", alg="RS256", kid="NjVBRjY5MDlC", **_X5),
            jwk("RSA2", use="sig", alg="RS256", kid="next", **_X5),
        ),
    ),
    "Okta": (
        {"kid": "Y7wGCXwbkYzbgCXkCYxv"},
        {
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "iss": "ISS",
            "aud": "AUD",
            "cid": "0oa8o4i4jjiIDQoYP5d7",
            "uid": "00u8m2cpj0qv9yVWg5d7",
            "scp": ["openid"],
            "auth_time": NOW - 10,
            "sub": "jane.doe+test@example.org",
            "topics": json.dumps(TOPICS),
        },
        _set(jwk("RSA", alg="RS256", kid="Y7wGCXwbkYzbgCXkCYxv", use="sig")),
    ),
    "Microsoft Entra ID, v2.0": (
        {"typ": "JWT", "kid": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg"},
        {
            "aud": "AUD",
            "iss": "ISS",
            "nbf": NOW - 5,
            "aio": "AWQAm/8TAAAA",
            "azp": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
            "azpacr": "0",
            "name": "Jane Doe",
            "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "preferred_username": "jane@example.org",
            "rh": "I",
            "scp": "access_as_user",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
            "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "uti": "fqiBqXLPj0eQa82S-IYFAA",
            "ver": "2.0",
        },
        _set(
            jwk(
                "RSA",
                use="sig",
                kid="nOo3ZDrODXEK1jKWhXslHR_KXEg",
                issuer="https://login.microsoftonline.com/TENANT/v2.0",
                cloud_instance_name="microsoftonline.com",
                **_X5,
            )
        ),
    ),
    "Keycloak": (
        {"typ": "JWT", "kid": "FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"},
        {
            "jti": "onrtac:9b2a1c3e-0a52-4f7a-8a55-3a1f7a1d1b4e",
            "iss": "ISS",
            "aud": ["AUD", "account"],
            "sub": "f:5f3c8b1e-6f0b-4d5c-9f64-7c1c6a2b0d11:jane",
            "typ": "Bearer",
            "azp": "web",
            "sid": "c9f1c5f0-5a5e-4c1a-a7d0-1b6f5f1b3e2a",
            "acr": "1",
            "allowed-origins": ["https://app.example.org"],
            "realm_access": {"roles": ["offline_access"]},
            "resource_access": {"account": {"roles": ["view-profile"]}},
            "scope": "openid email profile",
            "email_verified": True,
            "name": "Jane Doe",
            "preferred_username": "jane",
            "topics": TOPICS,
        },
        _set(
            jwk("RSA2", kid="enc", use="enc", alg="RSA-OAEP", **_X5),
            jwk("RSA", kid="FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE", use="sig", alg="RS256"),
        ),
    ),
    "Amazon Cognito, ID token": (
        {"kid": "1234example="},
        {
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "cognito:groups": ["chat"],
            "email_verified": True,
            "iss": "ISS",
            "cognito:username": "janedoe",
            "origin_jti": "a",
            "aud": "AUD",
            "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
            "token_use": "id",
            "auth_time": NOW - 10,
            "email": "jane@example.org",
            "topics": json.dumps(TOPICS),
        },
        _set(
            jwk("RSA2", alg="RS256", kid="5678example=", use="sig"),
            jwk("RSA", alg="RS256", kid="1234example=", use="sig"),
        ),
    ),
    "Google": (
        {"kid": "b3ead5f7e0c4", "typ": "JWT"},
        {
            "iss": "ISS",
            "azp": "AUD",
            "aud": "AUD",
            "sub": "110169484474386276334",
            "email": "jane@example.org",
            "email_verified": True,
            "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
            "name": "Jane Doe",
            "picture": "https://lh3.googleusercontent.com/a",
            "given_name": "Jane",
        },
        _set(
            jwk("RSA", kid="b3ead5f7e0c4", alg="RS256", use="sig"),
            jwk("RSA2", kid="other", alg="RS256", use="sig"),
        ),
    ),
    "Firebase": (
        {"kid": "3f3d8a1f", "typ": "JWT"},
        {
            "name": "Jane Doe",
            "topics": TOPICS,
            "iss": "ISS",
            "aud": "AUD",
            "auth_time": NOW - 10,
            "user_id": "XkX0o7pZ8fYvD2q1s3t4u5v6w7x8",
            "sub": "XkX0o7pZ8fYvD2q1s3t4u5v6w7x8",
            "firebase": {"identities": {}, "sign_in_provider": "anonymous"},
        },
        {"3f3d8a1f": certificate(PRIVATE["RSA"]), "other": certificate(PRIVATE["RSA2"])},
    ),
    "Supabase": (
        {"kid": "b81269f1-21d8-4f2e-b719-c2240a840d90", "typ": "JWT"},
        {
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": NOW - 10}],
            "app_metadata": {"provider": "email", "providers": ["email"], "topics": TOPICS},
            "aud": "AUD",
            "email": "jane@example.org",
            "is_anonymous": False,
            "iss": "ISS",
            "phone": "",
            "role": "authenticated",
            "session_id": "b81269f1-21d8-4f2e-b719-c2240a840d90",
            "sub": "7f1c8b1e-6f0b-4d5c-9f64-7c1c6a2b0d11",
            "user_metadata": {"name": "Jane"},
        },
        _set(
            jwk(
                "P-256",
                alg="ES256",
                ext=True,
                key_ops=["verify"],
                kid="b81269f1-21d8-4f2e-b719-c2240a840d90",
                use="sig",
            )
        ),
    ),
    "Clerk": (
        {"cat": "cl_B7d4PD111AAA", "kid": "ins_2mGZ", "typ": "JWT"},
        {
            "azp": "https://app.example.org",
            "fva": [7, -1],
            "iss": "ISS",
            "nbf": NOW - 10,
            "sid": "sess_123",
            "sts": "active",
            "sub": "user_2mGZ4xY",
            "topics": TOPICS,
            "v": 2,
        },
        _set(jwk("RSA", use="sig", kid="ins_2mGZ", alg="RS256")),
    ),
    "Laravel with lcobucci/jwt": (
        {"typ": "JWT"},
        {
            "iss": "ISS",
            "aud": "AUD",
            "jti": "4f1g23a12aa",
            "iat": NOW - 5.123456,
            "nbf": NOW - 5.123456,
            "exp": NOW + 86_400.123456,
            "sub": "7",
            "topics": TOPICS,
        },
        {},
    ),
}
