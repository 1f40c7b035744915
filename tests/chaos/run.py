"""One run: the workload, the faults of the nemesis, the settling, and the check."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from chat_server.events import Position
from loadtest.accounting import Machine, machine
from loadtest.wire import LoadError

from . import archived, hooked
from .checker import Verdict, check
from .config import Config
from .final_reads import EXPECTED_ERRORS, FinalReads
from .history import Ack, History, Rules
from .members import Members
from .nemesis import Nemesis, kinds
from .operators import Operators
from .publishers import Publisher, Targets
from .schedule import Fault, plan
from .system import HISTORY, MAX_REPLAY, System, open_system
from .unheard import NAME, unheard
from .violation import Violation
from .workload import Counts, LibrarySubscriber, Subscriber

START_SECONDS = 120.0
POLL_SECONDS = 0.05

FAULTS_PER_PHASE = 15
"""Faults after which all publishers pause, while the last fault is under way. Subscribers must then
get missing events without a later event that reveals the gap. After that the workers are made to
miss events deliberately.
"""

MODERATORS = 3
"""Of this many publishers all but one change messages of other publishers."""

FAULTY_CODES = {"1002", "1003", "1007", "1009", "1011", "4400", "4401", "4403", "4429"}
"""Close codes that reveal a fault of the server or of this checker."""

Tell = Callable[[str], None]


def batched(faults: Sequence[Fault], size: int) -> Iterator[Sequence[Fault]]:
    """Yield slices of `size` faults."""
    for first in range(0, len(faults), size):
        yield faults[first : first + size]


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of a run.

    Args:
        faults: by kind.
        missed: faults without a target, by kind.
        attempts: publications sent, repetitions included.
        changes: changes of messages with an answer `ok`, by command.
        refused: changes that came too late, by error.
        unknown: changes without a key whose answer never came.
        duplicates: repetitions that the server recognised as stored.
        unheard: events stored while no worker could receive them; none in memory.
        longest_silence: seconds without any delivery to any subscriber.
        longest_ack: seconds until a publication was acknowledged.
        presence_changes: number of arrivals and departures pushed to watchers.
        orders: confirmed orders of operators, by kind.
        heard: number of checks of a connection for a confirmed announcement.
        longest_presence: seconds until all watchers knew the presence, after the end of changes.
    """

    config: Config
    machine: Machine
    took_seconds: float
    faults: dict[str, int]
    missed: dict[str, int]
    published: int
    attempts: int
    acknowledged: int
    duplicates: int
    unheard: int
    deliveries: int
    closes: dict[str, int]
    errors: dict[str, int]
    longest_silence: float
    longest_ack: float
    verdict: Verdict
    changes: dict[str, int] = {}
    refused: dict[str, int] = {}
    unknown: int = 0
    presence_changes: int = 0
    longest_presence: float = 0.0
    orders: dict[str, int] = {}
    heard: int = 0

    @property
    def struck(self) -> int:
        """The number of faults with a target."""
        return sum(self.faults.values())

    @property
    def passed(self) -> bool:
        """True if every promise was kept and enough faults found a target."""
        return not self.verdict.violations and self.struck >= self.config.least_faults


async def perform(config: Config, tell: Tell) -> Outcome:
    """Perform a run.

    Raises:
        LoadError: the server does not start, or has ended.
    """
    began = time.monotonic()
    async with open_system(config) as system:
        also = [*(system.database.faults if system.database is not None else ())]
        also += ["receiver"] if system.receiver is not None else []
        names = kinds(config.broker, config.workers, wipe=config.wipe, also=also)
        faults = plan(
            config.seed,
            names,
            faults=config.faults,
            seconds=config.seconds,
            longest=config.longest,
        )
        run = _Run(config, system)
        try:
            history, nemesis, violations = await run.run(faults, tell)
        except LoadError as error:
            raise LoadError(f"{error}\nThe server wrote:\n{system.log_tail()}") from None
        violations += server_faults(system, run.counts)
        tell("verifying")
        verdict = check(history)
    counts = run.counts
    published = [each for each in counts.operations if each.kind == "publish"]
    changes = [each for each in counts.operations if each.kind != "publish"]
    return Outcome(
        config=config,
        machine=machine(),
        took_seconds=time.monotonic() - began,
        faults=dict(nemesis.injected),
        missed=dict(nemesis.missed),
        published=len(published),
        attempts=sum(each.attempts for each in published),
        acknowledged=sum(each.seq > 0 for each in published),
        deliveries=counts.deliveries,
        unheard=len(run.unheard),
        duplicates=sum(ack.duplicate for ack in counts.acks if not ack.target),
        changes=dict(Counter(each.kind for each in changes if each.seq)),
        refused=dict(counts.refused),
        unknown=sum(not (each.seq or each.refused) for each in changes),
        closes=dict(counts.closes),
        errors=dict(counts.errors),
        longest_silence=counts.longest_silence,
        longest_ack=counts.longest_ack,
        presence_changes=counts.presence_changes,
        orders={} if run.operators is None else dict(run.operators.orders.given),
        heard=0 if run.operators is None else run.operators.heard,
        longest_presence=counts.longest_presence,
        verdict=Verdict(
            violations=[*violations, *verdict.violations],
            resumes=verdict.resumes,
            recovered=verdict.recovered,
            gaps=verdict.gaps,
            new_epochs=verdict.new_epochs,
        ),
    )


class _Run:
    """The workload of a run, and the end of the run.

    Attributes:
        unheard: events stored past the workers.
        operators: exclude users and announce to all clients; None if the store may forget this.
    """

    def __init__(self, config: Config, system: System) -> None:
        self.counts = Counts()
        self.unheard: list[Ack] = []
        self._config = config
        self._system = system
        self._topics = config.topics
        self._url = f"ws://127.0.0.1:{system.front.port}/ws"
        self._targets = Targets()
        self._publishers = [self._publisher(number) for number in range(config.publishers)]
        self._talk = asyncio.Event()
        self._final_reads = FinalReads(self._url, system.mint("auditor"), self._topics)
        self._readers = [self._reader(number) for number in range(config.readers)]
        self._members = Members(config, system, self._url, self.counts, self._reading())
        # A store that is wiped while no worker lives forgets who is blocked.
        self.operators = None if config.wipe else Operators(config, system, self._url)

    async def run(
        self, faults: list[Fault], tell: Tell
    ) -> tuple[History, Nemesis, list[Violation]]:
        """Perform the run; return the history, the nemesis, and violations of settling."""
        nemesis = Nemesis(self._system, self._config.seed)
        tasks = [asyncio.create_task(reader.run()) for reader in self._readers]
        tasks += self._members.start()
        if self.operators is not None:
            tasks += self.operators.start()
        tasks.append(asyncio.create_task(self._report(faults, nemesis, tell)))
        violations: list[Violation] = []
        try:
            await _until(self._all_entered, START_SECONDS)
            tasks += [asyncio.create_task(one.run(self._talk)) for one in self._publishers]
            for phase in batched(faults, FAULTS_PER_PHASE):
                self._talk.set()
                self._members.moving.set()
                await nemesis.run(phase, self._quiesce)
                violations += await self._settle(tasks)
            stored = await self._final_reads.stored()
            if self._system.database is not None:
                final = {each.topic: each.position for each in stored}
                acks = [*self.counts.acks, *self.unheard]
                violations += await archived.missing(self._system.database.url, final, acks)
                if self._system.receiver is not None:
                    violations += await hooked.missing(self._system.receiver, acks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        violations += self._members.violations
        if self.operators is not None:
            violations += self.operators.violations
        observers = [observed for reader in self._readers for observed in reader.observers.values()]
        rules = Rules(
            {topic: HISTORY[topic.partition(":")[0]] for topic in self._topics},
            MAX_REPLAY,
            self._system.wipes,
        )
        final = {each.topic: each.position for each in stored}
        acks = [*self.counts.acks, *self.unheard]
        history = History(rules, acks, observers, final, stored, self.counts.operations)
        return history, nemesis, violations

    def _quiesce(self) -> None:
        self._talk.clear()
        self._members.moving.clear()

    async def _settle(self, tasks: list[asyncio.Task[None]]) -> list[Violation]:
        """Wait until every client has every event and all is quiet; return violations."""
        patience = self._config.patience
        if not await _until(lambda: not any(one.waits for one in self._publishers), patience):
            return [
                Violation("not acknowledged", "", 0, one.name, "it still waits for an answer")
                for one in self._publishers
                if one.waits
            ]
        for task in tasks:
            if task.done():
                task.result()
        behind = await self._left_behind(await self._final_reads.positions())
        behind = behind or await self._members.settle()
        if not behind and self.operators is not None:
            behind = await self.operators.settle()
        if behind or not self._system.shards:
            return behind
        number = len(self.unheard)
        async with unheard(self._system, self._topics, number, self._members.go) as acks:
            self.unheard += acks
            final = {ack.topic: Position(ack.epoch, ack.seq) for ack in acks}
            return await self._left_behind(final) or await self._members.settle(NAME)

    async def _left_behind(self, final: dict[str, Position]) -> list[Violation]:
        """Wait until every subscriber has every event; return the subscribers behind."""
        await _until(lambda: not self._behind(final), self._config.patience)
        return self._behind(final)

    def _behind(self, final: dict[str, Position]) -> list[Violation]:
        return [
            Violation(
                "not told", topic, place.seq + 1, reader.name, f"at {place}, not {final[topic]}"
            )
            for reader in self._readers
            for topic, place in reader.places.items()
            if is_behind(place, final[topic]) or topic in reader.loading
        ]

    def _publisher(self, number: int) -> Publisher:
        name, moderates = f"publisher{number}", number % MODERATORS != 0
        more = ["moderate"] if moderates else []
        return Publisher(
            name,
            self._url,
            self._system.mint(name, *more),
            self._topics,
            self._config.rate,
            self.counts,
            changes=self._config.changes,
            targets=self._targets,
            moderates=moderates,
        )

    def _reader(self, number: int) -> Subscriber | LibrarySubscriber:
        token = self._system.mint(f"reader{number}")
        count = len(self._topics)
        if number % 4 == 3:
            topic = self._topics[number // 4 % count]
            return LibrarySubscriber(f"library{number}", self._url, token, topic, self.counts)
        # Each topic has readers of both encodings, on all workers by chance.
        topics = [self._topics[(number + more) % count] for more in range(3)]
        binary = number % 2 == 1
        return Subscriber(f"reader{number}", self._url, token, topics, binary, self.counts)

    def _reading(self) -> dict[str, Counter[str]]:
        """Return the users that read each topic, with the number of their connections."""
        reading: dict[str, Counter[str]] = {topic: Counter() for topic in self._topics}
        for number, reader in enumerate(self._readers):
            for topic in reader.observers:
                reading[topic][f"reader{number}"] += 1
        return reading

    def _all_entered(self) -> bool:
        return all(len(reader.places) == len(reader.observers) for reader in self._readers)

    async def _report(self, faults: list[Fault], nemesis: Nemesis, tell: Tell) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            tell(
                f"{time.monotonic() - began:.0f} of {self._config.seconds:g} s, "
                f"{nemesis.injected.total()} of {len(faults)} faults, "
                f"{len(self.counts.acks):,} acknowledged, {self.counts.deliveries:,} delivered"
            )


def is_behind(place: Position, final: Position) -> bool:
    """Return True if a subscriber has not reached the final position.

    A subscriber may be further: a change without a key, whose publisher has given up, may have been
    stored since. At the end the checker compares exactly.
    """
    return place.epoch != final.epoch or place.seq < final.seq


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; return True if the condition came true."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                if condition():
                    return True
                await asyncio.sleep(POLL_SECONDS)
    return False


def server_faults(system: System, counts: Counts) -> list[Violation]:
    """Return faults of the server that no injected fault explains."""
    found = [f"it logged: {line}" for line in system.faults_logged()]
    found += [
        f"it closed {n} connections with {c}" for c, n in counts.closes.items() if c in FAULTY_CODES
    ]
    found += [
        f"it answered {n} times {e}" for e, n in counts.errors.items() if e not in EXPECTED_ERRORS
    ]
    return [Violation("fault of the server", "", 0, "", detail) for detail in found]
