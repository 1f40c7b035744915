"""A mail server in this process, with answers that a test chooses."""

import asyncio
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP


class MailServer:
    """An SMTP server on 127.0.0.1; listens while entered.

    Attributes:
        answer: the reply to a mail; a reply that begins with 250 accepts the mail, and `{body}` is
            the mail's text.
        tried: number of received mails.
        taken: the accepted mails.
    """

    def __init__(self) -> None:
        self.answer = "250 OK"
        self.tried = 0
        self.taken: list[EmailMessage] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"smtp://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, loop=loop), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def handle_DATA(  # noqa: N802  (its name in aiosmtpd)
        self, server: SMTP, session: object, envelope: Any
    ) -> str:
        """Accept or refuse a mail."""
        self.tried += 1
        content = envelope.content.replace(b"\r\n", b"\n")
        message = message_from_bytes(content, policy=policy.default)
        if self.answer.startswith("250"):
            self.taken.append(message)
        body = message.get_content().replace("\n", " ")
        return self.answer.format(body=body)
