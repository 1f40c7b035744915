"""Publishes over HTTP the events that clients will miss."""

import http.client
import re
import time

from .dialects import DIALECTS, Position, data_of
from .server import Target
from .wire import LoadError

SECONDS = 30.0
"""Seconds that one answer may take."""

_EPOCH = re.compile(rb'"epoch":"([^"]*)"').search


def fill(
    target: Target, topic: str, messages: int, *, before: int = 0, payload_bytes: int = 100
) -> Position:
    """Publish messages to a topic of a server.

    Args:
        target: the server.
        topic: the topic; the returned position is correct only for a new topic.
        messages: number of messages.
        before: number of earlier messages.
        payload_bytes: bytes of the JSON text of each message's `data`.

    Returns:
        The position of the last message of `before`.

    Raises:
        LoadError: the server refuses messages.
    """
    dialect = DIALECTS[f"{target.dialect} http"]
    token = target.mint("filler", topic)
    lines = (line.partition(": ") for line in dialect.headers(token).splitlines())
    headers = {name: value for name, _, value in lines} | {"Content-Type": "application/json"}
    connection = http.client.HTTPConnection(target.host, target.port, timeout=SECONDS)
    epoch = ""
    try:
        for number in range(1, before + messages + 1):
            body = dialect.publish(topic, number, data_of(time.monotonic_ns(), payload_bytes))
            connection.request("POST", dialect.path(topic), body, headers)
            with connection.getresponse() as response:
                answer = response.read()
            found = _EPOCH(answer)
            if response.status >= 300 or found is None:
                raise LoadError(f"{topic} cannot be filled: HTTP {response.status} {answer!r}")
            epoch = found[1].decode()
    except OSError as error:
        raise LoadError(f"{topic} cannot be filled: {error}") from None
    finally:
        connection.close()
    return Position(epoch, before)
