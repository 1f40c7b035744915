"""Rules for `[webhooks.NAME]`."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..auth.patterns import check_pattern
from ..webhooks.addresses import is_public, parse_address
from ..webhooks.signing import parse_secret
from .hosts import is_loopback
from .schema import Settings, Webhook

_NAME = re.compile(r"[a-z0-9_-]{1,48}", re.ASCII)


def webhook_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the broken rule of each mistake in the webhooks."""
    production = settings.environment == "production"
    for name, webhook in settings.webhooks.items():
        key = f"webhooks.{name}"
        if _NAME.fullmatch(name) is None:
            yield key, "must be named by 1 to 48 of the characters a-z 0-9 _ -"
        if not settings.database.url:
            yield key, "needs a database, which remembers what was delivered: set database.url"
        for field, reason in _problems(webhook, production):
            yield f"{key}.{field}", reason
        for pattern in webhook.topics:
            namespace = pattern.partition(":")[0]
            if "*" not in namespace and settings.namespace(namespace).history_size == 0:
                yield f"{key}.topics", f"{pattern!r} names topics without history (history_size 0)"


def _problems(webhook: Webhook, production: bool) -> Iterator[tuple[str, str]]:
    if reason := _url_mistake(webhook, production):
        yield "url", reason
    if not webhook.secrets:
        yield "secrets", 'is needed to sign with: echo "whsec_$(openssl rand -base64 32)"'
    for number, secret in enumerate(webhook.secrets, 1):
        try:
            parse_secret(secret)
        except ValueError as error:
            yield "secrets", f"number {number} {error}"
    if not webhook.topics:
        yield "topics", 'must name at least one pattern, such as "room:**"'
    for pattern in webhook.topics:
        try:
            check_pattern(pattern)
            if "{" in pattern:
                raise ValueError("must not hold {sub}: a webhook is no user")
        except ValueError as error:
            yield "topics", f"{pattern!r} {error}"
    if webhook.proxy_url and not _is_url(webhook.proxy_url):
        yield "proxy_url", "must be an http:// or https:// address"


def _url_mistake(webhook: Webhook, production: bool) -> str | None:
    """Return the mistake in an address, without repeating the address, a possible secret."""
    url = webhook.url
    if not url:
        return "is needed: where to send the events"
    if not _is_url(url):
        return "must be an https:// or http:// address of printable ASCII without a #fragment"
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "@" in parts.netloc:
        return "must hold no user and password: the signature says who sends"
    if production and parts.scheme != "https" and not webhook.allow_private:
        return "must begin with https:// in production, unless allow_private is set"
    address = parse_address(host)
    private = is_loopback(host) or (address is not None and not is_public(address))
    if private and not webhook.allow_private and not webhook.proxy_url:
        return f"{host} is no public address: set allow_private if that is meant"
    return None


def _is_url(text: str) -> bool:
    if not (text.isascii() and text.isprintable()) or set(text) & set(' #"<>\\^`{|}'):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
