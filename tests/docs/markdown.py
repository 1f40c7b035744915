"""Read as much of Markdown as the documentation uses: headings, tables, fenced blocks, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: what kind it declares, its text, and the heading it stands under."""

    kind: str
    text: str
    heading: str


def documents() -> list[Path]:
    """Return the project's own Markdown files."""
    pages = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
    return [*(ROOT / name for name in pages), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks in their order."""
    headings = [(match.start(), match[2]) for match in _HEADING.finditer(_blank_blocks(text))]
    return [
        Block(match[1], match[2], [name for at, name in headings if at < match.start()][-1])
        for match in _FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """Return `text` without its fenced blocks."""
    return _FENCE.sub("", text)


def _blank_blocks(text: str) -> str:
    """Return `text` with spaces where fenced blocks are, so that offsets stay."""
    return _FENCE.sub(lambda match: " " * len(match[0]), text)


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, subsections included."""
    headings = list(_HEADING.finditer(_blank_blocks(text)))
    found = [match for match in headings if match[2] == heading]
    assert len(found) == 1, f"{len(found)} headings named {heading!r}"
    level, start = len(found[0][1]), found[0].start()
    ends = [m.start() for m in headings if m.start() > start and len(m[1]) <= level]
    return text[start : min(ends, default=len(text))]


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the tables, each as rows of cells by column."""
    found: list[list[dict[str, str]]] = []
    for lines in re.findall(r"(?:^\|.*\|$\n?)+", prose(text), re.MULTILINE):
        header, _, *rows = [_cells(line) for line in lines.splitlines()]
        assert all(len(row) == len(header) for row in rows), f"ragged table: {header}"
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def code(cell: str) -> list[str]:
    """Return the parts of a cell that are set as code."""
    return re.findall(r"`([^`]+)`", cell)


def links(text: str) -> Iterator[str]:
    """Yield the targets of links and images."""
    return (match[1] for match in _LINK.finditer(prose(text)))


def anchors(text: str) -> set[str]:
    """Return the fragments that GitHub gives to the headings."""
    titles = (match[2].strip().lower().replace("`", "") for match in _HEADING.finditer(prose(text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
