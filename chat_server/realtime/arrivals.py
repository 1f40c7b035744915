"""How fast connections may come to a worker, and subscriptions to its topics."""

from ..clock import Clock
from ..rates import Rate
from ..settings import LimitSettings
from .limits import UserRates


class Arrivals:
    """The rates of connects and joins; each worker counts for itself.

    Args:
        limits: the rates; an empty rate is no limit.
        clock: tells the time.

    Attributes:
        limits_joins: False if `join` never refuses anything.
    """

    def __init__(self, limits: LimitSettings, clock: Clock) -> None:
        self._clock = clock
        self._from_address = _rates(limits.connects_per_address)
        self._of_user = _rates(limits.connects_per_user)
        self._joins_of_user = _rates(limits.joins_per_user)
        self._joins_of_topic = _rates(limits.joins_per_topic)
        # `join` is called for every topic of a resume. Most servers have no rate of joins, and skip
        # it.
        self.limits_joins = bool(self._joins_of_user or self._joins_of_topic)

    @property
    def refused(self) -> dict[str, int]:
        """Number of refused connections and joins."""
        connects, joins = (
            sum(rates.refused for rates in pair if rates is not None)
            for pair in (
                (self._from_address, self._of_user),
                (self._joins_of_user, self._joins_of_topic),
            )
        )
        return {"connects": connects, "joins": joins}

    def connect(self, address: str) -> None:
        """Count a connection of an address.

        Raises:
            RateLimited: too many connections come from the address.
        """
        self._count(self._from_address, address, "too many connects of this address")

    def welcome(self, user: str, factor: float) -> None:
        """Count a connection of a user, whose rates are `factor` times the usual ones.

        Raises:
            RateLimited: the user connects too often.
        """
        self._count(self._of_user, user, "too many connects of this user", 1 / factor)

    def join(self, user: str, topic: str, factor: float) -> None:
        """Count a subscription.

        Raises:
            RateLimited: the user subscribes too often, or the topic has too many new subscribers.
        """
        what = "topic: too many joins"
        self._count(self._joins_of_user, user, f"{what} of yours", 1 / factor)
        self._count(self._joins_of_topic, topic, f"{what} of all users")

    def _count(self, rates: UserRates | None, name: str, what: str, cost: float = 1.0) -> None:
        if rates is not None:
            rates.acquire(name, self._clock.monotonic(), cost, what)


def _rates(text: str) -> UserRates | None:
    rate = Rate.parse(text)
    return None if rate is None else UserRates(rate.count / rate.seconds, rate.count)
