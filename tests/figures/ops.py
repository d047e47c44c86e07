"""ops.mjs, rng.mjs, f16.mjs and safetensors.mjs: tables, random numbers, the file format."""

import base64

import torch

from babygpt_course.bigram import count_pairs, count_probs
from babygpt_course.live import to_safetensors


def random_numbers(seed: int, n: int) -> list[float]:
    """The Python twin of figures/runtime/rng.mjs (mulberry32)."""
    word, out = 0xFFFFFFFF, []
    state = seed & word
    for _ in range(n):
        state = (state + 0x6D2B79F5) & word
        t = ((state ^ (state >> 15)) * (state | 1)) & word
        t ^= (t + ((t ^ (t >> 7)) * (t | 61))) & word
        out.append((t ^ (t >> 14)) / 2**32)
    return out


def table(logits, counts) -> dict:
    """Golden values of one pair of tables, in float64, from the float32 logits that JavaScript sees."""
    logits, counts = logits.float().double(), counts.double()
    p, logq = count_probs(counts), torch.log_softmax(logits, 1)
    kl = (torch.xlogy(p, p) - p * logq).sum(1)
    made = {
        "logits": logits,
        "counts": counts,
        "softmax": torch.softmax(logits, 1),
        "log_softmax": logq,
        "counted": p,
        "cross_entropy": -(p * logq).sum(1),
        "kl": kl,
        "mean_kl": (counts.sum(1) / counts.sum()) @ kl,
    }
    return {name: value.tolist() for name, value in made.items()}


def half(value: float) -> str | None:
    """For JSON, which has neither NaN nor infinity nor a reliable minus zero."""
    return None if value != value else str(value).replace("inf", "Infinity")


def golden() -> dict:
    torch.manual_seed(0)
    text = (
        "the queen and the quiet cat sat by the sea, and the sea was quiet too.\n" * 9
    )
    chars = sorted(set(text))
    counts = count_pairs([chars.index(c) for c in text], len(chars))
    codes = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    tensors = {
        "counts": counts,
        "stages": torch.randn(2, 3, 5),
        "one": torch.tensor([2.0**-24]),
    }
    return {
        "tables": {
            "small": table(torch.randn(4, 4), torch.randint(0, 9, (4, 4))),
            "large logits": table(90 * torch.randn(7, 7), torch.randint(0, 2, (7, 7))),
            "text": table(torch.log(counts + 0.1), counts),
            "a row never seen": table(
                torch.randn(3, 3), torch.tensor([[1, 0, 2], [0, 0, 0], [5, 1, 0]])
            ),
        },
        "rng": {seed: random_numbers(seed, 50) for seed in (0, 1, 1337, 2**32 - 1)},
        "f16": [half(v) for v in codes.tolist()],
        "file": {
            "base64": base64.b64encode(to_safetensors(tensors)).decode(),
            "tensors": {
                name: {
                    "shape": list(t.shape),
                    "values": (t.half().double() if t.is_floating_point() else t)
                    .flatten()
                    .tolist(),
                }
                for name, t in tensors.items()
            },
        },
    }


FAULTS = {
    "softmax over columns": (
        "ops.mjs",
        "table.subarray(i * width, (i + 1) * width)",
        "table.filter((_, j) => j % width === i)",
    ),
    "KL reversed": (
        "ops.mjs",
        "v * (Math.log(v) - logq[i])",
        "Math.exp(logq[i]) * (logq[i] - Math.log(v))",
    ),
    "table transposed": (
        "safetensors.mjs",
        "data: read(bytes.slice(start + from, start + to).buffer)",
        "data: read(bytes.slice(start + from, start + to).buffer).map((_, i, t) => "
        "t[(i % shape.at(-1)) * (t.length / shape.at(-1)) + Math.floor(i / shape.at(-1))])",
    ),
    "fp16 subnormals dropped": (
        "f16.mjs",
        "return sign * fraction * 2 ** -24",
        "return sign * 0",
    ),
    "no maximum taken out": ("ops.mjs", "Math.exp(x - max)", "Math.exp(x)"),
    "unweighted mean of KL": (
        "ops.mjs",
        "sum(rowOf(counts, width, i)) * kl",
        "(sum(counts) / width) * kl",
    ),
    "random numbers": ("rng.mjs", "t | 61", "t | 60"),
}
