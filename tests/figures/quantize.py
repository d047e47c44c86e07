"""quantize.mjs: codes, values and bytes against quantize.py in float64, of single weights and of whole models."""

import copy

import torch

from babygpt_course import quantize
from babygpt_course.gpt import GPT, GPTConfig
from tests.figures import ready, rounded, weights

WAYS = [
    (bits, scheme, group, symmetric)
    for bits in (8, 5, 4, 2)
    for scheme, group in (("per_tensor", 7), ("per_channel", 7), ("group", 7))
    for symmetric in (True, False)
]


def golden() -> dict:
    generator = torch.Generator().manual_seed(0)
    W = rounded(torch.randn(5, 17, generator=generator)).double()
    W[1] = 0  # a row of zeros
    W[2] = W[2].abs()  # nothing below zero
    W[3, :4] = torch.tensor([7.0, 0.5, 1.5, 2.5])  # ties, with a scale of 1 in 4 bits
    W[3, 4:] = 3
    cases = []
    for bits, scheme, group, symmetric in WAYS:
        box = torch.nn.Sequential(torch.nn.Linear(17, 5, bias=False).double())
        box[0].weight.data = W.clone()
        layer = quantize.quantize(box, bits, scheme, group, symmetric)[0]
        sizes = quantize.size_in_bytes(box)
        zeros = 0 if layer.zero is None else layer.zero.nbytes
        scales = (sizes["scales"] - zeros) // 2 + zeros  # the file has float32
        cases.append(
            {
                "way": [bits, scheme, group, symmetric],
                "values": layer.weight,
                "codes": quantize.unpack(layer.packed, bits, 17),
                "bytes": sizes["codes"] + scales,
            }
        )
    models = []
    for tie in (True, False):
        model = ready(GPT(GPTConfig(11, 9, 2, 2, 10, tie=tie)))
        ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
        for embeddings in (False, True):
            net = copy.deepcopy(model).float()
            quantize.quantize(net, 3, "group", 4, symmetric=False)
            if embeddings:
                quantize.quantize_embeddings(net, 3, "group", 4)
            size = quantize.size_in_bytes(net)["total"]
            net = copy.deepcopy(model)  # the logits in float64
            quantize.quantize(net, 3, "group", 4, symmetric=False)
            if embeddings:
                quantize.quantize_embeddings(net, 3, "group", 4)
            sent = weights(model)
            models.append(
                {
                    "tensors": sent,
                    "tied": tie,
                    "embeddings": embeddings,
                    "ids": ids[0],
                    "logits": net(ids)[0][0],
                    "bytes": size,
                }
            )
    return {"W": W, "cases": cases, "models": models}


FAULTS = {
    "halves always up": ("quantize.mjs", "low % 2 === 0 ? low : low + 1", "low + 1"),
    "a code too many": ("quantize.mjs", "2 ** (bits - 1) - 1;\n    return", "2 ** (bits - 1);\n    return"),
    "zero is not in reach": ("quantize.mjs", "let [low, high] = [0, 0];", "let [low, high] = [data[at], data[at]];"),
    "zero point not rounded": ("quantize.mjs", "nearestEven(-low / scale)", "-low / scale"),
    "zero not subtracted": ("quantize.mjs", "scale * (codes[i] - zero)", "scale * codes[i]"),
    "a row's last group runs on": ("quantize.mjs", "Math.min(wide, start + columns - at)", "wide"),
    "embeddings with a zero point": ("quantize.mjs", "{ ...options, symmetric: true }", "options"),
    "scales are free": ("quantize.mjs", "lines.length * (symmetric ? 4 : 5)", "0"),
    "embeddings left out": ("quantize.mjs", "(table && embeddings) || ", ""),
}  # fmt: skip
