"""The random numbers of the live figures, so that a page writes the text that Python writes."""

import torch
from torch import Tensor


def random_numbers(seed: int, n: int) -> Tensor:
    """The first n numbers (n,) in [0, 1) of a seed, float64: mulberry32, as in `figures/runtime/rng.mjs`."""
    word = 0xFFFFFFFF
    state = (seed + torch.arange(1, n + 1) * 0x6D2B79F5) & word  # (n,) the i-th alone
    t = ((state ^ (state >> 15)) * (state | 1)) & word
    t = t ^ ((t + ((t ^ (t >> 7)) * (t | 61))) & word)
    return (t ^ (t >> 14)).double() / 2**32
