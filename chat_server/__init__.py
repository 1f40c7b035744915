"""A real-time chat and pub/sub server: WebSocket first, Redis between workers."""

__version__ = "0.1.0"
