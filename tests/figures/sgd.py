"""sgd.mjs: plain gradient descent on the bigram table, against autograd and torch.optim.SGD."""

import random

import torch
import torch.nn.functional as F

from babygpt_course import tinytales
from babygpt_course.bigram import Bigram, count_pairs
from babygpt_course.live.rng import random_numbers

RUNS = [
    {"lr": 10.0, "batch": 16, "decay": 0.0, "n": None, "steps": 60},
    {"lr": 3.0, "batch": 1, "decay": 0.0, "n": 300, "steps": 60},
    {"lr": 30.0, "batch": 7, "decay": 1e-3, "n": 150, "steps": 60},
    {"lr": 300.0, "batch": 16, "decay": 0.0, "n": None, "steps": 25},
    {"lr": 0.5, "batch": 64, "decay": 0.1, "n": 2, "steps": 9},
]


def descend(ids, val, V, seed, *, lr, batch, decay, n, steps) -> dict:
    """One run: the losses before each step and after the last, and the table at the end."""
    known = ids[:n]
    model = Bigram(V).double()
    sgd = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=decay)
    draws = random_numbers(seed, steps * batch).view(steps, batch)
    losses = []
    for step in range(steps + 1):
        with torch.no_grad():
            losses.append([float(model(x[None, :-1], x[None, 1:])[1]) for x in (known, val)])  # fmt: skip
        if step < steps:
            at = (draws[step] * (len(known) - 1)).long()  # (B,)
            sgd.zero_grad()
            model(known[at][:, None], known[at + 1][:, None])[1].backward()
            sgd.step()
    return {"losses": losses, "table": model.logits.detach()}


def written(table, first: int, n: int, seed: int) -> list[int]:
    """n ids after `first`: the place where the running sum passes the next random number."""
    ids, probs = [first], F.softmax(table, 1)
    for u in random_numbers(seed, n):
        ids.append(int((probs[ids[-1]].cumsum(0) <= u).sum()))
    return ids[1:]


def golden() -> dict:
    chance = random.Random(1)
    tales = "".join(tinytales.sample(8, seed=2))
    chars = sorted(set(tales))
    texts = {
        "tales": [chars.index(c) for c in tales],
        "few ids": [chance.randrange(4) for _ in range(400)],
    }
    cases = []
    for name, text in texts.items():
        V = max(text) + 2  # one id never comes
        cut = len(text) * 3 // 4
        ids, val = torch.tensor(text[:cut]), torch.tensor(text[cut:])
        counts = count_pairs(ids, V).double()
        p = counts / counts.sum(1, keepdim=True).clamp(min=1)
        for seed, run in enumerate(RUNS, 3):
            run = run | {"n": min(run["n"] or len(ids), len(ids))}
            made = descend(ids, val, V, seed, **run)
            cases.append(
                {
                    "text": name,
                    "V": V,
                    "ids": ids,
                    "val": val,
                    "seed": seed,
                    **run,
                    **made,
                    "rms": float(made["table"].square().mean().sqrt()),
                    "least": float(-(torch.xlogy(counts, p)).sum() / counts.sum()),
                    "written": written(made["table"], 0, 40, seed),
                }
            )
    return {"cases": cases}


FAULTS = {
    "onehot forgotten": ("sgd.mjs", "times * p - seen[w]", "times * p"),
    "the sum of the batch for its mean": (
        "sgd.mjs",
        "(times * p - seen[w]) / batch",
        "times * p - seen[w]",
    ),
    "decay without the rate": ("sgd.mjs", "lr * decay * table[i]", "decay * table[i]"),
    "no decay": ("sgd.mjs", "if (decay) for", "if (false) for"),
    "batches beyond the share of the text": (
        "sgd.mjs",
        "random() * (n - 1)",
        "random() * (ids.length - 1)",
    ),
    "the row of the next id": ("sgd.mjs", "ids[i] * V + ids[i + 1]", "ids[i + 1] * V + ids[i]"),
    "uphill": ("sgd.mjs", "row[w] -= lr", "row[w] += lr"),
    "gradients of rows already moved": (
        "sgd.mjs",
        "if (decay) for (let i = 0; i < table.length; i++) table[i] -= lr * decay * table[i];\n"
        "  for (const [id, gradient] of gradients) {",
        "for (const [id, gradient] of gradients) {\n    if (decay) for (let i = 0; i < table.length; i++) "
        "table[i] -= lr * decay * table[i];",
    ),
    "the least loss of single ids": ("sgd.mjs", "c * Math.log(c / times)", "c * Math.log(c / counts.length)"),
    "weights' mean for their mean square": ("sgd.mjs", "sum + x * x", "sum + x"),
}  # fmt: skip
