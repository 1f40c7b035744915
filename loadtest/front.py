"""What clients ask of the front: ours, an earlier build of ours, and Centrifugo, in turns."""

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
    """How much is measured; `only` names the scenarios that take part, all if empty.

    Args:
        rounds: how often all take turns.
        attempts: how often one run is tried while others disturb it.
        connections: that come and leave, with and without missed events.
        missed: events that each of those gets.
        rooms: in which messages are delivered.
        subscribers: of each room.
        rate: publications a second in all rooms together.
        posters: HTTP connections, each with one request under way.
        publishers: WebSocket connections, each with one publication under way.
        seconds: for how long each run sends.
        clients: of the worker that is killed.
        client_rooms: over how many rooms those are spread.
        client_missed: events that each of those gets.
        payload_bytes: how long the JSON text of each message's data is.
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
    """What a run has found; `peer` is the version of Centrifugo, None where there is none."""

    machine: Machine
    plan: FrontPlan
    peer: str | None
    samples: Samples


def front(plan: FrontPlan, before: Path | None, tell: Tell) -> Front:
    """Run everything, telling how far it is.

    Args:
        plan: how much.
        before: a checkout of an earlier build, which takes part.
        tell: is told how far it is.

    Raises:
        InputError: there is no server in that folder.
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
    """Return what reports are found by."""
    return f"{scenario}, {store}, {server}"


def scenarios(plan: FrontPlan) -> dict[str, Callable[[Target], Stage]]:
    """Return by name what is done to one running server."""
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
    """Run a server over a Redis of its own, or over none."""
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
