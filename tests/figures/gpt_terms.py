"""gpt_terms.mjs: every number of a forward pass from the terms that made it."""

import torch
import torch.nn.functional as F

from babygpt_course.gpt import GPT, GPTConfig
from tests.figures import ready, taps, weights

PARTS = ["norm1", "attention.qkv", "attention", "norm2", "mlp.fc", "mlp"]


def golden() -> dict:
    generator = torch.Generator().manual_seed(6)
    models = {}
    for name, c in {
        "tied": GPTConfig(11, 9, 2, 3, 12),
        "untied, no biases": GPTConfig(
            7, 8, 3, 2, 10, bias=False, tie=False, head_bias=True, norm_eps=1e-3
        ),
    }.items():
        model = ready(GPT(c), seed=len(name), std=0.3)
        ids = torch.randint(c.vocab_size, (7,), generator=generator).tolist()
        blocks = [f"blocks.{i}" for i in range(c.n_layer)]
        names = [f"{b}.{part}" for b in blocks for part in PARTS]
        names += [f"{b}.attention.weights" for b in blocks]
        seen = taps(model, [*blocks, *names, "norm", "head"], torch.tensor([ids]))
        for b in blocks:
            q, k, v = seen.pop(f"{b}.attention.qkv").chunk(3, dim=-1)
            seen |= {f"{b}.attention.{n}": x for n, x in zip("qkv", (q, k, v))}
            D = c.n_embd // c.n_head
            q, k, v = (x.view(7, c.n_head, D).transpose(0, 1) for x in (q, k, v))
            w = seen[f"{b}.attention.weights"]
            seen[f"{b}.attention.scores"] = q @ k.transpose(1, 2) / D**0.5
            seen[f"{b}.attention.heads"] = w @ v
            wide = seen.pop(f"{b}.mlp.fc")
            seen[f"{b}.mlp.hidden"] = F.gelu(wide, approximate="tanh")
        models[name] = {
            "config": {"n_head": c.n_head, "norm_eps": c.norm_eps},
            "tensors": weights(model),
            "ids": ids,
            "taps": seen,
        }
    return {"models": models}


FAULTS = {
    "scores are not divided": (
        "gpt_terms.mjs",
        "sum, value: sum / Math.sqrt(D)",
        "sum, value: sum",
    ),
    "the values of head 1 for every head": (
        "gpt_terms.mjs",
        "subarray(h * D, (h + 1) * D)",
        "subarray(0, D)",
    ),
    "keys explained as queries": (
        "gpt_terms.mjs",
        '"qkv".indexOf(part.at(-1)) * C + c',
        "c",
    ),
    "no bend in the MLP": (
        "gpt_terms.mjs",
        "geluTanh(sum + bias) : sum",
        "sum + bias : sum",
    ),
    "the softmax counts the future": (
        "gpt_terms.mjs",
        "h * ids.length + t).subarray(0, t + 1);\n      const terms",
        "h * ids.length + t);\n      const terms",
    ),
    "a part that is off is still added": (
        "gpt_terms.mjs",
        "off.mlps?.includes(i) ? 0 : at",
        "false ? 0 : at",
    ),
}
