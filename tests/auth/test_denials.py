"""Who is kept out, against a model; and for how long."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.auth.denials import Denial, Denials, List
from chat_server.protocol.errors import Blocked, ChatError, Forbidden, Unauthorized

from ..rig.clock import ManualClock

LISTS: tuple[List, ...] = ("users", "tokens", "issued", "keys")
NAMES = st.sampled_from(("a", "b"))
IAT = st.none() | st.integers(0, 3)


class DenialMachine(RuleBasedStateMachine):
    """Denials behave as a plain list of all that is denied, which is searched from its begin."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.denials = Denials(self.clock)
        self.model: dict[tuple[str, str], Denial] = {}

    @rule(name=st.sampled_from(LISTS), whom=NAMES, seconds=st.integers(0, 5), at=st.integers(0, 3))
    def deny(self, name: List, whom: str, seconds: int, at: int) -> None:
        denial = Denial(int((self.clock.time() + seconds) * 1_000), at, "op", "why")
        self.denials.put(name, whom, denial)
        self.model[name, whom] = denial

    @rule(name=st.sampled_from(LISTS), whom=NAMES)
    def allow(self, name: List, whom: str) -> None:
        self.denials.put(name, whom, None)
        self.model.pop((name, whom), None)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def forget(self) -> None:
        self.denials.forget()

    @rule(sub=NAMES, jti=st.none() | NAMES, kid=st.none() | NAMES, iat=IAT)
    def check(self, sub: str, jti: str | None, kid: str | None, iat: int | None) -> None:
        claims = Claims(sub, TopicGrants(), jti=jti, kid=kid, iat=iat)
        found: type[ChatError] | None = None
        try:
            self.denials.check(claims)
        except ChatError as error:
            found = type(error)
        assert found is self._expected(claims)

    def _expected(self, claims: Claims) -> type[ChatError] | None:
        now = self.clock.time() * 1_000
        held = {each for each, denial in self.model.items() if denial.until > now}
        if ("users", claims.sub) in held:
            return Blocked
        issued = self.model.get(("issued", claims.sub))
        signed_out = issued is not None and (claims.iat is None or claims.iat <= issued.at)
        revoked = (
            ("tokens", claims.jti) in held
            or ("keys", claims.kid) in held
            or (("issued", claims.sub) in held and signed_out)
        )
        return Unauthorized if revoked else None

    @invariant()
    def bounded(self) -> None:
        assert len(self.denials) <= len(self.model)


TestDenials: Any = DenialMachine.TestCase


def test_a_closed_topic_says_why() -> None:
    denials = Denials(ManualClock())
    denials.check_topic("room:1")
    denials.put("topics", "room:1", Denial(2**50, 0, "op", "a fight"))
    with pytest.raises(Forbidden, match="closed: a fight"):
        denials.check_topic("room:1")
    denials.check_topic("room:2")


def test_a_hundred_thousand_users_have_room() -> None:
    """Each costs a name and some 150 bytes; what is said of thousands is there once."""
    denials = Denials(ManualClock())
    tracemalloc.start()
    try:
        for number in range(100_000):
            reason = "".join(("sp", "am"))
            denials.put("users", f"user-{number}", Denial(2**50, 0, "op", reason))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 40_000_000
    with pytest.raises(Blocked):
        denials.check(Claims("user-99999", TopicGrants()))
