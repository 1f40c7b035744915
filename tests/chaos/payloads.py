"""What publications carry: data that can be told from any other, and from itself if it changes."""

import zlib
from typing import Any

PAD_BYTES = 8_000
"""Of each payload at most: enough for a reader that stalls to fill what the server keeps for it."""


def payload_of(name: str) -> dict[str, str]:
    """Return what a publication of this name carries, with a text to append to."""
    size = zlib.crc32(name.encode()) % PAD_BYTES
    return {"name": name, "pad": (f"{name} ü " * (size // len(name) + 1))[:size], "text": ""}


def name_of(data: Any) -> str:
    """Return the name of a publication that came; a payload that changed has another."""
    name = data.get("name") if isinstance(data, dict) else None
    if isinstance(name, str) and {**data, "text": ""} == payload_of(name):
        return name
    return f"changed payload: {str(data)[:60]}"


def text_of(data: Any) -> str:
    """Return what was appended to a publication."""
    text = data.get("text") if isinstance(data, dict) else None
    return text if isinstance(text, str) else f"changed payload: {str(data)[:60]}"
