"""The rules for claims, one by one, and that nothing else ever comes out."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.auth.validation import MAX_TIME, read_claims
from chat_server.protocol.codecs import JSON, MSGPACK
from chat_server.protocol.errors import Unauthorized
from chat_server.protocol.messages import SignalPush
from chat_server.settings import AuthSettings

NOW = 1_700_000_000.0
DEFAULTS = TopicGrants(subscribe=("room:**",), publish=("room:*",))
GOOD: dict[str, Any] = {"sub": "alice", "exp": int(NOW) + 60}


def read(claims: Any, settings: AuthSettings | None = None, now: float = NOW) -> Claims:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return read_claims(payload, settings or AuthSettings(), DEFAULTS, now)


def refusal(claims: Any, settings: AuthSettings | None = None, now: float = NOW) -> str:
    with pytest.raises(Unauthorized) as caught:
        read(claims, settings, now)
    return caught.value.message


def test_the_least_a_token_must_say() -> None:
    assert read(GOOD) == Claims(sub="alice", topics=DEFAULTS, expires_at=int(NOW) + 60)


def test_tokens_without_lists_share_the_defaults() -> None:
    assert read(GOOD).topics is DEFAULTS


def test_everything_a_token_can_say() -> None:
    claims = read(
        GOOD
        | {
            "name": "Alice Ünï",
            "info": {"avatar": "a.png", "n": [1, 2.5, None, True, {"x": ""}]},
            "topics": {"subscribe": ["user:{sub}", "**"], "moderate": []},
            "iat": int(NOW),
            "nbf": int(NOW),
            "jti": "1",
            "other": [1],
        }
    )
    assert claims.name == "Alice Ünï"
    assert claims.info == {"avatar": "a.png", "n": [1, 2.5, None, True, {"x": ""}]}
    assert claims.topics == TopicGrants(subscribe=("user:{sub}", "**"), publish=("room:*",))
    assert claims.user.name == "Alice Ünï"


def test_a_present_list_replaces_the_default_even_when_empty() -> None:
    topics = read(GOOD | {"topics": {"subscribe": []}}).topics
    assert topics.subscribe == ()
    assert topics.publish == DEFAULTS.publish


@pytest.mark.parametrize("nothing", [None, []])
def test_null_and_an_empty_list_grant_nothing(nothing: Any) -> None:
    # PHP writes an empty map like this, Go and Rust a missing one; none of them means the defaults.
    assert read(GOOD | {"topics": nothing}).topics == TopicGrants()
    for text in ("", json.dumps(nothing)):
        assert read(GOOD | {"topics": text}).topics == TopicGrants()
    topics = read(GOOD | {"topics": {"subscribe": nothing}}).topics
    assert topics == TopicGrants(publish=DEFAULTS.publish)


def test_an_empty_map_of_grants_leaves_the_defaults() -> None:
    assert read(GOOD | {"topics": {}}).topics == DEFAULTS


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("https://a.example/topics", {"https://a.example/topics": {"subscribe": ["a"]}}),
        ("/app_metadata/topics", {"app_metadata": {"topics": {"subscribe": ["a"]}}}),
        ("/a~1b/~0", {"a/b": {"~": {"subscribe": ["a"]}}}),
        ("custom:topics", {"custom:topics": '{"subscribe":["a"]}'}),
        ("topics", {"topics": '{"subscribe":["a"]}'}),
    ],
)
def test_the_claim_with_the_grants_has_the_configured_name(
    claim: str, claims: dict[str, Any]
) -> None:
    settings = AuthSettings(topics_claim=claim)
    others = {"topics": {"moderate": ["**"]}} if claim != "topics" else {}
    topics = read(GOOD | others | claims, settings).topics
    assert topics == TopicGrants(subscribe=("a",), publish=DEFAULTS.publish)
    assert read(GOOD | others, settings).topics is DEFAULTS
    assert f"`{claim}.history` must be a list" in refusal(
        GOOD | {"topics": {"history": 5}} if claim == "topics" else GOOD | _put(claim), settings
    )


def _put(claim: str) -> dict[str, Any]:
    value: Any = {"history": 5}
    for part in reversed(claim[1:].split("/") if claim.startswith("/") else []):
        value = {part.replace("~1", "/").replace("~0", "~"): value}
    return value if claim.startswith("/") else {claim: value}


def test_a_claim_within_what_is_no_object_is_absent() -> None:
    settings = AuthSettings(topics_claim="/app_metadata/topics")
    others: tuple[Any, ...] = (None, 5, "topics", ["topics"], {})
    for outer in others:
        assert read(GOOD | {"app_metadata": outer}, settings).topics is DEFAULTS
    assert read(GOOD | {"app_metadata": {"topics": None}}, settings).topics == TopicGrants()


@pytest.mark.parametrize(
    "nothing", [{"name": None, "info": None}, {"name": "", "info": []}, {"info": None, "name": ""}]
)
def test_an_empty_name_and_info_count_as_absent(nothing: dict[str, Any]) -> None:
    assert read(GOOD | nothing) == read(GOOD)


NOT_TIMES = [
    *("1700000060", True, [], {}, -1, -0.5, MAX_TIME + 1, MAX_TIME + 1.0, 10**30, 1e300),
    int(NOW) * 1000,  # JavaScript's milliseconds
]


@pytest.mark.parametrize("value", NOT_TIMES)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_dates_are_seconds(name: str, value: Any) -> None:
    relaxed = AuthSettings(require_expiry=False)
    for settings in (None, relaxed):
        said = refusal(GOOD | {name: value}, settings)
        assert said == (
            f"token: `{name}` must be a number of seconds since 1970, before the year 10000"
        )


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        (b"1700000060.25", 1_700_000_060),
        (b"1700000060.999999", 1_700_000_060),
        (b"1700000060.0", 1_700_000_060),
        (b"1.70000006e9", 1_700_000_060),
        (b"1E10", 10_000_000_000),
    ],
)
def test_a_fraction_of_a_second_is_cut_off(literal: bytes, expected: int) -> None:
    claims = read(b'{"sub":"alice","nbf":1699999999.5,"iat":17e8,"exp":' + literal + b"}")
    assert claims.expires_at == expected
    assert type(claims.expires_at) is int


def test_a_null_date_is_absent_but_no_token_lives_for_ever_by_one() -> None:
    assert read(GOOD | {"nbf": None, "iat": None}) == read(GOOD)
    for settings in (None, AuthSettings(require_expiry=False)):
        assert "`exp` must be a number" in refusal(GOOD | {"exp": None}, settings)


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 5000])
def test_dates_that_are_no_json_numbers(literal: bytes) -> None:
    assert "not valid JSON" in refusal(b'{"sub":"alice","exp":' + literal + b"}")


@pytest.mark.parametrize(
    ("claims", "leeway", "expected"),
    [
        ({"exp": int(NOW) + 1}, 0, None),
        ({"exp": int(NOW)}, 0, "expired"),  # "on or after": RFC 7519 section 4.1.4
        ({"exp": int(NOW) - 4}, 5, None),
        ({"exp": int(NOW) - 5}, 5, "expired"),
        ({"exp": 0}, 5, "expired"),
        ({"exp": MAX_TIME}, 5, None),
        ({"nbf": int(NOW)}, 0, None),
        ({"nbf": int(NOW) + 1}, 0, "not yet valid"),
        ({"nbf": int(NOW) + 5}, 5, None),
        ({"nbf": int(NOW) + 6}, 5, "not yet valid"),
        ({"iat": int(NOW)}, 0, None),
        ({"iat": int(NOW) + 1}, 0, "issued in the future"),
        ({"iat": int(NOW) + 5}, 5, None),
        ({"iat": int(NOW) + 6}, 5, "issued in the future"),
    ],
)
def test_dates_against_the_clock(
    claims: dict[str, int], leeway: float, expected: str | None
) -> None:
    settings = AuthSettings(leeway_seconds=leeway)
    if expected is None:
        read(GOOD | claims, settings)
    else:
        assert expected in refusal(GOOD | claims, settings)


def test_expiry_is_required_unless_configured() -> None:
    assert "has no `exp`" in refusal({"sub": "alice"})
    assert read({"sub": "alice"}, AuthSettings(require_expiry=False)).expires_at is None


@pytest.mark.parametrize(
    ("settings", "claims", "expected"),
    [
        (AuthSettings(issuer="me"), {"iss": "me"}, None),
        (AuthSettings(issuer="me"), {"iss": "you"}, "`iss`"),
        (AuthSettings(issuer="me"), {"iss": ["me"]}, "`iss`"),
        (AuthSettings(issuer="me"), {}, "`iss`"),
        (AuthSettings(), {"iss": "anyone", "aud": "any"}, None),
        (AuthSettings(audience="me"), {"aud": "me"}, None),
        (AuthSettings(audience="me"), {"aud": ["you", "me"]}, None),
        (AuthSettings(audience="me"), {"aud": "you"}, "`aud`"),
        (AuthSettings(audience="me"), {"aud": "some"}, "`aud`"),
        (AuthSettings(audience="me"), {"aud": ["you", ["me"]]}, "`aud`"),
        (AuthSettings(audience="me"), {"aud": {"me": 1}}, "`aud`"),
        (AuthSettings(audience="me"), {}, "`aud`"),
    ],
)
def test_issuer_and_audience(
    settings: AuthSettings, claims: dict[str, Any], expected: str | None
) -> None:
    if expected is None:
        read(GOOD | claims, settings)
    else:
        assert expected in refusal(GOOD | claims, settings)


NESTED = json.loads("[" * 150 + "]" * 150)


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"sub": ""}, "`sub` must be text of 1 to 255"),
        ({"sub": "x" * 256}, "`sub` must be text of 1 to 255"),
        ({"sub": 5}, "`sub` must be text"),
        ({"sub": None}, "`sub` must be text"),
        ({"name": "x" * 129}, "`name` must be text"),
        ({"name": ["x"]}, "`name` must be text"),
        ({"rate_factor": 0}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"rate_factor": -1}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"rate_factor": True}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"rate_factor": "20"}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"rate_factor": 10_001}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"rate_factor": []}, "`rate_factor` must be a number, 0.01 to 10000"),
        ({"info": [1]}, "`info` must be an object"),
        ({"info": "x"}, "`info` must be an object"),
        ({"info": {"x": "y" * 1017}}, "`info` must be at most 1024 bytes"),
        ({"info": {"x": "é" * 510}}, "`info` must be at most 1024 bytes"),
        ({"info": {"x": 2**64}}, "`info`: integers must fit into 64 bits"),
        ({"info": {"x": -(2**63) - 1}}, "`info`: integers must fit into 64 bits"),
        ({"info": {"x": NESTED}}, "`info`: must not be nested deeper"),
        ({"topics": ["room:*"]}, "`topics` must be an object"),
        ({"topics": False}, "`topics` must be an object"),
        ({"topics": 0}, "`topics` must be an object"),
        ({"topics": "none"}, "`topics` must be an object, or JSON of one"),
        ({"topics": "[" * 100_000}, "`topics` must be an object, or JSON of one"),
        ({"topics": '"{}"'}, "`topics` must be an object, or JSON of one"),
        ({"topics": {"subcribe": []}}, "`topics` may hold subscribe, publish"),
        ({"topics": {"subscribe": {}}}, "`topics.subscribe` must be a list"),
        ({"topics": {"subscribe": {"0": "a"}}}, "`topics.subscribe` must be a list"),
        ({"topics": {"subscribe": [None]}}, "`topics.subscribe` must hold text"),
        ({"topics": {"subscribe": False}}, "`topics.subscribe` must be a list"),
        ({"topics": {"subscribe": "room:*"}}, "`topics.subscribe` must be a list"),
        ({"topics": {"publish": ["a"] * 101}}, "`topics.publish` must be a list of at most 100"),
        ({"topics": {"publish": [5]}}, "`topics.publish` must hold text"),
        ({"topics": {"publish": ["a", "b c"]}}, "`topics.publish`: 'b c' must be segments"),
        ({"topics": {"publish": ["**:a"]}}, "`topics.publish`: '**:a' must have '**' at its end"),
    ],
)
def test_bad_claims_are_refused_with_the_rule(claims: dict[str, Any], rule: str) -> None:
    assert rule in refusal(GOOD | claims)


def test_the_longest_that_is_accepted() -> None:
    longest = {
        "sub": "é" * 255,
        "name": "é" * 128,
        "info": {"x": "y" * 1016},
        "topics": {"subscribe": ["a"] * 100},
    }
    assert len(msgspec.json.encode(longest["info"])) == 1024
    assert len(read(GOOD | longest).topics.subscribe) == 100
    assert read(GOOD | {"info": {"x": [2**64 - 1, -(2**63)]}}).info


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b"{",
        b"\xff",
        b'{"sub":"\xff","exp":1700000060}',
        b'{"sub":"\\ud800","exp":1700000060}',
        b'{"sub":"a\\udc00b","exp":1700000060}',
        b'{"sub":"a","exp":1700000060,"info":{"\\ud800":1}}',
        b'{"x":' * 50_000,
        b"[" * 50_000 + b"]" * 50_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_payloads_that_are_no_claims_set(payload: bytes) -> None:
    assert "payload is not" in refusal(payload)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(int(NOW) - 10, int(NOW) + 10),
        st.floats(),
        st.text(st.characters(), max_size=8),
        st.sampled_from(["*", "room:**", "a:b"]),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
GRANTS = st.dictionaries(
    st.sampled_from([*TopicGrants.__struct_fields__, "x"]),
    st.one_of(VALUES, st.lists(st.sampled_from(["a", "a:**", "{sub}", "a b"]), max_size=3)),
    max_size=3,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.one_of(VALUES, st.text(min_size=1)),
        "exp": st.one_of(VALUES, st.just(int(NOW) + 60)),
        "nbf": st.one_of(VALUES, st.just(int(NOW))),
        "iat": st.one_of(VALUES, st.just(int(NOW))),
        "iss": VALUES,
        "aud": VALUES,
        "name": st.one_of(VALUES, st.text()),
        "info": st.one_of(VALUES, st.dictionaries(st.text(max_size=5), VALUES, max_size=4)),
        "topics": st.one_of(VALUES, GRANTS),
    },
)


@given(
    st.one_of(
        CLAIMS.map(lambda claims: json.dumps(claims).encode()),
        CLAIMS.map(
            lambda claims: json.dumps(claims, ensure_ascii=False).encode("utf-8", "replace")
        ),
        st.binary(max_size=50),
    ),
    st.sampled_from(
        [
            AuthSettings(),
            AuthSettings(require_expiry=False),
            AuthSettings(audience="a", require_expiry=False),
        ]
    ),
)
def test_any_payload_gives_claims_that_can_be_sent_or_unauthorized(
    payload: bytes, settings: AuthSettings
) -> None:
    try:
        claims = read_claims(payload, settings, DEFAULTS, NOW)
    except Unauthorized:
        return
    assert 1 <= len(claims.sub) <= 255
    push = SignalPush(topic="room:a", sender=claims.user, data=None, at=0)
    decoded = msgspec.json.decode(JSON.encode(push))
    assert msgspec.msgpack.decode(MSGPACK.encode(push)) == decoded
