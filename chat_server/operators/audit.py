"""The audit log: a line for each change by an operator, with the operator and the reason."""

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
"""The action in the audit log for each list of denials."""


def record(operator: Operator, action: str, reason: str, **details: object) -> None:
    """Write a change by an operator to the audit log.

    Args:
        operator: the operator.
        action: the action, as the command line names it.
        reason: the operator's reason.
        details: the targets and the effect; None is left out.
    """
    given = {name: value for name, value in details.items() if value is not None}
    what = " ".join(f"{name}={value!s:.256}" for name, value in given.items())
    extra = {"operator": operator.name, "action": action, "reason": reason, **given}
    audit.info("%s: %s %s: %s", operator.name, action, what, reason, extra=extra)
