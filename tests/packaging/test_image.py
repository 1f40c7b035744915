"""The Dockerfile agrees with the code; no container engine is needed."""

import re
import shlex

from chat_server.app import create_app
from chat_server.settings import load_settings

from ..architecture.source import ROOT

SECRET = "0123456789abcdef" * 4


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
