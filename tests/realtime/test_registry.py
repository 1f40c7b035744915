"""Which connections there are, by session, user and address, and how many each may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.protocol.errors import RateLimited
from chat_server.realtime.registry import Registry

from .clients import FakeClient


def test_connections_are_counted_by_user_and_by_address() -> None:
    registry = Registry(per_user=2, per_address=1)
    one, two, three = (FakeClient(registry) for _ in range(3))
    registry.add_user(one, "x")
    registry.add_user(two, "x")
    registry.add_address(one, "x")
    with pytest.raises(RateLimited, match=r"this user \(at most 2\)"):
        registry.add_user(three, "x")
    with pytest.raises(RateLimited, match=r"this address \(at most 1\)"):
        registry.add_address(three, "x")
    registry.remove(one, user="x")
    registry.add_user(three, "x")
    registry.remove(three, address="x")
    registry.add_address(two, "x")


def test_connections_are_found_by_session_user_and_address() -> None:
    registry = Registry(per_user=9, per_address=9)
    phone, laptop, other = (FakeClient(registry) for _ in range(3))
    for client, user in ((phone, "ada"), (laptop, "ada"), (other, "bob")):
        registry.add_user(client, user)
        registry.add_address(client, "10.0.0.1")
    assert registry.session(phone.id) is phone
    assert registry.session("nobody") is None
    assert set(registry.of_user("ada")) == {phone, laptop}
    assert set(registry.of_user("bob")) == {other}
    assert set(registry.of_user("eve")) == set()
    assert set(registry.of_address("10.0.0.1")) == {phone, laptop, other} == set(registry)
    registry.remove(phone, user="ada", address="10.0.0.1")
    assert registry.session(phone.id) is None
    assert set(registry.of_user("ada")) == {laptop}
    assert set(registry.of_address("10.0.0.1")) == {laptop, other}
    assert (phone in registry, laptop in registry, len(registry)) == (False, True, 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=100))
def test_the_registry_forgets_who_is_gone(steps: list[tuple[str, bool]]) -> None:
    registry = Registry(per_user=3, per_address=3)
    model: dict[str, list[FakeClient]] = {user: [] for user in "abc"}
    for user, join in steps:
        if not join and model[user]:
            registry.remove(model[user].pop(), user=user)
        elif join:
            client = FakeClient(registry)
            try:
                registry.add_user(client, user)
            except RateLimited:
                assert len(model[user]) == 3
                registry.remove(client)
            else:
                model[user].append(client)
    assert {user: set(registry.of_user(user)) for user in model} == {
        user: set(clients) for user, clients in model.items()
    }
    assert set(registry._users._members) == {user for user, clients in model.items() if clients}
    assert len(registry) == sum(map(len, model.values()))
