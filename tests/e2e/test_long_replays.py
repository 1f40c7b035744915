"""Whoever missed megabytes gets all of them, and what comes then."""

from tests.rig.chat_client import chat
from tests.rig.server import ServerProcess

from .room import Room, token

ENVIRON = {
    "CHAT_LIMITS__READ_BYTES_PER_SECOND": "1000000000",
    "CHAT_LIMITS__READ_BURST_BYTES": "1000000000",
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
    "CHAT_LIMITS__MESSAGE_BURST": "100000",
    "CHAT_NAMESPACES__ROOM__HISTORY_BYTES": "0",
    # The bystander reads the megabytes at the end only.
    "CHAT_LIMITS__SLOW_TIMEOUT_SECONDS": "300",
}

MESSAGES, BYTES = 600, 30_000
TIMES = 5
"""The buffer becomes full and empty again dozens of times in each."""


async def test_a_long_replay_goes_on_to_its_end(server: ServerProcess, room: Room) -> None:
    async with await chat(server.ws_url, token("ada")) as ada:
        first = await ada.ok(type="publish", topic=room.topic, data="x" * BYTES)
        for _ in range(MESSAGES - 1):
            await ada.ok(type="publish", topic=room.topic, data="x" * BYTES)
        for number in range(TIMES):
            async with await chat(server.ws_url, token("bob")) as bob:
                since = {"epoch": first["epoch"], "seq": 0}
                await bob.ok(type="subscribe", topic=room.topic, since=since)
                await ada.ok(type="publish", topic=room.topic, data="live")
                seqs = [(await bob.next())["seq"] for _ in range(MESSAGES + number + 1)]
                assert seqs == list(range(1, MESSAGES + number + 2))
