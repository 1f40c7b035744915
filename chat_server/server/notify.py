"""Tells the service manager how far the server is, as systemd's `Type=notify` expects it."""

import logging
import os
import socket

logger = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Tell the service manager a state; do nothing where none wants to know.

    Args:
        state: an assignment of sd_notify(3), such as `READY=1`; several stand in lines.
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
