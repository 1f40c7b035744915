"""Functions of an application that are asked before something happens, or told of it.

Here is what hooks are given, how they are found, and how they are run. What a command has to do
with them is in `service/hooked.py`.
"""

from .subjects import Call, Client, Publication, StoredEvent, Subscription

__all__ = ["Call", "Client", "Publication", "StoredEvent", "Subscription"]
