"""Sends mail to the server that `mail.url` names, by SMTP (RFC 5321).

Nothing of aiosmtplib is imported before the first mail.
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
"""Codes of answers that will not be others next time (RFC 5321, 4.2.1)."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

MAX_REASON: Final = 300


class MailError(Exception):
    """A mail could not be sent now; the message says why."""


class MailRefused(MailError):
    """A mail was refused for good."""


def check_address(text: str) -> None:
    """Check that mail can be sent to an address.

    Such an address has neither spaces nor commas nor line ends, so it is one, and no header.

    Raises:
        ValueError: it has another form; the message says what is wrong.
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
            to: an address that `check_address` has let pass.
            subject: one line.
            text: plain text.
            id: the same for a mail that is sent again, of letters and digits.
            secret: what stands in the text and shall stand in no error.

        Raises:
            MailRefused: the mail server refuses it for good.
            MailError: it could not be sent now.
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
        # The same whenever it is sent again, so that programs may show it once.
        host = self._settings.sender.rpartition("@")[2].rstrip(">")
        message["Message-ID"] = f"<{id}@{host}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
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
            # A password goes by TLS or not at all; without one TLS is used where it is offered.
            "start_tls": False if server.tls else (True if server.needs_tls else None),
            "timeout": self._settings.timeout_seconds,
        }


def _told(code: int, message: str, secret: str) -> MailError:
    """Return the error for what a mail server has said, which may repeat what was sent to it."""
    reason = _CONTROLS.sub(" ", message)
    if secret:
        reason = reason.replace(secret, "…")
    kind = MailRefused if code in _PERMANENT else MailError
    return kind(f"{code} {reason}"[:MAX_REASON] if code else reason[:MAX_REASON])
