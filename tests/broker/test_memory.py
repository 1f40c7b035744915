"""What is the memory broker's own: its bounds, and that what expires is really let go."""

from typing import Any

import pytest

from chat_server.broker import memory
from chat_server.broker.memory import MemoryBroker
from chat_server.events import Retention
from chat_server.settings import BrokerSettings

from ..rig.clock import ManualClock
from .helpers import TOPIC, Recorder, draft
from .test_changes import BOB, append, appended, edit, react, say


async def started(**settings: Any) -> tuple[MemoryBroker, ManualClock, Recorder]:
    clock, recorder = ManualClock(), Recorder()
    broker = MemoryBroker(BrokerSettings(**settings), clock)
    await broker.start(recorder)
    return broker, clock, recorder


async def test_the_topic_unused_for_longest_is_forgotten() -> None:
    broker, _, _ = await started(memory_max_topics=3)
    first = {name: await broker.publish(draft(topic=name)) for name in "abc"}
    await broker.history("a", limit=1)
    await broker.publish(draft(topic="d"))
    assert set(broker._topics) == {"c", "a", "d"}
    assert (await broker.history("a", limit=1)).epoch == first["a"].epoch
    again = await broker.publish(draft(topic="b"))
    assert again.seq == 1
    assert again.epoch != first["b"].epoch


async def test_topics_with_subscribers_are_kept() -> None:
    broker, _, recorder = await started(memory_max_topics=3)
    for name in "abc":
        await broker.subscribe(name)
        await broker.publish(draft(topic=name))
    for number in range(100):
        await broker.publish(draft(topic=f"passing:{number}"))
    for name in "abc":
        assert (await broker.publish(draft(topic=name))).seq == 2
    assert len(broker._topics) <= 4
    broker.unsubscribe("a")
    for name in "xyz":
        await broker.publish(draft(topic=name))
    assert len(broker._topics) <= 4
    assert (await broker.publish(draft(topic="a"))).seq == 1
    await recorder.wait_for(6)


async def test_a_flood_of_topics_is_bounded() -> None:
    broker, _, _ = await started(memory_max_topics=100)
    for number in range(5_000):
        await broker.publish(draft(topic=f"room:{number}"))
        await broker.history(f"other:{number}", limit=1)
    assert len(broker._topics) == 100
    assert sum(len(group) for group in broker._histories.values()) <= 100


async def test_a_table_full_of_subscribed_topics_grows_no_further_than_stated() -> None:
    broker, _, _ = await started(memory_max_topics=160)
    for number in range(160):
        await broker.subscribe(f"room:{number}")
        await broker.publish(draft(topic=f"room:{number}"))
    for number in range(2_000):
        await broker.publish(draft(topic=f"passing:{number}"))
    assert len(broker._topics) <= 160 * 16 / 15 + 1


async def test_idempotency_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_KEYS", 10)
    broker, _, _ = await started()
    for number in range(100):
        await broker.publish(draft(key=str(number)))
    assert len(broker._keys) == 10
    assert (await broker.publish(draft(key="99"))).duplicate
    assert not (await broker.publish(draft(key="0"))).duplicate


async def test_what_expires_is_let_go_by_any_call() -> None:
    broker, clock, _ = await started(position_seconds=100.0, idempotency_seconds=5.0)
    brief, long = Retention(10, 10.0), Retention(10, 50.0)
    for number in range(50):
        await broker.publish(draft(topic=f"long:{number}", retention=long, key="k"))
        await broker.publish(draft(topic=f"brief:{number}", retention=brief))
    stored = [topic.log for topic in broker._topics.values()]
    clock.advance(6)
    await broker.history("other", limit=0)
    assert not broker._keys
    clock.advance(5)
    await broker.history("other", limit=0)
    assert sum(map(len, stored)) == 50
    clock.advance(40)
    await broker.history("other", limit=0)
    assert not any(map(len, stored))
    assert (len(broker._topics), len(broker._unused)) == (100, 1)
    clock.advance(60)
    await broker.history("another", limit=0)
    assert (set(broker._topics), set(broker._unused)) == (set(), {"another"})


async def test_a_topic_in_use_does_not_keep_the_history_of_others() -> None:
    broker, clock, _ = await started()
    brief, long = Retention(10, 10.0), Retention(10, 50.0)
    await broker.publish(draft(topic="busy", retention=brief))
    await broker.publish(draft(topic="changing", retention=brief))
    clock.advance(5)
    await broker.publish(draft(topic="quiet", retention=brief))
    await broker.publish(draft(topic="changing", retention=long))
    clock.advance(4)
    await broker.publish(draft(topic="busy", retention=brief))
    clock.advance(7)
    await broker.history("other", limit=0)
    stored = {name: len(topic.log) for name, topic in broker._topics.items()}
    assert stored == {"busy": 2, "changing": 2, "quiet": 0}


async def test_an_event_renews_its_history() -> None:
    broker, clock, _ = await started()
    brief = Retention(10, 10.0)
    for _ in range(3):
        await broker.publish(draft(retention=brief))
        clock.advance(8)
    assert len((await broker.history(draft().topic, limit=10)).events) == 3


async def test_nothing_is_delivered_after_stop() -> None:
    broker, _, recorder = await started()
    await broker.subscribe(draft().topic)
    broker.publish(draft())
    await broker.stop()
    await broker.start(other := Recorder())
    await broker.publish(draft())
    assert (await other.wait_for(1))[0].seq == 2
    assert not recorder.events


async def test_what_changes_hold_is_given_back_with_their_message() -> None:
    broker, _, _ = await started()
    brief = Retention(1, 60.0)
    for round in range(3):
        seq = await say(broker, "a", retention=brief)
        log = broker._topics[TOPIC].log
        assert log._sizes[2] == 0, f"after {round} messages with changes"
        await broker.change(react(seq, retention=brief))
        await broker.change(react(seq, retention=brief, sender=BOB))
        await broker.change(edit(seq, "b" * 99, retention=brief))
        await appended(broker, append(seq, "c", "d" * 99, retention=brief))
        assert log._sizes[2] > 200
        assert broker._bytes == log.size
