"""What commands count against the rates of a topic."""

import msgspec
import pytest

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.events import Kind
from chat_server.rates import Charge, admit
from chat_server.service.actor import Actor, Application
from chat_server.service.rates import charges
from chat_server.settings import Namespace, Settings

ADA = Claims("ada", TopicGrants())
ROOM = Namespace(
    messages_per_user="1/10s",
    messages_per_topic="600/1m",
    bytes_per_user="1000/1s",
    reactions_per_user="5/1s",
)
COUNT = charges(Settings(namespaces={"default": Namespace(), "room": ROOM}))


def counted(kind: Kind, claims: Claims = ADA, topic: str = "room:a") -> dict[str, int]:
    return {each.name: each.cost for each in COUNT(Actor(claims), topic, kind, 40)}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.MESSAGE, {"messages:ada": 1, "messages": 1, "bytes:ada": 40}),
        (Kind.EDITED, {"bytes:ada": 40}),
        (Kind.APPENDED, {"bytes:ada": 40}),
        (Kind.REACTION, {"reactions:ada": 1}),
        (Kind.DELETED, {}),
    ],
)
def test_each_kind_counts_against_its_own_rates(kind: Kind, expected: dict[str, int]) -> None:
    assert counted(kind) == expected


def test_a_moderator_counts_against_what_all_share_alone() -> None:
    moderator = Claims("mod", TopicGrants(moderate=("room:a",)))
    assert counted(Kind.MESSAGE, moderator) == {"messages": 1}
    assert counted(Kind.MESSAGE, moderator, "room:b") == {
        "messages:mod": 1,
        "messages": 1,
        "bytes:mod": 40,
    }


def test_a_factor_in_the_token_widens_the_users_rates_alone() -> None:
    bot = msgspec.structs.replace(ADA, rate_factor=20.0)
    own, shared, _ = COUNT(Actor(bot), "room:a", Kind.MESSAGE, 1)
    what, limit = "too many messages of yours here", "messages_per_user"
    assert own == Charge("messages:ada", 500.0, 10_000.0, 1, what, limit)
    assert shared.interval_ms == 100.0


def test_a_factor_below_one_makes_a_user_wait_longer_and_not_for_ever() -> None:
    slow = msgspec.structs.replace(ADA, rate_factor=0.5)
    own = COUNT(Actor(slow), "room:a", Kind.MESSAGE, 1)[0]
    until, wait = admit(0.0, 1_000_000.0, own)
    assert (until, wait) == (1_020_000.0, 0)
    assert admit(until, 1_000_000.0, own) == (until, 20_000.0)


def test_the_application_and_other_namespaces_have_no_rates() -> None:
    assert COUNT(Application(), "room:a", Kind.MESSAGE, 1) == ()
    assert counted(Kind.MESSAGE, topic="team:a") == {}
    assert charges(Settings())(Actor(ADA), "room:a", Kind.MESSAGE, 1) == ()
