"""A round of chaos: people talk, faults come, all settles, and the record is verified."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from chat_server.events import Position

from ..accounting import Machine, machine
from ..wire import LoadError
from .audit import HARMLESS, Auditor, end_of
from .effort import Effort
from .faults import Conductor, kinds
from .people import LibrarySubscriber, Notes, Publisher, Subscriber
from .plan import Fault, plan
from .probe import store_unheard
from .record import Ack, Record, Rules
from .site import HISTORY, MAX_REPLAY, Site, open_site
from .verify import Verdict, Violation, verify

START_SECONDS = 30.0
POLL_SECONDS = 0.05
LONGEST_FAULT_SECONDS = 5.0

FAULTS_IN_AN_ACT = 15
"""After so many all falls silent while the last of them is under way. What a subscriber then lacks
it has to get without another event that tells of a hole. And once it has got it, the workers are
made to miss something for certain."""

FAULTY_CODES = {"1002", "1003", "1007", "1009", "1011", "4400", "4401", "4403", "4429"}
"""Closes with which the server says that it, or this checker, did wrong."""

Tell = Callable[[str], None]


def batched(faults: Sequence[Fault], size: int) -> Iterator[Sequence[Fault]]:
    """Yield `size` of them at a time."""
    for first in range(0, len(faults), size):
        yield faults[first : first + size]


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it.

    Args:
        faults: by kind.
        missed: those that found nothing to strike, by kind.
        attempts: publications sent, repetitions included.
        duplicates: repetitions of which the server knew that it had stored them.
        unheard: events stored while no worker could hear them; none in memory.
        longest_silence: seconds in which no subscriber at all got anything.
        longest_ack: seconds until a publication was acknowledged.
    """

    effort: Effort
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

    @property
    def struck(self) -> int:
        """How many faults found something to strike."""
        return sum(self.faults.values())

    @property
    def passed(self) -> bool:
        """Whether every promise was kept, and that was hard enough."""
        return not self.verdict.violations and self.struck >= self.effort.least_faults


async def perform(effort: Effort, tell: Tell) -> Outcome:
    """Carry a round out.

    Raises:
        LoadError: the server does not start, or has ended.
    """
    began = time.monotonic()
    async with open_site(effort) as site:
        names = kinds(effort.broker, effort.workers, wipe=effort.wipe)
        faults = plan(
            effort.seed,
            names,
            faults=effort.faults,
            seconds=effort.seconds,
            longest=min(LONGEST_FAULT_SECONDS, effort.seconds / 4),
        )
        round_ = _Round(effort, site)
        try:
            record, conductor, violations = await round_.run(faults, tell)
        except LoadError as error:
            raise LoadError(f"{error}\nThe server wrote:\n{site.last_words()}") from None
        violations += faults_of_the_server(site, round_.notes)
        tell("verifying")
        verdict = verify(record)
    notes = round_.notes
    return Outcome(
        effort=effort,
        machine=machine(),
        took_seconds=time.monotonic() - began,
        faults=dict(conductor.injected),
        missed=dict(conductor.missed),
        published=notes.published,
        attempts=notes.attempts,
        acknowledged=len(notes.acks),
        deliveries=notes.deliveries,
        unheard=len(round_.unheard),
        duplicates=sum(ack.duplicate for ack in notes.acks),
        closes=dict(notes.closes),
        errors=dict(notes.errors),
        longest_silence=notes.longest_silence,
        longest_ack=notes.longest_ack,
        verdict=Verdict(
            violations=[*violations, *verdict.violations],
            resumes=verdict.resumes,
            recovered=verdict.recovered,
            gaps=verdict.gaps,
            new_epochs=verdict.new_epochs,
        ),
    )


class _Round:
    """The people of a round, and how it ends.

    Attributes:
        unheard: what was stored past the workers.
    """

    def __init__(self, effort: Effort, site: Site) -> None:
        self.notes = Notes()
        self.unheard: list[Ack] = []
        self._effort = effort
        self._site = site
        self._topics = effort.topics
        self._url = f"ws://127.0.0.1:{site.front.port}/ws"
        self._publishers = [
            self._publisher(f"publisher{number}") for number in range(effort.publishers)
        ]
        self._talk = asyncio.Event()
        self._auditor = Auditor(self._url, site.target.mint("auditor", "**"), self._topics)
        self._readers = [self._reader(number) for number in range(effort.readers)]

    async def run(
        self, faults: list[Fault], tell: Tell
    ) -> tuple[Record, Conductor, list[Violation]]:
        """Do everything; return the record, who brought the faults, and what did not settle."""
        conductor = Conductor(self._site, self._effort.seed)
        tasks = [asyncio.create_task(reader.run()) for reader in self._readers]
        tasks.append(asyncio.create_task(self._report(faults, conductor, tell)))
        violations: list[Violation] = []
        try:
            await _until(self._all_entered, START_SECONDS)
            tasks += [asyncio.create_task(one.run(self._talk)) for one in self._publishers]
            for act in batched(faults, FAULTS_IN_AN_ACT):
                self._talk.set()
                await conductor.run(act, self._talk.clear)
                violations += await self._settle(tasks)
            history = await self._auditor.history()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        trails = [trail for reader in self._readers for trail in reader.trails.values()]
        rules = Rules(
            {topic: HISTORY[topic.partition(":")[0]] for topic in self._topics},
            MAX_REPLAY,
            self._site.wipes,
        )
        final = {trail.topic: end_of(trail) for trail in history}
        acks = [*self.notes.acks, *self.unheard]
        record = Record(rules, acks, [*trails, *history], final)
        return record, conductor, violations

    async def _settle(self, tasks: list[asyncio.Task[None]]) -> list[Violation]:
        """Wait until all is quiet and everybody has everything; return who has not."""
        patience = self._effort.patience
        if not await _until(lambda: not any(one.waits for one in self._publishers), patience):
            return [
                Violation("not acknowledged", "", 0, one.name, "it still waits for an answer")
                for one in self._publishers
                if one.waits
            ]
        for task in tasks:
            if task.done():
                task.result()
        behind = await self._left_behind(await self._auditor.positions())
        if behind or not self._site.shards:
            return behind
        unheard = await store_unheard(self._site, self._topics, len(self.unheard))
        self.unheard += unheard
        return await self._left_behind({ack.topic: Position(ack.epoch, ack.seq) for ack in unheard})

    async def _left_behind(self, final: dict[str, Position]) -> list[Violation]:
        """Wait until everybody has everything; return who has not."""
        await _until(lambda: not self._behind(final), self._effort.patience)
        return self._behind(final)

    def _behind(self, final: dict[str, Position]) -> list[Violation]:
        return [
            Violation(
                "not told", topic, place.seq + 1, reader.name, f"at {place}, not {final[topic]}"
            )
            for reader in self._readers
            for topic, place in reader.places.items()
            if place != final[topic]
        ]

    def _publisher(self, name: str) -> Publisher:
        token = self._site.target.mint(name, "**")
        return Publisher(name, self._url, token, self._topics, self._effort.rate, self.notes)

    def _reader(self, number: int) -> Subscriber | LibrarySubscriber:
        token = self._site.target.mint(f"reader{number}", "**")
        count = len(self._topics)
        if number % 4 == 3:
            topic = self._topics[number // 4 % count]
            return LibrarySubscriber(f"library{number}", self._url, token, topic, self.notes)
        # Each topic has readers of both encodings, on all workers by chance.
        topics = [self._topics[(number + more) % count] for more in range(3)]
        binary = number % 2 == 1
        return Subscriber(f"reader{number}", self._url, token, topics, binary, self.notes)

    def _all_entered(self) -> bool:
        return all(len(reader.places) == len(reader.trails) for reader in self._readers)

    async def _report(self, faults: list[Fault], conductor: Conductor, tell: Tell) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            tell(
                f"{time.monotonic() - began:.0f} of {self._effort.seconds:g} s, "
                f"{conductor.injected.total()} of {len(faults)} faults, "
                f"{len(self.notes.acks):,} acknowledged, {self.notes.deliveries:,} delivered"
            )


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; return whether it came true."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                if condition():
                    return True
                await asyncio.sleep(POLL_SECONDS)
    return False


def faults_of_the_server(site: Site, notes: Notes) -> list[Violation]:
    """Return what the server did wrong that no fault of ours explains."""
    found = [f"it logged: {line}" for line in site.faults_logged()]
    found += [
        f"it closed {n} connections with {c}" for c, n in notes.closes.items() if c in FAULTY_CODES
    ]
    found += [f"it answered {n} times {e}" for e, n in notes.errors.items() if e not in HARMLESS]
    return [Violation("fault of the server", "", 0, "", detail) for detail in found]
