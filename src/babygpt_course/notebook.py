"""What every notebook of the course begins with."""

import inspect
import platform
from collections.abc import Callable
from typing import Any


def setup(chapter: str, seed: int = 1337) -> None:
    """Seed torch, choose one thread, and print what this notebook runs on.

    One thread, because the models here are tiny: more threads make them slower, and results with one
    thread are the same every time.
    """
    import torch

    from babygpt_course import __version__

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 1 thread"
    )
    print(f"babygpt-course {__version__}, chapter {chapter}; {device}; seed {seed}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")


class Source:
    """Source code, shown with highlighting where the host can."""

    def __init__(self, code: str):
        self.code = code

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}```\n"

    def __repr__(self) -> str:
        return self.code


def show_source(*things: Callable[..., Any]) -> Source:
    """The package's own source of functions or classes: what you read is what runs."""
    return Source(
        "\n".join(inspect.cleandoc("\n" + inspect.getsource(t)) + "\n" for t in things)
    )
