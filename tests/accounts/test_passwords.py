"""Passwords: hashed apart from the loop, a bounded number at a time."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from chat_server.accounts.passwords import MAX_WAITING, Passwords, check_password
from chat_server.protocol.errors import Unavailable

from .conftest import account_settings


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(account_settings().accounts)
    yield passwords
    passwords.close()


async def test_a_password_belongs_to_its_hash_alone(passwords: Passwords) -> None:
    digest = await passwords.hash("correct horse")
    assert digest.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert digest != await passwords.hash("correct horse")  # of another salt
    assert await passwords.verify(digest, "correct horse")
    assert not await passwords.verify(digest, "Correct horse")
    assert not await passwords.verify(digest, "")


async def test_a_password_may_be_composed_by_another_keyboard(passwords: Passwords) -> None:
    digest = await passwords.hash("caf\u00e9 au lait")
    assert await passwords.verify(digest, "cafe\u0301 au lait")


@pytest.mark.parametrize("digest", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA", "\0" * 300])
async def test_a_hash_that_was_changed_by_hand_fits_nothing(
    passwords: Passwords, digest: str
) -> None:
    assert not await passwords.verify(digest, "correct horse")


async def test_nobody_has_no_password(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "nobody's password")


async def test_a_hash_of_other_parameters_is_outdated(passwords: Passwords) -> None:
    digest = await passwords.hash("correct horse")
    assert not passwords.is_outdated(digest)
    others = Passwords(account_settings(hash_passes=2).accounts)
    assert others.is_outdated(digest)
    assert await others.verify(digest, "correct horse")
    others.close()


async def test_the_loop_goes_on_while_a_password_is_hashed(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), threading.Event()

    class Slow:
        def hash(self, password: bytes) -> str:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(60)
            return "digest"

    monkeypatch.setattr(passwords, "_hasher", Slow())
    hashing = asyncio.create_task(passwords.hash("correct horse"))
    await begun.wait()  # for ever, if the loop did it
    go_on.set()
    assert await hashing == "digest"


async def test_places_are_bounded_and_given_back(passwords: Passwords) -> None:
    turns = [passwords.turn() for _ in range(MAX_WAITING + 1)]
    for turn in turns:
        turn.__enter__()
    with pytest.raises(Unavailable) as refused, passwords.turn():
        pass
    assert refused.value.retry_in_ms
    turns[0].__exit__(None, None, None)
    with passwords.turn():
        pass


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("seven77", "8 to 256"),
        ("x" * 257, "8 to 256"),
        ("aaaaaaaa", "harder to guess"),
        ("alice-smith", "harder to guess"),
        ("Alice-Smith", "harder to guess"),
        ("line\nfeed", "control characters"),
        ("null\0byte", "control characters"),
    ],
)
def test_a_password_that_breaks_a_rule_is_refused(password: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_password(password, "alice-smith")


@pytest.mark.parametrize(
    "password", ["eight 88", "пароль-мой", "密码密码密码密码", "x" * 255 + "y"]
)
def test_any_other_password_will_do(password: str) -> None:
    check_password(password, "alice-smith")
