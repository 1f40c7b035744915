"""Mail that the server sends (docs/accounts.md)."""

from .mailer import Mailer, MailError, MailRefused, check_address

__all__ = ["MailError", "MailRefused", "Mailer", "check_address"]
