"""Users in the database: found, listed, added and changed."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from ..protocol.errors import Invalid
from .names import canonical, skeleton
from .roles import join, split
from .tables import SIGN_INS, USERS

TAKEN: Final = "is taken, or looks like one that is"

_ROW = USERS.c

# Made once: to make such a statement takes longer than to run it.
_FIND = select(_ROW.id, _ROW.roles, _ROW.created_at, _ROW.disabled_at, _ROW.password_hash).where(
    _ROW.id == bindparam("user")
)


class Account(Struct, frozen=True):
    """A user.

    Args:
        id: the name, which is the `sub` of the user's tokens.
        roles: names of `accounts.roles`.
        created_at: milliseconds since 1970.
        disabled: whether the user may not sign in.
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
    """Return the canonical name, or None if nobody can be called so."""
    try:
        return canonical(name)
    except ValueError:
        return None


def new_name(name: str, reserved: Iterable[str] = ()) -> str:
    """Return the canonical name for a new user.

    Args:
        name: as the user wrote it.
        reserved: names that cannot be had, nor any that looks like one of them.

    Raises:
        Invalid: the name breaks a rule.
    """
    try:
        known = canonical(name)
    except ValueError as error:
        raise Invalid({"name": str(error)}) from None
    # A 1 looks like an l, by which the skeleton has it; here it may stand for an i as well.
    looks = {skeleton(known), skeleton(known.replace("1", "i"))}
    if not looks.isdisjoint(skeleton(each.casefold()) for each in reserved):
        raise Invalid({"name": TAKEN})
    return known


async def find(session: AsyncSession, user: str) -> Credentials | None:
    """Return a user by the canonical name."""
    row = (await session.execute(_FIND, {"user": user})).one_or_none()
    if row is None:
        return None
    return Credentials(_account(row.id, row.roles, row.created_at, row.disabled_at), row[4])


async def listed(session: AsyncSession, after: str, limit: int) -> list[Account]:
    """Return users behind a name, in the order of their names."""
    columns = (_ROW.id, _ROW.roles, _ROW.created_at, _ROW.disabled_at)
    statement = select(*columns).where(_ROW.id > after).order_by(_ROW.id).limit(limit)
    return [_account(*row) for row in (await session.execute(statement)).all()]


async def is_taken(session: AsyncSession, user: str) -> bool:
    """Return whether a canonical name, or one that looks like it, is somebody's."""
    same = or_(_ROW.id == user, _ROW.skeleton == skeleton(user))
    return (await session.execute(select(_ROW.id).where(same).limit(1))).first() is not None


async def add(
    session: AsyncSession, user: str, password_hash: str, roles: Sequence[str], now: int
) -> Account:
    """Add a user.

    Raises:
        IntegrityError: the name, or one that looks like it, is somebody's.
    """
    await session.execute(
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


async def replace_hash(session: AsyncSession, user: Credentials, new: str) -> bool:
    """Replace the hash of a password; return False if it is another one by now."""
    mine = (_ROW.id == user.account.id) & (_ROW.password_hash == user.password_hash)
    changed = await session.execute(
        update(USERS).where(mine).values(password_hash=new).returning(_ROW.id)
    )
    return changed.first() is not None


async def change(session: AsyncSession, user: str, **values: object) -> bool:
    """Change columns of a user; return False if there is no such user."""
    changed = await session.execute(
        update(USERS).where(_ROW.id == user).values(**values).returning(_ROW.id)
    )
    return changed.first() is not None


async def end_sign_ins(session: AsyncSession, user: str) -> None:
    """End all sign-ins of a user."""
    await session.execute(delete(SIGN_INS).where(SIGN_INS.c.user_id == user))


def _account(id: str, roles: str, created_at: int, disabled_at: int | None) -> Account:
    return Account(id, split(roles), created_at, disabled_at is not None)
