"""Node, which runs the browser client without a browser."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "chat_server" / "web"
LEAST_VERSION = 20


def node() -> str:
    """Return the path of Node, or skip the test without a recent Node."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("needs Node: `apt install nodejs`")
    version = subprocess.check_output([path, "--version"], text=True).strip()
    if int(version.removeprefix("v").partition(".")[0]) < LEAST_VERSION:
        pytest.skip(f"needs Node {LEAST_VERSION} or later, and this is {version}")
    return path


def copy_client(folder: Path, *scripts: Path) -> None:
    """Put the browser client and `scripts` into a folder in which `.js` means ES modules."""
    (folder / "package.json").write_text('{"type": "module"}')
    for path in (*WEB.glob("client*.js"), *scripts):
        shutil.copy(path, folder)


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which Node prints only the script's output."""
    return {**os.environ, "NODE_NO_WARNINGS": "1", "NO_COLOR": "1", **variables}
