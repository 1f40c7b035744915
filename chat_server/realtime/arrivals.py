"""Rate limits for new connections of a worker, and for new subscriptions to its topics."""

from typing import Final

from ..clock import Clock
from ..protocol.errors import RateLimited
from ..rates import Rate
from ..settings import LimitSettings
from .limits import UserRates

_OF_ADDRESS: Final = "too many connects of this address"
_OF_USER: Final = "too many connects of this user"


class Arrivals:
    """The rates of connects and joins; each worker counts for itself.

    Args:
        limits: the rates; an empty rate is no limit.
        clock: tells the time.

    Attributes:
        limits_joins: False if `join` never refuses.
    """

    def __init__(self, limits: LimitSettings, clock: Clock) -> None:
        self._clock = clock
        self._from_address = _rates(limits, "connects_per_address")
        # A page of a foreign origin must not use up the rates of its visitors' addresses.
        self._from_foreign_pages = _rates(limits, "connects_per_address")
        self._of_user = _rates(limits, "connects_per_user")
        self._joins_of_user = _rates(limits, "joins_per_user")
        self._joins_of_topic = _rates(limits, "joins_per_topic")
        # `join` is called for every topic of a resume. Most servers have no rate of joins, and skip
        # it.
        self.limits_joins = bool(self._joins_of_user or self._joins_of_topic)

    def find(self, address: str, *, foreign: bool = False) -> RateLimited | None:
        """Return the refusal of an address that connects too often, before the token is checked.

        Args:
            address: the client's address.
            foreign: True for a handshake of a page that may not connect.
        """
        rates = self._from_foreign_pages if foreign else self._from_address
        return None if rates is None else rates.find(address, self._clock.monotonic(), _OF_ADDRESS)

    def find_user(self, user: str) -> RateLimited | None:
        """Return the refusal of a user who is denied and connects too often."""
        rates = self._of_user if user else None
        return None if rates is None else rates.find(user, self._clock.monotonic(), _OF_USER)

    def knock(self, address: str, user: str = "", *, foreign: bool = False) -> None:
        """Count a refused handshake.

        Args:
            address: the client's address; empty if already counted.
            user: the user of the handshake's token; empty unless the user is certain.
            foreign: True for a handshake of a page that may not connect.
        """
        now = self._clock.monotonic()
        from_address = self._from_foreign_pages if foreign else self._from_address
        for rates, name in ((from_address, address), (self._of_user, user)):
            if rates is not None and name:
                rates.charge(name, now, 1.0)

    def connect(self, address: str) -> None:
        """Count a connection of an address.

        Raises:
            RateLimited: too many connections come from the address.
        """
        self._count(self._from_address, address, _OF_ADDRESS)

    def welcome(self, user: str, factor: float) -> None:
        """Count a connection of a user; `factor` multiplies the rates of the user.

        Raises:
            RateLimited: the user connects too often.
        """
        self._count(self._of_user, user, _OF_USER, 1 / factor)

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


def _rates(limits: LimitSettings, name: str) -> UserRates | None:
    rate = Rate.parse(getattr(limits, name))
    return None if rate is None else UserRates(rate.count / rate.seconds, rate.count, name)
