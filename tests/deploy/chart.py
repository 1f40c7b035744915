"""The Helm chart as `helm template` renders it, kept so that tests need no Helm.

`python -m tests.deploy.chart` renders it again, for who has Helm and has changed the chart.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ..architecture.source import ROOT

CHART = ROOT / "deploy/helm/chat-server"
RENDERED = Path(__file__).parent / "rendered"
KUBERNETES = "1.31.0"

VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": {
        "autoscaling": {"enabled": True},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "chat-tls"},
        "metrics": {"enabled": True, "serviceMonitor": True},
        "networkPolicy": {
            "enabled": True,
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
        "secret": {"keys": {"metricsToken": "metrics-token", "databaseUrl": "database-url"}},
        "config": {"CHAT_LOG__LEVEL": "INFO", "CHAT_DATABASE__POOL_SIZE": 3},
        "imagePullSecrets": [{"name": "registry"}],
        "podAnnotations": {"example.org/team": "chat"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "lameDuckSeconds": 20,
        "drainSeconds": 40,
    },
}
"""What is rendered, by name: the values besides those of the chart."""


def helm() -> str | None:
    """Return where Helm is, if it is installed."""
    return shutil.which("helm")


def render(name: str) -> str:
    """Return what Helm makes of the chart, below a line with the chart's hash."""
    program = helm()
    assert program is not None
    command = [program, "template", "chat", str(CHART), "--kube-version", KUBERNETES]
    done = subprocess.run(
        [*command, "--values", "-"],
        input=yaml.dump(VALUES[name]),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return f"# chart {chart_hash()}\n{done.stdout}"


def chart_hash() -> str:
    """Return a hash of all files of the chart, and of what they are rendered with."""
    digest = hashlib.sha256(json.dumps(VALUES).encode())
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def rendered(name: str) -> str:
    """Return what is kept."""
    return (RENDERED / f"{name}.yaml").read_text("utf-8")


if __name__ == "__main__":
    for each in VALUES:
        (RENDERED / f"{each}.yaml").write_text(render(each), "utf-8")
