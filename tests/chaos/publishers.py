"""Publishers: each publishes, and changes messages, until the outcome is known."""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .client import BareClient, Lost
from .history import Ack, Operation
from .payloads import payload_of
from .states import token_of
from .workload import ANSWER_SECONDS, RETRY_SECONDS, Counts, wait_of

REFUSALS = {"not_found", "gone"}
"""Errors of a change whose message is gone, or has no such reaction."""

KINDS: Mapping[str, float] = MappingProxyType(
    {"append": 0.4, "edit": 0.25, "react": 0.28, "delete": 0.07}
)
"""Shares of the changes."""

EMOJI = ("👍", "👩‍🚀", "é")

TARGETS = 8
"""Number of a topic's newest messages that all publishers change."""

BURST = 5
"""Appends sent at once, at most."""

UNKEYED = 0.15
"""Share of changes that are sent once, possibly with an unknown outcome."""

EARLY = 0.1
"""Share of changes of a topic's first messages; after a wipe other messages soon get their seqs."""

ENDS = 0.04
"""Share of appends that end their message."""


class Targets:
    """The messages that publishers change."""

    def __init__(self) -> None:
        self._newest: dict[str, deque[Operation]] = defaultdict(lambda: deque(maxlen=TARGETS))
        self._first: dict[str, list[Operation]] = defaultdict(list)

    def add(self, operation: Operation) -> None:
        """Record a published message."""
        self._newest[operation.topic].append(operation)
        if len(first := self._first[operation.topic]) < TARGETS:
            first.append(operation)

    def of(self, topic: str, author: str | None, *, early: bool) -> list[Operation]:
        """Return the newest or the first messages of a topic, by one author or by all."""
        chosen = self._first[topic] if early else self._newest[topic]
        return [each for each in chosen if author in (None, each.publisher)]


class Publisher:
    """Runs one operation after the other, each until its answer.

    Args:
        name: the name of the user, and thereby the scope of its idempotency keys.
        rate: operations per second, within the server's limits.
        changes: share of operations that change a message.
        targets: the messages of all publishers.
        moderates: True also changes messages of other publishers.
    """

    def __init__(
        self,
        name: str,
        url: str,
        token: str,
        topics: list[str],
        rate: float,
        counts: Counts,
        *,
        changes: float,
        targets: Targets,
        moderates: bool,
    ) -> None:
        self.name = name
        self._url = url
        self._token = token
        self._topics = topics
        self._rate = rate
        self._counts = counts
        self._changes = changes
        self._targets = targets
        self._author = None if moderates else name
        self._rng = random.Random(name)
        self._number = self._id = 0
        self._pending: list[Operation] = []
        self._began = 0.0

    @property
    def waits(self) -> bool:
        """True while an operation is unanswered."""
        return bool(self._pending)

    async def run(self, talk: asyncio.Event) -> None:
        """Publish until cancelled; begin nothing new while `talk` is not set."""
        while True:
            try:
                async with BareClient(
                    self._url, self._token, binary=self._rng.random() < 0.5
                ) as client:
                    while True:
                        await self._carry_out(client, talk)
            except Lost as error:
                self._counts.closes[str(error)] += 1
                self._give_up()
                await asyncio.sleep(self._rng.uniform(0, 2 * RETRY_SECONDS))

    async def _carry_out(self, client: BareClient, talk: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        if not self._pending:
            await asyncio.sleep(self._rng.expovariate(self._rate))
            await talk.wait()
            self._pending = self._next()
            self._counts.operations += self._pending
            self._began = loop.time()
        asked: dict[int, Operation] = {}
        wait = 0.0
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for operation in self._pending:
                    self._id += 1
                    asked[self._id] = operation
                    operation.attempts += 1
                    await client.send({"id": self._id, **_command(operation)})
                while asked:
                    answer = await client.receive()
                    answered = asked.pop(answer.get("id", 0), None)
                    if answered is not None:
                        wait = max(wait, self._on_answer(answered, answer))
        except TimeoutError:
            raise Lost("no answer to a publisher") from None
        if not self._pending:
            self._counts.longest_ack = max(self._counts.longest_ack, loop.time() - self._began)
            return
        self._give_up()
        await asyncio.sleep(wait)

    def _on_answer(self, operation: Operation, answer: dict[str, Any]) -> float:
        """Record an answer; return the seconds to wait before a retry."""
        if answer["type"] == "error":
            code = answer["code"]
            if operation.target and code in REFUSALS:
                operation.refused = code
                self._counts.refused[code] += 1
                self._pending.remove(operation)
                return 0.0
            self._counts.errors[code] += 1
            return wait_of(answer, "retry_in_ms")
        operation.epoch, operation.seq = answer["epoch"], answer["seq"]
        self._pending.remove(operation)
        payload = operation.change.payload if operation.target else operation.name
        self._counts.acks.append(
            Ack(
                self.name,
                operation.topic,
                operation.epoch,
                operation.seq,
                payload,
                answer["duplicate"],
                operation.target,
                operation.meant,
            )
        )
        if not operation.target:
            self._targets.add(operation)
        return 0.0

    def _give_up(self) -> None:
        """Drop operations that cannot be repeated, because they may have been executed."""
        self._pending = [each for each in self._pending if each.key]

    def _next(self) -> list[Operation]:
        """Return the next operations: several only if they may overlap."""
        topic = self._rng.choice(self._topics)
        (kind,) = self._rng.choices(list(KINDS), list(KINDS.values()))
        early = self._rng.random() < EARLY
        author = None if kind == "react" else self._author
        targets = self._targets.of(topic, author, early=early)
        if self._rng.random() >= self._changes or not targets:
            return [self._operation(topic, "publish")]
        target, key = self._rng.choice(targets), self._rng.random() >= UNKEYED
        count = self._rng.randint(1, BURST) if key and kind == "append" else 1
        changes = [self._operation(topic, kind, target.seq, key) for _ in range(count)]
        for change in changes:
            change.target_epoch, change.meant = target.epoch, target.name
        if kind == "append" and self._rng.random() < ENDS:
            changes[-1].state = "complete"
        return changes

    def _operation(self, topic: str, kind: str, target: int = 0, key: bool = True) -> Operation:
        self._number += 1
        operation = Operation(self.name, self._number, topic, kind, target=target, key=key)
        if kind == "append":
            operation.name = token_of(operation)
        elif kind in ("publish", "edit"):
            operation.name = f"{self.name}-{self._number}"
        elif kind == "react":
            operation.emoji = self._rng.choice(EMOJI)
            operation.remove = self._rng.random() < 0.4
        return operation


def _command(operation: Operation) -> dict[str, Any]:
    """Return the command of an operation, without its id."""
    command: dict[str, Any] = {"type": operation.kind, "topic": operation.topic}
    if operation.key:
        command["key"] = f"{operation.publisher}-{operation.number}"
    if operation.target:
        command["seq"] = operation.target
        command["epoch"] = operation.target_epoch or None
    if operation.kind in ("publish", "edit"):
        command["data"] = payload_of(operation.name)
    elif operation.kind == "append":
        command["text"] = operation.name
        if operation.state:
            command["state"] = operation.state
    elif operation.kind == "react":
        command |= {"emoji": operation.emoji, "remove": operation.remove}
    return command
