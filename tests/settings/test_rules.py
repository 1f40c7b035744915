"""What is refused although each value is fine by itself, and what is printed of secrets."""

import pickle
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from chat_server.settings import (
    DEVELOPMENT_SECRET,
    AuthSettings,
    LimitSettings,
    Namespace,
    RedisSettings,
    ServerSettings,
    Settings,
    SettingsError,
    advice,
    check,
    decide_accounts,
    load_settings,
    split_bind,
)
from chat_server.settings import loading as module

SECRET = "0123456789abcdef" * 2
DEFAULTS = msgspec.json.decode(msgspec.json.encode(Settings()))
CONFIG = Path(module.__file__).parents[2] / "config"
PRODUCTION = {"CHAT_ENVIRONMENT": "production", "CHAT_AUTH__SECRET": SECRET}


def refusal(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={f"CHAT_{name}": text for name, text in variables.items()})
    return str(caught.value)


def production(**variables: str) -> str:
    """Return what production says to these, or nothing."""
    environ = PRODUCTION | {f"CHAT_{name}": text for name, text in variables.items()}
    try:
        load_settings(environ=environ)
    except SettingsError as error:
        return str(error)
    return ""


def test_production_refuses_what_is_only_safe_at_home() -> None:
    assert production() == ""
    assert "public" in production(AUTH__SECRET=DEVELOPMENT_SECRET)
    assert "at least 32 bytes" in production(AUTH__SECRET="x" * 31)
    assert production(AUTH__SECRET="é" * 16) == ""
    assert "is needed" in production(AUTH__SECRET="")
    assert '"*" is refused' in production(HTTP__ALLOWED_ORIGINS="https://a.example,*")
    assert production(HTTP__ALLOWED_ORIGINS="https://a.example") == ""


def test_production_holds_hmac_to_the_size_of_its_hash() -> None:
    assert "at least 48 bytes" in production(AUTH__ALGORITHMS="HS256,HS384")
    assert "at least 64 bytes" in production(AUTH__ALGORITHMS="HS512", AUTH__SECRET="x" * 63)
    assert production(AUTH__ALGORITHMS="HS512", AUTH__SECRET="x" * 64) == ""


def test_production_without_a_secret_takes_public_keys() -> None:
    rest = {"AUTH__SECRET": "", "AUTH__ALGORITHMS": "RS256"}
    assert production(AUTH__JWKS_URL="https://id.example/jwks.json", **rest) == ""
    assert production(AUTH__PUBLIC_KEY_FILE="key.pem", **rest) == ""


@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_several_workers_need_redis_everywhere(environment: str) -> None:
    base = {
        "ENVIRONMENT": environment,
        "SERVER__WORKERS": "2",
        "AUTH__SECRET": SECRET,
    }
    line = refusal(**base)
    assert line.startswith("server.workers: more than one worker needs Redis")
    assert line.endswith("(from the environment variable CHAT_SERVER__WORKERS)")
    load_settings(
        environ={f"CHAT_{k}": v for k, v in base.items()} | {"CHAT_REDIS__URL": "redis://localhost"}
    )


@pytest.mark.parametrize("environment", ["development", "testing"])
@pytest.mark.parametrize("bind", ["0.0.0.0:80", "[::]:80", "192.168.1.5:80", "example.org:80"])
def test_the_development_secret_stays_at_home(environment: str, bind: str) -> None:
    line = refusal(ENVIRONMENT=environment, SERVER__BIND=bind)
    assert line.startswith(f"server.bind: '{bind}' is no loopback address")
    assert line.endswith("(from the environment variable CHAT_SERVER__BIND)")
    assert DEVELOPMENT_SECRET not in line
    environ = {
        "CHAT_ENVIRONMENT": environment,
        "CHAT_SERVER__BIND": bind,
        "CHAT_AUTH__SECRET": "x",
    }
    assert load_settings(environ=environ).server.bind == bind


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.8.8.8:80", "[::1]:80", "localhost:65535"])
def test_loopback_addresses_are_home(bind: str) -> None:
    load_settings(environ={"CHAT_SERVER__BIND": bind})


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"ALGORITHMS": "HS256,RS256"}, "HS256 needs a shared secret and excludes"),
        ({"JWKS_URL": "https://id.example/"}, "(auth.jwks_url is set)"),
        ({"PUBLIC_KEY_FILE": "key.pem"}, "(auth.public_key_file is set)"),
        ({"ALGORITHMS": "RS256"}, "auth.public_key_file: set this or auth.jwks_url"),
        ({"ALGORITHMS": "EdDSA,ES256"}, "auth.public_key_file: set this or auth.jwks_url"),
        (
            {
                "ALGORITHMS": "RS256",
                "JWKS_URL": "https://id.example/",
                "PUBLIC_KEY_FILE": "key.pem",
            },
            "auth.jwks_url: set either",
        ),
        ({"SECRET": ""}, "auth.secret: is needed"),
        ({"ALGORITHMS": "RS256", "JWKS_URL": "file:///etc/passwd"}, "auth.jwks_url: must be"),
        ({"ALGORITHMS": "RS256", "JWKS_URL": "id.example"}, "auth.jwks_url: must be"),
        ({"ALGORITHMS": "RS256", "JWKS_URL": "https://u:p@id.example"}, "must hold no user and"),
    ],
)
def test_one_way_to_verify_tokens(variables: dict[str, str], reason: str) -> None:
    assert reason in refusal(**{f"AUTH__{name}": text for name, text in variables.items()})


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:0", ("::1", 0)),
        ("[::]:65535", ("::", 65535)),
        ("chat.example.org:80", ("chat.example.org", 80)),
    ],
)
def test_bind(bind: str, expected: tuple[str, int]) -> None:
    assert split_bind(bind) == expected
    server = ServerSettings(bind=bind)
    assert (server.host, server.port) == expected


@pytest.mark.parametrize(
    "bind",
    [
        "",
        ":",
        ":8000",
        "8000",
        "localhost",
        "localhost:",
        "localhost:x",
        "localhost:-1",
        "localhost:65536",
        "localhost:000080",
        "localhost:８０",
        "::1:8000",
        "[::1]",
        "[]:80",
        "[x]:80",
        "a b:80",
        "http://localhost:80",
        "127.0.0.1:80\n1",
    ],
)
def test_bad_bind(bind: str) -> None:
    assert refusal(SERVER__BIND=bind).startswith("server.bind: must be HOST:PORT")


@pytest.mark.parametrize(
    "url", ["", "/chat-token", "/a/b?c=d", "https://www.example.org/t", "https://a.org:444/t"]
)
def test_the_page_gets_its_tokens_there(url: str) -> None:
    assert load_settings(environ={"CHAT_HTTP__PAGE_TOKEN_URL": url}).http.page_token_url == url


@pytest.mark.parametrize(
    "url",
    [
        "chat-token",
        "//elsewhere.org/t",
        "/\\elsewhere.org/t",
        "http://a.org/t",
        "https://a.org",
        "https://u:p@a.org/t",
        "https://a.org;script-src/t",
        "javascript:alert(1)",
        '/"><script>',
        "/t t",
    ],
)
def test_and_nowhere_else(url: str) -> None:
    assert "http.page_token_url: must be a path" in refusal(HTTP__PAGE_TOKEN_URL=url)


def test_what_is_allowed_but_unlikely_is_advised_against() -> None:
    assert advice(Settings()) == []
    assert advice(Settings(limits=LimitSettings(max_topics=250, message_burst=250))) == []
    [line] = advice(Settings(limits=LimitSettings(max_topics=250)))
    assert line.startswith("limits.max_topics: 250 is above limits.message_burst (100): ")


def test_the_old_name_of_a_transport_still_works_with_a_warning() -> None:
    old = load_settings(environ={"CHAT_GATEWAY__TRANSPORT": "portable"})
    new = load_settings(environ={"CHAT_GATEWAY__TRANSPORT": "asgi"})
    assert old.gateway.leaves_sockets
    assert new.gateway.leaves_sockets
    assert not Settings().gateway.leaves_sockets
    [line] = advice(old)
    assert line.startswith('gateway.transport: "portable" is called "asgi" now')
    assert advice(new) == []


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "rediss://:p@h:1/0", "unix:///run/redis.sock?db=1"),
        *("redis://u:p%2F%23%3F%40@h", "redis:///3", "redis://u:p@q@[::1]:1/?ssl_ca_certs=/a@b"),
        *(
            "redis+sentinel://h/chat",
            "rediss+sentinel://u:p@h:1,[::1]:2,h3/chat/4?ssl_cert_reqs=none",
        ),
        *("redis+cluster://h", "rediss+cluster://u:p@h:1,h2/0"),
    ],
)
def test_redis_urls(url: str) -> None:
    assert load_settings(environ={"CHAT_REDIS__URL": url}).redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:6379", "http://h", "redis://", "redis://h:x", "h", "/"),
        # Passwords that are not encoded.
        *("redis://:1/2@h", "redis://:1#2@h", "redis://:1?2@h", "redis://u:p@s/w@h", "unix://#@/x"),
        *("redis://h/x", "redis://h/1/2", "redis://h/-1", "redis+cluster://u:p#q@h"),
        *(
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel:///chat",
            "redis+x://h/chat",
        ),
        *("redis+sentinel://h,/chat", "redis+sentinel://h:0/chat", "redis+sentinel://h/chat/x"),
        *(
            "redis+cluster://",
            "redis+cluster://h/1",
            "redis+cluster://h:x",
            "redis+cluster://h/a/b",
        ),
        *("redis+cluster://h?sentinel_password=p", "unix+cluster://h", "redis+cluster://a b"),
    ],
)
def test_bad_redis_urls(url: str) -> None:
    assert refusal(REDIS__URL=url).startswith("redis.url: must be a redis://")


def test_wrong_patterns_are_told_with_the_other_mistakes_and_where_they_came_from() -> None:
    told = refusal(AUTH__DEFAULT_TOPICS__SUBSCRIBE="room:**,a::b", REDIS__URL="h")
    first, second = sorted(told.splitlines())
    assert first.startswith("auth.default_topics.subscribe: 'a::b' must be segments of A-Z a-z")
    assert first.endswith("(from the environment variable CHAT_AUTH__DEFAULT_TOPICS__SUBSCRIBE)")
    assert second.startswith("redis.url: must be")


def test_namespaces() -> None:
    assert "named like" in refusal(**{"NAMESPACES__A:B__HISTORY_SIZE": "1"})
    assert "must not exceed" in refusal(NAMESPACES__ROOM__HISTORY_SECONDS="2592001")
    assert Settings(namespaces={}).namespace("room:a") == Namespace()


def test_check_names_no_source_it_was_not_told() -> None:
    with pytest.raises(SettingsError) as caught:
        check(Settings())
    assert str(caught.value) == (
        "auth.secret: is needed for tokens: set CHAT_AUTH__SECRET (`openssl rand -hex 32` makes"
        " one), or auth.public_key_file or auth.jwks_url with their algorithms"
    )
    check(Settings(auth=AuthSettings(secret="x")))


# Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", ""),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:hidden@localhost", "redis://********@localhost"),
        ("rediss://user:hidden@h:1/2?db=3", "rediss://********@h:1/2?db=3"),
        ("redis://:hi@hidden/hidden@h", "redis://********@h"),
        ("redis://h?password=hidden&db=1", "redis://h?password=********&db=1"),
        (":hidden@h", "********@h"),
        (
            "redis+sentinel://u:hidden@a,b/chat?sentinel_password=hidden",
            "redis+sentinel://********@a,b/chat?sentinel_password=********",
        ),
    ],
)
def test_secrets_are_masked(url: str, expected: str) -> None:
    settings = Settings(
        auth=AuthSettings(secret="hidden", jwks_url=url), redis=RedisSettings(url=url)
    )
    auth, redis = dict(settings.auth.__rich_repr__()), dict(settings.redis.__rich_repr__())
    assert (redis["url"], auth["jwks_url"], auth["secret"]) == (expected, expected, "********")
    for text in (repr(settings), str(settings.auth), f"{settings.redis!r}", repr(auth)):
        assert "hidden" not in text
    assert "hidden" not in str([*settings.auth.__rich_repr__(), *settings.redis.__rich_repr__()])


def test_an_empty_secret_is_not_masked() -> None:
    assert dict(AuthSettings().__rich_repr__())["secret"] == ""


def test_no_error_shows_a_secret() -> None:
    for name in ("AUTH__SECRET__X", "AUTH__JWKS_URL", "REDIS__URL", "AUTH__ALGORITHMS"):
        assert "hidden" not in refusal(**{name: "hidden:hidden@hidden"})
    assert "hidden" not in production(AUTH__SECRET="hidden")


# As an object ---------------------------------------------------------------------------------


def test_settings_travel_to_other_processes() -> None:
    settings = load_settings(environ={"CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "1"})
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.auth.secret == DEVELOPMENT_SECRET


def test_settings_are_frozen_and_replaceable() -> None:
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.auth = AuthSettings()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.auth.secret = "x"  # type: ignore[misc]
    changed = replace(settings, auth=replace(settings.auth, secret="x"))
    assert changed.auth.secret == "x"
    assert settings.auth.secret == ""


# The reference --------------------------------------------------------------------------------


def leaves(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_the_reference_lists_every_key_with_its_default() -> None:
    documented = tomllib.loads((CONFIG / "default.toml").read_text())
    assert dict(leaves(documented)) == dict(leaves(DEFAULTS))


def test_what_is_spooled_is_not_kept_longer_than_its_key() -> None:
    spooling = {
        "REDIS__URL": "redis://127.0.0.1",
        "NAMESPACES__ROOM__SPOOL_MESSAGES": "10",
        "BROKER__SPOOL_SECONDS": "299",
    }
    assert refusal(**spooling).startswith("broker.spool_seconds: must, with redis.timeout_seconds")
    assert production(**spooling | {"REDIS__TIMEOUT_SECONDS": "1"}) == ""
    for name in ("REDIS__URL", "NAMESPACES__ROOM__SPOOL_MESSAGES"):
        assert production(**{key: v for key, v in spooling.items() if key != name}) == ""


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"ACCOUNTS__ENABLED": "on"},
            "accounts.enabled: accounts need a database: set database.url"
            " (from the environment variable CHAT_ACCOUNTS__ENABLED)",
        ),
        (
            {"ACCOUNTS__HASH_PASSES": "1"},
            "accounts.hash_memory_kib: must, times accounts.hash_passes, be at least 38912 in"
            " production, or stolen hashes are guessed too fast",
        ),
        (
            {"ACCOUNTS__ROLES__CHIEF__PUBLISH": "room:**:x"},
            "accounts.roles.chief.publish: 'room:**:x' must have '**' at its end only"
            " (from the environment variable CHAT_ACCOUNTS__ROLES__CHIEF__PUBLISH)",
        ),
        (
            {"ACCOUNTS__ROLES__CHIEF__USERS": "all"},
            "accounts.roles.chief.users: must be one of own, read, manage"
            " (from the environment variable CHAT_ACCOUNTS__ROLES__CHIEF__USERS)",
        ),
    ],
)
def test_accounts_that_cannot_be_are_refused(variables: dict[str, str], line: str) -> None:
    assert production(**variables).startswith(line)


def test_accounts_need_the_secret_that_signs_their_tokens() -> None:
    with pytest.raises(SettingsError, match=r"accounts\.enabled: accounts sign tokens with"):
        load_settings(
            environ={
                "CHAT_ACCOUNTS__ENABLED": "on",
                "CHAT_AUTH__ALGORITHMS": "RS256",
                "CHAT_AUTH__JWKS_URL": "https://issuer.example/keys",
            }
        )


@pytest.mark.parametrize(
    ("variables", "decided"),
    [
        ({}, "on"),
        ({"CHAT_DATABASE__URL": "", "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "false"}, "off"),
        ({"CHAT_ACCOUNTS__ENABLED": "off"}, "off"),
        (
            {
                "CHAT_AUTH__ALGORITHMS": "RS256",
                "CHAT_AUTH__JWKS_URL": "https://issuer.example/keys",
            },
            "off",
        ),
        ({"CHAT_ENVIRONMENT": "testing"}, "off"),
        (PRODUCTION, "off"),
    ],
)
def test_accounts_are_on_in_development_where_they_can_be(
    variables: dict[str, str], decided: str
) -> None:
    assert decide_accounts(load_settings(environ=variables)).accounts.enabled == decided


def test_the_reference_explains_every_key() -> None:
    lines = (CONFIG / "default.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\w+ = ", line):
            # A comment of its own, or one shared with the key above.
            assert before.startswith("#") or re.match(r"\w+ = ", before), line


@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_the_files_hold_known_keys_and_the_one_development_secret(environment: str) -> None:
    table = tomllib.loads((CONFIG / f"{environment}.toml").read_text())
    assert set(dict(leaves(table))) <= set(dict(leaves(DEFAULTS)))
    secret = table.get("auth", {}).get("secret")
    assert secret == (None if environment == "production" else DEVELOPMENT_SECRET)


def test_the_development_secret_is_long_enough_for_every_algorithm() -> None:
    assert len(DEVELOPMENT_SECRET) >= 64


@pytest.mark.parametrize("url", ["foo", "ftp://collector/v1/traces", "http://[::1", "http://"])
def test_traces_go_to_an_address_of_http(url: str) -> None:
    with pytest.raises(SettingsError, match=r"tracing\.url: must be an https:// or http://"):
        load_settings(environ={"CHAT_TRACING__URL": url})


@pytest.mark.parametrize(
    ("bind", "rule"),
    [
        ("nowhere", "must be HOST:PORT"),
        ("127.0.0.1:0", "must have a port of its own"),
        ("10.0.0.1:8000", "must have a port of its own"),
    ],
)
def test_operators_have_a_port_of_their_own(bind: str, rule: str) -> None:
    assert f"operators.bind: {rule}" in refusal(OPERATORS__BIND=bind)
