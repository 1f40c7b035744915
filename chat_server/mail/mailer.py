"""Sends mail to the server in `mail.url`, by SMTP (RFC 5321).

The server imports aiosmtplib with the first mail.
"""

import importlib.util
import re
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any, Final

from ..settings import MailSettings, SettingsError, mail_address_rule, parse_mail_url

_PERMANENT: Final = range(500, 600)
"""Reply codes of permanent failures (RFC 5321, 4.2.1)."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

MAX_REASON: Final = 300


class MailError(Exception):
    """A temporary failure to send a mail; the message has the reason."""


class MailRefused(MailError):
    """The mail server has refused a mail for good."""


def check_address(text: str) -> None:
    """Check that mail can be sent to an address.

    The rule allows no spaces, commas or line ends. An address is therefore a single address and
    cannot inject a header.

    Raises:
        ValueError: the address has another form; the message has the reason.
    """
    if reason := mail_address_rule(text):
        raise ValueError(reason)


class Mailer:
    """Sends mail.

    Args:
        settings: `settings.mail` of a server, with a `url`.

    Raises:
        SettingsError: aiosmtplib is not installed.
    """

    def __init__(self, settings: MailSettings) -> None:
        if importlib.util.find_spec("aiosmtplib") is None:
            raise SettingsError("mail.url: mail needs aiosmtplib: pip install 'quart-chat[mail]'")
        self._settings = settings
        self._server = parse_mail_url(settings.url)

    async def send(self, to: str, subject: str, text: str, *, id: str, secret: str = "") -> None:
        """Send a mail.

        Args:
            to: an address that `check_address` has accepted.
            subject: one line.
            text: plain text.
            id: letters and digits, the same for every attempt to send a mail.
            secret: a part of the text that is removed from errors.

        Raises:
            MailRefused: the mail server refuses it for good.
            MailError: the mail could not be sent now.
            ValueError: a header would hold a line end.
        """
        import aiosmtplib

        message = self._message(to, subject, text, id)
        try:
            await aiosmtplib.send(message, recipients=[to], **self._options())
        except aiosmtplib.SMTPRecipientsRefused as error:
            [refused] = error.recipients
            raise _told(refused.code, refused.message, secret) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _told(error.code, error.message, secret) from None
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
            raise _told(0, str(error) or type(error).__name__, secret) from None

    def _message(self, to: str, subject: str, text: str, id: str) -> EmailMessage:
        message = EmailMessage(SMTP)
        message["From"] = self._settings.sender
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate()
        # Each attempt has the same id, so mail programs can drop duplicates.
        host = self._settings.sender.rpartition("@")[2].rstrip(">")
        message["Message-ID"] = f"<{id}@{host}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents out-of-office replies
        message.set_content(text)
        return message

    def _options(self) -> dict[str, Any]:
        server = self._server
        return {
            "hostname": server.host,
            "port": server.port,
            "username": server.user,
            "password": server.password,
            "use_tls": server.tls,
            # A password requires TLS. Without a password TLS is used if the mail server offers TLS.
            "start_tls": False if server.tls else (True if server.needs_tls else None),
            "timeout": self._settings.timeout_seconds,
        }


def _told(code: int, message: str, secret: str) -> MailError:
    """Return the error for a reply, without the secret: a reply may repeat parts of the mail."""
    reason = _CONTROLS.sub(" ", message)
    if secret:
        reason = reason.replace(secret, "…")
    kind = MailRefused if code in _PERMANENT else MailError
    return kind(f"{code} {reason}"[:MAX_REASON] if code else reason[:MAX_REASON])
