"""What the tests of the archive share: chatter, and brokers that hear the same."""

import random
from collections.abc import Sequence

from msgspec.structs import replace

from chat_server.archive.writer import ArchiveWriter
from chat_server.broker.memory import MemoryBroker
from chat_server.changes import Append, Outcome, split_of
from chat_server.clock import Clock
from chat_server.consumers.ports import Cursor
from chat_server.consumers.reading import read_batch
from chat_server.database.database import Database
from chat_server.events import Position, Retention, held
from chat_server.settings import BrokerSettings

from ..broker.helpers import TOPIC, Recorder
from ..broker.test_changes import ANN, BOB, append, delete, edit, react, say
from ..rig.clock import ManualClock

ALL = held(Retention(100_000, 864_000.0, changes=100_000))
FEW = held(Retention(5, 864_000.0, changes=5))
"""Held back for a writer that is behind, of which the tests make sure that it is not."""


async def started(clock: Clock | None = None) -> MemoryBroker:
    broker = MemoryBroker(BrokerSettings(), clock or ManualClock())
    await broker.start(Recorder())
    return broker


async def chatter(
    brokers: Sequence[MemoryBroker],
    count: int,
    seed: int = 1,
    retentions: Sequence[Retention] = (ALL, FEW),
) -> None:
    """Publish and change messages, on all brokers alike."""
    choose = random.Random(seed)
    recent = [0]
    for number in range(count):
        act = choose.random() if number else 0
        target = choose.choice(recent)
        emoji, sender, text = choose.choice("+-"), choose.choice([ANN, BOB]), f"text {number}"
        for broker, retention in zip(brokers, retentions, strict=False):
            if act < 0.4:
                data = choose_data(number, text)
                seq = await say(broker, data, sender=sender, retention=retention)
                recent = [*dict.fromkeys([*filter(None, recent), seq])][-4:]
            elif act < 0.6:
                added = append(target, text, " and more", retention=retention, moderator=True)
                await add(broker, added)
            elif act < 0.75:
                change = edit(target, text, retention=retention, moderator=True)
                await broker.change(change)
            elif act < 0.95:
                remove = act > 0.88
                reaction = react(target, emoji, remove=remove, retention=retention, sender=sender)
                await broker.change(reaction)
            else:
                await broker.change(delete(target, retention=retention, moderator=True))


async def add(broker: MemoryBroker, draft: Append) -> None:
    """Append, unless the message has no text."""
    result = await broker.change(draft)
    if result.outcome is Outcome.SPLIT:
        split = split_of(result.data, result.version)
        if split is not None:
            await broker.change(replace(draft, split=split))


def choose_data(number: int, text: str) -> object:
    return [text, {"text": text, "n": number}, {"n": number}, text + ' "quoted" \\ é 🙂'][
        number % 4
    ]


async def archive(
    database: Database, broker: MemoryBroker, topic: str = TOPIC, batches: int = 10_000
) -> ArchiveWriter:
    """Archive a topic, as far as there is something to archive."""
    writer = ArchiveWriter(database, lambda _: True)
    for _ in range(batches):
        cursor = (await writer.cursors([topic])).get(topic)
        batch = await read_batch(broker, topic, cursor)
        if not batch.is_news:
            break
        await writer.take([batch])
        await broker.feed.release(topic, _position(batch.after))
    return writer


def _position(cursor: Cursor) -> Position:
    return Position(cursor.epoch, cursor.seq)
