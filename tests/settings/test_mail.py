"""What `[mail]` may say."""

import pytest

from chat_server.settings import SettingsError, parse_mail_url
from tests.server.inprocess import make_settings

GOOD = {
    "mail__url": "smtps://chat:p%40ss@mail.example.org",
    "mail__sender": "Chat <chat@example.org>",
    "mail__page_url": "https://chat.example.org/",
}


def test_an_address_says_how_to_send() -> None:
    server = parse_mail_url(GOOD["mail__url"])
    assert (server.host, server.port, server.tls) == ("mail.example.org", 465, True)
    assert (server.user, server.password) == ("chat", "p@ss")
    assert parse_mail_url("smtp://mail.example.org").port == 587
    # A password does not cross a network in the clear.
    assert parse_mail_url("smtp://a:b@mail.example.org").needs_tls
    assert not parse_mail_url("smtp://a:b@127.0.0.1:25").needs_tls
    assert not parse_mail_url("smtp://mail.example.org").needs_tls


def test_a_whole_section_passes_and_its_password_is_shown_nowhere() -> None:
    settings = make_settings(**GOOD)
    assert "p%40ss" not in repr(settings)
    make_settings(**{**GOOD, "mail__sender": "chat@example.org"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("url", url)
            for url in ("http://a", "smtp://", "smtp://a:0", "smtp://u@a", "smtp://a/b")
        ),
        *(("sender", sender) for sender in ("", "Chat", "a@b\nBcc: c@d", "A <a@b>, C <c@d>")),
        *(("page_url", page) for page in ("", "chat.example.org", "https://a/#b", "ftp://a")),
    ],
)
def test_mistakes_are_told(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"mail\.{key}: must be"):
        make_settings(**{**GOOD, f"mail__{key}": value})
