"""The grammar of topic patterns (docs/protocol.md, section 1)."""

import re
from collections.abc import Iterator, Mapping, Sequence

from ..protocol.topics import MAX_TOPIC_BYTES

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~@-]|\{sub\})+", re.ASCII)


def check_pattern(pattern: str) -> str:
    """Return `pattern` unchanged if it is well-formed.

    Raises:
        ValueError: the message names the rule that `pattern` breaks.
    """
    if not pattern:
        raise ValueError("must not be empty")
    if len(pattern) > MAX_TOPIC_BYTES:
        raise ValueError(f"must be at most {MAX_TOPIC_BYTES} bytes")
    *leading, last = pattern.split(":")
    if "**" in leading:
        raise ValueError("must have '**' at its end only")
    for segment in (*leading, "*" if last == "**" else last):
        if segment != "*" and _LITERAL.fullmatch(segment) is None:
            raise ValueError(
                "must be segments of A-Z a-z 0-9 . _ ~ @ - and {sub} joined by ':', "
                "or '*' for a whole segment"
            )
    return pattern


def pattern_mistakes(patterns: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield the name of each list with a wrong pattern, and the fault."""
    for name, each in patterns.items():
        for pattern in each:
            try:
                check_pattern(pattern)
            except ValueError as error:
                yield name, f"{pattern!r} {error}"
