"""`[webhooks.NAME]`: what is refused, what is said of it, and what is printed."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_server.settings import Settings, SettingsError, Webhook, load_settings
from chat_server.settings import loading as module

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = Path(module.__file__).parents[2] / "config"
GOOD = {
    "URL": "https://hooks.example.org/chat",
    "SECRETS": SECRET,
    "TOPICS": "room:**",
}


def load(
    environment: str = "production", database: str = "sqlite+aiosqlite:///x", **keys: str
) -> Settings:
    environ = {
        "CHAT_ENVIRONMENT": environment,
        "CHAT_AUTH__SECRET": "x" * 32,
        "CHAT_DATABASE__URL": database,
    }
    given = GOOD | keys
    environ |= {f"CHAT_WEBHOOKS__ORDERS__{name}": text for name, text in given.items()}
    return load_settings(environ=environ)


def refusal(**keys: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**keys)
    assert SECRET not in str(caught.value)
    return str(caught.value).replace(
        " (from the environment variable CHAT_WEBHOOKS__ORDERS__", " ("
    )


def test_a_webhook_is_read_from_the_environment() -> None:
    [(name, webhook)] = load(EVENTS="message,deleted", BATCH_SIZE="5").webhooks.items()
    assert name == "orders"
    assert webhook == Webhook(
        url="https://hooks.example.org/chat",
        secrets=(SECRET,),
        topics=("room:**",),
        events=("message", "deleted"),
        batch_size=5,
    )


def test_secrets_and_what_addresses_hold_are_not_printed() -> None:
    webhook = load(SECRETS=f"{SECRET},{SECRET}", URL="https://a.example/?token=hidden").webhooks[
        "orders"
    ]
    assert len(webhook.secrets) == 2
    text = repr(webhook)
    assert SECRET not in text
    assert "hidden" not in text
    assert "********" in text


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"URL": ""}, "url: is needed"),
        ({"URL": "ftp://a.example/"}, "url: must be an https:// or http:// address"),
        ({"URL": "https:///x"}, "url: must be an https:// or http:// address"),
        ({"URL": "https://a.example/#x"}, "url: must be an https:// or http:// address"),
        ({"URL": "https://a.example/ä"}, "url: must be an https:// or http:// address"),
        ({"URL": "https://a.example/a b"}, "url: must be an https:// or http:// address"),
        ({"URL": "https://a.example:99999/"}, "url: must be an https:// or http:// address"),
        ({"URL": "https://me:pw@a.example/"}, "url: must hold no user and password"),
        ({"URL": "http://a.example/"}, "url: must begin with https:// in production"),
        ({"URL": "https://127.0.0.1/"}, "url: 127.0.0.1 is no public address"),
        ({"URL": "https://[::1]/"}, "url: ::1 is no public address"),
        ({"URL": "https://[::ffff:10.0.0.1]/"}, "url: ::ffff:10.0.0.1 is no public address"),
        ({"URL": "https://169.254.169.254/"}, "url: 169.254.169.254 is no public address"),
        ({"URL": "https://localhost/"}, "url: localhost is no public address"),
        ({"SECRETS": ""}, "secrets: is needed"),
        ({"SECRETS": f"{SECRET},secret"}, "secrets: number 2 must be whsec_ and the base64 of 24"),
        ({"SECRETS": "whsec_c2hvcnQ="}, "secrets: number 1 must be"),
        ({"SECRETS": "whsec_" + "A" * 100}, "secrets: number 1 must be"),
        ({"TOPICS": ""}, "topics: must name at least one pattern"),
        ({"TOPICS": "room:**:x"}, "topics: 'room:**:x' must have '**' at its end only"),
        ({"TOPICS": "user:{sub}"}, "topics: 'user:{sub}' must not hold {sub}"),
        ({"EVENTS": ""}, "events: must be a list of one or more of message, edited"),
        ({"EVENTS": "read"}, "events: must be a list of one or more of message, edited"),
        ({"BATCH_SIZE": "0"}, "batch_size: must be an integer, 1 to 1000"),
        ({"MAX_REQUESTS": "65"}, "max_requests: must be an integer, 1 to 64"),
        ({"TIMEOUT_SECONDS": "0"}, "timeout_seconds: must be a number of seconds"),
        ({"PROXY_URL": "socks5://a.example"}, "proxy_url: must be an http:// or https:// address"),
        ({"ADDRESS": "x"}, "address: unknown key"),
    ],
)
def test_what_cannot_work_or_is_unsafe_is_refused(keys: dict[str, str], reason: str) -> None:
    assert refusal(**keys).startswith(f"webhooks.orders.{reason}")


@pytest.mark.parametrize(
    "keys",
    [
        {"URL": "https://127.0.0.1:8443/x", "ALLOW_PRIVATE": "true"},
        {"URL": "http://inside.example/x", "ALLOW_PRIVATE": "true"},
        {"URL": "https://[2606:4700::1111]/"},
        {"URL": "https://hooks.internal/", "PROXY_URL": "http://127.0.0.1:4750"},
        {"URL": "http://a.example/", "environment": "development"},
        {"SECRETS": SECRET.rstrip("=") + ",whsec_" + "A" * 86},
        {"TOPICS": "**"},
    ],
)
def test_what_is_meant_is_allowed(keys: dict[str, str]) -> None:
    assert load(**keys).webhooks["orders"].topics


def test_a_webhook_needs_a_database() -> None:
    assert refusal(database="").startswith("webhooks.orders: needs a database")


def test_the_name_is_short_and_plain() -> None:
    environ = {"CHAT_DATABASE__URL": "sqlite+aiosqlite:///x"}
    environ |= {f"CHAT_WEBHOOKS__A.B__{name}": text for name, text in GOOD.items()}
    with pytest.raises(SettingsError, match=r"webhooks\.a\.b: must be named by 1 to 48"):
        load_settings(environ=environ)


def test_the_reference_shows_every_key_with_its_default() -> None:
    lines = (CONFIG / "default.toml").read_text("utf-8").splitlines()
    start = lines.index("# [webhooks.NAME]")
    shown: dict[str, Any] = tomllib.loads(
        "\n".join(line.removeprefix("# ") for line in lines[start:])
    )
    assert shown["webhooks"]["NAME"] == msgspec.json.decode(msgspec.json.encode(Webhook()))
