"""A key server, and a verifier that uses it."""

from collections.abc import Iterator

import pytest

from chat_server.auth.tokens import Verifier

from ..rig.clock import ManualClock
from .helpers import settings
from .key_server import KeyServer, jwk, serve_keys


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with serve_keys() as running:
        running.publish(jwk("RSA", kid="old"))
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def subject(server: KeyServer, clock: ManualClock) -> Verifier:
    return Verifier(settings(server.url), clock)
