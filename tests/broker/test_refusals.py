"""A Redis that answers and yet stores nothing: what the worker says of it, and what goes on."""

import asyncio
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ClusterDownError, MovedError

from chat_server.broker.outbox import Outbox
from chat_server.broker.redis import subscriber
from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.diagnosis import COMMANDS, UNPROBED_COMMANDS
from chat_server.broker.redis.refusals import refusal_of
from chat_server.changes import Outcome
from chat_server.events import Retention
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, Namespace, RedisSettings, Settings

from ..rig.redis_cluster import RedisCluster
from ..rig.redis_server import RedisServer, patient, running
from .helpers import TOPIC, Recorder, Run, draft, text_of, until
from .test_changes import append, appended, delete, edit, react, say

Start = Callable[..., Any]

SEVEN = "script: 5f1d, on @user_script:24."
SIX = "ERR Error running script (call to f_5f1d): @user_script:24: @user_script: 24: "


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (f"OOM command not allowed when used memory > 'maxmemory'. {SEVEN}", "full", "maxmemory"),
        (f"{SIX}-OOM command not allowed when used memory > 'maxmemory'.", "full", "maxmemory"),
        (f"READONLY You can't write against a read only replica. {SEVEN}", "readonly", "replica"),
        (f"{SIX}-READONLY You can't write against a read only replica.", "readonly", "replica"),
        (f"NOREPLICAS Not enough good replicas to write. {SEVEN}", "readonly", "min-replicas"),
        (f"{SIX}-NOREPLICAS Not enough good replicas to write.", "readonly", "min-replicas"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's …", "readonly", "disk"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "readonly", "disk"),
        ("NOPERM this user has no permissions to run the 'zadd' command", "misconfigured", "+zadd"),
        ("NOPERM User bob has no permissions to run the 'script|load' command", *2 * ("",)),
        (
            "ERR ACL failure in script: User bob has no permissions to run the 'time' command "
            + SEVEN,
            *("misconfigured", "+time"),
        ),
        (
            "ERR The user executing the script can't run this command or subcommand " + SEVEN,
            *("misconfigured", "ACL"),
        ),
        ("NOPERM No permissions to access a key", "misconfigured", "~PREFIX:*"),
        (
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            *("misconfigured", "~PREFIX:*"),
        ),
        ("NOPERM No permissions to access a channel", "misconfigured", "&PREFIX:*"),
        ("ERR unknown command 'SSUBSCRIBE', with args: 'x'", "misconfigured", "Redis 7.0"),
        ("ERR unknown command `EVALSHA`, with args: 'x'", "misconfigured", "Redis 6.2"),
        (f"{SIX}Unknown Redis command called from Lua script", "misconfigured", "Redis 6.2"),
        (f"ERR Unknown command called from script {SEVEN}", "misconfigured", "Redis 6.2"),
        ("MOVED 6602 127.0.0.1:7000", "misconfigured", "redis+cluster://"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "misconfigured", "cluster"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", None, ""),
        ("LOADING Redis is loading the dataset in memory", None, ""),
        ("ERR something else", None, ""),
    ],
)
def test_what_a_reply_says_of_redis(reply: str, status: str | None, words: str) -> None:
    if status == "":
        status, words = "misconfigured", "+script|load"
    parse: Any = BaseParser.parse_error
    refusal = refusal_of(parse(reply))
    if status is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert (refusal.status, words in refusal.reason) == (status, True)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server whose folder may be moved."""
    with running(RedisServer(tmp_path, "--enable-protected-configs", "local")) as server:
        yield server


@pytest.fixture
def start(own_redis: RedisServer, run: Run) -> Start:
    def _start(url: str = "", probe_seconds: float = 0.1, **settings: Any) -> Any:
        redis = RedisSettings(
            url=url or own_redis.url, timeout_seconds=15, canary_seconds=probe_seconds
        )
        return run(RedisBroker(redis, BrokerSettings(**settings)))

    return _start


class Trouble:
    """Ways to keep a server from writing, and to let it write again."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def _config(self, name: str, value: str) -> None:
        assert self._server.command("CONFIG", "SET", name, value).startswith(b"+OK")

    def full(self, on: bool) -> None:
        self._config("maxmemory", "1" if on else "0")

    def no_replicas(self, on: bool) -> None:
        self._config("min-replicas-to-write", "1" if on else "0")

    def replica(self, on: bool) -> None:
        self._server.command("REPLICAOF", *(("127.0.0.1", "1") if on else ("NO", "ONE")))

    def disk(self, on: bool) -> None:
        self._folder.mkdir(exist_ok=True)
        self._config("dir", str(self._folder))
        if on:
            shutil.rmtree(self._folder)
            self._config("save", "3600 1")
        assert self._server.command("BGSAVE").startswith(b"+")
        wanted = b"err" if on else b"ok"
        while b"rdb_last_bgsave_status:" + wanted not in self._server.command("INFO", "all"):
            pass


@pytest.mark.parametrize(
    ("kind", "status"),
    [("full", "full"), *((kind, "readonly") for kind in ("no_replicas", "replica", "disk"))],
)
async def test_a_store_that_takes_no_writes_says_so_and_is_read(
    start: Start,
    own_redis: RedisServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    status: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.1)
    trouble = getattr(Trouble(own_redis, tmp_path / "disk"), kind)
    old, heard = await start(probe_seconds=60.0 if kind == "full" else 0.1)
    await old.subscribe(TOPIC)
    await old.publish(draft("before"))

    await asyncio.to_thread(trouble, True)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await old.publish(draft("refused"))
    # A replica is left for whatever the address leads to: here to the same server again.
    await until(lambda: old.available and old.status == status)
    new, _ = await start()
    for broker in (old, new):
        assert (broker.status, broker.available, broker.accepts(TOPIC)) == (status, True, False)
        assert [text_of(e) for e in (await broker.history(TOPIC, limit=9)).events] == ["before"]
        assert (await broker.health()).latency_seconds is not None
        await broker.subscribe(TOPIC)
        with pytest.raises(Unavailable) as caught:
            await broker.publish(draft("refused"))
        assert f"{status}; nothing was stored" in str(caught.value)
        assert caught.value.retry_in_ms
    heard.events.clear()
    if kind != "replica":
        await new.signal(TOPIC, b"{}")
        await heard.wait_for(1)
    told = "read-only replica" if kind == "replica" else "Redis takes no publications"
    assert len(re.findall(told, caplog.text)) == 2, "one of each worker"

    await asyncio.to_thread(trouble, False)
    await until(lambda: old.status == new.status == "ok")
    assert caplog.text.count("Redis takes publications again") == 2
    assert (await new.publish(draft("after"))).seq == 2
    await until(lambda: "after" in [text_of(e) for e in heard.events if e.seq])


async def test_the_last_line_of_the_log_is_what_lasts(
    start: Start, own_redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full Redis takes some publications now and then."""
    caplog.set_level(logging.INFO)
    trouble = Trouble(own_redis, tmp_path)
    broker, _ = await start(probe_seconds=0.1)
    for _ in range(3):
        await asyncio.to_thread(trouble.full, True)
        await until(lambda: broker.status == "full")
        assert _last_told(caplog) == "Redis takes no publications"
        await asyncio.to_thread(trouble.full, False)
        await until(lambda: broker.status == "ok")
    # Three times within a minute, but no line for each of them.
    assert caplog.text.count("Redis takes publications again") == 1
    assert caplog.text.count("Redis takes no publications") == 2


def _last_told(caplog: pytest.LogCaptureFixture) -> str:
    told: list[str] = re.findall("Redis takes (?:no publications|publications again)", caplog.text)
    return told[-1]


async def test_a_refusal_is_noticed_without_any_publication(
    start: Start, own_redis: RedisServer
) -> None:
    broker, recorder = await start()
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    await until(lambda: broker.status == "full")
    own_redis.command("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: broker.status == "ok")
    assert (recorder.losses, recorder.returns) == (0, 0)


async def test_spooled_publications_wait_for_a_full_store(own_redis: RedisServer) -> None:
    settings = Settings(
        redis=patient(own_redis.url, canary_seconds=0.1),
        namespaces={"room": Namespace(spool_messages=100)},
    )
    broker, recorder = RedisBroker(settings.redis, settings.broker), Recorder()
    outbox = Outbox(broker, settings)
    outbox.start()
    await broker.start(recorder)
    try:
        await broker.subscribe(TOPIC)
        await outbox.publish(draft("0"))
        own_redis.command("CONFIG", "SET", "maxmemory", "1")
        waiting = [outbox.publish(draft(str(number))) for number in range(1, 4)]
        await until(lambda: outbox.spooled == 3)
        await until(lambda: broker.status == "full")
        waiting += [outbox.publish(draft(str(number))) for number in range(4, 8)]
        assert outbox.spooled == 7
        own_redis.command("CONFIG", "SET", "maxmemory", "0")
        assert [(await place).seq for place in waiting] == list(range(2, 9))
        await recorder.wait_for(8)
        assert [text_of(event) for event in recorder.events] == [str(n) for n in range(8)]
    finally:
        outbox.stop()
        await broker.stop()


async def test_a_full_store_takes_no_new_topics_either(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start(probe_seconds=60.0)
    while broker.status == "ok":
        bound = used_memory(own_redis) + 200_000
        own_redis.command("CONFIG", "SET", "maxmemory", str(bound))
        for number in range(100):
            with_topic = broker.publish(draft("x" * 60_000, topic=f"room:{number}"))
            await asyncio.wait([with_topic])
    refused = 0
    for number in range(1_000):
        made = broker.publish(draft("x" * 60_000, topic=f"new:{number}", key="k"))
        reading = asyncio.ensure_future(broker.history(f"unread:{number}", limit=9))
        await asyncio.wait([made, reading])
        refused += made.exception() is not None
        reading.exception()
    assert refused > 950, "some may fit into what is freed meanwhile"
    assert used_memory(own_redis) < bound + 200_000


async def test_a_full_store_takes_no_changes_and_no_cursors(
    start: Start, own_redis: RedisServer
) -> None:
    broker, _ = await start(probe_seconds=60.0)
    seq = await say(broker, "text", state="streaming")
    assert (await appended(broker, append(seq, "more"))).outcome is Outcome.STORED
    other = await say(broker, "another")
    bound = used_memory(own_redis)
    own_redis.command("CONFIG", "SET", "maxmemory", str(bound))
    refused = tried = 0
    for number in range(150):
        for work in (
            broker.change(edit(other, "x" * 2_000)),
            broker.change(react(other, sender=b'{"user":"%d"}' % number)),
            broker.change(append(seq, "y" * 2_000)),
            broker.cursors.move(TOPIC, f"user{number}", other),
        ):
            await asyncio.wait([work])
            tried += 1
            refused += work.exception() is not None
    assert refused > 0.9 * tried, "some may fit into what is freed meanwhile"
    assert used_memory(own_redis) < bound + 200_000


def used_memory(server: RedisServer) -> int:
    found = re.search(rb"used_memory:(\d+)", server.command("INFO", "memory"))
    assert found is not None
    return int(found[1])


GRANTS = (
    *("+ping", "+select", "+subscribe", "+unsubscribe", "+publish", "+evalsha", "+script|load"),
    *(f"+{name}" for name in COMMANDS),
)


def let_in_bob(server: RedisServer, *grants: str, keys: str = "~chat:*") -> str:
    server.command("ACL", "SETUSER", "bob", "on", ">pw", keys, "&chat:*", "-@all", *grants)
    return f"redis://bob:pw@127.0.0.1:{server.port}/0"


def test_the_diagnosis_knows_what_the_scripts_call() -> None:
    scripts = files("chat_server.broker.redis").joinpath("scripts").iterdir()
    called = {
        name.lower()
        for script in scripts
        for name in re.findall(r"redis\.p?call\('(\w+)'", script.read_text())
    }
    assert called == set(COMMANDS) | UNPROBED_COMMANDS


@pytest.mark.parametrize(
    "missing",
    [*COMMANDS, "evalsha", "script|load", "publish", "subscribe"],
)
async def test_the_log_names_what_an_acl_lacks(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    grants = [grant for grant in GRANTS if grant != f"+{missing}"]
    broker, _ = await start(let_in_bob(own_redis, *grants))
    await until(lambda: broker.status == "misconfigured")
    deadline = time.monotonic() + 1.2
    while time.monotonic() < deadline:
        assert broker.status == "misconfigured", "it says so only now and then"
        await asyncio.sleep(0.01)
    named = [r for r in caplog.records if f"ACL: +{missing} is missing" in r.getMessage()]
    assert len(named) == 1
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 2
    assert not broker.accepts(TOPIC)
    server_says = own_redis.command("ACL", "SETUSER", "bob", f"+{missing}")
    assert server_says.startswith(b"+OK")


async def test_the_log_names_keys_that_an_acl_keeps_away(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await start(let_in_bob(own_redis, *GRANTS, keys="~other:*"))
    assert broker.status == "misconfigured"
    assert "ACL: ~chat:* is missing" in caplog.text


PROBED = [name for name in COMMANDS if name not in ("zcount", "zrevrangebyscore")]
"""Commands of the scripts that store."""


@pytest.mark.parametrize("missing", [*PROBED, "publish"])
async def test_an_acl_that_changes_is_found_without_any_publication(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    broker, _ = await start(let_in_bob(own_redis, *GRANTS))
    first = await broker.publish(draft("first"))
    own_redis.command("ACL", "SETUSER", "bob", f"-{missing}")
    await until(lambda: f"ACL: +{missing} is missing" in caplog.text)
    assert broker.status == "misconfigured"
    with pytest.raises(Unavailable, match="nothing was stored"):
        await broker.publish(draft("second"))
    own_redis.command("ACL", "SETUSER", "bob", f"+{missing}")
    await until(lambda: broker.status == "ok")
    assert (await broker.publish(draft("third"))).seq == first.seq + 1
    assert caplog.text.count(f"ACL: +{missing} is missing") == 1


async def test_keys_of_another_type_are_named_once_with_their_topic(
    start: Start, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await start()
    for topic in (TOPIC, "room:b"):
        own_redis.command("SET", f"chat:{{{topic}}}:meta", "of another program")
    for _ in range(3):
        for topic in (TOPIC, "room:b"):
            with pytest.raises(Unavailable):
                await broker.publish(draft(topic=topic))
            with pytest.raises(Unavailable):
                await broker.history(topic, limit=1)
    for topic in (TOPIC, "room:b"):
        assert caplog.text.count(f"topic {topic}: another program wrote to its keys") == 1
    assert broker.status == "ok"
    assert (await broker.publish(draft(topic="room:c"))).seq == 1


@pytest.mark.parametrize("key", ["state", "authors"])
async def test_a_script_stores_nothing_if_another_program_wrote_to_one_key(
    start: Start, own_redis: RedisServer, key: str
) -> None:
    broker, _ = await start()
    await say(broker)
    await broker.change(react(1))
    await broker.cursors.unread([TOPIC], "bob")
    name = f"chat:{{{TOPIC}}}:{key}"
    own_redis.command("DEL", name)
    own_redis.command("SET", name, "of another program")
    with pytest.raises(Unavailable):
        await say(broker, retention=Retention(1, 60.0))
    with pytest.raises(Unavailable):
        await broker.change(delete(1))
    own_redis.command("DEL", name)
    page = await broker.history(TOPIC, limit=9)
    assert [event.seq for event in page.events] == [1, 2]
    assert page.seq == 2
    assert await say(broker) == 3


async def test_a_server_that_lacks_a_command_is_named(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with running(RedisServer(tmp_path, "--rename-command", "ZPOPMIN", "")) as server:
        broker, _ = await run(RedisBroker(patient(server.url), BrokerSettings()))
        assert broker.status == "misconfigured"
    assert re.search(r"needs Redis 6\.2 or Valkey; this is \d", caplog.text)


@pytest.fixture(params=[0, 1, 2])
def node(request: pytest.FixtureRequest, redis_cluster: RedisCluster) -> RedisServer:
    number: int = request.param
    return redis_cluster.nodes[number]


async def test_one_node_of_a_cluster_is_named(
    node: RedisServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _ = await start(node.url)
    assert broker.status == "misconfigured"
    assert caplog.text.count("redis+cluster://") == 1
    await asyncio.sleep(0.5)
    assert broker.status == "misconfigured", "what is stored in one slot is not enough"
    results = await asyncio.gather(
        *(broker.publish(draft(topic=f"room:{number}")) for number in range(40)),
        return_exceptions=True,
    )
    assert not any("moving" in str(result) for result in results)


async def test_a_slot_that_moves_is_no_mistake_of_an_operator(
    own_redis: RedisServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    settings = patient(own_redis.url)
    shard, _ = await run(RedisBroker(settings, BrokerSettings(), sharded=True))
    for error in (MovedError("1 127.0.0.1:7000"), ClusterDownError("The cluster is down")):
        shard._on_disconnected(error)
        assert shard.status == "unavailable"
    assert "use redis+cluster://" not in caplog.text
