"""Who signs in right after a sign-out gets a token that is not revoked with the older ones."""

import asyncio
from typing import cast

import pytest

from chat_server.auth.denials import Denial
from chat_server.operators.office import Office
from chat_server.operators.sign_outs import SignOuts

from ..realtime.world import World


async def test_a_timer_that_fires_early_does_not_let_a_revoked_second_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    node, clock = world.node, world.clock
    clock.advance(0.25)
    revoked = int(clock.time())
    until = (revoked + 3_600) * 1_000
    node.denials.put("issued", "bob", Denial(until, revoked, "bob", "signed out"))

    async def wake_early(seconds: float) -> None:
        clock.advance(seconds - 0.001)  # as uvloop may

    monkeypatch.setattr(asyncio, "sleep", wake_early)
    await SignOuts(cast(Office, None), node).settle("bob")
    assert revoked + 1 <= clock.time() < revoked + 1.01
