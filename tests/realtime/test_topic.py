"""One topic's order and its subscribers, step by step."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import msgspec
import pytest

from chat_server.events import Event, HistoryPage, Kind, Position
from chat_server.metrics.numbers import Numbers
from chat_server.protocol.codecs import CODECS, MSGPACK, Codec
from chat_server.realtime import topic as topic_module
from chat_server.realtime.topic import MAX_BACKLOG, Topic

from ..rig.fake_transport import FakeEncoder, FakeTransport
from ..rig.fakes import NO_JSON

EPOCH, LATER = "e", "f"
ROOM = "room:a"


def event(seq: int, epoch: str = EPOCH) -> Event:
    payload = msgspec.json.encode({"type": "message", "topic": ROOM, "seq": seq, "data": epoch})
    return Event(ROOM, epoch, seq, Kind.MESSAGE, payload)


def events(seqs: Iterable[int], epoch: str = EPOCH) -> list[Event]:
    return [event(seq, epoch) for seq in seqs]


def page(seqs: Iterable[int] = (), *, seq: int, epoch: str = EPOCH, **kw: bool) -> HistoryPage:
    return HistoryPage(epoch, seq, events(seqs, epoch), **kw)


def signal(text: str) -> Event:
    payload = msgspec.json.encode({"type": "signal", "topic": ROOM, "data": text})
    return Event(ROOM, "", 0, Kind.SIGNAL, payload)


def topic_at(seq: int, epoch: str = EPOCH) -> Topic:
    topic = Topic(ROOM, Numbers())
    assert topic.catch_up(page(seq=seq, epoch=epoch))
    return topic


def subscriber(topic: Topic, seq: int | None = None, epoch: str = EPOCH) -> FakeTransport:
    transport = FakeTransport(ENCODER)
    topic.join(transport)
    topic.enter(transport, Position(epoch, topic.position.seq if seq is None else seq))
    return transport


ENCODER = FakeEncoder()


def got(transport: FakeTransport) -> list[Any]:
    """Seqs of messages, data of signals, and gaps as (epoch, after, before, reason)."""
    return [
        (m["epoch"], m["after"], m["before"], m["reason"])
        if m["type"] == "gap"
        else m.get("seq", m["data"])
        for m in transport.messages
    ]


# The order -------------------------------------------------------------------------------------


def test_events_reach_live_subscribers_in_order() -> None:
    topic = topic_at(5)
    one, other = subscriber(topic), subscriber(topic)
    assert topic.offer(events([6, 7])) is False
    assert topic.offer(events([8])) is False
    assert got(one) == got(other) == [6, 7, 8]
    assert topic.position == Position(EPOCH, 8)


def test_duplicates_are_dropped() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    assert topic.offer(events([4, 5, 6, 6, 5, 7, 6])) is False
    assert got(one) == [6, 7]


def test_a_hole_is_reported_once_and_nothing_is_sent_until_it_is_filled() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    assert topic.offer(events([6, 8])) is True
    assert topic.offer(events([9])) is False
    assert topic.stale
    assert got(one) == [6]
    assert topic.catch_up(page([7, 8], seq=8)) is True
    assert got(one) == [6, 7, 8, 9]
    assert not topic.stale


def test_a_hole_that_history_cannot_fill_becomes_a_gap() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    topic.offer(events([9]))
    assert topic.catch_up(page([8, 9], seq=9)) is True
    assert got(one) == [(EPOCH, 5, 8, "expired"), 8, 9]


def test_without_history_what_came_in_meanwhile_is_used() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    topic.offer(events([7, 8, 10]))
    assert topic.catch_up(page(seq=11)) is True
    first, second, third = ((EPOCH, after, after + 2, "expired") for after in (5, 8, 10))
    assert got(one) == [first, 7, 8, second, 10, third]


def test_what_came_in_of_another_order_fills_no_hole() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    topic.offer(events([7], LATER))
    assert topic.catch_up(page(seq=8)) is False
    assert got(one) == [(EPOCH, 5, 9, "expired")]


def test_a_read_that_was_cut_off_is_continued() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    topic.offer(events([10, 11]))
    assert topic.catch_up(page([6, 7], seq=10, more=True)) is False
    assert topic.stale
    assert got(one) == [6, 7]
    assert topic.catch_up(page([8, 9], seq=11, more=True)) is False
    assert topic.catch_up(page([10, 11], seq=11)) is True
    assert got(one) == [6, 7, 8, 9, 10, 11]


def test_the_backlog_is_bounded_and_what_it_lost_is_a_new_hole() -> None:
    topic = topic_at(0)
    one = subscriber(topic)
    topic.offer(events([2]))
    topic.offer(events(range(3, MAX_BACKLOG + 10)))
    assert topic.catch_up(page([1, 2, 3], seq=3)) is False
    assert got(one) == [1, 2, 3]
    last = MAX_BACKLOG + 9
    assert topic.catch_up(page(range(4, last + 1), seq=last)) is True
    assert got(one) == [*range(1, last + 1)]


def test_events_before_the_position_is_known_are_kept() -> None:
    topic = Topic(ROOM, Numbers())
    assert not topic.established
    assert topic.offer(events([6, 7])) is False
    assert topic.catch_up(page(seq=6)) is True
    assert topic.position == Position(EPOCH, 7)


def test_another_epoch_starts_anew() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    assert topic.offer(events([1, 2], LATER)) is True
    assert topic.catch_up(page([1], seq=1, epoch=LATER)) is True
    assert got(one) == [(LATER, 0, 1, "epoch_changed"), 1, 2]
    assert topic.position == Position(LATER, 2)
    topic.offer(events([3], LATER))
    assert got(one)[-1] == 3


def test_events_of_an_epoch_that_is_over_make_it_look_again() -> None:
    topic = topic_at(1, LATER)
    one = subscriber(topic, epoch=LATER)
    for _ in range(2):
        assert topic.offer([event(9, EPOCH)]) is True
        assert topic.catch_up(page(seq=1, epoch=LATER)) is False
        # The same answer must not lead to the same question for ever.
        assert topic.catch_up(page(seq=1, epoch=LATER)) is True
    topic.offer(events([2], LATER))
    assert got(one) == [2]


def test_a_read_from_before_the_order_was_lost_is_made_again() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    assert topic.offer([*events([7]), *events([1], LATER)]) is True
    assert topic.catch_up(page([6, 7], seq=7)) is False
    assert topic.catch_up(page([1], seq=1, epoch=LATER)) is True
    assert got(one) == [6, 7, (LATER, 0, 1, "epoch_changed"), 1]
    topic.offer(events([2], LATER))
    assert got(one)[-1] == 2


def test_a_store_that_lost_its_newest_events_starts_anew() -> None:
    topic = topic_at(9)
    one = subscriber(topic)
    topic.stale = True
    assert topic.catch_up(page([7], seq=7)) is True
    assert got(one) == [(EPOCH, 0, 8, "epoch_changed")]
    topic.offer(events([8]))
    assert got(one)[-1] == 8


def test_an_event_that_the_store_lost_is_not_waited_for() -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    assert topic.offer(events([9])) is True
    assert topic.catch_up(page([6], seq=6)) is False
    assert topic.catch_up(page(seq=6)) is True
    topic.offer(events([7]))
    assert got(one) == [6, 7]


def test_a_push_is_encoded_once_per_encoder() -> None:
    topic = topic_at(0)
    json_encoder, msgpack_encoder = FakeEncoder(), FakeEncoder(MSGPACK)
    transports = [FakeTransport(each) for each in [json_encoder, msgpack_encoder] * 5]
    for transport in transports:
        topic.enter(transport, topic.position)
    topic.offer(events([1, 2]))
    assert all(got(transport) == [1, 2] for transport in transports)
    assert (json_encoder.encoded, msgpack_encoder.encoded) == (2, 2)


@pytest.mark.parametrize(
    ("payload", "codec"),
    [*product(NO_JSON, CODECS.values()), (b'{"data":%d}' % 2**70, MSGPACK)],
)
def test_what_cannot_be_encoded_is_left_out(
    payload: bytes, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    topic = topic_at(0)
    live, late = FakeTransport(FakeEncoder(codec)), FakeTransport(FakeEncoder(codec))
    topic.enter(live, topic.position)
    foreign = Event(ROOM, EPOCH, 2, Kind.MESSAGE, payload)
    topic.offer([event(1), foreign, event(3)])
    topic.enter(late, Position(EPOCH, 0))
    topic.replay(late, HistoryPage(EPOCH, 3, [event(1), foreign, event(3)]))
    assert got(live) == got(late) == [1, 3]
    assert caplog.text.count("no JSON") == 1, "said once a minute"


# Subscribers -----------------------------------------------------------------------------------


def test_a_topic_is_empty_when_nobody_is_left_in_any_place() -> None:
    topic = topic_at(5)
    joining = FakeTransport()
    topic.join(joining)
    places = [subscriber(topic), subscriber(topic, 3), subscriber(topic, 8)]
    assert not topic.empty
    for transport in (*places, joining):
        assert not topic.empty
        topic.leave(transport)
        topic.leave(transport)
    assert topic.empty


def test_who_joins_is_sent_nothing_before_it_enters() -> None:
    topic = topic_at(5)
    one = FakeTransport()
    topic.join(one)
    topic.offer([*events([6]), signal("x")])
    assert got(one) == []
    topic.enter(one, topic.position)
    topic.offer(events([7]))
    assert got(one) == [7]


def test_who_left_is_sent_nothing() -> None:
    topic = topic_at(5)
    places = [subscriber(topic), subscriber(topic, 3), subscriber(topic, 8)]
    for transport in places:
        topic.leave(transport)
    topic.offer([*events(range(6, 12)), signal("x")])
    assert [got(transport) for transport in places] == [[], [], []]


def test_who_is_ahead_goes_live_where_the_topic_catches_up() -> None:
    topic = topic_at(5)
    live, ahead = subscriber(topic), subscriber(topic, 8)
    topic.offer(events([6, 7]))
    assert got(ahead) == []
    topic.offer(events([8, 9]))
    assert got(ahead) == [9]
    assert got(live) == [6, 7, 8, 9]


def test_signals_reach_who_is_live_or_ahead_and_keep_their_place() -> None:
    topic = topic_at(5)
    live, ahead, lagging = subscriber(topic), subscriber(topic, 6), subscriber(topic, 4)
    topic.offer([signal("a"), event(6), signal("b"), event(7)])
    assert got(live) == ["a", 6, "b", 7]
    assert got(ahead) == ["a", "b", 7]
    assert got(lagging) == []
    assert topic.position.seq == 7


def test_signals_do_not_wait_behind_a_hole() -> None:
    topic = topic_at(5)
    live = subscriber(topic)
    topic.offer([event(9), signal("a")])
    assert got(live) == ["a"]


def test_who_lags_is_replayed_and_goes_live() -> None:
    topic = topic_at(9)
    one = subscriber(topic, 6)
    topic.offer(events([10]))
    assert got(one) == []
    assert topic.lag_of(one) == Position(EPOCH, 6)
    topic.replay(one, page([7, 8], seq=10, more=True))
    assert topic.lag_of(one) == Position(EPOCH, 8)
    topic.replay(one, page([9, 10], seq=10))
    assert topic.lag_of(one) is None
    topic.offer(events([11]))
    assert got(one) == [7, 8, 9, 10, 11]


def test_a_replay_may_run_ahead_of_the_topic() -> None:
    topic = topic_at(5)
    one = subscriber(topic, 3)
    topic.replay(one, page([4, 5, 6, 7], seq=7))
    topic.offer(events([6, 7, 8]))
    assert got(one) == [4, 5, 6, 7, 8]


def test_a_replay_stops_where_the_transport_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_module, "FLUSH_BYTES", 2 * len(event(6).payload))
    topic = topic_at(9)
    one = subscriber(topic, 5)
    one.room = 2
    one.receiver = None
    topic.replay(one, page([6, 7, 8, 9], seq=9))
    assert got(one) == [6, 7]
    assert topic.lag_of(one) == Position(EPOCH, 7)
    one.drain()
    topic.replay(one, page([8, 9], seq=9))
    assert got(one) == [6, 7, 8, 9]
    assert topic.lag_of(one) is None


def test_a_replay_writes_nothing_to_who_is_full() -> None:
    topic = topic_at(9)
    one = subscriber(topic, 5)
    one.writable = False
    topic.replay(one, page(seq=9))
    assert got(one) == []
    assert topic.lag_of(one) == Position(EPOCH, 5)


def test_a_replay_tells_what_expired() -> None:
    topic = topic_at(9)
    one, other, last = subscriber(topic, 5), subscriber(topic, 5), subscriber(topic, 5)
    topic.replay(one, page([8, 9], seq=9))
    assert got(one) == [(EPOCH, 5, 8, "expired"), 8, 9]
    topic.replay(other, page(seq=9))
    assert got(other) == [(EPOCH, 5, 10, "expired")]
    # A read that was cut off says nothing about what follows.
    topic.replay(last, page([6], seq=9, more=True))
    assert got(last) == [6]


def test_a_replay_in_a_new_epoch_starts_anew() -> None:
    topic = topic_at(9, LATER)
    one = subscriber(topic, 5)
    # What was read behind the old seq is behind the new start only by chance.
    topic.replay(one, page([6, 7, 8], seq=9, epoch=LATER, more=True))
    assert got(one) == [(LATER, 0, 1, "epoch_changed")]
    topic.replay(one, page([7, 8, 9], seq=9, epoch=LATER))
    assert got(one)[1:] == [(LATER, 0, 7, "expired"), 7, 8, 9]
    assert topic.lag_of(one) is None


@pytest.mark.parametrize("seqs", [[1, 2, 3], [1]], ids=["whole", "in pieces"])
def test_all_that_is_stored_of_a_new_order_is_sent(seqs: list[int]) -> None:
    topic = topic_at(5)
    one = subscriber(topic)
    topic.stale = True
    topic.catch_up(page(seqs, seq=3, epoch=LATER, more=len(seqs) < 3))
    assert got(one) == [(LATER, 0, 1, "epoch_changed"), *seqs]
    assert topic.position == Position(LATER, seqs[-1])


def test_an_epoch_that_began_within_an_order_starts_there() -> None:
    topic = topic_at(5)
    one, lagging = subscriber(topic), subscriber(topic, 3)
    topic.stale = True
    topic.catch_up(HistoryPage(LATER, 8, events([8], LATER), epoch_start=7))
    topic.replay(lagging, HistoryPage(LATER, 8, events([8], LATER), epoch_start=7))
    assert got(one) == [(LATER, 0, 8, "epoch_changed"), 8]
    assert got(lagging) == [(LATER, 0, 8, "epoch_changed")]
    assert topic.lag_of(lagging) == Position(LATER, 7)


@pytest.mark.parametrize("seq", [5, 8])
def test_who_reads_too_slowly_lags_from_where_it_was(seq: int) -> None:
    topic = topic_at(5)
    one = subscriber(topic, seq)
    topic.lag(one)
    assert topic.lag_of(one) == Position(EPOCH, seq)
    topic.offer(events([6, 7, 8, 9]))
    assert got(one) == []
    topic.lag(one)
    assert topic.lag_of(one) == Position(EPOCH, seq)


def test_lag_concerns_nobody_else() -> None:
    topic = topic_at(5)
    one, stranger, joining = subscriber(topic), FakeTransport(ENCODER), FakeTransport(ENCODER)
    topic.join(joining)
    topic.lag(stranger)
    topic.lag(joining)
    assert topic.lag_of(stranger) is None
    assert topic.lag_of(joining) is None
    topic.offer(events([6]))
    assert got(one) == [6]


def test_who_is_full_when_it_enters_is_not_pushed_to() -> None:
    topic = topic_at(5)
    one = FakeTransport(ENCODER)
    topic.join(one)
    one.writable = False
    topic.enter(one, topic.position)
    topic.offer(events([6]))
    assert got(one) == []
    assert topic.lag_of(one) == Position(EPOCH, 5)


def test_who_is_full_when_the_topic_catches_up_is_not_pushed_to() -> None:
    topic = topic_at(5)
    one = subscriber(topic, 7)
    one.writable = False
    topic.offer(events([6, 7, 8]))
    assert got(one) == []
    assert topic.lag_of(one) == Position(EPOCH, 7)


# What happens to those ahead when the topic loses its place --------------------------------------


def test_who_is_ahead_within_a_gap_is_told_its_rest() -> None:
    topic = topic_at(5)
    live, inside, beyond = subscriber(topic), subscriber(topic, 7), subscriber(topic, 12)
    topic.stale = True
    assert topic.catch_up(page(seq=9)) is True
    topic.offer(events([10, 11, 12, 13]))
    assert got(live) == [(EPOCH, 5, 10, "expired"), 10, 11, 12, 13]
    assert got(inside) == [(EPOCH, 7, 10, "expired"), 10, 11, 12, 13]
    assert got(beyond) == [13]


def test_who_is_ahead_at_the_end_of_a_gap_needs_none() -> None:
    topic = topic_at(5)
    ahead = subscriber(topic, 9)
    topic.stale = True
    assert topic.catch_up(page(seq=9)) is True
    topic.offer(events([10]))
    assert got(ahead) == [10]


@pytest.mark.parametrize("epoch", [EPOCH, LATER])
def test_who_is_ahead_starts_anew_with_the_others(epoch: str) -> None:
    topic = topic_at(5)
    live, ahead = subscriber(topic), subscriber(topic, 8)
    topic.stale = True
    assert topic.catch_up(page(seq=3, epoch=epoch)) is True
    topic.offer(events([4], epoch))
    assert got(live) == got(ahead) == [(epoch, 0, 4, "epoch_changed"), 4]


def test_who_is_in_the_new_epoch_already_waits_for_the_topic() -> None:
    topic = topic_at(5)
    one = subscriber(topic, 2, LATER)
    assert topic.lag_of(one) == Position(LATER, 2)
    topic.stale = True
    topic.catch_up(page(seq=2, epoch=LATER))
    topic.replay(one, page(seq=2, epoch=LATER))
    topic.offer(events([3], LATER))
    assert got(one) == [3]
