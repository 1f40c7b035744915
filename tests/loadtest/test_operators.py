"""What operators cost is measured, and what is left out to compare is only what counts."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chat_server.metrics.numbers import Numbers
from loadtest.cli import main
from loadtest.held import NOTE, Held, held_between
from loadtest.uncounted import uncounted_hub

from ..realtime.world import World
from ..rig.fakes import turns

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
MS = 1_000_000


async def test_without_counting_the_same_is_delivered() -> None:
    world = World()
    made = uncounted_hub()(world.broker, 1, numbers=(numbers := Numbers()))
    world.node.hub = made
    await world.start()
    reader = await world.subscribed("room:a")
    world.broker.store("room:a")
    await turns()
    assert [message["seq"] for message in reader.of_type("message")] == [1]
    assert (numbers.deliveries, numbers.delivered_bytes) == (0, 0)
    assert numbers.delivery_seconds.total == 0.0
    await world.stop()


def test_every_room_is_compared(tmp_path: Path) -> None:
    found = tmp_path / "operators.json"
    done = CliRunner().invoke(main, ["operators", "--rounds", "2", "--json", str(found)])
    assert done.exit_code == 0, done.output
    rooms = json.loads(found.read_text("utf-8"))["rooms"]
    assert [room["members"] for room in rooms] == [1_000, 100, 10, 1]
    assert all(room["micros"]["as it is"] > 0 for room in rooms)


def test_a_loop_is_held_by_what_overlaps(tmp_path: Path) -> None:
    notes = tmp_path / "held"
    written = [(1, 0, 90 * MS, 90 * MS), (1, 200 * MS, 7 * MS, 5 * MS), (2, 201 * MS, 6 * MS, MS)]
    notes.write_bytes(b"".join(NOTE.pack(*note) for note in written))
    assert held_between(notes, 100 * MS, 300 * MS) == Held(7.0, 5.0)
    assert held_between(notes, 80 * MS, 100 * MS) == Held(90.0, 90.0)
    assert held_between(notes, 95 * MS, 99 * MS) == Held(0.0, 0.0)


@linux
@pytest.mark.extra
def test_every_question_is_asked_of_a_crowd(tmp_path: Path) -> None:
    found = tmp_path / "crowded.json"
    few = ("--connections", "60", "--per-worker", "40", "--topics", "9", "--regular", "7")
    done = CliRunner().invoke(main, ["crowded", *few, "--times", "1", "--json", str(found)])
    assert done.exit_code == 0, done.output
    (run,) = json.loads(found.read_text("utf-8"))["runs"]
    notes = {each["what"]: each["note"] for each in run["asked"]}
    assert notes["nodes"] == "2 nodes"
    assert notes["`/health`"] == "60 connections, 18 topics, 2 workers"
    assert notes["disconnect"] == "7 connections"
    assert notes["announce"] == "60 connections"
