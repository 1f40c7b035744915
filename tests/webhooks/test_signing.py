"""Signatures that the library of Standard Webhooks accepts, and secrets that it would."""

import time
from base64 import b64encode

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from chat_server.webhooks.signing import message_id, parse_secret, signed_headers

OLD, NEW = (f"whsec_{b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BODY = b'{"text":"gr\xc3\xbc\xc3\x9fe"}'


def headers(*secrets: str, at: float | None = None, body: bytes = BODY) -> dict[str, str]:
    keys = [parse_secret(secret) for secret in secrets]
    return signed_headers(keys, message_id("orders", body), int(at or time.time()), body)


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of the specification's libraries.
    key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signed_headers(
        [key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_receiver_with_either_secret_verifies_while_they_change() -> None:
    both = headers(NEW, OLD)
    assert len(both["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        assert Webhook(secret).verify(BODY, both) == {"text": "grüße"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY, headers(NEW))


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(NEW), BODY + b" "),
        (headers(NEW) | {"webhook-id": "msg_other"}, BODY),
        (headers(NEW, at=time.time() - 301), BODY),
    ],
)
def test_what_was_changed_or_is_old_is_not_verified(given: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body, given)


def test_the_id_is_that_of_the_body_for_one_endpoint() -> None:
    first = message_id("orders", BODY)
    assert first == message_id("orders", BODY)
    assert first.startswith("msg_")
    assert "." not in first
    assert len({first, message_id("other", BODY), message_id("orders", BODY + b" ")}) == 3


@pytest.mark.parametrize(
    "text", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ä", "whsec_" + "=" * 40]
)
def test_what_is_no_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be whsec_ and the base64 of 24 to 64 bytes$"):
        parse_secret(text)
