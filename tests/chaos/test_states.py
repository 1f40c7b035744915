"""Messages that change: how events are folded, and that the checker finds each kind of fault."""

from typing import Any

import pytest
from msgspec.structs import replace

from chat_server.events import Position
from tests.chaos.checker import check
from tests.chaos.folding import fold, received, shown
from tests.chaos.history import (
    Ack,
    Change,
    Entry,
    GapReceived,
    History,
    Loaded,
    Observations,
    Operation,
    Received,
    Rules,
    Shown,
    Stored,
    Subscribed,
)
from tests.chaos.payloads import payload_of
from tests.chaos.states import token_of

TOPIC = "room:a"
START = Subscribed("e", 0, recovered=False, replayed=0)

PUBLISHED = Operation("ann", 1, TOPIC, "publish", name="one", epoch="e", seq=1, attempts=1)


def _done(number: int, kind: str, seq: int, user: str = "ann", **more: Any) -> Operation:
    made = Operation(user, number, TOPIC, kind, target=1, epoch="e", seq=seq, attempts=1, **more)
    if kind == "append":
        made.name = token_of(made)
    return made


EDITED = _done(2, "edit", 2, name="two")
APPENDED = _done(3, "append", 3)
TOGETHER = _done(4, "append", 4), _done(5, "append", 4)
REACTED = _done(1, "react", 5, "bob", emoji="+")
OPERATIONS = [PUBLISHED, EDITED, APPENDED, *TOGETHER, REACTED]
TEXT = "".join(token_of(each) for each in (APPENDED, *TOGETHER))
SHOWN = Shown(1, 5, "two", TEXT, "streaming", reactions={"+": (1, ("bob",))})


def _event(operation: Operation, text: str = "", length: int = 0) -> Received:
    change = operation.change
    state = "streaming" if change.kind == "appended" else ""
    name = operation.name if change.kind == "edited" else ""
    change = replace(change, name=name, text=text, length=length, state=state)
    return Received(operation.seq, change.payload, change)


EVENTS: list[Entry] = [
    Received(1, "one"),
    _event(EDITED),
    _event(APPENDED, token_of(APPENDED), len(token_of(APPENDED))),
    _event(TOGETHER[0], "".join(map(token_of, TOGETHER)), len(TEXT)),
    _event(REACTED),
]


def _history(
    message: Shown = SHOWN,
    entries: list[Entry] | None = None,
    operations: list[Operation] | None = None,
) -> History:
    operations = OPERATIONS if operations is None else operations
    acks = [
        Ack(
            each.publisher,
            TOPIC,
            "e",
            each.seq,
            each.change.payload if each.target else each.name,
            target=each.target,
        )
        for each in operations
        if each.seq
    ]
    final = Position("e", 5)
    observed = Observations("ada", TOPIC, [START, *EVENTS] if entries is None else entries)
    rules = Rules({TOPIC: 100}, max_replay=50)
    stored = [Stored(TOPIC, final, [message])]
    return History(rules, acks, [observed], {TOPIC: final}, stored, operations)


def _found(history: History) -> set[str]:
    return {violation.kind for violation in check(history).violations}


def _maybe(operation: Operation) -> list[Operation]:
    unknown = replace(operation, seq=0, epoch="")
    return [unknown if each is operation else each for each in OPERATIONS]


def test_what_changed_as_it_must_passes() -> None:
    assert fold([START, *EVENTS]) == {1: SHOWN}
    assert _found(_history()) == set()


def test_neighbours_that_came_as_one_are_one_to_the_checker() -> None:
    last = _event(TOGETHER[0], TEXT, len(TEXT))
    merged = replace(last, first=3)
    assert _found(_history(entries=[START, *EVENTS[:2], merged, EVENTS[4]])) == set()
    late = replace(last, first=2)
    assert "twice" in _found(_history(entries=[START, *EVENTS[:2], late, EVENTS[4]]))
    hole = replace(last, first=4)
    assert "skipped" in _found(_history(entries=[START, *EVENTS[:2], hole, EVENTS[4]]))


@pytest.mark.parametrize("loaded", range(1, 6))
@pytest.mark.parametrize("gap", range(1, 6))
def test_an_answer_and_pushes_come_in_any_order(gap: int, loaded: int) -> None:
    """Whoever lost everything up to an event loads what was made by a later one, or the same."""
    messages = fold(EVENTS[: max(gap, loaded)])
    page = Loaded(list(messages.values()))
    for behind in range(gap, 6):
        told = GapReceived("e", 0, gap + 1, "expired")
        entries = [START, told, *EVENTS[gap:behind], page, *EVENTS[behind:]]
        assert fold(entries) == {1: SHOWN}


def test_a_merged_append_of_which_a_part_is_known_adds_the_rest() -> None:
    page = Loaded([Shown(1, 3, "two", token_of(APPENDED), "streaming")])
    merged = replace(_event(TOGETHER[0], TEXT, len(TEXT)), first=3)
    (message,) = fold([START, page, merged]).values()
    assert message.text == TEXT


def test_pushes_and_history_are_read_alike() -> None:
    head = {"topic": TOPIC, "at": 1, "from": {"user": "ann"}}
    pushes: list[dict[str, Any]] = [
        {**head, "type": "message", "seq": 1, "data": payload_of("one")},
        {**head, "type": "edited", "seq": 2, "target": 1, "data": payload_of("two")},
        {**head, "type": "appended", "seq": 3, "target": 1, "text": "é", "length": 1},
        {**head, "type": "reaction", "seq": 4, "target": 1, "emoji": "+"},
    ]
    events = [event for push in pushes if (event := received(push)) is not None]
    now = {
        **head,
        "seq": 1,
        "data": {**payload_of("two"), "text": "é"},
        "state": "streaming",
        "version": 4,
        "edited_at": 1,
        "reactions": {"+": {"count": 1, "users": ["ann"]}},
    }
    assert fold(events) == {1: shown(now)}
    tombstone = {**head, "type": "message", "seq": 1, "data": None, "deleted": True, "version": 5}
    deleted = received({**head, "type": "deleted", "seq": 5, "target": 1})
    late = received(tombstone)
    assert deleted is not None
    assert late is not None
    assert fold([*events, deleted]) == {1: shown(tombstone)} == fold([late, *events[1:], deleted])
    assert received({"type": "read", "topic": TOPIC, "user": "ann", "seq": 3}) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(replace(SHOWN, name="one"), "wrong data", id="an edit lost"),
        pytest.param(replace(SHOWN, text=token_of(APPENDED)), "wrong text", id="an append lost"),
        pytest.param(replace(SHOWN, text=TEXT + token_of(APPENDED)), "appended twice"),
        pytest.param(
            replace(SHOWN, text="".join(map(token_of, (*TOGETHER, APPENDED)))),
            "wrong text",
            id="appends out of order",
        ),
        pytest.param(
            replace(SHOWN, text="".join(map(token_of, (APPENDED, *reversed(TOGETHER))))),
            "wrong text",
            id="out of order within an event",
        ),
        pytest.param(replace(SHOWN, text=TEXT + "<max ü 1>"), "wrong text", id="by nobody"),
        pytest.param(replace(SHOWN, text=TEXT[1:]), "broken text"),
        pytest.param(replace(SHOWN, state="complete"), "wrong state"),
        pytest.param(replace(SHOWN, reactions={}), "wrong reactions"),
        pytest.param(replace(SHOWN, reactions={"+": (2, ("bob",))}), "counted wrongly"),
        pytest.param(replace(SHOWN, reactions={"-": (1, ("bob",))}), "wrong reactions"),
        pytest.param(replace(SHOWN, version=4), "missing change"),
        pytest.param(Shown(1, 5, deleted=True), "wrongly deleted"),
    ],
)
def test_what_history_must_not_hold_is_found(message: Shown, expected: str) -> None:
    found = _found(_history(message))
    assert expected in found
    assert "another state" in found


def test_what_only_a_subscriber_sees_differently_is_found() -> None:
    entries = [START, *EVENTS[:2], _event(APPENDED, "", 0), *EVENTS[3:]]
    assert _found(_history(entries=entries)) == {"another state"}


def test_a_message_that_history_lost_is_found() -> None:
    history = _history()
    history.stored[0].messages.clear()
    assert _found(history) == {"missing"}


def test_what_was_deleted_stays_so() -> None:
    deleted = _done(9, "delete", 5)
    operations = [*OPERATIONS[:-1], deleted]
    gone = [*EVENTS[:4], _event(deleted)]
    tombstone = Shown(1, 5, deleted=True)
    assert _found(_history(tombstone, [START, *gone], operations)) == set()
    alive = replace(SHOWN, reactions={})
    assert "not deleted" in _found(_history(alive, [START, *gone], operations))


def test_what_has_no_answer_may_be_either() -> None:
    """The events are there, or they are not: both are right where nobody acknowledged them."""
    assert _found(_history(operations=_maybe(EDITED))) == set()
    assert _found(_history(operations=_maybe(APPENDED))) == set()
    assert _found(_history(operations=_maybe(REACTED))) == set()
    lost = replace(SHOWN, reactions={})
    assert "wrong reactions" not in _found(_history(lost, operations=_maybe(REACTED)))


def test_what_was_sent_again_may_be_behind_what_was_sent_after_it() -> None:
    again = replace(TOGETHER[0], attempts=2)
    operations = [again if each is TOGETHER[0] else each for each in OPERATIONS]
    text = "".join(map(token_of, (APPENDED, *reversed(TOGETHER))))
    swapped = _event(TOGETHER[0], "".join(map(token_of, reversed(TOGETHER))), len(TEXT))
    entries = [START, *EVENTS[:3], swapped, EVENTS[4]]
    assert _found(_history(replace(SHOWN, text=text), entries, operations)) == set()
    assert "wrong text" in _found(_history(replace(SHOWN, text=text), entries))


def test_changes_name_what_everybody_sees() -> None:
    removed = Change("reaction", 3, "ann", emoji="+", remove=True)
    assert removed.payload == "reaction 3 ann + removed"
    assert Change("edited", 3, "ann", name="x").payload == "edited 3 ann"
