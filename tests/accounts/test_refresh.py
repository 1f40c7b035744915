"""Refresh tokens as a state machine: who is honest stays signed in, a thief does not for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from chat_server.accounts.refresh import (
    ID_BYTES,
    MAX_GENERATION,
    RefreshToken,
    RefreshTokens,
    SignIn,
    Verdict,
    begun,
    judge,
    rotated,
)

IDLE, LONGEST, GRACE = 1_000_000, 5_000_000, 60_000
TOKENS = RefreshTokens(b"secret")
FIRST = RefreshToken(bytes(range(ID_BYTES)), 0)


def test_a_token_says_what_was_written() -> None:
    text = TOKENS.write(FIRST)
    assert TOKENS.read(text) == FIRST
    assert text.isascii()
    assert len(text) == 48


@given(st.binary(min_size=ID_BYTES, max_size=ID_BYTES), st.integers(0, MAX_GENERATION))
def test_every_token_can_be_read(sign_in: bytes, generation: int) -> None:
    token = RefreshToken(sign_in, generation)
    assert TOKENS.read(TOKENS.write(token)) == token


@given(st.integers(0, 47), st.characters(codec="utf-8"))
def test_a_token_that_was_changed_is_not_read(place: int, other: str) -> None:
    text = TOKENS.write(FIRST)
    changed = text[:place] + other + text[place + 1 :]
    assert TOKENS.read(changed) in (None, FIRST if changed == text else None)


@pytest.mark.parametrize(
    "text", ["", "x", "é" * 48, "=" * 48, "a" * 48, "a" * 1_000_000, "\0" * 48]
)
def test_what_is_no_token_is_not_read(text: str) -> None:
    assert TOKENS.read(text) is None


def test_a_token_of_another_secret_is_not_read() -> None:
    assert RefreshTokens(b"another").read(TOKENS.write(FIRST)) is None


@pytest.mark.parametrize(
    ("generation", "now", "verdict"),
    [
        (2, 0, Verdict.ROTATE),
        (2, IDLE - 1, Verdict.ROTATE),
        (2, IDLE, Verdict.OVER),
        (1, 0, Verdict.REPEAT),
        (1, GRACE - 1, Verdict.REPEAT),
        (1, GRACE, Verdict.STOLEN),
        (0, 0, Verdict.STOLEN),
        (3, 0, Verdict.STOLEN),  # after a back-up of the database was restored
        (0, IDLE, Verdict.OVER),
    ],
)
def test_verdicts(generation: int, now: int, verdict: Verdict) -> None:
    sign_in = SignIn("alice", 2, rotated_at=0, expires_at=IDLE, ends_at=LONGEST)
    assert judge(sign_in, generation, now, GRACE) is verdict
    assert judge(replace(sign_in, ended="stolen"), generation, now, GRACE) is Verdict.OVER


def test_without_a_grace_a_token_is_good_for_one_use() -> None:
    sign_in = rotated(begun("alice", 0, IDLE, LONGEST), 0, IDLE)
    assert judge(sign_in, 0, 0, 0) is Verdict.STOLEN


def test_a_sign_in_lasts_as_long_as_it_is_used_but_not_for_ever() -> None:
    sign_in = begun("alice", 0, IDLE, LONGEST)
    now = 0
    while judge(sign_in, sign_in.generation, now, GRACE) is Verdict.ROTATE:
        sign_in = rotated(sign_in, now, IDLE)
        assert sign_in.expires_at <= LONGEST
        now += IDLE // 2
    assert now == LONGEST


class Holder:
    """Somebody with the token of a generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation


class TwoHolders(RuleBasedStateMachine):
    """The user, whose answers may be lost, and maybe a thief with a copy of the user's token."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.state = begun("alice", 0, IDLE, LONGEST)
        self.user = Holder(0)
        self.thief: Holder | None = None
        self.user_refused = False
        self.last_sent = 0

    def use(self, holder: Holder, *, lost: bool) -> bool:
        """Use a token as the server does; return whether it was accepted."""
        verdict = judge(self.state, holder.generation, self.now, GRACE)
        if verdict is Verdict.ROTATE:
            self.state = rotated(self.state, self.now, IDLE)
        elif verdict is Verdict.STOLEN:
            self.state = replace(self.state, ended="stolen")
        if verdict not in (Verdict.ROTATE, Verdict.REPEAT):
            return False
        if not lost:
            holder.generation = self.state.generation
        return True

    @rule(lost=st.booleans())
    def the_user_renews(self, lost: bool) -> None:
        accepted = self.use(self.user, lost=lost)
        if lost and accepted:  # and is repeated before long
            self.now += GRACE // 3
            accepted = self.use(self.user, lost=False)
        self.user_refused = self.user_refused or not accepted

    @rule()
    def two_tabs_renew_at_once(self) -> None:
        other = Holder(self.user.generation)
        accepted = self.use(self.user, lost=False) and self.use(other, lost=False)
        self.user_refused = self.user_refused or not accepted
        if accepted:
            assert other.generation == self.user.generation == self.state.generation

    @rule()
    def a_thief_copies_the_token(self) -> None:
        self.thief = self.thief or Holder(self.user.generation)

    @rule()
    def the_thief_renews(self) -> None:
        if self.thief is not None:
            self.use(self.thief, lost=False)

    @rule(ms=st.integers(0, IDLE // 20))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @invariant()
    def who_is_honest_stays_signed_in(self) -> None:
        # IDLE is renewed by each use; LONGEST ends every sign-in.
        if self.thief is None and self.now < self.state.expires_at:
            assert not self.user_refused
            assert self.state.ended is None

    @invariant()
    def one_of_two_who_are_apart_is_found_out(self) -> None:
        """Whoever is behind by more than the grace ends the sign-in when it renews."""
        behind = self.thief is not None and self.thief.generation < self.state.generation
        if behind and self.now >= self.state.rotated_at + GRACE and self.state.ended is None:
            assert self.thief is not None
            verdict = judge(self.state, self.thief.generation, self.now, GRACE)
            assert verdict in (Verdict.STOLEN, Verdict.OVER)


TestTwoHolders = TwoHolders.TestCase
