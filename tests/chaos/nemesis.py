"""The kinds of faults, one function each, and the nemesis that injects them on time."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress

from msgspec import Struct
from msgspec.structs import replace

from ..rig.proxy import ProxiedConnection, Proxy
from .hooked import go_and_come
from .schedule import Fault
from .system import System

Inject = Callable[[System, Fault, random.Random], Awaitable[bool]]

STORE_SHARE = 0.5
"""Share of a fault's time for which Redis is down: such a fault affects every client, and recovery
is slow.
"""

STALL_FACTOR = 2.0
"""Factor for stalled readers: filling the server's buffers takes time."""

DATABASE_FACTOR = 2.0
RECEIVER_FACTOR = 3.0
"""Factors for faults that no publisher waits for."""

VICTIM_SECONDS = 5.0
"""Seconds in which a fault looks for a target."""

RETRY_SECONDS = 0.05

QUIESCE_SHARE = 0.3
"""Share of the last fault's time after which publishers stop."""


class Kind(Struct, frozen=True):
    """A kind of fault.

    Args:
        inject: injects the fault, and returns after its end True if the fault found a target.
        needs: the requirement: "redis", "cluster", "workers", "receiver", a database with such a
            fault, or nothing.
        alone: kinds with a common name here wait for each other.
    """

    inject: Inject
    needs: str = ""
    alone: tuple[str, ...] = ()


async def _cut_clients(system: System, fault: Fault, rng: random.Random) -> bool:
    return _cut(system.front, fault, rng)


async def _refuse_clients(system: System, fault: Fault, rng: random.Random) -> bool:
    return await _refuse(system.front, fault, rng)


async def _hold_clients(system: System, fault: Fault, rng: random.Random) -> bool:
    links = await _hold(system.front, fault, rng, up=True, down=True)
    # As when an address changes: what was on its way is gone.
    for link in links[: len(links) // 2]:
        link.cut()
    return bool(links)


async def _mute_clients(system: System, fault: Fault, rng: random.Random) -> bool:
    return bool(await _hold(system.front, fault, rng, up=True))


async def _stall_readers(system: System, fault: Fault, rng: random.Random) -> bool:
    fault = replace(fault, seconds=STALL_FACTOR * fault.seconds)
    return bool(await _hold(system.front, fault, rng, down=True))


async def _cut_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    return _cut(rng.choice(system.shards).proxy, fault, rng)


async def _refuse_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    fault = replace(fault, seconds=STORE_SHARE * fault.seconds)
    return await _refuse(rng.choice(system.shards).proxy, fault, rng)


async def _hold_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    both = rng.random() < 0.5
    down = rng.random() < 0.5
    proxy = rng.choice(system.shards).proxy
    links = await _hold(proxy, fault, rng, up=both or not down, down=both or down)
    # What was on its way is gone, which its sender may not learn.
    for link in links if rng.random() < 0.5 else ():
        link.cut()
    return bool(links)


async def _kick_subscribers(system: System, fault: Fault, rng: random.Random) -> bool:
    server = rng.choice(system.shards).server
    return bool(await asyncio.to_thread(server.run, "CLIENT", "KILL", "TYPE", "pubsub"))


async def _freeze_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    server = rng.choice(system.shards).server
    server.pause()
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        server.resume()
    return True


async def _restart_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    server = rng.choice(system.shards).server
    await asyncio.to_thread(server.kill)
    try:
        await asyncio.sleep(fault.seconds * STORE_SHARE)
    finally:
        await asyncio.to_thread(server.start)
    return True


async def _wipe_redis(system: System, fault: Fault, rng: random.Random) -> bool:
    server = rng.choice(system.shards).server
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.wipe)
    try:
        await asyncio.sleep(fault.seconds * STORE_SHARE)
    finally:
        await asyncio.to_thread(server.start)
    return True


async def _move_slot(system: System, fault: Fault, rng: random.Random) -> bool:
    await system.slots.move(fault.seconds, rng)
    return True


async def _kill_worker(system: System, fault: Fault, rng: random.Random) -> bool:
    return _send_to_one(system, rng, signal.SIGKILL) is not None


async def _freeze_worker(system: System, fault: Fault, rng: random.Random) -> bool:
    pid = _send_to_one(system, rng, signal.SIGSTOP)
    if pid is None:
        return False
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return True


async def _roll_workers(system: System, fault: Fault, rng: random.Random) -> bool:
    system.roll()
    return True


async def _harm_database(system: System, fault: Fault, rng: random.Random) -> bool:
    database = system.database
    assert database is not None
    await asyncio.to_thread(database.harm, fault.kind)
    try:
        await asyncio.sleep(DATABASE_FACTOR * fault.seconds)
    finally:
        await asyncio.to_thread(database.heal, fault.kind)
    return True


async def _harm_receiver(system: System, fault: Fault, rng: random.Random) -> bool:
    assert system.receiver is not None
    seconds = RECEIVER_FACTOR * fault.seconds
    await go_and_come(system.receiver, seconds, errors=rng.random() < 0.5)
    return True


def _send_to_one(system: System, rng: random.Random, number: signal.Signals) -> int | None:
    """Send a signal to one of the workers; return its pid, or None without a worker."""
    workers = system.workers()
    if not workers:
        return None
    pid = rng.choice(workers)
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    return pid


def _cut(proxy: Proxy, fault: Fault, rng: random.Random) -> bool:
    """Reset a share of the connections; return True if there were any."""
    links = proxy.pick(fault.share, rng)
    for link in links:
        link.cut()
    return bool(links)


async def _refuse(proxy: Proxy, fault: Fault, rng: random.Random) -> bool:
    """Reset a share of the connections, and new ones; return True if there were any."""
    before = proxy.refused
    with proxy.refusing():
        struck = _cut(proxy, fault, rng)
        await asyncio.sleep(fault.seconds)
    return struck or proxy.refused > before


async def _hold(
    proxy: Proxy, fault: Fault, rng: random.Random, *, up: bool = False, down: bool = False
) -> Sequence[ProxiedConnection]:
    """Block a share of the connections for a time; return these connections."""
    links = proxy.pick(fault.share, rng)
    gates = [gate for link in links for gate, shut in ((link.up, up), (link.down, down)) if shut]
    for gate in gates:
        gate.clear()
    try:
        if gates:
            await asyncio.sleep(fault.seconds)
    finally:
        for gate in gates:
            gate.set()
    return links


KINDS = {
    "clients cut off": Kind(_cut_clients),
    "clients refused": Kind(_refuse_clients),
    "clients' network held": Kind(_hold_clients, alone=("front",)),
    "clients mute": Kind(_mute_clients, alone=("front",)),
    "readers stalled": Kind(_stall_readers, alone=("front",)),
    "Redis cut off": Kind(_cut_redis, "redis"),
    "Redis refused": Kind(_refuse_redis, "redis"),
    "Redis' network held": Kind(_hold_redis, "redis", ("back",)),
    "Redis kicks subscribers": Kind(_kick_subscribers, "redis", ("store",)),
    "Redis frozen": Kind(_freeze_redis, "redis", ("store",)),
    "Redis restarted": Kind(_restart_redis, "redis", ("store",)),
    "slot moved": Kind(_move_slot, "cluster", ("slot",)),
    "worker killed": Kind(_kill_worker, "workers"),
    "worker frozen": Kind(_freeze_worker, "workers"),
    "workers rolled": Kind(_roll_workers, "workers"),
    "database restarted": Kind(_harm_database, "database restarted", ("database",)),
    "database frozen": Kind(_harm_database, "database frozen", ("database",)),
    "disk full": Kind(_harm_database, "disk full", ("database",)),
    "endpoint away": Kind(_harm_receiver, "receiver", ("receiver",)),
}
"""All faults after which nothing may be lost."""

WIPE = "Redis wiped"
"""The fault that begins a new epoch instead."""

# Of a topic of which half is lost nobody could tell what is still stored.
ALL = {**KINDS, WIPE: Kind(_wipe_redis, "redis", ("slot", "store"))}


def kinds(broker: str, workers: int, *, wipe: bool, also: Collection[str] = ()) -> list[str]:
    """Return the kinds of faults that a server must survive; `also` are further satisfied needs."""
    has = {
        "": True,
        "redis": broker != "memory",
        "cluster": broker == "cluster",
        "workers": broker != "memory" and workers > 1,
    }
    return [
        name
        for name, kind in ALL.items()
        if (has.get(kind.needs) or kind.needs in also) and (wipe or name != WIPE)
    ]


class Nemesis:
    """Injects the faults of a schedule on time, possibly several at once.

    Args:
        system: the target.
        seed: chooses the victims.
        patience: seconds after which a fault without a target is given up.

    Attributes:
        injected: faults by kind.
        missed: faults without a target, by kind.
    """

    def __init__(self, system: System, seed: int, patience: float = VICTIM_SECONDS) -> None:
        self.injected: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._done_until = 0.0
        self._system = system
        self._seed = seed
        self._patience = patience
        self._alone = {name: asyncio.Lock() for kind in ALL.values() for name in kind.alone}

    async def run(self, faults: Sequence[Fault], quiesce: Callable[[], object]) -> None:
        """Inject the faults, and return after the end of all.

        Args:
            faults: the next part of the plan.
            quiesce: called during the last fault.
        """
        loop = asyncio.get_running_loop()
        began = loop.time() - self._done_until
        try:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    await asyncio.sleep(began + fault.at - loop.time())
                    self._system.check()
                    group.create_task(self._inject(fault, quiesce if fault is faults[-1] else None))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._done_until = faults[-1].at

    async def _inject(self, fault: Fault, quiesce: Callable[[], object] | None) -> None:
        kind = ALL[fault.kind]
        loop = asyncio.get_running_loop()
        rng = random.Random(f"{self._seed}:{fault.number}")
        async with AsyncExitStack() as stack:
            for name in kind.alone:
                await stack.enter_async_context(self._alone[name])
            timer = (
                None if quiesce is None else loop.call_later(QUIESCE_SHARE * fault.seconds, quiesce)
            )
            deadline = loop.time() + self._patience
            while not (struck := await kind.inject(self._system, fault, rng)):
                if loop.time() >= deadline:
                    break
                await asyncio.sleep(RETRY_SECONDS)
            if timer is not None and quiesce is not None:
                timer.cancel()
                quiesce()
        (self.injected if struck else self.missed)[fault.kind] += 1
