"""The commands and snippets in the documents do what stands beside them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..rig.server import ServerProcess
from .markdown import ROOT, blocks
from .walk import SECONDS, Walk, matches


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.mark.parametrize(
    ("document", "commands"),
    [
        ("README.md", 5),
        ("CONTRIBUTING.md", 1),
        ("docs/bots.md", 5),
        ("docs/commands.md", 5),
        ("docs/configuration.md", 2),
        ("docs/database.md", 1),
        ("docs/embedding.md", 2),
        ("docs/operations.md", 1),
        ("docs/operators.md", 4),
        ("docs/tracing.md", 2),
    ],
)
def test_commands(document: str, commands: int, server: ServerProcess, tmp_path: Path) -> None:
    text = (ROOT / document).read_text("utf-8")
    if document == "docs/embedding.md":
        [application] = [block for block in blocks(text) if "app = Quart(" in block.text]
        (tmp_path / "orders.py").write_text(application.text, "utf-8")
    walk = Walk(server, tmp_path)
    walk.follow(text)
    assert len(walk.followed) == commands, walk.followed


def test_every_document_with_commands_is_followed() -> None:
    with_commands = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("**/*.md")
        if ".venv" not in path.parts
        and any(block.kind == "sh" for block in blocks(path.read_text("utf-8")))
    }
    # The conformance suite is a program that cannot be installed here, and measuring takes long.
    with_commands -= {"docs/conformance.md", "docs/performance.md", "docs/reliability.md"}
    # tests/docs/test_tokens_page.py follows that page, with a server in production, and
    # tests/docs/test_accounts_page.py the other, with one that has accounts.
    with_commands -= {"docs/tokens.md", "docs/accounts.md"}
    with_commands -= {"docs/webhooks.md"}  # tests/docs/test_webhooks_page.py
    with_commands -= {"docs/shop.md"}  # tests/docs/test_shop.py serves its application
    assert with_commands == {
        "CONTRIBUTING.md",
        "README.md",
        "docs/bots.md",
        "docs/commands.md",
        "docs/configuration.md",
        "docs/database.md",
        "docs/embedding.md",
        "docs/operations.md",
        "docs/operators.md",
        "docs/tracing.md",
    }


def test_the_measurements_of_the_performance_page_have_that_command() -> None:
    page = (ROOT / "docs/performance.md").read_text("utf-8")
    assert "python -m loadtest page --measure" in page
    command = [sys.executable, "-m", "loadtest", "page", "--help"]
    assert "--measure" in subprocess.check_output(command, cwd=ROOT, text=True)


@pytest.mark.parametrize(
    ("document", "index_status"), [("README.md", 200), ("docs/embedding.md", 404)]
)
def test_embedding_snippet(document: str, index_status: int) -> None:
    """The application of a page serves its own route and the chat."""
    text = (ROOT / document).read_text("utf-8")
    [snippet] = [b.text for b in blocks(text) if b.kind == "python" and "ChatServer" in b.text]
    probe = f"""
async def main() -> None:
    async with app.test_app() as running:
        client = running.test_client()
        assert (await client.get("/")).status_code == {index_status}
        assert (await client.get("/health/ready")).status_code == 200
        assert await (await client.post("/orders")).get_json() == {{"seq": 1}}
        assert await (await client.post("/orders")).get_json() == {{"seq": 2}}

import asyncio
asyncio.run(main())
"""
    subprocess.run(
        [sys.executable, "-c", snippet + probe],
        cwd=ROOT,
        env={"CHAT_ENVIRONMENT": "testing"},
        check=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize(
    ("documented", "actual", "same"),
    [
        ('{"seq":2,"at":…}\n', '{"seq":2,"at":17}', True),
        ('{"seq":2,"at":…}\n', '{"seq":3,"at":17}', False),
        ("14:02:11 alice: hello", "09:59:00 alice: hello", True),
        ("14:02:11 alice: hello", "soon alice: hello", False),
        ("one\n…\n", "one\ntwo\nthree", True),
        ("one", "one\ntwo", False),
    ],
)
def test_comparison(documented: str, actual: str, same: bool) -> None:
    assert matches(documented, actual) == same
