"""lookup.mjs: the meters of the square root, and the model with a window and one attention layer."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course.attention import MultiHeadAttention
from tests.figures import ready, rounded, taps, weights

NAMES = ["token_embedding", "window", "norm1", "attention", "norm2", "head"]


class Reader(nn.Module):
    """The model of chapter 04."""

    def __init__(self, V: int, C: int):
        super().__init__()
        self.token_embedding = nn.Embedding(V, C)
        self.window = nn.Linear(3 * C, C, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attention = MultiHeadAttention(C, n_head=1, causal=True)
        self.head = nn.Linear(C, V)

    def forward(self, idx):
        e = self.token_embedding(idx)
        last3 = [F.pad(e, (0, 0, n, 0))[:, : e.shape[1]] for n in range(3)]
        x = self.window(torch.cat(last3, dim=-1))
        x = x + self.attention(self.norm1(x))
        return self.head(self.norm2(x))


def meters(scores):
    p = scores.softmax(-1)
    gradient = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return {
        "entropy": float(-torch.xlogy(p, p).sum(-1).mean() / math.log(2)),
        "slope": float(gradient.norm(dim=(-2, -1)).mean()),
        "frozen": float((p.amax(-1) > 0.9).double().mean()),
    }


def golden() -> dict:
    g = torch.Generator().manual_seed(4)
    scores = rounded(5 * torch.randn(40, 8, generator=g))
    model = ready(Reader(17, 10), seed=5)
    ids = torch.randint(17, (1, 23), generator=g)
    runs = []
    for T in (1, 2, 7, 23):
        part = ids[:, :T]
        seen = taps(model, [*NAMES, "attention.weights"], part)
        runs.append({"ids": part[0], "taps": seen})
    # Without the root: queries larger by it, which is the same.
    with torch.no_grad():
        for end in (model.attention.qkv.weight, model.attention.qkv.bias):
            end[:10] *= math.sqrt(10)
        unscaled = taps(model, ["attention.weights", "head"], ids)
        for end in (model.attention.qkv.weight, model.attention.qkv.bias):
            end[:10] /= math.sqrt(10)
    return {
        "scores": scores,
        "meters": [{"by": by, **meters(scores / by)} for by in (1.0, 4.0, 0.5)],
        "variance": float(scores.var()),
        "tensors": weights(model),
        "runs": runs,
        "unscaled": {"ids": ids[0], "taps": unscaled},
    }


FAULTS = {
    "entropy in nats": ("lookup.mjs", "Math.log2(v)", "Math.log(v)"),
    "the gradient without its cross terms": (
        "lookup.mjs",
        "(p[i] * ((i === j) - p[j])) ** 2",
        "(p[i] * (i === j) * (1 - p[j])) ** 2",
    ),
    "scores multiplied, not divided": ("lookup.mjs", "(s) => s / by", "(s) => s * by"),
    "the variance is of the mean": (
        "lookup.mjs",
        "/ (values.length - 1)",
        "/ values.length ** 2",
    ),
    "the window looks ahead": (
        "lookup.mjs",
        "rowOf(e.data, C, t - n)",
        "rowOf(e.data, C, Math.min(t + n, T - 1))",
    ),
    "the window in the wrong order": (
        "lookup.mjs",
        "(3 * t + n) * C",
        "(3 * t + 2 - n) * C",
    ),
    "not causal": ("lookup.mjs", "causal: true", "causal: false"),
    "the root cannot be taken away": (
        "lookup.mjs",
        "causal: true, scale, tap",
        "causal: true, tap",
    ),
    "the stream is lost": (
        "lookup.mjs",
        "layerNorm(add(x, read.y), ",
        "layerNorm(read.y, ",
    ),
}
