"""Types of command line options; an invalid option is reported before anything runs."""

import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from msgspec import Struct

PICTURES = (".png", ".svg", ".pdf")

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class Number(click.FloatRange):
    """A finite number: nan is in every range, and inf in many."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Address(click.ParamType[tuple[str, int]]):
    """The host and port of a running server on this machine; other machines are refused."""

    name = "URL"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        try:
            parts = urlsplit(value)
            host, port = parts.hostname or "", 80 if parts.port is None else parts.port
            local = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            local = False
        # Other parts of a URL would be ignored, so the option refuses them.
        if not local or not port or value != f"ws://{parts.netloc}/ws" or "@" in parts.netloc:
            self.fail(
                f"{value} must be a ws:// address of this machine that ends with /ws, such as "
                "ws://127.0.0.1:8000/ws.",
                param,
                ctx,
            )
        return host, port


class Output(click.Path):
    """A file in a writable folder, checked at the start rather than after a long run.

    Args:
        suffixes: the allowed suffixes.
    """

    def __init__(self, suffixes: tuple[str, ...] = (), *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash)
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = os.fsdecode(super().convert(value, param, ctx))
        if path == "-" and self.allow_dash:
            return path
        folder = Path(path).parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            self.fail(f"{folder} is no folder that can be written to.", param, ctx)
        if self._suffixes and Path(path).suffix not in self._suffixes:
            self.fail(f"{path} must end with {', '.join(self._suffixes)}.", param, ctx)
        return path


class Picture(Output):
    """A file for a plot, if plots can be drawn."""

    def __init__(self) -> None:
        super().__init__(PICTURES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if find_spec("matplotlib") is None:
            self.fail("plots need matplotlib: pip install -e '.[peers]'.", param, ctx)
        return super().convert(value, param, ctx)


Count = click.IntRange(1)
Positive = Number(0.0, min_open=True)
NotNegative = Number(0.0)
Payload = click.IntRange(40, 60_000)


def of(defaults: Struct, name: str, kind: click.ParamType[Any], text: str) -> Decorator:
    """Return the option for a field of a plan, with the plan's default."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=getattr(defaults, name),
        show_default=True,
        help=text,
    )


def examples(*lines: str) -> str:
    """Return the end of a help text: commands to begin with."""
    return "\b\nExamples:\n" + "\n".join(f"  python -m loadtest {line}" for line in lines)


attempts = click.option(
    "--attempts",
    type=Count,
    default=1,
    show_default=True,
    help="How often one run is tried while other work on the machine disturbs it.",
)
json = click.option(
    "--json", "json", type=Output(), help="Write all that was found into this file."
)
