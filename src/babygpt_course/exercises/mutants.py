"""Every version of a piece of code that differs from it by one small change."""

import ast
from collections.abc import Iterator
from typing import Any

# Node, statement, and where it stands: parent, field, index in a list.
Place = tuple[ast.stmt | None, ast.AST, str, int | None, ast.AST]
# Any: operators, comparisons, and and/or are three types, each with its own places.
_OPERATORS: dict[type[Any], list[type[Any]]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}
_PAIRS = "mean sum, max min, zeros ones, log log2, exp exp2, softmax log_softmax"
_PAIRS += ", zeros_like ones_like, tril triu, argmax argmin, inf nan"
_NAMES = {
    a: b for pair in _PAIRS.split(", ") for a, b in [pair.split(), pair.split()[::-1]]
}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(the changed statement, the changed source) of each; the first tells the change."""
    tree = ast.parse(source)
    unchanged, seen = ast.unparse(tree), set()
    for statement, parent, field, index, node in list(_places(tree)):
        for change in _changes(node):
            _put(parent, field, index, change)
            text = ast.unparse(tree)
            after = _first_line(change if node is statement else statement)
            _put(parent, field, index, node)
            if text not in seen and text != unchanged:
                seen.add(text)
                yield _label(_first_line(statement), after), text


def _first_line(node: ast.AST | None) -> str:
    return ast.unparse(node).split("\n")[0] if node else ""


def _label(before: str, after: str) -> str:
    """The statement after the change; of a long one the part around the change."""
    if not after:
        return f"(dropped) {before[:80]}{' ...' * (len(before) > 80)}"
    if len(after) <= 100:
        return after
    at = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), len(after))
    start, end = max(at - 40, 0), at + 40
    return f"{'... ' * (start > 0)}{after[start:end]}{' ...' * (end < len(after))}"


def _places(node: ast.AST, statement: ast.stmt | None = None) -> Iterator[Place]:
    """Each node below with its statement and its place; no annotations, no docstrings."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment"):
            continue
        for index, child in (
            enumerate(value) if isinstance(value, list) else [(None, value)]
        ):
            if (
                not isinstance(child, ast.AST)
                or isinstance(child, ast.expr_context)
                or _is_docstring(child)
            ):
                continue
            here = child if isinstance(child, ast.stmt) else statement
            yield here, node, field, index, child
            yield from _places(child, here)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST | None) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node if node is not None else ast.Pass()


def _changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """The nodes that may stand in this one's place; None drops a statement."""
    match node:
        case (
            ast.Import()
            | ast.ImportFrom()
            | ast.FunctionDef()
            | ast.ClassDef()
            | ast.Pass()
        ):
            return
        case ast.AugAssign(target, op, value):
            yield None
            for other in _OPERATORS.get(type(op), ()):
                yield ast.AugAssign(target, other(), value)
        case ast.stmt():
            yield None
        case ast.BinOp(left, op, right):
            for other in _OPERATORS.get(type(op), ()):
                yield ast.BinOp(left, other(), right)
        case ast.BoolOp(op, values):
            for other in _OPERATORS[type(op)]:
                yield ast.BoolOp(other(), values)
        case ast.Compare(left, [op], right):
            for other in _OPERATORS.get(type(op), ()):
                yield ast.Compare(left, [other()], right)
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Subscript(value, ast.Tuple([first, second]), ctx):
            yield ast.Subscript(value, ast.Tuple([second, first], ast.Load()), ctx)
        case ast.Slice(lower, upper, step):
            if lower:
                yield ast.Slice(None, upper, step)
            if upper:
                yield ast.Slice(lower, None, step)
            if step:
                yield ast.Slice(lower, upper, None)
        case ast.Call(function, args, keywords):
            for i in range(len(keywords)):
                yield ast.Call(function, args, keywords[:i] + keywords[i + 1 :])
            for i in range(len(args) - 1):
                yield ast.Call(
                    function,
                    [*args[:i], args[i + 1], args[i], *args[i + 2 :]],
                    keywords,
                )
        case ast.Attribute(value, name, ctx) if name in _NAMES:
            yield ast.Attribute(value, _NAMES[name], ctx)
