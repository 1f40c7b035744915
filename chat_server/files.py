"""Reads the files that settings name, which may be anything at all by mistake."""

import errno
import os
import stat

MAX_BYTES = 1_048_576
"""The largest file of settings, keys or certificates that is read."""


def read_file(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file, and never wait for a writer.

    A named pipe would block whoever opens it until somebody writes, a device might never end.

    Args:
        path: of the file, or of a symbolic link to it.
        max_bytes: how long it may be.

    Raises:
        OSError: it cannot be read, is no regular file or too long; `strerror` says so in words.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes")
    return content
