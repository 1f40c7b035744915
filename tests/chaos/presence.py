"""Presence in a topic: compares the watchers' view with the real connections. Pure functions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from .violation import Violation


class Page(Struct, frozen=True):
    """All users in a topic, according to an answer of the server.

    Args:
        users: in the order of the answer, each with the number of connections.
        count: number of users in the answer.
        connections: number of all their connections in the answer.
    """

    users: list[tuple[str, int]]
    count: int
    connections: int


def page_of(answer: Mapping[str, Any]) -> Page:
    """Return the page in an answer; the answer must have only one page."""
    assert not answer["more"], "so many users are never there"
    users = [(each["user"], each["connections"]) for each in answer["users"]]
    return Page(users, answer["count"], answer["connections"])


def changes_of(push: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the arrivals and departures in a push; empty lists for another push."""
    if push["type"] == "join":
        return [push["user"]], []
    if push["type"] == "leave":
        return [], [push["user"]]
    if push["type"] == "presence":
        return [each["user"] for each in push["joined"]], [each["user"] for each in push["left"]]
    return [], []


def fold(present: set[str], pushes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the users present after these pushes."""
    for push in pushes:
        joined, left = changes_of(push)
        present = (present | set(joined)) - set(left)
    return present


class Sighting(Struct, frozen=True):
    """The view of one watcher of its topic at some time.

    Args:
        believed: the users according to the page and later pushes; None while a page is requested.
        listed: the latest answer to the command `presence`; None without one.
    """

    topic: str
    watcher: str
    believed: set[str] | None
    listed: Page | None


def check_presence(
    sightings: Sequence[Sighting], connected: Mapping[str, Counter[str]]
) -> Iterator[Violation]:
    """Yield wrong views of watchers.

    Args:
        sightings: the views of all watchers.
        connected: by topic the users present, with the number of their connections.
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
    """Yield users listed twice on a page, a violation at any time."""
    counts = Counter(user for user, _ in page.users)
    for user, count in counts.items():
        if count > 1:
            yield Violation("present twice", topic, 0, watcher, f"{user} is listed {count} times")


def _names(users: set[str] | Counter[str]) -> str:
    return ", ".join(sorted(users)) or "nobody"
