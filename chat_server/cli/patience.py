"""`--wait` and `--timeout`: the patience with absent servers and stores, and the limit of a run.

Click's context keeps both values, so that only the code that waits has to know them.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import click

_WAIT: Final = f"{__name__}.wait"
_TIMEOUT: Final = f"{__name__}.timeout"

Command = TypeVar("Command", bound=Callable[..., None])


def parse_seconds(
    context: click.Context, option: click.Parameter, value: str | None
) -> float | None:
    """Return the seconds of a duration such as 30s, 15m, 1h or 7d, for a click option."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", value, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is no duration such as 30s, 15m, 1h or 7d")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]])


def _remembering(key: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def remember(context: click.Context, option: click.Parameter, value: str | None) -> None:
        context.meta[key] = parse_seconds(context, option, value)

    return remember


wait_option = click.option(
    "--wait",
    metavar="DURATION",
    expose_value=False,
    callback=_remembering(_WAIT),
    help="How long to wait for what is not there yet, a server or a database: 30s, 5m.",
)
timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    expose_value=False,
    callback=_remembering(_TIMEOUT),
    help="Give up after so long; else there is no bound.",
)


def patience_options(command: Command) -> Command:
    """Add `--wait` and `--timeout` to a command."""
    return wait_option(timeout_option(command))


def wait_seconds() -> float:
    """Return the seconds that the current command waits for an absent server or store."""
    return click.get_current_context().meta.get(_WAIT) or 0.0


def timeout_seconds() -> float | None:
    """Return the seconds after which the current command gives up; None if never."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_TIMEOUT) if context else None
