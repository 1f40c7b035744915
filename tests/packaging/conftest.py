"""The package for npm, packed once."""

import json
import shutil
from pathlib import Path

import pytest

from ..architecture.source import ROOT
from ..rig.node import WEB, node
from .programs import run

NPM = ROOT / "packaging" / "npm"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive that `npm pack` makes of copies, so that nothing is written here."""
    node()
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("pack")
    for source in (NPM, WEB):
        shutil.copytree(source, folder / source.relative_to(ROOT))
    [made] = json.loads(run("npm", "pack", "--json", cwd=folder / NPM.relative_to(ROOT)))
    return folder / NPM.relative_to(ROOT) / str(made["filename"])
