"""What the package imports is installed with it, not just by luck beside it."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

from packaging.requirements import Requirement

from ..architecture.source import PACKAGE, ROOT

IMPORT_ALL = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # which makes importing them fail
import {PACKAGE}
for module in pkgutil.walk_packages({PACKAGE}.__path__, "{PACKAGE}."):
    # The second is run by Alembic alone, the third imported for the extra `tracing` alone.
    if not module.name.endswith(("__main__", "migrations.env", "tracing.tracing")):
        importlib.import_module(module.name)
"""


def closure(requirements: list[str]) -> set[str]:
    """Return the distributions that installing `requirements` brings here."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        key = (_normal(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(wanted.name) or ():
            needed = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *wanted.extras)]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append(needed)
    return {name for name, _ in seen}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared_by_somebody() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = closure(project["dependencies"]) | {project["name"]}
    undeclared = [
        name
        for name, providers in metadata.packages_distributions().items()
        if not declared & set(map(_normal, providers))
    ]
    command = [sys.executable, "-c", IMPORT_ALL, *undeclared]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_constraints_pin_every_dependency_of_the_project_and_its_tests() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    pinned = dict(line.split("==") for line in lines)
    assert list(pinned) == sorted(pinned)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[_normal(requirement.name)]), requirement
    assert closure(wanted) <= set(pinned)
