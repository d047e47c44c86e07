"""LoRA: train a small correction to a frozen model. Hu et al. 2021.

Each chosen layer W x becomes W x + (alpha / rank) B A x. W stays as it is; A and B hold
rank * (in + out) numbers instead of in * out. B starts at zero, so nothing changes until
training does. Adapter files have the layout of Hugging Face's peft.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course import files
from babygpt_course.attention import check_sizes
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.quantize import QuantizedLinear, is_tied, replace_layer

Model = TypeVar("Model", bound=nn.Module)
Layer = nn.Linear | QuantizedLinear
PREFIX = "base_model.model."  # of every tensor in peft's files


class LoRALinear(nn.Module):
    """A frozen linear layer plus (alpha / rank) B A, of which only A and B are trained."""

    def __init__(self, base: Layer, rank: int, alpha: float):
        super().__init__()
        self.base = base
        self.alpha = alpha
        W = base.weight  # (out, in)
        self.A = nn.Parameter(W.new_empty(rank, W.shape[1]))
        self.B = nn.Parameter(W.new_zeros(W.shape[0], rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear's own weights

    @property
    def rank(self) -> int:
        """How many rows A has and columns B."""
        return self.A.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank, so that another rank needs no other learning rate."""
        return self.alpha / self.rank

    @property
    def delta(self) -> Tensor:
        """What is added to the weight: (alpha / rank) B A, (out, in)."""
        return self.scale * (self.B @ self.A)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out); B A is never formed."""
        low = F.linear(x, self.A)  # (..., in) -> (..., rank)
        y: Tensor = self.base(x)  # (..., out)
        return y + self.scale * F.linear(low, self.B)  # -> (..., out)


# --- on and off ------------------------------------------------------------------------


def apply_lora(
    model: Model, rank: int, alpha: float, targets: str | Iterable[str]
) -> Model:
    """Freeze the model and give its target layers an adapter, in place.

    `targets` are names of linear layers or the ends of names: "qkv" means every layer whose
    name is qkv or ends in .qkv. Returns the model; its logits are what they were.

    Raises:
        ConfigError: no layer has such a name, the layer shares its weight with another or
            has an adapter already, or a number is out of range.
    """
    check_sizes(rank=rank)
    if not (isinstance(alpha, (int, float)) and 0 < alpha < math.inf):
        raise ConfigError(f"alpha must be a finite number above 0; got {alpha!r}.")
    layers = _targets(model, targets)
    model.requires_grad_(False)
    for name, layer in layers.items():
        replace_layer(model, name, LoRALinear(layer, rank, alpha))
    return model


def merge(model: Model) -> Model:
    """Fold every adapter into its weight, in place: a plain model again, and as fast.

    `checkpoint.save` takes it, and `unmerge` undoes it as long as the model is in memory.

    Raises:
        ConfigError: the model has no adapters.
    """
    for name, layer in adapters(model).items():
        W = layer.base.weight
        plain = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
        with torch.no_grad():
            plain.weight = nn.Parameter(W + layer.delta, requires_grad=False)
        plain.register_parameter("bias", layer.base.bias)
        # Kept out of nn.Module's sight, so that it is in no state_dict: the layer as it
        # was. W + delta - delta would differ from W in the last bits.
        plain.__dict__["unmerged"] = layer
        replace_layer(model, name, plain)
    return model


def unmerge(model: Model) -> Model:
    """Undo `merge`, in place: the weights are the original ones bit for bit.

    Raises:
        ConfigError: the model was not merged in this session.
    """
    merged = {n: m for n, m in model.named_modules() if "unmerged" in m.__dict__}
    if not merged:
        raise ConfigError(
            "No layer of this model was merged here. A merged model that was saved and "
            "loaded no longer knows its adapter: load the base model and its adapter."
        )
    for name, layer in merged.items():
        replace_layer(model, name, layer.__dict__["unmerged"].to(layer.weight))
    return model


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers that have an adapter, by name.

    Raises:
        ConfigError: there is none.
    """
    found = {n: m for n, m in model.named_modules() if isinstance(m, LoRALinear)}
    if not found:
        raise ConfigError(
            "This model has no LoRA adapters (or they are merged). Call apply_lora first."
        )
    return found


def _matches(name: str, targets: Iterable[str]) -> bool:
    return any(name == t or name.endswith("." + t) for t in targets)


def _check_plain(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, LoRALinear) or "unmerged" in vars(module):
            raise ConfigError(
                "This model has adapters already. Train those, or start from the base "
                "model."
            )


def _targets(model: nn.Module, targets: str | Iterable[str]) -> dict[str, Layer]:
    """The linear layers that the targets name, after checking that each can be adapted."""
    targets = [targets] if isinstance(targets, str) else list(targets)
    modules = dict(model.named_modules())
    _check_plain(model)
    linear = {
        name: layer
        for name, layer in modules.items()
        if name and isinstance(layer, (nn.Linear, QuantizedLinear))
    }
    for target in targets:
        if not any(_matches(name, [target]) for name in linear):
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"No linear layer is named {target!r} or ends in '.{target}'. Linear layers "
                f"of this model end in: {', '.join(ends) or 'there is none'}."
            )
    found = {name: x for name, x in linear.items() if _matches(name, targets)}
    if not found:
        raise ConfigError("targets is empty: name at least one linear layer.")
    for name, layer in found.items():
        if is_tied(model, layer):
            raise ConfigError(
                f"{name} shares its weight with another layer, which merging would change "
                "too. Choose other targets, or a model with tie=False."
            )
    return found


# --- files -----------------------------------------------------------------------------


def save_adapter(model: nn.Module, path: str | Path) -> None:
    """Write A and B of every adapter to a folder that peft can read, without the model.

    adapter_model.safetensors holds the tensors, adapter_config.json rank, alpha and names.

    Raises:
        ConfigError: there are no adapters, or they differ in rank or alpha.
        CheckpointError: the folder cannot be written.
    """
    layers, path = adapters(model), Path(path)
    kinds = {(layer.rank, layer.alpha) for layer in layers.values()}
    if len(kinds) > 1:
        raise ConfigError(
            f"One file holds one (rank, alpha); here are {sorted(kinds)}."
        )
    ((rank, alpha),) = kinds
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.A
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.B
    about = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
    }
    files.write_safetensors(
        tensors, path / "adapter_model.safetensors", {"format": "pt"}
    )
    with files.replacing(path / "adapter_config.json") as part:
        part.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_adapter(model: Model, path: str | Path) -> Model:
    """Apply the adapter in a folder that `save_adapter` or peft wrote, in place.

    Raises:
        CheckpointError: a file is missing or damaged, of a variant of LoRA that this course
            does not compute, or does not fit this model. The model is then unchanged.
        ConfigError: the model has adapters already.
    """
    _check_plain(model)
    folder = Path(path)
    file = folder / "adapter_config.json"
    try:
        about = json.loads(files.read_start(file, 2**20).decode("utf-8"))
        rank, alpha, targets = _read_config(about)
    except files.UNUSABLE as error:
        raise CheckpointError(
            f"{file} is not the config of a LoRA adapter that this course can apply: "
            f"{error!r}."
        ) from None
    file = folder / "adapter_model.safetensors"
    with files.open_safetensors(file) as f:
        tensors = files.read_tensors(f, file, 0)
    names = [k.removeprefix(PREFIX).removesuffix(".lora_A.weight") for k in tensors]
    names = [n for n in names if f"{PREFIX}{n}.lora_A.weight" in tensors]
    layers = _fitting(model, names, targets, file)
    expected = {}
    for name, layer in layers.items():
        out, into = layer.weight.shape
        expected[f"{PREFIX}{name}.lora_A.weight"] = (rank, into)
        expected[f"{PREFIX}{name}.lora_B.weight"] = (out, rank)
    found = {k: tuple(x.shape) for k, x in tensors.items()}
    for key in sorted(expected.keys() | found):
        if expected.get(key) != found.get(key):
            raise CheckpointError(
                f"{file} does not fit its config and this model: {key} has shape "
                f"{found.get(key, 'none')}, expected {expected.get(key, 'none')}. Is it the "
                "adapter of another model?"
            )
    apply_lora(model, rank, alpha, list(layers))
    for name, adapter in adapters(model).items():
        with torch.no_grad():
            adapter.A.copy_(tensors[f"{PREFIX}{name}.lora_A.weight"])
            adapter.B.copy_(tensors[f"{PREFIX}{name}.lora_B.weight"])
    return model


def _read_config(about: dict[str, Any]) -> tuple[int, float, list[str]]:
    """Rank, alpha and targets; a ConfigError for a variant that computes other numbers."""
    plain = {
        "peft_type": "LORA",
        "bias": "none",
        **dict.fromkeys(("fan_in_fan_out", "use_rslora", "use_dora", "lora_bias")),
        **dict.fromkeys(("rank_pattern", "alpha_pattern", "modules_to_save")),
        **dict.fromkeys(("layer_replication", "target_parameters", "use_bdlora")),
        **dict.fromkeys(("trainable_token_indices", "use_qalora")),
    }
    for name, expected in plain.items():
        value = about.get(name) or None  # peft writes false, {} and null for "no"
        if value != expected:
            raise ConfigError(f"{name} = {about.get(name)!r}, expected {expected!r}")
    rank, alpha = about["r"], about["lora_alpha"]
    check_sizes(r=rank)
    if type(alpha) not in (int, float) or not 0 < float(alpha) < math.inf:
        raise ConfigError(f"lora_alpha = {alpha!r}, expected a number above 0")
    targets = about["target_modules"]
    if not isinstance(targets, list) or not all(type(t) is str for t in targets):
        raise ConfigError(f"target_modules = {targets!r}, expected a list of names")
    return rank, alpha, targets


def _fitting(
    model: nn.Module, names: list[str], targets: list[str], file: Path
) -> dict[str, Layer]:
    """The layers of the model with these names, which must be all that the targets mean."""
    modules = dict(model.named_modules())
    linear = (nn.Linear, QuantizedLinear)
    missing = [n for n in names if not isinstance(modules.get(n), linear)]
    if missing or not names:
        raise CheckpointError(
            f"{file} is an adapter for {missing[0] if missing else 'no layer'!r}, which is "
            f"no linear layer of this {type(model).__name__}. Is it of another model?"
        )
    wanted = {
        n for n, m in modules.items() if isinstance(m, linear) and _matches(n, targets)
    }
    if wanted != set(names):
        odd = min(wanted ^ set(names))
        raise CheckpointError(
            f"{file} and its config disagree about the layer {odd}. One of the two files "
            "is damaged or belongs to another adapter."
        )
    try:
        return _targets(model, names)
    except ConfigError as error:
        raise CheckpointError(f"{file} cannot be applied: {error}") from None


# --- to compare ------------------------------------------------------------------------


def factors(W: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """up (out, rank) and down (rank, in), whose product is the nearest of this rank to W.

    Truncated SVD (Eckart and Young 1936).
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    root = S[:rank].sqrt()  # half of each singular value to either side
    return U[:, :rank] * root, root[:, None] * Vh[:rank]


def low_rank(
    model: Model, rank: int, targets: str | Iterable[str] | None = None
) -> Model:
    """Replace weights by their best approximation of this rank, in place.

    The weight (out, in) becomes two layers, in -> rank -> out, by truncated SVD (Eckart and
    Young 1936). Unlike LoRA, this removes parameters and changes the logits at once. Layers
    that it would not make smaller, and a tied head, are left alone.

    Raises:
        ConfigError: no layer has such a name, or the rank is out of range.
    """
    check_sizes(rank=rank)
    if targets is None:
        modules = model.named_modules()
        found = {n: m for n, m in modules if n and isinstance(m, nn.Linear)}
        layers: dict[str, Layer] = {
            n: m for n, m in found.items() if not is_tied(model, m)
        }
    else:
        layers = _targets(model, targets)
    for name, layer in layers.items():
        W = layer.weight.detach()
        n_out, n_in = W.shape
        if rank * (n_out + n_in) >= n_out * n_in:
            continue
        down = nn.Linear(n_in, rank, bias=False, device="meta")
        up = nn.Linear(rank, n_out, bias=False, device="meta")
        up.weight, down.weight = map(nn.Parameter, factors(W, rank))
        up.register_parameter("bias", layer.bias)
        replace_layer(model, name, nn.Sequential(down, up))
    return model
