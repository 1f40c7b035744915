"""Carries out orders and answers questions of operators: checks, store, workers, audit log."""

import heapq
import math
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from ..auth.denials import Denial, List
from ..auth.patterns import check_pattern
from ..orders import MAX_ORDERS, Entry, OrderStore
from ..protocol.commands import Delete
from ..protocol.errors import BadRequest, NotFound, TooLarge, Unavailable
from ..protocol.messages import ChangeOk, User
from ..protocol.topics import check_topic
from ..service.actor import Application
from ..service.service import Service
from .audit import ACTIONS, record
from .commands import (
    Announce,
    AnyOrder,
    Deny,
    Disconnect,
    Reread,
    Unsubscribe,
    entry_of,
    withdrawal,
)
from .exchange import Exchange
from .explaining import Asked, explain_here
from .grants import Operator
from .hands import Hands
from .keeper import Keeper
from .looking import Looking, merge
from .purging import Archived, History
from .questions import (
    BlocksQuery,
    ConnectionRow,
    ConnectionsOk,
    ConnectionsQuery,
    ConnectionView,
    DenialRow,
    DenialsOk,
    Explained,
    ExplainQuery,
    NodeRow,
    NodesOk,
    Obeyed,
    TopicRow,
    TopicsOk,
    TopicsQuery,
    WorkerStory,
)
from .wire import Done, Found, Obey, Session, Topics, rows_of

ONCE_SECONDS: Final = 300.0
"""Seconds that the store keeps an order that is carried out once, for unreachable workers."""


class Office:
    """Gives a worker the orders and questions of operators.

    Args:
        service: the worker's service.
        store: keeps the orders.
        archive: keeps events for longer than the broker, if configured.
    """

    def __init__(
        self, service: Service, store: OrderStore, archive: Archived | None = None
    ) -> None:
        self._service = service
        self._node = node = service.node
        self._store = store
        self._history = History(node.broker, archive)
        self._keeper = Keeper(store, node, Hands(node))
        self._looking = Looking(node, self._keeper)
        self._exchange = Exchange(node.broker, node.name, self._answer, self._keeper.doubt)
        node.hub.others = self._exchange

    async def start(self) -> None:
        """Obey the existing orders, before the worker accepts connections."""
        await self._exchange.start()
        await self._keeper.start()

    async def stop(self) -> None:
        """Stop obeying; the broker must still run."""
        await self._keeper.stop()
        await self._exchange.stop()

    # Orders --------------------------------------------------------------------------------

    async def block(self, operator: Operator, user: str, until: float, reason: str) -> Obeyed:
        """Keep a user out, and close the user's connections.

        Args:
            operator: the operator.
            user: the user.
            until: seconds since 1970.
            reason: the reason, shown to the user.

        Raises:
            Forbidden: the operator may not.
            BadRequest: the user is the operator.
            TooLarge: the store has too many orders.
            Unavailable: the store cannot be reached; nobody is blocked.
        """
        operator.require_everything()
        if user == operator.name:
            raise BadRequest("user: is yourself; an operator cannot block himself")
        return await self._deny(operator, "users", user, until, reason)

    async def revoke(
        self, operator: Operator, name: List, target: str, until: float, reason: str, at: int = 0
    ) -> Obeyed:
        """Revoke tokens, and close their connections.

        Args:
            operator: the operator.
            name: `tokens` by `jti`, `issued` by user, or `keys` by `kid`.
            target: the `jti`, user or `kid`.
            until: seconds since 1970; by then the tokens must have expired.
            reason: the operator's reason.
            at: seconds since 1970; of a user, tokens issued up to then are revoked.

        Raises:
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        operator.require_everything()
        if name == "issued" and (known := await self._find(name, target)) is not None:
            # Revoking last week's tokens must not allow the already revoked ones of this week.
            until, at = max(until, known.until / 1_000), max(at, known.at)
        return await self._deny(operator, name, target, until, reason, at)

    async def close_topic(
        self, operator: Operator, topic: str, until: float, reason: str
    ) -> Obeyed:
        """End all subscriptions to a topic, and forbid its use.

        Args:
            operator: the operator.
            topic: the topic.
            until: seconds since 1970.
            reason: the reason, shown to the subscribers.

        Raises:
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        check_topic(topic)
        operator.require(topic)
        return await self._deny(operator, "topics", topic, until, reason)

    async def allow(self, operator: Operator, name: List, target: str, reason: str) -> Obeyed:
        """Remove a target from a list of denials.

        Args:
            operator: the operator.
            name: the list.
            target: the user, token, key or topic. If the list lacks the target, `already` of the
                answer is true.
            reason: the operator's reason.

        Raises:
            BadRequest: the target is no topic.
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        if name == "topics":
            operator.require(check_topic(target))
        else:
            operator.require_everything()
        denial = await self._find(name, target)
        obeyed = await self._put(withdrawal(name, target, self._now()))
        obeyed.already = denial is None
        self._record(operator, f"un{ACTIONS[name]}", reason, obeyed, **{name: target})
        return obeyed

    async def disconnect(self, operator: Operator, order: Disconnect) -> Obeyed:
        """Close connections; the clients may reconnect.

        Raises:
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        operator.require_everything()
        targets = {"user": order.user, "session": order.session, "address": order.address}
        return _idle(await self._give(operator, "disconnect", order, **targets))

    async def unsubscribe(self, operator: Operator, order: Unsubscribe) -> Obeyed:
        """End subscriptions to a topic.

        Raises:
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        check_topic(order.topic)
        operator.require(order.topic)
        details = {"user": order.user, "topic": order.topic}
        return _idle(await self._give(operator, "unsubscribe", order, **details))

    async def announce(self, operator: Operator, data: Raw, reason: str) -> Obeyed:
        """Send data to every connection.

        Raises:
            Forbidden, TooLarge, Unavailable: as `block`.
        """
        operator.require_everything()
        order = Announce(
            by=operator.name, reason=reason, until=self.once(), data=data, at=self._now()
        )
        return await self._give(operator, "announce", order)

    async def delete(self, operator: Operator, topic: str, seq: int, reason: str) -> ChangeOk:
        """Delete a message's data, whatever the publisher.

        Raises:
            Forbidden: the operator may not.
            NotFound: the topic's history has no such message.
            Gone: the message is already deleted.
            Unavailable: the store cannot be reached.
        """
        check_topic(topic)
        operator.require(topic)
        actor = Application(User(operator.name))
        ok: ChangeOk = await self._service.perform(actor, Delete(topic=topic, seq=seq))
        record(operator, "delete", reason, topic=topic, seq=seq)
        return ok

    async def purge(self, operator: Operator, topic: str, reason: str) -> Obeyed:
        """Forget a topic's history, in the store and in the archive, and tell its subscribers.

        Raises:
            Forbidden: the operator may not.
            TooLarge: the history is forgotten, but the store has too many orders to tell the
                subscribers.
            Unavailable: the history is not forgotten, or only in part, or the subscribers were not
                told. Purging again does no harm.
        """
        check_topic(topic)
        operator.require(topic)
        place, archived = await self._history.purge(topic)
        left = None if archived else "archive"
        # Logged at once: the next steps may fail, and the purge cannot be undone.
        record(operator, "purge", reason, topic=topic, seq=place.seq, left=left)
        order = Reread(by=operator.name, reason=reason, until=self.once(), topic=topic)
        try:
            obeyed = await self._put(entry_of(order, secrets.token_hex(8)))
        except Unavailable as error:
            # The error of the store says that nothing was stored, or does not say that all is gone.
            told = (
                "topic: the store has forgotten it, but subscribers were not told; purge it again"
            )
            raise Unavailable(told) from error
        if not archived:
            raise Unavailable("topic: the store has forgotten it, the archive not; purge it again")
        return obeyed

    def once(self) -> int:
        """Return the end of an order that is carried out once, in milliseconds since 1970."""
        return self._now() + int(ONCE_SECONDS * 1_000)

    async def _deny(
        self, operator: Operator, name: List, target: str, until: float, reason: str, at: int = 0
    ) -> Obeyed:
        order = Deny(
            by=operator.name,
            reason=reason,
            until=math.floor(until * 1_000),
            list=name,
            target=target,
            at=at,
        )
        known = await self._find(name, target)
        obeyed = await self._put(entry_of(order, ""))
        obeyed.already = known is not None
        obeyed.until = math.floor(until)
        self._record(operator, ACTIONS[name], reason, obeyed, **{name: target}, until=obeyed.until)
        return obeyed

    async def _find(self, name: List, target: str) -> Denial | None:
        # An order that another worker took a moment ago counts.
        await self._keeper.renew()
        return self._node.denials.find(name, target)

    async def _give(
        self, operator: Operator, action: str, order: AnyOrder, **details: object
    ) -> Obeyed:
        obeyed = await self._put(entry_of(order, secrets.token_hex(8)))
        self._record(operator, action, order.reason, obeyed, **details)
        return obeyed

    async def _put(self, entry: Entry) -> Obeyed:
        mark = await self._store.put([entry])
        if mark is None:
            raise TooLarge(f"orders: there are {MAX_ORDERS} already; some must end first")
        # This worker obeys first, and learns which other workers there are.
        await self._keeper.renew()
        nodes = {self._node.name, *self._keeper.nodes}
        try:
            replies = await self._exchange.ask("obey", Obey(mark.era, mark.number), nodes)
        except Unavailable:
            # The order is stored, and every worker finds it by itself.
            replies = {}
        done = [msgspec.json.decode(reply, type=Done) for reply in replies.values()]
        return Obeyed(
            number=mark.number,
            confirmed=sorted(replies),
            missing=sorted(nodes - replies.keys()),
            connections=sum(each.connections for each in done),
            silent=self._silent(nodes - replies.keys()),
        )

    def _record(
        self, operator: Operator, action: str, reason: str, obeyed: Obeyed, **details: object
    ) -> None:
        missing = ",".join(obeyed.missing) or None
        counted = {"connections": obeyed.connections, "missing": missing}
        record(operator, action, reason, **details, **counted)

    # Questions -----------------------------------------------------------------------------

    async def nodes(self, operator: Operator) -> NodesOk:
        """Return the workers.

        Raises:
            Forbidden: the operator may not.
            Unavailable: the other workers cannot be asked.
        """
        operator.require_everything()
        replies, missing = await self._ask("node", None)
        rows = [msgspec.json.decode(reply, type=NodeRow) for reply in replies.values()]
        return NodesOk(sorted(rows, key=lambda row: row.node), missing, self._silent(missing))

    async def connections(self, operator: Operator, query: ConnectionsQuery) -> ConnectionsOk:
        """Return connections of all workers.

        Raises:
            BadRequest: the topic is not well-formed, as a pattern is not.
            Forbidden, Unavailable: as `nodes`.
        """
        if query.topic is not None:
            check_topic(query.topic)
        # An operator who may not see addresses may not probe them with a filter either.
        if query.topic is not None and query.address is None:
            operator.require(query.topic)
        else:
            operator.require_everything()
        replies, missing = await self._ask("connections", query)
        merged = merge(await rows_of(replies, Found[ConnectionRow]), query.limit)
        rows = merged.rows
        if not operator.has_everything:
            rows = [replace(row, address=None) for row in rows]
        return ConnectionsOk(rows, merged.more, missing, self._silent(missing))

    async def connection(self, operator: Operator, session: str) -> ConnectionView:
        """Return everything about a connection.

        Raises:
            Forbidden, Unavailable: as `nodes`; Unavailable also if no worker has the connection and
                some workers did not answer.
            NotFound: no worker has the connection.
        """
        operator.require_everything()
        replies, missing = await self._ask("connection", Session(session))
        for reply in replies.values():
            found = msgspec.json.decode(reply, type=ConnectionView | None)
            if found is not None:
                return found
        if missing:
            raise Unavailable(f"session: is not found, but {', '.join(missing)} did not answer")
        raise NotFound("session: there is no such connection")

    async def topics(self, operator: Operator, query: TopicsQuery) -> TopicsOk:
        """Return topics with subscribers on any worker.

        Raises:
            BadRequest: the pattern is not well-formed.
            Unavailable: as `nodes`.
        """
        if query.topic is not None:
            try:
                check_pattern(query.topic)
            except ValueError as error:
                raise BadRequest(f"topic: {error}") from None
        question = Topics(query, operator.patterns, operator.name)
        replies, missing = await self._ask("topics", question)
        merged = merge(await rows_of(replies, Found[TopicRow]), query.limit)
        found: dict[str, TopicRow] = {}
        for row in merged.rows:
            other = found.get(row.topic, row)
            newest = max(row, other, key=lambda each: each.seq)
            count = row.subscribers + (other.subscribers if other is not row else 0)
            found[row.topic] = replace(newest, subscribers=count)
        return TopicsOk(list(found.values()), merged.more, missing, self._silent(missing))

    async def explain(self, operator: Operator, query: ExplainQuery) -> Explained:
        """Return the fate of an event on all workers.

        Raises:
            BadRequest: the topic is not well-formed.
            Forbidden, Unavailable: as `nodes`.
        """
        topic, seq = check_topic(query.topic), query.seq
        operator.require(topic)
        page = await self._node.log.history(topic, after=seq - 1, limit=1)
        event = next((each for each in page.events if each.seq == seq), None)
        stored: dict[str, Any] = {} if event is None else msgspec.json.decode(event.payload)
        replies, missing = await self._ask("explain", Asked(topic, seq, query.user))
        return Explained(
            topic=topic,
            seq=seq,
            last=page.seq,
            epoch=page.epoch,
            stored=event is not None,
            kind=None if event is None else str(event.kind),
            at=stored.get("at"),
            sender=stored.get("from"),
            workers=[msgspec.json.decode(each, type=WorkerStory) for each in replies.values()],
            missing=missing,
            silent=self._silent(missing),
        )

    def denials(self, operator: Operator, query: BlocksQuery) -> DenialsOk:
        """Return the denials of a list, as this worker knows them.

        Raises:
            Forbidden: the operator may not.
        """
        operator.require_everything()
        denied = self._node.denials.all_of(query.list)
        # With 100,000 denials, names alone hold the loop for 30 ms, whole rows for 150 ms.
        page = heapq.nsmallest(query.limit + 1, (name for name in denied if name > query.after))
        rows = [
            DenialRow(
                target=target,
                until=denied[target].until // 1_000,
                at=denied[target].at,
                by=denied[target].by,
                reason=denied[target].reason,
            )
            for target in page[: query.limit]
        ]
        return DenialsOk(rows, len(page) > query.limit)

    async def _ask(self, kind: str, question: object) -> tuple[Mapping[str, Raw], list[str]]:
        # Otherwise a worker of the last half second would be left out, and not be missed.
        await self._keeper.renew()
        nodes = {self._node.name, *self._keeper.nodes}
        replies = await self._exchange.ask(kind, question, nodes)
        return replies, sorted(nodes - replies.keys())

    def _silent(self, missing: Iterable[str]) -> dict[str, float]:
        """Return the seconds since each given worker was last heard, as of the last read."""
        heard = self._keeper.nodes
        return {name: round(heard[name], 1) for name in sorted(missing) if name in heard}

    async def _answer(self, kind: str, body: Raw) -> Any:
        """Answer a question for this worker; None sends no reply."""
        match kind:
            case "obey":
                return await self._obey(msgspec.json.decode(body, type=Obey))
            case "node":
                return await self._looking.node()
            case "connections":
                query = msgspec.json.decode(body, type=ConnectionsQuery)
                return Found(*await self._looking.connections(query))
            case "connection":
                asked = msgspec.json.decode(body, type=Session)
                return Raw(msgspec.json.encode(self._looking.connection(asked.session)))
            case "explain":
                event = msgspec.json.decode(body, type=Asked)
                return Raw(msgspec.json.encode(await explain_here(self._node, event)))
            case "topics":
                topics = msgspec.json.decode(body, type=Topics)
                return Found(
                    *await self._looking.topics(topics.query, topics.within, topics.operator)
                )
        return None

    async def _obey(self, asked: Obey) -> Done | None:
        mark = self._keeper.mark
        if mark.era != asked.era or mark.number < asked.number:
            await self._keeper.renew()
            mark = self._keeper.mark
        if mark.era != asked.era or mark.number < asked.number:
            return None
        return Done(self._keeper.count(asked.number))

    def _now(self) -> int:
        return int(self._node.clock.time() * 1_000)


def _idle(obeyed: Obeyed) -> Obeyed:
    """Set `already` if an order concerned no connection on any worker."""
    obeyed.already = not (obeyed.connections or obeyed.missing)
    return obeyed
