"""The exit of the command. Imports nothing slow: Ctrl-C may come during the other imports."""

import os
import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def drop_output() -> None:
    """Discard buffered output, so that Python does not try to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
