"""All subscriptions of one client, and the job of making them live again."""

import asyncio
from typing import NoReturn

from ..protocol.errors import AlreadySubscribed
from ..protocol.messages import Error, Gap, Message, SignalPush, Unsubscribe
from .connection import Connection, Push
from .errors import ClientError, CommandFailed, ConnectionLost, NotConnected
from .events import Event, Other
from .flow import Flow
from .link import Link
from .subscription import Accepted, State, Subscription
from .wire import Done, Wire

RETRY_SECONDS = 1.0
"""How long to wait after a refusal that may pass but does not say when."""

_EVENTS: dict[str, type[Message] | type[SignalPush] | type[Gap]] = {
    "message": Message,
    "signal": SignalPush,
    "gap": Gap,
}
_STORED = frozenset({"edited", "deleted", "reaction"})


class Registry:
    """The subscriptions of one client by topic; serves a `Link` as its user."""

    def __init__(self, link: Link, wire: Wire, flow: Flow) -> None:
        self._link = link
        self._wire = wire
        self._flow = flow
        self._by_topic: dict[str, Subscription] = {}
        self._needed = asyncio.Event()

    # For subscriptions ---------------------------------------------------------------------

    async def attach(self, subscription: Subscription) -> None:
        """Subscribe for the first time.

        Raises:
            CommandFailed: the server refused, or this client is subscribed to the topic already.
            NotConnected: there is no connection at the moment.
            ConnectionLost: it broke before the answer came.
        """
        connection = self._link.connection()
        if subscription.topic in self._by_topic:
            raise CommandFailed(AlreadySubscribed.code, "this client is subscribed to the topic")
        self._by_topic[subscription.topic] = subscription
        try:
            await self._subscribe(connection, subscription)
        except CommandFailed as error:
            self._drop(subscription, error)
            raise
        except BaseException:
            self.detach(subscription)
            raise

    def detach(self, subscription: Subscription) -> None:
        """Unsubscribe, without waiting for the server's answer."""
        subscription.end()
        subscription.clear()
        if self._by_topic.get(subscription.topic) is subscription:
            del self._by_topic[subscription.topic]
            if self._link.online:
                # It may be about to be resumed just now, so the server is told in any case.
                self._link.connection().post(Unsubscribe(topic=subscription.topic))

    def resume_soon(self) -> None:
        """Note that a subscription must be asked for again."""
        self._needed.set()

    # For the link --------------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Give an event to its subscription."""
        subscription = self._by_topic.get(push.envelope.topic or "")
        if subscription is None:
            return
        if push.envelope.type == "error":
            self._on_error(subscription, self._wire.decode(push.frame, Error))
        else:
            subscription.offer(self._event(push))

    def on_lost(self) -> None:
        """Note that the server knows no subscription any more."""
        for subscription in self._by_topic.values():
            subscription.lost()
        self._needed.set()  # also for those that were just being resumed

    def on_end(self, error: ClientError | None) -> None:
        """End all subscriptions."""
        for subscription in self._by_topic.values():
            subscription.end(error)
        self._by_topic.clear()

    async def keep(self, connection: Connection) -> NoReturn:
        """Ask again for every subscription that is not live, as soon as there is room."""
        while True:
            await self._needed.wait()
            await self._flow.has_room()
            self._needed.clear()
            waits = await asyncio.gather(
                *(
                    self._resume(connection, subscription)
                    for subscription in list(self._by_topic.values())
                    if subscription.state in (State.BEHIND, State.DETACHED)
                )
            )
            if any(waits):
                await asyncio.sleep(max(waits))
                self._needed.set()

    async def _resume(self, connection: Connection, subscription: Subscription) -> float:
        """Ask again for one; return the seconds after which to try once more, or 0."""
        try:
            await self._subscribe(connection, subscription)
        except CommandFailed as error:
            if not error.transient:
                self._drop(subscription, error)
                return 0.0
            return (error.retry_in_ms or RETRY_SECONDS * 1000) / 1000
        except (NotConnected, ConnectionLost):
            pass  # there is no more to be done on this connection
        return 0.0

    async def _subscribe(self, connection: Connection, subscription: Subscription) -> None:
        stale = subscription.state is State.BEHIND
        while True:
            if stale:
                await connection.command(Unsubscribe(topic=subscription.topic), Done)
                subscription.lost()
                if subscription.state is State.ENDED:
                    return
            try:
                await connection.command(
                    subscription.request(), Accepted, then=subscription.accepted
                )
                return
            except CommandFailed as error:
                # The server may have refused to hear of the end of an earlier subscription.
                if stale or error.code != AlreadySubscribed.code:
                    raise
                stale = True

    def _on_error(self, subscription: Subscription, error: Error) -> None:
        """Take the news that the server ended a subscription."""
        failure = CommandFailed(error.code, error.message, error.retry_in_ms)
        if failure.transient:
            subscription.lost()
        elif subscription.state is State.LIVE and error.code != "not_subscribed":
            self._drop(subscription, failure)

    def _drop(self, subscription: Subscription, error: CommandFailed) -> None:
        if self._by_topic.get(subscription.topic) is subscription:
            del self._by_topic[subscription.topic]
        subscription.end(error)

    def _event(self, push: Push) -> Event:
        envelope, frame = push
        kind = _EVENTS.get(envelope.type)
        if kind is not None:
            return self._wire.decode(frame, kind)
        return Other(
            type=envelope.type,
            topic=envelope.topic or "",
            seq=envelope.seq if envelope.type in _STORED else None,
            fields=self._wire.decode(frame, dict),
        )
