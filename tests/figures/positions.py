"""positions.mjs: a GPT with a table of places read from any start, with rotary positions, or with none."""

import math

import torch
from torch import nn

from babygpt_course.attention import MultiHeadAttention, merge_heads
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import apply_rotary
from tests.figures import ready, rounded, taps, weights

PARTS = ["attention", "attention.weights"]


class Turned(MultiHeadAttention):
    """Attention whose queries and keys are turned; it keeps its scores."""

    place = (0, 10_000.0)  # start, theta
    rotary = True

    def attend(self, q, k, v, mask, causal):
        if self.rotary:
            start, theta = self.place
            D = q.shape[-1]
            rate = theta ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
            angle = (start + torch.arange(q.shape[2]))[:, None] * rate  # (T, D / 2)
            q, k = (apply_rotary(x, angle.cos(), angle.sin()) for x in (q, k))
        self.parts = {"q": merge_heads(q)[0], "k": merge_heads(k)[0]}  # (T, C) each
        self.scores = (q @ k.mT / math.sqrt(q.shape[-1]))[0]  # (H, T, T)
        return super().attend(q, k, v, mask, causal)


class Nowhere(nn.Module):
    def forward(self, positions):
        return torch.zeros(len(positions), 1, dtype=torch.float64)


class Shifted(nn.Module):
    """Rows of a table from `start` on."""

    def __init__(self, table, start):
        super().__init__()
        self.table, self.start = table, start

    def forward(self, positions):
        return self.table[self.start + positions]


def run(model, ids, start, theta):
    table = model.position_embedding
    if isinstance(table, nn.Embedding):
        model.position_embedding = Shifted(table.weight, start)
    for block in model.blocks:
        block.attention.place = (start, theta)
    names = [f"blocks.{i}" for i in range(len(model.blocks))]
    names += [f"{n}.{p}" for n in names for p in PARTS]
    found = taps(model, [*names, "head"], torch.tensor([ids]))
    scores = [block.attention.scores for block in model.blocks]
    model.position_embedding = table
    logits = found.pop("head")
    kept = {n: found[n] for n in names if not n.endswith("attention")}
    for i, block in enumerate(model.blocks):  # equal scores may come from other angles
        for part, x in block.attention.parts.items():
            kept[f"blocks.{i}.attention.{part}"] = x
    return {
        "ids": ids,
        "start": start,
        "theta": theta,
        "logits": logits,
        "scores": scores,
        "taps": kept,
    }


def golden() -> dict:
    generator = torch.Generator().manual_seed(3)
    models = {}
    for seed, scheme in enumerate(("none", "table", "rotary")):
        config = GPTConfig(11, 20, 2, 3, 12, norm_eps=1e-3, tie=seed != 1)
        model = GPT(config)
        for block in model.blocks:
            block.attention = Turned(12, 3, causal=True)
            block.attention.rotary = scheme == "rotary"
        if scheme != "table":
            model.position_embedding = Nowhere()
        model = ready(model, seed=seed)
        runs = []
        for T, start, theta in ((1, 0, 10_000.0), (7, 4, 10_000.0), (16, 2, 50.0)):
            ids = torch.randint(11, (T,), generator=generator).tolist()
            runs.append(run(model, ids, start, theta))
        models[scheme] = {
            "rotary": scheme == "rotary",
            "config": {"n_head": 3, "norm_eps": 1e-3},
            "tensors": weights(model),
            "runs": runs,
        }
    return {"models": models, "one": rounded(torch.ones(1))}


FAULTS = {
    "a table is read from its first row": (
        "positions.mjs",
        "start + t)",
        "0 * start + t)",
    ),
    "the rotation starts at 0": ("positions.mjs", "H, table, start)", "H, table)"),
    "values are turned too": (
        "positions.mjs",
        "[q, k] = [q, k].map(",
        "[q, k, v] = [q, k, v].map(",
    ),
    "only queries are turned": (
        "positions.mjs",
        "[q, k] = [q, k].map(",
        "[q] = [q].map(",
    ),
    "theta is forgotten": ("positions.mjs", "start + T, theta)", "start + T)"),
}
