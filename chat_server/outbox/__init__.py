"""Publishing in the same transaction as an application's own data (docs/outbox.md)."""

from .outbox import Outbox, ParkedTopic

__all__ = ["Outbox", "ParkedTopic"]
