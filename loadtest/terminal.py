"""Live progress: one changing line, or an occasional line without a terminal."""

import sys
import time
from types import TracebackType
from typing import Self

import click

PLAIN_SECONDS = 5.0
"""Seconds between the lines for a file or a pipe."""


class Line:
    """The line on stderr, removed at the end of this context."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._live = sys.stderr.isatty()
        self._told_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Show the progress."""
        text = f"{self.prefix}{text}"
        if self._live:
            click.echo(f"\r\x1b[K{text[:100]}", nl=False, err=True)
        elif time.monotonic() - self._told_at >= PLAIN_SECONDS:
            self._told_at = time.monotonic()
            click.echo(text, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)
