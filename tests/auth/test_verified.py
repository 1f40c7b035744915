"""Tokens that come again, whose claims are remembered."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from chat_server.auth import validation
from chat_server.auth.claims import Claims, TopicGrants
from chat_server.auth.tokens import Verifier
from chat_server.auth.verified import MAX_TOKEN_BYTES, VerifiedTokens
from chat_server.protocol.errors import ChatError, Unauthorized
from chat_server.settings import AuthSettings

from ..rig.clock import ManualClock
from .helpers import NEW, OLD, settings
from .key_server import NOW, PRIVATE, KeyServer, jwk, sign

SECRET = "0123456789abcdef" * 4
SHARED = AuthSettings(secret=SECRET)
LEEWAY = SHARED.leeway_seconds

KEYS = {"one": PRIVATE["P-256"], "two": ec.generate_private_key(ec.SECP256R1())}
TOKENS = [
    sign("ES256", KEYS["one"], {"exp": NOW + 30}, kid="a"),
    sign("ES256", KEYS["one"], {"exp": NOW + 60.5, "nbf": NOW + 20}, kid="a"),
    sign("ES256", KEYS["one"], {"exp": NOW + 60, "iat": NOW + 20, "nbf": NOW - 60}, kid="a"),
    sign("ES256", KEYS["one"]),
    sign("ES256", KEYS["two"], kid="b"),
]
REFUSED = [
    TOKENS[0][:-4] + "AAAA",
    TOKENS[0] + "\ud800",
    "x" * (MAX_TOKEN_BYTES + 1),
    sign("HS256", SECRET),
    sign("ES256", KEYS["one"], {"exp": None}, kid="a"),
]


def key_set(kids: dict[str, str]) -> bytes:
    entries = [
        ECAlgorithm.to_jwk(KEYS[name].public_key(), as_dict=True) | {"kid": kid}
        for kid, name in kids.items()
    ]
    return msgspec.json.encode({"keys": entries})


KEY_SETS = [key_set(kids) for kids in ({"a": "one"}, {"a": "two"}, {"a": "one", "b": "two"})]


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The payloads that were read: one for each token whose signature was verified."""
    payloads: list[bytes] = []
    read = validation.read_claims

    def spy(payload: bytes, *args: Any) -> Claims:
        payloads.append(payload)
        return read(payload, *args)

    monkeypatch.setattr("chat_server.auth.tokens.read_claims", spy)
    return payloads


async def test_a_token_is_verified_once(verifications: list[bytes]) -> None:
    subject = Verifier(SHARED, ManualClock())
    token = sign("HS256", SECRET)
    claims = await subject.verify(token)
    assert subject.verify_now(token) is claims
    assert await subject.verify(token) is claims
    assert len(verifications) == 1


async def test_an_entry_ends_with_its_token(verifications: list[bytes]) -> None:
    clock = ManualClock()
    subject = Verifier(SHARED, clock)
    token = sign("HS256", SECRET, {"exp": NOW + 60})
    subject.verify_now(token)
    clock.advance(60 + LEEWAY - 0.25)
    subject.verify_now(token)
    assert len(verifications) == 1
    clock.advance(0.25)
    with pytest.raises(Unauthorized, match="has expired"):
        subject.verify_now(token)
    with pytest.raises(Unauthorized, match="has expired"):
        await subject.verify(token)


async def test_a_refusal_is_not_remembered(verifications: list[bytes]) -> None:
    clock = ManualClock()
    subject = Verifier(SHARED, clock)
    token = sign("HS256", SECRET, {"nbf": NOW + 30, "exp": NOW + 90})
    with pytest.raises(Unauthorized, match="not yet valid"):
        subject.verify_now(token)
    clock.advance(30)
    assert subject.verify_now(token) is subject.verify_now(token)
    assert len(verifications) == 2


async def test_an_entry_ends_when_the_issuer_removes_its_key(
    subject: Verifier, server: KeyServer, verifications: list[bytes]
) -> None:
    await subject.verify(OLD)
    assert (await subject.verify(OLD)).sub == "alice"
    assert len(verifications) == 1
    server.publish(jwk("RSA2", kid="new"))
    # A token of the new key makes the verifier fetch the keys.
    await subject.verify(NEW)
    with pytest.raises(Unauthorized, match="`kid` is unknown"):
        await subject.verify(OLD)


def entry(subject: VerifiedTokens, token: str, **fields: Any) -> None:
    subject.keep(token, None, Claims(sub=token[:1], topics=TopicGrants(), **fields))


def found(subject: VerifiedTokens, *tokens: str) -> list[bool]:
    return [subject.find(token, None, NOW) is not None for token in tokens]


def test_the_least_recently_used_goes_when_there_are_too_many() -> None:
    subject = VerifiedTokens(0, max_tokens=2)
    entry(subject, "a")
    entry(subject, "b")
    assert found(subject, "a") == [True]
    entry(subject, "c")
    assert found(subject, "a", "b", "c") == [True, False, True]


def test_the_least_recently_used_go_when_they_are_too_large() -> None:
    subject = VerifiedTokens(0, max_bytes=1_000)
    for token in ("a" * 400, "b" * 400, "b" * 400):
        entry(subject, token)
    assert found(subject, "a" * 400, "b" * 400) == [True, True]
    entry(subject, "c" * 900)
    assert found(subject, "a" * 400, "b" * 400, "c" * 900) == [False, False, True]


def test_what_has_ended_leaves_its_place() -> None:
    subject = VerifiedTokens(0, max_bytes=1_000)
    entry(subject, "a" * 600, expires_at=NOW)
    assert found(subject, "a" * 600) == [False]
    entry(subject, "b" * 600)
    entry(subject, "c" * 400)
    assert found(subject, "b" * 600, "c" * 400) == [True, True]


def test_tokens_are_not_kept_in_clear() -> None:
    subject = VerifiedTokens(0)
    entry(subject, "secret-token")
    assert "secret-token" not in repr(vars(subject))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("token"), st.sampled_from(TOKENS)),
        st.tuples(st.just("token"), st.sampled_from(TOKENS + REFUSED)),
        st.tuples(st.just("move the clock"), st.sampled_from([-30.0, -15.0, 10.0, 30.0])),
        st.tuples(st.just("keys"), st.sampled_from(KEY_SETS)),
    ),
    min_size=30,
    max_size=60,
)


@given(STEPS, st.sampled_from([1, 3, 100]))
def test_the_answer_is_that_of_a_verifier_that_remembers_nothing(
    steps: list[tuple[str, Any]], places: int
) -> None:
    clock = ManualClock(wall=NOW + 25)
    chosen = settings("http://127.0.0.1:9/keys", "ES256")
    subject = Verifier(chosen, clock, VerifiedTokens(chosen.leeway_seconds, max_tokens=places))
    model = Verifier(chosen, clock, VerifiedTokens(0, max_tokens=0))
    for step, value in [("keys", KEY_SETS[0]), *steps]:
        if step == "token":
            assert answer(subject, value) == answer(model, value)
        elif step == "keys":
            for verifier in (subject, model):
                replace_keys(verifier, value)
        else:
            # As when a clock is set, which may be back.
            clock._wall += value


def answer(verifier: Verifier, token: str) -> object:
    """Return what both ways to verify say: claims, no answer without a fetch, or an error."""

    def ask(verify: Callable[[], Claims | None]) -> object:
        try:
            return verify()
        except ChatError as error:
            return (type(error), error.message, error.retry_in_ms)

    at_once = ask(lambda: verifier.verify_now(token))
    if isinstance(at_once, Claims):
        assert without_waiting(verifier.verify(token)) == at_once
    return at_once


def without_waiting(call: Coroutine[Any, Any, Claims]) -> Claims:
    with pytest.raises(StopIteration) as end:
        call.send(None)
    claims: Claims = end.value.value
    return claims


def replace_keys(verifier: Verifier, body: bytes) -> None:
    """Do what a fetch of the key set does that succeeds."""
    keys = verifier._key_set
    assert keys is not None
    keys.keys = keys._fetcher._parse(body)
