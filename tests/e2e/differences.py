"""Where the two transports differ for a client; docs/design/transports.md has the same table.

Everything else is the same, and tested to be.
"""

TRANSPORTS = ("direct", "portable")

CLOSE_CODES: dict[str, dict[str, int]] = {
    "text that is not UTF-8": {"direct": 1007, "portable": 1006},
    "a frame that breaks RFC 6455": {"direct": 1002, "portable": 1006},
    "a frame that only claims to be too big": {"direct": 1009, "portable": 0},
    "a client that answers no ping": {"direct": 4408, "portable": 0},
}
"""Close codes by what happened; 0 stands for a connection that stays."""
