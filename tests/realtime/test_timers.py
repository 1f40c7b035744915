"""The timers: nobody is called early, twice or after `cancel`; a fault stops nobody else."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.realtime.timers import MAX_SECONDS, SLOT_SECONDS, SlottedTimers


class FakeTimer:
    def __init__(self, loop: "FakeLoop", entry: tuple[float, Callable[[], None]]) -> None:
        self._loop, self._entry = loop, entry

    def cancel(self) -> None:
        if self._entry in self._loop.timers:
            self._loop.timers.remove(self._entry)


class FakeLoop:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        entry = (self.now + seconds, call)
        self.timers.append(entry)
        return FakeTimer(self, entry)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [entry for entry in self.timers if entry[0] <= end]:
            entry = min(due, key=lambda entry: entry[0])
            self.timers.remove(entry)
            self.now = max(self.now, entry[0])
            entry[1]()
        self.now = end


class Caller:
    """Notes when it was called, and may do something then."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.calls: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def on_timer(self) -> None:
        self.calls.append(self._loop.now)
        self.then()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    fake = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: fake)
    return fake


@given(waits=st.lists(st.floats(0, MAX_SECONDS), max_size=20), step=st.floats(0.01, 5))
def test_each_is_called_once_and_never_early(waits: list[float], step: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        loop = FakeLoop()
        patch.setattr(asyncio, "get_running_loop", lambda: loop)
        timers = SlottedTimers()
        callers = [Caller(loop) for _ in waits]
        due = []
        for caller, wait in zip(callers, waits, strict=True):
            timers.schedule(caller.on_timer, wait)
            due.append(loop.now + wait)
            loop.advance(step)
        loop.advance(MAX_SECONDS + SLOT_SECONDS)
    for caller, at in zip(callers, due, strict=True):
        [called] = caller.calls
        assert at - 1e-6 <= called <= at + SLOT_SECONDS + 1e-6


def test_those_due_together_share_one_timer(loop: FakeLoop) -> None:
    timers = SlottedTimers()
    callers = [Caller(loop) for _ in range(100)]
    for number, caller in enumerate(callers):
        timers.schedule(caller.on_timer, 5 + number * SLOT_SECONDS / 1_000)
    assert len(loop.timers) == 1
    loop.advance(6)
    assert all(caller.calls for caller in callers)
    assert len({call for caller in callers for call in caller.calls}) <= 2
    assert not loop.timers


def test_nobody_is_called_who_cancelled(loop: FakeLoop) -> None:
    timers = SlottedTimers()
    callers = [Caller(loop) for _ in range(3)]
    slots = [timers.schedule(caller.on_timer, 1) for caller in callers]

    def cancel_all() -> None:
        for caller, slot in zip(callers, slots, strict=True):
            timers.cancel(caller.on_timer, slot)

    callers[1].then = cancel_all
    timers.cancel(callers[0].on_timer, slots[0])
    loop.advance(2)
    assert callers[0].calls == []
    assert len(callers[1].calls) + len(callers[2].calls) in (1, 2)
    assert len(callers[1].calls) == 1


def test_a_call_may_schedule_the_next(loop: FakeLoop) -> None:
    timers = SlottedTimers()
    caller = Caller(loop)
    caller.then = lambda: timers.schedule(caller.on_timer, 1)
    timers.schedule(caller.on_timer, 1)
    loop.advance(10)
    assert len(caller.calls) in (9, 10)


def test_far_calls_come_early_enough_to_bound_what_is_kept(loop: FakeLoop) -> None:
    timers = SlottedTimers()
    caller = Caller(loop)
    timers.schedule(caller.on_timer, 1e9)
    loop.advance(MAX_SECONDS + SLOT_SECONDS)
    assert len(caller.calls) == 1


def test_a_fault_stops_nobody_else(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    timers = SlottedTimers()
    callers = [Caller(loop) for _ in range(3)]

    def fail() -> None:
        raise RuntimeError

    for caller in callers:
        caller.then = fail
        timers.schedule(caller.on_timer, 1)
    with caplog.at_level(logging.CRITICAL):
        loop.advance(2)
    assert [len(caller.calls) for caller in callers] == [1, 1, 1]


def test_stopped_timers_call_nobody(loop: FakeLoop) -> None:
    timers = SlottedTimers()
    caller = Caller(loop)
    timers.schedule(caller.on_timer, 1)
    timers.stop()
    loop.advance(5)
    assert caller.calls == []
    assert loop.timers == []
