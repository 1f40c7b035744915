"""The command line: `chat-server serve | token | publish | tail`."""

from .commands import main

__all__ = ["main"]
