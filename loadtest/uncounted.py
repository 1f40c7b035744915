"""The hub without the statements that count, to measure the cost of counting."""

import ast
import inspect
from types import ModuleType

from chat_server.realtime import hub, topic
from chat_server.realtime.hub import Hub

from .wire import LoadError

COUNTS = "self._numbers."


class _Uncounted(ast.NodeTransformer):
    """Removes each statement that only counts.

    Attributes:
        found: number of removed statements.
    """

    def __init__(self) -> None:
        self.found = 0

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return self._without(node, node.target)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return self._without(node, node.value)

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        empty = not node.orelse and all(isinstance(each, ast.Pass) for each in node.body)
        return ast.copy_location(ast.Pass(), node) if empty else node

    def _without(self, node: ast.stmt, what: ast.expr) -> ast.AST:
        if not ast.unparse(what).startswith(COUNTS):
            return node
        self.found += 1
        return ast.copy_location(ast.Pass(), node)


def uncounted_hub() -> type[Hub]:
    """Return the class of a hub that delivers as ours does, and counts nothing.

    Raises:
        LoadError: this module does not recognise the hub's way of counting.
    """
    made = _without_counting(hub)
    made.__dict__["Topic"] = _without_counting(topic).__dict__["Topic"]
    found: type[Hub] = made.__dict__["Hub"]
    return found


def _without_counting(module: ModuleType) -> ModuleType:
    tree, remover = ast.parse(inspect.getsource(module)), _Uncounted()
    remover.visit(tree)
    if not remover.found:
        raise LoadError(f"{module.__name__} has no statement with {COUNTS}")
    made = ModuleType(module.__name__)
    made.__dict__["__package__"] = module.__package__
    exec(compile(tree, str(module.__file__), "exec"), made.__dict__)
    return made
