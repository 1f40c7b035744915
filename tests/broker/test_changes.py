"""The contract of `EventLog.change`, and what `history` makes of changes, over every store."""

import json
from typing import Any

import pytest

from chat_server.broker.redis.broker import RedisBroker
from chat_server.changes import (
    MAX_EMOJI,
    Append,
    Change,
    ChangeResult,
    Edit,
    Outcome,
    Piece,
    split_of,
)
from chat_server.changes import Reaction as ReactionChange
from chat_server.events import Event, HistoryPage, Kind, Retention
from chat_server.realtime.ports import Broker
from chat_server.service.drafts import change_fields, message_draft
from chat_server.settings import BrokerSettings

from ..rig.redis_server import RedisServer, patient
from .helpers import FOREVER, TOPIC, Run, Store

ANN, BOB = b'{"user":"ann","name":"Ann"}', b'{"user":"bob"}'


def fields(
    kind: Kind, target: int, rest: bytes = b"", content: bytes = b"", **more: Any
) -> dict[str, Any]:
    sender = more.pop("sender", ANN)
    author = None if more.pop("moderator", False) else sender.partition(b",")[0].rstrip(b"}")
    made = {"retention": FOREVER, "key": None, "author": author, **more}
    return {**change_fields(kind, TOPIC, sender, target, rest, content), **made}


def edit(target: int, data: str, **more: Any) -> Edit:
    content = json.dumps(data).encode()
    return Edit(**fields(Kind.EDITED, target, b',"data":', content, **more), data=content)


def delete(target: int, **more: Any) -> Change:
    return Change(**fields(Kind.DELETED, target, **more))


def react(target: int, emoji: str = "+", *, remove: bool = False, **more: Any) -> ReactionChange:
    rest = json.dumps({"emoji": emoji, "remove": remove})[1:-1].encode()
    user = json.dumps(json.loads(more.get("sender", ANN))["user"]).encode()
    made = fields(Kind.REACTION, target, b"," + rest, **more)
    return ReactionChange(**{**made, "author": None}, user=user, emoji=emoji, remove=remove)


def append(target: int, *texts: str, state: str = "streaming", **more: Any) -> Append:
    keys = more.pop("keys", [None] * len(texts))
    pieces = [
        Piece(json.dumps(text)[1:-1].encode(), len(text), key)
        for text, key in zip(texts, keys, strict=True)
    ]
    max_bytes = more.pop("max_bytes", 65_536)
    return Append(
        **fields(Kind.APPENDED, target, **more),
        pieces=tuple(pieces),
        state=state,
        max_bytes=max_bytes,
    )


async def appended(broker: Broker, draft: Append) -> ChangeResult:
    """Append as the service does: the store asks once where the text ends."""
    result = await broker.change(draft)
    if result.outcome is Outcome.SPLIT:
        split = split_of(result.data, result.version)
        assert split is not None
        made = {name: getattr(draft, name) for name in draft.__struct_fields__}
        result = await broker.change(Append(**{**made, "split": split}))
    return result


async def say(broker: Broker, data: Any = "hello", **more: Any) -> int:
    text = json.dumps(data, separators=(",", ":")).encode()
    retention = more.pop("retention", FOREVER)
    sender = more.pop("sender", ANN)
    topic = more.pop("topic", TOPIC)
    draft = message_draft(topic, sender, text, retention, None, **more)
    return (await broker.publish(draft)).seq


def read(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.payload)
    return found


async def messages(broker: Broker, **more: Any) -> list[dict[str, Any]]:
    page = await broker.history(TOPIC, **{"limit": 99, "folded": True, **more})
    return [read(event) for event in page.events]


async def events(broker: Broker, **more: Any) -> HistoryPage:
    return await broker.history(TOPIC, **{"limit": 999, **more})


class TestEdit:
    async def test_history_shows_it_and_the_log_has_both(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        seq = await say(broker, "before")
        result = await broker.change(edit(seq, "after"))
        (place,) = result.places
        assert (result.outcome, place.seq, place.duplicate) == (Outcome.STORED, 2, False)
        (message,) = await messages(broker)
        assert message["data"] == "after"
        assert (message["edited_at"], message["version"], message["seq"]) == (place.at, 2, 1)
        heard = await recorder.wait_for(2)
        assert [event.kind for event in heard] == [Kind.MESSAGE, Kind.EDITED]
        assert read(heard[1]) == {
            "type": "edited",
            "topic": TOPIC,
            "seq": 2,
            "at": place.at,
            "from": json.loads(ANN),
            "target": 1,
            "data": "after",
        }
        page = await events(broker)
        assert (page.events, page.missing) == (heard, 0)

    async def test_the_last_one_counts(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        for text in ("one", "two", "three"):
            await broker.change(edit(seq, text))
        assert [message["data"] for message in await messages(broker)] == ["three"]

    @pytest.mark.parametrize("target", [2, 3, 99, 2**53 - 1])
    async def test_what_is_no_message_is_not_found(self, store: Store, target: int) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        await broker.change(edit(seq, "once"))
        for change in (edit(target, "x"), delete(target), react(target), append(target, "x")):
            assert await broker.change(change) == ChangeResult(Outcome.NOT_FOUND)
        assert (await events(broker)).seq == 2

    async def test_an_empty_topic_has_no_messages(self, store: Store) -> None:
        broker, _ = await store.start()
        assert await broker.change(edit(1, "x")) == ChangeResult(Outcome.NOT_FOUND)
        await say(broker, retention=Retention(0, 60.0))
        assert await broker.change(edit(1, "x")) == ChangeResult(Outcome.NOT_FOUND)

    async def test_only_the_author_and_moderators_may(self, store: Store) -> None:
        broker, _ = await store.start()
        tricky = b'{"user":"ann","info":{"from":{"user":"bob"},"data":1}}'
        for sender in (ANN, b'{"user":"ann"}', tricky):
            seq = await say(broker, sender=sender)
            for other in (BOB, b'{"user":"an"}', b'{"user":"ann\\"}'):
                for change in (edit(seq, "x", sender=other), delete(seq, sender=other)):
                    assert await broker.change(change) == ChangeResult(Outcome.FORBIDDEN)
            assert (await broker.change(edit(seq, "x"))).outcome is Outcome.STORED
            moderated = edit(seq, "y", sender=BOB, moderator=True)
            assert (await broker.change(moderated)).outcome is Outcome.STORED
        nobodys = await say(broker, sender=b"null")
        assert await broker.change(edit(nobodys, "x")) == ChangeResult(Outcome.FORBIDDEN)

    async def test_a_key_stores_it_once(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        (first,) = (await broker.change(edit(seq, "one", key="k"))).places
        (again,) = (await broker.change(edit(seq, "two", key="k"))).places
        assert (again.seq, again.epoch, again.at) == (first.seq, first.epoch, first.at)
        assert again.duplicate
        assert [message["data"] for message in await messages(broker)] == ["one"]


class TestDelete:
    async def test_the_data_is_gone_from_everywhere(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, {"text": "secret one"}, state="streaming")
        await appended(broker, append(seq, "secret two"))
        await broker.change(edit(seq, "secret three"))
        await appended(broker, append(seq, "secret four"))
        other = await say(broker, "secret of another")
        await broker.change(react(seq))
        (place,) = (await broker.change(delete(seq))).places
        gone, left = await messages(broker)
        assert left["data"] == "secret of another"
        assert gone == {
            "type": "message",
            "topic": TOPIC,
            "seq": seq,
            "at": gone["at"],
            "from": json.loads(ANN),
            "data": None,
            "deleted": True,
            "version": place.seq,
        }
        page = await events(broker)
        assert page.missing == 0
        assert [event.seq for event in page.events] == list(range(1, place.seq + 1))
        found = [read(event) for event in page.events]
        assert [event.get("text", event.get("data")) for event in found] == [
            *(None, "", None, "", "secret of another", None, None)
        ]
        assert b"secret t" not in b"".join(event.payload for event in page.events)
        for change in (edit(seq, "x"), delete(seq), react(seq), append(seq, "x")):
            assert await broker.change(change) == ChangeResult(Outcome.GONE)
        assert (await broker.change(edit(other, "x"))).outcome is Outcome.STORED

    async def test_a_message_that_grows_is_not_said_to_grow_on(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "x", state="streaming")
        assert (await messages(broker))[0]["state"] == "streaming"
        await broker.change(delete(seq))
        assert "state" not in (await messages(broker))[0]
        assert "state" not in read((await events(broker)).events[0])


class TestAppend:
    async def test_text_grows(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "é", state="streaming")
        for number, text in enumerate(["", '"quoted"\n', "\U0001f600", " end"]):
            state = "complete" if text == " end" else "streaming"
            result = await appended(broker, append(seq, text, state=state))
            assert result.outcome is Outcome.STORED
            assert result.places[0].seq == seq + 1 + number
        (message,) = await messages(broker)
        assert message["data"] == 'é"quoted"\n\U0001f600 end'
        assert (message["state"], message["version"]) == ("complete", seq + 4)
        assert result.places[0].length == len(message["data"])
        last = read((await events(broker)).events[-1])
        assert (last["length"], last["state"], last["text"]) == (15, "complete", " end")
        assert await broker.change(append(seq, "x")) == ChangeResult(Outcome.GONE)
        assert (await broker.change(edit(seq, "still"))).outcome is Outcome.STORED
        assert await broker.change(append(seq, "x")) == ChangeResult(Outcome.GONE)

    async def test_an_object_grows_in_its_text(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, {"text": "a", "big": 2**53 + 1, "deep": {"text": "x"}})
        await appended(broker, append(seq, "b"))
        await appended(broker, append(seq, "c"))
        (message,) = await messages(broker)
        assert message["data"] == {"text": "abc", "big": 2**53 + 1, "deep": {"text": "x"}}

    async def test_pages_make_one_text(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "")
        texts = [f"{number}-" * (number % 300 + 1) for number in range(60)]
        for text in texts:
            await appended(broker, append(seq, text))
        (message,) = await messages(broker)
        assert message["data"] == "".join(texts)
        await broker.change(edit(seq, "short"))
        await appended(broker, append(seq, "er"))
        assert (await messages(broker))[0]["data"] == "shorter"

    async def test_several_pieces_are_one_event(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "")
        first = await appended(broker, append(seq, "a", "b", keys=["k1", "k2"]))
        assert [place.seq for place in first.places] == [2, 2]
        again = await appended(broker, append(seq, "c", "b", "d", keys=[None, "k2", "k3"]))
        assert [(place.seq, place.duplicate) for place in again.places] == [
            *((3, False), (2, True), (3, False))
        ]
        assert [place.length for place in again.places] == [4, 2, 4]
        known = await broker.change(append(seq, "a", "d", keys=["k1", "k3"]))
        assert [place.duplicate for place in known.places] == [True, True]
        assert (await messages(broker))[0]["data"] == "abcd"
        assert (await events(broker)).seq == 3

    async def test_a_message_has_a_greatest_size(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "")
        fits = append(seq, "x" * 98, max_bytes=100)
        assert (await appended(broker, fits)).outcome is Outcome.STORED
        result = await appended(broker, append(seq, "x", max_bytes=100))
        assert result == ChangeResult(Outcome.TOO_LARGE)
        assert len((await messages(broker))[0]["data"]) == 98

    @pytest.mark.parametrize("data", [1, None, [], {"text": 1}, {"a": "text"}])
    async def test_data_without_text_is_told(self, store: Store, data: Any) -> None:
        broker, _ = await store.start()
        result = await broker.change(append(await say(broker, data), "x"))
        assert (result.outcome, json.loads(result.data)) == (Outcome.SPLIT, data)
        assert split_of(result.data, result.version) is None

    async def test_an_edit_in_between_asks_again(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker, "old")
        asked = await broker.change(append(seq, "x"))
        await broker.change(edit(seq, "new"))
        split = split_of(asked.data, asked.version)
        made = {name: getattr(append(seq, "x"), name) for name in Append.__struct_fields__}
        again = await broker.change(Append(**{**made, "split": split}))
        assert (again.outcome, again.data, again.version) == (Outcome.SPLIT, b'"new"', 2)


class TestReactions:
    async def test_they_are_counted_by_emoji(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        for number in range(12):
            sender = b'{"user":"user %d"}' % number
            await broker.change(react(seq, "👍", sender=sender))
        await broker.change(react(seq, "🎉", sender=BOB))
        (message,) = await messages(broker)
        assert list(message["reactions"]) == ["👍", "🎉"]
        assert message["reactions"]["👍"] == {
            "count": 12,
            "users": [f"user {number}" for number in range(10)],
        }
        await broker.change(react(seq, "👍", remove=True, sender=b'{"user":"user 3"}'))
        await broker.change(react(seq, "🎉", remove=True, sender=BOB))
        (message,) = await messages(broker)
        assert message["reactions"]["👍"]["users"][3:] == [f"user {n}" for n in range(4, 11)]
        assert list(message["reactions"]) == ["👍"]
        assert message["reactions"]["👍"]["count"] == 11

    async def test_a_user_counts_once(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        (first,) = (await broker.change(react(seq))).places
        await say(broker, "another")
        (again,) = (await broker.change(react(seq))).places
        assert (again.seq, again.at, again.duplicate) == (first.seq, first.at, True)
        assert (await events(broker)).seq == 3
        assert (await messages(broker))[0]["reactions"] == {"+": {"count": 1, "users": ["ann"]}}

    async def test_what_is_not_there_cannot_be_taken_back(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        gone = react(seq, remove=True)
        assert await broker.change(gone) == ChangeResult(Outcome.NO_REACTION)
        await broker.change(react(seq, sender=BOB))
        assert await broker.change(gone) == ChangeResult(Outcome.NO_REACTION)

    async def test_a_message_has_so_many_different_ones(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        for number in range(MAX_EMOJI):
            assert (await broker.change(react(seq, f"e{number}"))).outcome is Outcome.STORED
        assert await broker.change(react(seq, "more")) == ChangeResult(Outcome.TOO_MANY)
        await broker.change(react(seq, "e3", remove=True))
        assert (await broker.change(react(seq, "more"))).outcome is Outcome.STORED

    async def test_a_key_holds_also_where_nothing_was_stored(self, store: Store) -> None:
        broker, _ = await store.start()
        seq = await say(broker)
        (first,) = (await broker.change(react(seq, key="k1"))).places
        (known,) = (await broker.change(react(seq, key="k2"))).places
        assert (known.seq, known.duplicate) == (first.seq, True)
        await broker.change(react(seq, remove=True))
        (late,) = (await broker.change(react(seq, key="k2"))).places
        assert (late.seq, late.duplicate) == (first.seq, True)
        assert "reactions" not in (await messages(broker))[0]

    async def test_counting_goes_on_when_no_more_are_remembered(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("chat_server.broker.topic_log", "chat_server.broker.redis.storage"):
            monkeypatch.setattr(f"{module}.MAX_REACTING", 3)
        broker, _ = await store.start()
        seq = await say(broker)
        for number in range(5):
            await broker.change(react(seq, sender=b'{"user":"u%d"}' % number))
        (message,) = await messages(broker)
        assert message["reactions"]["+"] == {"count": 5, "users": ["u0", "u1", "u2"]}
        for number in (4, 3):
            removed = react(seq, remove=True, sender=b'{"user":"u%d"}' % number)
            assert (await broker.change(removed)).outcome is Outcome.STORED
        assert await broker.change(removed) == ChangeResult(Outcome.NO_REACTION)


class TestRetention:
    async def test_no_change_pushes_a_message_out(self, store: Store) -> None:
        broker, _ = await store.start()
        kept = Retention(3, 3_600.0, changes=10)
        for number in range(3):
            await say(broker, str(number), retention=kept)
        for number in range(20):
            await broker.change(edit(1, str(number), retention=kept))
        assert [message["data"] for message in await messages(broker)] == ["19", "1", "2"]
        assert [m["data"] for m in await messages(broker, limit=2, newest=True)] == ["1", "2"]
        page = await events(broker, after=13)
        assert ([event.seq for event in page.events], page.missing) == (list(range(14, 24)), 0)
        page = await events(broker, after=12)
        assert ([event.seq for event in page.events], page.missing) == (list(range(14, 24)), 1)

    async def test_a_message_takes_its_state_along(self, store: Store) -> None:
        broker, _ = await store.start()
        kept = Retention(2, 3_600.0)
        first = await say(broker, "first", retention=kept)
        await appended(broker, append(first, "x", retention=kept))
        await broker.change(react(first, retention=kept))
        await say(broker, "second", retention=kept)
        await say(broker, "third", retention=kept)
        assert await broker.change(edit(first, "x")) == ChangeResult(Outcome.NOT_FOUND)
        assert [message["data"] for message in await messages(broker)] == ["second", "third"]
        page = await events(broker, after=1)
        assert ([event.seq for event in page.events], page.missing) == ([2, 3, 4, 5], 0)

    async def test_changes_have_a_bound_of_bytes_of_their_own(self, store: Store) -> None:
        broker, _ = await store.start()
        kept = Retention(100, 3_600.0, 20_000)
        for number in range(10):
            await say(broker, str(number), retention=kept)
        for number in range(50):
            await broker.change(edit(number % 10 + 1, "x" * 2_000, retention=kept))
        assert len(await messages(broker)) == 10
        page = await events(broker, after=10)
        assert 5 <= len(page.events) <= 10
        assert page.missing == 50 - len(page.events)

    async def test_a_change_lets_the_history_live_on(self, store: Store) -> None:
        broker, _ = await store.start()
        kept = Retention(9, 3.0)
        seq = await say(broker, "old", retention=kept)
        await store.elapse(1.6)
        await broker.change(edit(seq, "new", retention=kept))
        await store.elapse(1.6)
        await say(broker, "next", retention=kept)
        await store.elapse(1.6)
        assert [message["data"] for message in await messages(broker)] == ["new", "next"]
        await store.elapse(3.1)
        assert await messages(broker) == []
        await say(broker, "later", retention=kept)
        assert [message["data"] for message in await messages(broker)] == ["later"]

    async def test_pages_end_at_a_number_of_bytes(self, store: Store) -> None:
        broker, _ = await store.start()
        for _ in range(6):
            seq = await say(broker, "x")
            await broker.change(edit(seq, "y" * 10_000))
        for newest, expected in ((True, [9, 11]), (False, [1, 3])):
            page = await events(broker, folded=True, newest=newest, max_bytes=25_000)
            assert ([event.seq for event in page.events], page.more) == (expected, True)
        page = await events(broker, newest=True, limit=3)
        assert [event.seq for event in page.events] == [10, 11, 12]

    async def test_nothing_is_left_in_the_memory_broker(self, store: Store) -> None:
        if store.name != "memory":
            pytest.skip("counts the memory broker's bytes")
        broker, _ = await store.start()
        seq = await say(broker, "x", retention=Retention(9, 5.0))
        kept: dict[str, Any] = {"retention": Retention(9, 5.0)}
        await appended(broker, append(seq, "y" * 3_000, **kept))
        await broker.change(edit(seq, "z" * 5_000, **kept))
        await broker.change(react(seq, **kept))
        await broker.change(delete(seq, **kept))
        await store.elapse(6)
        await broker.history("room:other", limit=1)
        assert broker._bytes == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("evicted", [False, True])
async def test_redis_holds_nothing_of_a_deleted_message(
    redis_server: RedisServer, run: Run, evicted: bool
) -> None:
    redis = patient(redis_server.url, prefix=f"deleted{evicted}")
    broker, _ = await run(RedisBroker(redis, BrokerSettings()))
    seq = await say(broker, "S3CRET-1", state="streaming")
    for number in range(3):
        await appended(broker, append(seq, f"S3CRET-{number}"))
    await broker.change(edit(seq, "S3CRET-4"))
    await say(broker, "public")
    keys = {
        name: f"deleted{evicted}:{{{TOPIC}}}:{name}".encode()
        for name in ("meta", "messages", "changes", "state")
    }
    dumped = {name: redis_server.command("DUMP", key) for name, key in keys.items()}
    assert [name for name, dump in dumped.items() if b"S3CRET" in dump] == [
        *("messages", "changes", "state")
    ]
    if evicted:
        redis_server.command("DEL", keys["state"])
    await broker.change(delete(seq))
    dumped = {name: redis_server.command("DUMP", key) or b"" for name, key in keys.items()}
    assert not any(b"S3CRET" in dump for dump in dumped.values())
    assert b"public" in dumped["messages"]
