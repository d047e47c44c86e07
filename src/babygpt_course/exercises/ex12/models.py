"""Models to count in: parameters and buffers of given shapes under given names."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Shapes = dict[str, tuple[int, ...]]


class Model(nn.Module):
    """A model that has shapes and computes nothing. A copy is the same model.

    `shapes`: the shape of each parameter by its dotted name. `tied`: more names of a
    parameter that is there already. `buffers`: tensors that no training changes.
    """

    def __init__(
        self,
        shapes: Shapes,
        tied: dict[str, str] | None = None,
        buffers: Shapes | None = None,
    ):
        super().__init__()
        self.told = (shapes, tied, buffers)
        made: dict[str, nn.Parameter] = {}
        for name, shape in shapes.items():
            numbers = torch.zeros(()).expand(shape)  # one number in memory
            made[name] = nn.Parameter(numbers, requires_grad=True)
            self._put(name).register_parameter(name.split(".")[-1], made[name])
        for name, other in (tied or {}).items():
            self._put(name).register_parameter(name.split(".")[-1], made[other])
        for name, shape in (buffers or {}).items():
            self._put(name).register_buffer(
                name.split(".")[-1], torch.zeros(()).expand(shape)
            )

    def _put(self, name: str) -> nn.Module:
        """The module that holds a dotted name, made on the way if it is not there."""
        place: nn.Module = self
        for piece in name.split(".")[:-1]:
            if piece not in place._modules:
                place.add_module(piece, nn.Module())
            place = place.get_submodule(piece)
        return place

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self

    def __repr__(self) -> str:
        shapes, tied, buffers = self.told
        more = f", tied={tied}" * bool(tied) + f", buffers={buffers}" * bool(buffers)
        return f"Model({shapes}{more})"
