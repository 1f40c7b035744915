"""Rules for `[mail]`, and the parts of its address."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from .hosts import is_loopback
from .schema import Settings

# The check of browsers (HTML, "valid email address"). No character can end a header, or separate a
# second receiver.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*", re.ASCII
)
_SENDER = re.compile(r"(?:[^<>@\",;:\x00-\x1f\x7f]{1,100} )?<([^<>]+)>|([^<> ]+)")

MAX_ADDRESS: Final = 254
"""Characters of an address (RFC 5321, 4.5.3.1.3)."""


class MailServer(Struct, frozen=True):
    """The parts of `mail.url`.

    Args:
        host: of the mail server.
        port: of the mail server.
        tls: whether TLS begins with the first byte.
        user: the user to sign in as, if any.
        password: of the user.
    """

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None

    @property
    def needs_tls(self) -> bool:
        """Whether a password would otherwise cross a network in the clear."""
        return self.password is not None and not is_loopback(self.host)


def parse_mail_url(url: str) -> MailServer:
    """Parse the address of a mail server.

    Raises:
        ValueError: the address is malformed; the message does not repeat the address.
    """
    rule = "must be smtp://HOST:PORT or smtps://HOST:PORT, with USER:PASSWORD@ if it asks for them"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    whole = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or port == 0 or not whole:
        raise ValueError(rule)
    if (parts.username is None) != (parts.password is None) or not url.isprintable():
        raise ValueError(rule)
    tls = parts.scheme == "smtps"
    user, password = (None if each is None else unquote(each) for each in _credentials(url))
    return MailServer(parts.hostname, port or (465 if tls else 587), tls, user, password)


def _credentials(url: str) -> tuple[str | None, str | None]:
    parts = urlsplit(url)
    return parts.username, parts.password


def mail_address_rule(text: str) -> str | None:
    """Return the rule that an address for mail breaks, if any."""
    if len(text) > MAX_ADDRESS or _ADDRESS.fullmatch(text) is None:
        return "must be one address such as ada@example.org"
    return None


def mail_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the broken rule of each mistake in `[mail]`."""
    mail = settings.mail
    if not mail.url:
        return
    try:
        parse_mail_url(mail.url)
    except ValueError as error:
        yield "mail.url", str(error)
    sender = _SENDER.fullmatch(mail.sender)
    if sender is None or mail_address_rule(sender[1] or sender[2]):
        yield "mail.sender", "must be who mails are from: Chat <chat@example.org>"
    if not _is_page(mail.page_url, settings.environment == "production"):
        rule = "must be the address of the chat page, https://chat.example.org/"
        yield "mail.page_url", f"{rule}, which links in mails begin with"


def _is_page(url: str, production: bool) -> bool:
    try:
        parts = urlsplit(url)
        schemes = ("https",) if production else ("https", "http")
        plain = url.isascii() and url.isprintable() and " " not in url and "#" not in url
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and plain
    except ValueError:
        return False
