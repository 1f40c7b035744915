"""The Dockerfile and docker-compose.yml agree with the code; no container engine is needed."""

import re
import shlex
from typing import Any

import pytest
import yaml

from chat_server.app import create_app
from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.settings import load_settings

from ..architecture.source import ROOT

SECRET = "0123456789abcdef" * 4
REQUIRED = re.compile(r"\$\{CHAT_AUTH__SECRET:\?[^}]+\}")


def _stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, as (name, arguments)."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, arguments.strip()))
    return stages


def _environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [word for name, arguments in stage if name == "ENV" for word in shlex.split(arguments)]
    return dict(pair.split("=", 1) for pair in pairs)


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return _environment(_stages()[-1])


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


@pytest.fixture
def servers(compose: dict[str, Any]) -> list[dict[str, Any]]:
    return [service for service in compose["services"].values() if "build" in service]


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for name, arguments in _stages()[0]:
        if name == "COPY":
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored


def test_the_image_is_not_run_by_root() -> None:
    assert [arguments for name, arguments in _stages()[-1] if name == "USER"] == ["10001"]


def test_the_image_holds_no_secret() -> None:
    for stage in _stages():
        for name, arguments in stage:
            assert name != "ARG"
            assert "SECRET" not in arguments


def test_the_image_serves_where_its_healthcheck_asks() -> None:
    stage = _stages()[-1]
    environ = _environment(stage) | {"CHAT_AUTH__SECRET": SECRET}
    settings = load_settings(environ=environ)
    assert settings.environment == "production"

    [check] = [arguments for name, arguments in stage if name == "HEALTHCHECK"]
    port = settings.server.bind.rpartition(":")[2]
    url = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", check)
    assert url is not None
    assert url[1] == port
    assert url[2] in {rule.rule for rule in create_app(settings).url_map.iter_rules()}


def test_two_servers_share_a_redis_on_ports_of_their_own(
    compose: dict[str, Any], servers: list[dict[str, Any]]
) -> None:
    assert len(servers) == 2
    image = _environment(_stages()[-1])
    published = set()
    for server in servers:
        assert REQUIRED.fullmatch(server["environment"]["CHAT_AUTH__SECRET"])
        environ = image | server["environment"] | {"CHAT_AUTH__SECRET": SECRET}
        settings = load_settings(environ=environ)
        assert settings.environment == "production"
        assert settings.redis.url.startswith("redis://redis:")
        assert server["depends_on"]["redis"]["condition"] == "service_healthy"

        [port] = server["ports"]
        address, outside, inside = port.split(":")
        assert address == "127.0.0.1"
        assert inside == settings.server.bind.rpartition(":")[2]
        published.add(outside)

        grace = float(server["stop_grace_period"].removesuffix("s"))
        server_settings = settings.server
        needed = server_settings.lame_duck_seconds + server_settings.drain_seconds
        assert grace >= needed + 2 * STOP_SLACK_SECONDS
    assert len(published) == 2
    assert "healthcheck" in compose["services"]["redis"]
