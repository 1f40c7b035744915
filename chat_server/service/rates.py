"""The charges of commands against the rates of their topics."""

from collections.abc import Callable
from math import inf
from typing import Final

from msgspec import Struct

from ..events import Kind
from ..rates import Charge, Rate
from ..settings import Namespace, Settings
from .actor import Actor

Charges = Callable[[Actor, str, Kind, int], tuple[Charge, ...]]
"""Takes the actor, the topic, the kind of the command's event and the bytes of its data."""

_COUNTED: Final = {
    Kind.MESSAGE: ("messages", "bytes"),
    Kind.EDITED: ("bytes",),
    Kind.APPENDED: ("bytes",),
    Kind.REACTION: ("reactions",),
}


class _Limit(Struct, frozen=True):
    """A rate of a namespace; `by_user` is True for a rate per user, False for one per topic."""

    what: str
    by_user: bool
    rate: Rate


def charges(settings: Settings) -> Charges:
    """Return the function from a command to its charges against the rates of its topic.

    Moderators have no rate per user. The application that embeds the server has no rate at all.
    If no namespace has a rate, the function does not look at the topic.
    """
    named = {name: _limits(namespace) for name, namespace in settings.namespaces.items()}
    rest = _limits(settings.namespace(""))

    def of_command(actor: Actor, topic: str, kind: Kind, size: int) -> tuple[Charge, ...]:
        limits = named.get(topic.partition(":")[0], rest)
        if not limits or actor.rate_factor == inf:
            return ()
        counted = _COUNTED.get(kind, ())
        moderates = actor.may("moderate", topic)
        return tuple(
            _charge(limit, actor, size)
            for limit in limits
            if limit.what in counted and not (limit.by_user and moderates)
        )

    return of_command if rest or any(named.values()) else lambda *_: ()


def _limits(namespace: Namespace) -> tuple[_Limit, ...]:
    limits = []
    for what in ("messages", "bytes", "reactions"):
        for whose in ("user", "topic"):
            rate = Rate.parse(getattr(namespace, f"{what}_per_{whose}"))
            if rate is not None:
                limits.append(_Limit(what, whose == "user", rate))
    return tuple(limits)


def _charge(limit: _Limit, actor: Actor, size: int) -> Charge:
    window = limit.rate.seconds * 1_000
    count, name = float(limit.rate.count), limit.what
    if limit.by_user:
        count *= actor.rate_factor
        name += f":{actor.user}"
    interval = window / count
    # With a factor below 1 the window may be too short for one command: then the window grows.
    return Charge(
        name,
        interval,
        max(window, interval),
        size if limit.what == "bytes" else 1,
        f"too many {limit.what} of {'yours' if limit.by_user else 'all users'} here",
        f"{limit.what}_per_{'user' if limit.by_user else 'topic'}",
    )
