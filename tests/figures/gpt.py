"""gpt.mjs: the GPT, tied and untied, what can be switched off, and models of attention alone."""

from contextlib import ExitStack

import torch
from torch import nn

from babygpt_course.attention import MultiHeadAttention
from babygpt_course.gpt import GPT, GPTConfig
from tests.figures import ready, switch_off_heads, taps, weights

PARTS = ["norm1", "attention", "attention.weights", "norm2", "mlp"]


class AttentionOnly(nn.Module):
    """Tokens, positions, residual layers of attention: no MLP, no norm."""

    def __init__(self, V: int, C: int, block_size: int, n_layer: int, n_head: int):
        super().__init__()
        self.token_embedding = nn.Embedding(V, C)
        self.position_embedding = nn.Embedding(block_size, C)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"attention": MultiHeadAttention(C, n_head, causal=True)})
            for _ in range(n_layer)
        )
        self.head = nn.Linear(C, V, bias=False)

    def forward(self, ids):
        x = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        for block in self.blocks:
            x = x + block["attention"](x)
        return self.head(x)


def names(n_layer: int) -> list[str]:
    blocks = [f"blocks.{i}" for i in range(n_layer)]
    return [*blocks, *[f"{b}.{p}" for b in blocks for p in PARTS], "norm", "head"]


def run(model, ids: list[int], tap_names: list[str], off: dict | None = None) -> dict:
    off, hooks = off or {}, ExitStack()
    with hooks:
        for layer, heads in off.get("heads", {}).items():
            hook = switch_off_heads(model.blocks[layer].attention, heads)
            hooks.callback(hook.remove)
        for part in ("attention", "mlp"):
            for layer in off.get("blocks", []) + off.get(f"{part}s", []):
                module = getattr(model.blocks[layer], part)
                hook = module.register_forward_hook(lambda m, a, y: torch.zeros_like(y))
                hooks.callback(hook.remove)
        found = taps(model, tap_names, torch.tensor([ids]))
    if off:  # what a part gave is tapped in JavaScript before it is left out
        found = {"head": found["head"]}
    return {"ids": ids, "off": off, "taps": found}


def golden() -> dict:
    generator = torch.Generator().manual_seed(5)

    def ids(n, V):
        return torch.randint(V, (n,), generator=generator).tolist()

    shapes = {
        "tied, GPT-2's options": GPTConfig(11, 13, 2, 3, 15),
        "untied, no biases": GPTConfig(
            11, 13, 3, 2, 10, bias=False, tie=False, head_bias=True, norm_eps=1e-3
        ),
        "a chapter's size": GPTConfig(82, 64, 3, 4, 48),
    }
    models = {}
    for i, (name, c) in enumerate(shapes.items()):
        model = ready(GPT(c), seed=i, std=0.4 if c.n_embd < 40 else 0.15)
        small = c.n_embd < 40
        sizes = (1, 7, c.block_size) if small else (c.block_size,)
        runs = [run(model, ids(n, c.vocab_size), names(c.n_layer)) for n in sizes]
        if small:
            wanted = [
                {"heads": {0: [1]}},
                {"heads": {1: list(range(c.n_head)), 0: [0]}},
                {"attentions": [0]},
                {"mlps": [1]},
                {"blocks": [0]},
            ]
            text = ids(9, c.vocab_size)
            runs += [run(model, text, ["head"], off) for off in wanted]
        models[name] = {
            "config": {"n_head": c.n_head, "norm_eps": c.norm_eps},
            "n_layer": c.n_layer,
            "tensors": weights(model),
            "runs": runs,
        }
    only = ready(AttentionOnly(9, 8, 12, 2, 2), seed=7)
    tap_names = ["head", *[f"blocks.{i}.attention.weights" for i in (0, 1)]]
    models["attention only"] = {
        "config": {"n_head": 2},
        "n_layer": 2,
        "tensors": weights(only),
        "runs": [run(only, ids(n, 9), tap_names) for n in (1, 7, 12)],
    }
    return {"models": models}


FAULTS = {
    "positions dropped": (
        "gpt.mjs",
        'if (get.has("position_embedding"))',
        "if (false)",
    ),
    "positions start at 1": (
        "gpt.mjs",
        "embedding([...ids.keys()]",
        "embedding([...ids.keys()].map((t) => Math.min(t + 1, ids.length - 1))",
    ),
    "norm after the residual sum": (
        "gpt.mjs",
        "const z = norm(`${name}.norm2`, x);",
        "const z = (x = norm(`${name}.norm2`, x));",
    ),
    "exact GELU in place of GPT's": (
        "nn.mjs",
        "0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))",
        "gelu(x)",
    ),
    "no last norm": ("gpt.mjs", 'linear(norm("norm", x), get', "linear(x, get"),
    "one norm's eps for all models": ("gpt.mjs", "norm_eps: eps = 1e-5", "eps = 1e-5"),
    "the MLP switched off in the wrong layer": (
        "gpt.mjs",
        "mlps.includes(i)",
        "mlps.includes(i + 1)",
    ),
}
