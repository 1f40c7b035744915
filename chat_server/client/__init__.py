"""The Python client: for bots, scripts, the command line and load tests.

    async with connect("http://127.0.0.1:8000", token=token) as chat:
        await chat.publish("room:lobby", {"text": "hello"})

`client` and `verbs` have the public calls, `reconnector` replaces lost connections, `renewal` keeps
tokens fresh, `delivery` stores each event once (`publication` a message, `changes` its changes,
`stream` a streamed message, `batches` many messages at once), `subscriptions` and `subscription`
deliver each event once, `folding` applies changes to messages, `flow` limits the events held for
slow consumers, `connection` is one WebSocket, `opening` is the handshake of a WebSocket, and `api`
sends HTTP requests.
"""

from ..protocol.topics import topic_segment
from .batches import NewMessage
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
    Unrecoverable,
)
from .events import (
    Appended,
    Changed,
    Cursor,
    Deleted,
    Edited,
    Event,
    Gap,
    Join,
    Leave,
    Message,
    Other,
    Page,
    Position,
    Presence,
    Present,
    PresentUser,
    Published,
    Reaction,
    Reactions,
    Read,
    Reader,
    Signal,
    Unread,
    User,
)
from .folding import Messages
from .reconnector import ClientState
from .search import Hit, Hits
from .stream import Stream
from .subscription import Subscription

__all__ = [
    "Appended",
    "Backoff",
    "BadServer",
    "Changed",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientState",
    "CommandFailed",
    "ConnectFailed",
    "ConnectionLost",
    "Cursor",
    "Deleted",
    "Disconnected",
    "Edited",
    "Ending",
    "Event",
    "Gap",
    "Hit",
    "Hits",
    "Join",
    "Leave",
    "Message",
    "Messages",
    "NewMessage",
    "NotConnected",
    "Other",
    "OutcomeUnknown",
    "Page",
    "Position",
    "Presence",
    "Present",
    "PresentUser",
    "Published",
    "Reaction",
    "Reactions",
    "Read",
    "Reader",
    "Signal",
    "Stream",
    "Subscription",
    "TimedOut",
    "TokenRejected",
    "Unread",
    "Unrecoverable",
    "User",
    "connect",
    "publish_all",
    "topic_segment",
]
