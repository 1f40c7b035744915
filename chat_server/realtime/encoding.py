"""Encodes pushes: the text or bytes that an encoder of `ports` puts into its packets."""

import logging

from ..events import Event
from ..logs import LogThrottle
from ..protocol.codecs import Codec
from .ports import Push

logger = logging.getLogger(__name__)
throttle = LogThrottle()


def encode_push(codec: Codec, push: Push) -> bytes | None:
    """Return a push in an encoding, or None for an event whose payload is no JSON text.

    Workers write only JSON, but other programs may write to the store.
    """
    if not isinstance(push, Event):
        return codec.encode(push)
    try:
        return codec.transcode(push.payload)
    except Exception as error:
        if throttle.due("no JSON"):
            logger.error("topic %s: left out an event that is no JSON: %s", push.topic, error)
        return None
