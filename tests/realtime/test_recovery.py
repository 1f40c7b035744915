"""Where a subscriber starts: a table of positions against what the store has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.events import Event, HistoryPage, Kind, Position
from chat_server.realtime.recovery import recover_last, recover_since, start_here


def page(
    after: int, seq: int, *, oldest: int = 1, limit: int = 10, epoch: str = "e"
) -> HistoryPage:
    """What a read behind `after` finds where events from `oldest` to `seq` are stored."""
    stored = range(max(after + 1, oldest), seq + 1)
    events = [Event("a", epoch, n, Kind.MESSAGE, b"") for n in stored[:limit]]
    return HistoryPage(epoch, seq, events, more=len(stored) > limit)


@pytest.mark.parametrize(
    ("since", "read", "reason", "start", "replayed"),
    [
        (5, page(5, 5), None, 5, 0),
        (3, page(3, 5), None, 3, 2),
        (0, page(0, 5), None, 0, 5),
        (0, page(0, 0), None, 0, 0),
        (0, page(0, 40, limit=3), None, 0, 40),
        (3, page(3, 5, oldest=4), None, 3, 2),
        (3, page(3, 5, oldest=5), "expired", 5, 0),
        (3, page(3, 5, oldest=6), "expired", 5, 0),
        (5, page(5, 5, oldest=6), None, 5, 0),
        (0, page(0, 50), None, 0, 50),
        (0, page(0, 51), "too_far_behind", 51, 0),
        (6, page(6, 5), "epoch_changed", 5, 0),
        (3, page(3, 5, epoch="f"), "epoch_changed", 5, 0),
        (0, page(0, 0, epoch="f"), "epoch_changed", 0, 0),
    ],
)
def test_since(
    since: int, read: HistoryPage, reason: str | None, start: int, replayed: int
) -> None:
    recovery = recover_since(Position("e", since), read, max_replay=50)
    assert recovery.recovered is (reason is None)
    assert recovery.reason == reason
    assert recovery.position == Position(read.epoch, read.seq)
    assert recovery.start == Position(read.epoch, start)
    assert recovery.replayed == replayed


@pytest.mark.parametrize(
    ("stored", "oldest", "last", "start"),
    [(9, 1, 3, 6), (9, 1, 9, 0), (9, 1, 100, 0), (9, 8, 5, 7), (9, 10, 5, 9), (0, 1, 5, 0)],
)
def test_last(stored: int, oldest: int, last: int, start: int) -> None:
    events = [Event("a", "e", n, Kind.MESSAGE, b"") for n in range(oldest, stored + 1)][-last:]
    recovery = recover_last(HistoryPage("e", stored, events, more=len(events) < stored))
    assert (recovery.recovered, recovery.reason) == (True, None)
    assert recovery.start == Position("e", start)
    assert recovery.position == Position("e", stored)
    assert recovery.replayed == len(events)


def test_here() -> None:
    recovery = start_here(Position("e", 4), "expired")
    assert recovery.start == recovery.position == Position("e", 4)
    assert (recovery.recovered, recovery.replayed, recovery.reason) == (False, 0, "expired")


@given(
    since=st.integers(0, 30),
    seq=st.integers(0, 30),
    oldest=st.integers(1, 31),
    max_replay=st.integers(1, 30),
    same_epoch=st.booleans(),
)
def test_recovered_means_that_all_of_it_can_be_sent(
    since: int, seq: int, oldest: int, max_replay: int, same_epoch: bool
) -> None:
    read = page(since, seq, oldest=oldest, limit=100)
    recovery = recover_since(Position("e" if same_epoch else "d", since), read, max_replay)
    missed = [*range(since + 1, seq + 1)]
    possible = same_epoch and since <= seq and len(missed) <= max_replay
    if recovery.recovered:
        assert possible
        assert [event.seq for event in recovery.page.events] == missed
    else:
        assert not possible or (missed and missed[0] < oldest)
        assert recovery.page.events == []
        assert recovery.replayed == 0
