"""Who sends a request about accounts."""

from quart import request

from ..addresses import client_address
from ..auth.bearer import bearer_token
from ..realtime.limits import UserRates
from ..service.service import Service

REQUESTS_PER_SECOND = 10.0
REQUESTS_AT_ONCE = 100
"""Requests about accounts from one network address to one worker."""


class Callers:
    """Knows who sends the current request, and bounds how many an address sends.

    Args:
        service: verifies tokens.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clock = service.node.clock
        self._hops = service.node.settings.server.trusted_proxy_hops
        self._rates = UserRates(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)

    def admit(self) -> str:
        """Return the network address of the current request, under which it is counted.

        Raises:
            RateLimited: too many requests come from there.
        """
        peer = request.scope.get("client")
        forwarded_for = request.headers.getlist("X-Forwarded-For")
        address = client_address(peer and peer[0], forwarded_for, self._hops)
        self._rates.acquire(address, self._clock.monotonic())
        return address

    async def user(self) -> str:
        """Return the user of the current request's token.

        Raises:
            Unauthorized: there is no valid token.
            RateLimited: the user has sent too many messages and requests.
        """
        token = bearer_token(request.headers.getlist("Authorization"))
        actor = await self._service.authenticate(token)
        self._service.limit_requests(actor)
        return actor.user
