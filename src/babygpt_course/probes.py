"""Small functions that catch the faults real language-model code ships with.

Each returns evidence: what was looked at, what was found, and whether that is as it should be.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """The finding of a probe. True in an `if` when nothing is wrong."""

    ok: bool
    finding: str
    data: dict = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'ok' if self.ok else 'FAULT'}: {self.finding}"


def distinct(vocabulary: Sequence[str]) -> Evidence:
    """Does a vocabulary list each token once? A repeated token owns rows that nothing can reach."""
    repeated = {token: n for token, n in Counter(vocabulary).items() if n > 1}
    if not repeated:
        return Evidence(True, f"all {len(vocabulary)} entries are distinct")
    token, n = max(repeated.items(), key=lambda item: item[1])
    unreachable = len(vocabulary) - len(set(vocabulary))
    return Evidence(
        False,
        f"{len(vocabulary)} entries but {len(set(vocabulary))} tokens: {unreachable} entries can never be "
        f"used ({token!r} alone is listed {n} times)",
        {"repeated": repeated, "unreachable": unreachable},
    )


def rows_trained(before: Tensor, after: Tensor, at_least: float = 0.5) -> Evidence:
    """Which rows of a table (V, ...) did training move? Rows that never moved hold nothing but the start.

    `at_least` is the share of rows that must have moved.
    """
    moved = (before != after).flatten(1).any(dim=1)  # (V,)
    n, V = int(moved.sum()), len(moved)
    return Evidence(
        n >= at_least * V,
        f"training moved {n} of {V} rows",
        {"moved": moved.nonzero().flatten().tolist()},
    )


def below_floor(loss: float, floor: float, tolerance: float = 0.0) -> Evidence:
    """Is a held-out loss under the floor of its source? Then the model has seen what it should predict.

    Both in the same unit. `tolerance` allows for the luck of a short text.
    """
    if loss < floor - tolerance:
        return Evidence(
            False,
            f"the loss {loss:.4f} is below the floor {floor:.4f}: no honest model gets there; look for a leak "
            "of the targets into the inputs, or of the test text into the training text",
            {"below_by": floor - loss},
        )
    return Evidence(True, f"the loss {loss:.4f} is {loss - floor:.4f} above the floor {floor:.4f}")
