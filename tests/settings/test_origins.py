"""Which origins can be allowed, and which pages each of them lets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.settings import SettingsError, load_settings, origin_pattern


def lets_in(allowed: str, origin: str) -> bool:
    return origin_pattern(allowed).match(origin) is not None


@pytest.mark.parametrize(
    ("allowed", "origins"),
    [
        ("https://chat.example.org", ["https://chat.example.org", "https://CHAT.example.org:443"]),
        ("https://Chat.Example.org:443", ["https://chat.example.org"]),
        ("http://example.org:80", ["http://example.org", "http://example.org:80"]),
        ("https://example.org:080", ["https://example.org:80"]),
        ("http://localhost:3000", ["http://localhost:3000"]),
        ("http://[::1]:3000", ["http://[::1]:3000"]),
        ("http://192.168.1.5", ["http://192.168.1.5"]),
        ("https://*.example.org", ["https://a.example.org", "https://a-1.b.example.org"]),
        ("https://*.example.org:8443", ["https://a.example.org:8443"]),
        ("http://*.localhost:3000", ["http://a.localhost:3000"]),
        ("capacitor://localhost", ["capacitor://localhost"]),
        ("ionic://localhost", ["ionic://localhost"]),
        ("tauri://localhost", ["tauri://localhost"]),
        ("http://tauri.localhost", ["http://tauri.localhost"]),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ["chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
        ),
        ("moz-extension://*", ["moz-extension://3c9e7a05-6a1c-4d4e-8a53-0d2a0b8c1f7e"]),
        ("safari-web-extension://*", ["safari-web-extension://6CB5E2E2-0D3A-4F62"]),
        ("file://", ["file://"]),
        ("null", ["null"]),
        ("*", ["https://evil.example", "null", "file://", "x"]),
    ],
)
def test_lets_in(allowed: str, origins: list[str]) -> None:
    assert load_settings(environ={"CHAT_HTTP__ALLOWED_ORIGINS": allowed}).http.allowed_origins
    for origin in origins:
        assert lets_in(allowed, origin), origin


@pytest.mark.parametrize(
    ("allowed", "origins"),
    [
        (
            "https://chat.example.org",
            [
                *("http://chat.example.org", "https://chat.example.org:444"),
                *("https://chatxexample.org", "https://chat.example.org.evil.example"),
                *("https://chat.example.org/", "https://chat.example.org\n", "", "null"),
                *("https://a.chat.example.org", "https://chat.example.org:443:443"),
            ],
        ),
        ("http://example.org:443", ["http://example.org", "https://example.org"]),
        (
            "https://*.example.org",
            [
                *("https://example.org", "https://evilexample.org", "https://.example.org"),
                *("https://evil.example/.example.org", "https://evil.example?.example.org"),
                *("https://evil.example#.example.org", "https://x@evil.example:1.example.org"),
                *("https://a..example.org", "https://a.example.org.evil.example"),
                *("http://a.example.org", "https://a.example.org:8443", "https://a.example.org\n"),
                *("https://*.example.org.", "https://\u00e9.example.org"),
            ],
        ),
        ("moz-extension://*", ["moz-extension://", "chrome-extension://abc", "https://a"]),
        ("capacitor://localhost", ["capacitor://localhost:443", "ionic://localhost"]),
        ("file://", ["file:///", "file://x", "null"]),
        ("null", ["", "nullx"]),
    ],
)
def test_keeps_out(allowed: str, origins: list[str]) -> None:
    for origin in origins:
        assert not lets_in(allowed, origin), origin


@pytest.mark.parametrize(
    ("allowed", "reason"),
    [
        ("https://chat.example.org/", 'must have no "/" at its end'),
        ("https://chat.example.org/x", "a scheme, a host and a port only"),
        ("https://user@example.org", "a scheme, a host and a port only"),
        ("https://example.org:x", "a scheme, a host and a port only"),
        ("https://example.org?x", "a scheme, a host and a port only"),
        ("https://example.org:65536", "has a port above 65535"),
        ("https://example.org:0", "has a port above 65535, or 0"),
        ("https://", "has no host"),
        ("https://a..b", "has no host"),
        ("https://b\u00fccher.example", "in ASCII: xn--"),
        ("chat.example.org", "must begin with its scheme"),
        ("example.org:443", "must begin with its scheme"),
        ("ws://chat.example.org", "begin with https:// or http://"),
        ("wss://chat.example.org", "begin with https:// or http://"),
        ("ftp://chat.example.org", "begin with https:// or http://"),
        ("https://*", '"*." before the host only'),
        ("https://*.*.example.org", '"*." before the host only'),
        ("https://a.*.example.org", '"*." before the host only'),
        ("https://a*.example.org", '"*." before the host only'),
        ("https://*example.org", '"*." before the host only'),
        ("https://*.org", "a domain of one's own only"),
        ("http://*.0.0.1", "a domain of one's own only"),
        ("*://example.org", "a scheme, a host and a port only"),
    ],
)
def test_what_is_no_origin_is_told_with_its_rule(allowed: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"CHAT_HTTP__ALLOWED_ORIGINS": f"https://ok.example,{allowed}"})
    [line] = caught.value.lines
    assert line.startswith(f"http.allowed_origins: {allowed!r} ")
    assert reason in line


@pytest.mark.parametrize("allowed", ["*", "null"])
def test_production_lets_no_page_of_any_site_in(allowed: str) -> None:
    environ = {
        "CHAT_ENVIRONMENT": "production",
        "CHAT_AUTH__SECRET": "0123456789abcdef" * 2,
        "CHAT_HTTP__ALLOWED_ORIGINS": f"https://a.example,{allowed}",
    }
    with pytest.raises(
        SettingsError, match=f'"{allowed}" is refused in production'.replace("*", r"\*")
    ):
        load_settings(environ=environ)


@given(st.text("ab.:/*-[]@?#1 ", max_size=12), st.text("ab.:/*-[]@?#1 ", max_size=12))
def test_a_host_lets_nothing_else_in(host: str, origin: str) -> None:
    try:
        pattern = origin_pattern(f"https://{host}")
    except ValueError:
        return
    if pattern.match(f"https://{origin}") and "*" not in host:
        assert origin.removesuffix(":443") == host.removesuffix(":443")
