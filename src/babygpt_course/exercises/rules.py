"""Rules that an answer must keep, such as "no Python loop", read from its code.

The source is parsed where it can be had; else the bytecode is read. Helpers that the
learner wrote beside the function count as part of it.
"""

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType

LOOP, WHILE, COMPREHENSION = "a for loop", "a while loop", "a comprehension"
_AST_LOOPS = {
    ast.For: LOOP,
    ast.While: WHILE,
    ast.ListComp: COMPREHENSION,
    ast.SetComp: COMPREHENSION,
    ast.DictComp: COMPREHENSION,
    ast.GeneratorExp: COMPREHENSION,
}


@dataclass(frozen=True)
class Rule:
    """Things that the code of an answer must not use, and what to say when it does."""

    id: str
    names: frozenset[str]
    says: str
    think: str

    def broken(self, function: Callable) -> tuple[str, str] | None:
        """The first forbidden thing and the learner's line with it, or None."""
        return next(
            ((name, line) for name, line in used(function) if name in self.names), None
        )


def no_loops(think: str) -> Rule:
    """The answer must be vectorized: no loop of any kind in Python."""
    names = frozenset({LOOP, WHILE, COMPREHENSION, "map", "vectorize"})
    return Rule(
        "python-loop",
        names,
        "The values are right, but the work is done by {name}.",
        think,
    )


def forbid(names: str, think: str) -> Rule:
    """The answer must do without these functions or methods, separated by spaces."""
    says = "The values are right, but `{name}` does what this exercise is about."
    return Rule("forbidden-call", frozenset(names.split()), says, think)


def used(function: Callable) -> Iterator[tuple[str, str]]:
    """Every loop and every name that a function and its own helpers use, with the line.

    Local variables do not count: `grad = ...` is only a name.
    """
    waiting, seen = [inspect.unwrap(function)], set()
    while waiting:
        f = waiting.pop(0)
        f = getattr(f, "__func__", f)
        if not isinstance(f, FunctionType) or f.__code__ in seen:
            continue
        seen.add(f.__code__)
        around = {**f.__globals__, **_closure(f)}
        for name, line in _from_source(f) or _from_bytecode(f.__code__):
            yield name, line
            thing = around.get(name)
            if isinstance(thing, FunctionType) and thing.__globals__ is f.__globals__:
                waiting.append(thing)
            elif callable(thing) and hasattr(thing, "__name__"):
                yield thing.__name__, line  # `from torch... import cross_entropy as ce`


def _closure(f: FunctionType) -> dict:
    return inspect.getclosurevars(f).nonlocals if f.__closure__ else {}


def _from_source(f: FunctionType) -> list[tuple[str, str]]:
    try:
        source = textwrap.dedent(inspect.getsource(f))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return []
    lines, found, local = source.splitlines(), [], set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name):
                local.add(name)
            case ast.Name(name):
                found.append((node.lineno, name, name))
            case ast.Attribute(_, name):
                found.append((node.lineno, name, None))
            case _ if type(node) in _AST_LOOPS:
                found.append((node.lineno, _AST_LOOPS[type(node)], None))
    return [
        (name, lines[at - 1].strip())
        for at, name, variable in sorted(found, key=lambda each: each[0])
        if variable not in local
    ]


def _from_bytecode(code: CodeType) -> Iterator[tuple[str, str]]:
    where = f"(in {code.co_name})"
    for step in dis.get_instructions(code):
        if step.opname == "FOR_ITER":
            yield LOOP, where
        # With exception handlers a backward jump need not be a loop.
        elif "JUMP_BACKWARD" in step.opname and not code.co_exceptiontable:
            yield WHILE, where
    for name in code.co_names:
        yield name, where
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _from_bytecode(inner)
