"""The client's side of the two encodings of `chat.v1`."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..events import Seq
from ..protocol.codecs import JSON, MSGPACK
from ..protocol.commands import Command
from .data import check_data
from .errors import BadServer

Encoding = Literal["json", "msgpack"]

MAX_SHOWN = 80

T = TypeVar("T")


class Envelope(Struct):
    """The fields by which a message is dispatched."""

    type: str
    id: int | None = None
    topic: str | None = None
    seq: Seq | None = None


class Done(Struct, frozen=True):
    """An answer without relevant content."""


class ClientCodec:
    """Encodes commands and decodes the server's messages.

    Args:
        encoding: `json` or `msgpack`.
    """

    def __init__(self, encoding: Encoding) -> None:
        codec = {"json": JSON, "msgpack": MSGPACK}[encoding]
        library = {"json": msgspec.json, "msgpack": msgspec.msgpack}[encoding]
        self.subprotocol = codec.subprotocol
        self.binary = codec.binary
        self._encode: Callable[[object], bytes] = library.Encoder().encode
        self._library = library
        self._decoders: dict[Any, Any] = {}

    def data(self, value: object) -> Raw:
        """Encode the data of a publication.

        Raises:
            TypeError, ValueError: `value` cannot be published; the message names the place within
                `value`.
        """
        check_data(value)
        return Raw(self._encode(value))

    def encode(self, command: Command) -> bytes:
        """Return `command` as one WebSocket message.

        Raises:
            ValueError: `command` contains text that is not valid Unicode.
        """
        try:
            return self._encode(command)
        except UnicodeEncodeError as error:
            text = error.object[:MAX_SHOWN]
            raise ValueError(f"{text!r} holds half a surrogate pair, which is no text") from None

    def decode(self, payload: bytes, kind: type[T]) -> T:
        """Decode a WebSocket message; fields that `kind` does not have are ignored.

        Raises:
            BadServer: `payload` is not a message of this kind.
        """
        decoder = self._decoders.get(kind)
        if decoder is None:
            # Not strict: MessagePack integers above 2^32 come as doubles.
            decoder = self._decoders[kind] = self._library.Decoder(kind, strict=False)
        try:
            message: T = decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadServer(f"the server sent what is not {self.subprotocol}: {error}") from None
        return message
