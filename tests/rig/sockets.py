"""Sockets with small kernel buffers."""

import asyncio
import socket

BIND_ADDRESS_NO_PORT = 24
"""The option IP_BIND_ADDRESS_NO_PORT of Linux, which `socket` does not define."""


async def connected_socket(
    host: str,
    port: int,
    *,
    receive_buffer: int | None = None,
    segment: int | None = None,
    source: str = "",
) -> socket.socket:
    """Return a connected, non-blocking TCP socket.

    Args:
        host: an IP address.
        receive_buffer: bytes of the kernel's receive buffer; None for the system's default.
        segment: bytes of a TCP segment at most. The loopback's segments are 64 KiB long, so without
            this bound the kernels of both sides would hold megabytes.
        source: the IPv4 source address; Linux only.
    """
    connected = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connected.setblocking(False)
    try:
        if receive_buffer is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if source:
            # Else `bind` looks for a port that is free on all addresses, and that takes long.
            connected.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            connected.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(connected, (host, port))
    except BaseException:
        connected.close()
        raise
    return connected
