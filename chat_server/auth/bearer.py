"""Reads bearer tokens from Authorization headers: RFC 6750, section 2.1."""

from collections.abc import Sequence

from ..protocol.errors import Unauthorized

_BEARER_RULE = "Authorization: must be 'Bearer <jwt>'"


def bearer_token(authorization: Sequence[str]) -> str:
    """Return the token of a request's Authorization headers.

    Raises:
        Unauthorized: there is no bearer token, or more than one.
    """
    token = header_token(authorization)
    if token is None:
        raise Unauthorized(_BEARER_RULE)
    return token


def header_token(authorization: Sequence[str]) -> str | None:
    """Return the token of a request's Bearer header, or None if there is no such header.

    Raises:
        Unauthorized: the header holds no token, or there is more than one.
    """
    tokens = []
    for header in authorization:
        scheme, _, credentials = header.strip().partition(" ")
        # A header without a space is a token without its scheme, or the scheme alone.
        if scheme.lower() == "bearer" or not credentials:
            tokens.append(credentials.strip() if scheme.lower() == "bearer" else "")
    if len(tokens) > 1:
        raise Unauthorized("Authorization: must hold one bearer token")
    if tokens == [""]:
        raise Unauthorized(_BEARER_RULE)
    return tokens[0] if tokens else None
