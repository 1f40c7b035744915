"""The faults, one function each, and the conductor that brings them about on time."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress

from msgspec import Struct
from msgspec.structs import replace

from .plan import Fault
from .proxy import Link, Proxy
from .site import Site

Inject = Callable[[Site, Fault, random.Random], Awaitable[None]]

STORE_SHARE = 0.5
"""Of a fault's time that Redis is away: that costs everybody, and also comes back slowly."""

STALL_FACTOR = 2.0
"""By which readers stall longer: it takes time to fill what the server keeps for them."""

HUSH_SHARE = 0.3
"""Of the time of a fault that has passed when publishers fall silent."""


class Kind(Struct, frozen=True):
    """A kind of fault.

    Args:
        inject: brings it about, and returns when it is over.
        needs: what the server must have: "redis", "workers" or nothing.
        alone: kinds that bear the same name here wait for each other.
    """

    inject: Inject
    needs: str = ""
    alone: str = ""


async def _cut_clients(site: Site, fault: Fault, rng: random.Random) -> None:
    for link in site.front.pick(fault.share, rng):
        link.cut()


async def _refuse_clients(site: Site, fault: Fault, rng: random.Random) -> None:
    with site.front.refusing():
        await _cut_clients(site, fault, rng)
        await asyncio.sleep(fault.seconds)


async def _hold_clients(site: Site, fault: Fault, rng: random.Random) -> None:
    async with _holding(site.front, fault, rng, up=True, down=True) as links:
        pass
    # As when an address changes: what was on its way is gone.
    for link in links[: len(links) // 2]:
        link.cut()


async def _mute_clients(site: Site, fault: Fault, rng: random.Random) -> None:
    async with _holding(site.front, fault, rng, up=True):
        pass


async def _stall_readers(site: Site, fault: Fault, rng: random.Random) -> None:
    fault = replace(fault, seconds=STALL_FACTOR * fault.seconds)
    async with _holding(site.front, fault, rng, down=True):
        pass


async def _cut_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    for link in site.back.pick(fault.share, rng):
        link.cut()


async def _refuse_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    with site.back.refusing():
        await _cut_redis(site, fault, rng)
        await asyncio.sleep(fault.seconds * STORE_SHARE)


async def _hold_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    both = rng.random() < 0.5
    down = rng.random() < 0.5
    async with _holding(site.back, fault, rng, up=both or not down, down=both or down) as links:
        pass
    # What was on its way is gone, which its sender may not learn.
    for link in links if rng.random() < 0.5 else ():
        link.cut()


async def _kick_subscribers(site: Site, fault: Fault, rng: random.Random) -> None:
    await asyncio.to_thread(site.store.command, "CLIENT KILL TYPE pubsub")


async def _freeze_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    site.store.freeze()
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        site.store.thaw()


async def _restart_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    await asyncio.to_thread(site.store.kill)
    try:
        await asyncio.sleep(fault.seconds * STORE_SHARE)
    finally:
        await asyncio.to_thread(site.store.start)


async def _wipe_redis(site: Site, fault: Fault, rng: random.Random) -> None:
    await asyncio.to_thread(site.store.kill)
    await asyncio.to_thread(site.store.wipe)
    try:
        await asyncio.sleep(fault.seconds * STORE_SHARE)
    finally:
        await asyncio.to_thread(site.store.start)


async def _kill_worker(site: Site, fault: Fault, rng: random.Random) -> None:
    _send_to_one(site, rng, signal.SIGKILL)


async def _freeze_worker(site: Site, fault: Fault, rng: random.Random) -> None:
    pid = _send_to_one(site, rng, signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def _roll_workers(site: Site, fault: Fault, rng: random.Random) -> None:
    if site.rolls():
        site.roll()
    else:
        _send_to_one(site, rng, signal.SIGTERM)


def _send_to_one(site: Site, rng: random.Random, number: signal.Signals) -> int | None:
    """Send a signal to one of the workers; return which, None if there is none to be had."""
    workers = site.workers()
    if not workers:
        return None
    pid = rng.choice(workers)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return pid


@asynccontextmanager
async def _holding(
    proxy: Proxy, fault: Fault, rng: random.Random, *, up: bool = False, down: bool = False
) -> AsyncIterator[Sequence[Link]]:
    """Pass nothing on for a share of the connections, for as long as the fault lasts."""
    links = proxy.pick(fault.share, rng)
    gates = [gate for link in links for gate, shut in ((link.up, up), (link.down, down)) if shut]
    for gate in gates:
        gate.clear()
    try:
        await asyncio.sleep(fault.seconds)
        yield links
    finally:
        for gate in gates:
            gate.set()


KINDS = {
    "clients cut off": Kind(_cut_clients),
    "clients refused": Kind(_refuse_clients),
    "clients' network held": Kind(_hold_clients, alone="front"),
    "clients mute": Kind(_mute_clients, alone="front"),
    "readers stalled": Kind(_stall_readers, alone="front"),
    "Redis cut off": Kind(_cut_redis, "redis"),
    "Redis refused": Kind(_refuse_redis, "redis"),
    "Redis' network held": Kind(_hold_redis, "redis", "back"),
    "Redis kicks subscribers": Kind(_kick_subscribers, "redis", "store"),
    "Redis frozen": Kind(_freeze_redis, "redis", "store"),
    "Redis restarted": Kind(_restart_redis, "redis", "store"),
    "worker killed": Kind(_kill_worker, "workers"),
    "worker frozen": Kind(_freeze_worker, "workers"),
    "workers rolled": Kind(_roll_workers, "workers"),
}
"""Every fault after which nothing may be lost."""

WIPE = "Redis wiped"
"""The one after which a new epoch is told instead."""

ALL = {**KINDS, WIPE: Kind(_wipe_redis, "redis", "store")}


def kinds(broker: str, workers: int, *, wipe: bool) -> list[str]:
    """Return the kinds of faults that a server can be held to."""
    has = {"": True, "redis": broker != "memory", "workers": broker != "memory" and workers > 1}
    return [name for name, kind in ALL.items() if has[kind.needs] and (wipe or name != WIPE)]


class Conductor:
    """Brings about the faults of a plan, several at a time as they come.

    Args:
        site: what is struck.
        seed: chooses the victims.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self.injected: Counter[str] = Counter()
        self._done_until = 0.0
        self._site = site
        self._seed = seed
        self._alone = {kind.alone: asyncio.Lock() for kind in ALL.values() if kind.alone}

    async def run(self, faults: Sequence[Fault], hush: Callable[[], object]) -> None:
        """Bring them about, and return when all are over.

        Args:
            faults: the next part of the plan.
            hush: called while the last of them is under way.
        """
        loop = asyncio.get_running_loop()
        began = loop.time() - self._done_until
        try:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    await asyncio.sleep(began + fault.at - loop.time())
                    self._site.check()
                    group.create_task(self._inject(fault, hush if fault is faults[-1] else None))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._done_until = faults[-1].at

    async def _inject(self, fault: Fault, hush: Callable[[], object] | None) -> None:
        kind = ALL[fault.kind]
        rng = random.Random(f"{self._seed}:{fault.number}")
        async with self._alone.get(kind.alone) or nullcontext():
            if hush is None:
                await kind.inject(self._site, fault, rng)
            else:
                timer = asyncio.get_running_loop().call_later(HUSH_SHARE * fault.seconds, hush)
                await kind.inject(self._site, fault, rng)
                timer.cancel()
                hush()
        self.injected[fault.kind] += 1
