"""Explains the fault of a message that the strict decoder refuses, and finds its `id`.

Correct libraries write such messages: `JSON.stringify` writes half a surrogate pair, Python's
`json` NaN, Perl's MessagePack text as binary. The senders wait for an answer with the `id`, so
these messages are no strikes. The result is used for the answer alone.
"""

import codecs
import json
import re
from typing import Any, Final

from msgspec import Raw

from .batch import MAX_BATCH, Batch
from .command_table import COMMANDS
from .commands import MAX_ID
from .errors import BadRequest, Malformed
from .formats import BINARY, LISTS, NIL, TEXT, Truncated, map_entries, value_end
from .nesting import NIL_KEY

HALF_A_PAIR: Final = "holds half a surrogate pair"
NOT_UTF8: Final = "holds text that is not UTF-8"
TOO_DEEP: Final = "message: is nested too deeply"

_FIELDS: Final = frozenset(
    ("type", *(name for kind in COMMANDS for name in kind.__struct_fields__))
)
_ID_KEYS: Final = frozenset(
    head + b"id" for head in (b"\xa2", b"\xd9\2", b"\xda\0\2", b"\xdb\0\0\0\2", b"\xc4\2")
)
_RECORD: Final = re.compile(rb"[\xd4\xd5]r")
_ESCAPED_HALF: Final = re.compile(r"[\ud800-\udfff]")


def explain_json(payload: bytes, problem: str) -> tuple[str, Any]:
    """Return the fault of a JSON message, and its `id`.

    Args:
        payload: the message that the strict decoder refused.
        problem: the strict decoder's error.

    Raises:
        Malformed: the payload is no JSON object, not even for a lenient decoder.
    """
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed(f"message: {NOT_UTF8}") from None
    try:
        message = _lenient(text, problem)
    except RecursionError:
        message = _lenient(_outermost(text), problem)
        return TOO_DEEP, message.get("id")
    if payload.startswith(codecs.BOM_UTF8):
        return "message: begins with a byte order mark", message.get("id")
    return _json_problem(message, problem), message.get("id")


def lenient_batch(body: bytes) -> Batch | None:
    """Return a batch with values that the strict decoder refuses: NaN, half a surrogate pair.

    Each message then fails alone, when it is decoded. None if the body is no batch at all.
    """
    try:
        messages = json.loads(body.decode())["messages"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_BATCH:
        return None
    return Batch([Raw(_encoded(each)) for each in messages])


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair has only an escaped form
        return json.dumps(value).encode()


def _lenient(text: str, problem: str) -> dict[str, Any]:
    try:
        message = json.loads(text, strict=False)
    except ValueError:
        raise Malformed(f"message: cannot be parsed: {problem}") from None
    if not isinstance(message, dict):
        raise Malformed("message: must be a map with string keys")
    return message


def _json_problem(message: dict[str, Any], problem: str) -> str:
    for name, value in message.items():
        field = name if name in _FIELDS else "message"
        if _ESCAPED_HALF.search(json.dumps([name, value], ensure_ascii=False)):
            return f"{field}: {HALF_A_PAIR}"
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            return f"{field}: NaN and infinity have no JSON form"
    return f"message: is not valid JSON: {problem}"


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)


def _outermost(text: str) -> str:
    """Return JSON with null in place of each list and map inside the outermost."""
    kept, depth, copied = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth == 2:
                kept += [text[copied : token.start()], "null"]
        elif token[0] in ("]", "}"):
            depth -= 1
            if depth == 1:
                copied = token.end()
    return "".join([*kept, text[copied:] if depth < 2 else ""])


def explain_msgpack(payload: bytes, problem: str) -> tuple[str, bytes]:
    """Return the fault of a MessagePack message, and its encoded `id`.

    Args:
        payload: the message that the decoder refused.
        problem: the decoder's error.

    Raises:
        BadRequest: the payload is a list or a record, as correct libraries send.
        Malformed: the payload is no map, list or record.
    """
    try:
        entries = map_entries(payload)
    except Truncated:
        raise _refusal_of_no_map(payload, problem) from None
    id = b""
    for key, value in entries:
        id = value if key in _ID_KEYS else id
    kinds = {key[0] for key, _ in entries}
    if NIL in kinds:
        return f"message: map keys must be strings, {NIL_KEY}", id
    if kinds & BINARY:
        return "message: keys and text must be str, not binary (Perl writes bytes so)", id
    if kinds - TEXT:
        return "message: map keys must be strings", id
    return problem if problem.startswith("message: ") else f"message: {problem}", id


def _refusal_of_no_map(payload: bytes, problem: str) -> BadRequest:
    if _RECORD.match(payload):
        return BadRequest("message: is a record of msgpackr; use `new Packr({useRecords: false})`")
    try:
        if payload[:1] and payload[0] in LISTS and value_end(payload) == len(payload):
            return BadRequest("message: is a list, not a map (rmp_serde: use `to_vec_named`)")
    except Truncated:
        pass
    return Malformed(f"message: cannot be parsed: {problem}")


def valid_id(value: Any) -> int | None:
    """Return an `id` of either number type, or None if the `id` is not valid."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 1 <= value <= MAX_ID or value != int(value):
        return None
    return int(value)
