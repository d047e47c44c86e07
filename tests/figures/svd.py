"""svd.mjs: singular values, cuts to a rank and corrections, as torch has them in float64."""

import torch

from tests.figures import Weights, rounded


def golden() -> dict:
    generator = torch.Generator().manual_seed(12)

    def draw(*shape):
        return rounded(torch.randn(shape, generator=generator))

    matrices = {
        "wide": draw(5, 9),
        "tall": draw(11, 4),
        "square": draw(6, 6),
        "a single row": draw(1, 7),
        "rank 2": rounded(draw(6, 2).round() @ draw(2, 8).round()),
        "equal values": 3 * torch.eye(5).double()[:, [4, 0, 1, 3, 2]],
        "nothing": torch.zeros(3, 4).double(),
    }
    known = {}
    for name, W in matrices.items():
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
        ranks = [0, 1, 2, 3, len(S), len(S) + 2]
        unique = {  # between equal values the choice is free
            r: (U[:, :r] * S[:r]) @ Vh[:r]
            for r in ranks
            if r >= len(S) or r == 0 or S[r - 1] - S[r] > 1e-6
        }
        known[name] = {
            "tensors": Weights({"W": W}),
            "s": S,
            "cuts": [{"r": r, "W": W} for r, W in unique.items()],
            "energies": [
                float(S[:r].square().sum() / S.square().sum())
                for r in range(len(S) + 1)
            ]
            if S[0]
            else [],
        }
    A, B, W = draw(3, 8), draw(5, 3), draw(5, 8)
    return {
        "matrices": known,
        "lora": {
            "tensors": Weights({"x.A": A, "x.B": B, "W": W}),
            "product": B @ A,
            "half": W + 0.5 * (B @ A),
        },
    }


FAULTS = {
    "the smallest kept": ("svd.mjs", "sizes[j] - sizes[i]", "sizes[i] - sizes[j]"),
    "turned the wrong way": (
        "svd.mjs",
        "turn(rows[p], rows[q], cos, cos * t)",
        "turn(rows[p], rows[q], cos, -cos * t)",
    ),
    "one sweep": ("svd.mjs", "sweep < 30", "sweep < 1"),
    "turns forgotten": ("svd.mjs", "turn(turns[p], turns[q], cos, cos * t);", ""),
    "squared sizes": (
        "svd.mjs",
        "rows.map((row) => Math.sqrt(dot(row, row)))",
        "rows.map((row) => dot(row, row))",
    ),
    "one piece too many": (
        "svd.mjs",
        "k < Math.min(r, s.length)",
        "k < Math.min(r + 1, s.length)",
    ),
    "sizes left out of the cut": ("svd.mjs", "s[k] * u[k][i]", "u[k][i]"),
    "energy without squares": (
        "svd.mjs",
        "total + x * x, 0);\n  return",
        "total + x, 0);\n  return",
    ),
    "the correction always whole": ("svd.mjs", "x + scale * D", "x + D"),
    "A and B exchanged": ("svd.mjs", '["A", "B"]', '["B", "A"]'),
    "one direction only": ("svd.mjs", "k < r; k++", "k < 1; k++"),
    "tall matrices read as wide": ("svd.mjs", "data[j * n + i]", "data[i * m + j]"),
}
