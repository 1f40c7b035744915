"""What the documents name exists: files, headings, settings and their defaults."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_server.settings import Settings, Webhook, load_settings

from .markdown import ROOT, anchors, blocks, code, documents, links, prose, section, tables

DOCUMENTS = {str(path.relative_to(ROOT)): path for path in documents()}
SETTINGS = msgspec.to_builtins(Settings(webhooks={"NAME": Webhook()}))
"""Nested groups of keys with their defaults."""

_ANY = {"namespaces": "default", "webhooks": "NAME"}
"""What stands for any name."""

VARIABLES = tables(
    section(DOCUMENTS["docs/configuration.md"].read_text("utf-8"), "Environment variables")
)[0]
CODE = re.compile(r"`([^`\n]+)`")
VARIABLE = re.compile(r"\bCHAT_[A-Z_]+\b")
KUBERNETES = {"CHAT_PORT", "CHAT_SERVICE_HOST"}
"""Variables that are not ours, for a Service called chat."""
# Not what an address begins with.
KEY = re.compile(r"(?<![\w./])(?:[a-z_]+\.)+[a-z_]+")
KEY_WITH_DEFAULT = re.compile(r"`([a-z_]+\.[a-z_]+)` \((\d+(?:\.\d+)?)[,)]")
# What begins with a slash is an address, and what is in build/ a result.
FILE = re.compile(r"(?!build/)\w[\w./-]*\.(?:py|lua|toml|yml|js|css|html|md)")


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Path:
    return DOCUMENTS[request.param]


def _lookup(path: list[str]) -> object:
    """Return a setting's default; of a namespace and a webhook any name will do.

    Raises:
        KeyError: there is no such setting.
    """
    value: object = SETTINGS
    for number, name in enumerate(path):
        if not isinstance(value, dict):
            raise KeyError(".".join(path))
        value = value[_ANY.get(path[0], name) if number == 1 else name]
    return value


def test_links_lead_somewhere(document: Path) -> None:
    dead = []
    for link in links(document.read_text("utf-8")):
        target, _, fragment = link.partition("#")
        if re.match(r"https?:", link):
            continue
        file = (document.parent / target).resolve() if target else document
        if not file.exists() or (fragment and fragment not in anchors(file.read_text("utf-8"))):
            dead.append(link)
    assert dead == []


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in links(index.read_text("utf-8"))}
    assert [
        str(page) for page in (ROOT / "docs").rglob("*.md") if page not in {*listed, index}
    ] == []


def test_links_stay_in_the_repository(document: Path) -> None:
    for link in links(document.read_text("utf-8")):
        if not re.match(r"https?:", link):
            assert (document.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT)


def test_settings_exist(document: Path) -> None:
    text = prose(document.read_text("utf-8"))  # blocks may show a mistake
    for variable in set(VARIABLE.findall(text)) - KUBERNETES:
        _lookup(variable.removeprefix("CHAT_").lower().split("__"))
    for span in CODE.findall(text):
        for key in KEY.findall(span):
            if key.split(".")[0] in SETTINGS and not FILE.fullmatch(key):
                _lookup(key.split("."))


def test_defaults_are_right(document: Path) -> None:
    for key, default in KEY_WITH_DEFAULT.findall(document.read_text("utf-8")):
        assert _lookup(key.split(".")) == float(default), key


def test_files_exist(document: Path) -> None:
    missing = [
        span
        for span in CODE.findall(prose(document.read_text("utf-8")))
        if FILE.fullmatch(span)
        and not any(
            (ROOT / folder / span).exists() for folder in ("", "chat_server", "chat_server/web")
        )
    ]
    assert missing == []


def test_examples_of_settings_are_valid(document: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(document.read_text("utf-8"))):
        if block.kind == "toml":
            file = tmp_path / f"{number}.toml"
            file.write_text(block.text)
            load_settings(config_file=file, environ={})


def test_the_table_of_all_settings_has_each_with_its_default() -> None:
    page = DOCUMENTS["docs/configuration.md"].read_text("utf-8")
    [table] = tables(section(page, "All settings"))
    documented = {code(row["key"])[0]: json.loads(code(row["default"])[0]) for row in table}
    assert documented == dict(_leaves(SETTINGS))


def _leaves(group: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("row", VARIABLES, ids=lambda row: row["variable"])
def test_documented_variables_set_their_keys(row: dict[str, str]) -> None:
    (assignment,), (key, *_) = code(row["variable"]), code(row["key"])
    name, given = assignment.split("=", 1)
    assert name == "CHAT_" + key.replace(".", "__").upper()
    # The development secret is for loopback addresses only.
    environ = {"CHAT_AUTH__SECRET": "a-secret-of-more-than-32-bytes-for-this", name: given}
    value: object = msgspec.to_builtins(load_settings(environ=environ))
    for part in key.split("."):
        assert isinstance(value, dict)
        value = value[part]
    assert (",".join(value) if isinstance(value, tuple) else str(value)) == given
