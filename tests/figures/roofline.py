"""roofline.mjs: counts, bytes, the ridge and the product of matrices, against the ledger and torch."""

import torch

from babygpt_course import ledger
from babygpt_course.gpt import GPTConfig
from babygpt_course.llama import LlamaConfig
from tests.figures import rounded

CONFIGS = {
    "gpt": GPTConfig(58, 64, 8, 8, 256, bias=False, tie=False, head_bias=True),
    "tied": GPTConfig(50_257, 1024, 12, 12, 768),
    "llama": LlamaConfig(4096, 32, 32, hidden_dim=11_008, max_seq_len=4096),
    "grouped": LlamaConfig(48, 3, 6, 2, vocab_size=109, hidden_dim=86, max_seq_len=33),
}


def golden() -> dict:
    cases = []
    for name, config in CONFIGS.items():
        shape = ledger.shape_of(config)._asdict()
        for B, T, past, width in ((1, 1, 0, 4), (3, 1, 31, 2), (5, 7, 0, 2)):
            work = ledger.work(config, B, T, past=past, width=width)
            ridges = []
            for ridge in (0.4, 1.5, 9.56, 27.0, 216.7, 3000.0):
                parts = ("attention", "mlp", "head")
                for some in (parts, tuple(work), ("scores",)):
                    n = ledger.ridge_batch(
                        config, ridge, past=past, width=width, parts=some
                    )
                    ridges.append({"ridge": ridge, "parts": some, "batch": n})
            roof = [
                ledger.attainable(w.intensity, 8.1e12, 300e9) for w in work.values()
            ]
            cases.append(
                {
                    "name": name,
                    "model": shape,
                    "options": {"B": B, "T": T, "past": past, "width": width},
                    "work": {k: [w.flops, w.bytes] for k, w in work.items()},
                    "intensity": [w.intensity for w in work.values()],
                    "roof": roof,
                    "seconds": sum(w.flops / r for w, r in zip(work.values(), roof)),
                    "ridges": ridges,
                }
            )
    generator = torch.Generator().manual_seed(0)
    a, b = (rounded(torch.randn(12, 12, generator=generator)) for _ in range(2))
    return {"cases": cases, "a": a, "b": b, "ab": a @ b}


FAULTS = {
    "a multiply-add counted as one": ("roofline.mjs", "head: [2 * n * C * V,", "head: [n * C * V,"),
    "one cache for the whole batch": ("roofline.mjs", "2 * B * S * KV", "2 * S * KV"),
    "weights read once for each text": ("roofline.mjs", "C * V + n * (C + V)", "n * C * V + n * (C + V)"),
    "no gate": ("roofline.mjs", "const gate = llama ? 1 : 0;", "const gate = 0;"),
    "the peak is not a limit": ("roofline.mjs", "Math.min(peak, x * bandwidth)", "x * bandwidth"),
    "the batch rounded down": ("roofline.mjs", "Math.ceil(", "Math.floor("),
    "a row of the product skipped": ("roofline.mjs", "a3 * b[b3 + j]", "a3 * b[b2 + j]"),
}  # fmt: skip
