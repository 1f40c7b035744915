"""The actions that a namespace allows to every valid token, regardless of the token's topics."""

from collections.abc import Mapping

from msgspec import Struct

from ..protocol.command_table import Grant
from ..settings import Namespace, Settings


class OpenTopics(Struct, frozen=True):
    """The `allow_…` settings of the namespaces.

    Args:
        named: the actions that are open to every user, by namespace.
        rest: the open actions of topics in other namespaces.
    """

    named: Mapping[str, frozenset[str]] = {}
    rest: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> "OpenTopics":
        """Return the open actions of the settings."""
        named = {name: _actions(namespace) for name, namespace in settings.namespaces.items()}
        return cls(named, _actions(settings.namespace("")))

    def may(self, grant: Grant, topic: str) -> bool:
        """Return whether every user with a token has `grant` in a well-formed topic."""
        return grant in self.named.get(topic.partition(":")[0], self.rest)


CLOSED = OpenTopics()
"""No open actions."""


def _actions(namespace: Namespace) -> frozenset[str]:
    allowed = {
        "subscribe": namespace.allow_subscribe,
        "publish": namespace.allow_publish,
        "history": namespace.allow_history,
        "presence": namespace.allow_presence,
    }
    return frozenset(action for action, open_to_all in allowed.items() if open_to_all)
