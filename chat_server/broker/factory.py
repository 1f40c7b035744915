"""The choice of the broker."""

from ..clock import Clock
from ..metrics.numbers import StoreNumbers
from ..realtime.ports import Broker
from ..settings import Settings, SettingsError
from .memory import MemoryBroker
from .redis.urls import parse_redis_url


def make_broker(settings: Settings, clock: Clock, numbers: StoreNumbers | None = None) -> Broker:
    """Return the broker for `redis.url`.

    Args:
        settings: the server's settings.
        clock: the server's clock.
        numbers: counters of the commands to Redis.

    Raises:
        SettingsError: the URL has options that redis-py does not know.
    """
    if not settings.redis.url:
        return MemoryBroker(settings.broker, clock)
    # Imported here, because a server without Redis starts sooner without redis-py.
    from .redis.broker import RedisBroker
    from .redis.cluster import ClusterBroker

    try:
        several = parse_redis_url(settings.redis.url)
        if several is not None and several.kind == "cluster":
            return ClusterBroker(settings.redis, settings.broker, numbers)
        return RedisBroker(settings.redis, settings.broker, numbers=numbers)
    except ValueError as error:
        raise SettingsError(str(error)) from None
