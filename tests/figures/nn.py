"""nn.mjs: layers one by one, and attention with its interventions."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.attention import GEGLU, CrossAttention, MultiHeadAttention
from babygpt_course.attention import scaled_dot_product_attention as mix
from tests.figures import ready, rounded, switch_off_heads, taps, weights


def attend(q, k, v, H, causal=False, mask=None, scale=None) -> dict:
    """attention() of nn.mjs in torch: q (T, C), k (S, C), v (S, E)."""
    q, k, v = (x.unflatten(1, (H, -1)).transpose(0, 1) for x in (q, k, v))  # (H, T, D)
    T, S, D = q.shape[1], k.shape[1], q.shape[2]
    scores = q @ k.transpose(1, 2) * (scale or 1 / math.sqrt(D))  # (H, T, S)
    seen = torch.ones(T, S, dtype=torch.bool)
    if causal:
        seen = seen.tril(S - T)
    if mask is not None:
        seen = seen & mask.bool()
    p = torch.softmax(scores.masked_fill(~seen, -math.inf), -1).nan_to_num(0.0)
    heads = p @ v  # (H, T, E / H)
    if scale is None:  # the course's own reference says the same
        assert torch.allclose(heads, mix(q, k, v, seen))
    y = heads.transpose(0, 1).flatten(1)  # (T, E)
    return {"scores": scores, "weights": p, "heads": heads, "y": y}


def golden() -> dict:
    g = torch.Generator().manual_seed(3)

    def draw(*shape):
        return rounded(torch.randn(*shape, generator=g))

    H, C, E = 3, 12, 6  # heads of D = 4, and values of 2
    cases = []
    for T, S, options in [
        (1, 1, {"causal": True}),
        (7, 7, {"causal": True}),
        (7, 7, {"causal": False}),
        (5, 9, {"causal": True}),
        (5, 9, {"mask": torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1])}),
        (4, 6, {"mask": (torch.rand(4, 6, generator=g) > 0.5).long()}),
        (7, 7, {"causal": True, "mask": torch.tensor([0, 0, 1, 1, 0, 1, 1])}),
        (7, 7, {"causal": True, "scale": 1.0}),
    ]:
        q, k, v = 2 * draw(T, C), draw(S, C), draw(S, E)
        cases.append({"q": q, "k": k, "v": v, "H": H, **options})
        cases[-1]["out"] = attend(q, k, v, H, **options)
        if "mask" in options:
            cases[-1]["mask"] = options["mask"].flatten()

    # Rows that vary no more than eps does, and one that does not vary at all.
    C, P, groups = 10, (3, 5), 5
    flat = rounded(0.5 + 2e-3 * draw(4, C))
    flat[3] = 0.5
    norm_in = torch.cat([3 * draw(3, C) + 1, flat])
    picture = draw(C, *P) * torch.arange(1, C + 1).view(C, 1, 1) + 1
    picture[:2] = rounded(0.5 + 1e-3 * draw(2, *P))
    picture = rounded(picture)
    weight, bias = draw(C) + 1, draw(C)
    convolutions = []
    for k, stride, padding in [(3, 1, 1), (1, 1, 0), (5, 1, 2), (4, 2, 1)]:
        x, w, b = draw(3, 6, 8), draw(4, 3, k, k), draw(4)
        y = F.conv2d(x[None], w, b, stride, padding)[0]
        convolutions.append({"x": x, "weight": w, "bias": b, "stride": stride, "y": y})
    numbers = torch.linspace(-7, 7, 281, dtype=torch.float64)
    x, W, b = draw(7, 10), draw(4, 10), draw(4)

    own = ready(MultiHeadAttention(15, 3, causal=True), seed=1)
    cross = ready(CrossAttention(12, 4, context_dim=7, bias=False), seed=2)
    same = ready(CrossAttention(12, 4), seed=4)  # widths cannot tell the two apart
    gate = ready(GEGLU(5), seed=3)
    stream, context, gated = draw(9, 15), draw(5, 7), draw(6, 5)
    target = draw(8, 12)
    modules = {
        "own": {
            "x": stream,
            "tensors": weights(own),
            "taps": {
                "a": own(stream[None])[0],
                "a.weights": own.weights[0],
            },
        },
        "cross": {
            "x": target,
            "context": context,
            "tensors": weights(cross),
            "taps": {
                "a": cross(target[None], context[None])[0],
                "a.weights": cross.weights[0],
            },
        },
        "same": {
            "x": target,
            "context": draw(5, 12),
            "tensors": weights(same),
        },
        "geglu": {"x": gated, "tensors": weights(gate), "y": gate(gated[None])[0]},
    }
    wide = modules["same"]
    wide["taps"] = {"a": same(target[None], wide["context"][None])[0]}
    hook = switch_off_heads(own, [0, 2])
    modules["own"]["off"] = {"heads": [0, 2], "y": taps(own, ["proj"], stream[None])}
    hook.remove()
    logits, targets = 3 * draw(5, 4), torch.tensor([0, 3, 3, 1, 2])
    return {
        "attention": cases,
        "modules": modules,
        "layer_norm": {
            "x": norm_in,
            "weight": weight,
            "bias": bias,
            "y": F.layer_norm(norm_in, (C,), weight, bias),
        },
        "group_norm": {
            "x": picture,
            "weight": weight,
            "bias": bias,
            "groups": groups,
            "y": F.group_norm(picture[None], groups, weight, bias, 1e-6)[0],
        },
        "conv2d": convolutions,
        "functions": {
            "x": numbers,
            "erf": torch.erf(numbers),
            "gelu": F.gelu(numbers),
            "geluTanh": F.gelu(numbers, approximate="tanh"),
            "relu": numbers.relu(),
            "sigmoid": numbers.sigmoid(),
        },
        "linear": {"x": x, "weight": W, "bias": b, "y": F.linear(x, W, b)},
        "losses": {
            "logits": logits,
            "targets": targets,
            "y": F.cross_entropy(logits, targets, reduction="none"),
        },
    }


FAULTS = {
    "no 1/sqrt(D)": ("nn.mjs", "scale ??= 1 / Math.sqrt(D)", "scale ??= 1"),
    "1/D in place of 1/sqrt(D)": ("nn.mjs", "1 / Math.sqrt(D)", "1 / D"),
    "mask off by one": ("nn.mjs", "s > t + S - T)", "s > t + 1 + S - T)"),
    "the mask is read as its opposite": ("nn.mjs", "!mask[mask", "mask[mask"),
    "heads merged in the wrong order": (
        "nn.mjs",
        "y.data[t * E + h * d + i] = total",
        "y.data[t * E + i * H + h] = total",
    ),
    "a head switched off leaks": (
        "nn.mjs",
        "if (off.includes(h)) continue",
        "if (off.includes(h - 1)) continue",
    ),
    "q and k swapped": ("nn.mjs", "const [q, k, v] = chunk", "const [k, q, v] = chunk"),
    "k and v swapped": (
        "nn.mjs",
        "const [k, v] = chunk(linear(context",
        "const [v, k] = chunk(linear(context",
    ),
    "cross-attention reads the target": (
        "nn.mjs",
        "chunk(linear(context, get(`${name}.kv`)), 2)",
        "chunk(linear(context.shape[1] === x.shape[1] ? x : context, get(`${name}.kv`)), 2)",
    ),
    "norm without eps": ("nn.mjs", "Math.sqrt(variance + eps)", "Math.sqrt(variance)"),
    "norm with the unbiased variance": (
        "nn.mjs",
        "(b - mean) ** 2, 0) / n",
        "(b - mean) ** 2, 0) / (n - 1)",
    ),
    "GroupNorm over the whole tensor": (
        "nn.mjs",
        "export function groupNorm(x, { weight, bias }, groups, eps = 1e-5) {",
        "export function groupNorm(x, { weight, bias }, _, eps = 1e-5) { const groups = 1;",
    ),
    "GroupNorm's weights by position": (
        "nn.mjs",
        "weight.data[Math.floor(i / P)]",
        "weight.data[i % C]",
    ),
    "ReLU in place of the exact GELU": (
        "nn.mjs",
        "export const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2))",
        "export const gelu = relu",
    ),
    "ReLU in place of GPT's GELU": (
        "nn.mjs",
        "export const geluTanh = (x) =>",
        "export const geluTanh = (x) => relu(x) + 0 *",
    ),
    "the GELUs exchanged": ("nn.mjs", "0.044715", "0.04"),
    "the gate is the value": (
        "nn.mjs",
        "const [value, gate] =",
        "const [gate, value] =",
    ),
    "convolution flipped": (
        "nn.mjs",
        "* kh + i) * kw + j]",
        "* kh + kh - 1 - i) * kw + kw - 1 - j]",
    ),
    "convolution wraps around the edge": (
        "nn.mjs",
        "if (column < 0 || column >= w) continue",
        "",
    ),
    "linear transposed": (
        "nn.mjs",
        "weight.data[o * n + i]",
        "weight.data[i * m + o]",
    ),
}
