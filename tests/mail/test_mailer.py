"""Mail is sent as it should be, and what goes wrong is told without what must not be told."""

import asyncio

import pytest

from chat_server.mail import Mailer, MailError, MailRefused, check_address
from chat_server.settings import MailSettings

from ..rig.mail_server import MailServer

TEXT = "the link: https://chat.example.org/#invitation=hidden\n"


def mailer(url: str, seconds: float = 30.0) -> Mailer:
    return Mailer(MailSettings(url, "Chat <chat@example.org>", "", seconds))


async def test_a_mail_is_sent() -> None:
    async with MailServer() as server:
        await mailer(server.url).send("ada@example.org", "Hällo", TEXT, id="a1")
    [mail] = server.taken
    assert (mail["From"], mail["To"]) == ("Chat <chat@example.org>", "ada@example.org")
    assert (mail["Subject"], mail["Message-ID"]) == ("Hällo", "<a1@example.org>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content() == TEXT


async def test_refusals_do_not_repeat_what_is_secret() -> None:
    async with MailServer() as server:
        sending = mailer(server.url)
        for answer, kind in (("550 spam: {body}", MailRefused), ("451 later: {body}", MailError)):
            server.answer = answer
            with pytest.raises(kind, match=answer[:3]) as caught:
                await sending.send("ada@example.org", "s", TEXT, id="a1", secret="hidden")
            assert "hidden" not in str(caught.value)
            assert (type(caught.value) is MailRefused) == (answer[0] == "5")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(MailError):
        await mailer(f"smtp://127.0.0.1:{port}", 0.2).send("ada@example.org", "s", TEXT, id="a1")
    server.close()
    with pytest.raises(MailError):
        await mailer(f"smtp://127.0.0.1:{port}").send("ada@example.org", "s", TEXT, id="a1")


async def test_a_header_holds_no_second_one() -> None:
    async with MailServer() as server:
        with pytest.raises(ValueError, match="Header"):
            await mailer(server.url).send("ada@example.org", "s\r\nBcc: b@c.de", TEXT, id="a1")
    assert server.tried == 0


@pytest.mark.parametrize(
    "text",
    [
        *("", "ada", "@example.org", "ada@", "a b@example.org", "ada@example.org,bob@example.org"),
        *("ada@example.org\nBcc: bob@example.org", "ada@example.org\r\n", "<ada@example.org>"),
        *("ada@-x.org", "ada@x..org", "ädä@example.org", f"{'a' * 65}@example.org"),
        *("ada\0@example.org", "Ada <ada@example.org>", f"a@{'b.' * 130}org", '"a\nb"@example.org'),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="one address"):
        check_address(text)


@pytest.mark.parametrize("text", ["a@b", "ada.o'hara+chat@mail.example.org"])
def test_what_is_one(text: str) -> None:
    check_address(text)
