"""Events that change messages, in a subscription: typed, in their place, and folded in."""

from typing import Any

import pytest

from chat_server.client import (
    Appended,
    Deleted,
    Edited,
    Event,
    Gap,
    Message,
    Position,
    Reaction,
    Subscription,
    Unrecoverable,
    User,
)
from chat_server.protocol import commands, messages
from chat_server.protocol.messages import Error
from tests.client.conftest import Connect
from tests.client.helpers import data, take
from tests.rig.fake_server import FakeConnection, FakeServer
from tests.rig.waiting import until

BOB = User(user="bob")


async def test_changes_are_typed_and_folded_in(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.publish("room:a", {"text": "a"})
        await chat.edit("room:a", 1, {"text": "b"})
        await chat.append("room:a", 1, "c")
        await chat.react("room:a", 1, "👍")
        assert list(room.messages) == []
        kinds = [type(event) for event in await take(room, 4)]
        assert kinds == [Message, Edited, Appended, Reaction]
        [message] = room.messages
        assert (message.data, message.version) == ({"text": "bc"}, 4)
        assert message.reactions["👍"].users == ["me"]
        await chat.delete("room:a", 1)
        assert isinstance((await take(room, 1))[0], Deleted)
        assert [(m.deleted, m.data) for m in room.messages] == [(True, None)]
        assert room.position == Position("e1", 5)


async def test_changes_are_resumed(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.publish("room:a", {"text": "a"})
        await take(room, 1)
        for _ in range(5):
            server.drop()
            await chat.wait_online()
            await chat.append("room:a", 1, "b", key="k", wait=True)
            server.topic("room:a").keys.clear()
            [event] = await take(room, 1)
            assert isinstance(event, Appended)
        assert [message.data for message in room.messages] == [{"text": "abbbbb"}]


class Last:
    """A server that answers `last` with messages as they now are, whose seqs have holes."""

    def __init__(self, server: FakeServer, seq: int, *stored: Message) -> None:
        self.seq = seq
        self.stored = stored
        server.topic("room:a").seq = seq
        server._join = self.join  # type: ignore[method-assign]

    async def join(self, connection: FakeConnection, command: commands.Subscribe) -> None:
        """Answer a `subscribe`."""
        connection.topics.add("room:a")
        since = None if command.since is None else command.since.seq
        shown = self.stored[-(command.last or 0) :] if since is None and command.last else ()
        first = shown[0].seq if shown else self.seq + 1
        await connection.answer(
            command.id,
            messages.SubscribeOk(
                topic="room:a",
                epoch="e1",
                seq=self.seq,
                recovered=True,
                replayed=self.seq - (first - 1 if since is None else since),
            ),
        )
        for message in shown:
            await connection.send(message)


def shown(seq: int, version: int | None = None) -> Message:
    return Message(topic="room:a", seq=seq, at=seq, sender=BOB, data=f"m{seq}", version=version)


def seqs(events: list[Event]) -> list[Any]:
    return [("gap" if isinstance(event, Gap) else event.seq) for event in events]  # type: ignore[union-attr]


@pytest.mark.parametrize("last", [2, 3, 300])
async def test_holes_between_the_newest_messages_are_no_gaps(
    server: FakeServer, client: Connect, last: int
) -> None:
    stored = [shown(2, 8), shown(5), shown(6, 9)]
    Last(server, 9, *stored)
    async with client() as chat, chat.subscribe("room:a", last=last) as room:
        await server.publish("room:a", "live")
        assert seqs(await take(room, min(last, 3) + 1)) == [*[2, 5, 6][-last:], 10]
        assert [message.seq for message in room.messages] == [*[2, 5, 6][-last:], 10]


async def test_a_hole_behind_the_newest_messages_is_one(
    server: FakeServer, client: Connect
) -> None:
    Last(server, 9, shown(2, 8), shown(5))
    async with client() as chat, chat.subscribe("room:a", last=5) as room:
        server.topic("room:a").seq = 10
        await server.publish("room:a", "live")
        *_, gap, live = await take(room, 4)
        assert gap == Gap(topic="room:a", epoch="e1", after=9, before=11, reason="skipped")
        assert data([live]) == ["live"]


async def test_once_all_have_come_the_position_is_that_of_the_answer(
    server: FakeServer, client: Connect
) -> None:
    """A resume repeats no change that the messages contain."""
    Last(server, 9, shown(2, 8), shown(5))
    async with client() as chat, chat.subscribe("room:a", last=2) as room:
        await take(room, 2)
        assert room.position == Position("e1", 9)
        server.drop()
        await until(lambda: server.connections and server.connections[0].topics)
        resumed = server.received(commands.Subscribe)[-1]
        assert resumed.since == Position("e1", 9)
        assert resumed.last is None
        await server.publish("room:a", "live")
        assert seqs(await take(room, 1)) == [10]


async def test_an_append_stands_for_all_from_its_first(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.publish("room:a", "a")
        await server.push(appended(5, "bcde", 5, first=2))
        server.topic("room:a").seq = 5
        await chat.publish("room:a", "next")
        assert seqs(await take(room, 3)) == [1, 5, 6]
        assert [message.data for message in room.messages] == ["abcde", "next"]


async def test_a_hole_in_front_of_its_first_is_one(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        await chat.publish("room:a", "a")
        await server.push(appended(5, "cde", 5, first=3))
        _, gap, event = await take(room, 3)
        assert gap == Gap(topic="room:a", epoch="e1", after=1, before=3, reason="skipped")
        assert seqs([event]) == [5]
        assert list(room.messages) == []


def appended(seq: int, text: str, length: int, first: int) -> Appended:
    return Appended(
        topic="room:a",
        seq=seq,
        at=seq,
        sender=BOB,
        target=1,
        text=text,
        length=length,
        first=first,
    )


async def test_who_came_while_there_was_no_room_is_asked_again(
    server: FakeServer, client: Connect
) -> None:
    async with client(max_held=2) as chat, chat.subscribe("room:a", presence=True) as room:
        for number in range(5):
            await server.push(messages.Join(topic="room:a", user=f"user{number}"))
        for _ in range(5):
            await chat.ping()  # meanwhile the socket is read
        await take(room, 2)
        await until(lambda: len(server.received(commands.Subscribe)) == 2)
        assert server.received(commands.Subscribe)[-1].presence


# Strict ----------------------------------------------------------------------------------------


def refuse(server: FakeServer) -> None:
    """Answer as a server that cannot replay what a strict subscriber has missed."""

    async def join(connection: FakeConnection, command: commands.Subscribe) -> None:
        assert command.strict
        await connection.send(
            Error(
                id=command.id,
                code="unrecoverable",
                message="since: what followed cannot be replayed: expired",
                topic="room:a",
                reason="expired",
                epoch="e2",
                seq=7,
            )
        )

    server._join = join  # type: ignore[method-assign]


async def test_a_strict_subscription_begins_behind_its_position_or_not_at_all(
    server: FakeServer, client: Connect
) -> None:
    join = server._join
    refuse(server)
    async with client() as chat:
        with pytest.raises(Unrecoverable, match="cannot be replayed: expired") as caught:
            async with chat.subscribe("room:a", since=Position("e1", 3), strict=True):
                pass
        assert (caught.value.reason, caught.value.position) == ("expired", Position("e2", 7))
        assert not caught.value.transient
        server._join = join  # type: ignore[method-assign]
        async with chat.subscribe("room:a") as room:
            await chat.publish("room:a", 1)
            assert data(await take(room, 1)) == [1]


async def test_a_strict_subscription_ends_where_it_cannot_go_on(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a", strict=True) as room:
        await chat.publish("room:a", 1)
        refuse(server)
        server.drop()
        assert data(await take(room, 1)) == [1]
        with pytest.raises(Unrecoverable, match="expired"):
            await anext(room)


async def test_kept_messages_are_bounded(server: FakeServer, client: Connect) -> None:
    async def number(room: Subscription) -> int:
        await take(room, 5)
        return len(room.messages)

    async with client() as chat:
        for keep, most in ((3, 3), (0, 0), (300, 5)):
            async with chat.subscribe("room:a", keep=keep) as room:
                for _ in range(5):
                    await chat.publish("room:a", "x")
                assert await number(room) == most
