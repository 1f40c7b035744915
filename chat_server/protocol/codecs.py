"""The two encodings of `chat.v1`, and the checks that make `data` safe to pass on.

`data` is passed through, not interpreted, so it must be proven harmless on the way in: whatever is
accepted here can be written into every subscriber's frame in either encoding. `msgspec.Raw` alone
does not promise that (it takes invalid UTF-8 inside strings), hence the full decode.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from .errors import BadRequest, Malformed
from .messages import ClientMessage, Id, Publish, PublishBody, ServerMessage, Signal
from .nesting import MAX_DEPTH, TOO_DEEP, BadData, check_depth, check_msgpack

MAX_REASON = 200
"""Characters of a reason that are sent: it may quote what the client wrote."""


class _Envelope(Struct):
    """As much of a message as is needed to say which one was wrong."""

    # Only looked at if it may be an id: nothing is built of what a client sends instead.
    id: Raw = Raw()


class _Map(Struct):
    """Any map: what is in it is read over, which takes a third of the time of decoding it."""


class Codec:
    """One encoding: its subprotocol, the kind of frame it uses, and both directions.

    Args:
        subprotocol: the name that selects it in the handshake.
        binary: whether its messages are binary frames.
    """

    subprotocol: str
    binary: bool

    def decode(self, frame: bytes, *, check_data: bool = True) -> ClientMessage:
        """Return the command in `frame`, with any `data` turned into checked JSON text.

        Args:
            frame: one message's payload.
            check_data: whether it will be used; else it is left as it came.

        Raises:
            Malformed: `frame` is not a map in this encoding.
            BadRequest: it is, but breaks a rule; bears the message's `id` if it has a valid one.
        """
        raise NotImplementedError

    def encode(self, message: ServerMessage) -> bytes:
        """Return `message` as one frame's payload."""
        raise NotImplementedError

    def transcode(self, frame: bytes) -> bytes:
        """Return a push whose JSON text is `frame` in this encoding.

        Raises:
            Exception: it is none, or holds what this encoding cannot carry.
        """
        raise NotImplementedError


class JsonCodec(Codec):
    """JSON text, RFC 8259, in UTF-8."""

    subprotocol = "chat.v1.json"
    binary = False

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(ClientMessage).decode
        self._decode_body = msgspec.json.Decoder(PublishBody).decode
        self._find_id = partial(
            _find_id, msgspec.json.Decoder(_Envelope).decode, msgspec.json.Decoder(Id).decode
        )
        self._value = msgspec.json.Decoder().decode
        self._skim = msgspec.json.Decoder(_Map).decode
        self._pack = msgspec.msgpack.Encoder().encode
        self._encode = msgspec.json.Encoder().encode

    def decode(self, frame: bytes, *, check_data: bool = True) -> ClientMessage:
        command: ClientMessage = _decode(frame, self._decode, self._find_id)
        if check_data and isinstance(command, Publish | Signal):
            self.check_data(bytes(command.data), command.id)
        return command

    def decode_body(self, body: bytes) -> PublishBody:
        """Return the publication in an HTTP request's body, with its `data` checked.

        Raises:
            BadRequest: it is none; the message names the field and the rule.
        """
        publication = _decode(body, self._decode_body, self._find_id)
        self.check_data(bytes(publication.data))
        return publication

    def check_data(self, data: bytes, id: int | None = None) -> None:
        """Check that `data` is JSON text that either encoding can carry.

        Raises:
            BadRequest: it is not; the message names the rule.
        """
        try:
            value = self._value(data)
            if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
                check_depth(value)
            # MessagePack ends at 64 bits; refusing here keeps one sender from failing another's
            # encoding later.
            self._pack(value)
        except OverflowError:
            raise BadRequest("data: integers must fit into 64 bits", id=id) from None
        except RecursionError:
            raise BadRequest(TOO_DEEP, id=id) from None
        except BadData as error:
            raise BadRequest(str(error), id=id) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"data: is not valid JSON: {error}", id=id) from None

    def encode(self, message: ServerMessage) -> bytes:
        return self._encode(message)

    def transcode(self, frame: bytes) -> bytes:
        if not frame.isascii():
            frame.decode()
        self._skim(frame)
        return frame


class MsgpackCodec(Codec):
    """MessagePack maps with string keys, holding only what JSON can express."""

    subprotocol = "chat.v1.msgpack"
    binary = True

    def __init__(self) -> None:
        self._decode = msgspec.msgpack.Decoder(ClientMessage).decode
        self._find_id = partial(
            _find_id, msgspec.msgpack.Decoder(_Envelope).decode, msgspec.msgpack.Decoder(Id).decode
        )
        self._value = msgspec.msgpack.Decoder(strict=True).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._to_json = msgspec.json.Encoder().encode
        self._from_json = msgspec.json.Decoder().decode

    def decode(self, frame: bytes, *, check_data: bool = True) -> ClientMessage:
        command: ClientMessage = _decode(frame, self._decode, self._find_id)
        if check_data and isinstance(command, Publish | Signal):
            command.data = Raw(self._json_data(bytes(command.data), command.id))
        return command

    def _json_data(self, data: bytes, id: int | None) -> bytes:
        try:
            check_msgpack(data)
            return self._to_json(self._value(data))
        except BadData as error:
            raise BadRequest(str(error), id=id) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"data: is not valid MessagePack: {error}", id=id) from None

    def encode(self, message: ServerMessage) -> bytes:
        return self.transcode(self._to_json(message))

    def transcode(self, frame: bytes) -> bytes:
        return self._encode(self._from_json(frame))


Decoded = TypeVar("Decoded")


def _decode(
    frame: bytes, decode: Callable[[bytes], Decoded], find_id: Callable[[bytes], int | None]
) -> Decoded:
    try:
        try:
            return decode(frame)
        except msgspec.ValidationError as error:
            reason = readable(error)
        except UnicodeDecodeError:
            reason = "message: holds text that is not UTF-8"
        id = find_id(frame)
    except msgspec.ValidationError:
        raise Malformed(f"message: must be a map with string keys: {reason}") from None
    except msgspec.DecodeError as error:
        raise Malformed(f"message: cannot be parsed: {error}") from None
    except RecursionError:
        raise Malformed("message: is nested too deeply") from None
    raise BadRequest(reason, id=id)


def _find_id(
    envelope: Callable[[bytes], _Envelope], read: Callable[[bytes], int], frame: bytes
) -> int | None:
    id = bytes(envelope(frame).id)
    try:
        return read(id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def readable(error: msgspec.ValidationError) -> str:
    """Name the field first: "Expected X - at `$.topic`" becomes "topic: expected X"."""
    # From the right: the rule may quote text of the client's that looks like a path.
    rule, found, path = str(error).rpartition(" - at `$")
    if not found:
        rule, path = path, ""
    field = path.rstrip("`").lstrip(".") or "message"
    return f"{field}: {rule[:1].lower()}{rule[1:MAX_REASON]}"


JSON = JsonCodec()
MSGPACK = MsgpackCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
