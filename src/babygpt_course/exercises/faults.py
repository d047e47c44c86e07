"""What can be wrong with any function, whatever the exercise, and how to say it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from babygpt_course.exercises.result import Outcome
from babygpt_course.exercises.running import (
    CALL_SECONDS,
    Endless,
    Function,
    Run,
    copies,
    run,
)
from babygpt_course.exercises.show import LONG, SMALL, dtype, kind, names, show, whole

if TYPE_CHECKING:
    from babygpt_course.exercises.exercise import Case

NON_CONTIGUOUS = "not contiguous in memory"  # the trait of a case


class Fault(NamedTuple):
    """A message: its id, what happened, and what to think about."""

    id: str
    says: str
    think: str

    @property
    def outcome(self) -> Outcome:
        """Which of the six outcomes the message belongs to."""
        return _OUTCOMES.get(self.id, Outcome.WRONG_TYPE)


_OUTCOMES = {
    "wrong-value": Outcome.WRONG_VALUE,
    "modified-input": Outcome.WRONG_VALUE,
    "non-contiguous": Outcome.WRONG_VALUE,
    "no-gradient": Outcome.WRONG_VALUE,
    "wrong-gradient": Outcome.WRONG_VALUE,
    "endless": Outcome.TOO_SLOW,
    "out-of-memory": Outcome.TOO_SLOW,
}

BY_HAND = (
    "This case is small enough to do on paper, one step at a time. At which step does "
    "your code part from it?"
)
HOW_LARGE = (
    "How many numbers does the largest tensor hold that your function makes on the way?"
)
OWN_COPY = (
    "Whoever calls it still needs what it handed in. `append`, `pop`, `sort`, `del x[i]` "
    "and `x[i] = ...` write into the very object they are given. Build a new one, or work "
    "on a copy of your own, such as `list(x)` or `dict(x)`."
)
STRIDES = Fault(
    "non-contiguous",
    "The same numbers give another result when the input is a strided view, such as "
    "`x[::2]` or `x.T`, instead of one block of memory.",
    "Which operation looks at the memory instead of at the tensor? `view`, `data_ptr`, "
    "`storage` and `as_strided` do. Indexing, arithmetic and `reshape` do not.",
)
REMEMBERS = Fault(
    "remembers",
    "The same call gives one result the first time and another one later: your function "
    "keeps something between calls.",
    "A global variable, or a default argument such as `counts={}`, lives on after the "
    "call. Make everything that the function changes inside the function.",
)
_HELP = {
    IndexError: "Which index is it, and how long is the thing it goes into? The input "
    "above is enough to see it.",
    KeyError: "Which key is asked for, and what put the keys there?",
    NameError: "Is a name misspelled, or made in a cell that has not run yet? Run the "
    "notebook from the top.",
    UnboundLocalError: "Does every path through the function give that name a value "
    "before it is used?",
    ZeroDivisionError: "What is the number below the line for this input, and what "
    "should the result be then?",
    AttributeError: "Print `type(...)` of the thing before the dot.",
    TypeError: "Print `type(...)` of each value on that line. Is one of them None, or a "
    "tensor where a number is needed?",
    RecursionError: "A function that calls itself needs a case in which it does not.",
    AssertionError: "Your own assert says no for this input. Is the assert right, or "
    "the code before it?",
    RuntimeError: "Print the `.shape` and `.dtype` of each tensor on that line. Do they "
    "fit together?",
    Exception: "Call your function on the input above in a cell of its own, and print "
    "what it holds line by line.",
}


def is_stub(mine: Run) -> bool:
    """Is this the stub's `raise NotImplementedError`? PyTorch raises it too, with a
    reason.
    """
    bare = not words(mine.error) or mine.line.startswith("raise")
    return isinstance(mine.error, NotImplementedError) and bare


def stub_inside(mine: Run, function: Function) -> str:
    """The name of a helper that is still a stub, where the answer itself is none."""
    frames = traceback.extract_tb(mine.error.__traceback__) if mine.error else []
    own = {"forward", "__call__", getattr(function, "__name__", "")}
    return frames[-1].name if len(frames) > 2 and frames[-1].name not in own else ""


def words(error: BaseException | None) -> str:
    """What an error says, even if its own __str__ fails."""
    try:
        return str(error)
    except Exception:
        return ""


def fault(
    function: Function, oracle: Function, case: Case, mine: Run, truth: Run
) -> Fault | None:
    """What is wrong with one call of the learner's function, or None."""
    found = (
        stopped(mine, oracle)
        or changed(mine, oracle)
        or compare(truth.value, mine.value, *tolerance(case.args, truth.value))
    )
    if found and case.trait == NON_CONTIGUOUS:
        why = f"{STRIDES.says} {found.says}" if mine.error else STRIDES.says
        return STRIDES._replace(says=why)
    return found or gradient_fault(function, oracle, case)


def stopped(mine: Run, oracle: Function) -> Fault | None:
    """An error, in words, with the learner's line."""
    error, name = mine.error, type(mine.error).__name__
    if error is None:
        return None
    if isinstance(error, Endless):
        says = f"Your function was stopped after {CALL_SECONDS:.0f} seconds, on a tiny case."
        return Fault("endless", says, "Is there a loop whose end is never reached?")
    reason = words(error).strip().split("\n")[0].rstrip(".")
    if isinstance(error, TypeError) and not mine.entered:
        asked = f"{oracle.__name__}({', '.join(names(oracle))})"
        says = f"Your function cannot be called as `{asked}`: {reason}."
        think = "Which parameters does the stub have, and in which order?"
        return Fault("wrong-arguments", says, think)
    where = f" on your line `{mine.line}`" if mine.line else ""
    says = f"Your function stopped{where}: {name}{': ' * bool(reason)}{reason}."
    if isinstance(error, MemoryError) or "allocate memory" in reason:
        return Fault("out-of-memory", says, HOW_LARGE)
    think = next((_HELP[t] for t in type(error).__mro__ if t in _HELP), BY_HAND)
    return Fault("raised", says, think)


def changed(mine: Run, oracle: Function) -> Fault | None:
    """Did the function write into its input?"""
    if mine.changed is None:
        return None
    name = names(oracle)[mine.changed]
    is_tensor = isinstance(mine.args[mine.changed], Tensor)
    holds = "other numbers" if is_tensor else "something else"
    says = f"Your function changes its input: after the call `{name}` holds {holds}."
    if not is_tensor:
        return Fault("modified-input", says, OWN_COPY)
    think = (
        "Whoever calls it still needs that tensor. `x += 1`, `x[...] = 1` and methods "
        "that end in `_` write into the tensor they are given, and a slice such as "
        "`x[:-1]` is a window on it, not a copy. Compute a new tensor, or `clone()` first."
    )
    return Fault("modified-input", says, think)


def tolerance(args: tuple[object, ...], expected: object) -> tuple[float, float]:
    """(relative, absolute): what the least precise tensor involved can promise."""
    tensors = [a for a in (*args, expected) if isinstance(a, Tensor)]
    coarse = any(t.dtype == torch.float32 for t in tensors)
    return (1e-4, 1e-6) if coarse else (1e-6, 1e-9)


def compare(
    expected: object,
    got: object,
    rtol: float = 0.0,
    atol: float = 0.0,
    nan: bool = False,
) -> Fault | None:
    """The first thing wrong about a value, or None; with `nan`, nan equals nan."""
    if got is None:
        says = "Your function gives nothing back: it returns None."
        think = "Does every path end in `return`? Printing a value does not return it."
        return Fault("returned-none", says, think)
    if isinstance(expected, Tensor):
        return compare_tensors(expected, got, rtol, atol, nan)
    if isinstance(expected, float):
        return compare_numbers(expected, got, rtol, atol, nan)
    if isinstance(expected, tuple) and any(isinstance(e, Tensor) for e in expected):
        return compare_results(expected, got, rtol, atol, nan)
    if isinstance(expected, (list, dict, tuple)):
        return compare_containers(expected, got)
    if type(expected) is not type(got):
        says = f"The answer should be {kind(expected)}; this is {kind(got)}."
        return Fault("wrong-type", says, "What does `return` give back?")
    return (
        None if expected == got else Fault("wrong-value", "This is not right.", BY_HAND)
    )


def compare_results(
    expected: tuple[Any, ...], got: object, rtol: float, atol: float, nan: bool
) -> Fault | None:
    """Several results, tensors among them: each by itself; a list of them will do."""
    n = len(expected)
    if not isinstance(got, (tuple, list)) or len(got) != n:
        have = f"{len(got)}" if isinstance(got, (tuple, list)) else kind(got)
        says = f"The function should give back {n} results; this is {have}."
        return Fault("wrong-type", says, "What stands after `return`?")
    for i, (e, g) in enumerate(zip(expected, got), 1):
        if found := compare(e, g, rtol, atol, nan):
            return found._replace(says=f"Result {i} of {n}: {found.says}")
    return None


def compare_containers(expected: Any, got: object) -> Fault | None:
    """A list, a dict or a tuple of plain things: its kind, the kinds in it, the values."""
    if odd := odd_kind(expected, got):
        where, want, have = odd
        says = f"The answer should be {want}; this is {have}."
        if where:
            says = f"The answer should hold {want} {where}; yours holds {have} there."
        return Fault("wrong-type", says, "What does `return` give back?")
    if expected == got:
        return None
    think = BY_HAND if len(whole(expected)) <= LONG else "Start with a shorter input."
    return Fault("wrong-value", "This is not right.", think)


def odd_kind(
    expected: Any, got: Any, where: str = "", depth: int = 3
) -> tuple[str, str, str] | None:
    """(where, expected kind, kind) of the first thing of another kind, or None.

    A subclass is as good, such as a Counter for a dict; and any whole number for an int.
    """
    wanted: Any = Integral if isinstance(expected, int) else type(expected)
    fits = isinstance(got, wanted) and not isinstance(got, Tensor)
    if not fits:
        return where, kind(expected), kind(got)
    if not depth or not isinstance(expected, (list, dict, tuple)):
        return None
    if isinstance(expected, dict):
        one = next(iter(expected), None)  # what a key looks like
        for key in [k for k in got if expected and k not in expected]:
            if found := odd_kind(one, key, depth=depth - 1):
                return f"among the keys {where}".strip(), *found[1:]
        both = [(k, expected[k], got[k]) for k in expected if k in got]
    else:
        both = [(i, e, g) for i, (e, g) in enumerate(zip(expected, got))]
    for key, e, g in both:
        here = f"{where or 'at '}[{show(key)}]"
        if found := odd_kind(e, g, here, depth - 1):
            return found
    return None


def compare_tensors(
    expected: Tensor, got: object, rtol: float, atol: float, nan: bool
) -> Fault | None:
    """Kind, shape, dtype and numbers of a tensor, in this order."""
    if not isinstance(got, Tensor):
        says = f"The answer should be {kind(expected)}; this is {kind(got)}."
        think = "`torch.tensor(...)` makes a tensor of numbers in lists."
        return Fault("wrong-type", says, think)
    if got.shape != expected.shape:
        shapes = f"expected {tuple(expected.shape)}, yours is {tuple(got.shape)}"
        think = (
            "Write the shape behind each line as a comment. Which line makes it another "
            "one than you think?"
        )
        return Fault("wrong-shape", f"The shape is wrong: {shapes}.", think)
    if got.dtype != expected.dtype:
        want, have = dtype(expected), dtype(got)
        says = f"The numbers have the wrong dtype: expected {want}, yours is {have}."
        think = f"On which line do they become {have}? Make them {want} there."
        return Fault("wrong-dtype", says, think)
    if got.layout != expected.layout or got.is_meta:
        says = "The answer should be an ordinary tensor; this is a sparse or empty one."
        return Fault("wrong-type", says, "`.to_dense()` makes an ordinary one of it.")
    mine, truth = got.detach().cpu(), expected.detach()
    if torch.allclose(mine, truth, rtol, atol, equal_nan=nan):
        return None
    if truth.is_floating_point() and torch.allclose(mine, truth, 1e-5, 1e-7):
        says = "The numbers are right to six digits, and then they part."
        think = (
            "Somewhere they became float32. Which line makes a tensor without a dtype?"
        )
        return Fault("wrong-value", says, think)
    if mine.is_floating_point() and mine.isnan().any() and not truth.isnan().any():
        says = "There is nan in the result, which is no number at all."
        think = (
            "nan comes from 0 / 0, 0 * inf or inf - inf. Which of them can happen here?"
        )
        return Fault("wrong-value", says, think)
    small = expected.numel() <= SMALL
    think = (
        BY_HAND
        if small
        else "Write the plain loop, and compare with it on small cases."
    )
    return Fault("wrong-value", "The numbers are not right.", think)


def compare_numbers(
    expected: float, got: Any, rtol: float, atol: float, nan: bool
) -> Fault | None:
    """One number: also a tensor, or an array of numpy's, that holds just one."""
    says = f"The answer should be one number; this is {kind(got)}."
    try:
        if hasattr(got, "item"):  # a tensor, or something of numpy's
            if getattr(got, "size", 0) != 1 and getattr(got, "numel", lambda: 0)() != 1:
                think = "What turns many numbers into one here: a sum, or a mean?"
                return Fault("wrong-shape", says, think)
            got = got.item()
        number = None if isinstance(got, (str, complex)) else float(got)
    except Exception:
        number = None
    if number is None:
        return Fault("wrong-type", says, "What does `return` give back?")
    if math.isnan(number) and not math.isnan(expected) and not nan:
        says = "The result is nan, which is no number at all."
        think = (
            "nan comes from 0 * inf, inf - inf or 0 / 0. Where can a 0 meet an infinite "
            "logarithm in your function?"
        )
        return Fault("wrong-value", says, think)
    if math.isclose(
        number, expected, rel_tol=rtol, abs_tol=atol
    ):  # inf is close to inf
        return None
    if nan and math.isnan(number) and math.isnan(expected):
        return None
    return Fault("wrong-value", "The number is not right.", BY_HAND)


def first_difference(expected: object, got: object) -> tuple[str, str] | None:
    """For values too large to print: the first place where they differ, on both sides."""
    if isinstance(expected, (list, dict, tuple)):
        long = max(len(whole(expected)), len(whole(got))) > LONG
        return difference(expected, got) if long else None
    if compare(expected, got, *tolerance((), expected)) is None or not (
        isinstance(expected, Tensor)
        and isinstance(got, Tensor)
        and expected.shape == got.shape
        and expected.numel() > SMALL
    ):
        return None
    got, expected = got.detach().cpu(), expected.detach()
    same = torch.isclose(got.double(), expected.double(), *tolerance((), expected))
    if same.all():
        return None
    at = tuple((~same).nonzero()[0].tolist())
    place = f"at [{', '.join(map(str, at))}]: "
    return place + show(expected[at].item()), place + show(got[at].item())


def difference(expected: Any, got: Any, where: str = "") -> tuple[str, str] | None:
    """The first place where lists, dicts or tuples differ, on both sides."""

    def at(value: object) -> str:
        return f"at {where}: {show(value)}" if where else show(value)

    dicts = isinstance(expected, dict) and isinstance(got, dict)
    rows = isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple))
    if not dicts and not rows:
        same = compare(expected, got, *tolerance((), expected)) is None
        return None if same else (at(expected), at(got))
    keys = [*expected, *got] if dicts else range(max(len(expected), len(got)))
    for key in keys:
        has, mine = (key in v if dicts else key < len(v) for v in (expected, got))
        here = f"{where}[{show(key)}]"
        if has and mine:
            if found := difference(expected[key], got[key], here):
                return found
        else:
            a, b = (
                show(v[key]) if h else "nothing"
                for v, h in ((expected, has), (got, mine))
            )
            return f"at {here}: {a}", f"at {here}: {b}"
    return None


def behaves_like(function: Function, runs: list[Run], cases: list[Case]) -> bool:
    """Does `function` do on every case what these runs did?"""
    if not runs:
        return False
    pairs = zip(runs, cases)
    return all(alike(mine, run(function, case.args), case) for mine, case in pairs)


def changes(first: Run, runs: list[Run], case: Case) -> bool:
    """Did the same call give another result the second time?"""
    plain = (Tensor, float, int, list, dict, tuple)
    if not runs or not isinstance(first.value, plain) or first.error or runs[0].error:
        return False
    a, b = (
        float(r.value) if isinstance(r.value, (float, int)) else r.value
        for r in (first, runs[0])
    )
    return compare(a, b, *tolerance(case.args, a), nan=True) is not None


def alike(a: Run, b: Run, case: Case) -> bool:
    """Did two runs of a case do the same: value, error, and what they wrote into?"""
    if a.error or b.error:
        return type(a.error) is type(b.error) and words(a.error) == words(b.error)
    if a.changed != b.changed or b.value is None:
        return False
    return compare(b.value, a.value, *tolerance(case.args, b.value), nan=True) is None


def gradient_fault(function: Function, oracle: Function, case: Case) -> Fault | None:
    """Where a case asks for it: do gradients flow, and are they the oracle's?"""
    if not case.gradient:
        return None
    mine, truth = gradients(function, case.args), gradients(oracle, case.args)
    think = (
        "`.item()`, `.detach()`, `.data`, `torch.tensor(...)` and numpy cut the way back, "
        "and so does `x += ...` where the old x is still needed. Is one of them in your "
        "function?"
    )
    if mine is None:
        says = (
            "The values are right, but no gradient flows back: this cannot be trained."
        )
        return Fault("no-gradient", says, think)
    assert truth is not None  # the oracle of a case with gradients has them
    if all(torch.allclose(m, t, *tolerance(case.args, t)) for m, t in zip(mine, truth)):
        return None
    says = "The values are right, but the gradient is not: one way back is cut."
    return Fault("wrong-gradient", says, think)


def gradients(function: Function, args: tuple[Any, ...]) -> list[Tensor] | None:
    """Of a fixed mix of the outputs, with respect to each floating-point argument, or to
    those in an argument that holds weights by name.
    """
    own = copies(args)
    each = (t for a in own for t in (a.values() if isinstance(a, Mapping) else (a,)))
    floats = (t for t in each if isinstance(t, Tensor) and t.is_floating_point())
    wanted = [t.requires_grad_() for t in floats]

    def mixed(*own: Any) -> tuple[Tensor, ...]:
        out = function(*own)
        mix = torch.arange(1.0, out.numel() + 1, dtype=out.dtype).sin().view(out.shape)
        return torch.autograd.grad((out * mix).sum(), wanted, allow_unused=True)

    got = run(mixed, own, copy=False)
    if got.error:
        return None
    return [torch.zeros_like(a) if g is None else g for a, g in zip(wanted, got.value)]
