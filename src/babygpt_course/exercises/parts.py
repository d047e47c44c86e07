"""What a case of an exercise hands out besides tensors: layers, and weights by name.

Both show themselves as the code that makes them, so that a failing case can be pasted.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Part(nn.Module):
    """A layer of a model, written as the code of a function. A copy is the same part."""

    def __init__(self, code: str):
        super().__init__()
        self.code = code
        self.function = eval(code, {"torch": torch})

    def forward(self, x: Any) -> Any:
        """What the function makes of x."""
        return self.function(x)

    def __deepcopy__(self, memo: dict[int, Any]) -> Part:
        return self

    def __repr__(self) -> str:
        return self.code


class Weights(UserDict[str, Tensor]):
    """A dict of tensors, like a state_dict, equal to another if each tensor is."""

    def __init__(self, code: str, tensors: Mapping[str, Tensor]):
        super().__init__(tensors)
        self.code = code

    def __repr__(self) -> str:
        return self.code

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weights) or self.keys() != other.keys():
            return False
        return all(_same(self[name], other[name]) for name in self)


def _same(a: object, b: object) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return False
    return a.dtype == b.dtype and torch.equal(a.detach(), b.detach())
