"""`chat-server nodes`, `connections`, `topics`, `disconnect`, `block`, `revoke` and so on."""

import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import click

from .answers import Answer, Connection, Node, Obeyed, Topic, moment, tell_missing, understood
from .asking import Asking
from .options import json_option, operator_options, parse_topic
from .patience import parse_seconds
from .publish import from_json
from .terminal import Misuse, confirm, escape_controls, run, write_line

PAGE = 500

T = TypeVar("T")

_reason_option = click.option(
    "--reason", required=True, help="Why; those whom it concerns read it, and the audit log."
)


@click.command()
@json_option
@operator_options
def nodes(as_json: bool, ask: Asking) -> None:
    """Print the workers of a server, one a line."""

    async def work() -> None:
        answer = await ask.get("nodes")
        await _print_rows(_rows(answer, "nodes"), as_json, Node, _node_line)
        tell_missing(answer, "did not answer")

    run(work())


@click.command()
@click.option("--user", help="Only those of this user.")
@click.option("--address", help="Only those from this network address.")
@click.option("--topic", help="Only those that are subscribed to this topic.")
@click.option("--client", help="Only those whose User-Agent contains this.")
@json_option
@operator_options
def connections(ask: Asking, as_json: bool, **query: str | None) -> None:
    """Print who is connected, one connection a line."""
    _list(ask, "connections", "session", query, as_json, Connection, _connection_line)


@click.command()
@click.option("--topic", metavar="PATTERN", help="Only those that fit this pattern.")
@click.option("--user", help="Only those to which this user is subscribed.")
@json_option
@operator_options
def topics(ask: Asking, as_json: bool, **query: str | None) -> None:
    """Print the topics that have subscribers, one a line."""
    _list(ask, "topics", "topic", query, as_json, Topic, _topic_line)


@click.command()
@click.option("--user", help="Whose connections.")
@click.option("--session", help="Which connection.")
@click.option("--address", help="From which network address.")
@_reason_option
@json_option
@operator_options
def disconnect(ask: Asking, as_json: bool, **fields: str | None) -> None:
    """Close the connections of a user or an address, or one of them."""
    _exactly_one(fields, "user", "session", "address")
    _order(ask.post("disconnect", **fields), as_json, "there is no such connection")


@click.command()
@click.argument("user")
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    required=True,
    callback=parse_seconds,
    help="For how long: 15m, 1h, 7d.",
)
@_reason_option
@json_option
@operator_options
def block(user: str, seconds: float, reason: str, as_json: bool, ask: Asking) -> None:
    """Keep USER out of every worker, and close the user's connections."""
    order = ask.post("block", user=user, seconds=seconds, reason=reason)
    _order(order, as_json, f"{user} was blocked already")


@click.command()
@click.argument("user")
@_reason_option
@json_option
@operator_options
def unblock(user: str, reason: str, as_json: bool, ask: Asking) -> None:
    """Let USER in again."""
    order = ask.post("unblock", user=user, reason=reason)
    _order(order, as_json, f"{user} was not blocked")


@click.command()
@click.option("--jti", help="The token with this name.")
@click.option("--user", help="All tokens of this user that were issued until now.")
@click.option("--kid", help="All tokens of the key with this name.")
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    callback=parse_seconds,
    help="As long as such tokens may be valid; a year if left out.",
)
@_reason_option
@json_option
@operator_options
def revoke(ask: Asking, as_json: bool, **fields: Any) -> None:
    """Accept tokens no more, and close their connections."""
    _exactly_one(fields, "jti", "user", "kid")
    _order(ask.post("revoke", **fields), as_json, "was revoked already")


@click.command()
@click.argument("topic", callback=parse_topic)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_reason_option
@json_option
@operator_options
def purge(topic: str, yes: bool, reason: str, as_json: bool, ask: Asking) -> None:
    """Forget the whole history of TOPIC, in the store and in the archive.

    There is no way back. The topic goes on: subscribers stay, and its numbers are not used again.
    """
    if not yes:
        confirm(f"Delete all that was said in {topic!r} for good?")
    _order(ask.post("purge", topic=topic, reason=reason), as_json)


@click.command()
@click.argument("text")
@click.option("--data", "is_json", is_flag=True, help="TEXT is a JSON value.")
@_reason_option
@json_option
@operator_options
def announce(text: str, is_json: bool, reason: str, as_json: bool, ask: Asking) -> None:
    """Send TEXT to everybody who is connected."""
    if not text.strip():
        raise click.BadParameter("must not be blank", param_hint="TEXT")
    try:
        data = from_json(os.fsencode(text)) if is_json else {"text": text}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TEXT") from None
    _order(ask.post("announce", data=data, reason=reason), as_json)


def _exactly_one(fields: dict[str, Any], *names: str) -> None:
    if sum(fields[name] is not None for name in names) != 1:
        options = ", ".join(f"--{name}" for name in names)
        raise Misuse(f"give exactly one of {options}")


def _order(giving: Coroutine[Any, Any, Any], as_json: bool, idle: str = "") -> None:
    """Give an order, and print the workers that have obeyed.

    Args:
        giving: gives the order.
        as_json: whether to print JSON.
        idle: the line for an order without effect.
    """

    async def work() -> None:
        answer = await giving
        obeyed = understood(answer, Obeyed)
        await _print(answer, as_json, _order_line(obeyed, idle))
        tell_missing(answer, "has not confirmed, and obeys as soon as it runs")

    run(work())


def _list(
    ask: Asking,
    path: str,
    key: str,
    query: dict[str, str | None],
    as_json: bool,
    kind: type[T],
    line: Callable[[T], str],
) -> None:
    async def work() -> None:
        missing: dict[str, float | None] = {}
        async for page in _pages(ask, path, key, query):
            await _print_rows(_rows(page, path), as_json, kind, line)
            told = understood(page, Answer)
            missing.update((node, told.silent.get(node)) for node in told.missing)
        silent = {node: seconds for node, seconds in missing.items() if seconds is not None}
        tell_missing({"missing": sorted(missing), "silent": silent}, "did not answer")

    run(work())


async def _pages(
    ask: Asking, path: str, key: str, query: dict[str, str | None]
) -> AsyncIterator[dict[str, Any]]:
    after: str | None = None
    while True:
        page = await ask.get(path, limit=PAGE, after=after, **query)
        yield page
        rows = _rows(page, path)
        if not understood(page, Answer).more or not rows:
            return
        after = understood(rows[-1].get(key), str)


def _rows(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return understood(answer.get(name), list[dict[str, Any]])


async def _print_rows(
    rows: list[dict[str, Any]], as_json: bool, kind: type[T], line: Callable[[T], str]
) -> None:
    for row in rows:
        await _print(row, as_json, line(understood(row, kind)))


async def _print(row: dict[str, Any], as_json: bool, line: str) -> None:
    # ASCII, so that no character can act on a terminal.
    await write_line(json.dumps(row) if as_json else escape_controls(line))


def _node_line(node: Node) -> str:
    state = "draining" if node.draining else node.broker
    counts = f"{node.connections} connections, {node.users} users, {node.topics} topics"
    since = f"{_moment(node.started_at)}, version {node.version}"
    return f"{node.node} {state} {counts}, {node.lag_ms:.0f} ms late, since {since}"


def _connection_line(row: Connection) -> str:
    who = row.user or "(nobody yet)"
    where = f"{row.address or '-'} {row.node} {row.transport} {row.encoding}"
    since = _moment(row.opened_at)
    return f"{row.session} {who} {where} since {since}, {row.topics} topics, {row.client}"


def _topic_line(row: Topic) -> str:
    return f"{row.topic} {row.subscribers} subscribers, #{row.seq}"


def _order_line(answer: Obeyed, idle: str) -> str:
    until = f", until {_moment(answer.until)}" if answer.until else ""
    workers = len(answer.confirmed)
    have = "worker has" if workers == 1 else "workers have"
    obeyed = f"{workers} {have} obeyed, {answer.connections} connections{until}"
    if not answer.already:
        return obeyed
    return f"{idle}: {obeyed}" if answer.until else f"{idle}: nothing has changed"


def _moment(at: int) -> str:
    found = moment(at)
    return "(no time)" if found is None else found.strftime("%Y-%m-%d %H:%M:%S")
