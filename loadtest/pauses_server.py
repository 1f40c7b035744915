"""`python -m loadtest.pauses_server serve …`: the chat server with notes of garbage collections.

Not part of the product: only a load test needs the notes, and noting costs a little.
"""

import gc
import os
import time

from chat_server.cli import main

from .pauses import NOTE, VARIABLE


def note_collections(path: str) -> None:
    """From now on append a note for each collection of this process."""
    # One short write at the end of the file, so workers can share the file.
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begin = worked = 0

    def on_collection(phase: str, info: dict[str, int]) -> None:
        nonlocal begin, worked
        if phase == "start":
            begin, worked = time.monotonic_ns(), time.thread_time_ns()
            return
        took, worked = time.monotonic_ns() - begin, time.thread_time_ns() - worked
        os.write(notes, NOTE.pack(info["generation"], begin, took, worked))

    gc.callbacks.append(on_collection)


# Not below `__main__`: workers of a supervisor import this module by another name.
note_collections(os.environ[VARIABLE])

if __name__ == "__main__":
    main(prog_name="chat-server")
