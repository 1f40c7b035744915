"""The two encodings of `chat.v1`, and the checks that make `data` safe to pass on.

`data` is passed through uninterpreted, so the sender's codec must prove that `data` is harmless:
accepted `data` can be written into every subscriber's push in either encoding. `msgspec.Raw` alone
does not promise so much, because `Raw` accepts invalid UTF-8 inside strings. Hence the full decode.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Raw, Struct

from .batch import Batch
from .command_table import COMMANDS, Commands
from .commands import Command, Key, Publish
from .errors import BadRequest
from .formats import with_safe_integers
from .messages import HistoryOk, Ok, ServerMessage
from .nesting import (
    MAX_DEPTH,
    PROTOTYPE,
    TOO_DEEP,
    BadData,
    check_depth,
    check_keys,
    check_msgpack,
)
from .refusals import NOT_UTF8, explain_json, explain_msgpack, lenient_batch, valid_id

MAX_REASON = 200
"""Characters of a reason sent to the client. A reason may quote the client's message."""

MAX_UINT32 = 2**32 - 1

_PROTOTYPE = PROTOTYPE.encode()
BACKSLASH = ord("\\")
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Envelope(Struct):
    """The `id` of a message, for an answer if the rest is wrong."""

    # Kept raw: a hostile `id`, say a huge list, is never decoded.
    id: Raw = Raw()


class _Message(Struct, forbid_unknown_fields=True):
    """The usual body of a publication: only the fields of a publication, and no others."""

    data: Raw
    topic: str | None = None
    key: Key | None = None
    state: Literal["streaming"] | None = None


class _Map(Struct):
    """Checks that a document is a map without decoding its values, at a third of the cost."""


Decoded = TypeVar("Decoded")


class Codec:
    """One encoding: its subprotocol, its kind of WebSocket message, and both directions.

    Args:
        library: msgspec's module for the encoding.
        commands: the table of the accepted commands.

    Attributes:
        subprotocol: the name of the encoding in a handshake.
        binary: True if messages are binary WebSocket messages.
        commands: the table of the accepted commands.
    """

    subprotocol: str
    binary: bool

    def __init__(self, library: Any, commands: Commands) -> None:
        self.commands = commands
        self._integers = _integer_fields(commands)
        any_command: Any = Union[tuple(commands)]  # noqa: UP007 - of a tuple
        self._decode: Callable[[bytes], Command] = library.Decoder(any_command).decode
        self._envelope: Callable[[bytes], _Envelope] = library.Decoder(_Envelope).decode
        self._fields: Callable[[bytes], dict[str, Raw]] = library.Decoder(dict[str, Raw]).decode
        self._number: Callable[[bytes], float] = library.Decoder(float).decode
        self._value: Callable[[bytes], Any] = library.Decoder().decode
        self._encode: Callable[[object], bytes] = library.Encoder().encode

    def decode(self, payload: bytes, *, check_data: bool = True) -> Command:
        """Return the command in `payload`, with any `data` turned into checked JSON text.

        Args:
            payload: the payload of one WebSocket message.
            check_data: validate `data`. False for a command that is refused anyway.

        Raises:
            Malformed: `payload` is not a map in this encoding.
            BadRequest: the map breaks a rule; bears the message's `id` if the `id` is valid.
        """
        command: Any
        try:
            command = self._decode(payload)
        except _BROKEN:
            command = self._read(payload, self._decode)
        if check_data and self.commands[command.__class__].has_data:
            command.data = Raw(self.json_data(bytes(command.data), command.id))
        return command  # type: ignore[no-any-return]

    def json_data(self, data: bytes, id: int | None = None) -> bytes:
        """Return `data` of this encoding as JSON text that either encoding can carry.

        Raises:
            BadRequest: `data` has no such JSON text; the message names the rule.
        """
        raise NotImplementedError

    def encode(self, message: ServerMessage) -> bytes:
        """Return `message` in this encoding."""
        raise NotImplementedError

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """Return the `ok` of the command with this id, in this encoding."""
        raise NotImplementedError

    def transcode(self, payload: bytes) -> bytes:
        """Return a push in this encoding; `payload` is its JSON text.

        Raises:
            Exception: `payload` is no JSON text, or has a value that this encoding cannot carry.
        """
        raise NotImplementedError

    def _read(self, payload: bytes, decode: Callable[[bytes], Decoded]) -> Decoded:
        try:
            try:
                return decode(payload)
            except msgspec.ValidationError as error:
                if re.search("got `(float|null|None)`", str(error)) is None:
                    raise
                return self._read_tidied(payload, decode, error)
        except msgspec.ValidationError as error:
            reason = problem = readable(error)
        except UnicodeDecodeError:
            reason = problem = f"message: {NOT_UTF8}"
        except msgspec.DecodeError as error:
            reason, problem = "", str(error)
        except RecursionError:
            reason, problem = "", "is nested too deeply"
        try:
            id = self._id_of(bytes(self._envelope(payload).id)) if reason else None
        except _BROKEN:
            reason = ""
        if not reason:
            reason, id = self._explain(payload, problem)
        raise BadRequest(reason, id=id)

    def _explain(self, payload: bytes, problem: str) -> tuple[str, int | None]:
        """Return the fault and the `id` of a payload that no decoder accepts.

        Raises:
            Malformed: the payload is no message.
        """
        raise NotImplementedError

    def _id_of(self, encoded: bytes) -> int | None:
        try:
            return valid_id(self._number(encoded))
        except _BROKEN:
            return None

    def _read_tidied(
        self, payload: bytes, decode: Callable[[bytes], Decoded], error: msgspec.ValidationError
    ) -> Decoded:
        try:
            return decode(self._tidied(payload))
        except msgspec.ValidationError as other:
            # The first error already says that a required field is null.
            is_missing = "missing required field" in str(other) and "float" not in str(error)
            raise (error if is_missing else other) from None

    def _tidied(self, payload: bytes) -> bytes:
        """Return a command without null fields, and with integers in place of integral doubles.

        Many libraries write null for absent values. JavaScript has one type of numbers, so msgpackr
        writes every integer above 2^32 as a double.
        """
        null = self._encode(None)
        fields = {
            name: value
            for name, value in self._fields(payload).items()
            if name == "data" or bytes(value) != null
        }
        for name in self._integers:
            if name in fields:
                fields[name] = self._integer(fields[name])
        if "since" in fields:
            since = self._fields(bytes(fields["since"]))
            if "seq" in since:
                since["seq"] = self._integer(since["seq"])
            fields["since"] = Raw(self._encode(since))
        return self._encode(fields)

    def _integer(self, encoded: Raw) -> Raw:
        try:
            value = self._number(bytes(encoded))
        except _BROKEN:
            return encoded
        whole = value.is_integer() and abs(value) <= 2**53
        return Raw(self._encode(int(value))) if whole else encoded


class JsonCodec(Codec):
    """JSON text, RFC 8259, in UTF-8."""

    subprotocol = "chat.v1.json"
    binary = False

    def __init__(self, commands: Commands = COMMANDS) -> None:
        super().__init__(msgspec.json, commands)
        self._skim = msgspec.json.Decoder(_Map).decode
        self._batch = msgspec.json.Decoder(Batch).decode
        self._message = msgspec.json.Decoder(_Message).decode
        self._pack = msgspec.msgpack.Encoder().encode

    def decode_body(
        self, body: bytes, kind: type[Command], fields: Mapping[str, object]
    ) -> Command:
        """Return the command of an HTTP request, checked like a command from a WebSocket.

        Args:
            body: a JSON object with fields of the command.
            kind: the command.
            fields: the fields of the request's address, which replace fields of the body.

        Raises:
            BadRequest: the command is not valid; the message names the field and the rule.
        """
        given: dict[str, Any] = dict(self._read(body, self._fields))
        given.pop("id", None)
        given["type"] = kind.__struct_config__.tag
        # The encoder of `json` accepts integers of any size; the decoder then refuses large ones.
        given |= {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}
        return self.decode(self._encode(given))

    def decode_publication(self, body: bytes, topic: str | None = None) -> Publish:
        """Return the command of a publishing request, like `decode_body` but in one pass.

        Args:
            body: a JSON object with fields of the command.
            topic: the topic of the request's address; None if the body has the topic.

        Raises:
            BadRequest: the command is not valid; the message names the field and the rule.
        """
        try:
            message = self._message(body)
            name = message.topic if topic is None else topic
        except _BROKEN:
            name = None
        if name is None:  # unusual, or wrong: `decode_body` says how
            fields = {} if topic is None else {"topic": topic}
            command = self.decode_body(body, Publish, fields)
            assert isinstance(command, Publish)  # noqa: S101 - the kind that was asked for
            return command
        data = Raw(self.json_data(bytes(message.data)))
        return Publish(topic=name, data=data, key=message.key, state=message.state)

    def decode_batch(self, body: bytes) -> Batch:
        """Return the messages of a batch, unchecked.

        Raises:
            BadRequest: `body` has no messages, or is no JSON object; the message names the rule.
        """
        try:
            return self._read(body, self._batch)
        except BadRequest:
            batch = lenient_batch(body)
            if batch is None:
                raise
            return batch

    def check_data(self, data: bytes, id: int | None = None) -> None:
        """Check that `data` is JSON text that either encoding can carry.

        Raises:
            BadRequest: `data` breaks a rule, named by the message.
        """
        self.json_data(data, id)

    def json_data(self, data: bytes, id: int | None = None) -> bytes:
        """Return checked `data` as JSON text."""
        try:
            value = self._value(data)
            # Shorter text cannot be nested so deeply.
            if len(data) > 2 * MAX_DEPTH and data.count(b"[") + data.count(b"{") > MAX_DEPTH:
                check_depth(value)
            # MessagePack integers end at 64 bits. Larger ones are refused here, so that one sender
            # cannot make the encoding of another subscriber's push fail later.
            # `find`, because `in` takes longer than all the rest.
            if self._pack(value).find(_PROTOTYPE) >= 0:
                check_keys(value)
        except OverflowError:
            raise BadRequest("data: integers must fit into 64 bits", id=id) from None
        except RecursionError:
            raise BadRequest(TOO_DEEP, id=id) from None
        except BadData as error:
            raise BadRequest(str(error), id=id) from None
        except UnicodeDecodeError:
            raise BadRequest(f"data: {NOT_UTF8}", id=id) from None
        except msgspec.DecodeError as error:
            raise BadRequest(f"data: is not valid JSON: {error}", id=id) from None
        colons = data.count(b":")
        flat = colons < 2 or (isinstance(value, dict) and len(value) == colons)
        return data if flat else self._distinct(data, value)

    def _distinct(self, data: bytes, value: Any) -> bytes:
        """Return JSON text without duplicate keys in maps; the last entry of a key stays.

        Decoders differ in the entry that they keep.
        """
        plain = self._encode(value)
        # Both texts have the same strings, so the number of colons differs only with the keys.
        as_many = data.count(b":") == plain.count(b":")
        escaped = BACKSLASH in data and re.search(rb"\\u003[aA]", data) is not None
        return data if as_many and not escaped else plain

    def encode(self, message: ServerMessage) -> bytes:
        """Return a message as JSON text."""
        return self._encode(message)

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """Return an `ok` as JSON text."""
        fields = self._encode(ok)
        separator = b"," if len(fields) > len(b"{}") else b""
        return b'{"type":"ok","id":%d%b%b' % (id, separator, fields[1:])

    def transcode(self, payload: bytes) -> bytes:
        """See `Codec`."""
        if not payload.isascii():
            payload.decode()
        self._skim(payload)
        return payload

    def _explain(self, payload: bytes, problem: str) -> tuple[str, int | None]:
        reason, id = explain_json(payload, problem)
        return reason, valid_id(id)


class MsgpackCodec(Codec):
    """MessagePack maps with string keys, and only values that JSON can express."""

    subprotocol = "chat.v1.msgpack"
    binary = True

    def __init__(self, commands: Commands = COMMANDS) -> None:
        super().__init__(msgspec.msgpack, commands)
        self._to_json = msgspec.json.Encoder().encode
        self._from_json = msgspec.json.Decoder().decode

    def json_data(self, data: bytes, id: int | None = None) -> bytes:
        """Return checked `data` as JSON text."""
        try:
            value = self._value(check_msgpack(data))
            plain = self._to_json(value)
            if plain.find(_PROTOTYPE) >= 0:
                check_keys(value)
        except BadData as error:
            raise BadRequest(str(error), id=id) from None
        except UnicodeDecodeError:
            raise BadRequest(f"data: {NOT_UTF8}", id=id) from None
        except msgspec.DecodeError as error:
            raise BadRequest(f"data: is not valid MessagePack: {error}", id=id) from None
        return plain

    def encode(self, message: ServerMessage) -> bytes:
        """Return a message as MessagePack."""
        return self.transcode(self._to_json(message))

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        """Return an `ok` as MessagePack."""
        if not isinstance(ok, HistoryOk):
            return self.transcode(JSON.encode_ok(id, ok))
        # The messages of a history page are in this encoding already.
        rest = self._from_json(self._to_json(msgspec.structs.replace(ok, messages=[])))
        return self._pack({"type": "ok", "id": id, **rest, "messages": ok.messages})

    def transcode(self, payload: bytes) -> bytes:
        """See `Codec`."""
        return with_safe_integers(self._pack(self._from_json(payload)))

    def _pack(self, message: dict[str, Any]) -> bytes:
        # Most messages have these two fields, and to walk through a message costs more than
        # encoding.
        at, id = message.get("at"), message.get("id")
        if at.__class__ is int and at > MAX_UINT32:
            message["at"] = float(at)
        if id.__class__ is int and id > MAX_UINT32:
            message["id"] = float(id)
        return self._encode(message)

    def _explain(self, payload: bytes, problem: str) -> tuple[str, int | None]:
        reason, id = explain_msgpack(payload, problem)
        return reason, self._id_of(id)


def _integer_fields(commands: Commands) -> frozenset[str]:
    """Return the names of all integer fields of the commands."""
    return frozenset(
        field.encode_name
        for kind in commands
        for field in msgspec.structs.fields(kind)
        if int in _parts(field.type)
    )


def _parts(kind: Any) -> Iterator[Any]:
    """Yield a type, or the members of a union, without their annotations."""
    if get_origin(kind) is Annotated:
        yield from _parts(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _parts(member)
    else:
        yield kind


def readable(error: msgspec.ValidationError, whole: str = "message") -> str:
    """Name the field first: "Expected X - at `$.topic`" becomes "topic: expected X".

    Args:
        error: msgspec's error.
        whole: the name to use if the error concerns no field.
    """
    # From the right, because the rule may quote a text of the client's that looks like a path.
    rule, found, path = str(error).rpartition(" - at `$")
    if not found:
        rule, path = path, ""
    field = path.rstrip("`").lstrip(".") or whole
    return f"{field}: {rule[:1].lower()}{rule[1:MAX_REASON]}"


JSON = JsonCodec()
MSGPACK = MsgpackCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
