"""The contract of `realtime.ports.PresenceStore`, held by every broker over every store."""

import asyncio

import pytest

from chat_server.presence import MAX_MEMBERS, Attendance, Member
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import Broker

from .helpers import TOPIC, Recorder, Store, until
from .presence import Lease, changes, decoded, presence_of, profile, shown, told

LONG = 3_600.0


async def two_workers(store: Store, **settings: float) -> tuple[Broker, Broker, Recorder]:
    """Return the brokers of two workers, and what the first one hears of the topic.

    The settings are the first one's, if they are not the same.
    """
    broker, recorder = await store.start(**settings)
    await broker.subscribe(TOPIC)
    other = broker if store.name == "memory" else (await store.start())[0]
    return broker, other, recorder


class TestUsers:
    async def test_come_with_the_first_connection_and_go_with_the_last(self, store: Store) -> None:
        broker, other, recorder = await two_workers(store)
        one, two = Lease(broker, "one"), Lease(other, "two")
        await one.write(ada=1)
        await two.write(ada=2, bob=1)
        assert (await one.write(ada=3)).connections == 6
        page = await presence_of(other).page(TOPIC, limit=9)
        assert (page.count, page.connections, shown(page)) == (2, 6, {"ada": 5, "bob": 1})
        assert (await one.write(ada=0)).count == 2
        await two.write(ada=0)
        await until(lambda: told(recorder) == ["+ada", "+bob", "-ada"])
        assert [(each.count, each.connections) for each in changes(recorder)] == [
            (1, 1),
            (2, 4),
            (1, 1),
        ]
        assert (await two.write(bob=0)).count == 0
        page = await presence_of(broker).page(TOPIC, limit=9)
        assert (page.count, page.connections, page.members, page.more) == (0, 0, [], False)

    async def test_are_listed_as_their_newest_token_says(self, store: Store) -> None:
        broker, _ = await store.start()
        lease, page_of = Lease(broker, "one"), presence_of(broker).page
        await lease.write(ada=1)
        newest = profile("ada", name='Ada \\ "L" 100%% grüße', info={"a": [1, None]})
        await presence_of(broker).write(
            Attendance(
                topic=TOPIC,
                lease="one",
                members=(Member("ada", 2, newest),),
                number=2,
                confirmed=1,
            )
        )
        (member,) = (await page_of(TOPIC, limit=9)).members
        assert member == Member("ada", 2, newest)
        assert decoded(member)["info"] == {"a": [1, None]}

    async def test_of_topics_have_nothing_to_do_with_each_other(self, store: Store) -> None:
        broker, _, recorder = await two_workers(store)
        await Lease(broker, "one", "room:other").write(ada=1)
        await Lease(broker, "one").write(bob=1)
        await until(lambda: bool(recorder.events))
        assert told(recorder) == ["+bob"]
        assert shown(await presence_of(broker).page("room:other", limit=9)) == {"ada": 1}

    async def test_many_in_one_write(self, store: Store) -> None:
        broker, _, recorder = await two_workers(store)
        users = {f"u{number:03}": 1 for number in range(MAX_MEMBERS)}
        attended = await Lease(broker, "one").write(users)
        assert (attended.count, attended.connections) == (MAX_MEMBERS, MAX_MEMBERS)
        await until(lambda: len(told(recorder)) == MAX_MEMBERS)
        assert len(changes(recorder)) == 1


class TestPages:
    async def test_follow_each_other_in_the_order_of_names(self, store: Store) -> None:
        broker, _ = await store.start()
        names = ["Z", "a", "a b", "b|1", "ä", "Ω", "中", "😀", "~"]
        ordered = sorted(names, key=str.encode)
        await Lease(broker, "one").write(dict.fromkeys(names, 1))
        seen: list[str] = []
        after, more = "", True
        while more:
            page = await presence_of(broker).page(TOPIC, after=after, limit=4)
            seen += shown(page)
            after, more = seen[-1], page.more
            assert page.count == len(names)
        assert seen == ordered
        assert not (await presence_of(broker).page(TOPIC, after="😀", limit=4)).members
        middle = await presence_of(broker).page(TOPIC, after="aa", limit=2)
        assert list(shown(middle)) == ["b|1", "~"], "`after` need not be there any more"

    async def test_have_no_more_bytes_than_asked_for_but_one_user(self, store: Store) -> None:
        broker, _ = await store.start()
        await Lease(broker, "one").write(a=1, b=1, c=1)
        page = await presence_of(broker).page(TOPIC, limit=9, max_bytes=1)
        assert (list(shown(page)), page.more) == (["a"], True)
        page = await presence_of(broker).page(TOPIC, after="b", limit=9, max_bytes=1)
        assert (list(shown(page)), page.more) == (["c"], False)


class TestGrace:
    async def test_one_who_comes_back_was_never_gone(self, store: Store) -> None:
        broker, other, recorder = await two_workers(store)
        one, two = Lease(broker, "one", grace=LONG), Lease(other, "two", grace=LONG)
        await one.write(ada=1)
        attended = await one.write(ada=0)
        assert attended.released
        assert attended.due_seconds == pytest.approx(LONG, abs=60)
        assert shown(await presence_of(broker).page(TOPIC, limit=9)) == {"ada": 0}
        attended = await two.write(ada=1, bob=1)
        assert (attended.count, attended.due_seconds) == (2, None)
        await until(lambda: told(recorder) == ["+ada", "+bob"])

    async def test_one_who_does_not_has_left_once_somebody_looks(self, store: Store) -> None:
        broker, other, recorder = await two_workers(store)
        one, two = Lease(broker, "one", grace=0.02), Lease(other, "two")
        await one.write(ada=1)
        await two.write(bob=1)
        await one.write(ada=0)
        await store.elapse(0.05)
        attended = await presence_of(other).settle(TOPIC)
        assert (attended.count, attended.connections, attended.due_seconds) == (1, 1, None)
        await until(lambda: told(recorder) == ["+ada", "+bob", "-ada"])

    async def test_a_renewal_looks_too(self, store: Store) -> None:
        broker, other, recorder = await two_workers(store)
        one, two = Lease(broker, "one", grace=0.02), Lease(other, "two")
        await one.write(ada=1)
        await two.write(bob=1)
        await one.write(ada=0)
        await store.elapse(0.05)
        assert (await two.write()).count == 1
        await until(lambda: told(recorder)[-1:] == ["-ada"])

    async def test_nobody_looks_and_a_page_is_empty_all_the_same(self, store: Store) -> None:
        broker, _ = await store.start()
        one = Lease(broker, "one", grace=0.02)
        await one.write(ada=1)
        await one.write(ada=0)
        await store.elapse(0.05)
        page = await presence_of(broker).page(TOPIC, limit=9)
        assert (page.count, page.members) == (0, [])


class TestLeases:
    async def test_a_dead_one_is_found_and_its_users_are_taken_out(self, store: Store) -> None:
        broker, other, recorder = await two_workers(store, presence_lease_seconds=3.0)
        users = {f"u{number:03}": 1 for number in range(MAX_MEMBERS)}
        dead, alive = Lease(broker, "dead"), Lease(other, "alive")
        await dead.write(users)
        await dead.write(ada=1, bob=1)
        await store.elapse(3.05)
        attended = await alive.write(ada=1)
        assert attended.dead == "dead"
        calls = 1
        while await presence_of(other).end(TOPIC, "dead", dead=True):
            calls += 1
        assert calls == 2, "a part at a time"
        page = await presence_of(other).page(TOPIC, limit=9)
        assert (page.count, page.connections, shown(page)) == (1, 1, {"ada": 1})
        await until(lambda: told(recorder).count("-bob") == 1)
        assert "-ada" not in told(recorder)
        assert len(told(recorder)) == 2 * MAX_MEMBERS + 3
        assert not (await dead.write()).known, "it finds out when it comes back"

    async def test_one_that_is_renewed_is_left_alone(self, store: Store) -> None:
        broker, other, _ = await two_workers(store)
        await Lease(broker, "one").write(ada=1)
        assert not await presence_of(other).end(TOPIC, "one", dead=True)
        assert not await presence_of(other).end(TOPIC, "unknown", dead=False)
        assert shown(await presence_of(other).page(TOPIC, limit=9)) == {"ada": 1}

    async def test_where_all_have_ended_nobody_is_there(self, store: Store) -> None:
        broker, _ = await store.start(presence_lease_seconds=0.2)
        await Lease(broker, "one").write(ada=1)
        await store.elapse(0.25)
        page = await presence_of(broker).page(TOPIC, limit=9)
        assert (page.count, page.connections, page.members) == (0, 0, [])

    async def test_another_one_takes_over_without_a_word(self, store: Store) -> None:
        broker, _, recorder = await two_workers(store)
        await Lease(broker, "old").write(ada=1, bob=1)
        await Lease(broker, "new").write(ada=1)
        assert not await presence_of(broker).end(TOPIC, "old", dead=False)
        assert shown(await presence_of(broker).page(TOPIC, limit=9)) == {"ada": 1}
        await until(lambda: told(recorder) == ["+ada", "+bob", "-bob"])


class TestRepetitions:
    async def test_a_write_made_again_counts_once(self, store: Store) -> None:
        broker, _, recorder = await two_workers(store)
        lease = Lease(broker, "one")
        await lease.attempt(1, 0, {"ada": 2})
        await lease.attempt(2, 0, {"ada": 2, "bob": 1})
        attended = await lease.attempt(3, 2, {"bob": 0})
        assert (attended.count, attended.connections) == (1, 2)
        await until(lambda: told(recorder) == ["+ada", "+bob", "-bob"])

    async def test_one_that_was_overtaken_does_nothing(self, store: Store) -> None:
        broker, _ = await store.start()
        lease = Lease(broker, "one")
        await lease.attempt(1, 0, {"ada": 1})
        await lease.attempt(3, 1, {"ada": 2})
        assert not (await lease.attempt(2, 1, {"ada": 7})).known
        assert not (await lease.attempt(3, 1, {"ada": 7})).known
        assert shown(await presence_of(broker).page(TOPIC, limit=9)) == {"ada": 2}

    async def test_a_lease_that_has_lost_a_write_is_not_known(self, store: Store) -> None:
        broker, _ = await store.start()
        lease = Lease(broker, "one")
        await lease.attempt(1, 0, {"ada": 1})
        assert not (await lease.attempt(4, 3, {"bob": 1})).known
        assert not (await Lease(broker, "lost").attempt(4, 3, {"bob": 1})).known
        assert shown(await presence_of(broker).page(TOPIC, limit=9)) == {"ada": 1}

    async def test_who_writes_again_says_so(self, store: Store) -> None:
        broker, _, recorder = await two_workers(store)
        await Lease(broker, "one").write(again=True, ada=1)
        await Lease(broker, "two").write(again=True)
        await until(lambda: [each.more for each in changes(recorder)] == [True, True])


async def test_a_broker_that_is_not_started_keeps_nothing(store: Store) -> None:
    broker = store.make()
    for future in (
        Lease(broker, "one").attempt(1, 0, {"ada": 1}),
        presence_of(broker).page(TOPIC, limit=1),
    ):
        with pytest.raises(Unavailable):
            await future
    for call in (presence_of(broker).settle(TOPIC), presence_of(broker).end(TOPIC, "a", dead=True)):
        with pytest.raises(Unavailable):
            await call


async def test_ten_thousand_users(shared_store: Store) -> None:
    broker, _ = await shared_store.start()
    lease = Lease(broker, "one")
    for first in range(0, 10_000, MAX_MEMBERS):
        users = {f"user-{number:05}": 1 for number in range(first, first + MAX_MEMBERS)}
        attended = await lease.write(users)
    assert attended.count == 10_000
    pages = await asyncio.gather(
        presence_of(broker).page(TOPIC, after="user-04999", limit=1_000),
        presence_of(broker).page(TOPIC, after="user-09999", limit=1_000),
    )
    assert [len(page.members) for page in pages] == [1_000, 0]
    assert list(shown(pages[0]))[:2] == ["user-05000", "user-05001"]
    assert [page.more for page in pages] == [True, False]
