"""vision.mjs: the image model with attention and with convolutions, and the block that reads a text."""

import torch

from babygpt_course.attention import SpatialTransformer
from babygpt_course.vision import ImageModel
from tests.figures import ready, rounded, taps, weights


def golden() -> dict:
    g = torch.Generator().manual_seed(4)
    models = {}
    for mixer, C, n_block, size, more in [
        ("attention", 12, 1, (16, 16), {}),
        ("attention", 8, 2, (10, 14), {}),
        ("convolution", 7, 2, (16, 16), {}),
        ("attention", 16, 3, (5, 3), {"stem": "pixel", "positions": (5, 3)}),
        ("convolution", 5, 3, (12, 8), {"n_class": 3, "positions": (6, 4)}),
    ]:
        model = ready(ImageModel(mixer, C, n_block, **more), seed=C, std=0.3)
        names = ["stem", "head"]
        for i in range(n_block):
            names += [f"mixers.{i}", f"mlps.{i}"]
            names += [f"mixers.{i}.weights"] if mixer == "attention" else []
        image = rounded(torch.randn(1, *size, generator=g))
        runs = [{"image": image, "off": [], "taps": taps(model, names, image[None])}]
        hook = model.mixers[n_block - 1].register_forward_hook(lambda m, a, y: a[0])
        runs.append({"image": image, "off": [n_block - 1]})
        runs[-1]["taps"] = taps(model, ["head"], image[None])
        hook.remove()
        models[f"{mixer}, {n_block}"] = {
            "config": {"n_groups": 4},
            "n_block": n_block,
            "tensors": weights(model),
            "runs": runs,
        }
    block = ready(SpatialTransformer(12, 3, context_dim=7, n_groups=4), seed=1, std=0.3)
    x = rounded(torch.randn(12, 3, 5, generator=g))
    context = rounded(torch.randn(6, 7, generator=g))
    seen = torch.tensor([1, 1, 0, 1, 1, 0])
    with torch.no_grad():
        y = block(x[None], context[None], seen.bool())[0]
    return {
        "models": models,
        "transformer": {
            "tensors": weights(block),
            "x": x,
            "context": context,
            "mask": seen,
            "H": 3,
            "groups": 4,
            "y": y,
            "weights": block.self_attention.weights[0],
            "cross": block.cross_attention.weights[0],
        },
    }


FAULTS = {
    "positions and channels exchanged": (
        "vision.mjs",
        "conv2d(transpose(a.y, x.shape), get(`${name}.proj`))",
        "conv2d(tensor(x.shape, a.y.data), get(`${name}.proj`))",
    ),
    "nothing added to the picture": (
        "vision.mjs",
        "const y = off ? x : add(x, read)",
        "const y = off ? x : read",
    ),
    "no GroupNorm before attention": (
        "vision.mjs",
        "const normed = groupNorm(x, get(`${name}.norm`), groups, 1e-6)",
        "const normed = x",
    ),
    "the stem keeps the size": ("vision.mjs", "{ stride: 2 }", "{ stride: 1 }"),
    "no positions": (
        "vision.mjs",
        "if (tensors.positions) x = add(x, tensors.positions)",
        "if (tensors.positions) x = map(x, (v) => v)",
    ),
    "the sum of the positions for their mean": (
        "vision.mjs",
        "(a, b) => a + b, 0) / (h * w)",
        "(a, b) => a + b, 0)",
    ),
    "the text is not read": (
        "vision.mjs",
        "  y = add(y, over.y);\n",
        "",
    ),
}
