"""`/docs` and `/openapi.json`: complete, and nothing of it comes from elsewhere."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from quart.typing import TestClientProtocol as AppClient

from chat_server.app import create_app
from chat_server.settings import load_settings

from .markdown import ROOT

OPERATIONS = {
    **{
        (f"/api/admin/{path}", "get"): True
        for path in ("blocks", "connections", "connections/{session}", "explain", "nodes", "topics")
    },
    **{
        (f"/api/admin/{verb}", "post"): True
        for verb in (
            *("announce", "block", "close", "delete", "disconnect", "open", "purge", "revoke"),
            *("unblock", "unsubscribe"),
        )
    },
    ("/api/call/{method}", "post"): True,
    ("/api/messages", "post"): True,
    ("/api/search", "get"): True,
    ("/api/topics/{topic}/messages", "get"): True,
    ("/api/topics/{topic}/messages", "post"): True,
    ("/api/topics/{topic}/messages/{seq}", "patch"): True,
    ("/api/topics/{topic}/messages/{seq}", "delete"): True,
    ("/api/topics/{topic}/messages/{seq}/append", "post"): True,
    ("/api/topics/{topic}/messages/{seq}/reactions", "post"): True,
    ("/api/topics/{topic}/position", "get"): True,
    ("/api/topics/{topic}/presence", "get"): True,
    ("/health", "get"): False,
    ("/health/live", "get"): False,
    ("/health/ready", "get"): False,
}
"""The calls, and whether each needs a token."""


@pytest.fixture
def client() -> AppClient:
    return create_app(load_settings(environ={"CHAT_ENVIRONMENT": "testing"})).test_client()


@pytest.fixture
async def api(client: AppClient) -> dict[str, Any]:
    response = await client.get("/openapi.json")
    assert response.status_code == 200
    described: dict[str, Any] = json.loads(await response.get_data(as_text=True))
    return described


async def test_what_needs_a_token(api: dict[str, Any]) -> None:
    described = {
        (path, method): operation["security"] if "security" in operation else api["security"]
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
    }
    assert {key: bool(security) for key, security in described.items()} == OPERATIONS


async def test_what_needs_a_token_may_answer_with_a_problem(api: dict[str, Any]) -> None:
    for (path, method), protected in OPERATIONS.items():
        responses = api["paths"][path][method]["responses"]
        assert ("default" in responses) == protected
        assert all(re.fullmatch(r"\d{3}|default", status) for status in responses)
    fields = api["components"]["schemas"]["Problem"]["properties"]
    assert fields["status"]["description"] == "the HTTP status."


async def test_keys_of_publications_are_bounded(api: dict[str, Any]) -> None:
    key = api["components"]["schemas"]["PublishRequest"]["properties"]["key"]
    assert {"type": "string", "minLength": 1, "maxLength": 64} in key["anyOf"]


class _Page(HTMLParser):
    """Collects what a page loads, and what it holds inline."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            if name == "src" or (tag == "link" and name == "href"):
                self.loaded.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(name)

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


async def test_the_page_loads_its_own_files_only(client: AppClient) -> None:
    response = await client.get("/docs")
    assert response.status_code == 200
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    page = _Page()
    page.feed(await response.get_data(as_text=True))
    assert page.inline == []
    assert sorted(page.loaded) == ["docs/docs.css", "docs/docs.js", "docs/docs.svg"]
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in page.loaded:
        file = await client.get(f"/{name}")
        assert (file.status_code, file.mimetype) == (200, kinds[name.rpartition(".")[2]])


async def test_files_are_sent_again_only_when_they_changed(client: AppClient) -> None:
    first = await client.get("/docs/docs.js")
    assert first.headers["Cache-Control"] == "no-cache"
    known = {"If-None-Match": first.headers["ETag"]}
    again = await client.get("/docs/docs.js", headers=known)
    assert (again.status_code, await again.get_data()) == (304, b"")
    other = await client.get("/docs/docs.css", headers=known)
    assert other.status_code == 200


async def test_no_other_files_are_served(client: AppClient) -> None:
    for name in ("docs.html", "index.html", "../app.py", "..%2Fapp.py"):
        assert (await client.get(f"/docs/{name}")).status_code == 404


def test_the_script_sets_text_only() -> None:
    script = (ROOT / "chat_server" / "web" / "docs.js").read_text("utf-8")
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script) == []
    )
    assert re.findall(r"https?://", script) == []


async def test_docs_can_be_switched_off() -> None:
    settings = load_settings(environ={"CHAT_ENVIRONMENT": "testing", "CHAT_HTTP__DOCS": "false"})
    client = create_app(settings).test_client()
    for path in ("/docs", "/docs/docs.js", "/openapi.json"):
        assert (await client.get(path)).status_code == 404
