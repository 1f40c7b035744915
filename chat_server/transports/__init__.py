"""The WebSocket route: the handshake, and the two transports that carry the messages."""
