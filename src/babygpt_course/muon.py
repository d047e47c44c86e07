"""Muon: for a matrix, take a step in which every direction is the same size.

The gradient of a matrix is dominated by a few directions. Muon keeps its singular
vectors and sets all singular values to about 1, so that rare directions are learned
too. Jordan et al. 2024, kellerjordan.github.io/posts/muon.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from babygpt_course.errors import ConfigError

# The polynomial a x + b x^3 + c x^5 that moves singular values fastest towards 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(x: Tensor, steps: int = 5) -> Tensor:
    """Matrices (..., m, n) with the same singular vectors and singular values near 1.

    Newton-Schulz: five times an odd polynomial, which acts on the singular values
    alone. They end between about 0.7 and 1.2, which is near enough for a direction.
    """
    a, b, c = COEFFICIENTS
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT  # the smaller Gram matrix is cheaper
    # at least the largest singular value
    size = torch.linalg.matrix_norm(x, keepdim=True)  # (..., 1, 1)
    x = x / size.clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT  # (..., m, m)
        x = a * x + (b * gram + c * gram @ gram) @ x  # (..., m, n)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized. For matrices only: the rest belongs to AdamW.

    The step of a matrix (m, n) is scaled by sqrt(max(1, m / n)), so that one rate fits
    all shapes. `weight_decay` is decoupled, as in AdamW.

    Raises:
        ConfigError: a parameter that is not a matrix.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ConfigError(
                        "Muon is for matrices; got a parameter of shape "
                        f"{tuple(p.shape)}. Give it to AdamW."
                    )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every matrix that has a gradient.

        A closure computes the gradients first; the loss that it gives is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            # to orthogonalize them at once
            same_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    same_shape[p.shape].append(p)
            for (m, n), matrices in same_shape.items():
                updates = torch.stack([self._direction(p, momentum) for p in matrices])
                # bfloat16 is precise enough; on a CPU it is rarely faster.
                work = torch.bfloat16 if updates.is_cuda else updates.dtype
                updates = orthogonalize(updates.to(work)).to(updates.dtype)
                for p, update in zip(matrices, updates):
                    p.mul_(1 - lr * group["weight_decay"])
                    p.add_(update, alpha=-lr * max(1, m / n) ** 0.5)
        return loss

    def _direction(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The running mean of the gradients, looking one step ahead (Nesterov)."""
        assert p.grad is not None  # `step` leaves out the others
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum)
