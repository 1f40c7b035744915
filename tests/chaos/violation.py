"""A broken promise."""

from msgspec import Struct


class Violation(Struct, frozen=True, omit_defaults=True):
    """A broken promise.

    Args:
        kind: the kind of promise.
        seq: the seq in the topic; 0 without one.
        subscriber: the observer; "" if the violation does not depend on an observer.
    """

    kind: str
    topic: str
    seq: int
    subscriber: str
    detail: str
