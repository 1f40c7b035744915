"""`chat-server token inspect`."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from ..auth.reading import read_unverified
from ..clock import SystemClock
from ..protocol.errors import ChatError
from ..settings import Settings, SettingsError
from .options import config_option, json_option, misuse, read_settings
from .terminal import Misuse, escape_controls

MAX_BYTES = 65_536
"""Bytes read from stdin, far above any token."""

REFUSED = 1


@click.command()
@click.argument("token", required=False, envvar="CHATCLIENT_TOKEN")
@json_option
@config_option
def inspect(token: str | None, as_json: bool, config: Path | None) -> None:
    """Print what TOKEN says, and whether a server with these settings takes it.

    Without TOKEN and CHATCLIENT_TOKEN it is read from stdin, so that no list of processes has it.
    A token that is refused gives the exit code 1, and the rule that it breaks. Neither the key nor
    the signature is printed.
    """
    given = (token if token is not None else _read()).strip()
    header, claims = read_unverified(given)
    settings = read_settings(config)
    grants, refusal = asyncio.run(_judge(settings, given))
    if as_json:
        verdict = {"accepted": refusal is None, "reason": refusal, "grants": grants}
        click.echo(json.dumps({"header": header, "claims": claims, **verdict}))
    else:
        _print(header, claims, grants, refusal)
    if refusal is not None:
        raise click.exceptions.Exit(REFUSED)


def open_topics(settings: Settings, action: str) -> Iterator[str]:
    """Yield patterns of the topics in which every valid token allows an action."""
    for name, namespace in settings.namespaces.items():
        if getattr(namespace, f"allow_{action}", False):
            yield f"{name}:**"


def _read() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise Misuse("token: there is none: give it as TOKEN, by CHATCLIENT_TOKEN or by stdin")
    try:
        return sys.stdin.buffer.read(MAX_BYTES).decode(errors="replace")
    except OSError as error:
        raise Misuse(f"stdin: {error.strerror}") from None


async def _judge(settings: Settings, token: str) -> tuple[dict[str, list[str]] | None, str | None]:
    """Return the grants of a token, or the reason for its refusal."""
    from ..auth.tokens import Verifier

    try:
        verifier = Verifier(settings.auth, SystemClock())
    except SettingsError as error:
        raise misuse(error) from None
    try:
        await verifier.start()
        claims = await verifier.verify(token)
    except ChatError as error:
        return None, error.message
    finally:
        await verifier.stop()
    granted = msgspec.structs.asdict(claims.topics)
    return {
        action: [*patterns, *open_topics(settings, action)] for action, patterns in granted.items()
    }, None


def _print(
    header: Any, claims: Any, grants: dict[str, list[str]] | None, refusal: str | None
) -> None:
    _row("header", header)
    if isinstance(claims, dict):
        for name, value in claims.items():
            _row(name, value, _moment(value) if name in ("exp", "iat", "nbf") else "")
    for action, patterns in (grants or {}).items():
        click.echo(f"may {action}: {escape_controls(', '.join(patterns)) or 'nothing'}")
    click.echo("accepted" if refusal is None else f"refused: {escape_controls(refusal)}")


def _row(name: str, value: Any, note: str = "") -> None:
    # ASCII, so that no character can act on a terminal.
    text = "cannot be read" if value is None and name == "header" else json.dumps(value)
    click.echo(f"{escape_controls(name)}: {text}{note and f' ({note})'}")


def _moment(value: Any) -> str:
    """Return a NumericDate as UTC, with the distance from now; "" for other values."""
    try:
        moment = datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    apart = value - time.time()
    way = "ago" if apart <= 0 else "ahead"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {_span(round(abs(apart)))} {way}"


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
