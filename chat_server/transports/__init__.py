"""The WebSocket route: the handshake, and two transports for the messages."""
