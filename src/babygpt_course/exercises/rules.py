"""Rules that an answer must keep, such as "no Python loop", read from its code.

The source is parsed where it can be had; else the bytecode is read. Helpers that the
learner wrote beside the function count as part of it.
"""

import ast
import dis
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from babygpt_course.exercises.running import Function

LOOP, WHILE, COMPREHENSION = "a for loop", "a while loop", "a comprehension"
# Modules whose functions are not the learner's own.
LIBRARY = r"torch\b|babygpt_course\.(?!exercises\b)"
_AST_LOOPS: dict[type[ast.AST], str] = {
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

    def broken(self, function: Function) -> tuple[str, str] | None:
        """The first forbidden thing and the learner's line with it, or None."""
        return next(
            ((name, line) for name, line in used(function) if name in self.names), None
        )


def no_loops(think: str) -> Rule:
    """The answer must be vectorized: no loop of any kind in Python."""
    hidden = "map filter reduce starmap accumulate vectorize frompyfunc apply_ map_"
    names = frozenset({LOOP, WHILE, COMPREHENSION, "exec", "eval", *hidden.split()})
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


def used(answer: Function) -> Iterator[tuple[str, str]]:
    """Every loop and every name that an answer and its own helpers use, with the line.

    Local variables do not count: `grad = ...` is only a name. Neither do the names of the
    learner's own helpers: those are read instead.
    """
    bare: Any = answer
    while isinstance(bare, functools.partial):
        bare = bare.func
    if re.match(LIBRARY, getattr(bare, "__module__", None) or ""):  # handed in as it is
        name = getattr(bare, "__name__", type(bare).__name__)
        yield name, f"{name} itself"
    waiting = _functions(answer)
    seen: set[CodeType] = set()
    home: dict[str, object] | None = None
    while waiting:
        f = waiting.pop(0)
        if f.__code__ in seen:
            continue
        seen.add(f.__code__)
        home = f.__globals__ if home is None else home
        around = {**f.__globals__, **_closure(f)}
        for name, line, variable in _from_source(f, around) or _from_bytecode(
            f.__code__
        ):
            thing = around.get(name) if variable else None
            own = [g for g in _functions(thing) if g.__globals__ is home]
            waiting += own
            if own:
                continue
            yield name, line
            while isinstance(thing, functools.partial):
                thing = thing.func
            if callable(thing):  # `ce` may be cross_entropy, `loss_fn` an nn.NLLLoss()
                yield getattr(thing, "__name__", type(thing).__name__), line


def _functions(thing: Any) -> list[FunctionType]:
    """The Python functions behind a callable: a function, a partial, a class, an instance."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    try:
        thing = inspect.unwrap(thing)
    except (ValueError, AttributeError):
        pass
    thing = getattr(thing, "__func__", thing)
    if isinstance(thing, FunctionType):
        return [thing]
    if thing is None or not callable(thing):
        return []
    owner = thing if isinstance(thing, type) else type(thing)
    parts = (getattr(part, "__func__", part) for part in vars(owner).values())
    return [part for part in parts if isinstance(part, FunctionType)]


def _closure(f: FunctionType) -> Mapping[str, object]:
    try:
        return inspect.getclosurevars(f).nonlocals if f.__closure__ else {}
    except ValueError:  # a cell that is still empty
        return {}


def _from_source(
    f: FunctionType, around: Mapping[str, object]
) -> list[tuple[str, str, bool]]:
    """(name, line, is it a variable) of everything in the source of f, if it can be had.

    An attribute counts when it is called or belongs to a module: `x.grad` only reads.
    """
    tree: ast.AST
    try:
        source = textwrap.dedent(inspect.getsource(f))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return []
    if f.__name__ == "<lambda>":
        wanted = list(f.__code__.co_varnames[: f.__code__.co_argcount])
        same = (n for n in ast.walk(tree) if isinstance(n, ast.Lambda))
        lambdas = [n for n in same if [a.arg for a in n.args.args] == wanted]
        if len(lambdas) != 1:
            return []
        tree = lambdas[0]
    lines = source.splitlines()
    found: list[tuple[int, str, bool]] = []
    local: set[str] = set()
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name):
                local.add(name)
            case ast.FunctionDef(name):
                local.add(name)
            case ast.Name(name):
                found.append((node.lineno, name, True))
            case ast.Attribute(_, name):
                if id(node) in called or isinstance(
                    around.get(_root(node) or ""), ModuleType
                ):
                    found.append((node.lineno, name, False))
            case ast.stmt() | ast.expr() if type(node) in _AST_LOOPS:
                found.append((node.lineno, _AST_LOOPS[type(node)], False))
    return [
        (name, lines[at - 1].strip(), variable)
        for at, name, variable in sorted(found, key=lambda each: each[0])
        if not (variable and name in local)
    ]


def _root(node: ast.AST) -> str | None:
    """The first name of a dotted one: torch in torch.func.grad."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _from_bytecode(code: CodeType) -> Iterator[tuple[str, str, bool]]:
    where = f"(in {code.co_name})"
    for step in dis.get_instructions(code):
        if step.opname == "FOR_ITER":
            yield LOOP, where, False
        # With exception handlers a backward jump need not be a loop.
        elif "JUMP_BACKWARD" in step.opname and not code.co_exceptiontable:
            yield WHILE, where, False
    for name in code.co_names:
        yield name, where, True
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _from_bytecode(inner)
