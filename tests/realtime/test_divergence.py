"""Whether a topic's log still agrees with what subscribers have seen of it."""

from chat_server.events import Event, HistoryPage, Kind

from .test_topic import EPOCH, LATER, ROOM, event, events, page, subscriber, topic_at


def other(seq: int) -> Event:
    return Event(ROOM, EPOCH, seq, Kind.MESSAGE, b"{}")


def test_a_store_that_gives_a_seq_again_is_found_out() -> None:
    topic = topic_at(5)
    topic.offer(events([6, 7]))
    seen = topic.snapshot()
    for stored, seq in (([7], 7), ([7, 8], 9), ([8, 9], 9)):  # in the last, 7 was trimmed
        assert not seen.diverged_from(page(stored, seq=seq))
    assert seen.diverged_from(page([6], seq=6))
    later, same = (HistoryPage(epoch, 8, [other(7), event(8)]) for epoch in (LATER, EPOCH))
    assert seen.diverged_from(same)
    assert not seen.diverged_from(later), "it says so itself"


def test_who_is_ahead_is_a_witness_of_what_the_store_had() -> None:
    topic = topic_at(5)
    before, one = topic.snapshot(), subscriber(topic, 4)
    topic.replay(one, page([5, 6, 7], seq=7))
    topic.leave(one)
    for seen, lost in ((before, False), (topic.snapshot(), True)):
        assert seen.diverged_from(page([5, 6], seq=6)) is lost
        differing = HistoryPage(EPOCH, 8, [event(6), other(7), event(8)])
        assert seen.diverged_from(differing) is lost
        assert not seen.diverged_from(page([6, 7, 8], seq=8))
