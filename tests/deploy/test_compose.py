"""deploy/compose.yml and what it mounts agree with the code; no container engine is needed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.settings import Settings, load_settings

from ..architecture.source import ROOT
from ..docs.proxies import PROXIES, running_file
from ..packaging.test_image import image_environment
from ..rig.chat_client import chat
from ..rig.ports import free_port
from ..rig.raw_client import request
from ..rig.server import ServerProcess, mint
from ..rig.waiting import until_async

DEPLOY = ROOT / "deploy"
SECRET = "0123456789abcdef" * 4
REQUIRED = re.compile(r"\$\{CHAT_AUTH__SECRET:\?[^}]+\}")
CADDYFILE = (DEPLOY / "caddy/Caddyfile").read_text("utf-8")


def _yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = _yaml("compose.yml")
    return loaded


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture
def servers(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "build" in service}


def _settings(server: dict[str, Any]) -> Settings:
    assert REQUIRED.fullmatch(server["environment"]["CHAT_AUTH__SECRET"])
    environ = image_environment() | server["environment"] | {"CHAT_AUTH__SECRET": SECRET}
    return load_settings(environ=environ)


def _addresses(servers: dict[str, Any]) -> list[str]:
    return [f"{name}:{_settings(server).server.port}" for name, server in servers.items()]


def test_two_servers_share_a_redis_and_have_time_to_stop(
    services: dict[str, Any], servers: dict[str, Any]
) -> None:
    assert len(servers) == 2
    for server in servers.values():
        assert (DEPLOY / server["build"] / "Dockerfile").exists()
        settings = _settings(server)
        assert settings.environment == "production"
        assert settings.redis.url.startswith("redis://redis:")
        assert settings.server.trusted_proxy_hops == 1
        assert server["depends_on"]["redis"]["condition"] == "service_healthy"
        grace = float(server["stop_grace_period"].removesuffix("s"))
        needed = settings.server.lame_duck_seconds + settings.server.drain_seconds
        assert grace >= needed + 2 * STOP_SLACK_SECONDS
        most = settings.limits.max_connections + settings.http.max_connections
        assert server["ulimits"]["nofile"] > most
        assert "ports" not in server, "clients come through the proxy"
    assert "healthcheck" in services["redis"]


def test_redis_keeps_its_data_and_is_met_by_the_servers_alone(
    compose: dict[str, Any], services: dict[str, Any], servers: dict[str, Any]
) -> None:
    redis = services["redis"]
    assert "--appendonly yes" in redis["command"]
    assert "--maxmemory-policy noeviction" in redis["command"]
    assert redis["volumes"] == ["redis-data:/data"]
    assert redis["networks"] == ["store"]
    assert compose["networks"]["store"] == {"internal": True}
    assert "ports" not in redis
    assert {n for n, s in services.items() if "store" in s["networks"]} == {"redis", *servers}


def test_nothing_is_published_to_other_machines_unless_somebody_says_so(
    services: dict[str, Any],
) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 4
    for port in published:
        assert re.match(r"(\$\{\w+:-)?127\.0\.0\.1:", port), port


def test_everything_that_is_mounted_exists_and_every_volume_is_declared(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    named = set()
    for service in services.values():
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_dir(), source
                assert target.endswith(":ro")
            else:
                named.add(source)
    assert named == set(compose["volumes"])


def test_the_proxy_leads_to_the_servers_and_asks_for_their_health(servers: dict[str, Any]) -> None:
    [line] = re.findall(r"reverse_proxy (.*) \{", CADDYFILE)
    assert line.split() == _addresses(servers)
    assert "health_uri /health/ready" in CADDYFILE


def test_prometheus_scrapes_every_server_and_grafana_finds_prometheus(
    services: dict[str, Any], servers: dict[str, Any]
) -> None:
    for server in servers.values():
        assert _settings(server).metrics.enabled
    prometheus = _yaml("prometheus/prometheus.yml")
    [job] = prometheus["scrape_configs"]
    [targets] = job["static_configs"]
    assert targets["targets"] == _addresses(servers)
    for name in prometheus["rule_files"]:
        assert (DEPLOY / "prometheus" / name).exists()
    [source] = _yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    inside = services["prometheus"]["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{inside}"
    [provider] = _yaml("grafana/provisioning/dashboards/chat.yml")["providers"]
    mounts = dict(v.split(":")[:2] for v in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        assert "front" in services[name]["networks"]


@pytest.mark.extra
def test_the_file_is_what_the_schema_of_compose_allows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(DEPLOY / "compose.yml")], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profiles", [(), ("--profile", "monitoring")])
def test_compose_takes_the_file_and_asks_for_the_secret(profiles: tuple[str, ...]) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    command = [program, "--file", str(DEPLOY / "compose.yml"), *profiles, "config", "--quiet"]
    for secret, wrong in ((SECRET, ""), ("", "CHAT_AUTH__SECRET")):
        environ = {**os.environ, "CHAT_AUTH__SECRET": secret}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90)
        assert (done.returncode != 0) is bool(wrong), done.stderr
        assert wrong in done.stderr


# The proxy, as it runs there ----------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    environ = {"CHAT_SERVER__TRUSTED_PROXY_HOPS": "1", "CHAT_METRICS__ENABLED": "true"}
    with ServerProcess(environ=environ) as running:
        yield running


@pytest.fixture
def proxied(server: ServerProcess, tmp_path: Path) -> Iterator[int]:
    caddy = PROXIES["Caddy"]
    if caddy.path is None:
        pytest.skip("caddy is not installed")
    port = free_port()
    text = CADDYFILE.replace("chat-1:8000 chat-2:8000", f"127.0.0.1:{server.port}")
    text = caddy.before.replace("{{", "{").replace("}}", "}") + text
    with running_file(caddy, tmp_path, port, text, {"SITE": f":{port}"}):
        yield port


async def test_the_page_works_behind_the_proxy_and_the_numbers_stay_inside(
    proxied: int, server: ServerProcess
) -> None:
    async def ready() -> bool:
        return (await request(proxied, "GET", "/health/ready")).status == 200

    await until_async(ready)
    assert (await request(proxied, "GET", "/")).status == 200
    async with await chat(f"ws://127.0.0.1:{proxied}/ws", mint("ada")) as ada:
        assert ada.welcome["user"] == "ada"
    assert (await request(server.port, "GET", "/metrics")).status == 200
    for path in ("/metrics", "/%6Detrics", "//metrics", "/x/../metrics", "/metrics?x", "/METRICS"):
        assert (await request(proxied, "GET", path)).status in (301, 308, 404), path
