"""rotary.mjs: the angles of rotary positions, and turning queries and keys by them."""

import torch

from babygpt_course.attention import split_heads
from babygpt_course.llama import apply_rotary, rotary_table


def angles(D: int, length: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The table in float64, from the formula of Su et al. 2021, section 3.2.2."""
    i = torch.arange(0, D, 2, dtype=torch.float64)
    position = torch.arange(length, dtype=torch.float64)
    angle = position[:, None] * theta ** (-i / D)
    cos, sin = angle.cos(), angle.sin()
    package = rotary_table(D, length, theta)  # float32
    assert torch.allclose(package[0].double(), cos, atol=1e-4)
    assert torch.allclose(package[1].double(), sin, atol=1e-4)
    return cos, sin


def turned(
    T: int, H: int, D: int, start: int, theta: float, generator: torch.Generator
) -> dict:
    """x (T, H D) at positions start, start + 1, ...: what the package makes of it."""
    x = torch.randn(T, H * D, dtype=torch.float64, generator=generator)
    cos, sin = angles(D, start + T, theta)
    heads = split_heads(x[None], H)  # (1, T, H D) -> (1, H, T, D)
    y = apply_rotary(heads, cos[start:], sin[start:])
    y = y.transpose(1, 2).flatten(2)[0]  # (1, H, T, D) -> (T, H D)
    return {"H": H, "D": D, "start": start, "theta": theta, "x": x, "y": y}


def golden() -> dict:
    generator = torch.Generator().manual_seed(15)
    tables = []
    for D, length, theta in ((2, 5, 10_000.0), (8, 20, 10_000.0), (32, 256, 500.0)):
        cos, sin = angles(D, length, theta)
        tables.append({"D": D, "theta": theta, "cos": cos, "sin": sin})
    shapes = (
        (1, 1, 2, 0, 10_000.0),
        (7, 3, 8, 0, 10_000.0),
        (4, 2, 6, 9, 500.0),
        (1, 4, 16, 100, 10_000.0),
    )
    return {"tables": tables, "runs": [turned(*shape, generator) for shape in shapes]}


FAULTS = {
    "the pairs turn the other way": (
        "rotary.mjs",
        "a * cos[n] - b * sin[n]",
        "a * cos[n] + b * sin[n]",
    ),
    "every call starts at position 0": (
        "rotary.mjs",
        "(start + t) * half + (pair % half)",
        "t * half + (pair % half)",
    ),
    "each head has angles of its own": (
        "rotary.mjs",
        "(pair % half)",
        "Math.floor(pair / H)",
    ),
    "the second half of a head in place of the neighbor": (
        "rotary.mjs",
        "const i = t * C + 2 * pair;",
        "const i = t * C + pair;",
    ),
    "rates without the 2": ("rotary.mjs", "(-2 * i) / D", "-i / D"),
    "theta is always the paper's": (
        "rotary.mjs",
        "rate(D, n % half, theta)",
        "rate(D, n % half)",
    ),
}
