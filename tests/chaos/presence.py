"""Who is in a topic: what watchers believe of it, held against who is truly connected. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from .violation import Violation


class Page(Struct, frozen=True):
    """All who are in a topic, as an answer of the server lists them.

    Args:
        users: in the order of the answer, each with the number of connections.
        count: of users, as the answer has it.
        connections: of all of them, as the answer has it.
    """

    users: list[tuple[str, int]]
    count: int
    connections: int


def page_of(answer: Mapping[str, Any]) -> Page:
    """Return the page in an answer, which has to be the only one."""
    assert not answer["more"], "so many users are never there"
    users = [(each["user"], each["connections"]) for each in answer["users"]]
    return Page(users, answer["count"], answer["connections"])


def changes_of(push: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return who came and who went by a push; nobody if it is no push of presence."""
    if push["type"] == "join":
        return [push["user"]], []
    if push["type"] == "leave":
        return [], [push["user"]]
    if push["type"] == "presence":
        return [each["user"] for each in push["joined"]], [each["user"] for each in push["left"]]
    return [], []


def fold(present: set[str], pushes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return who is there once all of these pushes have been applied."""
    for push in pushes:
        joined, left = changes_of(push)
        present = (present | set(joined)) - set(left)
    return present


class Sighting(Struct, frozen=True):
    """What one watcher knows of its topic at some time.

    Args:
        believed: who is there by the page and the pushes since; None while a page is on its way.
        listed: the latest answer to the command `presence`, None if there was none.
    """

    topic: str
    watcher: str
    believed: set[str] | None
    listed: Page | None


def check_presence(
    sightings: Sequence[Sighting], connected: Mapping[str, Counter[str]]
) -> Iterator[Violation]:
    """Yield where watchers do not know who is there.

    Args:
        sightings: of all watchers.
        connected: by topic the users who are there, with the number of their connections.
    """
    for seen in sightings:
        here = connected[seen.topic]
        if seen.believed != set(here):
            told = "nothing" if seen.believed is None else _names(seen.believed)
            detail = f"it was told of {told}; there are {_names(here)}"
            yield Violation("wrong presence", seen.topic, 0, seen.watcher, detail)
        if seen.listed != Page(sorted(here.items()), len(here), here.total()):
            detail = f"it was answered {seen.listed}; there are {sorted(here.items())}"
            yield Violation("wrong page", seen.topic, 0, seen.watcher, detail)


def check_page(topic: str, watcher: str, page: Page) -> Iterator[Violation]:
    """Yield users who are twice on a page; that holds at any time."""
    counts = Counter(user for user, _ in page.users)
    for user, count in counts.items():
        if count > 1:
            yield Violation("present twice", topic, 0, watcher, f"{user} is listed {count} times")


def _names(users: set[str] | Counter[str]) -> str:
    return ", ".join(sorted(users)) or "nobody"
