"""A real Prometheus that scrapes servers as in deploy/prometheus, only more often."""

import asyncio
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .ports import free_port
from .server import ROOT

PROMETHEUS = shutil.which("prometheus")
FOLDER = ROOT / "deploy/prometheus"

STOP_SECONDS = 60.0


class Prometheus:
    """Queries of a Prometheus.

    Args:
        address: the address of the Prometheus.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of a query; an empty list while Prometheus starts."""
        answer = await self.get("query", query=expression)
        return answer["result"] if answer else []

    async def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        found = await self.query('ALERTS{alertstate="firing"}')
        return {each["metric"]["alertname"] for each in found}

    async def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer of the API; None while Prometheus starts."""
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        return await asyncio.to_thread(_get, url)


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
    except OSError:
        pass
    return None


@contextmanager
def running_prometheus(
    folder: Path, ports: Sequence[int], *, patient: bool = True
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes servers of this machine every second.

    Args:
        folder: the folder for its files.
        ports: the ports of the servers.
        patient: True keeps the alerts' waits of the rules; False lets alerts fire at once.
    """
    assert PROMETHEUS is not None
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    targets = [f"127.0.0.1:{port}" for port in ports]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if not patient:
            rule.pop("for", None)
    (folder / "alerts.yml").write_text(yaml.dump(rules))
    (folder / "prometheus.yml").write_text(yaml.dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            *(PROMETHEUS, "--config.file=prometheus.yml", f"--web.listen-address={address}"),
            "--storage.tsdb.path=data",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
