"""What docs/operations.md and docs/kubernetes.md have to be copied: it is what the server takes."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chat_server.app import create_app
from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.settings import Settings, load_settings

from ..packaging.test_image import image_environment
from ..rig.chat_client import chat
from ..rig.redis_server import RedisServer, running
from ..rig.server import ROOT, ServerProcess
from .markdown import Block, blocks

SECRET = "0123456789abcdef" * 4
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
KUBERNETES = (ROOT / "docs/kubernetes.md").read_text("utf-8")


def _blocks(page: str, kind: str) -> list[Block]:
    return [block for block in blocks(page) if block.kind == kind]


def _needed_seconds(settings: Settings) -> float:
    server = settings.server
    return server.lame_duck_seconds + server.drain_seconds + 2 * STOP_SLACK_SECONDS


# Kubernetes --------------------------------------------------------------------------------------


@pytest.fixture
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    [block] = _blocks(KUBERNETES, "yaml")
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(block.text)}


@pytest.fixture
def pod(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", "chat"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    [only] = pod["containers"]
    assert isinstance(only, dict)
    return only


def _secrets() -> dict[str, str]:
    """Return the keys of the secret that the page's commands create, with values."""
    [command] = [
        line
        for block in _blocks(KUBERNETES, "bash")
        for line in block.text.splitlines()
        if line.startswith("kubectl create secret generic chat ")
    ]
    given: dict[str, str] = {}
    for word in shlex.split(command)[5:]:
        option, _, value = word.partition("=")
        name, _, literal = value.partition("=")
        given[name] = SECRET if option == "--from-file" else literal
    return given


def _environment(container: dict[str, Any]) -> dict[str, str]:
    secrets = _secrets()
    values = {}
    for variable in container["env"]:
        if "value" in variable:
            values[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "chat"
            values[variable["name"]] = secrets[reference["key"]]
    return image_environment() | values


def _service_links(name: str, port: int, port_name: str) -> dict[str, str]:
    """Return what Kubernetes sets for a Service in every container that takes service links."""
    prefix = name.upper().replace("-", "_")
    address = "10.0.0.1"
    url = f"tcp://{address}:{port}"
    return {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_{port_name.upper()}": str(port),
        f"{prefix}_PORT": url,
        f"{prefix}_PORT_{port}_TCP": url,
        f"{prefix}_PORT_{port}_TCP_PROTO": "tcp",
        f"{prefix}_PORT_{port}_TCP_PORT": str(port),
        f"{prefix}_PORT_{port}_TCP_ADDR": address,
    }


@pytest.mark.parametrize("links", [{}, {"chat": 80}, {"chat-server": 8000, "chat-redis": 6379}])
def test_the_deployment_starts_a_server_also_with_links_of_services(
    container: dict[str, Any], links: dict[str, int]
) -> None:
    environ = _environment(container)
    for name, port in links.items():
        environ |= _service_links(name, port, "http")
    settings = load_settings(environ=environ)
    assert settings.environment == "production"
    assert settings.auth.secret == SECRET
    assert settings.redis.url == "redis://chat-redis:6379/0"
    assert settings.server.trusted_proxy_hops == 1


def test_the_deployment_asks_and_stops_as_the_server_answers_and_ends(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    settings = load_settings(environ=_environment(container))
    [port] = container["ports"]
    assert port["containerPort"] == settings.server.port
    routes = {rule.rule for rule in create_app(settings).url_map.iter_rules()}
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert container[probe]["httpGet"]["path"] in routes
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert pod["terminationGracePeriodSeconds"] >= _needed_seconds(settings)
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < settings.server.lame_duck_seconds
    assert pod["enableServiceLinks"] is False


def test_the_services_lead_to_the_pods(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    for kind, name in (("Deployment", "chat"), ("StatefulSet", "chat-redis")):
        template = objects[kind, name]["spec"]["template"]
        service = objects["Service", name]["spec"]
        assert service["selector"] == template["metadata"]["labels"]
        assert objects[kind, name]["spec"]["selector"]["matchLabels"] == service["selector"]
        [container] = template["spec"]["containers"]
        [port] = service["ports"]
        assert port["targetPort"] in {p["name"] for p in container["ports"]}
    budget = objects["PodDisruptionBudget", "chat"]["spec"]
    assert budget["selector"] == objects["Deployment", "chat"]["spec"]["selector"]


# Compose -----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """What `docker compose up` starts, without a container."""
    compose = yaml.safe_load((ROOT / "deploy/compose.yml").read_text("utf-8"))
    environ = image_environment() | compose["services"]["chat-1"]["environment"]
    environ["CHAT_AUTH__SECRET"] = SECRET
    environ["CHAT_SERVER__LAME_DUCK_SECONDS"] = "0"
    with running(RedisServer(tmp_path)) as redis:
        environ["CHAT_REDIS__URL"] = redis.url
        with ServerProcess(environ=environ) as started:
            yield started


@pytest.mark.parametrize(
    ("page", "prefix"),
    [(OPERATIONS, "docker compose exec chat-1 "), (KUBERNETES, "kubectl exec deploy/chat -- ")],
)
async def test_the_token_of_the_page_works_in_a_room(
    server: ServerProcess, page: str, prefix: str
) -> None:
    [command] = [
        line.removeprefix(prefix)
        for block in _blocks(page, "bash")
        for line in block.text.splitlines()
        if line.startswith(prefix)
    ]
    program, *arguments = shlex.split(command)
    assert program == "chat-server"
    issued = subprocess.run(  # noqa: ASYNC221  (that is quick)
        [sys.executable, "-m", "chat_server", *arguments],
        env={**image_environment(), "CHAT_AUTH__SECRET": SECRET},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (issued.returncode, issued.stderr) == (0, ""), issued.stderr
    async with await chat(server.ws_url, issued.stdout.strip()) as alice:
        assert alice.welcome["user"] == "alice"
        await alice.ok(type="subscribe", topic="room:lobby", last=10)
        await alice.ok(type="publish", topic="room:lobby", data={"text": "hello"})
        assert (await alice.next())["data"] == {"text": "hello"}
        answer = await alice.call(type="history", topic="room:lobby")
        assert len(answer["messages"]) == 1


def test_the_page_is_opened_where_compose_publishes_it() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yml").read_text("utf-8"))
    [published] = re.findall(r"[\d.]+:\d+(?=\}:80$)", compose["services"]["proxy"]["ports"][0])
    addresses = set(re.findall(r"`http://([\d.:]+)/#token=TOKEN&room=lobby`", OPERATIONS))
    assert addresses == {published}
    [secret, *_] = _blocks(OPERATIONS, "bash")
    assert 'echo "CHAT_AUTH__SECRET=$(openssl rand -hex 32)" > .env' in secret.text
