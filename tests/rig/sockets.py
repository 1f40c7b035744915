"""Sockets for which the kernel keeps little that was not read."""

import asyncio
import socket


async def connected_socket(
    host: str, port: int, *, receive_buffer: int | None = None, segment: int | None = None
) -> socket.socket:
    """Return a connected, non-blocking TCP socket.

    Args:
        host: an IP address.
        receive_buffer: bytes that the kernel buffers, by default as it likes.
        segment: bytes of a TCP segment at most. The loopback's are 64 KiB long, so without this the
            kernels of both sides would hold megabytes.
    """
    connected = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connected.setblocking(False)
    try:
        if receive_buffer is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        await asyncio.get_running_loop().sock_connect(connected, (host, port))
    except BaseException:
        connected.close()
        raise
    return connected
