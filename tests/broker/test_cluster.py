"""What happens to the broker over a Redis Cluster when slots move and nodes fail."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chat_server.broker.redis.cluster import ClusterBroker
from chat_server.events import PublishResult, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, RedisSettings

from ..rig.certificates import make_certificate
from ..rig.redis_cluster import FAILING_MS, RedisCluster
from ..rig.redis_server import RedisServer, patient, running
from .acl import rules
from .helpers import TOPIC, Run, draft, text_of, until, until_status
from .presence import Lease, shown, told

Start = Callable[..., Any]

EVERYTHING = Retention(1_000_000, 3_600.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """Nodes to be harmed."""
    with running(RedisCluster(tmp_path, node_timeout_ms=FAILING_MS)) as cluster:
        yield cluster


@pytest.fixture
def start(cluster: RedisCluster, run: Run) -> Start:
    def _start(url: str = "", timeout: float = 15.0, **settings: Any) -> Any:
        redis = RedisSettings(url=url or cluster.url, timeout_seconds=timeout)
        return run(ClusterBroker(redis, BrokerSettings(**settings)))

    return _start


def topics_by_node(cluster: RedisCluster) -> dict[int, str]:
    """Return one topic for each node's port."""
    found: dict[int, str] = {}
    for number in count():
        topic = f"room:{number}"
        found.setdefault(cluster.owner(topic).port, topic)
        if len(found) == 3:
            return found
    raise AssertionError


def another(cluster: RedisCluster, node: RedisServer) -> RedisServer:
    return next(other for other in cluster.nodes if other is not node)


class Publisher:
    """Publishes bursts to a topic, not waiting for answers, until it is told to stop."""

    def __init__(self, broker: ClusterBroker, topic: str = TOPIC) -> None:
        self.futures: list[asyncio.Future[PublishResult]] = []
        self._broker = broker
        self._topic = topic
        self._stopped = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stopped.is_set():
            for _ in range(3):
                text = str(len(self.futures))
                publication = draft(text, topic=self._topic, retention=EVERYTHING)
                self.futures.append(self._broker.publish(publication))
            await asyncio.sleep(0.002)

    async def published(self, number: int) -> None:
        """Wait until there are so many more."""
        count = len(self.futures) + number
        await until(lambda: len(self.futures) >= count)

    async def answered(self, number: int) -> None:
        """Wait until so many more were answered."""
        mine = len(self.futures) + number
        await until(lambda: len(self.futures) > mine and self.futures[mine].done())

    async def stop(self) -> list[PublishResult | BaseException]:
        """Return how each publication ended."""
        self._stopped.set()
        await self._task
        return await asyncio.gather(*self.futures, return_exceptions=True)


async def test_a_slot_moves_under_publications(start: Start, cluster: RedisCluster) -> None:
    broker, _ = await start()
    other, heard = await start()
    await other.subscribe(TOPIC)
    publisher = Publisher(broker)
    for _ in range(3):
        await publisher.answered(30)
        target = another(cluster, cluster.owner(TOPIC))
        await asyncio.to_thread(cluster.begin_move, TOPIC, target)
        await publisher.published(30)
        assert not publisher.futures[-1].done(), "a slot that is being migrated runs no script"
        await asyncio.to_thread(cluster.end_move, TOPIC, target)
    await publisher.answered(30)
    places = [end for end in await publisher.stop() if isinstance(end, PublishResult)]
    assert len(places) == len(publisher.futures)
    assert [place.seq for place in places] == list(range(1, len(places) + 1)), (
        "none failed, and all are in the order in which they were published"
    )
    assert len({place.epoch for place in places}) == 1
    page = await other.history(TOPIC, limit=100_000)
    assert [text_of(event) for event in page.events] == list(map(str, range(len(places))))
    # What came between two subscriptions is read again, which the listener is told.
    await until(lambda: heard.returns >= 3)
    last = await broker.publish(draft("last"))
    await until(lambda: last.seq in heard.seqs())
    assert heard.seqs() == sorted(set(heard.seqs()))
    assert heard.lost == heard.restored == [[TOPIC]] * 3, "no other waits until it was read again"
    assert other.available


async def test_a_quiet_subscription_moves_with_its_slot(
    start: Start, cluster: RedisCluster
) -> None:
    broker, recorder = await start()
    topics = [TOPIC, "room:quiet"]
    await asyncio.gather(*(broker.subscribe(topic) for topic in topics))
    target = another(cluster, cluster.owner(TOPIC))
    await asyncio.to_thread(cluster.begin_move, TOPIC, target)
    await asyncio.to_thread(cluster.end_move, TOPIC, target)
    await until(lambda: recorder.returns == 1)
    assert recorder.lost == recorder.restored == [[TOPIC]]
    fresh, _ = await start()
    for topic in topics:
        await fresh.publish(draft(topic=topic))
    await recorder.wait_for(2)
    assert sorted(event.topic for event in recorder.events) == sorted(topics)
    # It is forgotten where it is now, too.
    broker.unsubscribe(TOPIC)
    assert (await broker.health()).latency_seconds is not None
    await fresh.publish(draft(topic=TOPIC))
    await fresh.publish(draft(topic="room:quiet"))
    await recorder.wait_for(3)
    assert recorder.events[-1].topic == "room:quiet"


async def test_everything_waits_for_a_slot_but_not_for_ever(
    start: Start, cluster: RedisCluster
) -> None:
    broker, _ = await start(timeout=2.0, max_pending=10)
    for number in range(3):
        await broker.publish(draft(str(number)))
    target = another(cluster, cluster.owner(TOPIC))
    await asyncio.to_thread(cluster.begin_move, TOPIC, target)
    with pytest.raises(Unavailable):
        await broker.publish(draft(key="k"))
    futures = [broker.publish(draft(str(number))) for number in range(20)]
    ended = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in ended)
    assert broker.available, "all others are served"
    assert (await broker.publish(draft(topic="room:other"))).seq == 1
    await asyncio.to_thread(cluster.end_move, TOPIC, target)
    assert (await broker.publish(draft())).seq == 4
    assert len((await broker.history(TOPIC, limit=10)).events) == 4


async def test_reads_and_subscriptions_follow_a_slot(start: Start, cluster: RedisCluster) -> None:
    broker, recorder = await start()
    await broker.publish(draft())
    target = another(cluster, cluster.owner(TOPIC))
    await asyncio.to_thread(cluster.begin_move, TOPIC, target)
    await asyncio.to_thread(cluster.end_move, TOPIC, target)
    # The broker has not heard of it yet.
    page, _, place = await asyncio.gather(
        broker.history(TOPIC, limit=10), broker.subscribe(TOPIC), broker.publish(draft())
    )
    assert page.events[0].seq == 1
    await until(lambda: recorder.seqs() == [place.seq] or recorder.returns > 0)
    await broker.publish(draft())
    await until(lambda: 3 in recorder.seqs())


async def test_presence_follows_a_slot(start: Start, cluster: RedisCluster) -> None:
    broker, recorder = await start()
    await broker.subscribe(TOPIC)
    lease = Lease(broker, "one")
    await lease.write(ada=1)
    target = another(cluster, cluster.owner(TOPIC))
    await asyncio.to_thread(cluster.begin_move, TOPIC, target)
    writing = asyncio.create_task(lease.write(bob=1))
    await asyncio.to_thread(cluster.end_move, TOPIC, target)
    assert (await writing).count == 2
    written, page = await asyncio.gather(lease.write(eve=1), broker.presence.page(TOPIC, limit=9))
    assert (written.known, written.count) == (True, 3)
    assert list(shown(page))[:2] == ["ada", "bob"]
    assert (await lease.write(ada=0, bob=0, eve=0)).count == 0
    await until(lambda: recorder.returns > 0 or told(recorder)[-1:] == ["-eve"])


async def test_a_node_is_killed_and_comes_back(start: Start, cluster: RedisCluster) -> None:
    broker, recorder = await start(timeout=3.0)
    topics = topics_by_node(cluster)
    victim = cluster.nodes[2]
    lost, *kept = topics[victim.port], *(topics[node.port] for node in cluster.nodes[:2])
    await asyncio.gather(*(broker.subscribe(topic) for topic in topics.values()))
    before = await broker.publish(draft(topic=lost))
    await recorder.wait_for(1)
    victim.kill()
    await until(lambda: not broker.available)
    assert recorder.lost == [[lost]]
    assert [broker.reaches(topic) for topic in (lost, *kept)] == [False, True, True]
    with pytest.raises(Unavailable):
        await broker.publish(draft(topic=lost))
    with pytest.raises(Unavailable):
        await broker.history(lost, limit=1)
    for topic in kept:
        assert (await broker.publish(draft(topic=topic))).seq == 1
    await recorder.wait_for(3)
    await asyncio.to_thread(victim.start)
    await until(lambda: broker.available and recorder.returns == 1, 90)
    after = await broker.publish(draft(topic=lost))
    assert (after.seq, after.epoch != before.epoch) == (1, True), "it had saved nothing"
    await recorder.wait_for(4)
    assert recorder.lost == recorder.restored == [[lost]]


async def test_a_replica_takes_over(start: Start, cluster: RedisCluster, tmp_path: Path) -> None:
    topics = topics_by_node(cluster)
    victim = cluster.nodes[2]
    topic = topics[victim.port]
    replica = await asyncio.to_thread(cluster.add_replica, victim, tmp_path)
    broker, recorder = await start(timeout=3.0)
    await asyncio.gather(*(broker.subscribe(topic) for topic in topics.values()))
    before = await broker.publish(draft(topic=topic))
    await recorder.wait_for(1)
    await until(lambda: victim.has_replicated_to(replica))
    (leaving,) = (s for address, s in broker._shards.items() if address.port == victim.port)
    leaving._probe._deaf_seconds = 1.5
    victim.kill()
    await until(lambda: recorder.losses == 1)
    # It may be available for a moment before it knows that the node is gone.
    await until(lambda: broker.available and replica.port in {each.port for each in broker._shards})
    after = await broker.publish(draft(topic=topic))
    assert (after.epoch, after.seq) == (before.epoch, 2)
    await recorder.wait_for(2)
    assert recorder.lost[-1] == recorder.restored[-1] == [topic]
    assert {address.port for address in broker._shards} == {
        *(node.port for node in cluster.nodes[:2]),
        replica.port,
    }
    assert not broker._retiring, "nothing is kept of the dead node"
    assert (await broker.health()).deaf_seconds >= 1.5, "a count that people watch does not go back"


async def test_a_cluster_that_is_away_is_awaited(start: Start, cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.kill()
    broker, recorder = await start(timeout=3.0)
    assert not broker.available
    for call in (broker.publish(draft()), broker.subscribe(TOPIC)):
        with pytest.raises(Unavailable):
            await call
    for node in cluster.nodes:
        await asyncio.to_thread(node.start)
    await until(lambda: recorder.returns > 0 and broker.available, 90)
    assert (await broker.publish(draft())).seq == 1
    await recorder.wait_for(1)


async def test_one_seed_of_many_is_enough(start: Start, cluster: RedisCluster) -> None:
    port = cluster.nodes[1].port
    broker, _ = await start(f"redis+cluster://127.0.0.1:1,127.0.0.1:{port}")
    assert broker.available
    assert len(broker._shards) == 3


def let_in_bob(cluster: RedisCluster) -> None:
    """Add a user who may do what the pages say, and no more."""
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "bob", "on", ">s3cret", *rules("cluster"))


async def test_credentials(
    start: Start, cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    let_in_bob(cluster)
    wrong, _ = await start(cluster.url.replace("://", "://bob:wr0ng@"))
    assert not wrong.available
    assert any(record.levelno >= logging.WARNING for record in caplog.records)
    assert "wr0ng" not in caplog.text
    broker, recorder = await start(cluster.url.replace("://", "://bob:s3cret@"))
    await broker.subscribe(TOPIC)
    await broker.publish(draft(key="k"))
    await recorder.wait_for(1)
    assert len((await broker.history(TOPIC, limit=1)).events) == 1


async def test_a_user_who_may_not_subscribe_is_named_once(
    start: Start, cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    let_in_bob(cluster)
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "bob", "-ssubscribe")
    broker, _ = await start(cluster.url.replace("://", "://bob:s3cret@"))
    for topic in range(9):
        with pytest.raises(Unavailable):
            await broker.subscribe(f"room:{topic}")
    await asyncio.sleep(3)
    await until_status(broker, "misconfigured")
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len([line for line in lines if "ACL: +ssubscribe is missing" in line]) == 1
    assert len(lines) <= 3, lines
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "bob", "+ssubscribe")
    await until_status(broker, "ok")


@pytest.fixture
def secure_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path, make_certificate(tmp_path))) as cluster:
        yield cluster


async def test_tls_with_users_that_may_do_no_more_than_they_must(
    secure_cluster: RedisCluster, run: Run
) -> None:
    let_in_bob(secure_cluster)
    redis = patient(secure_cluster.url.replace("://", "://bob:s3cret@"))
    broker, recorder = await run(ClusterBroker(redis, BrokerSettings()))
    await asyncio.gather(*(broker.subscribe(f"room:{n}") for n in range(9)))
    await asyncio.gather(*(broker.publish(draft(topic=f"room:{n}")) for n in range(9)))
    await recorder.wait_for(9)
    plain = {node.port for node in secure_cluster.nodes}
    assert not {address.port for address in broker._shards} & plain


async def test_stopping_while_a_slot_moves(start: Start, cluster: RedisCluster) -> None:
    broker, _ = await start()
    await broker.subscribe(TOPIC)
    publisher = Publisher(broker)
    await publisher.answered(10)
    await asyncio.to_thread(cluster.begin_move, TOPIC, another(cluster, cluster.owner(TOPIC)))
    await publisher.published(10)
    await broker.stop()
    ended = await publisher.stop()
    assert isinstance(ended[-1], Unavailable)
    assert all(isinstance(end, PublishResult | Unavailable) for end in ended)
