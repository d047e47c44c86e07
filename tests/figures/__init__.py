"""Golden values for the runtime of the live figures, one file a module of `figures/runtime/`.

A file has `golden()`, what `figures/tests/<name>.test.mjs` reads (dicts, lists, numbers, tensors, `Weights`),
and `FAULTS`, {what is wrong: (file, right text, wrong text)}, each of which must fail the JavaScript tests.
"""

import base64
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from babygpt_course.attention import Attention
from babygpt_course.live import to_safetensors

Fault = tuple[str, str, str]


class Weights(dict):
    """A state_dict for JavaScript: as the bytes of a safetensors file, with float16 numbers."""


def rounded(x: Tensor) -> Tensor:
    """Float16 numbers, such as JavaScript will read, in float64."""
    return x.detach().half().double()


def ready(model: nn.Module, seed: int = 0, std: float = 0.4) -> nn.Module:
    """The model in float64 with weights that leave nothing flat, rounded to float16, attention written out.

    Every parameter is drawn, norms about 1 and biases too: a part that starts at 0 or 1 hides a fault.
    """
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).double()
            norm = "norm" in name and name.endswith("weight")
            parameter.copy_(rounded(noise * std + norm))
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused = False
    return model


def weights(model: nn.Module) -> Weights:
    """All its parameters by name. Of tied ones both names, as in the state_dict."""
    return Weights(model.state_dict())


def taps(model: nn.Module, names: list[str], *inputs, call=None) -> dict[str, Tensor]:
    """What each named module gave in one run, without the batch: "blocks.0.mlp", or ".weights" of an attention.

    `call` runs the model; by default `model(*inputs)`. The result is under "out" too.
    """
    seen, modules = {}, dict(model.named_modules())
    hooks = []
    for name in names:
        if name.endswith(".weights"):
            continue

        def keep(module, args, result, name=name):
            seen[name] = result.detach()[0]

        hooks.append(modules[name].register_forward_hook(keep))
    with torch.no_grad():
        (call or model)(*inputs)
    for hook in hooks:
        hook.remove()
    for name in names:
        if name.endswith(".weights"):
            seen[name] = modules[name.removesuffix(".weights")].weights[0]
    return seen


def switch_off_heads(attention: nn.Module, heads: list[int]):
    """Zero these heads where they enter the attention's output projection. Returns the hook."""

    def zero(module, args):
        y = args[0].clone().unflatten(-1, (attention.n_head, -1))
        y[..., heads, :] = 0
        return y.flatten(-2)

    return attention.proj.register_forward_pre_hook(zero)


def write(values: dict, file: Path) -> None:
    """As JSON for figures/tests/harness.mjs."""

    def plain(value):
        if isinstance(value, Weights):
            bytes_ = to_safetensors({k: v.float() for k, v in value.items()})
            return {"safetensors": base64.b64encode(bytes_).decode()}
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, Tensor):
            if value.is_floating_point():
                assert value.dtype == torch.float64, "golden values are float64"
                data = value.detach().flatten().tolist()
                return {"shape": list(value.shape), "data": data}
            return value.tolist()
        return value

    file.write_text(json.dumps(plain(values), allow_nan=False))
