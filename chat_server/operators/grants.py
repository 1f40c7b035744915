"""The rights that an operator's token grants."""

from typing import Final

from msgspec import Struct

from ..auth.permissions import allows
from ..protocol.errors import Forbidden
from ..service.actor import Actor

EVERYTHING: Final = "**"
"""The pattern that grants an operator every topic and everything beyond topics."""


class Operator(Struct, frozen=True):
    """An operator, as the access token describes the user.

    Args:
        name: the user of the token.
        patterns: the topics for which the token has the grant `admin`.
    """

    name: str
    patterns: tuple[str, ...]

    @property
    def has_everything(self) -> bool:
        """Whether the grant covers everything, not only some topics."""
        return EVERYTHING in self.patterns

    def may(self, topic: str) -> bool:
        """Return whether the grant covers a topic."""
        return allows(self.patterns, topic, self.name)

    def require_everything(self) -> None:
        """Check that the grant covers everything.

        Raises:
            Forbidden: the grant covers some topics only.
        """
        if not self.has_everything:
            raise Forbidden(
                f"token: its grant admin is for some topics only; this needs {EVERYTHING!r}"
            )

    def require(self, topic: str) -> None:
        """Check that the grant covers a topic.

        Raises:
            Forbidden: the grant does not cover the topic.
        """
        if not self.may(topic):
            raise Forbidden("topic: the token does not allow admin here", topic=topic)


def operator_of(actor: Actor) -> Operator:
    """Return the actor as an operator.

    Raises:
        Forbidden: the token has no grant `admin`.
    """
    patterns = actor.claims.topics.admin if actor.claims is not None else ()
    if not patterns:
        raise Forbidden("token: has no grant admin")
    return Operator(actor.user, patterns)
