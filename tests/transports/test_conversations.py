"""Every transport tells the same story: the same frames sent give the same transcript."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeAlias

import msgspec
import pytest
from quart import Quart
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chat_server.app import create_app
from chat_server.broker.memory import MemoryBroker
from chat_server.settings import BrokerSettings, Settings
from tests.rig.chat_client import JSON, MSGPACK, open_websocket
from tests.rig.server import mint
from tests.rig.tokens import bad_tokens, forge
from tests.rig.waiting import SECONDS
from tests.server.inprocess import make_settings, serving

from ..rig.clock import ManualClock

Data: TypeAlias = str | bytes

LAST = 999
"""The id of the command that ends a script."""
Command: TypeAlias = dict[str, Any]
Script: TypeAlias = Sequence[Command | Data]

NOW = 1_700_000_000.0


class Peer(Protocol):
    """One client's connection by whichever way."""

    async def send(self, data: Data) -> None: ...

    async def receive(self) -> Data:
        """Return the next message; raise `Ended` with the close code or the HTTP status."""
        ...


class Ended(Exception):
    """The server closed, or refused the handshake."""


class ApplicationPeer:
    """Plays the ASGI server itself, so that nothing stands between the test and the transport."""

    def __init__(self, app: Quart, subprotocols: Sequence[str], headers: dict[str, str]) -> None:
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        fields = {"Host": "localhost", **headers}
        scope: Any = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/ws",
            "raw_path": b"/ws",
            "query_string": b"",
            "root_path": "",
            "headers": [(n.lower().encode(), v.encode()) for n, v in fields.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 80),
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        self._to_app.put_nowait({"type": "websocket.connect"})
        receive: Any = self._to_app.get
        send: Any = self._from_app.put
        self._task = asyncio.ensure_future(app(scope, receive, send))

    async def send(self, data: Data) -> None:
        kind = "text" if isinstance(data, str) else "bytes"
        await self._to_app.put({"type": "websocket.receive", kind: data})

    async def receive(self) -> Data:
        while True:
            async with asyncio.timeout(SECONDS):
                event = await self._from_app.get()
            if event["type"] == "websocket.send":
                data: Data | None = event.get("bytes")
                return event["text"] if data is None else data
            if event["type"] == "websocket.close":
                raise Ended(event["code"])
            if event["type"] == "websocket.http.response.start":
                async with asyncio.timeout(SECONDS):
                    body = await self._from_app.get()
                # granian answers 403, whatever the status is, to a body of several events.
                assert body["more_body"] is False
                assert str(event["status"]) in body["body"].decode()
                raise Ended(event["status"])
            assert event["type"] == "websocket.accept"

    async def close(self) -> None:
        await self._to_app.put({"type": "websocket.disconnect", "code": 1005})
        async with asyncio.timeout(SECONDS):
            await self._task


class SocketPeer:
    """A real socket."""

    def __init__(self, opening: Any) -> None:
        self._opening = opening
        self._websocket: Any = None

    async def _opened(self) -> Any:
        if self._websocket is None:
            try:
                self._websocket = await self._opening
            except InvalidStatus as error:
                raise Ended(error.response.status_code) from None
        return self._websocket

    async def send(self, data: Data) -> None:
        await (await self._opened()).send(data)

    async def receive(self) -> Data:
        websocket = await self._opened()
        try:
            async with asyncio.timeout(SECONDS):
                data: Data = await websocket.recv()
                return data
        except ConnectionClosed as error:
            raise Ended(error.rcvd.code if error.rcvd else 1006) from None

    async def close(self) -> None:
        if self._websocket is None:
            self._opening.close()
        else:
            await self._websocket.close()


class Way(Protocol):
    """A running server, and how to reach it."""

    def connect(
        self, subprotocols: Sequence[str] = (), headers: dict[str, str] | None = None
    ) -> Any:
        """Return a context that holds a `Peer`."""
        ...


class ApplicationWay:
    """Calls the application."""

    def __init__(self, app: Quart) -> None:
        self._app = app

    @asynccontextmanager
    async def connect(
        self, subprotocols: Sequence[str] = (), headers: dict[str, str] | None = None
    ) -> AsyncIterator[Peer]:
        peer = ApplicationPeer(self._app, subprotocols, headers or {})
        try:
            yield peer
        finally:
            await peer.close()


class SocketWay:
    """Through a worker and a socket."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def connect(
        self, subprotocols: Sequence[str] = (), headers: dict[str, str] | None = None
    ) -> AsyncIterator[Peer]:
        peer = SocketPeer(open_websocket(self._url, subprotocols, headers))
        try:
            yield peer
        finally:
            await peer.close()


PLACES = {"message": 1, "signal": 1, "gap": 1, "pong": 2}
"""What keeps an order of its own, which is not that of the answers."""
WAYS = ("no server", "asgi", "direct")


@asynccontextmanager
async def open_way(name: str, settings: Settings, clock: ManualClock) -> AsyncIterator[Way]:
    broker = MemoryBroker(BrokerSettings(), clock)
    if name == "no server":
        app = create_app(settings, broker=broker, clock=clock)
        async with app.test_app():
            yield ApplicationWay(app)
    else:
        settings = msgspec.structs.replace(
            settings, gateway=msgspec.structs.replace(settings.gateway, transport=name)
        )
        async with serving(settings, broker=broker, clock=clock) as served:
            yield SocketWay(served.ws_url)


async def transcript(peer: Peer, script: Script, encoding: str = JSON) -> list[Any]:
    """Send a script and return what came until the server closed or fell silent.

    A command at the end marks what belongs to the script: answers keep their order.
    """
    binary = encoding == MSGPACK
    told: list[Any] = []
    try:
        for step in [*script, {"type": "unsubscribe", "topic": "", "id": LAST}]:
            data = step
            if isinstance(step, dict):
                data = msgspec.msgpack.encode(step) if binary else json.dumps(step)
            assert isinstance(data, str | bytes)
            await peer.send(data)
        while (message := _decode(await peer.receive())).get("id") != LAST:
            told.append(message)
    except Ended as ended:
        told.append(ended.args[0])
    except ConnectionClosed:
        # The server closed before all was sent; what it said is still to be read.
        told += await _rest(peer)
    return [_plain(message) for message in told]


def _decode(data: Data) -> Any:
    return msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)


async def _rest(peer: Peer) -> list[Any]:
    told: list[Any] = []
    try:
        while True:
            data = await peer.receive()
            told.append(_decode(data))
    except Ended as ended:
        return [*told, ended.args[0]]


def _plain(message: Any) -> Any:
    """Leave out what differs from run to run."""
    if isinstance(message, dict):
        return {n: v for n, v in message.items() if n not in ("session", "server", "epoch")}
    return message


def _subscribe(topic: str, id: int = 1, **more: object) -> Command:
    return {"type": "subscribe", "id": id, "topic": topic, **more}


def _publish(topic: str, data: object, id: int = 2, **more: object) -> Command:
    return {"type": "publish", "id": id, "topic": topic, "data": data, **more}


GOOD: Script = (
    _subscribe("room:lobby"),
    _publish("room:lobby", {"text": "Grüße", "n": [1, 2.5, None, True]}),
    _publish("room:lobby", "again", 3, key="k"),
    _publish("room:lobby", "again", 4, key="k"),
    {"type": "signal", "id": 5, "topic": "room:lobby", "data": "typing"},
    {"type": "history", "id": 6, "topic": "room:lobby", "limit": 1},
    {"type": "unsubscribe", "id": 7, "topic": "room:lobby"},
    _publish("room:lobby", "unseen", 8),
    _subscribe("room:lobby", 9, last=2),
    {"type": "unsubscribe", "topic": "room:lobby"},
    {"type": "ping"},
)

BAD: Script = (
    "",
    "{",
    "[]",
    "null",
    '{"type":"nonsense","id":1}',
    '{"type":"publish","id":2,"topic":"room:a"}',
    _publish("room:a b", 1, 3),
    _publish("news", 1, 4),
    _subscribe("room:a", 5, last=0),
    {"type": "unsubscribe", "id": 6, "topic": "room:a"},
    _subscribe("room:a", 7),
    _subscribe("room:a", 8),
    {"type": "auth", "id": 9, "token": "nonsense"},
)

ENDINGS: dict[str, tuple[Script, int]] = {
    "ten messages that are none": (("{",) * 10, 4400),
    "binary on a JSON connection": ((b"{}",), 1003),
    "empty binary on a JSON connection": ((b"",), 1003),
    "too big": (("x" * 3000,), 1009),
    "too big in bytes, not in characters": (("ü" * 1500,), 1009),
}


def _settings(**flags: object) -> Settings:
    return make_settings(limits__max_message_bytes=2000, **flags)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _tell(
    script: Script,
    encoding: str = JSON,
    subprotocols: Sequence[str] | None = None,
    headers: dict[str, str] | None = None,
    settings: Settings | None = None,
) -> dict[str, list[Any]]:
    """Run a script by every way."""
    told = {}
    for name in WAYS:
        async with AsyncExitStack() as stack:
            clock = ManualClock(wall=NOW)
            way = await stack.enter_async_context(open_way(name, settings or _settings(), clock))
            offered = [encoding] if subprotocols is None else subprotocols
            peer = await stack.enter_async_context(way.connect(offered, headers))
            told[name] = await transcript(peer, script, encoding)
    return told


def _same(told: dict[str, list[Any]]) -> list[Any]:
    """Return the transcript that all ways agree on: answers in their order, pushes in theirs.

    How the two interleave depends on how many messages come in one packet.
    """
    first, *others = WAYS
    for other in others:
        assert _sorted(told[other]) == _sorted(told[first]), f"{other} differs from {first}"
    return told[first]


def _sorted(told: list[Any]) -> list[Any]:
    return sorted(told, key=lambda m: PLACES.get(m["type"], 0) if isinstance(m, dict) else 0)


@pytest.fixture
def token() -> str:
    return forge(sub="ada", exp=int(NOW) + 3600)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_conversation(encoding: str, token: str) -> None:
    told = _same(await _tell(GOOD, encoding, headers=_bearer(token)))
    assert told[0]["type"] == "welcome"
    assert told[0]["user"] == "ada"
    assert told[0]["expires_at"] == int(NOW) + 3600
    seqs = [m["seq"] for m in told if m["type"] == "message"]
    assert seqs == [1, 2, 2, 3]
    assert not [m for m in told if m["type"] == "error"]
    assert {"type": "pong"} in told


async def test_a_conversation_full_of_mistakes(token: str) -> None:
    told = _same(await _tell(BAD, headers=_bearer(token)))
    errors = [(m.get("id"), m["code"]) for m in told if m["type"] == "error"]
    assert errors == [
        (None, "bad_request"),
        (None, "bad_request"),
        (None, "bad_request"),
        (None, "bad_request"),
        (1, "bad_request"),
        (2, "bad_request"),
        (3, "bad_request"),
        (4, "forbidden"),
        (5, "bad_request"),
        (6, "not_subscribed"),
        (8, "already_subscribed"),
        (9, "unauthorized"),
    ]


@pytest.mark.parametrize("name", ENDINGS)
async def test_endings(name: str, token: str) -> None:
    script, code = ENDINGS[name]
    told = _same(await _tell(script, headers=_bearer(token)))
    assert told[-1] == code
    if code != 1009:
        assert told[-2]["type"] == "goodbye"
        assert told[-2]["code"] == code


async def test_text_on_a_msgpack_connection(token: str) -> None:
    told = {}
    for name in WAYS:
        async with (
            open_way(name, _settings(), ManualClock(wall=NOW)) as way,
            way.connect([MSGPACK], _bearer(token)) as peer,
        ):
            await peer.receive()
            await peer.send("{}")
            goodbye = _decode(await peer.receive())
            with pytest.raises(Ended) as ended:
                await peer.receive()
            told[name] = [goodbye["code"], ended.value.args[0]]
    assert _same(told) == [1003, 1003]


@pytest.mark.parametrize("source", ["subprotocol", "message"])
@pytest.mark.parametrize("kind", ["expired", "unsigned", "a pattern that is none", "not a token"])
async def test_a_bad_token_closes_with_4401(kind: str, source: str) -> None:
    bad = bad_tokens(NOW)[kind]
    settings = _settings(auth__audience="chat")
    if source == "subprotocol":
        told = _same(await _tell((), subprotocols=[JSON, f"bearer.{bad}"], settings=settings))
    else:
        told = _same(await _tell(({"type": "auth", "id": 1, "token": bad},), settings=settings))
    assert [m["type"] for m in told[:-1]] == ["goodbye"]
    assert told[-1] == 4401


async def test_a_bad_token_in_the_header_is_refused() -> None:
    assert _same(await _tell((), headers=_bearer("nonsense"))) == [401]


async def test_another_scheme_in_the_header_is_passed_over(token: str) -> None:
    basic = {"Authorization": "Basic abc"}
    told = _same(await _tell((), headers=basic, subprotocols=[JSON, f"bearer.{token}"]))
    assert told[0]["type"] == "welcome"


async def test_foreign_origins_and_unknown_subprotocols_are_refused(token: str) -> None:
    foreign = {"Origin": "https://evil.example", **_bearer("nonsense")}
    assert _same(await _tell((), headers=foreign)) == [403]
    assert _same(await _tell((), subprotocols=["chat.v2.json"], headers=_bearer(token))) == [400]


async def test_nothing_but_auth_is_done_before_auth(token: str) -> None:
    script = (_subscribe("room:a"), {"type": "auth", "id": 2, "token": token})
    told = _same(await _tell(script))
    assert [(m["type"], m.get("code")) for m in told] == [
        ("error", "unauthorized"),
        ("welcome", None),
        ("ok", None),
    ]


@pytest.mark.parametrize("allowed", [[], ["https://chat.example.org"]])
@pytest.mark.parametrize("origin", [None, "http://localhost"])
async def test_clients_without_an_origin_and_own_pages_connect_whatever_is_allowed(
    allowed: list[str], origin: str | None, token: str
) -> None:
    settings = _settings(http__allowed_origins=allowed)
    async with open_way("no server", settings, ManualClock(wall=NOW)) as way:
        headers = {"Host": "localhost", **({"Origin": origin} if origin else {}), **_bearer(token)}
        async with way.connect([JSON], headers) as peer:
            assert json.loads(await peer.receive())["type"] == "welcome"


async def test_without_any_token_the_connection_is_closed_in_time() -> None:
    settings = _settings(gateway__auth_timeout_seconds=0.05)
    for name in WAYS:
        clock = ManualClock(wall=NOW)
        async with open_way(name, settings, clock) as way, way.connect([JSON]) as peer:
            await peer.send('{"type":"ping","id":1}')
            assert json.loads(await peer.receive()) == {"type": "pong", "id": 1}
            clock.advance(0.1)
            assert json.loads(await peer.receive())["code"] == 4408
            with pytest.raises(Ended, match="4408"):
                await peer.receive()


@pytest.mark.parametrize(
    ("limit", "subs"), [("per_user", ("a", "b", "a")), ("per_address", ("a", "b"))]
)
async def test_connections_of_one_user_and_of_one_address_are_bounded(
    limit: str, subs: Sequence[str]
) -> None:
    settings = _settings(**{f"limits__max_connections_{limit}": 1})
    for name in WAYS:
        clock = ManualClock(wall=NOW)
        async with open_way(name, settings, clock) as way, AsyncExitStack() as stack:
            peers = []
            for sub in subs:
                headers = _bearer(forge(sub=sub, exp=int(NOW) + 60))
                peers.append(await stack.enter_async_context(way.connect([JSON], headers)))
            told = [json.loads(await peer.receive()) for peer in peers]
            assert [m["type"] for m in told] == ["welcome"] * (len(subs) - 1) + ["goodbye"]
            assert told[-1]["code"] == 4429
            with pytest.raises(Ended, match="4429"):
                await peers[-1].receive()


async def test_the_default_minting_is_accepted() -> None:
    app = create_app(make_settings())
    async with (
        app.test_app(),
        ApplicationWay(app).connect([JSON], _bearer(mint("ada", name="Ada"))) as peer,
    ):
        assert json.loads(await peer.receive())["user"] == "ada"
