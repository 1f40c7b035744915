"""A pipeline against a connection that does exactly what the test says."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)

from chat_server.broker.redis import pipeline as module
from chat_server.broker.redis.pipeline import Pipeline, Script, pack
from chat_server.broker.redis.refusals import Moved
from chat_server.broker.redis.urls import Address
from chat_server.protocol.errors import Rejected, Unavailable

from .fakes import ScriptedConnection
from .helpers import until

PUBLISH = Script("publish")
TIMEOUT = 2.0


class Bench:
    """A pipeline, the connections that it opened, and the trouble that it reported."""

    def __init__(
        self,
        *,
        limit: int = 100,
        pipeline: int = 10,
        timeout_seconds: float = TIMEOUT,
        clustered: bool = False,
    ) -> None:
        self.connections: list[ScriptedConnection] = []
        self.trouble: list[Exception] = []
        self.prepare: Callable[[ScriptedConnection], None] = lambda connection: None
        self.pipeline = Pipeline(
            self._connect,
            [PUBLISH],
            timeout_seconds=timeout_seconds,
            limit=limit,
            batch_size=pipeline,
            on_trouble=self.trouble.append,
            clustered=clustered,
        )
        self.pipeline.start()

    @property
    def connection(self) -> ScriptedConnection:
        return self.connections[-1]

    def _connect(self) -> ScriptedConnection:
        connection = ScriptedConnection()
        connection.answer(b"digest")  # to SCRIPT LOAD
        self.prepare(connection)
        self.connections.append(connection)
        return connection

    def send(self, name: str) -> "asyncio.Future[Any]":
        return self.pipeline.send(pack(name), lambda reply: reply)

    def call(self, name: str) -> "asyncio.Future[Any]":
        return self.pipeline.call(PUBLISH, [name], [], lambda reply: reply)

    async def ready(self) -> None:
        """Open the connection and forget what that took."""
        future = self.send("FIRST")
        await until(lambda: bool(self.connections))
        self.connection.answer(b"OK")
        await future
        self.connection.written.clear()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.pipeline.stop()
    assert all(connection.closed for connection in made.connections)


async def failed(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, timeout=90)
    assert all(isinstance(future.exception(), Unavailable) for future in futures)


async def test_only_what_redis_has_answered_is_refused(bench: Bench) -> None:
    """Who keeps publications until Redis is back keeps all but those."""
    await bench.ready()
    refused, loading, lost = (bench.send(name) for name in "abc")
    bench.connection.answer(ResponseError("WRONGTYPE"), BusyLoadingError("loading"))
    await failed(refused, loading, lost)
    kinds = [type(future.exception()) for future in (refused, loading, lost)]
    assert kinds == [Rejected, Unavailable, Unavailable]


async def test_what_comes_in_one_turn_goes_together(bench: Bench) -> None:
    await bench.ready()
    futures = [bench.send(name) for name in "abc"]
    await until(lambda: bool(bench.connection.written))
    assert bench.connection.written == [pack("a") + pack("b") + pack("c")]
    bench.connection.answer(1, 2)
    later = [bench.send(name) for name in "de"]
    bench.connection.answer(3)
    assert [await future for future in futures] == [1, 2, 3]
    await until(lambda: len(bench.connection.written) == 2)
    assert bench.connection.written[1] == pack("d") + pack("e")
    bench.connection.answer(4, 5)
    assert [await future for future in later] == [4, 5]


async def test_one_pipeline_at_a_time_and_bounded(bench: Bench) -> None:
    await bench.ready()
    futures = [bench.send(str(number)) for number in range(25)]
    for size in (10, 10, 5):
        await until(lambda: bool(bench.connection.written))
        await asyncio.sleep(0)
        (written,) = bench.connection.written
        assert written.count(b"*1\r\n") == size
        bench.connection.written.clear()
        bench.connection.answer(*range(size))
    assert [await future for future in futures] == [*range(10), *range(10), *range(5)]


async def test_large_commands_go_in_smaller_pipelines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1_000)
    await bench.ready()
    futures = [bench.send("x" * 600) for _ in range(3)]
    futures += [bench.send("y" * 5_000), bench.send("z")]
    for size in (2, 2, 1):
        await until(lambda: bool(bench.connection.written))
        bench.connection.written.clear()
        bench.connection.answer(*range(size))
    assert [await future for future in futures] == [0, 1, 0, 1, 0]


async def test_callers_may_forget_their_futures(bench: Bench) -> None:
    await bench.ready()
    bench.send("a")
    bench.connection.fail(ConnectionError("gone"))
    await until(lambda: bool(bench.trouble))
    # asyncio would report an exception that nobody has looked at; the test's loop fails on that.
    gc.collect()


async def test_scripts_are_loaded_before_anything_else(bench: Bench) -> None:
    future = bench.call("topic")
    await until(lambda: bool(bench.connections) and len(bench.connection.written) == 2)
    assert bench.connection.written[0] == PUBLISH.load
    assert PUBLISH.digest.encode() in bench.connection.written[1]
    bench.connection.answer([1])
    assert await future == [1]


async def test_unknown_scripts_are_loaded_and_run_again_in_order(bench: Bench) -> None:
    await bench.ready()
    done, signal = bench.call("done"), bench.send("signal")
    again = [bench.call(name) for name in "abc"]
    gone = NoScriptError("No matching script")
    bench.connection.answer([0], 7, gone, gone, gone)
    await until(lambda: len(bench.connection.written) == 2)
    assert (await done, await signal) == ([0], 7)
    assert bench.connection.written[1] == PUBLISH.load
    bench.connection.answer(b"digest")
    await until(lambda: len(bench.connection.written) == 3)
    assert bench.connection.written[2] == b"".join(
        pack("EVALSHA", PUBLISH.digest, 1, name) for name in "abc"
    )
    bench.connection.answer([1], [2], [3])
    assert [await future for future in again] == [[1], [2], [3]]
    assert not bench.trouble


async def test_what_was_overtaken_is_not_run_late(bench: Bench) -> None:
    await bench.ready()
    first, signal, second, third = (
        *(bench.call("first"), bench.send("signal")),
        *(bench.call("second"), bench.call("third")),
    )
    gone = NoScriptError("No matching script")
    # Somebody else loads the script between the first and the second.
    bench.connection.answer(gone, 7, [2], gone)
    await failed(first)
    assert isinstance(first.exception(), Rejected), "another try would overtake, too"
    assert (await signal, await second) == (7, [2])
    bench.connection.answer(b"digest")
    bench.connection.answer([3])
    assert await third == [3]
    assert sum(written.count(b"first") for written in bench.connection.written) == 1


async def test_a_server_that_keeps_no_script_is_given_up(bench: Bench) -> None:
    await bench.ready()
    future = bench.call("topic")
    for _ in range(3):
        bench.connection.answer(NoScriptError("gone"))
        bench.connection.answer(b"digest")
    await failed(future)
    later = bench.send("PING")
    bench.connection.answer(b"PONG")
    assert await later == b"PONG"


async def test_nothing_is_sent_twice_when_the_connection_fails(bench: Bench) -> None:
    await bench.ready()
    batch = [bench.call(name) for name in "abc"]
    await until(lambda: bool(bench.connection.written))
    waiting = bench.call("d")
    bench.connection.answer([1])
    bench.connection.fail(ConnectionError("gone"))
    assert await batch[0] == [1], "what was answered before the failure counts"
    await failed(*batch[1:], waiting)
    assert [type(error) for error in bench.trouble] == [ConnectionError]
    assert bench.connection.closed
    first = bench.connection
    later = bench.call("e")
    await until(lambda: len(bench.connections) == 2 and len(bench.connection.written) == 2)
    bench.connection.answer([5])
    assert await later == [5]
    for name in (b"$1\r\nb", b"$1\r\nc", b"$1\r\nd"):
        assert sum(name in written for written in bench.connection.written) == 0
        assert sum(name in written for written in first.written) <= 1


async def test_silence_is_a_failure(bench: Bench) -> None:
    await bench.ready()
    await failed(bench.send("a"))
    assert isinstance(bench.trouble[0], TimeoutError)
    assert bench.connection.closed


async def test_answers_that_keep_coming_are_waited_for() -> None:
    timeout = 1.5
    bench = Bench(timeout_seconds=timeout)
    await bench.ready()
    futures = [bench.send(str(number)) for number in range(8)]
    for number in range(8):
        await asyncio.sleep(timeout / 5)
        bench.connection.answer(number)
    assert [await future for future in futures] == list(range(8))
    await bench.pipeline.stop()


@pytest.mark.parametrize("step", ["open", "drain", "read"])
async def test_a_failure_at_any_step(bench: Bench, step: str) -> None:
    bench.prepare = lambda connection: connection.failures.update({step: OSError("no route")})
    await failed(bench.send("a"), bench.send("b"))
    assert [str(error) for error in bench.trouble] == ["no route"]
    bench.prepare = lambda connection: None
    later = bench.send("c")
    await until(lambda: len(bench.connections) == 2)
    bench.connection.answer(b"OK")
    assert await later == b"OK"


@pytest.mark.parametrize("step", ["open", "drain", "read"])
async def test_stopping_at_any_step(step: str) -> None:
    bench = Bench()
    bench.prepare = lambda connection: connection.hang(step)
    futures = [bench.send("a"), bench.send("b")]
    await until(lambda: bool(bench.connections) and bench.connection.hanging)
    futures.append(bench.send("c"))
    await bench.pipeline.stop()
    await failed(*futures)
    assert bench.connection.closed
    assert not bench.trouble
    await failed(bench.send("late"))


async def test_stopping_before_the_first_turn() -> None:
    bench = Bench()
    future = bench.send("a")
    await bench.pipeline.stop()
    await failed(future)
    assert not bench.connections


async def test_a_lane_that_others_end_keeps_nobody_waiting(bench: Bench) -> None:
    await bench.ready()
    futures = [bench.send("a")]
    await until(lambda: bool(bench.connection.written))
    futures.append(bench.send("b"))
    task = bench.pipeline._task
    assert task is not None
    task.cancel()
    await failed(*futures)


async def test_an_answer_that_makes_no_sense(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ready()
    odd = bench.pipeline.send(pack("a"), lambda reply: reply.no_such_thing)
    fine = bench.send("b")
    bench.connection.answer(1, 2)
    await failed(odd)
    assert await fine == 2
    assert "no worker of ours wrote" in caplog.text
    assert "Traceback" not in caplog.text


async def test_more_answers_than_questions_end_the_connection(bench: Bench) -> None:
    await bench.ready()
    future = bench.send("a")
    bench.connection.answer(1, 2)
    assert await future == 1
    await until(lambda: bench.connection.closed)
    assert len(bench.trouble) == 1


async def test_a_fault_of_ours_does_not_end_the_lane(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.prepare = lambda connection: connection.failures.update({"drain": RuntimeError("a bug")})
    await failed(bench.send("a"))
    assert "a bug" in caplog.text
    bench.prepare = lambda connection: None
    later = bench.send("b")
    await until(lambda: len(bench.connections) == 2)
    bench.connection.answer(b"OK")
    assert await later == b"OK"


async def test_a_refused_command_concerns_only_itself(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.ready()
    futures = [bench.send(name) for name in "abc"]
    bench.connection.answer(1, ResponseError("ERR wrong"), 3)
    assert (await futures[0], await futures[2]) == (1, 3)
    await failed(futures[1])
    assert "ERR wrong" in caplog.text
    assert not bench.trouble


async def test_a_server_that_is_not_the_right_one_is_left(bench: Bench) -> None:
    await bench.ready()
    futures = [bench.send(name) for name in "ab"]
    bench.connection.answer(BusyLoadingError("loading"), 2)
    await failed(futures[0])
    assert await futures[1] == 2
    await until(lambda: bench.connection.closed)
    assert [type(error) for error in bench.trouble] == [BusyLoadingError]


async def test_the_limit() -> None:
    bench = Bench(limit=3)
    await bench.ready()
    futures = [bench.send(name) for name in "abc"]
    over = bench.send("d")
    assert over.done()
    with pytest.raises(Unavailable) as caught:
        await over
    assert caught.value.retry_in_ms
    bench.connection.answer(1, 2, 3)
    assert [await future for future in futures] == [1, 2, 3]
    assert len(bench.pipeline) == 0
    await bench.pipeline.stop()


async def test_a_dead_connection_is_not_written_to(bench: Bench) -> None:
    await bench.ready()
    old = bench.connection
    old.dead = True
    future = bench.send("a")
    await until(lambda: len(bench.connections) == 2)
    bench.connection.answer(b"OK")
    assert await future == b"OK"
    assert (old.closed, old.written, bench.trouble) == (True, [], [])


async def test_renewal_spares_what_is_under_way(bench: Bench) -> None:
    await bench.ready()
    future = bench.send("a")
    await until(lambda: bool(bench.connection.written))
    bench.pipeline.renew()
    bench.connection.answer(1)
    assert await future == 1
    later = bench.send("b")
    await until(lambda: len(bench.connections) == 2)
    bench.connection.answer(2)
    assert await later == 2
    assert bench.connections[0].closed


async def test_trouble_of_an_outdated_connection_is_no_news(bench: Bench) -> None:
    await bench.ready()
    future = bench.send("a")
    await until(lambda: bool(bench.connection.written))
    bench.pipeline.renew()
    bench.connection.fail(ConnectionError("gone"))
    await failed(future)
    assert not bench.trouble


async def test_what_another_server_serves_is_told_from_what_is_refused() -> None:
    bench = Bench(clustered=True)
    await bench.ready()
    futures = [bench.send(name) for name in "abcd"]
    bench.connection.answer(
        MovedError("1 there:7000"), AskError("1 there:7001"), TryAgainError("x")
    )
    bench.connection.answer(b"OK")
    errors = await asyncio.gather(*futures[:3], return_exceptions=True)
    assert [error.server for error in errors if isinstance(error, Moved)] == [
        *(Address("there", 7000), Address("there", 7001), None)
    ]
    assert await futures[3] == b"OK"
    assert bench.trouble == [], "the connection is as good as before"
    await bench.pipeline.stop()
