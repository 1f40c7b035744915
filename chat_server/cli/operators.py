"""`chat-server nodes`, `connections`, `topics`, `disconnect`, `block`, `revoke` and so on."""

import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any

import click

from .asking import Asking, understood
from .options import json_option, operator_options, parse_topic
from .patience import parse_seconds
from .publish import from_json
from .terminal import Misuse, escape_controls, print_error, run, write_line

PAGE = 500

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
        for node in answer["nodes"]:
            await _print(node, as_json, _node_line)
        tell_missing(answer, "did not answer")

    run(understood(work()))


@click.command()
@click.option("--user", help="Only those of this user.")
@click.option("--address", help="Only those from this network address.")
@click.option("--topic", help="Only those that are subscribed to this topic.")
@click.option("--client", help="Only those whose User-Agent contains this.")
@json_option
@operator_options
def connections(ask: Asking, as_json: bool, **query: str | None) -> None:
    """Print who is connected, one connection a line."""
    _list(ask, "connections", "session", query, as_json, _connection_line)


@click.command()
@click.option("--topic", metavar="PATTERN", help="Only those that fit this pattern.")
@click.option("--user", help="Only those to which this user is subscribed.")
@json_option
@operator_options
def topics(ask: Asking, as_json: bool, **query: str | None) -> None:
    """Print the topics that have subscribers, one a line."""
    _list(ask, "topics", "topic", query, as_json, _topic_line)


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
        click.confirm(f"Delete all that was said in {topic!r} for good?", abort=True, err=True)
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
    """Give an order, and print who has obeyed.

    Args:
        giving: gives it.
        as_json: whether a program reads what is printed.
        idle: what to say if that was so already.
    """

    def line(answer: dict[str, Any]) -> str:
        obeyed = _obeyed_line(answer)
        if not answer.get("already"):  # of an earlier version it is not known
            return obeyed
        return f"{idle}: {obeyed}" if answer["until"] else f"{idle}: nothing has changed"

    async def work() -> None:
        answer = await giving
        await _print(answer, as_json, line)
        tell_missing(answer, "has not confirmed, and obeys as soon as it runs")

    run(understood(work()))


def _list(
    ask: Asking,
    path: str,
    key: str,
    query: dict[str, str | None],
    as_json: bool,
    line: Callable[[dict[str, Any]], str],
) -> None:
    async def work() -> None:
        missing: set[str] = set()
        async for page in _pages(ask, path, key, query):
            for row in page[path]:
                await _print(row, as_json, line)
            missing.update(page["missing"])
        tell_missing({"missing": sorted(missing)}, "did not answer")

    run(understood(work()))


async def _pages(
    ask: Asking, path: str, key: str, query: dict[str, str | None]
) -> AsyncIterator[dict[str, Any]]:
    after: str | None = None
    while True:
        page = await ask.get(path, limit=PAGE, after=after, **query)
        yield page
        rows = page[path]
        if not page["more"] or not rows:
            return
        after = rows[-1][key]


async def _print(row: dict[str, Any], as_json: bool, line: Callable[[dict[str, Any]], str]) -> None:
    # ASCII, so that nothing in it can act on a terminal.
    await write_line(json.dumps(row) if as_json else escape_controls(line(row)))


def tell_missing(answer: dict[str, Any], what: str) -> None:
    """Print the workers that did not answer; `what` says what that means."""
    for node in answer["missing"]:
        print_error(f"worker {node} {what}")


def _node_line(node: dict[str, Any]) -> str:
    state = "draining" if node["draining"] else node["broker"]
    counts = ", ".join(f"{node[name]} {name}" for name in ("connections", "users", "topics"))
    since = f"{_moment(node['started_at'])}, version {node['version']}"
    return f"{node['node']} {state} {counts}, {node['lag_ms']:.0f} ms late, since {since}"


def _connection_line(row: dict[str, Any]) -> str:
    since = _moment(row["opened_at"])
    who = row["user"] or "(nobody yet)"
    where = f"{row['address'] or '-'} {row['node']} {row['transport']} {row['encoding']}"
    return f"{row['session']} {who} {where} since {since}, {row['topics']} topics, {row['client']}"


def _topic_line(row: dict[str, Any]) -> str:
    return f"{row['topic']} {row['subscribers']} subscribers, #{row['seq']}"


def _obeyed_line(answer: dict[str, Any]) -> str:
    until = f", until {_moment(answer['until'])}" if answer["until"] else ""
    workers = len(answer["confirmed"])
    have = "worker has" if workers == 1 else "workers have"
    return f"{workers} {have} obeyed, {answer['connections']} connections{until}"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
