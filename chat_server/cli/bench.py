"""`chat-server bench`: a small load test of a server."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import click
import msgspec

from ..client import Client, CommandFailed, Message, Subscription
from .options import client_options, json_option, parse_topic
from .patience import parse_seconds, timeout_option
from .terminal import Failure, Misuse, run, write_line

MOST_DELIVERIES = 1_000_000
"""Maximum number of deliveries, all of which stay in memory until the end."""

CONNECTING = 20
"""Maximum number of connections being opened at a time."""

LATE_SECONDS = 10.0
"""Seconds to wait for deliveries after the last publication."""


class Times(msgspec.Struct):
    """Median, 99th percentile and maximum of a duration, in milliseconds."""

    median: float
    p99: float
    longest: float


class Report(msgspec.Struct):
    """The measurements of a run."""

    topic: str
    connections: int
    connect_seconds: float
    published: int
    per_second: float
    ok_ms: Times
    deliveries: int
    expected: int
    delivery_ms: Times


@click.command()
@click.option(
    "--connections",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=50,
    show_default=True,
    help="How many subscribe; the first one publishes, too.",
)
@click.option(
    "--rate",
    metavar="N",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    help="Messages a second.",
)
@click.option(
    "--duration",
    metavar="DURATION",
    callback=parse_seconds,
    default="10s",
    show_default=True,
    help="How long messages are published.",
)
@click.option("--topic", callback=parse_topic, help="By default room:bench- and a random name.")
@json_option
@timeout_option
@client_options
def bench(
    connections: int,
    rate: int,
    duration: float,
    topic: str | None,
    as_json: bool,
    connect: Callable[..., Client],
) -> None:
    """Publish to one topic with many subscribers, and print how long it took.

    Small on purpose: one user, one process, whose own work is part of the times. The messages stay
    in the topic's history. A delivery that does not come gives the exit code 1.
    """
    count = max(1, round(rate * duration))
    if count * connections > MOST_DELIVERIES:
        raise Misuse(f"--connections, --rate, --duration: more than {MOST_DELIVERIES} deliveries")
    name = topic or f"room:bench-{secrets.token_hex(4)}"
    run(_bench(connect, name, connections, rate, count, as_json))


async def _bench(
    connect: Callable[..., Client], topic: str, connections: int, rate: int, count: int, json: bool
) -> None:
    try:
        report = await _measure(connect, topic, connections, rate, count)
    except CommandFailed as error:
        raise Failure(f"{error} (--rate, --connections: see the server's limits)") from None
    if json:
        await write_line(msgspec.json.encode(report).decode())
    else:
        for line in _lines(report):
            await write_line(line)
    if report.deliveries < report.expected:
        raise Failure(f"{report.expected - report.deliveries} deliveries did not come")


async def _measure(
    connect: Callable[..., Client], topic: str, connections: int, rate: int, count: int
) -> Report:
    run_id = secrets.token_hex(4)
    sent: list[float] = []
    delays: list[float] = []
    async with AsyncExitStack() as stack:
        began = time.perf_counter()
        clients: list[Client] = []
        while len(clients) < connections:
            opening = [
                stack.enter_async_context(connect())
                for _ in range(min(CONNECTING, connections - len(clients)))
            ]
            clients += await asyncio.gather(*opening)
        rooms = [await stack.enter_async_context(each.subscribe(topic)) for each in clients]
        connect_seconds = time.perf_counter() - began
        receiving = [
            asyncio.create_task(_receive(room, run_id, count, sent, delays)) for room in rooms
        ]
        try:
            began = time.perf_counter()
            oks = await _publish(clients[0], topic, run_id, rate, count, sent)
            took = time.perf_counter() - began
            await asyncio.gather(*receiving)
        finally:
            for task in receiving:
                task.cancel()
            await asyncio.gather(*receiving, return_exceptions=True)
    return Report(
        topic=topic,
        connections=connections,
        connect_seconds=round(connect_seconds, 3),
        published=len(oks),
        per_second=round(len(oks) / took, 1),
        ok_ms=_times(oks),
        deliveries=len(delays),
        expected=count * connections,
        delivery_ms=_times(delays),
    )


async def _publish(
    client: Client, topic: str, run_id: str, rate: int, count: int, sent: list[float]
) -> list[float]:
    """Publish at an even rate, or as fast as answers come; return how long each answer took."""
    oks: list[float] = []
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent.append(time.perf_counter())
        await client.publish(topic, {"bench": run_id, "n": number})
        oks.append(time.perf_counter() - sent[-1])
    return oks


async def _receive(
    room: Subscription, run_id: str, count: int, sent: Sequence[float], delays: list[float]
) -> None:
    """Record the delay of each message, until all have come or no more messages come."""
    left = count
    events = aiter(room)
    while left:
        try:
            async with asyncio.timeout(LATE_SECONDS):
                event = await anext(events)
        except TimeoutError:
            return
        data = event.data if isinstance(event, Message) else None
        if isinstance(data, dict) and data.get("bench") == run_id:
            delays.append(time.perf_counter() - sent[data["n"]])
            left -= 1


def _times(seconds: list[float]) -> Times:
    ordered = sorted(seconds) or [0.0]

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return Times(at(0.5), at(0.99), at(1.0))


def _lines(report: Report) -> list[str]:
    def told(times: Times) -> str:
        return f"{times.median} ms (median), {times.p99} ms (99 %), {times.longest} ms (longest)"

    return [
        f"{report.connections} connections to {report.topic} in {report.connect_seconds} s",
        f"{report.published} messages, {report.per_second} a second; ok after {told(report.ok_ms)}",
        f"{report.deliveries} of {report.expected} deliveries after {told(report.delivery_ms)}",
    ]
