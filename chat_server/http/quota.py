"""The headers `RateLimit` and `RateLimit-Policy`: the remaining quota of a user.

The reference is draft-ietf-httpapi-ratelimit-headers-10.
"""

import math

from ..realtime.limits import UserRates
from ..service.actor import Actor

QUOTA_HEADERS = ("RateLimit-Policy", "RateLimit")


def quota_headers(rates: UserRates, actor: Actor, now: float) -> dict[str, str]:
    """Return the headers for a request of an actor's.

    Args:
        rates: messages and requests, by user.
        actor: the sender of the request.
        now: monotonic seconds.
    """
    most, window = rates.policy
    left, seconds = rates.bucket(actor.user, now).left(now)
    factor = actor.rate_factor
    policy = f'"messages";q={math.floor(most * factor)};w={math.ceil(window)}'
    quota = f'"messages";r={max(0, math.floor(left * factor))};t={math.ceil(seconds)}'
    return dict(zip(QUOTA_HEADERS, (policy, quota), strict=True))
