"""The names that people import: they are there, are documented, and cost only what they need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chat_server
import chat_server.client

from ..docs.markdown import ROOT, blocks, code, documents, section, tables

EMBEDDING = (ROOT / "docs" / "embedding.md").read_text("utf-8")
PUBLIC = {"chat_server": chat_server.__all__, "chat_server.client": chat_server.client.__all__}
SERVER_ONLY = ("quart", "hypercorn", "redis", "jwt", "click")


@pytest.mark.parametrize(("module", "name"), [(m, name) for m in PUBLIC for name in PUBLIC[m]])
def test_every_public_name_is_there(module: str, name: str) -> None:
    assert getattr(sys.modules[module], name) is not None


def test_other_names_are_missing_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match=r"module 'chat_server' has no attribute 'Server'"):
        _ = chat_server.Server


def test_the_page_about_embedding_lists_the_public_names_of_the_server() -> None:
    [table] = tables(section(EMBEDDING, "The public names"))
    listed = [name for row in table for name in code(row["name"])]
    assert sorted(listed) == sorted(chat_server.__all__)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_documents_import_public_names_only(document: Path) -> None:
    for block in blocks(document.read_text("utf-8")):
        if block.kind == "python":
            for module, name in _imported(ast.parse(block.text)):
                assert name in PUBLIC.get(module, ()), f"from {module} import {name}"


def _imported(tree: ast.Module) -> list[tuple[str, str]]:
    """Return what is imported from this package, as pairs of a module and a name."""
    return [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.partition(".")[0] == "chat_server"
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "import chat_server",
        "from chat_server.client import connect",
        "from chat_server import errors",
    ],
)
def test_the_client_does_without_the_servers_dependencies(statement: str) -> None:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()).isdisjoint(SERVER_ONLY)


def test_without_the_server_its_names_say_what_to_install() -> None:
    # None in place of a module is how Python marks one that cannot be imported.
    program = (
        "import sys; sys.modules['chat_server.extension'] = None\n"
        "from chat_server import ChatServer"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: ChatServer: only the client is installed: pip install quart-chat"
    )
