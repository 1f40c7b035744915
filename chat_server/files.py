"""Reads files that settings name; a name may be any file at all by mistake."""

import errno
import os
import stat

MAX_BYTES = 1_048_576
"""Maximum bytes of a file with settings, keys or certificates."""


def read_file(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file, and never wait for a writer.

    A named pipe would block the reader until a writer comes, and a device might never end.

    Args:
        path: the path of the file, or of a symbolic link to the file.
        max_bytes: maximum size.

    Raises:
        OSError: the file cannot be read, is not regular, or is too long; `strerror` has the reason.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes")
    return content
