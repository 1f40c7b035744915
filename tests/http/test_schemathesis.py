"""Schemathesis finds no answer of a server that its OpenAPI document does not allow."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.server import ServerProcess
from tests.rig.tokens import forge

CONFIG = Path(__file__).parent / "schemathesis.toml"
SECONDS = 560.0


# Two thousand requests: half a minute by itself, and much more beside other tests.
@pytest.mark.timeout(600)
@pytest.mark.extra
def test_every_answer_is_one_that_the_document_allows(tmp_path: Path) -> None:
    everything = {
        "CHAT_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}",
        "CHAT_NAMESPACES__DEFAULT__ARCHIVE": "true",
        "CHAT_NAMESPACES__DEFAULT__PRESENCE": "true",
        "CHAT_ACCOUNTS__ENABLED": "on",
        "CHAT_ACCOUNTS__SIGN_UP": "open",
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
        "CHAT_LIMITS__MESSAGES_PER_SECOND": "100000",
        "CHAT_LIMITS__MESSAGE_BURST": "100000",
    }
    grants = ("subscribe", "publish", "history", "presence", "moderate", "admin")
    with ServerProcess(environ=everything) as server:
        token = forge(sub="ada", topics={grant: ["**"] for grant in grants})
        done = subprocess.run(
            [
                # The extra `api` brings it.
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{server.url}/openapi.json", "--no-color"),
                *("--header", f"Authorization: Bearer {token}"),
                *("--phases", "coverage,fuzzing", "--max-examples", "5"),
                "--generation-deterministic",
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
