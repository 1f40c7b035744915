"""`chat-server doctor`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import msgspec

from ...settings import Settings, advice
from ..options import (
    config_option,
    json_option,
    parse_token,
    parse_url,
    read_settings,
    setting_flags,
)
from ..patience import parse_seconds
from ..terminal import escape_controls, run
from .findings import Finding

RETRY_SECONDS = 0.5
"""Seconds between two attempts to reach the store under `--wait`."""


@click.command()
@click.option(
    "--url",
    metavar="URL",
    callback=lambda context, option, value: value and parse_url(context, option, value),
    help="The address that clients use; looks at what a proxy on the way does.",
)
@click.option(
    "--token",
    metavar="JWT",
    envvar="CHATCLIENT_TOKEN",
    callback=parse_token,
    show_envvar=True,
    help="With --url: connect with it.",
)
@click.option(
    "--idle",
    metavar="DURATION",
    callback=parse_seconds,
    help="With --url and a token: whether a connection with nothing to do stays for so long.",
)
@click.option(
    "--wait",
    metavar="DURATION",
    callback=parse_seconds,
    help="How long to wait for a store that is not there yet.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=parse_seconds,
    default="10s",
    show_default=True,
    help="How long each answer may take.",
)
@setting_flags
@config_option
@json_option
def doctor(
    url: str | None,
    token: str | None,
    idle: float | None,
    wait: float | None,
    timeout: float,
    flags: dict[str, str | None],
    config: Path | None,
    as_json: bool,
) -> None:
    """Look at what a server depends on, and say of each whether it is ok or what to do.

    Looks at the settings, the files they name, the store, this machine and, with --url, at the way
    of clients to the server. An error gives the exit code 1; warnings do not.
    """
    # Imported here, because loading takes as long as the server's start, and before a loop runs.
    from . import machine, proxy

    settings = read_settings(config, flags, [])
    look = _looker(settings, timeout, wait or 0.0)
    status: list[str] = []
    before, behind = _settings(settings), list(machine.judge(settings))

    async def work() -> None:
        findings = [*before, *await look(), *behind]
        if url is not None:
            findings += [each async for each in proxy.judge(url, timeout, token, idle or 0.0)]
        status.extend(each.status for each in findings)
        _print(findings, as_json)

    run(work())
    if "error" in status:
        raise click.exceptions.Exit(1)


def _settings(settings: Settings) -> list[Finding]:
    from ...server.checks import mistakes_at_start

    findings = [Finding("settings", "error", line) for line in mistakes_at_start(settings)]
    findings += [Finding("settings", "warning", line) for line in advice(settings)]
    return findings or [Finding("settings", "ok", f"environment {settings.environment}")]


def _looker(
    settings: Settings, seconds: float, wait: float
) -> Callable[[], Awaitable[list[Finding]]]:
    """Return a function that examines the store, and waits for an absent store."""
    if not settings.redis.url:
        return _memory
    from ...broker.redis.inspection import inspect
    from .stores import judge

    async def look() -> list[Finding]:
        until = time.monotonic() + wait
        feeds = settings.has_archive or bool(settings.webhooks)
        while True:
            inspections = await inspect(settings.redis, seconds, feeds=feeds)
            if not any(each.error for each in inspections) or time.monotonic() >= until:
                return [finding for each in inspections for finding in judge(each, settings)]
            await asyncio.sleep(RETRY_SECONDS)

    return look


async def _memory() -> list[Finding]:
    text = "in memory: one worker, and a restart ends every topic that no archive keeps"
    return [Finding("store", "ok", text)]


def _print(findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(findings))
        return
    width = max(len(each.subject) for each in findings)
    for each in findings:
        line = f"{each.status:7}  {each.subject:{width}}  {each.text}"
        click.echo(escape_controls(line))
