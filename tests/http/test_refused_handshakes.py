"""A refused handshake is told of in the log: its client only sees that it cannot connect."""

import logging
import time
from collections.abc import AsyncIterator

import pytest

from chat_server.auth.denials import Denial
from tests.rig.chat_client import JSON, chat, open_websocket
from tests.rig.raw_client import Answer, RawClient
from tests.rig.rfc6455 import upgrade
from tests.rig.server import mint
from tests.rig.tokens import forge
from tests.server.inprocess import Served, make_settings, serving

from .client import PROBLEM

ORIGIN = {"Origin": "https://evil.example"}


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with serving(make_settings()) as served:
        yield served


async def refused(server: Served, headers: dict[str, str], path: str = "/ws") -> Answer:
    """Ask for a WebSocket and return the answer, which is a problem document."""
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(path=path, token=mint("ada"), headers=headers))
        answer = await client.read_answer()
        assert answer.headers["content-type"] == PROBLEM
        return answer


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("headers", "status", "code", "said"),
    [
        ({"Upgrade": ""}, 426, "upgrade_required", "is it lost in a proxy? see docs/proxies.md"),
        ({"Connection": ""}, 426, "upgrade_required", "Connection: Upgrade is missing"),
        ({"Connection": "close"}, 426, "upgrade_required", "is it lost in a proxy?"),
        ({"Sec-WebSocket-Version": "8"}, 426, "upgrade_required", "must be 13"),
        ({"Sec-WebSocket-Key": ""}, 400, "bad_request", "Sec-WebSocket-Key: must be 16 bytes"),
        ({"Sec-WebSocket-Key": "short"}, 400, "bad_request", "must be 16 bytes in base64"),
        (ORIGIN, 403, "forbidden", "origin: is not allowed to connect"),
        ({"Sec-WebSocket-Protocol": "mqtt"}, 400, "bad_request", "subprotocol: must be one of"),
        ({"Authorization": "Bearer nonsense"}, 401, "unauthorized", "token: "),
        ({"Host": "a..b"}, 400, "bad_request", "Host: must be a name"),
    ],
)
async def test_the_answer_and_the_log_say_why(
    server: Served,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    status: int,
    code: str,
    said: str,
) -> None:
    for _ in range(3):
        answer = await refused(server, headers)
        assert (answer.status, answer.json()["code"]) == (status, code)
    if status == 426:
        assert answer.headers["upgrade"] == "websocket"
        assert answer.headers["sec-websocket-version"] == "13"
    if "Sec-WebSocket-Key" in headers and status == 400:
        return  # who writes such a key is no browser, and no proxy's fault
    [line] = lines(caplog)
    assert line.startswith(f"a WebSocket handshake was refused with {status}: ")
    assert said in line
    assert answer.json()["detail"] in line


async def test_a_line_names_origin_and_host_and_what_to_look_at(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    await refused(server, {**ORIGIN, "Host": "127.0.0.1:8000"})
    [line] = lines(caplog)
    assert line == (
        "a WebSocket handshake was refused with 403: origin: is not allowed to connect; pages of"
        " another host need http.allowed_origins; if it is the same host, the proxy must pass on"
        " Host: see docs/proxies.md"
    )
    told = vars(caplog.records[-1])
    assert [told[name] for name in ("status", "address", "origin", "host")] == [
        *(403, "127.0.0.1", "https://evil.example", "127.0.0.1:8000")
    ]


async def test_an_expired_token_is_told_of_with_the_address_of_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = make_settings(server__trusted_proxy_hops=1)
    headers = {
        "Authorization": f"Bearer {forge(exp=1)}",
        "X-Forwarded-For": "198.51.100.9, 192.0.2.7",
    }
    async with serving(settings) as served:
        answer = await refused(served, headers)
    assert answer.status == 401
    [line] = lines(caplog)
    assert "401: token: has expired" in line
    told = vars(caplog.records[-1])
    assert (told["address"], told["origin"]) == ("192.0.2.7", "none")


async def test_what_a_stranger_writes_is_bounded_and_inert(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    await refused(server, {"Origin": "https://" + "\u00e9\u009b[31m" + "x" * 5_000})
    [line] = lines(caplog)
    assert len(line) < 600
    assert line.isprintable()


async def knock(server: Served, headers: dict[str, str], times: int) -> list[Answer]:
    return [await refused(server, headers) for _ in range(times)]


@pytest.mark.parametrize("quart", [False, True])
async def test_whoever_knocks_too_often_is_told_when_to_come_back(
    caplog: pytest.LogCaptureFixture, quart: bool
) -> None:
    forged = {"Authorization": "Bearer nonsense"}
    if quart:
        forged["Sec-WebSocket-Protocol"] = "chat.v1.json,,"  # unusual: not for the front door
    async with serving(make_settings(limits__connects_per_address="2/1m")) as server:
        answers = await knock(server, forged, 4)
        assert [each.status for each in answers] == [401, 401, 429, 429]
        late = answers[-1]
        assert late.headers["retry-after"] == "30"
        assert late.json()["code"] == "rate_limited"
        assert late.json()["detail"] == "too many connects of this address"
        assert late.json()["request_id"] == late.headers["x-request-id"]
        # Nothing of a handshake is looked at, not even a good token.
        [answer] = await knock(server, {}, 1)
        assert answer.status == 429
        assert server.node.numbers.rate_limited == {"connects_per_address": 3}
        assert server.app.extensions["chat_server"].handshake_log.refused == {
            ("token", 401): 2,
            ("rate", 429): 3,
        }
        assert server.node.numbers.http_responses == {401: 2, 429: 3}
    assert len([line for line in lines(caplog) if "429: too many connects" in line]) == 1


async def test_a_browser_that_comes_too_often_is_closed_with_4429() -> None:
    async with serving(make_settings(limits__connects_per_address="1/1m")) as server:
        await knock(server, {"Authorization": "Bearer nonsense"}, 1)
        async with await open_websocket(server.ws_url, [JSON, f"bearer.{mint('ada')}"]) as page:
            await page.wait_closed()
            assert page.close_code == 4429
        assert server.node.numbers.rate_limited == {"connects_per_address": 1}
        assert server.node.numbers.tokens_refused == {"malformed": 1}


async def test_a_page_elsewhere_uses_up_nothing_of_its_visitors() -> None:
    async with serving(make_settings(limits__connects_per_address="1/1m")) as server:
        answers = await knock(server, ORIGIN, 3)
        assert [each.status for each in answers] == [403, 429, 429]
        async with await chat(server.ws_url, mint("ada")) as ada:
            assert ada.welcome["user"] == "ada"


async def test_a_blocked_user_who_comes_too_often() -> None:
    async with serving(make_settings(limits__connects_per_user="2/1m")) as server:
        until = int((time.time() + 60) * 1_000)
        server.node.denials.put("users", "ada", Denial(until, 0, "op", "spam"))
        answers = await knock(server, {}, 4)
        assert [each.status for each in answers] == [403, 403, 429, 429]
        assert server.node.numbers.rate_limited == {"connects_per_user": 2}
        # Who may come in is not known by a token that is not good.
        [answer] = await knock(server, {"Authorization": "Bearer nonsense"}, 1)
        assert answer.status == 401


async def test_a_path_without_a_websocket(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    answer = await refused(server, {}, "/chat/ws")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    [line] = lines(caplog)
    assert "there is nothing at this address" in line
    assert "does a proxy change the path?" in line


async def test_each_kind_has_a_line_of_its_own(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        await refused(server, ORIGIN)
        await refused(server, {"Upgrade": ""})
    assert len(lines(caplog)) == 2
