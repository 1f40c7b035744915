"""What SIGHUP says: a terminal is gone, or whoever runs the server wants its workers replaced."""

import os

STDIN = 0


class Terminal:
    """The terminal that the server was started in, if any."""

    def __init__(self) -> None:
        self._had_one = os.isatty(STDIN)

    @property
    def is_gone(self) -> bool:
        """Whether there was one and is no more."""
        return self._had_one and not os.isatty(STDIN)
