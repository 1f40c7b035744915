"""The log of what operators have changed: who, what and why, a line for each change."""

import logging
from typing import Final

from .grants import Operator

audit: Final = logging.getLogger("chat_server.audit")


ACTIONS: Final = {
    "users": "block",
    "tokens": "revoke",
    "issued": "revoke",
    "keys": "revoke",
    "topics": "close",
}
"""What putting something on a list is called."""


def record(operator: Operator, action: str, reason: str, **details: object) -> None:
    """Write down that an operator has changed something.

    Args:
        operator: who.
        action: what, as the command line names it.
        reason: why.
        details: whom or what it concerns, and what came of it; None is left out.
    """
    given = {name: value for name, value in details.items() if value is not None}
    what = " ".join(f"{name}={value!s:.256}" for name, value in given.items())
    extra = {"operator": operator.name, "action": action, "reason": reason, **given}
    audit.info("%s: %s %s: %s", operator.name, action, what, reason, extra=extra)
