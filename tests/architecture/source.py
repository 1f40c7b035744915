"""Read a package's source without importing it: modules, imports, lines of code."""

import ast
import io
import tokenize
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "chat_server"


@dataclass(frozen=True)
class Module:
    """One source file; `name` is dotted and relative to the package, "" for its root."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def parent(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Import:
    """One imported module: dotted and relative to the package if internal, else its top level."""

    target: str
    internal: bool
    line: int


def read(folder: Path) -> list[Module]:
    """Parse every Python file of a package's folder."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path, ast.parse(path.read_text("utf-8"), str(path))))
    return modules


def imports(module: Module, known: Set[str]) -> Iterator[Import]:
    """Yield what a module imports, at the top and within functions alike.

    Args:
        module: the importing module.
        known: the names of all modules, to tell `from .a import b` apart: a module `b` or a name.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _import(alias.name, node.lineno, known)
        elif isinstance(node, ast.ImportFrom):
            base = f"{_base(module, node.level)}{node.module or ''}".rstrip(".")
            for alias in node.names:
                yield _import(f"{base}.{alias.name}", node.lineno, known)


def _base(module: Module, level: int) -> str:
    """Return the absolute package that `level` dots stand for, with a dot at its end."""
    if level == 0:
        return ""
    parents = module.parent.split(".") if module.parent else []
    climbed = level - 1
    if climbed > len(parents):
        raise ImportError(f"{module.path}: relative import beyond the package")
    return ".".join([PACKAGE, *parents[: len(parents) - climbed]]) + "."


def _import(dotted: str, line: int, known: Set[str]) -> Import:
    top, _, rest = dotted.partition(".")
    if top != PACKAGE:
        return Import(top, internal=False, line=line)
    while rest not in known:
        rest = rest.rpartition(".")[0]
    return Import(rest, internal=True, line=line)


def count_code(source: str) -> int:
    """Return the lines with code on them: not blank, and more than a comment or a docstring.

    A statement over three lines counts as three.
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        # A string by itself is a docstring, also one that describes a constant, below it.
        if isinstance(node, ast.Expr) and _is_string(node.value):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def _is_string(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
