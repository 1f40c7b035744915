"""What operators can ask, and what is answered: of one worker, and of all together."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from ..protocol.commands import Target
from ..protocol.topics import TopicName

MAX_ROWS: Final = 1_000
DEFAULT_ROWS: Final = 100

Limit = Annotated[int, Meta(ge=1, le=MAX_ROWS)]
Text = Annotated[str, Meta(max_length=256)]


class ConnectionsQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Connections behind the session `after`; at most `limit` of them.

    Args:
        user: of this user only.
        address: from this network address only; of IPv6 a /64.
        topic: subscribed to this topic only.
        client: whose User-Agent contains this only.
        after: the session before the page.
        limit: how many.
    """

    user: Text | None = None
    address: Text | None = None
    topic: Text | None = None
    client: Text | None = None
    after: Text = ""
    limit: Limit = DEFAULT_ROWS


class TopicsQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Topics with subscribers behind the topic `after`; at most `limit` of them.

    Args:
        topic: that fit this pattern only, as in a token.
        user: to which this user is subscribed only.
        after: the topic before the page.
        limit: how many.
    """

    topic: Text | None = None
    user: Text | None = None
    after: Text = ""
    limit: Limit = DEFAULT_ROWS


class BlocksQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is denied, behind `after` in the list; at most `limit` of them.

    Args:
        list: `users` who are blocked; revoked `tokens`, tokens by user (`issued`) and by key
            (`keys`); closed `topics`.
        after: the user, token, key or topic before the page.
        limit: how many.
    """

    list: Literal["users", "tokens", "issued", "keys", "topics"] = "users"
    after: Text = ""
    limit: Limit = DEFAULT_ROWS


class ConnectionRow(Struct, frozen=True, kw_only=True):
    """A connection.

    Args:
        session: names it.
        user: whose it is; empty before it has a token.
        node: the worker.
        address: of the client; None if the operator's grant is for some topics only.
        client: what the client calls itself: the beginning of its User-Agent.
        transport: `direct` or `asgi`.
        encoding: the subprotocol.
        opened_at: seconds since 1970.
        topics: how many it is subscribed to.
    """

    session: str
    user: str
    node: str
    address: str | None
    client: str
    transport: str
    encoding: str
    opened_at: int
    topics: int

    @property
    def key(self) -> str:
        """What rows are ordered by."""
        return self.session


class ConnectionView(Struct, frozen=True, kw_only=True):
    """Everything about a connection.

    Args:
        connection: as in the list.
        topics: to which it is subscribed.
        name: the user's, as others see it.
        expires_at: of its token, in seconds since 1970; None if it never expires.
        issued_at: of its token, likewise.
        jti: its token's name.
        kid: its token's key.
        grants: patterns of its token, by action.
        reads: False while the client reads too slowly to be sent anything.
    """

    connection: ConnectionRow
    topics: list[str]
    name: str | None
    expires_at: int | None
    issued_at: int | None
    jti: str | None
    kid: str | None
    grants: dict[str, Any]
    reads: bool


class TopicRow(Struct, frozen=True, kw_only=True):
    """A topic.

    Args:
        topic: its name.
        subscribers: connections that are subscribed.
        epoch: counts `seq`.
        seq: of its last event.
    """

    topic: str
    subscribers: int
    epoch: str
    seq: int

    @property
    def key(self) -> str:
        """What rows are ordered by."""
        return self.topic


class NodeRow(Struct, frozen=True, kw_only=True):
    """A worker.

    Args:
        node: its name.
        pid: its process.
        host: its machine.
        version: of the server.
        python: of Python.
        started_at: seconds since 1970.
        uptime_seconds: since its start.
        connections: it has.
        users: of these connections.
        topics: with subscribers on it.
        lag_ms: by how much its event loop was late a moment ago.
        broker: the state of its store, as in `/health`.
        draining: whether it sends its clients away.
        orders: the number of the last order that it has obeyed.
    """

    node: str
    pid: int
    host: str
    version: str
    python: str
    started_at: int
    uptime_seconds: float
    connections: int
    users: int
    topics: int
    lag_ms: float
    broker: str
    draining: bool
    orders: int


class DenialRow(Struct, frozen=True, kw_only=True):
    """Somebody or something that is kept out.

    Args:
        target: the user, token, key or topic.
        until: seconds since 1970 at which it is over.
        at: of revoked tokens by user: up to when they were issued, in seconds since 1970.
        by: the operator.
        reason: what the operator has said.
    """

    target: str
    until: int
    at: int
    by: str
    reason: str


class NodesOk(Struct):
    """The workers; `missing` are those that did not answer in time, `silent` for how long."""

    nodes: list[NodeRow]
    missing: list[str]
    silent: dict[str, float]


class ConnectionsOk(Struct):
    """Connections in the order of their sessions, and whether more follow."""

    connections: list[ConnectionRow]
    more: bool
    missing: list[str]
    silent: dict[str, float]


class TopicsOk(Struct):
    """Topics in the order of their names, and whether more follow."""

    topics: list[TopicRow]
    more: bool
    missing: list[str]
    silent: dict[str, float]


class DenialsOk(Struct):
    """Who or what is kept out, and whether more follow."""

    denials: list[DenialRow]
    more: bool


class Obeyed(Struct):
    """What became of an order.

    Args:
        number: its place in the order of all orders.
        confirmed: the workers that have obeyed.
        missing: those that have not said so in time; they obey once they run and reach the store.
        connections: how many it has concerned.
        until: seconds since 1970 at which it is over; None if it is.
        already: whether that was so before: who is blocked was blocked, who is let in was not, who
            is sent away was not there. The new time and reason hold.
        silent: the seconds since each of those in `missing` was last heard.
    """

    number: int
    confirmed: list[str]
    missing: list[str]
    connections: int
    until: int | None = None
    already: bool = False
    silent: dict[str, float] = {}


class Step(Struct, frozen=True, kw_only=True):
    """Something that has happened to a subscriber.

    Args:
        at: seconds since 1970.
        what: `subscribed`, `lagging`, `replayed`, `gap` or `left`.
        after: of a gap, the seq after which events are missing.
        seq: what the subscriber has seen then.
        reason: of a gap.
    """

    at: float
    what: str
    after: int
    seq: int
    reason: str


class Story(Struct, frozen=True, kw_only=True):
    """What became of an event for one connection.

    Args:
        session: names the connection.
        verdict: what became of it.
        at: when, in seconds since 1970; None if it has not happened.
        steps: the connection's, the last ones.
    """

    session: str
    verdict: str
    at: float | None
    steps: list[Step]


class WorkerStory(Struct, frozen=True, kw_only=True):
    """What a worker has done with an event.

    Args:
        node: the worker.
        heard_at: when it came, in seconds since 1970; None if it did not, or too long ago.
        seq: of the topic's last event there; None if nobody is subscribed there.
        subscribers: connections that are subscribed there.
        notes_since: when its notes begin; 0 if it has them all, of a quarter of an hour.
        connections: of the user who is asked about.
    """

    node: str
    heard_at: float | None
    seq: int | None
    subscribers: int
    notes_since: float
    connections: list[Story]


class Explained(Struct):
    """What became of an event.

    Args:
        topic: the topic.
        seq: of the event.
        last: of the topic's last event.
        epoch: of the topic.
        stored: whether the store still has it.
        kind: of the event, if it is stored.
        at: when it was accepted, in milliseconds since 1970, if it is stored.
        sender: whose it is, if it is stored.
        workers: what each of them has done with it.
        missing: the workers that did not answer in time.
        silent: the seconds since each of them was last heard.
    """

    topic: str
    seq: int
    last: int
    epoch: str
    stored: bool
    kind: str | None
    at: int | None
    sender: Any
    workers: list[WorkerStory]
    missing: list[str]
    silent: dict[str, float]


class ExplainQuery(Struct, frozen=True, kw_only=True):
    """An event by its topic and seq, and whose connections are told of, if anybody's."""

    topic: TopicName
    seq: Target
    user: Text | None = None
