"""The commands as the README shows them, against a real server in the development environment."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import ENVIRON, USER, program, run
from tests.rig.certificates import make_certificate
from tests.rig.server import ServerProcess


@pytest.fixture(scope="module")
def real() -> Iterator[ServerProcess]:
    with ServerProcess(environ={"CHAT_ENVIRONMENT": "development"}) as server:
        yield server


async def test_tail_beside_publish_without_any_set_up(real: ServerProcess) -> None:
    assert await run("publish", "room:lobby", "early", url=real.url, token=None) == (0, "", "")
    async with program("tail", "room:lobby", "--last", "1", url=real.url, token=None) as tail:
        assert (await tail.line()).endswith(f" {USER}: early")
        assert await run("publish", "room:lobby", "hello", url=real.url, token=None) == (0, "", "")
        assert (await tail.line()).endswith(f" {USER}: hello")
        tail.interrupt()
        assert await tail.end() == (130, "", "")


async def test_search_finds_what_was_published(real: ServerProcess) -> None:
    assert await run("publish", "room:haystack", "a needle", url=real.url, token=None) == (
        0,
        "",
        "",
    )
    found = ""
    async with asyncio.timeout(90):
        while not found:  # it is archived a moment later
            code, found, err = await run("search", "needle", url=real.url, token=None)
            assert (code, err) == (0, "")
    assert found.endswith(f" room:haystack #1 {USER}: a *needle*\n")
    elsewhere = ("search", "needle", "--topic", "room:other")
    assert await run(*elsewhere, url=real.url, token=None) == (0, "", "")
    code, _, err = await run("search", '"*(', url=real.url, token=None)
    assert (code, err) == (1, "chat-server: bad_request: q: must have a word\n")


async def test_a_token_of_ones_own(real: ServerProcess) -> None:
    _, token, _ = await run(
        "token", "--sub", "carol", "--name", "Carol", "--publish", "room:own", url=real.url
    )
    token = token.strip()
    assert await run("publish", "room:own", "hi", url=real.url, token=token) == (0, "", "")
    code, _, err = await run("publish", "room:other", "hi", url=real.url, token=token)
    assert (code, err.startswith("chat-server: forbidden: ")) == (1, True)
    async with program("tail", "room:own", "--last", "1", url=real.url, token=token) as tail:
        assert (await tail.line()).endswith(" Carol: hi")


async def test_more_lines_than_the_rate_limit_allows_at_once(real: ServerProcess) -> None:
    stdin = b"".join(b"%d\n" % number for number in range(150))
    code, out, err = await run("publish", "-v", "room:bulk", url=real.url, token=None, stdin=stdin)
    assert (code, err) == (0, "")
    assert out.split() == [str(seq) for seq in range(1, 151)]
    async with program("tail", "room:bulk", "--last", "150", url=real.url, token=None) as tail:
        shown = [(await tail.line()).rpartition(" ")[2] for _ in range(150)]
    assert shown == [str(number) for number in range(150)]


async def test_a_certificate_of_an_authority_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    with ServerProcess(
        environ={"CHAT_ENVIRONMENT": "development"}, certificate=certificate
    ) as server:
        code, _, err = await run("publish", "room:tls", "hi", url=server.url, token=None)
        assert (code, "its TLS certificate is not trusted" in err) == (1, True)
        monkeypatch.setitem(ENVIRON, "SSL_CERT_FILE", str(certificate))
        assert await run("publish", "room:tls", "hi", url=server.url, token=None) == (0, "", "")


async def test_a_small_load_is_measured_and_limits_are_told(real: ServerProcess) -> None:
    small = ("bench", "--connections", "5", "--rate", "20", "--duration", "1s", "--json")
    code, out, err = await run(*small, url=real.url, token=None)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["published"], report["deliveries"], report["expected"]) == (20, 100, 100)
    assert 0 < report["ok_ms"]["median"] <= report["ok_ms"]["p99"] <= report["ok_ms"]["longest"]
    fast = ("bench", "--connections", "2", "--rate", "1000", "--duration", "2s")
    code, out, err = await run(*fast, url=real.url, token=None)
    assert (code, out) == (1, "")
    assert err.startswith("chat-server: rate_limited: ")
    assert err.count("\n") == 1
