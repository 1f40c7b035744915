"""`chat-server token`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from .inspecting import inspect, open_topics
from .options import config_option, json_option, read_settings, sign_token
from .patience import parse_seconds
from .terminal import print_error

PROXY_TOKEN_BYTES = 7 * 1024
"""Bytes of a token from which the command warns: many proxies limit a header line to 8 KB."""


@click.group(invoke_without_command=True)
@click.option("--sub", metavar="USER", help="Whom the token is for.")
@click.option("--name", help="Shown to others.")
@click.option("--bot", is_flag=True, help="Mark on the chat page what it writes as a bot's.")
@click.option("--subscribe", metavar="PATTERN", multiple=True, help="Topics to receive.")
@click.option("--publish", metavar="PATTERN", multiple=True, help="Topics to send to.")
@click.option("--history", metavar="PATTERN", multiple=True, help="Topics to look back in.")
@click.option("--presence", metavar="PATTERN", multiple=True, help="Topics to see who is in.")
@click.option("--moderate", metavar="PATTERN", multiple=True, help="Topics to moderate.")
@click.option("--admin", metavar="PATTERN", multiple=True, help="Topics to operate; ** for all.")
@click.option(
    "--rate-factor",
    metavar="NUMBER",
    type=float,
    help="How many times what others may send: 20 for a trusted bot.",
)
@click.option(
    "--ttl",
    metavar="DURATION",
    callback=parse_seconds,
    default="1h",
    show_default=True,
    help="How long it is valid: 30s, 15m, 1h, 7d.",
)
@json_option
@config_option
@click.pass_context
def token(
    context: click.Context,
    /,
    sub: str | None,
    name: str | None,
    bot: bool,
    rate_factor: float | None,
    ttl: float,
    as_json: bool,
    config: Path | None,
    **patterns: Sequence[str],
) -> None:
    """Print a token, a JWT signed with auth.secret.

    Each PATTERN option may be repeated. Of an action without any, the server's
    auth.default_topics hold. In a pattern * stands for one segment of a topic, a last ** for one
    or more, and {sub} for the user: 'room:**'.
    """
    if context.invoked_subcommand is not None:
        return
    if sub is None:
        raise click.UsageError("Missing option '--sub'.")
    settings = read_settings(config)
    topics = {action: given for action, given in patterns.items() if given}
    who = {"sub": sub, "name": name, "info": {"bot": True} if bot else None}
    issued = sign_token(settings, **who, topics=topics, rate_factor=rate_factor, ttl_seconds=ttl)
    click.echo(json.dumps({"token": issued}) if as_json else issued)
    defaults = msgspec.structs.asdict(settings.auth.default_topics)
    opened = {action: list(open_topics(settings, action)) for action in defaults}
    grants = {
        action: [*topics.get(action, defaults[action]), *opened[action]] for action in defaults
    }
    for warning in _token_warnings(issued, grants):
        print_error(warning)


token.add_command(inspect)


def _token_warnings(token: str, grants: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield warnings about a token, as far as these settings tell."""
    actions = ("subscribe", "publish", "history")
    missing = [action for action in actions if not grants[action]]
    if missing:
        may = [f"{action} ({', '.join(grants[action])})" for action in actions if grants[action]]
        options = ", ".join(f"--{action} 'room:**'" for action in missing)
        allows = f"{' and '.join(may)}, but not {' or '.join(missing)}" if may else "nothing"
        yield f"this token allows {allows}; add patterns, say {options}, or set auth.default_topics"
    if len(token) > PROXY_TOKEN_BYTES:
        yield (
            f"this token has {len(token)} bytes; many proxies refuse headers above 8 KB, see"
            " docs/operations.md"
        )
