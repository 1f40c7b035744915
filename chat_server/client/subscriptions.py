"""All subscriptions of one client, and the task that resumes them."""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NoReturn

from ..events import Position
from ..protocol.commands import Unsubscribe
from ..protocol.errors import AlreadySubscribed, RateLimited, TooManyTopics
from ..protocol.messages import Error
from .codec import ClientCodec, Done
from .connection import Connection, Push
from .ending import retry_delay
from .errors import ClientError, CommandFailed, ConnectionLost, NotConnected, failure
from .events import (
    Appended,
    Deleted,
    Edited,
    Event,
    Gap,
    Join,
    Leave,
    Message,
    Other,
    Presence,
    Reaction,
    Read,
    Signal,
)
from .flow import Flow
from .reconnector import Reconnector
from .subscription import Accepted, Subscription, SubscriptionState

MAX_RESUMES_AT_ONCE = 16
"""Subscriptions resumed concurrently on a new connection. All at once would exceed the server's
burst limit, and compete with the application's own commands.
"""

MAX_UNSUBSCRIBES_AT_ONCE = 4
"""Topics unsubscribed concurrently, for the same reason."""

_EVENTS: Mapping[str, type[Event]] = MappingProxyType(
    {
        "message": Message,
        "edited": Edited,
        "appended": Appended,
        "deleted": Deleted,
        "reaction": Reaction,
        "signal": Signal,
        "read": Read,
        "join": Join,
        "leave": Leave,
        "presence": Presence,
        "gap": Gap,
    }
)


class Subscriptions:
    """The subscriptions of one client by topic; the `PushHandler` of its reconnector."""

    def __init__(
        self,
        reconnector: Reconnector,
        codec: ClientCodec,
        flow: Flow,
        on_signal: Callable[[Signal], None],
    ) -> None:
        self._reconnector = reconnector
        self._codec = codec
        self._on_signal = on_signal
        self._flow = flow
        self._by_topic: dict[str, Subscription] = {}
        self._needed = asyncio.Event()
        self._leaving: set[Subscription] = set()  # the server may still count these subscriptions
        self._to_leave: asyncio.Queue[Subscription] = asyncio.Queue()

    # For subscriptions ---------------------------------------------------------------------

    async def attach(self, subscription: Subscription) -> None:
        """Subscribe for the first time.

        Raises:
            CommandFailed: the server refused, or this client is subscribed to the topic already.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer.
        """
        connection = self._reconnector.connection()
        if subscription.topic in self._by_topic:
            raise CommandFailed(AlreadySubscribed.code, "this client is subscribed to the topic")
        self._by_topic[subscription.topic] = subscription
        try:
            await self._subscribe_patiently(connection, subscription)
        except CommandFailed as error:
            self._drop(subscription, error)
            raise
        except (TypeError, ValueError):  # The command could not be encoded, so nothing was sent.
            self._drop(subscription)
            raise
        except BaseException:
            self.detach(subscription)
            raise

    async def _subscribe_patiently(
        self, connection: Connection, subscription: Subscription
    ) -> None:
        """Subscribe; retry after transient refusals."""
        refusals = 0
        while True:
            try:
                await self._subscribe(connection, subscription)
                return
            except CommandFailed as error:
                if error.code != RateLimited.code and not self._is_leaving_room(error):
                    raise
                await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1

    def detach(self, subscription: Subscription) -> None:
        """Unsubscribe, without waiting for the server's answer."""
        subscription.end()
        subscription.clear()
        if self._by_topic.get(subscription.topic) is subscription:
            del self._by_topic[subscription.topic]
            if self._reconnector.online:
                # Tell the server in any case: the subscription may be in the middle of a resume.
                self._leaving.add(subscription)
                self._to_leave.put_nowait(subscription)

    def _is_leaving_room(self, error: CommandFailed) -> bool:
        """Return True if subscriptions that are ending occupy the room of another."""
        return error.code == TooManyTopics.code and bool(self._leaving)

    def resume_soon(self) -> None:
        """Wake the task that resumes subscriptions."""
        self._needed.set()

    # For the reconnector -------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Pass an event to its subscription."""
        subscription = self._by_topic.get(push.envelope.topic or "")
        if subscription is None:
            return
        if push.envelope.type == "error":
            self._on_error(subscription, self._codec.decode(push.payload, Error))
        else:
            event = self._event(push)
            if isinstance(event, Signal):
                self._on_signal(event)
            subscription.offer(event, len(push.payload))

    def on_lost(self) -> None:
        """Mark all subscriptions as unknown to the server."""
        self._leaving.clear()
        self._to_leave = asyncio.Queue()
        for subscription in self._by_topic.values():
            subscription.lost()
        self._needed.set()  # also for subscriptions in the middle of a resume

    def on_end(self, error: ClientError | None) -> None:
        """End all subscriptions."""
        for subscription in self._by_topic.values():
            subscription.end(error)
        self._by_topic.clear()

    def position(self, topic: str) -> Position | None:
        """Return the position of a topic's subscription; None without a subscription."""
        subscription = self._by_topic.get(topic)
        return None if subscription is None else subscription.received

    async def keep(self, connection: Connection) -> NoReturn:
        """Resume every subscription that is not live, as soon as there is room."""
        slots = asyncio.Semaphore(MAX_RESUMES_AT_ONCE)
        resuming: set[Subscription] = set()

        async def resume(subscription: Subscription) -> None:
            try:
                await self._resume(connection, subscription, slots)
            finally:
                resuming.discard(subscription)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(MAX_UNSUBSCRIBES_AT_ONCE):
                tasks.create_task(self._leave(connection, self._to_leave))
            while True:
                await self._needed.wait()
                await self._flow.has_room()
                self._needed.clear()
                for subscription in self._by_topic.values():
                    if subscription.needed and subscription not in resuming:
                        resuming.add(subscription)
                        tasks.create_task(resume(subscription))

    async def _leave(
        self, connection: Connection, subscriptions: "asyncio.Queue[Subscription]"
    ) -> NoReturn:
        """Unsubscribe from one topic after the other; retry each until the server has done so."""
        while True:
            subscription = await subscriptions.get()
            try:
                await self._unsubscribe(connection, subscription)
            except (CommandFailed, NotConnected, ConnectionLost):
                pass  # the server does not know the subscription
            finally:
                self._leaving.discard(subscription)

    async def _unsubscribe(self, connection: Connection, subscription: Subscription) -> None:
        refusals = 0
        while subscription.topic not in self._by_topic:  # else this ends the next
            try:
                await connection.command(Unsubscribe(topic=subscription.topic), Done)
                return
            except CommandFailed as error:
                if not error.transient:
                    raise
                await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1

    async def _resume(
        self, connection: Connection, subscription: Subscription, slots: asyncio.Semaphore
    ) -> None:
        """Resume a subscription, until the subscription is live or the connection has ended."""
        refusals = 0
        while subscription.needed:
            try:
                async with slots:
                    await self._flow.has_room()
                    if subscription.needed:
                        await self._subscribe(connection, subscription)
            except CommandFailed as error:
                if not error.transient and not self._is_leaving_room(error):
                    self._drop(subscription, error)
                    return
                # Each waits separately: a topic that the store cannot read blocks no other topic.
                await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1
            except (NotConnected, ConnectionLost):
                return  # the next connection will resume the subscription

    async def _subscribe(self, connection: Connection, subscription: Subscription) -> None:
        stale = subscription.state is SubscriptionState.BEHIND
        while True:
            if stale:
                await connection.command(Unsubscribe(topic=subscription.topic), Done)
                subscription.lost()
                if subscription.state is SubscriptionState.ENDED:
                    return
            try:
                await connection.command(
                    subscription.request(), Accepted, then=subscription.accepted
                )
                return
            except CommandFailed as error:
                # The server may have refused to end an earlier subscription.
                if stale or error.code != AlreadySubscribed.code:
                    raise
                stale = True

    def _on_error(self, subscription: Subscription, error: Error) -> None:
        """Handle an error by which the server ended a subscription."""
        failed = failure(error)
        if failed.transient:
            subscription.lost()
        elif subscription.state is SubscriptionState.LIVE and error.code != "not_subscribed":
            self._drop(subscription, failed)

    def _drop(self, subscription: Subscription, error: CommandFailed | None = None) -> None:
        if self._by_topic.get(subscription.topic) is subscription:
            del self._by_topic[subscription.topic]
        subscription.end(error)

    def _event(self, push: Push) -> Event:
        envelope, payload = push
        kind = _EVENTS.get(envelope.type)
        if kind is not None:
            return self._codec.decode(payload, kind)
        fields = self._codec.decode(payload, dict)
        return Other(
            type=envelope.type,
            topic=envelope.topic or "",
            # An event that changes a message is stored. The `seq` of another event may not be its
            # own.
            seq=envelope.seq if "target" in fields else None,
            fields=fields,
        )
