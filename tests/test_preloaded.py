"""The server that is forked for tests behaves as one that was started."""

from importlib.util import find_spec

import pytest

from tests.rig.preloaded import MODULES, PreloadedServer


def test_it_starts_ends_and_starts_again() -> None:
    with PreloadedServer() as server:
        first = server.pid
        assert server.stop() == 0
        server.start()
        assert server.pid != first
        assert server.is_ready()
        assert server.kill()
        assert not server.is_ready()


def test_one_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(AssertionError, match=r"ended with 2:\n(?s:.*)history_size"),
        PreloadedServer(environ={"CHAT_NAMESPACES__ROOM__HISTORY_SIZE": "-1"}),
    ):
        pass


def test_what_it_imports_is_there() -> None:
    # The process that servers are forked from passes over what it does not find.
    assert [name for name in MODULES if find_spec(name) is None] == []
