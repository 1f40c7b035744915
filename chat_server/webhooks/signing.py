"""Signatures of the sender and the time, by Standard Webhooks (standardwebhooks.com).

The project's library (1.1.0) signs with one secret only, and treats a time of any zone as UTC. The
tests verify our signatures with the library.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from hmac import digest
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (a prefix)

SECRET_RULE: Final = "must be whsec_ and the base64 of 24 to 64 bytes"  # noqa: S105  (a rule)

_LEAST, _MOST = 24, 64


def parse_secret(text: str) -> bytes:
    """Return the key of a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.

    Raises:
        ValueError: the secret has another form, or is too short or too long; the text does not
            reveal the secret.
    """
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        # Padding may be left out, as the project's libraries allow.
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(SECRET_RULE) from None
    if encoded == text or not _LEAST <= len(key) <= _MOST:
        raise ValueError(SECRET_RULE)
    return key


def message_id(name: str, body: bytes) -> str:
    """Return the id of a message: equal for equal bodies, for every sender and at every time."""
    return f"msg_{sha256(name.encode() + b'.' + body).hexdigest()[:32]}"


def signed_headers(keys: Iterable[bytes], id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers that a receiver verifies.

    Args:
        keys: each key signs, so a receiver may know the old or the new key during a rotation.
        id: the id of the message, without a full stop.
        at: the time of this attempt, in seconds since 1970.
        body: exactly the bytes of the request.
    """
    signed = b"%b.%d.%b" % (id.encode(), at, body)
    signatures = (f"v1,{b64encode(digest(key, signed, sha256)).decode()}" for key in keys)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }
