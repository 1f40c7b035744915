"""Files for browsers: compressed where that is taken, asked for anew, or kept for ever."""

import gzip
import html
import re

import pytest

from chat_server.http.pages import COMMENT, WEB
from chat_server.version import __version__

from .client import client

PLAIN = "/static/client.js"
VERSIONED = f"/static/client/{__version__}"
SOURCE = (WEB / "client.js").read_bytes()
SENT = COMMENT.sub(b"", SOURCE)


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "*"])
async def test_files_are_compressed_for_browsers_that_take_that(accepted: str) -> None:
    async with client() as http:
        for path in ("/", PLAIN, f"{VERSIONED}/client.js", "/docs"):
            response = await http.ask("GET", path, headers={"Accept-Encoding": accepted})
            assert response.headers["Content-Encoding"] == "gzip"
            assert "Accept-Encoding" in response.headers["Vary"]
            plain = await http.ask("GET", path)
            assert gzip.decompress(await response.get_data(as_text=False)) == await plain.get_data(
                as_text=False
            )


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity"])
async def test_and_for_no_others(accepted: str) -> None:
    async with client() as http:
        response = await http.ask("GET", PLAIN, headers={"Accept-Encoding": accepted})
        assert "Content-Encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["Vary"]
        assert await response.get_data(as_text=False) == SENT


async def test_a_browser_that_has_a_file_gets_none_in_the_encoding_that_it_has() -> None:
    async with client() as http:
        etags = set()
        for headers in ({}, {"Accept-Encoding": "gzip"}):
            etag = (await http.ask("GET", PLAIN, headers=headers)).headers["ETag"]
            etags.add(etag)
            again = await http.ask("GET", PLAIN, headers={**headers, "If-None-Match": etag})
            assert again.status_code == 304
            assert await again.get_data(as_text=False) == b""
        assert len(etags) == 2


async def test_the_client_of_a_version_is_kept_for_ever() -> None:
    async with client() as http:
        response = await http.ask("GET", f"{VERSIONED}/client.js")
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert await response.get_data(as_text=False) == SOURCE
        for path in WEB.glob("client-*.js"):
            # They import each other beside themselves.
            assert (await http.ask("GET", f"{VERSIONED}/{path.name}")).status_code == 200
        assert (await http.ask("GET", PLAIN)).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/static/client/0.0.1/client.js",
        f"{VERSIONED}/chat.js",
        f"{VERSIONED}/client.py",
        f"{VERSIONED}/",
        f"{VERSIONED}/../client.js",
    ],
)
async def test_nothing_else_is_there(path: str) -> None:
    async with client() as http:
        response = await http.ask("GET", path)
        assert response.status_code == 404
        assert "immutable" not in response.headers.get("Cache-Control", "")


async def test_the_pages_come_without_their_comments() -> None:
    async with client(http__admin_page=True) as http:
        for path in [*WEB.glob("*.js"), *WEB.glob("*.css")]:
            if path.name.startswith("docs"):
                continue
            folder = "admin" if path.name.startswith("admin") else "static"
            response = await http.ask("GET", f"/{folder}/{path.name}")
            sent = (await response.get_data(as_text=True)).splitlines()
            assert not [line for line in sent if line.lstrip().startswith(("//", "/*", "*/", "* "))]
            source = iter(path.read_text("utf-8").splitlines())
            assert all(line in source for line in sent), "nothing else is changed"


async def test_the_style_of_the_chat_page_is_one_file() -> None:
    async with client() as http:
        page = await (await http.ask("GET", "/")).get_data(as_text=True)
        assert re.findall(r'rel="stylesheet" href="([^"]+)"', page) == ["static/page.css"]
        style = await (await http.ask("GET", "/static/page.css")).get_data(as_text=True)
        for path in WEB.glob("*.css"):
            if path.name.startswith(("admin", "docs")):
                continue
            alone = await http.ask("GET", f"/static/{path.name}")
            assert await alone.get_data(as_text=True) in style, path


async def test_the_page_may_ask_an_application_for_tokens() -> None:
    for url, sources in (
        ("/chat-token?a&b", "'self'"),
        ("https://www.example.org:444/t", "'self' https://www.example.org:444"),
    ):
        async with client(http__page_token_url=url) as http:
            response = await http.ask("GET", "/")
            page = await response.get_data(as_text=True)
            assert f'data-token-url="{html.escape(url)}"' in page
            assert 'data-accounts="session"' in page
            policy = response.headers["Content-Security-Policy"]
            assert f"connect-src {sources} ws: wss:;" in policy


async def test_operators_have_their_page_where_it_is_switched_on() -> None:
    async with client() as http:
        for path in ("/admin", "/admin/admin.js", "/static/admin.js"):
            assert (await http.ask("GET", path)).status_code == 404
    async with client(http__admin_page=True, http__page=False) as http:
        page = await http.ask("GET", "/admin")
        assert page.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
        assert 'data-metrics="off"' in await page.get_data(as_text=True)
        assert (await http.ask("GET", "/admin/client.js")).status_code == 200
        for path in ("/", "/admin/", "/admin/chat.js", "/admin/index.html", "/admin/../app.py"):
            assert (await http.ask("GET", path)).status_code == 404


async def test_the_page_for_operators_knows_whether_it_can_ask_for_metrics() -> None:
    for token, state in (("", "on"), ("a-secret", "token")):
        async with client(
            http__admin_page=True, metrics__enabled=True, metrics__token=token
        ) as http:
            page = await (await http.ask("GET", "/admin")).get_data(as_text=True)
            assert f'data-metrics="{state}"' in page
            assert "a-secret" not in page


def test_no_script_of_a_page_makes_markup_of_texts() -> None:
    for path in WEB.glob("*.js"):
        assert "innerHTML" not in path.read_text("utf-8"), path


async def test_all_that_the_page_for_operators_imports_is_there() -> None:
    async with client(http__admin_page=True, http__page=False) as http:
        asked = {"admin.js"}
        waiting = ["admin.js"]
        while waiting:
            response = await http.ask("GET", f"/admin/{waiting.pop()}")
            assert response.status_code == 200, asked
            script = await response.get_data(as_text=True)
            found = set(re.findall(r'^[^/*]*\bfrom "\./([\w.-]+)"', script, re.MULTILINE)) - asked
            asked |= found
            waiting += found
        assert {"account.js", "client-connection.js"} <= asked
