"""The Python client: for bots, scripts, the command line and load tests.

    async with connect("http://127.0.0.1:8000", token=token) as chat:
        await chat.publish("room:lobby", {"text": "hello"})

`client` has the public calls, `reconnector` replaces lost connections, `renewal` keeps tokens
fresh, `publication` stores each message once, `subscriptions` and `subscription` deliver each event
once, `flow` bounds what waits for slow consumers, `connection` is one WebSocket, and `opening` its
handshake.
"""

from ..protocol.topics import topic_segment
from .bulk import publish_all
from .client import Client, connect
from .ending import Backoff, Ending
from .errors import (
    BadServer,
    ClientClosed,
    ClientError,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    Disconnected,
    NotConnected,
    OutcomeUnknown,
    TimedOut,
    TokenRejected,
)
from .events import Event, Gap, Message, Other, Page, Position, Published, Signal, User
from .reconnector import ClientState
from .subscription import Subscription

__all__ = [
    "Backoff",
    "BadServer",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientState",
    "CommandFailed",
    "ConnectFailed",
    "ConnectionLost",
    "Disconnected",
    "Ending",
    "Event",
    "Gap",
    "Message",
    "NotConnected",
    "Other",
    "OutcomeUnknown",
    "Page",
    "Position",
    "Published",
    "Signal",
    "Subscription",
    "TimedOut",
    "TokenRejected",
    "User",
    "connect",
    "publish_all",
    "topic_segment",
]
