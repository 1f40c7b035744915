"""Tokens verified with a secret or a key file, and tokens issued."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from chat_server.auth.claims import TopicGrants
from chat_server.auth.tokens import Verifier, issue_token
from chat_server.auth.verified import MAX_TOKEN_BYTES
from chat_server.protocol.errors import Unauthorized
from chat_server.settings import DEVELOPMENT_SECRET, AuthSettings, DefaultTopics, SettingsError

from ..rig.clock import ManualClock
from .key_server import KEY_OF, NOW, PRIVATE, certificate, pem, sign, write_pem

SECRET = "0123456789abcdef" * 4
SETTINGS = AuthSettings(secret=SECRET)


def verifier(settings: AuthSettings = SETTINGS, clock: ManualClock | None = None) -> Verifier:
    return Verifier(settings, clock or ManualClock())


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verifier]:
    """A verifier with a key file for each algorithm, and for two at once."""
    subjects = {}
    for algorithms in [(name,) for name in KEY_OF] + [("RS256", "RS512")]:
        file = write_pem(tmp_path_factory.mktemp("keys"), PRIVATE[KEY_OF[algorithms[0]]])
        settings = msgspec.convert(
            {"algorithms": algorithms, "public_key_file": file}, AuthSettings
        )
        subjects["+".join(algorithms)] = verifier(settings)
    return subjects


async def refusal(subject: Verifier, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        subject.verify_now(token)
    with pytest.raises(Unauthorized, match=f"^{caught.value.message[:20]}"):
        await subject.verify(token)
    assert not any(len(part) > 8 and part in caught.value.message for part in token.split("."))
    return caught.value.message


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: Any, claims: Any = None, signature: bytes = b"x") -> str:
    claims = {"sub": "alice", "exp": NOW + 60} if claims is None else claims
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_shared_secrets(algorithm: Any) -> None:
    settings = msgspec.structs.replace(SETTINGS, algorithms=(algorithm,))
    subject = verifier(settings)
    token = sign(algorithm, SECRET)
    claims = await subject.verify(token)
    assert claims.sub == "alice"
    assert subject.verify_now(token) == claims
    assert "signature" in await refusal(subject, sign(algorithm, "y" * 64))


@pytest.mark.parametrize("algorithm", KEY_OF)
async def test_key_files(algorithm: str, public: dict[str, Verifier]) -> None:
    key = PRIVATE[KEY_OF[algorithm]]
    subject = public[algorithm]
    token = sign(algorithm, key)
    assert (await subject.verify(token)).sub == "alice"
    assert subject.verify_now(token) is not None
    tampered = token.split(".")
    tampered[1] = encoded({"sub": "bob", "exp": NOW + 60})
    assert "signature" in await refusal(subject, ".".join(tampered))


async def test_several_algorithms_of_one_family(public: dict[str, Verifier]) -> None:
    shared = verifier(AuthSettings(secret=SECRET, algorithms=("HS256", "HS512")))
    for algorithm in ("HS256", "HS512"):
        assert (await shared.verify(sign(algorithm, SECRET))).sub == "alice"
    assert "algorithm" in await refusal(shared, sign("HS384", SECRET))
    both = public["RS256+RS512"]
    for algorithm in ("RS256", "RS512"):
        assert (await both.verify(sign(algorithm, PRIVATE["RSA"]))).sub == "alice"
    assert "algorithm" in await refusal(both, sign("PS256", PRIVATE["RSA"]))


async def test_start_and_stop_do_nothing_without_a_key_set() -> None:
    subject = verifier()
    await subject.start()
    await subject.stop()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 5, ["HS256"], {}])
async def test_no_algorithm_is_no_signature(name: Any, public: dict[str, Verifier]) -> None:
    for subject in (verifier(), public["RS256"]):
        for signature in (b"", b"x"):
            token = forged({"alg": name, "typ": "JWT"}, signature=signature)
            assert "algorithm" in await refusal(subject, token)
    assert "algorithm" in await refusal(verifier(), forged({"typ": "JWT"}))


async def test_the_published_key_is_no_secret(public: dict[str, Verifier]) -> None:
    """Sign with HS256 and the text of the public key: RFC 8725 section 2.1."""
    text = pem(PRIVATE["RSA"])
    signed = f"{encoded({'alg': 'HS256'})}.{encoded({'sub': 'eve', 'exp': NOW + 60})}"
    for key in (text, text.strip(), text.ljust(64, b"\0")):
        mac = hmac.new(key, signed.encode(), hashlib.sha256).digest()
        assert "algorithm" in await refusal(public["RS256"], f"{signed}.{encoded(mac)}")
    with pytest.raises(SettingsError, match=r"auth\.secret"):
        verifier(AuthSettings(secret=text.decode()))


async def test_a_short_secret_signs_like_any_other() -> None:
    # The library warns at every use of one, and warnings are errors here.
    settings = AuthSettings(secret="short")
    signed = f"{encoded({'alg': 'HS256'})}.{encoded({'sub': 'alice', 'exp': NOW + 60})}"
    mac = hmac.new(b"short", signed.encode(), hashlib.sha256).digest()
    assert (await verifier(settings).verify(f"{signed}.{encoded(mac)}")).sub == "alice"
    token = issue_token(settings, sub="alice", ttl_seconds=1, clock=ManualClock())
    assert (await verifier(settings).verify(token)).sub == "alice"


GOOD_TOKEN = sign("HS256", SECRET)
HEAD, BODY, MAC = GOOD_TOKEN.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        HEAD,
        f"{HEAD}.{BODY}",
        f"{HEAD}.{BODY}.{MAC}.{MAC}",
        f".{BODY}.{MAC}",
        f"{HEAD}.{BODY}.!!!!",
        f" {GOOD_TOKEN}",
        f"{GOOD_TOKEN}\n",
        f"{GOOD_TOKEN}é",
        f"{GOOD_TOKEN}\ud800",
        "\ud800",
        "\x00",
        GOOD_TOKEN.replace(".", "%2E"),
        f"Bearer {GOOD_TOKEN}",
        f"{encoded(b'[]')}.{BODY}.{MAC}",
        f"{encoded(b'[' * 3000)}.{BODY}.{MAC}",
        f"{encoded({'alg': 'HS256', 'crit': ['x'], 'x': 1})}.{BODY}.{MAC}",
        f"{encoded({'alg': 'HS256', 'kid': 5})}.{BODY}.{MAC}",
        f"{encoded({'alg': 'HS256', 'b64': False, 'crit': ['b64']})}..{MAC}",
    ],
)
async def test_what_is_no_jwt(token: str) -> None:
    assert "not a JWT" in await refusal(verifier(), token)


async def test_tokens_are_bounded() -> None:
    longest = "x" * MAX_TOKEN_BYTES
    assert "not a JWT" in await refusal(verifier(), longest)
    assert "longer than 8192" in await refusal(verifier(), longest + "x")


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"exp": NOW - 60}, "has expired"),
        ({"nbf": NOW + 60}, "not yet valid"),
        ({"sub": 1}, "`sub`"),
        (b"[]", "not a JSON object"),
        (b'{"exp":1}', "has expired"),
        (b'{"exp":1800000000}', "has no `sub`"),
    ],
)
async def test_a_good_signature_does_not_excuse_bad_claims(claims: Any, rule: str) -> None:
    assert rule in await refusal(verifier(), sign("HS256", SECRET, claims))


async def test_expiry_follows_the_given_clock() -> None:
    clock = ManualClock()
    subject = verifier(clock=clock)
    token = sign("HS256", SECRET)
    clock.advance(64.5)
    assert (await subject.verify(token)).expires_at == NOW + 60
    clock.advance(0.5)
    assert "expired" in await refusal(subject, token)


@given(st.one_of(st.text(), st.text("eyJ.-_09\n "), st.binary().map(encoded)))
def test_any_text_is_unauthorized(text: str) -> None:
    with pytest.raises(Unauthorized):
        verifier().verify_now(text)
    with pytest.raises(Unauthorized):
        verifier().verify_now(f"{text}.{BODY}.{MAC}")


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "x"]),
                       st.one_of(st.none(), st.booleans(), st.text(), st.integers(),
                                 st.lists(st.text()), st.just("HS256"))))  # fmt: skip
def test_any_header_with_a_foreign_signature_is_unauthorized(header: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        verifier().verify_now(forged(header))


# Settings -------------------------------------------------------------------------------------


def test_a_certificate_serves_as_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text(f"Bag Attributes\r\n{certificate(PRIVATE['RSA'])}")
    subject = verifier(AuthSettings(algorithms=("RS256",), public_key_file=str(file)))
    claims = subject.verify_now(sign("RS256", PRIVATE["RSA"]))
    assert claims is not None
    assert claims.sub == "alice"
    with pytest.raises(Unauthorized, match="signature"):
        subject.verify_now(sign("RS256", PRIVATE["RSA2"]))


def private_pem(key: Any) -> bytes:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text


@pytest.mark.parametrize(
    ("algorithm", "content", "reason"),
    [
        ("RS256", None, "cannot be read"),
        ("RS256", b"", "is not a public key in PEM"),
        ("RS256", b"\xff\x00", "is not a public key in PEM"),
        ("RS256", private_pem(PRIVATE["RSA"]), "is not a public key in PEM"),
        ("RS256", pem(PRIVATE["P-256"]), "is no key for RS256"),
        ("ES256", pem(PRIVATE["P-384"]), "is no key for ES256"),
        ("ES256", pem(PRIVATE["RSA"]), "is no key for ES256"),
        ("EdDSA", pem(PRIVATE["RSA"]), "is no key for EdDSA"),
        ("Ed25519", pem(ed448.Ed448PrivateKey.generate()), "is no key for Ed25519"),
        ("ES256K", pem(PRIVATE["P-256"]), "is no key for ES256K"),
        ("ES256", pem(PRIVATE["secp256k1"]), "is no key for ES256"),
        ("PS256", pem(PRIVATE["P-256"]), "is no key for PS256"),
        ("HS256", pem(PRIVATE["RSA"]), "is no key for HS256"),
        ("RS256", pem(rsa.generate_private_key(65537, 1024)), "is too short for RS256"),
    ],
)
def test_bad_key_files(algorithm: Any, content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    settings = AuthSettings(algorithms=(algorithm,), public_key_file=str(file))
    with pytest.raises(SettingsError) as caught:
        verifier(settings)
    message = str(caught.value)
    assert message.startswith(f"auth.public_key_file: {file} ")
    assert reason in message
    assert "\n" not in message
    assert "BEGIN" not in message


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (AuthSettings(), "auth.secret"),
        (AuthSettings(algorithms=("RS256",)), "auth.algorithms"),
        (AuthSettings(algorithms=("RS256",), secret=SECRET), "auth.algorithms"),
        (AuthSettings(algorithms=("HS256", "RS256"), secret=SECRET), "auth.algorithms"),
        (AuthSettings(jwks_url="http://127.0.0.1/"), "auth.algorithms"),
        (
            AuthSettings(secret=SECRET, default_topics=DefaultTopics(history=("a", "b c"))),
            "auth.default_topics.history: 'b c'",
        ),
    ],
)
def test_settings_that_verify_nothing(settings: AuthSettings, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        verifier(settings)
    assert str(caught.value).startswith(key)
    assert SECRET not in str(caught.value)


def test_every_bad_pattern_of_the_defaults_is_told() -> None:
    topics = DefaultTopics(subscribe=("a b",), history=("a", "c d", "**:x"))
    with pytest.raises(SettingsError) as caught:
        verifier(AuthSettings(secret=SECRET, default_topics=topics))
    assert [line.partition(" must")[0] for line in caught.value.lines] == [
        "auth.default_topics.subscribe: 'a b'",
        "auth.default_topics.history: 'c d'",
        "auth.default_topics.history: '**:x'",
    ]


# Issuing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_issued_tokens_are_accepted(algorithm: Any) -> None:
    clock = ManualClock()
    settings = AuthSettings(
        secret=DEVELOPMENT_SECRET,
        algorithms=(algorithm, "HS256"),
        issuer="me",
        audience="you",
        default_topics=DefaultTopics(history=("room:**",)),
    )
    token = issue_token(
        settings,
        sub="alice",
        name="Alice",
        info={"a": [1]},
        topics={"subscribe": ("room:*",), "publish": []},
        ttl_seconds=0.5,
        clock=clock,
    )
    claims = await verifier(settings, clock).verify(token)
    assert claims.sub == "alice"
    assert claims.name == "Alice"
    assert claims.info == {"a": [1]}
    assert claims.topics == TopicGrants(subscribe=("room:*",), history=("room:**",))
    assert claims.expires_at == NOW + 1


@pytest.mark.parametrize("claim", ["topics", "https://a.example/topics", "/app_metadata/a~1b"])
async def test_issued_tokens_hold_their_topics_where_the_server_looks(claim: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, topics_claim=claim)
    clock = ManualClock()
    token = issue_token(
        settings, sub="a|b", topics={"publish": ["user:{sub}"]}, ttl_seconds=60, clock=clock
    )
    claims = await verifier(settings, clock).verify(token)
    assert claims.topics == TopicGrants(publish=("user:{sub}",))


def test_issued_tokens_say_no_more_than_asked() -> None:
    token = issue_token(SETTINGS, sub="alice", ttl_seconds=60, clock=ManualClock())
    assert json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")) == {
        "sub": "alice",
        "iat": NOW,
        "exp": NOW + 60,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sub": ""}, "`sub`"),
        ({"sub": "x" * 256}, "`sub`"),
        ({"name": "x" * 129}, "`name`"),
        ({"info": {"x": object()}}, "cannot be written as JSON"),
        ({"info": {"x": "y" * 2000}}, "`info`"),
        ({"topics": {"subscribe": ["a b"]}}, "'a b'"),
        ({"topics": {"subcribe": ["a"]}}, "may hold"),
        ({"topics": {"subscribe": ["x" * 250] * 40}}, "longer than 8192"),
        ({"rate_factor": float("nan")}, "rate factor must be a finite number"),
        ({"rate_factor": float("inf")}, "rate factor must be a finite number"),
        ({"ttl_seconds": 0}, "time to live"),
        ({"ttl_seconds": -1}, "time to live"),
        ({"ttl_seconds": float("nan")}, "time to live"),
        ({"ttl_seconds": float("inf")}, "time to live"),
    ],
)
def test_tokens_nobody_would_accept_are_not_issued(changes: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {
        "sub": "alice",
        "ttl_seconds": 60,
        "clock": ManualClock(),
    } | changes
    with pytest.raises(ValueError, match=reason):
        issue_token(SETTINGS, **arguments)


def test_only_a_secret_can_issue() -> None:
    for settings in (AuthSettings(algorithms=("RS256",), public_key_file="x"), AuthSettings()):
        with pytest.raises(SettingsError, match=r"auth\."):
            issue_token(settings, sub="alice", ttl_seconds=60, clock=ManualClock())
