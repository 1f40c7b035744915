"""Verifiers whose keys are at a URL, and what they say."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from chat_server.auth.tokens import Verifier
from chat_server.clock import SystemClock
from chat_server.protocol.errors import Unauthorized, Unavailable
from chat_server.settings import AuthSettings

from .key_server import PRIVATE, KeyServer, sign

OLD = sign("RS256", PRIVATE["RSA"], kid="old")
NEW = sign("RS256", PRIVATE["RSA2"], kid="new")


def settings(url: str, *algorithms: str) -> AuthSettings:
    fields = {"jwks_url": url, "algorithms": algorithms or ["RS256"]}
    return msgspec.convert(fields, AuthSettings)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110  (the condition is another thread's)
            await asyncio.sleep(0.002)


async def refusal(subject: Verifier, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await subject.verify(token)
    return caught.value.message


def made_up(number: int) -> str:
    return sign("RS256", PRIVATE["RSA"], kid=f"made-up-{number}")


async def wait_told(subject: Verifier, token: str) -> int:
    """Return the milliseconds until the next try that a token of unknown key is told."""
    with pytest.raises(Unavailable) as caught:
        await subject.verify(token)
    with pytest.raises(Unavailable):
        subject.verify_now(token)
    assert caught.value.retry_in_ms is not None
    return caught.value.retry_in_ms


def running(server: KeyServer, seconds: float) -> Verifier:
    """Return a verifier that follows real time, since its keeper sleeps in real time."""
    chosen = settings(server.url)
    return Verifier(
        msgspec.structs.replace(chosen, jwks_min_refresh_seconds=seconds),
        SystemClock(),
    )
