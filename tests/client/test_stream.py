"""A message that grows: whole, in order, within the rate, and ended whatever happens."""

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from chat_server.client import Client, CommandFailed, Message, OutcomeUnknown, stream
from chat_server.protocol import commands, messages
from tests.client.conftest import Connect
from tests.client.helpers import take
from tests.client.test_verbs import WINDOW, lose
from tests.rig.fake_server import LIMITS, FakeServer
from tests.rig.waiting import until


def appended(server: FakeServer) -> list[messages.Appended]:
    stored = server.topic("room:a").messages
    return [event for event in stored if isinstance(event, messages.Appended)]


def text(server: FakeServer) -> str:
    return "".join(event.text for event in appended(server))


async def test_it_is_opened_added_to_and_completed(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        async with chat.stream("room:a", {"text": "So: ", "n": 1}) as message:
            assert (message.seq, message.epoch, message.text) == (1, "e1", "So: ")
            for word in ("a", "b", "", "c"):
                await message.write(word)
        assert message.text == "So: abc"
    first, *_ = server.topic("room:a").messages
    assert isinstance(first, Message)
    assert (first.data, first.state) == ({"text": "So: ", "n": 1}, "streaming")
    assert text(server) == "abc"
    assert [event.state for event in appended(server)][-1] == "complete"
    assert {event.state for event in appended(server)[:-1]} <= {"streaming"}


async def test_what_is_written_meanwhile_leaves_together(
    server: FakeServer, client: Connect
) -> None:
    server.silent.add("append")
    async with client() as chat:
        async with chat.stream("room:a") as message:
            await message.write("0")
            await until(lambda: server.received(commands.Append))
            for number in range(1, 100):
                await message.write(str(number))
            server.silent.clear()
            server.drop()
        sent = server.received(commands.Append)
        assert text(server) == "".join(map(str, range(100)))
        assert len(sent) <= 4


async def test_it_stays_within_the_rate(server: FakeServer, client: Connect) -> None:
    server.limits = replace(LIMITS, messages_per_second=20.0, message_burst=10)
    async with client() as chat:
        began = time.monotonic()
        async with chat.stream("room:a") as message:
            while time.monotonic() < began + 2.0:
                await message.write("x")
                await asyncio.sleep(0.001)
        seconds = time.monotonic() - began
    assert len(server.received(commands.Append)) <= 10 + 20 * seconds
    assert text(server) == message.text


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError()])
async def test_an_exception_cancels_the_message(
    server: FakeServer, client: Connect, error: BaseException
) -> None:
    async def answer(chat: Client) -> None:
        async with chat.stream("room:a") as message:
            await message.write("half an ans")
            raise error

    async with client() as chat:
        with pytest.raises(type(error)):
            await answer(chat)
    assert text(server) == "half an ans"
    assert appended(server)[-1].state == "cancelled"


async def test_a_cancelled_task_cancels_its_message(server: FakeServer, client: Connect) -> None:
    async def answer(chat: Client) -> None:
        async with chat.stream("room:a") as message:
            await message.write("a")
            await asyncio.Event().wait()

    async with client() as chat:
        task = asyncio.create_task(answer(chat))
        await until(lambda: text(server) == "a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [event.state for event in appended(server)] == ["streaming", "cancelled"]


async def test_cancelled_at_every_turn_no_message_is_left_growing(
    server: FakeServer, client: Connect
) -> None:
    async def answer(chat: Client) -> None:
        async with chat.stream("room:a") as message:
            await message.write("a")

    async with client() as chat:
        for turns in range(40):
            task = asyncio.create_task(answer(chat))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    stored = server.topic("room:a").messages
    opened = {event.seq for event in stored if isinstance(event, Message)}
    ended = [event.target for event in appended(server) if event.state != "streaming"]
    assert sorted(ended) == sorted(opened)


@pytest.mark.parametrize("store", [True, False])
async def test_an_append_whose_answer_was_lost(
    server: FakeServer, client: Connect, *, store: bool
) -> None:
    async with client() as chat, chat.stream("room:a") as message:
        await message.write("a")
        await until(lambda: text(server) == "a")
        lose(server, "append", store=store)
        await message.write("b")
        await until(lambda: message.text == "ab")
        await message.write("c")
    assert text(server) == "abc"


@pytest.mark.parametrize("store", [True, False])
async def test_after_a_long_sleep_it_is_looked_for(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch, *, store: bool
) -> None:
    """The server has forgotten the key, but the message tells how far it came."""
    now = time.time
    async with client() as chat, chat.stream("room:a") as message:
        await message.write("a")
        await until(lambda: message.text == "a")

        async def fail(connection: Any, command: commands.Append) -> None:
            del server._on_append
            topic = server.topic("room:a")
            [first] = [event for event in topic.messages if isinstance(event, Message)]
            first.data, first.state = "ab" if store else "a", "streaming"
            first.version = 3 if store else 2
            monkeypatch.setattr(time, "time", lambda: now() + WINDOW)
            server.drop()

        server._on_append = fail  # type: ignore[method-assign]
        await message.write("b")
        await until(lambda: message.text == "ab")
    sent = [command.text for command in server.received(commands.Append)]
    assert sent == (["a", "b", ""] if store else ["a", "b", "b", ""])


async def test_where_history_does_not_tell_it_is_said(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time

    async def fail(connection: Any, command: commands.Append) -> None:
        del server._on_append
        server.topic("room:a").messages[0].data = "edited"
        monkeypatch.setattr(time, "time", lambda: now() + WINDOW)
        server.drop()

    async def answer(chat: Client) -> None:
        async with chat.stream("room:a") as message:
            await message.write("b")

    server._on_append = fail  # type: ignore[method-assign]
    async with client() as chat:
        with pytest.raises(OutcomeUnknown, match="others have changed the message"):
            await answer(chat)


async def test_a_passing_refusal_is_waited_for(server: FakeServer, client: Connect) -> None:
    for _ in range(2):
        server.refuse("publish", "rate_limited", retry_in_ms=5)
        server.refuse("append", "rate_limited", retry_in_ms=5)
        server.refuse("append", "unavailable", retry_in_ms=5)
    async with client() as chat, chat.stream("room:a") as message:
        await message.write("a")
    assert text(server) == "a"


async def test_short_tokens_lose_nothing(server: FakeServer, client: Connect) -> None:
    """The function takes longer than a token lives: every one of them expires."""
    server.token_seconds, server.tells_expiry = 0.2, False

    async def token() -> str:
        await asyncio.sleep(0.3)
        return "t0ken"

    async with client(token=token) as chat, chat.stream("room:a") as message:
        for number in range(50):
            await message.write(f"{number} ")
            await asyncio.sleep(0.02)
    assert server.expired > 0, "nothing was refused, so this test tests nothing"
    assert text(server) == "".join(f"{number} " for number in range(50))


async def test_a_text_that_is_too_large_ends_the_message(
    server: FakeServer, client: Connect
) -> None:
    async def answer(chat: Client) -> None:
        async with chat.stream("room:a") as message:
            while True:
                await message.write("x")
                await asyncio.sleep(0)

    server.refuse("append", "too_large")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="too_large"):
            await answer(chat)
    assert [(event.text, event.state) for event in appended(server)] == [("", "cancelled")]


async def test_a_deleted_message_ends_the_writing(server: FakeServer, client: Connect) -> None:
    server.refuse("append", "gone")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="gone"):
            async with chat.stream("room:a") as message:
                await message.write("x")
    assert len(server.received(commands.Append)) == 1


async def test_a_lost_message_ends_the_writing(server: FakeServer, client: Connect) -> None:
    server.refuse("append", "not_found")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="not_found"):
            async with chat.stream("room:a") as message:
                await message.write("a")
        assert len(server.received(commands.Append)) == 1, "there is nothing to end"


async def test_its_appends_name_the_epoch_of_the_message(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        async with chat.stream("room:a") as message:
            await message.write("a")
            await until(lambda: text(server) == "a")
            await until(lambda: message.text == "a")
            server.topic("room:a").epoch = "e2"  # one that takes the message over
            await message.write("b")
            await until(lambda: message.text == "ab")
            assert message.epoch == "e2"
        sent = server.received(commands.Append)
    assert [each.epoch for each in sent] == ["e1", "e1", "e2"]


async def test_a_refused_message_raises(server: FakeServer, client: Connect) -> None:
    server.refuse("publish", "forbidden")
    async with client() as chat:
        with pytest.raises(CommandFailed, match="forbidden"):
            async with chat.stream("room:a"):
                pass


async def test_what_waits_is_bounded(
    server: FakeServer, client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING", 10)
    async with client() as chat, chat.stream("room:a") as message:
        server.silent.add("append")
        await message.write("x")
        await until(lambda: server.received(commands.Append))
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(100):
                await message.write("y")
                written += 1

        writing = asyncio.create_task(write())
        await until(lambda: written == 10)
        await asyncio.sleep(0.1)
        assert written == 10
        server.silent.clear()
        server.drop()
        await writing
    assert text(server) == "x" + 100 * "y"


async def test_a_signal_asks_for_the_end(server: FakeServer, client: Connect) -> None:
    async with client() as chat, chat.subscribe("room:a"), chat.stream("room:a") as message:
        await message.write("a")
        for other in ({"cancel": 99}, {"cancel": "1"}, {"cancel": True}, {"typing": True}, 1):
            await chat.signal("room:a", other)
        assert not message.cancelled
        await chat.cancel("room:a", message.seq)
        await until(lambda: message.cancelled)
    assert appended(server)[-1].state == "cancelled"


async def test_its_text_is_what_it_wrote_whatever_others_make_of_the_message(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat, chat.subscribe("room:a") as room:
        async with chat.stream("room:a", {"text": "So: "}) as message:
            await message.write("one")
            await until(lambda: message.text == "So: one")
            await chat.edit("room:a", message.seq, {"text": "Edited."})
            await message.write(" two")
        assert message.text == "So: one two"
        await take(room, 4)
        assert [known.data for known in room.messages] == [{"text": "Edited. two"}]


@pytest.mark.parametrize("data", [1, None, ["text"], {"body": "a"}, {"text": 5}])
async def test_a_message_without_text_cannot_grow(
    server: FakeServer, client: Connect, data: object
) -> None:
    async with client() as chat:
        with pytest.raises(ValueError, match="data: must be a text, or a map with a text"):
            chat.stream("room:a", data)


async def test_what_is_no_text_is_refused(server: FakeServer, client: Connect) -> None:
    async with client() as chat:
        async with chat.stream("room:a") as message:
            with pytest.raises(TypeError, match="text: must be text, not int"):
                await message.write(5)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="half a surrogate pair"):
                await message.write("\ud83d")
            await message.write("fine")
        with pytest.raises(RuntimeError, match="the message has ended"):
            await message.write("late")
    assert text(server) == "fine"


async def test_it_is_entered_once_and_before_it_is_used(
    server: FakeServer, client: Connect
) -> None:
    async with client() as chat:
        message = chat.stream("room:a")
        with pytest.raises(RuntimeError, match="enter the stream with `async with`"):
            await message.write("a")
        async with message:
            pass
        with pytest.raises(RuntimeError, match="entered only once"):
            async with message:
                pass
