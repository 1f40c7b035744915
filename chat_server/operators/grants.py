"""What an operator's token allows."""

from typing import Final

from msgspec import Struct

from ..auth.permissions import allows
from ..protocol.errors import Forbidden
from ..service.actor import Actor

EVERYTHING: Final = "**"
"""The pattern of an operator who may do everything."""


class Operator(Struct, frozen=True):
    """Who gives an order.

    Args:
        name: the user of the token.
        patterns: the topics for which the token has the grant `admin`.
    """

    name: str
    patterns: tuple[str, ...]

    @property
    def has_everything(self) -> bool:
        """Whether the grant is for more than some topics."""
        return EVERYTHING in self.patterns

    def may(self, topic: str) -> bool:
        """Return whether the grant is for a topic."""
        return allows(self.patterns, topic, self.name)

    def require_everything(self) -> None:
        """Check that the grant is for more than some topics.

        Raises:
            Forbidden: it is not.
        """
        if not self.has_everything:
            raise Forbidden(
                f"token: its grant admin is for some topics only; this needs {EVERYTHING!r}"
            )

    def require(self, topic: str) -> None:
        """Check that the grant is for a topic.

        Raises:
            Forbidden: it is not.
        """
        if not self.may(topic):
            raise Forbidden("topic: the token does not allow admin here", topic=topic)


def operator_of(actor: Actor) -> Operator:
    """Return the operator that an actor is.

    Raises:
        Forbidden: the token has no grant `admin`.
    """
    patterns = actor.claims.topics.admin if actor.claims is not None else ()
    if not patterns:
        raise Forbidden("token: has no grant admin")
    return Operator(actor.user, patterns)
