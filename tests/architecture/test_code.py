"""Limits that keep files readable: their length, that of functions, and no state in modules."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .source import PACKAGE, ROOT, count_code, read

MAX_FILE_LINES = 500
MAX_SCRIPT_LINES = 400
"""Of the browser's scripts, which are served as they are."""
MAX_FUNCTION_LINES = 60
MAX_SUPERVISOR_LINES = 300
SOURCE_SUFFIXES = {".py", ".lua", ".js", ".css", ".html"}

MUTABLE = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
MUTABLE_TYPES = {"Counter", "OrderedDict", "defaultdict", "deque", "dict", "list", "set"}


def long_functions(tree: ast.Module) -> Iterator[str]:
    """Yield the functions of more than `MAX_FUNCTION_LINES` lines, docstring included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name}, line {node.lineno}: {lines} lines"


def module_state(tree: ast.Module) -> Iterator[str]:
    """Yield what a module could change at run time: `global`, and containers that are no constants.

    A table in capitals is a constant by agreement.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if statement.value is None or not _is_mutable(statement.value):
            continue
        for target in targets:
            if isinstance(target, ast.Name) and not (target.id.isupper() or target.id == "__all__"):
                yield f"line {statement.lineno}: {target.id}"


def _is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else None
        name = value.func.id if isinstance(value.func, ast.Name) else name
        return name in MUTABLE_TYPES
    return isinstance(value, MUTABLE)


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SOURCE_SUFFIXES:
                yield path


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _files(PACKAGE, "loadtest", "tests")
        if (lines := len(path.read_text("utf-8").splitlines())) > _most_lines(path)
    }
    assert long == {}


def _most_lines(path: Path) -> int:
    is_script = path.suffix == ".js" and path.is_relative_to(ROOT / PACKAGE)
    return MAX_SCRIPT_LINES if is_script else MAX_FILE_LINES


@pytest.mark.parametrize("folder", [PACKAGE, "loadtest"])
def test_functions_are_short(folder: str) -> None:
    found = [
        f"{module.path}: {x}" for module in read(ROOT / folder) for x in long_functions(module.tree)
    ]
    assert found == []


@pytest.mark.parametrize("folder", [PACKAGE, "loadtest"])
def test_modules_hold_no_state(folder: str) -> None:
    found = [
        f"{module.path}: {x}" for module in read(ROOT / folder) for x in module_state(module.tree)
    ]
    assert found == []


def test_the_supervisor_is_small() -> None:
    """What runs in the supervising process once it has sockets; docs/design/workers.md says why."""
    modules = ("supervisor", "process", "hangup")
    lines = {
        name: count_code((ROOT / PACKAGE / "server" / f"{name}.py").read_text("utf-8"))
        for name in modules
    }
    assert sum(lines.values()) <= MAX_SUPERVISOR_LINES, lines


def test_the_checker_counts_lines() -> None:
    def function(lines: int) -> ast.Module:
        return ast.parse("class C:\n  async def f():\n" + "    pass\n" * (lines - 1))

    assert list(long_functions(function(MAX_FUNCTION_LINES))) == []
    assert list(long_functions(function(MAX_FUNCTION_LINES + 1))) == ["f, line 2: 61 lines"]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ("\n# a comment\n\na = 1  # another\n", 1),
        ('"""Two\nlines."""\na = 1\n"""What it is."""\n', 1),
        ('def f() -> None:\n    """Do it."""\n    # like so\n    g(\n        1\n    )\n', 4),
        ('a = """one\n\nthree"""\n', 3),
        ("def f() -> None: ...\n", 1),
    ],
)
def test_the_checker_counts_lines_of_code(source: str, lines: int) -> None:
    assert count_code(source) == lines


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("cache = {}", True),
        ("cache: dict[str, int] = {}", True),
        ("queue = collections.deque(maxlen=3)", True),
        ("seen = set()", True),
        ("def f():\n    global n\n    n = 1", True),
        ("TABLE = {'a': 1}", False),
        ("_TABLE = {'a': 1}", False),
        ("__all__ = ['a']", False),
        ("names = ('a', 'b')", False),
        ("cache: dict[str, int]", False),
        ("def f():\n    cache = {}", False),
    ],
)
def test_the_checker_sees_module_state(source: str, found: bool) -> None:
    assert bool(list(module_state(ast.parse(source)))) == found
