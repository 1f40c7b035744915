"""Tables for the terminal and for Markdown pages."""

import re
from collections.abc import Sequence
from pathlib import Path

from .accounting import Machine
from .wire import LoadError


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns, the header first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, the header first."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def describe(machine: Machine) -> str:
    """Return a machine and its versions in one paragraph."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    memory = machine.memory_bytes / 2**30
    return (
        f"{machine.cpu}, {machine.cores} cores, {memory:.0f} GiB; {machine.system}; "
        f"CPython {machine.python}; {versions}."
    )


def section_names(page: Path) -> set[str]:
    """Return the names of a page's sections; see `replace_section`."""
    return set(re.findall("<!-- end of (.+?) -->", page.read_text("utf-8")))


def replace_section(page: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- name -->` and `<!-- end of name -->` of a page.

    Raises:
        LoadError: the page has no such section.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise LoadError(f"{page} has no section '{begin} … {end}'")
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")
