"""permessage-deflate, RFC 7692, without context takeover: one compression serves all subscribers.

With context takeover, which most servers use, every connection would compress every message again,
and keep a window of some 300 KB.
"""

import zlib
from collections.abc import Sequence

from websockets.exceptions import InvalidHandshake
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionParameter

from .frames import frame

MIN_BYTES = 256
"""Bytes of the shortest compressed message; answers and most chat messages are shorter."""

LEVEL = 4
WINDOW_BITS = 15

_COMPRESSED = 0x40
_FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


def compressed_frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame with this first byte, compressed if the result is shorter."""
    if len(payload) >= MIN_BYTES:
        deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS)
        data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        # The last four bytes are the same in every message: section 7.2.1.
        if len(data) - 4 < len(payload):
            return frame(first | _COMPRESSED, data[:-4])
    return frame(first, payload)


def negotiate_deflate(offers: list[str]) -> tuple[str, Extension] | None:
    """Accept the first offer of permessage-deflate that a shared compressor can serve.

    Args:
        offers: the Sec-WebSocket-Extensions headers.

    Returns:
        The header of the answer, and the extension for reading the client's messages. None if no
        offer fits, or if an offer cannot be parsed.
    """
    try:
        for offer in offers:
            for name, parameters in parse_extension(offer):
                if name == _FACTORY.name and (accepted := _accept(parameters)) is not None:
                    return accepted
    except InvalidHandshake:
        return None
    return None


def _accept(parameters: Sequence[ExtensionParameter]) -> tuple[str, Extension] | None:
    try:
        answer, extension = _FACTORY.process_request_params(parameters, [])
    except InvalidHandshake:
        return None
    # A client with a smaller window cannot read the bytes that the other clients share.
    if extension.local_max_window_bits < WINDOW_BITS:
        return None
    return build_extension([(_FACTORY.name, answer)]), extension
