"""What both transports keep of a connection: how near its end is, and what holds its reading."""

from enum import Enum, IntEnum, auto


class ConnectionState(IntEnum):
    """How far a connection has come to its end; it never goes back."""

    OPEN = 0
    REMOTE_CLOSED = 1
    """Nothing more comes from the client, and the receiver has been told; we can still write."""
    CLOSING = 2
    """Our close has been sent. Nothing more is written, and nothing that comes is handed over."""
    GONE = 3
    """The receiver has been told that the connection is gone."""


class Hold(Enum):
    """A reason not to read from a client."""

    COMMANDS = auto()
    """The session has as many commands under way as it takes."""
    SLOW = auto()
    """The write buffer is full: the client reads too slowly."""
    STOPPED = auto()
    """The session wants nothing more. What has been read is still handed over."""


class ReadGate:
    """Holds the reading from a client as long as there is any reason to."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds: frozenset[Hold] = frozenset()
        """The reasons. A plain attribute, since every message looks at it."""

    def hold(self, reason: Hold) -> None:
        """Do not read, for one more reason."""
        self.holds |= {reason}

    def release(self, reason: Hold) -> None:
        """Read again, unless another reason is left."""
        self.holds -= {reason}

    @property
    def hands_over(self) -> bool:
        """Whether the receiver takes what has been read."""
        return self.holds <= _ONLY_STOPPED


_ONLY_STOPPED = frozenset({Hold.STOPPED})
