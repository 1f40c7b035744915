"""Users in the database: found, listed, added and changed."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from ..protocol.errors import Invalid
from .names import canonical, skeleton
from .roles import join, split
from .tables import SIGN_INS, USERS

TAKEN: Final = "is taken, or looks like one that is"

_ROW = USERS.c

# Built once, because building takes longer than running the statement.
_FIND = select(_ROW.id, _ROW.roles, _ROW.created_at, _ROW.disabled_at, _ROW.password_hash).where(
    _ROW.id == bindparam("user")
)


class Account(Struct, frozen=True):
    """A user.

    Args:
        id: the canonical name, the `sub` of the user's tokens.
        roles: names of `accounts.roles`.
        created_at: milliseconds since 1970.
        disabled: True if the user may not sign in.
    """

    id: str
    roles: tuple[str, ...]
    created_at: int
    disabled: bool = False


class Credentials(Struct, frozen=True):
    """A user with the hash of the password."""

    account: Account
    password_hash: str


def known_name(name: str) -> str | None:
    """Return the canonical name; None for a text that cannot be a name."""
    try:
        return canonical(name)
    except ValueError:
        return None


def new_name(name: str, reserved: Iterable[str] = ()) -> str:
    """Return the canonical name for a new user.

    Args:
        name: the name as typed.
        reserved: names that are reserved together with every name that looks alike.

    Raises:
        Invalid: the name breaks a rule.
    """
    try:
        known = canonical(name)
    except ValueError as error:
        raise Invalid({"name": str(error)}) from None
    # The skeleton maps 1 to l; here a 1 may also stand for an i.
    looks = {skeleton(known), skeleton(known.replace("1", "i"))}
    if not looks.isdisjoint(skeleton(each.casefold()) for each in reserved):
        raise Invalid({"name": TAKEN})
    return known


def find(connection: Connection, user: str) -> Credentials | None:
    """Return a user by the canonical name."""
    row = connection.execute(_FIND, {"user": user}).one_or_none()
    if row is None:
        return None
    return Credentials(_account(row.id, row.roles, row.created_at, row.disabled_at), row[4])


def listed(connection: Connection, after: str, limit: int) -> list[Account]:
    """Return users behind a name, in the order of their names."""
    columns = (_ROW.id, _ROW.roles, _ROW.created_at, _ROW.disabled_at)
    statement = select(*columns).where(_ROW.id > after).order_by(_ROW.id).limit(limit)
    return [_account(*row) for row in connection.execute(statement).all()]


def is_taken(connection: Connection, user: str) -> bool:
    """Return True if a canonical name, or a name that looks alike, is taken."""
    same = or_(_ROW.id == user, _ROW.skeleton == skeleton(user))
    return connection.execute(select(_ROW.id).where(same).limit(1)).first() is not None


def add(
    connection: Connection, user: str, password_hash: str, roles: Sequence[str], now: int
) -> Account:
    """Add a user.

    Raises:
        IntegrityError: the name, or a name that looks alike, is taken.
    """
    connection.execute(
        insert(USERS).values(
            id=user,
            skeleton=skeleton(user),
            password_hash=password_hash,
            roles=join(roles),
            created_at=now,
            disabled_at=None,
        )
    )
    return Account(user, tuple(roles), now)


def replace_hash(connection: Connection, user: Credentials, new: str) -> bool:
    """Replace the hash of a password; return False if the hash has changed meanwhile."""
    mine = (_ROW.id == user.account.id) & (_ROW.password_hash == user.password_hash)
    changed = connection.execute(
        update(USERS).where(mine).values(password_hash=new).returning(_ROW.id)
    )
    return changed.first() is not None


def change(connection: Connection, user: str, **values: object) -> bool:
    """Change columns of a user; return False if there is no such user."""
    changed = connection.execute(
        update(USERS).where(_ROW.id == user).values(**values).returning(_ROW.id)
    )
    return changed.first() is not None


def end_sign_ins(connection: Connection, user: str) -> None:
    """End all sign-ins of a user."""
    connection.execute(delete(SIGN_INS).where(SIGN_INS.c.user_id == user))


def _account(id: str, roles: str, created_at: int, disabled_at: int | None) -> Account:
    return Account(id, split(roles), created_at, disabled_at is not None)
