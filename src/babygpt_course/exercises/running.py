"""Call a learner's function once, safely: copied arguments, a time limit, no printing,
errors as data.
"""

import contextlib
import io
import linecache
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

Function = Callable[..., Any]  # a learner's, or like one
CALL_SECONDS = 10.0  # a call on a small case that takes longer will not end


class Endless(BaseException):
    """The time limit struck. Not an Exception, so that a learner's `except Exception`
    does not catch it.
    """


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Endless in the block after so many seconds. Needs the main thread and a
    Unix; else no limit.
    """
    usable = (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return

    def strike(*_: object) -> NoReturn:
        raise Endless

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, strike)
    # It strikes again and again: a learner's bare `except:` may swallow the first.
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 0.25)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        left = max(outer - (time.monotonic() - began), 0.001) if outer else 0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


@dataclass
class Run:
    """What one call did: a value, or an error; and which argument it changed, if any."""

    value: Any = None
    error: BaseException | None = None
    entered: bool = True  # False when the call itself was refused
    line: str = ""  # the learner's line that raised
    changed: int | None = None
    args: tuple[Any, ...] = ()  # the arguments as they are after the call
    seconds: float = 0.0


def run(function: Function, args: tuple[Any, ...], copy: bool = True) -> Run:
    """Call `function`, on copies of `args` unless told otherwise."""
    own = copies(args) if copy else args
    out = Run(args=own)
    began = time.perf_counter()
    try:
        with usual_settings(), time_limit(CALL_SECONDS), quiet():
            out.value = kept(function(*own))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        out.error, out.line = error, line_of(error, function)
        trace = error.__traceback__
        out.entered = trace is not None and trace.tb_next is not None
    out.seconds = time.perf_counter() - began
    pairs = enumerate(zip(args, own))
    out.changed = next((i for i, (a, b) in pairs if not unchanged(a, b)), None)
    return out


@contextlib.contextmanager
def usual_settings() -> Iterator[None]:
    """Gradients on, float32, CPU; what the notebook or the function sets does not matter,
    and does not stay.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    depth = sys.getrecursionlimit()
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        sys.setrecursionlimit(depth)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No printing and no warnings: the function is called many times."""
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def copies(value: Any) -> Any:
    """A deep copy that keeps the strides of tensors, so that a non-contiguous input
    stays one.
    """
    if isinstance(value, tuple):
        return tuple(copies(v) for v in value)
    if isinstance(value, Tensor):
        extent = (
            1 + sum((n - 1) * step for n, step in zip(value.shape, value.stride()))
            if value.numel()
            else 0
        )
        twin = torch.zeros(extent, dtype=value.dtype).as_strided(
            value.shape, value.stride()
        )
        return twin.copy_(value.detach()).requires_grad_(value.requires_grad)
    return deepcopy(value)


def kept(value: Any) -> Any:
    """A result that later calls cannot change: a list may live on in the function."""
    if not isinstance(value, (list, dict, tuple)):
        return value
    try:
        return deepcopy(value)
    except Exception:  # an unusual thing in it, or nested beyond measure
        return value


def unchanged(before: object, after: object) -> bool:
    """Is `after`, once a copy of `before`, still equal to it?"""
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        a, b = before.detach(), after.detach()
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        both_nan = a.is_floating_point() and torch.allclose(a, b, 0, 0, equal_nan=True)
        return both_nan or torch.equal(a, b)
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            unchanged(before[key], after[key]) for key in before
        )
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) == len(after) and all(map(unchanged, before, after))
    return before == after


def line_of(error: BaseException, function: Function) -> str:
    """The last line of the learner's own code on the way to an error."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    mine = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return (
        (
            mine[-1].line or linecache.getline(mine[-1].filename, mine[-1].lineno or 0)
        ).strip()
        if mine
        else ""
    )
