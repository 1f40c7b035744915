"""The front door and Quart's answer alike: byte for byte, apart from what each request has anew."""

import itertools
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_server.http.pages import make_file, without_comments
from chat_server.version import __version__
from tests.rig import rfc6455
from tests.rig.certificates import make_certificate
from tests.rig.server import ServerProcess
from tests.rig.tokens import forge
from tests.rig.waiting import SECONDS

DAY = int(time.time()) + 86_400
TOKEN = forge(
    sub="ada", aud="chat", exp=DAY, topics={each: ["**"] for each in ("publish", "history")}
)
EXPIRED = forge(sub="ada", aud="chat", exp=1_000)
READER = forge(sub="eve", aud="chat", exp=DAY, topics={"publish": []})

NEW = re.compile(
    rb'(?<="epoch":")[^"]*|(?<="at":)[0-9]+|(?<="request_id":")[^"]*|(?<="session":")[^"]*'
    rb"|(?<=x-request-id: )[0-9a-f]{16}|(?<=date: )[^\r]*"
    rb'|(?<="messages";r=)[0-9]+;t=[0-9]+'
    rb'|(?<="expires_at":)[0-9]+|(?<="server":")[^"]*'
    rb"|(?<=session\xb0).{16}|(?<=server[\xa0-\xbf])[^\xb1]*|(?<=expires_at\xce).{4}"
    rb"|(?<=Sec-WebSocket-Accept: )[^\r]*",
    re.DOTALL,
)
"""What differs from one request to the next."""

BATCH = "/api/messages"

LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(
    body: bytes = b'{"data":1}',
    *headers: str,
    topic: str = "room:a",
    token: str = TOKEN,
    target: str = "",
    length: int | None = None,
    host: str = "localhost",
) -> bytes:
    target = target or f"/api/topics/{topic}/messages"
    size = len(body) if length is None else length
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


ICON = make_file(without_comments("icon.svg"), "").etag

FILES = {
    "page": get("/"),
    "script": get("/static/dialog.js", "Accept-Encoding: gzip, deflate, br, zstd"),
    "script as it is": get("/static/dialog.js", "Accept-Encoding: identity"),
    "client of this version": get(f"/static/client/{__version__}/client.js"),
    "client of another version": get("/static/client/0.0.0/client.js"),
    "no such file": get("/static/nothing.js"),
    "file above": get("/static/../app.py"),
    "escaped path": get("/static/icon%2Esvg"),
    "query of a file": get("/static/icon.svg?a=b"),
    "slash behind a file": get("/static/icon.svg/"),
    "no gzip": get("/static/icon.svg", "Accept-Encoding: gzip;q=0, br"),
    "rather gzip": get("/static/icon.svg", "Accept-Encoding: br, gzip;q=0.5"),
    "any coding": get("/static/icon.svg", "Accept-Encoding: *"),
    "known": get("/static/icon.svg", f'If-None-Match: "{ICON}"'),
    "known compressed": get(
        "/static/icon.svg", f'If-None-Match: "{ICON}-gzip"', "Accept-Encoding: gzip"
    ),
    "known in another coding": get(
        "/static/icon.svg", f'If-None-Match: "{ICON}"', "Accept-Encoding: gzip"
    ),
    "known weakly": get("/static/icon.svg", f'If-None-Match: W/"{ICON}"'),
    "one of some known": get("/static/icon.svg", f'If-None-Match: "a", "{ICON}"'),
    "any known": get("/static/icon.svg", "If-None-Match: *"),
    "known since": get("/static/icon.svg", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"),
    "range": get("/static/icon.svg", "Range: bytes=0-9"),
    "file with a body": get("/static/icon.svg", "Content-Length: 1") + b"x",
    "file with an empty body": get("/static/icon.svg", "Content-Length: 0"),
    "file for another origin": get("/static/client.js", "Origin: https://elsewhere.example"),
    "file for an allowed origin": get("/static/client.js", "Origin: https://a.example"),
    "file with a request id": get("/static/icon.svg", "X-Request-ID: mine-7"),
    "file, then close": get("/static/icon.svg", "Connection: close"),
    "head of a file": get("/static/icon.svg").replace(b"GET", b"HEAD"),
}

REQUESTS = {
    **FILES,
    "publish": post(),
    "publish with a key": post(b'{"data":{"text":"\xc3\xa9"},"key":"k1"}'),
    "escaped topic": post(topic="room%3Ab"),
    "escaped twice": post(topic="room%253Ab"),
    "escaped byte": post(topic="room%FFb"),
    "broken escape": post(topic="room%zz"),
    "escaped slash": post(topic="room%2Fb"),
    "dots": post(topic=".."),
    "slashes": post(topic="a/b"),
    "two slashes": post(target="/api//topics/room:a/messages"),
    "slash at the end": post(target="/api/topics/room:a/messages/"),
    "query": post(target="/api/topics/room:a/messages?a=b"),
    "fragment": post(target="/api/topics/room:a/messages#a"),
    "absolute form": post(target="http://localhost/api/topics/room:a/messages"),
    "no topic": post(target="/api/topics//messages"),
    "bad topic": post(topic="room::a"),
    "long topic": post(topic="a" * 256),
    "no such route": post(target="/api/nowhere"),
    "no token": post(token=""),
    "nonsense token": post(token="a.b.c"),
    "expired token": post(token=EXPIRED),
    "forbidden": post(token=READER),
    "two tokens": post(b'{"data":1}', f"Authorization: Bearer {TOKEN}"),
    "no body": post(b""),
    "no JSON": post(b"{"),
    "no data": post(b"{}"),
    "unknown field": post(b'{"data":1,"colour":"red"}'),
    "bad key": post(b'{"data":1,"key":""}'),
    "topic in the body": post(b'{"data":1,"topic":"room:z"}'),
    "type in the body": post(b'{"data":1,"type":"delete","seq":1}'),
    "too large": post(b'{"data":"%b"}' % (b"x" * 65_536)),
    "largest": post(b'{"data":"%b"}' % (b"x" * (65_536 - 11))),
    "request id": post(b'{"data":1}', "X-Request-ID: mine-7"),
    "bad request id": post(b'{"data":1}', "X-Request-ID: a b"),
    "encoded body": post(b'{"data":1}', "Content-Encoding: gzip"),
    "identity": post(b'{"data":1}', "Content-Encoding: identity"),
    "chunked": post(b'a\r\n{"data":1}\r\n0\r\n\r\n', "Transfer-Encoding: chunked").replace(
        b"Content-Length: 20\r\n", b""
    ),
    "chunked with a length": post(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "expects": post(b'{"data":1}', "Expect: 100-continue"),
    "expects another": post(b'{"data":1}', "Expect: 200-ok"),
    "two lengths": post(b'{"data":1}', "Content-Length: 10"),
    "length with a sign": post().replace(b"Length: 10", b"Length: +10"),
    "length in words": post().replace(b"Length: 10", b"Length: ten"),
    "list of lengths": post().replace(b"Length: 10", b"Length: 10, 10"),
    "no host": post().replace(b"Host: localhost\r\n", b""),
    "two hosts": post(b'{"data":1}', "Host: localhost"),
    "bad host": post(host="a..b"),
    "long host": post(host="a" * 64),
    "long host with port": post(host="a" * 60 + ":80"),
    "address": post(host="[::1]:80"),
    "bad address": post(host="[::1"),
    "origin": post(b'{"data":1}', "Origin: https://elsewhere.example"),
    "allowed origin": post(b'{"data":1}', "Origin: https://a.example"),
    "old version": post().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "new version": post().replace(b"HTTP/1.1", b"HTTP/1.2"),
    "two spaces": post().replace(b" HTTP/1.1", b"  HTTP/1.1"),
    "space at the end of the line": post().replace(b" HTTP/1.1", b" HTTP/1.1 "),
    "two spaces in a batch": post(
        b'{"messages":[{"topic":"room:a","data":1}]}', target=BATCH
    ).replace(b"POST ", b"POST  "),
    "lower case": post().replace(b"POST", b"post"),
    "empty lines in front": b"\r\n\r\n" + post(),
    "bare line feeds": post().replace(b"\r\n", b"\n"),
    "continued line": post(b'{"data":1}', "X-Long: a\r\n b"),
    "space before the colon": post(b'{"data":1}', "X-Odd : a"),
    "header without a name": post(b'{"data":1}', ": a"),
    "header without a colon": post(b'{"data":1}', "odd"),
    "latin header": post(b'{"data":1}', "X-Odd: caf\xe9"),
    "null in a header": post(b'{"data":1}', "X-Odd: a\0b"),
    "tab in a header": post(b'{"data":1}', "X-Odd: a\tb"),
    "many headers": post(b'{"data":1}', *(f"X-{number}: a" for number in range(120))),
    "long head": post(b'{"data":1}', f"X-Long: {'a' * 20_000}"),
    "close": post(b'{"data":1}', "Connection: close"),
    "keep alive": post(b'{"data":1}', "Connection: Keep-Alive"),
    "upgrade": post(b'{"data":1}', "Connection: upgrade", "Upgrade: h2c"),
    "trailers": post(b'{"data":1}', "TE: trailers"),
    "batch": post(
        b'{"messages":[{"topic":"room:a","data":1},{"topic":"room:b"},{}]}', target=BATCH
    ),
    "empty batch": post(b'{"messages":[]}', target=BATCH),
    "no batch": post(b"[1]", target=BATCH),
    "batch with a query": post(b'{"messages":[]}', target=f"{BATCH}?a=b"),
    "batch without a token": post(b'{"messages":[]}', target=BATCH, token=""),
    "large batch": post(
        b'{"messages":[%b]}'
        % b",".join(10 * [b'{"topic":"room:a","data":"%b"}' % (b"x" * 30_000)]),
        target=BATCH,
    ),
    "too large a batch": post(b'{"messages":[%b]}' % (b" " * 1_100_000), target=BATCH),
    "history": f"GET /api/topics/room:a/messages?limit=3 HTTP/1.1\r\nHost: localhost\r\n"
    f"Authorization: Bearer {TOKEN}\r\n\r\n".encode(),
    "health": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "head": b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
    "a line break behind the body": post() + b"\r\n",
}

HANDSHAKES = {
    "plain": rfc6455.upgrade(),
    "header": rfc6455.upgrade(token=TOKEN),
    "bad header": rfc6455.upgrade(headers={"Authorization": "Bearer a.b.c"}),
    "subprotocols": rfc6455.upgrade(
        headers={"Sec-WebSocket-Protocol": f"bearer.{TOKEN}, chat.v1.msgpack"}
    ),
    "bad subprotocol token": rfc6455.upgrade(
        headers={"Sec-WebSocket-Protocol": "chat.v1.json,bearer.x"}
    ),
    "unknown subprotocol": rfc6455.upgrade(headers={"Sec-WebSocket-Protocol": "mqtt"}),
    "odd subprotocols": rfc6455.upgrade(headers={"Sec-WebSocket-Protocol": "chat.v1.json,,"}),
    "query": rfc6455.upgrade(path=f"/ws?token={TOKEN}"),
    "bad query": rfc6455.upgrade(path="/ws?token=x"),
    "two in the query": rfc6455.upgrade(path=f"/ws?token=x&token={TOKEN}"),
    "escaped query": rfc6455.upgrade(path="/ws?token=a%20b"),
    "other query": rfc6455.upgrade(path="/ws?colour=red"),
    "origin": rfc6455.upgrade(headers={"Origin": "https://elsewhere.example"}),
    "allowed origin": rfc6455.upgrade(headers={"Origin": "https://a.example"}),
    "own origin": rfc6455.upgrade(headers={"Origin": "http://localhost", "Host": "localhost"}),
    "compression": rfc6455.upgrade(
        headers={"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    ),
    "short key": rfc6455.upgrade(headers={"Sec-WebSocket-Key": "YQ=="}),
    "no key": rfc6455.upgrade(headers={"Sec-WebSocket-Key": ""}) + LAST,
    "old version": rfc6455.upgrade(headers={"Sec-WebSocket-Version": "8"}) + LAST,
    "no upgrade": rfc6455.upgrade(headers={"Upgrade": "h2c"}) + LAST,
    "no connection": rfc6455.upgrade(headers={"Connection": "keep-alive"}) + LAST,
    "connections": rfc6455.upgrade(headers={"Connection": "keep-alive, Upgrade"}),
    "with a length": rfc6455.upgrade(headers={"Content-Length": "0"}),
    "with a body": rfc6455.upgrade(headers={"Content-Length": "1"}) + b"x",
    "frames in front": rfc6455.upgrade() + rfc6455.text({"type": "ping", "id": 1}),
    "two spaces": rfc6455.upgrade(path="/ws "),
    "slash at the end": rfc6455.upgrade(path="/ws/"),
    "elsewhere": rfc6455.upgrade(path="/nowhere"),
    "frames in front, elsewhere": rfc6455.upgrade(path="/nowhere") + b"x",
}


@pytest.fixture(scope="module", params=["http", pytest.param("https", marks=pytest.mark.extra)])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ServerProcess]]:
    """The same server twice, with the front door and without."""
    certificate = None
    if request.param == "https":
        certificate = make_certificate(tmp_path_factory.mktemp("tls"))
    environ = {
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_AUTH__AUDIENCE": "chat",
        "CHAT_HTTP__ALLOWED_ORIGINS": '["https://a.example"]',
    }
    doors = [{**environ, "CHAT_SERVER__FRONT_DOOR": door} for door in ("direct", "quart")]
    one, other = (ServerProcess(environ=door, certificate=certificate) for door in doors)
    with one, other:
        yield [one, other]


def converse(server: ServerProcess, pieces: Sequence[bytes], *, ends: bool = False) -> bytes:
    """Send pieces, each in a packet, and return everything that is answered.

    Each conversation ends by itself: a time limit would end it early on a slow machine.

    Args:
        ends: end our stream, for requests that the server may or may not answer by an end.
    """
    received = bytearray()
    with _connected(server) as client:
        # What was answered with `Connection: close` may refuse what comes behind.
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            for piece in pieces:
                client.sendall(piece)
            if ends:
                client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError, ssl.SSLEOFError):
            opened = False
            while data := client.recv(65_536):
                received += data
                if b"HTTP/1.1 101 " in received and not opened:
                    opened = True
                    client.sendall(rfc6455.frame(rfc6455.CLOSE))
    return NEW.sub(b"-", bytes(received))


def _connected(server: ServerProcess) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server.tls.wrap_socket(client, server_hostname="localhost") if server.tls else client


def both(
    servers: list[ServerProcess], pieces: Sequence[bytes], *, ends: bool = False
) -> tuple[bytes, bytes]:
    one, other = (converse(server, pieces, ends=ends) for server in servers)
    return one, other


REFUSED_EARLY = ("too large", "too large a batch", "long head")
"""Whether all of such a request has come when it is refused is chance; if not, the refusal says
`Connection: close`."""


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_answered_alike(servers: list[ServerProcess], name: str) -> None:
    if name in REFUSED_EARLY:
        answers = both(servers, [post() + REQUESTS[name]], ends=True)
        direct, quart = (answer.replace(b"connection: close\r\n", b"") for answer in answers)
    else:
        direct, quart = both(servers, [post() + REQUESTS[name] + post() + LAST])
    assert direct == quart
    assert direct.startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize("name", HANDSHAKES)
def test_handshakes_are_answered_alike(servers: list[ServerProcess], name: str) -> None:
    direct, quart = both(servers, [HANDSHAKES[name]])
    assert direct == quart
    assert direct


NUMBERS = itertools.count(1)


def cut_up(requests: Sequence[bytes], cuts: Sequence[float]) -> list[bytes]:
    """Return the requests in pieces, whose places are parts of the whole.

    No piece ends within a body that is not taken: whether an answer overtakes the rest of it, and
    so has to end the connection, is chance.
    """
    size = sum(map(len, requests))
    places = {int(cut * size) for cut in cuts} | {0, size}
    start = 0
    for each in requests:
        body, end = start + each.find(b"\r\n\r\n") + 3, start + len(each)
        if each not in TAKEN:
            places = {end if body < place < end else place for place in places}
        start = end
    whole = b"".join(requests)
    return [whole[a:b] for a, b in itertools.pairwise(sorted(places))]


USUAL = [request for name, request in REQUESTS.items() if name not in REFUSED_EARLY]
SENT = [FILES[each] for each in ("page", "script", "known", "file with a request id")]
TAKEN = [REQUESTS[each] for each in ("publish", "publish with a key", "request id", "keep alive")]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.sampled_from([*USUAL, *SENT, *3 * TAKEN]), min_size=1, max_size=6),
    st.lists(st.floats(0, 1), max_size=8),
    st.sampled_from([LAST, *HANDSHAKES.values()]),
)
def test_any_split_of_any_requests_is_answered_alike(
    servers: list[ServerProcess], requests: list[bytes], cuts: list[float], last: bytes
) -> None:
    room = b"room:%d" % next(NUMBERS)
    pieces = cut_up([*requests, last], cuts)
    direct, quart = both(servers, [piece.replace(b"room:a", room) for piece in pieces])
    assert direct == quart


def test_nothing_is_stored_twice(servers: list[ServerProcess]) -> None:
    """Whatever has run before on these two servers: both have stored the same."""
    whole = b"".join(TAKEN) + REQUESTS["history"].replace(b"limit=3", b"limit=100") + LAST
    direct, quart = both(servers, [whole])
    assert direct == quart
    assert b'"seq":' in direct
