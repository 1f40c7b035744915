"""The garbage collector leaves a worker with many connections alone."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from chat_server.metrics.process import resident_bytes
from chat_server.server import gc_policy
from chat_server.server.gc_policy import FULL_MAX_CONNECTIONS, THRESHOLDS, GcPolicy


class Knot:
    """An object that refers to itself, so that only a collection takes it apart."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector_state() -> Iterator[None]:
    """Begin with nothing set aside, and leave the collector as it was."""
    thresholds = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_what_exists_at_the_start_is_set_aside() -> None:
    policy = GcPolicy(lambda: 0)
    assert gc.get_freeze_count() == 0
    policy.start()
    try:
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == THRESHOLDS
    finally:
        policy.stop()


@pytest.mark.parametrize(
    ("connections", "taken_apart"),
    [(FULL_MAX_CONNECTIONS, True), (FULL_MAX_CONNECTIONS + 1, False)],
)
async def test_full_collections_come_while_connections_are_few(
    connections: int, taken_apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc_policy, "FULL_SECONDS", 0.0)
    asked = asyncio.Event()

    def count() -> int:
        asked.set()
        return connections

    policy = GcPolicy(count)
    policy.start()
    gc.disable()  # so that nothing but the collector takes it apart
    try:
        knot = weakref.ref(Knot())
        await asked.wait()
        assert (knot() is None) == taken_apart
    finally:
        gc.enable()
        policy.stop()


async def test_none_comes_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc_policy, "FULL_SECONDS", 0.0)
    asked: list[int] = []

    def count() -> int:
        asked.append(1)
        return 0

    policy = GcPolicy(count)
    policy.start()
    policy.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not asked


@pytest.mark.parametrize(
    ("connections", "before", "resident", "taken_apart"),
    [
        (1_000, 100, 220, False),
        (1_000, 100, 230, True),
        (2_000, 100, 280, False),
        (2_000, 100, 290, True),
        (400, 1_000, 1_200, False),
        (400, 1_000, 1_300, True),
    ],
)
async def test_a_full_collection_comes_when_memory_grows_without_connections(
    connections: int,
    before: int,
    resident: int,
    taken_apart: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gc_policy, "FULL_SECONDS", 0.0)
    asked = asyncio.Event()

    def count() -> int:
        asked.set()
        return connections

    monkeypatch.setattr(gc_policy, "resident_bytes", lambda: before * 2**20)
    policy = GcPolicy(count)
    policy.start()
    gc.disable()
    try:
        monkeypatch.setattr(gc_policy, "resident_bytes", lambda: resident * 2**20)
        knot = weakref.ref(Knot())
        await asked.wait()
        assert (knot() is None) == taken_apart
    finally:
        gc.enable()
        policy.stop()


def test_the_memory_of_the_process_is_known() -> None:
    assert 2**20 < resident_bytes() < 2**34
