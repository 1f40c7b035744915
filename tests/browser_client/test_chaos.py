"""The browser client under faults: every promise it made to its application was kept.

It runs in Node against a real server, over connections that break, stall and lose answers, with
token functions that fail and callbacks that throw. What the server has stored is compared with what
the client said.
"""

import asyncio
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from msgspec import Struct

from chat_server.client import connect

from ..rig.node import copy_client, environment, node
from ..rig.server import ServerProcess, mint
from ..rig.tokens import secret

HERE = Path(__file__).parent
SCRIPTS = ("chaos.mjs", "faulty_socket.mjs")
SECONDS = float(os.environ.get("CHAT_CLIENT_CHAOS_SECONDS", "20"))
SEED = os.environ.get("CHAT_CLIENT_CHAOS_SEED")
WINDOW_SECONDS = 6.0
TOPICS = 250

SERVER = {
    "CHAT_BROKER__IDEMPOTENCY_SECONDS": str(WINDOW_SECONDS),
    "CHAT_BROKER__SPOOL_SECONDS": "1",
    "CHAT_LIMITS__MAX_TOPICS": str(TOPICS + 10),
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "100",
    "CHAT_GATEWAY__HEARTBEAT_SECONDS": "2",
    "CHAT_GATEWAY__REFRESH_GRACE_SECONDS": "3",
    "CHAT_AUTH__LEEWAY_SECONDS": "0",
    "CHAT_NAMESPACES__DEFAULT__HISTORY_SIZE": "20000",
}


class Stored(Struct, frozen=True):
    """A message of the client under test, as the server has it."""

    seq: int
    n: int


async def _history(server: ServerProcess, topic: str) -> dict[int, Any]:
    """Return the data of everything stored in a topic, by seq."""
    token = mint("judge", history=["**"])
    found: dict[int, Any] = {}
    async with connect(server.url, token=token) as judge:
        while True:
            page = await judge.history(topic, after=max(found, default=0), limit=300)
            found.update({message.seq: message.data for message in page.messages})
            if not page.more:
                return found


def _check_publications(topic: str, told: list[dict[str, Any]], history: dict[int, Any]) -> None:
    stored = [Stored(seq, data["n"]) for seq, data in history.items() if "n" in data]
    numbers = [one.n for one in stored]
    assert len(numbers) == len(set(numbers)), f"{topic}: stored twice: {numbers}"
    assert numbers == sorted(numbers), f"{topic}: out of order: {numbers}"
    places = {one.n: one.seq for one in stored}
    for entry in told:
        outcome = entry["outcome"]
        if "seq" in outcome:
            assert places.get(entry["n"]) == outcome["seq"], f"{topic}: not as told: {entry}"
        elif not outcome["mayBeSent"]:
            assert entry["n"] not in places, f"{topic}: rejected and stored: {entry}"
        assert outcome.get("code") == entry.get("refused") or outcome.get("mayBeSent"), entry
    assert places.keys() <= {entry["n"] for entry in told}


def _check_events(topic: str, events: list[dict[str, Any]], history: dict[int, Any]) -> None:
    """Each event came once, in its order, and what is missing was told as a gap."""
    here = events[0]["seq"] - 1
    for event in events:
        if event["type"] == "gap":
            assert event["before"] - 1 >= here
            here = event["before"] - 1
        else:
            first = event.get("first", event["seq"])
            assert first == here + 1, f"{topic}: {event} came behind {here}"
            if event["type"] == "message" and "n" in event["data"]:
                assert event["data"] == history[event["seq"]]
            here = event["seq"]
    # What comes last is a message.
    assert here == max(history), f"{topic}: ended at {here} of {max(history)}"


def _check_growth(grown: list[dict[str, Any]], history: dict[int, Any]) -> None:
    """All that was written is there once and in its order; a text that was given up is a part."""
    for entry in grown:
        text = history[entry["seq"]]["text"]
        if entry["code"] is None:
            assert text == entry["text"]
        else:
            assert entry["code"] == "unknown_outcome", entry
            assert entry["text"].startswith(text)


def _check_edits(report: dict[str, Any], history: dict[int, Any]) -> None:
    """Each edit was stored once and in order, if it was told so."""
    edits = report["edits"]
    events = report["seen"]["room:2"]
    seen = [event["data"]["edit"] for event in events if event["type"] == "edited"]
    assert seen == sorted(set(seen)), f"edits twice or out of order: {seen}"
    stored = [entry["edit"] for entry in edits if entry["outcome"] == "stored"]
    for entry in edits:
        assert entry["outcome"] == "stored" or entry["outcome"]["mayBeSent"], entry
    for toggle in report["toggles"]:
        # The reaction may have been taken back, or never been stored, by one of unknown outcome.
        outcome = toggle["outcome"]
        assert outcome == "stored" or outcome["mayBeSent"] or outcome["code"] == "not_found"
    if stored:
        assert history[edits[0]["seq"]]["edit"] in range(stored[-1], edits[-1]["edit"] + 1)
        if all(event["type"] != "gap" for event in events):
            assert set(stored) <= set(seen)


async def test_every_promise_is_kept(tmp_path: Path) -> None:
    program = node()
    copy_client(tmp_path, *(HERE / name for name in SCRIPTS))
    seed = int(SEED) if SEED else random.SystemRandom().randrange(2**32)
    with ServerProcess(environ=SERVER) as server:
        options = {
            "url": f"ws://127.0.0.1:{server.port}/ws",
            "secret": secret(),
            "seed": seed,
            "seconds": SECONDS,
            "topics": TOPICS,
            "windowMs": WINDOW_SECONDS * 1000,
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [program, "chaos.mjs", json.dumps(options)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS + 200,
        )
        replay = f"CHAT_CLIENT_CHAOS_SEED={seed}"
        assert done.returncode == 0, f"{replay}\n{done.stderr}"
        report = json.loads(done.stdout)
        histories = {topic: await _history(server, topic) for topic in report["seen"]}
    told = report["publications"]
    summary = {key: report[key] for key in ("states", "tokens", "faults", "thrown")}
    codes = [entry["outcome"].get("code", "stored") for entry in told]
    summary |= {code: codes.count(code) for code in sorted(set(codes))}
    summary |= {kind: len(report[kind]) for kind in ("grown", "edits", "toggles")}
    print(replay, summary)
    try:
        for topic, history in histories.items():
            _check_publications(topic, [one for one in told if one["topic"] == topic], history)
            if report["seen"][topic]:
                _check_events(topic, report["seen"][topic], history)
        _check_growth(report["grown"], histories["room:1"])
        _check_edits(report, histories["room:2"])
        # Nothing else was reported than what the callbacks threw, and no subscription was ended.
        assert all("thrown" in line for line in report["reports"])
        assert len(report["reports"]) == report["thrown"]
        assert report["ended"] == []
        assert codes.count("stored") > 100
        assert all(count for count in report["faults"].values() if SECONDS >= 60)
    except AssertionError as error:
        error.add_note(f"{replay} {summary}")
        raise
