"""Values as a learner would type them, short enough to read."""

import inspect

import torch
from torch import Tensor

from babygpt_course.exercises.running import Function

SMALL = 40  # numbers in a tensor that is still written out
LONG = 300  # characters of anything else


def show(value: object, columns: bool = False) -> str:
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
    text = whole(value)
    return text if len(text) <= LONG else text[:LONG] + " ..."


def whole(value: object) -> str:
    """A value as Python code, however long; what a dict or list holds is shown likewise."""
    try:
        if isinstance(value, dict):
            pairs = (f"{show(k)}: {show(v)}" for k, v in value.items())
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, list):
            return f"[{', '.join(map(show, value))}]"
        if isinstance(value, tuple):
            return f"({', '.join(map(show, value))}{',' * (len(value) == 1)})"
        return repr(value)
    except Exception:  # a class of the learner's, or nested beyond measure
        return kind(value)


def number(x: object) -> str:
    """A number as it would be typed: six digits, and a float keeps its point."""
    if not isinstance(x, float):
        return (
            repr(x) if not isinstance(x, int) or abs(x) < 10**300 else "a huge number"
        )
    text = f"{x:.6g}"
    return (
        f"{text}.0" if text.lstrip("-").isdigit() else text
    )  # 2.0 stays a float when it is pasted


def nested(x: object) -> str:
    """Lists of lists of numbers, as they would be typed."""
    return "[" + ", ".join(map(nested, x)) + "]" if isinstance(x, list) else number(x)


def dtype(tensor: Tensor) -> str:
    """The name of a tensor's dtype, such as float32."""
    return str(tensor.dtype).removeprefix("torch.")


def kind(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {dtype(value)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' or name.startswith('nd') else 'a'} {name}"


def call(name: str, args: tuple[object, ...]) -> str:
    """A call that can be pasted into a cell."""
    return f"{name}({', '.join(show(a) for a in args)})"


def names(function: Function) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)
