"""sampling.mjs: what generate.filter_logits leaves, and the texts that a small GPT then writes."""

import itertools

import torch

from babygpt_course.generate import filter_logits
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live.sampling import continuation
from tests.figures import ready, rounded, weights


def cut(logits, temperature: float, k: int | None, p: float | None) -> dict:
    """What the cuts leave of one row (V,) of logits, each step by the package."""
    row = logits[None]
    if temperature == 0:
        full = torch.zeros_like(logits)
        full[logits.argmax()] = 1
        return {"full": full, "byK": 1, "byP": 1, "probs": full, "mass": 1.0, "entropy": 0.0}  # fmt: skip
    full = torch.softmax(filter_logits(row, temperature), -1)[0]
    by_k = filter_logits(row, temperature, k)[0]
    both = filter_logits(row, temperature, k, p)[0]
    kept = both.isfinite()
    probs = torch.softmax(both, -1)
    return {
        "full": full,
        "byK": int(by_k.isfinite().sum()),
        "byP": int(kept.sum()),
        "probs": probs,
        "mass": float(full[kept].sum()),
        "entropy": float(-torch.xlogy(probs, probs).sum() / torch.log(torch.tensor(2))),
    }


def golden() -> dict:
    g = torch.Generator().manual_seed(4)
    rows = {
        "sure": rounded(4 * torch.randn(23, generator=g)),
        "unsure": rounded(0.3 * torch.randn(23, generator=g)),
        "ties": torch.tensor([2.0, 1.0, 2.0, 1.0, 0.0, 1.0, -3.0]).double(),
        "large": rounded(900 * torch.randn(9, generator=g)),
        "one": torch.tensor([0.5]).double(),
    }
    cuts = []
    for name, row in rows.items():
        for temperature, k, p in itertools.product(
            (0, 0.3, 1.0, 1.7), (None, 1, 2, 4, 99), (None, 0.1, 0.5, 0.85, 1.0)
        ):
            case = {"row": name, "temperature": temperature, "k": k, "p": p}
            cuts.append(case | cut(row, temperature, k, p))

    config = GPTConfig(13, 24, 2, 2, 12)
    model = ready(GPT(config), seed=6, std=0.25)
    texts = []
    for seed, (temperature, k, p) in enumerate(
        [(1.0, None, None), (0.7, 5, None), (1.4, None, 0.9), (1.0, 6, 0.8), (0, None, None)]
    ):  # fmt: skip
        context = [1, 4, 1, 5]
        made = continuation(model, context, 20, seed, temperature, k, p)
        texts.append(
            {
                "context": context,
                "temperature": temperature,
                "k": k,
                "p": p,
                "seed": seed,
                "made": made,
            }
        )
    return {
        "rows": rows,
        "cuts": cuts,
        "config": {"n_head": config.n_head},
        "tensors": weights(model),
        "texts": texts,
    }


FAULTS = {
    "top-p of what top-k left, not yet to a sum of 1": (
        "sampling.mjs",
        "full[order[byP]] / left",
        "full[order[byP]]",
    ),
    "the temperature after the cuts": (
        "sampling.mjs",
        "before += full[order[byP]]",
        "before += Math.exp(logits[order[byP]] - top) / sum(Array.from(logits, (x) => Math.exp(x - top)))",
    ),
    "times the temperature": (
        "sampling.mjs",
        "(x - top) / temperature",
        "(x - top) * temperature",
    ),
    "the k-th one's equals are cut": (
        "sampling.mjs",
        "logits[i] >= least).length",
        "logits[i] > least).length",
    ),
    "the id that passes p is cut": (
        "sampling.mjs",
        "byP < byK && before < p; byP++) before +=",
        "byP < byK && before + full[order[byP]] / left < p; byP++) before +=",
    ),
    "not to a sum of 1 again": (
        "sampling.mjs",
        "probs[i] = full[i] / mass",
        "probs[i] = full[i]",
    ),
    "no maximum taken out": (
        "sampling.mjs",
        "const top = logits[order[0]];",
        "const top = 0;",
    ),
    "entropy in nats": ("sampling.mjs", "p * Math.log2(p)", "p * Math.log(p)"),
    "a number is drawn twice": (
        "sampling.mjs",
        "const random = rng(seed);",
        "const random = rng(seed);\n  random();",
    ),
    "greedy is the last of the likeliest": (
        "sampling.mjs",
        "if (temperature === 0) return { order, full: one(order[0])",
        "if (temperature === 0) return { order, full: one(logits.lastIndexOf(logits[order[0]]))",
    ),
}
