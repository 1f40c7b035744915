"""Identifies the clients of requests, and limits their number per address."""

import logging
from typing import Final

from quart import Request, Websocket, request

from ..addresses import client_address
from ..auth.bearer import bearer_token
from ..logs import LogThrottle, shown
from ..protocol.errors import Forbidden
from ..realtime.limits import UserRates
from ..service.actor import Actor
from ..service.service import Service
from ..settings import is_same_host, origin_pattern

logger = logging.getLogger(__name__)

ORIGIN_HINT: Final = (
    "pages of another host need http.allowed_origins; if it is the same host, the proxy must"
    " pass on Host: see docs/proxies.md"
)

REQUESTS_PER_SECOND = 10.0
REQUESTS_AT_ONCE = 100
"""Requests about accounts from one network address to one worker: burst, refilled per second."""


def address_of(incoming: Request | Websocket, trusted_hops: int) -> str:
    """Return the network address of a request's client.

    Args:
        incoming: the request.
        trusted_hops: number of proxies in front whose word on the address counts.
    """
    peer = incoming.scope.get("client")
    forwarded_for = incoming.headers.getlist("X-Forwarded-For")
    return client_address(peer and peer[0], forwarded_for, trusted_hops)


async def actor_of_request(service: Service) -> Actor:
    """Return the actor of the current request's token.

    Raises:
        Unauthorized: the request has no valid token.
        Unavailable: the keys of the token's issuer are not known.
    """
    address = address_of(request, service.node.settings.server.trusted_proxy_hops)
    token = bearer_token(request.headers.getlist("Authorization"))
    return await service.authenticate(token, address)


class Callers:
    """Identifies the client of the current request, and limits the requests of each address.

    Args:
        service: verifies tokens.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clock = service.node.clock
        self._hops = service.node.settings.server.trusted_proxy_hops
        self._origins = service.node.settings.http.allowed_origins
        self._rates = UserRates(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        self._throttle = LogThrottle()

    def admit(self) -> str:
        """Count the current request, and return its network address.

        Raises:
            Forbidden: the request comes from a page of a foreign origin. Such a page could use up
                its visitors' limit with attempts to sign in.
            RateLimited: the address has sent too many requests.
        """
        address = address_of(request, self._hops)
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_allowed(origin):
            self._note_origin(address, origin)
            raise Forbidden("origin: is not allowed here")
        self._rates.acquire(address, self._clock.monotonic())
        return address

    def _note_origin(self, address: str, origin: str) -> None:
        if self._throttle.due("origin"):
            host = shown(request.headers.get("Host"))
            logger.warning(
                "a page's request was refused with 403: origin: is not allowed here; %s",
                ORIGIN_HINT,
                extra={"address": address, "origin": shown(origin), "host": host},
            )

    def _is_allowed(self, origin: str) -> bool:
        if is_same_host(origin, request.headers.get("Host", "")):
            return True
        return any(origin_pattern(text).match(origin) for text in self._origins)

    async def user(self) -> str:
        """Return the user of the current request's token.

        Raises:
            Unauthorized: the request has no valid token.
            RateLimited: the user has sent too many messages and requests.
        """
        actor = await actor_of_request(self._service)
        self._service.limit_requests(actor)
        return actor.user
