"""What a key set may hold, and what not."""

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chat_server.auth.tokens import Verifier
from chat_server.protocol.errors import Unauthorized, Unavailable

from ..rig.clock import ManualClock
from .helpers import NEW, OLD, refusal, settings, wait_told
from .key_server import NOW, PRIVATE, KeyServer, certificate, jwk, sign

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


async def test_a_byte_order_mark_before_a_set_is_no_part_of_it(
    subject: Verifier, server: KeyServer
) -> None:
    server.body = b"\xef\xbb\xbf" + server.body
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


async def test_keys_of_two_types_may_share_a_kid(server: KeyServer, clock: ManualClock) -> None:
    server.publish(jwk("RSA", kid="one"), jwk("P-256", kid="one"))
    subject = Verifier(settings(server.url, "RS256", "ES256"), clock)
    for algorithm, key in (("RS256", "RSA"), ("ES256", "P-256")):
        assert (await subject.verify(sign(algorithm, PRIVATE[key], kid="one"))).sub == "alice"
    assert server.requests == 1


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
