"""How the command ends; imports nothing that takes time, for a Ctrl-C while the rest is loaded."""

import os
import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def drop_output() -> None:
    """Let Python not try to write what is left of stdout when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
