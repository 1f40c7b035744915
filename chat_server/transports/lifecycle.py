"""The common state of both transports: the stage of the close, and the reasons not to read."""

from enum import Enum, IntEnum, auto


class ConnectionState(IntEnum):
    """The stage of a connection's close; the stage never goes back."""

    OPEN = 0
    REMOTE_CLOSED = 1
    """The client sends no more messages, and the receiver knows; we can still write."""
    CLOSING = 2
    """Our close has been sent. No packet is written, and no message is delivered any more."""
    GONE = 3
    """The receiver knows that the connection is gone."""


class Hold(Enum):
    """A reason not to read from a client."""

    COMMANDS = auto()
    """The session has its maximum of commands under way."""
    SLOW = auto()
    """The write buffer is full: the client reads too slowly."""
    STOPPED = auto()
    """The session wants no more messages. Messages already read are still delivered."""


class ReadGate:
    """Stops the reading from a client while there is any reason."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds: frozenset[Hold] = frozenset()
        """The reasons; a plain attribute, because every message looks at it."""

    def hold(self, reason: Hold) -> None:
        """Stop reading, for one more reason."""
        self.holds |= {reason}

    def release(self, reason: Hold) -> None:
        """Remove a reason; reading continues unless another reason is left."""
        self.holds -= {reason}

    @property
    def hands_over(self) -> bool:
        """Whether the receiver takes messages already read."""
        return self.holds <= _ONLY_STOPPED


_ONLY_STOPPED = frozenset({Hold.STOPPED})
