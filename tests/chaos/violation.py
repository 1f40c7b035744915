"""A promise that was not kept."""

from msgspec import Struct


class Violation(Struct, frozen=True, omit_defaults=True):
    """A promise that was not kept.

    Args:
        kind: which one.
        seq: where in the topic's order, 0 if nowhere.
        subscriber: who saw it, "" if it does not depend on one.
    """

    kind: str
    topic: str
    seq: int
    subscriber: str
    detail: str
