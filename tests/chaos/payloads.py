"""The data of publications: unique for each name, and with a detectable change."""

import zlib
from typing import Any

PAD_BYTES = 8_000
"""Bytes of each payload at most: enough for a stalled reader to fill the server's buffers."""


def payload_of(name: str) -> dict[str, str]:
    """Return the data of a publication of this name, with a text for appends."""
    size = zlib.crc32(name.encode()) % PAD_BYTES
    return {"name": name, "pad": (f"{name} ü " * (size // len(name) + 1))[:size], "text": ""}


def name_of(data: Any) -> str:
    """Return the name of a received publication; a changed payload has another name."""
    name = data.get("name") if isinstance(data, dict) else None
    if isinstance(name, str) and {**data, "text": ""} == payload_of(name):
        return name
    return f"changed payload: {str(data)[:60]}"


def text_of(data: Any) -> str:
    """Return the appended text of a publication."""
    text = data.get("text") if isinstance(data, dict) else None
    return text if isinstance(text, str) else f"changed payload: {str(data)[:60]}"
