"""The costs of clients' requests at our front door, at an earlier build, and at Centrifugo."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tests.rig.ports import free_port

from .accounting import Machine, machine
from .peers.centrifugo import TITLE as CENTRIFUGO
from .peers.centrifugo import centrifugo, program, version
from .sampling import Entrant, Rounds, Samples, Turn, alternate
from .scenarios.arrivals import arrivals
from .scenarios.asks import asks
from .scenarios.publish import publish
from .scenarios.streams import streams
from .server import Target, redis_server, started
from .stage import Stage, Tell
from .storm import Running, Storm
from .wire import InputError

OURS, BEFORE = "chat_server", "the build before"
MEMORY, REDIS = "memory", "Redis"
STORES = (MEMORY, REDIS)
STORM = "storm"
NAMES = ("connect", "resume", "rooms", "http", "batch", "ack", STORM)


class FrontPlan(Struct, frozen=True, kw_only=True):
    """The size of the measurement; `only` names the scenarios to include, all if empty.

    Args:
        rounds: number of alternating rounds.
        attempts: attempts of one run while other work disturbs the machine.
        connections: connections that come and leave, with and without missed events.
        missed: missed events of each such connection.
        rooms: rooms with deliveries.
        subscribers: subscribers of each room.
        rate: publications per second in all rooms together.
        posters: HTTP connections, each with one request under way.
        publishers: WebSocket connections, each with one publication under way.
        seconds: seconds of sending in each run.
        clients: clients of the killed worker.
        client_rooms: rooms of these clients.
        client_missed: missed events of each such client.
        payload_bytes: bytes of the JSON text of each message's data.
    """

    rounds: int = 3
    attempts: int = 1
    connections: int = 1000
    missed: int = 100
    rooms: int = 40
    subscribers: int = 10
    rate: float = 800.0
    posters: int = 20
    publishers: int = 50
    seconds: float = 3.0
    clients: int = 2000
    client_rooms: int = 20
    client_missed: int = 20
    payload_bytes: int = 100
    only: Collection[str] = ()


class Front(Struct, frozen=True):
    """The result of a run; `peer` is the version of Centrifugo, or None without Centrifugo."""

    machine: Machine
    plan: FrontPlan
    peer: str | None
    samples: Samples


def front(plan: FrontPlan, before: Path | None, tell: Tell) -> Front:
    """Run all measurements, and report the progress.

    Args:
        plan: the size of the measurement.
        before: a checkout of an earlier build to include.
        tell: called with the progress.

    Raises:
        InputError: the folder contains no server.
    """
    servers: dict[str, Running] = {OURS: partial(_ours, None)}
    if before is not None:
        if not (before / "chat_server" / "__main__.py").exists():
            raise InputError(f"{before} has no chat_server/__main__.py")
        servers[BEFORE] = partial(_ours, before.resolve())
    if program() is not None:
        servers[CENTRIFUGO] = centrifugo
    samples = alternate(list(_turns(plan, servers)), Rounds(plan.rounds, plan.attempts), tell)
    return Front(machine(), plan, version(), samples)


def key_of(scenario: str, store: str, server: str) -> str:
    """Return the key of the reports."""
    return f"{scenario}, {store}, {server}"


def scenarios(plan: FrontPlan) -> dict[str, Callable[[Target], Stage]]:
    """Return the scenarios for one running server, by name."""
    seconds, payload_bytes = plan.seconds, plan.payload_bytes
    posting = partial(asks, connections=plan.posters, seconds=seconds, payload_bytes=payload_bytes)
    return {
        "connect": partial(arrivals, connections=plan.connections),
        "resume": partial(arrivals, connections=plan.connections, missed=plan.missed),
        "rooms": partial(
            streams,
            rooms=plan.rooms,
            readers=plan.subscribers,
            rate=plan.rate / plan.rooms,
            seconds=seconds,
            payload_bytes=payload_bytes,
        ),
        "http": partial(_over, "http", posting),
        "batch": partial(_over, "batch", posting),
        "ack": partial(
            publish,
            publishers=plan.publishers,
            window=1,
            seconds=seconds,
            payload_bytes=payload_bytes,
        ),
    }


def _turns(plan: FrontPlan, servers: dict[str, Running]) -> Iterator[Turn]:
    for name, scenario in scenarios(plan).items():
        if plan.only and name not in plan.only:
            continue
        for store in STORES:
            for title, server in servers.items():
                running = partial(_with_store, server, store)
                yield Entrant(key_of(name, store, title), running, scenario)
    if plan.only and STORM not in plan.only:
        return
    for title, server in servers.items():
        yield Storm(
            key=key_of(STORM, REDIS, title),
            running=server,
            clients=plan.clients,
            rooms=plan.client_rooms,
            missed=plan.client_missed,
        )


@contextmanager
def _with_store(running: Running, store: str) -> Iterator[Target]:
    """Run a server with its own Redis, or without Redis."""
    if store == MEMORY:
        with running(free_port(), None) as target:
            yield target
        return
    with redis_server() as (url, pid), running(free_port(), url) as target:
        yield replace(target, redis_pid=pid)


def _ours(
    folder: Path | None, port: int, redis_url: str | None, *, to: Sequence[int] = ()
) -> AbstractContextManager[Target]:
    flags = ["--redis-url", redis_url] if redis_url else []
    return started(*flags, port=port, to=to, folder=folder)


def _over(way: str, scenario: Callable[[Target], Stage], target: Target) -> Stage:
    return scenario(replace(target, dialect=f"{target.dialect} {way}"))
