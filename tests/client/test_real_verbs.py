"""Messages that change, over real sockets: what a subscriber has folded is what history says."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chat_server.client import (
    Appended,
    Client,
    CommandFailed,
    Cursor,
    Deleted,
    Edited,
    Gap,
    Join,
    Message,
    Position,
    Reaction,
    Read,
    Subscription,
    Unrecoverable,
    connect,
)
from chat_server.client.codec import Encoding
from tests.client.helpers import lasting_server, take
from tests.rig.server import ServerProcess, mint

STEPS = 400


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with lasting_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_the_verbs_and_their_events(server: ServerProcess, encoding: Encoding) -> None:
    async with (
        connect(server.url, token=mint("alice"), encoding=encoding) as alice,
        connect(server.url, token=mint("bob"), encoding=encoding) as bob,
        bob.subscribe("room:a") as room,
    ):
        await alice.publish("room:a", {"text": "a"})
        edited = await alice.edit("room:a", 1, {"text": "b", "n": 2**40}, key="k")
        assert (edited.seq, edited.target, edited.duplicate) == (2, 1, False)
        again = await alice.edit("room:a", 1, {"text": "b", "n": 2**40}, key="k")
        assert (again.seq, again.duplicate) == (2, True)
        appended = await alice.append("room:a", 1, "ü👋", state="complete")
        assert (appended.seq, appended.length) == (3, 3)
        await bob.react("room:a", 1, "👍")
        await alice.react("room:a", 1, "👍")
        await bob.react("room:a", 1, "👍", remove=True)
        kinds = [type(event) for event in await take(room, 6)]
        assert kinds == [Message, Edited, Appended, Reaction, Reaction, Reaction]
        [now] = (await bob.history("room:a")).messages
        assert (now.data, now.state, now.version) == ({"text": "bü👋", "n": 2**40}, "complete", 6)
        assert list(room.messages) == [now]
        with pytest.raises(CommandFailed, match="forbidden"):
            await bob.delete("room:a", 1)
        with pytest.raises(CommandFailed, match="gone"):
            await alice.append("room:a", 1, "more")
        await alice.delete("room:a", 1)
        with pytest.raises(CommandFailed, match="gone"):
            await alice.edit("room:a", 1, "again")
        with pytest.raises(CommandFailed, match="not_found"):
            await alice.edit("room:a", 7, "nothing there")
        assert isinstance((await take(room, 1))[0], Deleted)
        assert list(room.messages) == (await bob.history("room:a")).messages


async def test_who_is_there() -> None:
    def token(user: str) -> str:
        return mint(user, name=user.title(), presence=["room:**"])

    running = ServerProcess(environ={"CHAT_NAMESPACES__ROOM__PRESENCE": "true"})
    await asyncio.to_thread(running.__enter__)
    async with (
        connect(running.url, token=token("ann")) as ann,
        connect(running.url, token=token("bob"), encoding="msgpack") as bob,
        ann.subscribe("room:a", presence=True) as room,
    ):
        assert room.presence is not None
        assert [user.user for user in room.presence.users] == ["ann"]
        async with bob.subscribe("room:a", presence=True) as other:
            assert other.presence is not None
            assert [user.name for user in other.presence.users] == ["Ann", "Bob"]
            present = await bob.presence("room:a", after="ann", limit=1)
            assert (present.count, [user.user for user in present.users]) == (2, ["bob"])
            joined = Join(topic="room:a", user="bob", name="Bob")
            async with asyncio.timeout(90):
                while await anext(room) != joined:
                    pass
    await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_how_far_users_have_read(server: ServerProcess, encoding: Encoding) -> None:
    async with (
        connect(server.url, token=mint("ann")) as ann,
        connect(server.url, token=mint("bob"), encoding=encoding) as bob,
        connect(server.url, token=mint("bob"), encoding=encoding) as phone,
        phone.subscribe("room:a") as room,
    ):
        for number in range(3):
            await ann.publish("room:a", {"n": number})
        unread = await bob.unread("room:a", "room:b")
        assert (unread["room:a"].read, unread["room:a"].unread) == (0, 3)
        assert unread["room:a"].last == (await bob.history("room:a")).messages[-1]
        assert unread["room:b"].last is None
        assert await bob.read("room:a", 2) == Cursor(topic="room:a", seq=2, unread=1)
        assert await bob.read("room:a", 1) == Cursor(topic="room:a", seq=2, unread=1)
        *_, read = await take(room, 4)
        assert read == Read(topic="room:a", user="bob", seq=2)
        assert room.position is not None
        assert room.position.seq == 3
        with pytest.raises(CommandFailed, match="bad_request"):
            await bob.read("room:a", 4)


async def test_what_is_folded_is_what_history_says(server: ServerProcess) -> None:
    """Random changes by two users; one subscriber is there always, others come with `last`."""
    rng = random.Random(11)
    async with (
        connect(server.url, token=mint("alice")) as alice,
        connect(server.url, token=mint("bob")) as bob,
        connect(server.url, token=mint("carol")) as carol,
        carol.subscribe("room:a") as room,
    ):
        writers = [asyncio.create_task(change(user, rng)) for user in (alice, bob)]
        late: list[Subscription] = []
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await asyncio.sleep(0.2)
                dora = await stack.enter_async_context(connect(server.url, token=mint("dora")))
                late.append(await stack.enter_async_context(dora.subscribe("room:a", last=20)))
            await asyncio.gather(*writers)
            last = (await alice.publish("room:a", "end")).seq
            fresh = (await carol.history("room:a", limit=300)).messages
            assert len(fresh) > 10
            for each in (room, *late):
                while each.position is None or each.position.seq < last:
                    [event] = await take(each, 1)
                    assert not isinstance(event, Gap)
                folded = list(each.messages)
                assert folded == [message for message in fresh if message.seq >= folded[0].seq]


async def change(user: Client, rng: random.Random) -> None:
    """Publish, edit, append, delete and react, where the server lets us."""
    for number in range(STEPS // 2):
        target = rng.randint(1, number + 1)
        try:
            match rng.randrange(8):
                case 0:
                    await user.publish("room:a", {"text": f"{number}"})
                case 1:
                    await user.edit("room:a", target, {"text": f"e{number}"})
                case 2 | 3 | 4:
                    await user.append("room:a", target, f"a{number}")
                case 5 | 6:
                    await user.react("room:a", target, rng.choice("👍♥"), remove=rng.random() < 0.3)
                case 7 if rng.random() < 0.3:
                    await user.delete("room:a", target)
        except CommandFailed as error:
            assert error.code in ("not_found", "gone", "forbidden")  # noqa: PT017


async def test_the_newest_messages_have_holes_between_them(server: ServerProcess) -> None:
    """No gap is reported for the changes between, and resuming repeats nothing."""
    async with connect(server.url, token=mint("alice")) as chat:
        for number in range(5):
            seq = (await chat.publish("room:a", {"text": f"{number}"})).seq
            for _ in range(3):
                await chat.append("room:a", seq, ".")
        async with chat.subscribe("room:a", last=3) as room:
            shown = await take(room, 3)
            assert [e.data["text"] for e in shown if isinstance(e, Message)] == [
                "2...",
                "3...",
                "4...",
            ]
            position = room.position
            assert position is not None
            assert position.seq == 20
            await chat.react("room:a", 1, "👍")
            [event] = await take(room, 1)
            assert isinstance(event, Reaction)
        async with chat.subscribe("room:a", since=position) as room:
            assert await take(room, 1) == [event]
        async with chat.subscribe("room:a", last=300) as room:
            assert len([e for e in await take(room, 5) if isinstance(e, Message)]) == 5
            await chat.publish("room:a", "live")
            [live] = await take(room, 1)
            assert isinstance(live, Message)


async def test_strict_says_what_cannot_be_had(server: ServerProcess) -> None:
    async with connect(server.url, token=mint("alice")) as chat:
        published = await chat.publish("room:a", 1)
        with pytest.raises(Unrecoverable, match="unrecoverable") as caught:
            async with chat.subscribe("room:a", since=Position("other", 1), strict=True):
                pass
        assert caught.value.reason == "epoch_changed"
        assert caught.value.position == Position(published.epoch, 1)
        async with chat.subscribe("room:a", since=caught.value.position, strict=True) as room:
            await chat.publish("room:a", 2)
            assert len(await take(room, 1)) == 1


async def test_a_stream_is_whole_after_its_server_was_killed(server: ServerProcess) -> None:
    text = [f"word{number} " for number in range(200)]
    async with connect(server.url, token=lambda: mint("bot")) as chat:
        async with chat.stream("room:a", {"text": ""}) as message:
            for number, word in enumerate(text):
                await message.write(word)
                await asyncio.sleep(0.005)
                if number == 100:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
        await chat.wait_online()
        [stored] = (await chat.history("room:a")).messages
        assert stored.data == {"text": "".join(text)}
        assert stored.state == "complete"
        assert stored.seq == message.seq


async def test_a_stream_is_cancelled_by_a_reader(server: ServerProcess) -> None:
    async with (
        connect(server.url, token=mint("bot")) as bot,
        connect(server.url, token=mint("alice")) as alice,
        bot.subscribe("room:a"),
        alice.subscribe("room:a") as room,
    ):
        async with bot.stream("room:a") as message:
            for number in range(10_000):
                if message.cancelled:
                    break
                await message.write(f"{number} ")
                if number == 20:
                    await alice.cancel("room:a", message.seq)
                await asyncio.sleep(0.01)
        assert message.cancelled
        while not ((known := room.messages.get(message.seq)) and known.state == "cancelled"):
            await take(room, 1)
        assert known.data == message.text == "".join(f"{n} " for n in range(number))
