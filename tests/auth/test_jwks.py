"""Tokens verified with a key set at a URL, served by a real HTTP server."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chat_server import __version__
from chat_server.auth import jwks, tokens
from chat_server.auth.fetching import Fetcher, FetchError
from chat_server.auth.jwks import BURST
from chat_server.auth.tokens import Verifier
from chat_server.clock import ManualClock, SystemClock
from chat_server.protocol.errors import Unauthorized, Unavailable
from chat_server.settings import AuthSettings

from .key_server import KEY_OF, NOW, PRIVATE, KeyServer, certificate, jwk, serve_keys, sign

OLD = sign("RS256", PRIVATE["RSA"], kid="old")
NEW = sign("RS256", PRIVATE["RSA2"], kid="new")


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with serve_keys() as running:
        running.publish(jwk("RSA", kid="old"))
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def settings(url: str, *algorithms: str) -> AuthSettings:
    fields = {"jwks_url": url, "algorithms": algorithms or ["RS256"]}
    return msgspec.convert(fields, AuthSettings)


@pytest.fixture
def subject(server: KeyServer, clock: ManualClock) -> Verifier:
    return Verifier(settings(server.url), clock)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the condition is another thread's)
            await asyncio.sleep(0.002)


async def refusal(subject: Verifier, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await subject.verify(token)
    return caught.value.message


@pytest.mark.parametrize("algorithm", KEY_OF)
async def test_every_algorithm(algorithm: str, server: KeyServer, clock: ManualClock) -> None:
    name = KEY_OF[algorithm]
    server.publish(*(jwk(name, kid=name) for name in PRIVATE))
    subject = Verifier(settings(server.url, *KEY_OF), clock)
    token = sign(algorithm, PRIVATE[name], kid=name)
    assert subject.verify_now(token) is None
    assert (await subject.verify(token)).sub == "alice"
    assert subject.verify_now(token) == await subject.verify(token)
    head, payload, _ = token.split(".")
    other = sign(algorithm, PRIVATE[name], {"sub": "bob"}, kid=name).split(".")[2]
    assert "signature" in await refusal(subject, f"{head}.{payload}.{other}")
    assert server.requests == 1


async def test_keys_are_fetched_once_and_again_when_they_rotate(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for _ in range(3):
        await subject.verify(OLD)
    assert server.requests == 1
    server.publish(jwk("RSA2", kid="new"))
    clock.advance(60)
    assert subject.verify_now(NEW) is None
    renewed = sign("RS256", PRIVATE["RSA2"], {"exp": NOW + 600}, kid="new")
    await subject.verify(renewed)
    assert server.requests == 2
    assert "`kid` is unknown" in await refusal(subject, OLD)
    assert server.requests == 3


def made_up(number: int) -> str:
    return sign("RS256", PRIVATE["RSA"], kid=f"made-up-{number}")


async def wait_told(subject: Verifier, token: str) -> int:
    """Return the milliseconds until the next try that a token of unknown key is told."""
    with pytest.raises(Unavailable) as caught:
        await subject.verify(token)
    with pytest.raises(Unavailable):
        subject.verify_now(token)
    assert caught.value.retry_in_ms is not None
    return caught.value.retry_in_ms


async def test_made_up_keys_fetch_at_most_once_an_interval(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for number in range(BURST):
        assert "`kid` is unknown" in await refusal(subject, made_up(number))
    assert server.requests == BURST
    # Nothing is known of the next ones, which could be good: they come again.
    for number in range(20):
        assert await wait_told(subject, made_up(100 + number)) == 1000
    assert server.requests == BURST
    clock.advance(9.5)
    assert await wait_told(subject, made_up(200)) == 500
    clock.advance(0.5)
    assert "unknown" in await refusal(subject, made_up(201))
    await wait_told(subject, made_up(202))
    assert server.requests == BURST + 1


async def test_a_made_up_key_does_not_use_up_what_a_new_one_needs(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    assert "unknown" in await refusal(subject, made_up(0))
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    assert (await subject.verify(NEW)).sub == "alice"


async def test_a_new_key_is_found_soon_during_a_flood_of_made_up_ones(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    for number in range(50):
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(made_up(number))
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    assert await wait_told(subject, NEW) == 1000
    for number in range(50, 100):
        await wait_told(subject, made_up(number))
    clock.advance(1)
    for number in range(100, 150):
        await wait_told(subject, made_up(number))
    before = server.requests
    assert (await subject.verify(NEW)).sub == "alice"
    assert server.requests == before + 1


async def test_a_key_that_was_looked_for_in_vain_has_no_part_in_the_reserve(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for _ in range(BURST):
        assert "unknown" in await refusal(subject, made_up(0))
    for _ in range(8):
        clock.advance(1)
        assert await wait_told(subject, made_up(0)) > 1000
    assert server.requests == BURST


async def test_both_allowances_together_bound_the_fetches(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    """Try everything, among it to come back in time with several keys."""
    for second in range(60):
        for number in range(20):
            with pytest.raises((Unauthorized, Unavailable)):
                await subject.verify(made_up(number + second // 3 * 100))
        clock.advance(1)
    assert server.requests <= 2 * (BURST + 60 / 10)


async def test_what_is_remembered_of_made_up_keys_is_bounded(
    server: KeyServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_ASKED", 50)
    subject = Verifier(settings(server.url), clock)
    for number in range(200):
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(made_up(number))
    assert subject._key_set is not None
    assert len(subject._key_set._asked) == 50


async def test_failures_are_limited_as_well(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    server.status = 503
    for _ in range(5):
        assert await wait_told(subject, OLD) == 5000
    assert server.requests == 1
    server.status = 200
    clock.advance(5)
    assert (await subject.verify(OLD)).sub == "alice"
    assert server.requests == 2


async def test_known_keys_outlive_their_issuer_and_new_ones_wait(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    await subject.verify(OLD)
    server.status = 500
    clock.advance(60)
    known = sign("RS256", PRIVATE["RSA"], {"exp": NOW + 600}, kid="old")
    for _ in range(2):
        with pytest.raises(Unavailable):  # it may be a new key: who could tell?
            await subject.verify(NEW)
        assert subject.verify_now(known) is not None
    assert server.requests == 2


async def test_many_waiters_share_one_fetch(subject: Verifier, server: KeyServer) -> None:
    server.gate.clear()
    waiters = [asyncio.create_task(subject.verify(OLD)) for _ in range(50)]
    await until(lambda: server.requests)
    assert subject.verify_now(OLD) is None
    server.gate.set()
    assert {claims.sub for claims in await asyncio.gather(*waiters)} == {"alice"}
    assert server.requests == 1


async def test_a_slow_issuer_does_not_block_the_loop(subject: Verifier, server: KeyServer) -> None:
    server.gate.clear()
    waiter = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    turns = 0
    async with asyncio.timeout(5):
        while turns < 1_000:
            await asyncio.sleep(0)
            turns += 1
    assert not waiter.done()
    server.gate.set()
    assert (await waiter).sub == "alice"


async def test_an_issuer_that_never_answers_is_given_up(
    subject: Verifier, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    server.gate.clear()
    with pytest.raises(Unavailable):
        await subject.verify(OLD)
    server.gate.set()


def fetch_threads() -> int:
    return sum(thread.name == "jwks-fetch" for thread in threading.enumerate())


@pytest.mark.parametrize("drip_head", [False, True])
async def test_an_answer_that_trickles_is_cut(server: KeyServer, drip_head: bool) -> None:
    server.body = b" " * 10_000
    server.drip_head = drip_head
    server.pause_seconds = 0.01  # each byte comes in time, the whole would take 100 seconds
    fetcher = Fetcher(server.url, bytes, max_bytes=10**6)
    for _ in range(3):
        with pytest.raises(FetchError, match="in time"):
            await fetcher.fetch(seconds=0.3)
        # The thread ends, and the issuer sees the connection closed.
        await until(lambda: fetch_threads() == 0 and server.open_connections == 0)
    server.pause_seconds, server.drip_head = 0.0, False
    assert await fetcher.fetch(seconds=5) == server.body


async def test_a_handshake_that_hangs_is_cut(server: KeyServer) -> None:
    """Speak TLS to what answers with a byte now and then, and to what says nothing."""
    fetcher = Fetcher(server.url.replace("http:", "https:"), bytes, max_bytes=10**6)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        fetcher = Fetcher(url, bytes, max_bytes=10**6)
        with pytest.raises(FetchError, match="in time"):
            await fetcher.fetch(seconds=0.3)
        await until(lambda: fetch_threads() == 0)


async def test_slow_fetches_take_no_thread_of_others(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.1)
    server.drip_head = True
    server.pause_seconds = 0.01
    subject = running(server, 0.05)
    await subject.start()
    try:
        await until(lambda: server.requests >= 6)
        assert fetch_threads() <= 2  # the one that was cut may be about to end
        workers = asyncio.get_running_loop()._default_executor  # type: ignore[attr-defined]
        assert workers is None
    finally:
        await subject.stop()


async def test_a_name_that_is_looked_up_for_long_is_not_looked_up_twice(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    create_connection = socket.create_connection
    lookups = []

    def slow(*args: Any, **kwargs: Any) -> socket.socket:
        lookups.append(args)
        gate.wait(30)
        return create_connection(*args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", slow)
    fetcher = Fetcher(server.url, bytes, max_bytes=10**6)
    with pytest.raises(FetchError, match="in time"):
        await fetcher.fetch(seconds=0.1)
    with pytest.raises(FetchError, match="still being looked up"):
        await fetcher.fetch(seconds=0.1)
    assert len(lookups) == 1
    gate.set()
    await until(lambda: fetch_threads() == 0)
    assert server.requests == 0  # it came too late
    assert await fetcher.fetch(seconds=5) == server.body


async def test_the_request_says_who_asks_for_what(subject: Verifier, server: KeyServer) -> None:
    await subject.verify(OLD)
    assert server.request_headers["User-Agent"] == f"chat_server/{__version__}"
    assert server.request_headers["Accept"].startswith("application/jwk-set+json, application/json")


async def test_a_fault_of_parsing_is_logged_and_waits(
    subject: Verifier, server: KeyServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(*args: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(tokens, "parse_key_set", broken)
    assert await wait_told(subject, OLD) == 5000
    assert "KeyError: 'x'" in caplog.text


async def test_a_cancelled_waiter_leaves_the_fetch_to_the_others(
    subject: Verifier, server: KeyServer
) -> None:
    server.gate.clear()
    first = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    second = asyncio.create_task(subject.verify(OLD))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.gate.set()
    assert (await second).sub == "alice"
    assert server.requests == 1


async def test_stopping_during_a_fetch_answers_its_waiters(
    subject: Verifier, server: KeyServer
) -> None:
    server.gate.clear()
    await subject.start()
    waiter = asyncio.create_task(subject.verify(OLD))
    await until(lambda: server.requests)
    await subject.stop()
    with pytest.raises(Unavailable):
        await waiter
    with pytest.raises(Unavailable):
        await subject.verify(OLD)
    await subject.stop()
    server.gate.set()


async def test_stopping_at_once_leaves_it_able_to_start_again(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    for turns in range(4):
        await subject.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await subject.stop()
    clock.advance(5)
    await subject.start()
    await subject.start()
    try:
        assert (await subject.verify(OLD)).sub == "alice"
    finally:
        await subject.stop()


async def test_the_server_starts_while_its_issuer_is_away(clock: ManualClock) -> None:
    with serve_keys() as gone:
        url = gone.url
    subject = Verifier(settings(url), clock)
    await subject.start()
    try:
        with pytest.raises(Unavailable) as caught:
            await subject.verify(OLD)
        assert url not in caught.value.message
    finally:
        await subject.stop()


def running(server: KeyServer, seconds: float) -> Verifier:
    """Return a verifier that follows real time, since its keeper sleeps in real time."""
    chosen = settings(server.url)
    return Verifier(
        msgspec.structs.replace(chosen, jwks_min_refresh_seconds=seconds),
        SystemClock(),
    )


async def test_start_fetches_ahead_and_retries_by_itself(server: KeyServer) -> None:
    server.status = 503
    subject = running(server, 0.01)
    token = sign("RS256", PRIVATE["RSA"], {"exp": 4_000_000_000}, kid="old")
    await subject.start()
    try:
        await until(lambda: server.requests >= 3)
        server.status = 200

        def verified() -> bool:
            try:
                return subject.verify_now(token) is not None
            except Unavailable:
                return False

        await until(verified)
    finally:
        await subject.stop()


async def test_a_key_that_was_removed_is_dropped_in_time(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_AGE_SECONDS", 0.01)
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    subject = running(server, 0.01)
    token = sign("RS256", PRIVATE["RSA"], {"exp": 4_000_000_000}, kid="old")
    await subject.start()
    try:
        await subject.verify(token)
        server.publish(jwk("RSA2", kid="new"))
        seen = server.requests

        await until(lambda: server.requests >= seen + 2)
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(token)
    finally:
        await subject.stop()


# What a key set may not do --------------------------------------------------------------------

WEAK = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
PRIVATE_JWK = json.loads(RSAAlgorithm.to_jwk(PRIVATE["RSA"]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":5}',
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[null,5,"x",[],{}]}',
        b'{"keys":' + b"[" * 100_000,
        b" " * 300_000 + b'{"keys":[]}',
        json.dumps({"keys": [jwk("RSA", kid="old")] * 101}).encode(),
        *(
            json.dumps({"keys": [entry]}).encode()
            for entry in (
                {"kty": "oct", "kid": "old", "k": "c2VjcmV0" * 8},
                {"kty": "oct", "kid": "old", "k": "c2VjcmV0" * 8, "alg": "RS256"},
                {"kty": ["RSA"], "kid": "old"},
                {"kty": "RSA", "kid": "old"},
                {"kty": "RSA", "kid": "old", "n": "!", "e": "AQAB"},
                {"kty": "RSA", "kid": "old", "n": "AQAB", "e": "AQAB"},
                {"kty": "RSA", "kid": "old", "n": 5, "e": []},
                jwk("RSA", kid=5),
                jwk("RSA", kid="old", use="enc"),
                jwk("RSA", kid="old", key_ops=["encrypt"]),
                jwk("RSA", kid="old", key_ops="verify"),
                jwk("RSA", kid="old", alg="RS512"),
                jwk("RSA", kid="old", alg="HS256"),
                jwk("RSA", kid="old", alg="none"),
                jwk("P-256", kid="old"),
                jwk("P-256", kid="old", alg="RS256"),
                jwk("P-256", kid="old", kty="RSA"),
                WEAK | {"kid": "old"},
                PRIVATE_JWK | {"kid": "old", "key_ops": ["verify"]},
            )
        ),
    ],
)
async def test_what_is_no_key_set(body: bytes, subject: Verifier, server: KeyServer) -> None:
    server.body = body
    with pytest.raises(Unavailable):
        await subject.verify(OLD)


@pytest.mark.parametrize("fields", [{"use": None}, {"key_ops": None}, {"alg": None, "crv": None}])
async def test_null_is_as_good_as_nothing_in_a_key(
    fields: dict[str, Any], subject: Verifier, server: KeyServer
) -> None:
    server.publish(jwk("RSA", kid="old") | fields)
    assert (await subject.verify(OLD)).sub == "alice"


@pytest.mark.parametrize("alg", [None, "EdDSA", "Ed25519"])
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
async def test_both_names_of_ed25519_are_one_algorithm(
    alg: str | None, algorithm: str, server: KeyServer, clock: ManualClock
) -> None:
    server.publish(jwk("Ed25519", kid="ed", alg=alg))
    token = sign(algorithm, PRIVATE["Ed25519"], kid="ed")
    assert (await Verifier(settings(server.url, algorithm), clock).verify(token)).sub == "alice"
    other = "EdDSA" if algorithm == "Ed25519" else "Ed25519"
    assert "algorithm" in await refusal(Verifier(settings(server.url, other), clock), token)


async def test_a_map_of_certificates(server: KeyServer, clock: ManualClock) -> None:
    certificates = {"old": certificate(PRIVATE["RSA"]), "ec": certificate(PRIVATE["P-256"])}
    server.body = json.dumps(
        certificates | {"bad": "-----BEGIN CERTIFICATE-----", "x": ""}
    ).encode()
    subject = Verifier(settings(server.url, "RS256", "ES256"), clock)
    assert (await subject.verify(OLD)).sub == "alice"
    assert (await subject.verify(sign("ES256", PRIVATE["P-256"], kid="ec"))).sub == "alice"
    assert "signature" in await refusal(subject, sign("RS256", PRIVATE["RSA2"], kid="old"))
    for token in (
        NEW,
        sign("RS256", PRIVATE["RSA"], kid="ec"),
        sign("RS256", PRIVATE["RSA"], kid="x"),
    ):
        with pytest.raises((Unauthorized, Unavailable)):
            await subject.verify(token)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"keys":[]}', "it has no public key for RS256, it is empty"),
        (
            json.dumps({"keys": [jwk("P-256", kid="a\nb", use="sig", alg="ES256")]}).encode(),
            "only kty='EC' crv='P-256' alg='ES256' use='sig' kid='a\\nb'",
        ),
        (json.dumps({"keys": [jwk("RSA", kid="x" * 9000, alg="RS512")]}).encode(), "kid='xxxx"),
        (json.dumps({"keys": [jwk("RSA", use="enc")] * 9}).encode(), "; and 4 more"),
        (json.dumps({"keys": [5]}).encode(), "only something else"),
        (b'{"error":"nope"}', "it has no public key for RS256, only kid='error'"),
        (b"<html>", "it is not a JSON object"),
        (b'{"jwks":[]}', "it has no `keys` that are a list of at most 100"),
    ],
)
async def test_the_log_says_what_a_set_without_a_fitting_key_has(
    body: bytes, words: str, subject: Verifier, server: KeyServer, caplog: Any
) -> None:
    server.body = body
    await wait_told(subject, OLD)
    [record] = [r for r in caplog.records if r.name == "chat_server.auth.jwks"]
    assert words in record.getMessage()
    assert len(record.getMessage()) < 800
    assert "\n" not in record.getMessage()


async def test_a_bad_key_does_not_spoil_the_others(subject: Verifier, server: KeyServer) -> None:
    server.publish({"kty": "new"}, jwk("P-256"), {"kty": "RSA", "n": ""}, jwk("RSA", kid="old"))
    assert (await subject.verify(OLD)).sub == "alice"


async def test_an_endless_answer_is_cut(server: KeyServer) -> None:
    server.body = b" " * 5_000_000
    with pytest.raises(FetchError, match="longer than 1000 bytes"):
        await Fetcher(server.url, bytes, max_bytes=1000).fetch(seconds=5)


async def test_redirects_are_not_followed(subject: Verifier, server: KeyServer) -> None:
    server.status = 302
    server.headers = {"Location": f"{server.url}?elsewhere"}
    with pytest.raises(Unavailable):
        await subject.verify(OLD)
    assert server.requests == 1


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "gopher", ""])
async def test_only_http_is_fetched(scheme: str, tmp_path: Path, clock: ManualClock) -> None:
    url = f"{scheme}://{tmp_path}/keys.json"
    if scheme == "file":
        content = json.dumps({"keys": [jwk("RSA", kid="old")]})
        await asyncio.to_thread((tmp_path / "keys.json").write_text, content)
    with pytest.raises(Unavailable):
        await Verifier(settings(url), clock).verify(OLD)


async def test_a_published_key_is_no_secret(server: KeyServer, clock: ManualClock) -> None:
    """Sign with HS256 and the published text; or let the key set itself publish a secret."""
    secret = b"0123456789abcdef" * 4
    published = {"kty": "oct", "kid": "old", "k": base64.urlsafe_b64encode(secret).decode()}
    server.publish(published, jwk("RSA", kid="old"))
    subject = Verifier(settings(server.url), clock)
    for key in (secret, server.body, json.dumps(jwk("RSA", kid="old")).encode()):
        head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"old"}').rstrip(b"=")
        body = base64.urlsafe_b64encode(b'{"sub":"eve","exp":1700000060}').rstrip(b"=")
        mac = hmac.new(key, head + b"." + body, hashlib.sha256).digest()
        token = b".".join([head, body, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()
        assert "algorithm" in await refusal(subject, token)


async def test_a_key_serves_its_own_algorithm_only(server: KeyServer, clock: ManualClock) -> None:
    server.publish(jwk("RSA", kid="old", alg="RS512"), jwk("P-256", kid="ec"))
    subject = Verifier(settings(server.url, "RS256", "RS512", "ES256", "ES384"), clock)
    assert (await subject.verify(sign("RS512", PRIVATE["RSA"], kid="old"))).sub == "alice"
    assert "unknown" in await refusal(subject, OLD)
    assert "unknown" in await refusal(subject, sign("ES384", PRIVATE["P-384"], kid="ec"))
    assert "algorithm" in await refusal(subject, sign("PS512", PRIVATE["RSA"], kid="old"))
    assert server.requests == 3


async def test_a_token_without_kid_needs_a_single_key(
    subject: Verifier, server: KeyServer, clock: ManualClock
) -> None:
    token = sign("RS256", PRIVATE["RSA"])
    server.publish(jwk("RSA"))
    assert (await subject.verify(token)).sub == "alice"
    server.publish(jwk("RSA", kid="old"), jwk("RSA2", kid="new"))
    clock.advance(60)
    await subject.verify(sign("RS256", PRIVATE["RSA2"], {"exp": NOW + 600}, kid="new"))
    assert "several keys" in await refusal(subject, token)
    with pytest.raises(Unauthorized, match="several"):
        subject.verify_now(token)


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 8193, "é", OLD + "\n", OLD.split(".")[0]])
async def test_what_is_no_jwt_fetches_nothing(
    token: str, subject: Verifier, server: KeyServer
) -> None:
    assert "token: is " in await refusal(subject, token)
    with pytest.raises(Unauthorized):
        subject.verify_now(token)
    assert server.requests == 0
