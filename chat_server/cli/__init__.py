"""The command line: `chat-server serve`, `token`, and commands of a client such as `publish`."""

import errno
import sys

from .output import INTERRUPTED, drop_output

__all__ = ["main"]


def main(prog_name: str | None = None) -> None:
    """Run the command of the arguments; neither Ctrl-C nor a full disk gives a traceback.

    Args:
        prog_name: the program's name in its own messages.
    """
    # Imported here, because Ctrl-C or SIGHUP may come during the slow import.
    try:
        terminal = None
        if sys.argv[1:2] == ["serve"]:
            from ..server.hangup import Terminal

            terminal = Terminal()
        from .commands import main as command

        command(prog_name=prog_name, obj=terminal)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        drop_output()
        sys.exit(f"chat-server: stdout: {error.strerror}")
