"""Invitations in the database: each lets one user sign up."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from ..protocol.errors import Invalid
from .roles import join, split
from .tables import INVITATIONS

_TOKEN_BYTES: Final = 24

_ROW = INVITATIONS.c


class Invitation(Struct, frozen=True):
    """An invitation that was just made.

    Args:
        token: for one sign-up.
        roles: of the user who signs up with it.
        expires_at: milliseconds since 1970.
    """

    token: str
    roles: tuple[str, ...]
    expires_at: int


def new_seed() -> str:
    """Return what the token of a new invitation is made of, with the server's secret."""
    return secrets.token_hex(16)


def token_of(secret: bytes, seed: str) -> str:
    """Return the token of an invitation, which is stored nowhere: a mail may be sent again.

    Args:
        secret: the server's.
        seed: from `new_seed`; alone it is of no use to anybody.
    """
    mac = hmac.digest(secret, b"invitation\0" + seed.encode(), "sha256")
    return urlsafe_b64encode(mac[:_TOKEN_BYTES]).decode()


def add(
    connection: Connection,
    token: str,
    roles: Sequence[str],
    created_by: str | None,
    expires_at: int,
) -> Invitation:
    """Make an invitation that is used by its token."""
    connection.execute(
        insert(INVITATIONS).values(
            digest=_digest(token),
            roles=join(roles),
            created_by=created_by,
            expires_at=expires_at,
            used_by=None,
        )
    )
    return Invitation(token, tuple(roles), expires_at)


def is_valid(connection: Connection, token: str, now: int) -> bool:
    """Return whether somebody can sign up with an invitation."""
    statement = select(_ROW.digest).where(*_usable(token, now))
    return connection.execute(statement).first() is not None


def use(connection: Connection, token: str, user: str, now: int) -> tuple[str, ...]:
    """Use an invitation up, and return the roles that it gives.

    Raises:
        Invalid: it was used, has expired, or never was.
    """
    statement = (
        update(INVITATIONS).where(*_usable(token, now)).values(used_by=user).returning(_ROW.roles)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise invalid()
    return split(row.roles)


def forget(connection: Connection, now: int) -> None:
    """Delete invitations that have expired."""
    connection.execute(delete(INVITATIONS).where(_ROW.expires_at <= now))


def invalid() -> Invalid:
    """Return the error about an invitation that is of no use."""
    return Invalid({"invitation": "was used already, has expired, or never was"})


def _usable(token: str, now: int) -> tuple[ColumnElement[bool], ...]:
    return _ROW.digest == _digest(token), _ROW.used_by.is_(None), _ROW.expires_at > now


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
