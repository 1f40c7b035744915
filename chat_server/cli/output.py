"""The exit of the command. Imports nothing slow: Ctrl-C may come while the rest is loaded."""

import os
import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def drop_output() -> None:
    """Discard buffered output, which Python would else try to write at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
