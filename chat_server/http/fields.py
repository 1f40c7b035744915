"""Reads requests from forms: errors name every wrong field, not only the first."""

from typing import Any, TypeVar

import msgspec
from msgspec.structs import fields

from ..protocol.codecs import readable
from ..protocol.errors import BadRequest, Invalid
from .commands import read_body

T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES = 8_192


async def read_fields(kind: type[T], max_bytes: int = MAX_BYTES) -> T:
    """Return the current request's body; an empty body is an object without fields.

    Args:
        kind: the struct of the body's JSON object.
        max_bytes: maximum bytes of the body.

    Raises:
        BadRequest: the body is no JSON object.
        Invalid: fields are missing or of another form.
        TooLarge: the body has more than `max_bytes`.
        RequestTimeout: the body did not come in time.
    """
    body = await read_body(max_bytes) or b"{}"
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError):
        pass  # The checks below name each wrong field.
    try:
        given = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise BadRequest("body: is not valid JSON") from None
    if not isinstance(given, dict):
        raise BadRequest("body: must be a JSON object")
    return _checked(given, kind)


def _checked(given: dict[str, Any], kind: type[T]) -> T:
    wrong = {}
    for field in fields(kind):
        name = field.encode_name
        if name not in given:
            if field.required:
                wrong[name] = "is missing"
            continue
        try:
            msgspec.convert(given[name], field.type)
        except msgspec.ValidationError as error:
            wrong[name] = readable(error).removeprefix("message: ")
    if kind.__struct_config__.forbid_unknown_fields:
        known = {field.encode_name for field in fields(kind)}
        wrong |= {name: "is no field of this request" for name in given if name not in known}
    if wrong:
        raise Invalid(wrong)
    return msgspec.convert(given, kind)
