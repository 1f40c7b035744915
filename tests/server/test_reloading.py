"""SIGHUP reads the settings again: what the next workers get, and what needs a restart."""

import logging
import os
import signal
import ssl
from pathlib import Path

import pytest

from chat_server.server.reloading import reload
from chat_server.settings import Settings, load_settings
from tests.rig.certificates import make_certificate
from tests.rig.chat_client import chat
from tests.rig.redis_server import RedisServer
from tests.rig.server import ServerProcess, mint
from tests.rig.waiting import until

from .processes import ready_workers, runs


def loaded(**environ: str) -> Settings:
    variables = {f"CHAT_{name.upper()}": value for name, value in environ.items()}
    return load_settings(environ={"CHAT_ENVIRONMENT": "testing", **variables})


def test_what_needs_a_restart_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = loaded(redis__url="redis://u:old@one/0", server__bind="127.0.0.1:1")
    after = loaded(
        redis__url="redis://u:new@one/0", server__bind="127.0.0.1:2", limits__max_topics="5"
    )
    taken = reload(before, lambda: after)
    assert taken is not None
    assert (taken.limits.max_topics, taken.server.bind) == (5, "127.0.0.1:1")
    assert taken.redis.url == "redis://u:new@one/0", "a password may change"
    moved = reload(before, lambda: loaded(redis__url="redis://u:old@two/0"))
    assert moved is not None
    assert moved.redis.url == before.redis.url
    assert "server.bind: has changed, which needs a restart" in caplog.text
    assert "other settings: limits.max_topics, redis.url" in caplog.text
    assert "new" not in caplog.text.replace("needs", "")


def test_mistakes_replace_nothing_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    settings = loaded()
    assert reload(settings, lambda: loaded(limits__max_topics="none", log__level="loud")) is None
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == ["limits.max_topics", "log.level", "SIGHUP"]
    assert reload(settings, None) is settings


async def test_the_next_workers_have_the_settings_of_the_file(
    redis: RedisServer, tmp_path: Path
) -> None:
    file = tmp_path / "chat.toml"
    file.write_text("[limits]\nmax_topics = 5\n")
    flags = ("--workers", "2", "--redis-url", redis.url, "--config", str(file))
    with ServerProcess(*flags, environ={"CHAT_REDIS__PREFIX": "reloading"}) as server:
        old = await ready_workers(server, 2)
        file.write_text("[limits]\nmax_topics = 0\n")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "no worker is replaced" in server.stderr, 60)
        file.write_text("[limits]\nmax_topics = 7\n")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: not any(runs(pid) for pid in old), 120)
        await ready_workers(server, 2)
        async with await chat(server.ws_url, mint("ada")) as ada:
            assert ada.welcome["limits"]["max_topics"] == 7


async def test_a_single_worker_takes_over_what_it_can_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text('[log]\nlevel = "INFO"\n')
    certificate = make_certificate(tmp_path)
    (tmp_path / "renewed").mkdir()
    renewed = make_certificate(tmp_path / "renewed")
    with ServerProcess("--config", str(file), certificate=certificate) as server:
        async with await chat(server.ws_url, mint("ada"), tls=server.tls) as ada:

            async def reload(text: str, told: str) -> None:
                file.write_text(text)
                os.kill(server.pid, signal.SIGHUP)
                await until(lambda: told in server.stderr)

            await reload('[log]\nlevel = "loud"\n', "SIGHUP: the settings have mistakes; nothing")
            certificate.write_bytes(renewed.read_bytes())
            changed = '[log]\nlevel = "INFO"\nformat = "json"\n[limits]\nmax_topics = 7\n'
            await reload(changed, '"SIGHUP: read again: log.format, the certificate"')
            assert "limits.max_topics: has changed, which needs a restart" in server.stderr
            assert (await ada.call(type="ping"))["type"] == "pong"
        server.tls = ssl.create_default_context(cafile=renewed)
        async with await chat(server.ws_url, mint("ada"), tls=server.tls) as ada:
            assert ada.welcome["limits"]["max_topics"] != 7
