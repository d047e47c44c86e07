"""Values as a learner would type them, short enough to read."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

SMALL = 40  # numbers in a tensor that is still written out


def show(value, columns: bool = False) -> str:
    """A value as Python code; a large tensor in words. `columns` aligns a table's rows."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_meta:
            return kind(value)
        if value.numel() > SMALL:
            layout = "" if value.is_contiguous() else ", not contiguous in memory"
            return f"a tensor of shape {tuple(value.shape)}, {dtype(value)}{layout}"
        usual = value.dtype in (torch.int64, torch.float32)
        tail = "" if usual else f", dtype={value.dtype}"
        if columns and value.ndim == 2 and value.numel():
            cells = [[number(x) for x in row] for row in value.tolist()]
            width = max(len(c) for row in cells for c in row)
            rows = ["[" + ", ".join(c.rjust(width) for c in row) + "]" for row in cells]
            return "tensor([" + ",\n        ".join(rows) + f"]{tail})"
        return f"{'' if columns else 'torch.'}tensor({nested(value.tolist())}{tail})"
    if isinstance(value, (float, int)) and not isinstance(value, bool):
        return number(value)
    try:
        text = repr(value)
    except Exception:  # a class of the learner's, or nested beyond measure
        text = kind(value)
    return text if len(text) <= 300 else text[:300] + " ..."


def number(x) -> str:
    if not isinstance(x, float):
        return (
            repr(x) if not isinstance(x, int) or abs(x) < 10**300 else "a huge number"
        )
    text = f"{x:.6g}"
    return (
        f"{text}.0" if text.lstrip("-").isdigit() else text
    )  # 2.0 stays a float when it is pasted


def nested(x) -> str:
    return "[" + ", ".join(map(nested, x)) + "]" if isinstance(x, list) else number(x)


def dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def kind(value) -> str:
    """What a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {dtype(value)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' or name.startswith('nd') else 'a'} {name}"


def call(name: str, args: tuple) -> str:
    """A call that can be pasted into a cell."""
    return f"{name}({', '.join(show(a) for a in args)})"


def names(function: Callable) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)
