"""The Helm chart agrees with the code: by Helm, and where that is missing by what it rendered."""

import json
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
import yaml

from chat_server.app import create_app
from chat_server.server.deadlines import STOP_SLACK_SECONDS
from chat_server.settings import Settings, load_settings
from chat_server.version import __version__

from ..docs.markdown import ROOT, blocks
from ..packaging.test_image import image_environment
from . import chart

SECRETS = {
    "auth-secret": "0123456789abcdef" * 4,
    "redis-url": "redis://redis:6379/0",
    "database-url": "postgresql+asyncpg://chat:secret@database/chat",
    "metrics-token": "0123456789abcdef" * 4,
}
Objects = dict[str, dict[str, Any]]


@pytest.fixture(params=chart.VALUES)
def objects(request: pytest.FixtureRequest) -> Objects:
    """What is rendered, by kind."""
    found = [o for o in yaml.safe_load_all(chart.rendered(request.param)) if o]
    return {o["kind"]: o for o in found}


def _pod(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def _container(objects: Objects) -> dict[str, Any]:
    [container] = _pod(objects)["containers"]
    assert isinstance(container, dict)
    return container


def _settings(objects: Objects) -> Settings:
    environ = {}
    for variable in _container(objects)["env"]:
        value = variable.get("value")
        if value is None:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "chat"
            value = SECRETS[reference["key"]]
        assert isinstance(value, str), "Kubernetes takes strings only"
        environ[variable["name"]] = value
    return load_settings(environ=image_environment() | environ)


@pytest.mark.parametrize("name", chart.VALUES)
def test_what_is_kept_was_rendered_from_this_chart(name: str) -> None:
    first, _, _ = chart.rendered(name).partition("\n")
    assert first == f"# chart {chart.chart_hash()}", "run `python -m tests.deploy.chart`"
    if chart.helm() is not None:
        assert chart.render(name) == chart.rendered(name)


def test_the_chart_has_the_version_of_the_code() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text("utf-8"))
    assert about["appVersion"] == __version__


def test_the_settings_are_those_of_one_worker_in_production(objects: Objects) -> None:
    settings = _settings(objects)
    assert settings.environment == "production"
    assert settings.server.workers == 1
    assert settings.redis.url == SECRETS["redis-url"]
    assert settings.server.trusted_proxy_hops == 1
    assert settings.metrics.enabled is ("ServiceMonitor" in objects)


def test_secrets_come_from_a_secret_alone(objects: Objects) -> None:
    assert "Secret" not in objects
    for variable in _container(objects)["env"]:
        if any(word in variable["name"] for word in ("SECRET", "URL", "TOKEN")):
            assert "secretKeyRef" in variable["valueFrom"]


def test_probes_ask_where_the_server_answers(objects: Objects) -> None:
    settings, container = _settings(objects), _container(objects)
    [port] = container["ports"]
    assert port == {"name": "http", "containerPort": settings.server.port}
    routes = {rule.rule for rule in create_app(settings).url_map.iter_rules()}
    paths = {
        "startupProbe": "/health/live",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in routes
    if monitor := objects.get("ServiceMonitor"):
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["path"] in routes


def test_a_stop_has_the_time_it_takes_and_does_not_wait_twice(objects: Objects) -> None:
    settings, pod, container = _settings(objects), _pod(objects), _container(objects)
    [sleep, seconds] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert settings.server.lame_duck_seconds == 0
    needed = float(seconds) + settings.server.drain_seconds + 2 * STOP_SLACK_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= needed
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < float(seconds)


def test_the_pod_may_nothing_that_it_does_not_need(objects: Objects) -> None:
    pod, container = _pod(objects), _container(objects)
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])


def test_everything_leads_to_the_pods(objects: Objects) -> None:
    template = objects["Deployment"]["spec"]["template"]
    selector = objects["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    service = objects["Service"]["spec"]
    assert service["selector"] == selector
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    if policy := objects.get("NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"] == selector
    if ingress := objects.get("Ingress"):
        [rule] = ingress["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend == {
            "name": objects["Service"]["metadata"]["name"],
            "port": {"name": service["ports"][0]["name"]},
        }
    if scaler := objects.get("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] == objects["Deployment"]["metadata"]["name"]
        assert "replicas" not in objects["Deployment"]["spec"], "each would undo the other"


def test_what_is_optional_is_off() -> None:
    kinds = {o["kind"] for o in yaml.safe_load_all(chart.rendered("default")) if o}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget"}


# What other programs say --------------------------------------------------------------------------


@pytest.mark.skipif(chart.helm() is None, reason="helm is not installed")
@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, ""),
        ({"replica": 3}, "replica"),
        ({"config": {"LOG_LEVEL": "INFO"}}, "LOG_LEVEL"),
        ({"secret": {"keys": {"redisUrl": ""}}}, "redisUrl"),
    ],
)
def test_helm_lints_the_chart_and_refuses_values_that_mean_nothing(
    values: dict[str, Any], wrong: str
) -> None:
    command = [chart.helm() or "helm", "lint", "--strict", str(chart.CHART), "--values", "-"]
    done = subprocess.run(
        [*command, "--kube-version", chart.KUBERNETES],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (done.returncode != 0) is bool(wrong), done.stdout + done.stderr
    assert wrong in done.stdout + done.stderr


@pytest.mark.extra
@pytest.mark.parametrize("where", [*chart.VALUES, "docs/kubernetes.md"])
def test_the_objects_are_what_kubernetes_takes(where: str) -> None:
    import kubernetes_validate  # the extra `deploy` brings it

    version = ".".join(chart.KUBERNETES.split(".")[:2])
    texts: Iterable[str] = [chart.rendered(where)] if where in chart.VALUES else (
        block.text for block in blocks((ROOT / where).read_text("utf-8")) if block.kind == "yaml"
    )  # fmt: skip
    checked = 0
    for text in texts:
        for each in yaml.safe_load_all(text):
            # Not Kubernetes' own.
            if each and each["kind"] != "ServiceMonitor":
                kubernetes_validate.validate(each, version, strict=True)
                checked += 1
    assert checked >= 3
