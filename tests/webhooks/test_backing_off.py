"""How long a failing endpoint is left alone; and what a server without webhooks does not import."""

import subprocess
import sys

import pytest

from chat_server.webhooks import backing_off
from chat_server.webhooks.backing_off import pause


@pytest.fixture(autouse=True)
def _real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backing_off, "FIRST_SECONDS", 1.0)
    monkeypatch.setattr(backing_off, "LONGEST_SECONDS", 300.0)


def test_pauses_double_up_to_five_minutes() -> None:
    longest = [pause(failures, None, lambda: 1.0) for failures in range(1, 12)]
    assert longest == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert pause(10**9, None, lambda: 1.0) == 300


def test_a_pause_is_at_least_half_of_that() -> None:
    assert [pause(3, None, lambda: 0.0), pause(3, None, lambda: 0.5)] == [2, 3]


def test_what_the_endpoint_asks_for_is_heeded_up_to_an_hour() -> None:
    assert pause(1, 120.0, lambda: 1.0) == 120
    assert pause(1, 1e10, lambda: 1.0) == 3_600
    assert pause(9, 0.0, lambda: 1.0) == 256


def test_a_server_without_webhooks_does_not_import_what_sends_them() -> None:
    program = """
import sys
from chat_server.app import create_app
from chat_server.settings import load_settings
create_app(load_settings(environ={"CHAT_DATABASE__URL": "sqlite+aiosqlite:////tmp/none"}))
print(*sorted({"httpcore", "httpx", "anyio"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
