"""gpt_cache.mjs: the logits of gpt.py after each token of a text that is read one by one."""

import torch

from babygpt_course.gpt import GPT, GPTConfig
from tests.figures import ready, weights


def golden() -> dict:
    generator = torch.Generator().manual_seed(8)
    shapes = {
        "tied, GPT-2's options": GPTConfig(11, 13, 2, 3, 15),
        "untied, no biases": GPTConfig(
            11, 9, 3, 2, 10, bias=False, tie=False, head_bias=True, norm_eps=1e-3
        ),
        "one layer": GPTConfig(7, 5, 1, 1, 6, tie=False),
    }
    models = {}
    for i, (name, c) in enumerate(shapes.items()):
        model = ready(GPT(c), seed=i)
        texts = torch.randint(c.vocab_size, (2, c.block_size), generator=generator)
        with torch.no_grad():
            logits, _ = model(texts)  # (2, T, V)
        models[name] = {
            "config": {"n_head": c.n_head, "norm_eps": c.norm_eps},
            "tensors": weights(model),
            "texts": texts,
            "logits": list(logits),
        }
    return {"models": models}


FAULTS = {
    "every token at the first place": (
        "gpt_cache.mjs",
        'embedding([t], get("position_embedding"))',
        'embedding([0], get("position_embedding"))',
    ),
    "the newest key left out": (
        "gpt_cache.mjs",
        "data.subarray(0, (t + 1) * C)",
        "data.subarray(0, t * C)",
    ),
    "keys kept where values belong": (
        "gpt_cache.mjs",
        "kept.v.set(v.data",
        "kept.v.set(k.data",
    ),
    "a copy that shares its keys": ("gpt_cache.mjs", "k: k.slice()", "k: k"),
    "no last norm": ("gpt_cache.mjs", 'linear(norm("norm", x), get', "linear(x, get"),
    "one head": ("gpt_cache.mjs", "v: past(kept.v), H }", "v: past(kept.v) }"),
    "no residual around the MLP": (
        "gpt_cache.mjs",
        "x = add(x, linear(wide,",
        "x = (0, linear(wide,",
    ),
}
