"""`chat-server webhooks`: endpoints that fail or are parked."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ..clock import iso_time
from ..events import MAX_SEQ
from ..settings import Settings
from .database import opened_database, require_url
from .options import config_option, json_option, parse_topic, read_settings
from .patience import patience_options
from .terminal import Failure, Misuse, run, write_result

if TYPE_CHECKING:
    from ..webhooks.store import State, WebhookStore

_name = click.argument("name")


@click.group()
def webhooks() -> None:
    """Look after the endpoints of the settings' [webhooks.NAME]."""


@webhooks.command("list")
@json_option
@patience_options
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """Say of each endpoint whether it takes what is sent, fails, or is parked."""

    async def work(store: "WebhookStore") -> None:
        known = {state.name: state for state in await store.states()}
        topics = await store.count_cursors()
        for name in sorted({*settings.webhooks, *known}):
            state, count = known.get(name), topics.get(name, 0)
            configured = name in settings.webhooks
            absent = "" if configured else "; not in the settings"
            row = {} if state is None else msgspec.to_builtins(state)
            row |= {"name": name, "topics": count, "configured": configured}
            await write_result(row, f"{name}: {_described(state, count)}{absent}", as_json)

    settings = read_settings(config)
    _with_store(settings, work)


@webhooks.command()
@_name
@click.option("--topic", callback=lambda *given: given[2] and parse_topic(*given), metavar="TOPIC")
@click.option("--after", type=click.IntRange(0, MAX_SEQ), metavar="SEQ", help="Of the topic.")
@json_option
@patience_options
@config_option
def replay(
    name: str, topic: str | None, after: int | None, as_json: bool, config: Path | None
) -> None:
    """Let an endpoint go on that is parked, or that fails and waits.

    It gets everything that the log still has, from where it stopped. With --topic and --after it
    also gets the events of a topic again, from behind this seq; that may take a minute to begin.
    """
    if (topic is None) != (after is None):
        raise Misuse("--topic and --after belong together")

    async def work(store: "WebhookStore") -> None:
        if topic is not None and after is not None:
            moved = await store.rewind(name, topic, after, int(time.time() * 1_000))
            if not moved:
                raise Failure(f"{name} has not been sent anything behind {after} of {topic}")
        if not await store.replay(name):
            raise _unknown(name)
        result = {"name": name, "topic": topic, "after": after}
        await write_result(result, f"{name} goes on", as_json)

    _with_store(read_settings(config), work)


@webhooks.command()
@_name
@json_option
@patience_options
@config_option
def reset(name: str, as_json: bool, config: Path | None) -> None:
    """Let an endpoint begin anew: what waits for it is left out."""

    async def work(store: "WebhookStore") -> None:
        if not await store.forget(name, int(time.time() * 1_000)):
            raise _unknown(name)
        await write_result({"name": name}, f"{name} begins anew", as_json)

    _with_store(read_settings(config), work)


def _described(state: "State | None", topics: int) -> str:
    if state is None:
        return "not begun"
    if state.parked_at is not None:
        return f"parked since {iso_time(state.parked_at)}: {state.reason}"
    if state.failing_since is not None:
        return f"failing since {iso_time(state.failing_since)}: {state.reason}"
    return f"delivers, {topics} topic{'' if topics == 1 else 's'}"


def _unknown(name: str) -> Failure:
    return Failure(f"no endpoint {name!r} has begun: `chat-server webhooks list` names them")


def _with_store(settings: Settings, work: "Callable[[WebhookStore], Awaitable[None]]") -> None:
    require_url(settings.database)
    run(_open_and_do(settings, work))


async def _open_and_do(
    settings: Settings, work: "Callable[[WebhookStore], Awaitable[None]]"
) -> None:
    async with opened_database(settings.database) as database:
        from ..webhooks.store import WebhookStore

        await work(WebhookStore(database))
