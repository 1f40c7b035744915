"""Functions of an application that the server calls before or after an action of a client.

This package defines the arguments of hooks, finds hooks and runs hooks. `service/hooked.py`
connects hooks with commands.
"""

from .subjects import Call, Client, Publication, StoredEvent, Subscription

__all__ = ["Call", "Client", "Publication", "StoredEvent", "Subscription"]
