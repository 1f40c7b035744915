"""Queries of operators, and the answers: of one worker, and of all workers together."""

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
        user: only the connections of the named user.
        address: only connections from a network address; of IPv6 a /64.
        topic: only the subscribers of a topic.
        client: only connections with this text in the User-Agent.
        after: the session before the page.
        limit: maximum number of rows.
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
        topic: a pattern, as in a token; only matching topics.
        user: only the topics to which the user is subscribed.
        after: the topic before the page.
        limit: maximum number of rows.
    """

    topic: Text | None = None
    user: Text | None = None
    after: Text = ""
    limit: Limit = DEFAULT_ROWS


class BlocksQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Entries of a list of denials behind `after`; at most `limit` of them.

    Args:
        list: blocked `users`; revoked `tokens`, tokens by user (`issued`) and by key (`keys`);
            closed `topics`.
        after: the user, token, key or topic before the page.
        limit: maximum number of rows.
    """

    list: Literal["users", "tokens", "issued", "keys", "topics"] = "users"
    after: Text = ""
    limit: Limit = DEFAULT_ROWS


class ConnectionRow(Struct, frozen=True, kw_only=True):
    """A connection.

    Args:
        session: the name of the connection.
        user: the authenticated user; empty before authentication.
        node: the worker.
        address: of the client; None if the operator's grant is for some topics only.
        client: the beginning of the client's User-Agent.
        transport: `direct` or `asgi`.
        encoding: the subprotocol.
        opened_at: seconds since 1970.
        topics: number of subscriptions.
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
        """The key that orders rows."""
        return self.session


class ConnectionView(Struct, frozen=True, kw_only=True):
    """Everything about a connection.

    Args:
        connection: as in the list.
        topics: the topics of the subscriptions.
        name: the user's name, as others see it.
        expires_at: of the token, in seconds since 1970; None if the token never expires.
        issued_at: of the token, in seconds since 1970; None if the token does not say.
        jti: the token's name.
        kid: the name of the token's key.
        grants: patterns of the token, by action.
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
        topic: the topic's name.
        subscribers: number of subscribed connections.
        epoch: the numbering to which `seq` belongs.
        seq: of the last event.
    """

    topic: str
    subscribers: int
    epoch: str
    seq: int

    @property
    def key(self) -> str:
        """The key that orders rows."""
        return self.topic


class NodeRow(Struct, frozen=True, kw_only=True):
    """A worker.

    Args:
        node: the worker's name.
        pid: the id of the process.
        host: the machine's name.
        version: of the server.
        python: the version of Python.
        started_at: seconds since 1970.
        uptime_seconds: since the start.
        connections: number of connections.
        users: number of users with a connection.
        topics: number of topics with subscribers on this worker.
        lag_ms: milliseconds by which the event loop was late a moment ago.
        broker: the state of the store, as in `/health`.
        draining: whether the worker sends its clients away.
        orders: the number of the last order that the worker has obeyed.
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
    """A denial: a blocked user, a revoked token or key, or a closed topic.

    Args:
        target: the user, token, key or topic.
        until: seconds since 1970 at which the denial ends.
        at: seconds since 1970; in the list `issued`, tokens issued up to then are revoked.
        by: the operator.
        reason: the operator's reason.
    """

    target: str
    until: int
    at: int
    by: str
    reason: str


class NodesOk(Struct):
    """The workers. `missing` did not answer in time; `silent` says for how many seconds."""

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
    """Denials in the order of their targets, and whether more follow."""

    denials: list[DenialRow]
    more: bool


class Obeyed(Struct):
    """The effect of an order.

    Args:
        number: the order's number; later orders have higher numbers.
        confirmed: the workers that have obeyed.
        missing: the workers that did not confirm; each obeys once it runs and reaches the store.
        connections: number of connections concerned.
        until: seconds since 1970 at which the denial ends; None for orders without an end.
        already: whether the target was so before, or nobody was concerned. Time and reason hold.
        silent: the seconds since each worker in `missing` was last heard.
    """

    number: int
    confirmed: list[str]
    missing: list[str]
    connections: int
    until: int | None = None
    already: bool = False
    silent: dict[str, float] = {}


class Step(Struct, frozen=True, kw_only=True):
    """An event in the life of a subscriber.

    Args:
        at: seconds since 1970.
        what: `subscribed`, `lagging`, `replayed`, `gap` or `left`.
        after: of a gap, the seq after which events are missing.
        seq: of the last event that the subscriber had seen by then.
        reason: of a gap.
    """

    at: float
    what: str
    after: int
    seq: int
    reason: str


class Story(Struct, frozen=True, kw_only=True):
    """The fate of an event for one connection.

    Args:
        session: the name of the connection.
        verdict: the fate, in words.
        at: the time of the verdict, in seconds since 1970; None if nothing has happened.
        steps: the last steps of the connection.
    """

    session: str
    verdict: str
    at: float | None
    steps: list[Step]


class WorkerStory(Struct, frozen=True, kw_only=True):
    """The fate of an event on one worker.

    Args:
        node: the worker.
        heard_at: when the event came, in seconds since 1970; None if no note says so.
        seq: of the topic's last event on this worker; None if the worker has no subscribers.
        subscribers: number of subscribed connections.
        notes_since: seconds since 1970 at which the worker's notes begin; 0 if none was dropped.
        connections: the connections of the user in the query.
    """

    node: str
    heard_at: float | None
    seq: int | None
    subscribers: int
    notes_since: float
    connections: list[Story]


class Explained(Struct):
    """The fate of an event on all workers.

    Args:
        topic: the topic.
        seq: of the event.
        last: seq of the topic's last event.
        epoch: of the topic.
        stored: whether the store still has it.
        kind: of the event, if it is stored.
        at: when the server accepted the event, in milliseconds since 1970, if it is stored.
        sender: the publisher, if the event is stored.
        workers: the fate of the event on each worker.
        missing: the workers that did not answer in time.
        silent: the seconds since each missing worker was last heard.
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
    """An event, and the user whose connections are reported.

    Args:
        topic: the topic of the event.
        seq: the place of the event in its topic.
        user: the user whose connections are reported; without it none are.
    """

    topic: TopicName
    seq: Target
    user: Text | None = None
