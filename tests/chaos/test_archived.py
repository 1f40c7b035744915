"""An archive that forgets, or changes something, is found out."""

from msgspec.structs import replace

from .archived import Archive, compare
from .history import Ack

MESSAGE = Ack("one", "room:0", "e", 1, "first")
CHANGE = Ack("one", "room:0", "e", 2, "edited 1 one", target=1)
WHOLE = Archive({}, {("room:0", 1): "first"}, {("room:0", 2): 1}, 0)


def places(archive: Archive, *acks: Ack) -> list[int]:
    return [violation.seq for violation in compare(archive, acks)]


def test_a_whole_archive_passes() -> None:
    assert places(WHOLE, MESSAGE, CHANGE) == []


def test_what_is_missing_or_changed_is_told() -> None:
    assert places(replace(WHOLE, messages={}), MESSAGE) == [1]
    assert places(replace(WHOLE, messages={("room:0", 1): "another"}), MESSAGE) == [1]
    assert places(replace(WHOLE, changes={}), MESSAGE, CHANGE) == [2]
    assert places(replace(WHOLE, changes={("room:0", 2): 7}), CHANGE) == [2]


def test_a_deleted_message_has_no_changes() -> None:
    deleted = Archive({}, {("room:0", 1): None}, {}, 0)
    assert places(deleted, MESSAGE, CHANGE) == []


def test_other_namespaces_and_repetitions_are_not_looked_at() -> None:
    empty = Archive({}, {}, {}, 0)
    assert places(empty, replace(MESSAGE, topic="short:0"), replace(MESSAGE, duplicate=True)) == []
