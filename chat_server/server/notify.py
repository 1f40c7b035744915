"""Reports the server's state to the service manager, by systemd's `Type=notify`."""

import logging
import os
import socket

logger = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Report a state to the service manager; do nothing without NOTIFY_SOCKET.

    Args:
        state: an assignment of sd_notify(3), such as `READY=1`; several assignments are separate
            lines.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            # An address in the abstract namespace is written with @ for its zero byte.
            manager.connect("\0" + address[1:] if address.startswith("@") else address)
            manager.send(state.encode())
    except OSError as error:
        logger.warning("NOTIFY_SOCKET: the service manager cannot be told %s: %s", state, error)
