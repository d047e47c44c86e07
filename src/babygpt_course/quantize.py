"""Quantization: weights in 2 to 8 bits. What is stored is packed integers, so sizes are real.

A row of weights (or a group of it) becomes scale * (code - zero), with one scale for all.
Rounding to nearest needs no data; `gptq` rounds so that later columns of the weight make up
for the error of earlier ones (Frantar et al. 2023).
"""

import functools
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import check_sizes
from babygpt_course.errors import ConfigError

Model = TypeVar("Model", bound=nn.Module)
SCHEMES = ("dynamic_int8", "per_tensor", "per_channel", "group")


# --- codes -----------------------------------------------------------------------------


def pack(codes: Tensor, bits: int) -> Tensor:
    """codes (out, in), each below 2^bits -> bytes (out, bits * ceil(in / 8)).

    Eight codes of b bits fill b bytes, the first code in the lowest bits.
    """
    codes = F.pad(codes.long(), (0, -codes.shape[1] % 8))
    codes = torch.unflatten(codes, 1, (-1, 8))
    shift = bits * torch.arange(8, device=codes.device)
    words: Tensor = (codes << shift).sum(
        -1, keepdim=True
    )  # (out, n, 8) -> (out, n, 1), 64 bits
    return words.view(torch.uint8)[..., :bits].flatten(1)  # low bytes come first


def unpack(packed: Tensor, bits: int, n: int) -> Tensor:
    """The inverse of `pack`: bytes -> codes (out, n), int64."""
    codes: Tensor
    if bits in (2, 4, 8):  # whole codes in each byte
        shift = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
        codes = (packed[..., None] >> shift) & (2**bits - 1)
        return codes.flatten(1)[:, :n].long()
    words = torch.unflatten(packed, 1, (-1, bits))
    words = F.pad(words, (0, 8 - bits)).view(torch.int64)
    shift = bits * torch.arange(8, device=packed.device)
    mask = 2**bits - 1
    codes = (words >> shift) & mask  # (out, n / 8, 1) -> (out, n / 8, 8)
    return codes.flatten(1)[:, :n]


def scale_and_zero(
    W: Tensor, bits: int, symmetric: bool, per_tensor: bool = False
) -> tuple[Tensor, Tensor]:
    """The scale and the zero code of each row of W (out, n), each (out, 1).

    Symmetric: zero is the middle code, and -max to max is covered by codes of either sign,
    of which the lowest is not used. Otherwise the codes cover min to max, and 0 with them.
    """
    dim = (0, 1) if per_tensor else 1
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale = W.abs().amax(dim, keepdim=True) / top
        zero = torch.full_like(scale, top + 1)
    else:
        low = W.amin(dim, keepdim=True).clamp(max=0)
        high = W.amax(dim, keepdim=True).clamp(min=0)
        scale = (high - low) / (2**bits - 1)
        zero = -low / torch.where(scale == 0, 1, scale)
    scale = torch.where(scale == 0, 1, scale)  # a row of zeros: any scale will do
    return scale.expand(len(W), 1), zero.round().expand(len(W), 1)


def nearest(W: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """The code in 0..2^bits - 1 whose value is nearest to each weight; ties to even."""
    return ((W / scale).round() + zero).clamp(0, 2**bits - 1)


# --- layers ----------------------------------------------------------------------------


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is stored as packed codes and scales, one per group.

    codes (out, in), below 2^bits. scale (out, groups), or (1, 1) for the whole weight. zero
    like scale, or None where it is the middle code. The multiplication itself is in the
    type of x: this saves memory, not arithmetic.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        zero: Tensor | None,
        bits: int,
        group_size: int,
        bias: nn.Parameter | None,
    ):
        super().__init__()
        self.bits = bits
        self.group_size = group_size
        self.out_features, self.in_features = codes.shape
        self.bias = bias
        self.register_buffer("packed", self._packed(codes))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", None if zero is None else zero.to(torch.uint8))

    @property
    def codes(self) -> Tensor:
        """The codes minus their zero: signed integers (out, in), as floats."""
        return self._signed(slice(None))

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) that the codes stand for."""
        return self.rows(slice(None))

    def rows(self, at: Tensor | slice) -> Tensor:
        """Some rows of the weight, (n, in); the others are not unpacked."""
        return self._signed(at) * self._wide(self.scale, at)

    def _packed(self, codes: Tensor) -> Tensor:
        return pack(codes, self.bits)

    def _signed(self, at: Tensor | slice) -> Tensor:
        codes = unpack(self.packed[at], self.bits, self.in_features)
        codes = codes.to(self.scale.dtype)
        if self.zero is None:
            return codes - (1 << (self.bits - 1))
        return codes - self._wide(self.zero.to(self.scale.dtype), at)

    def _wide(self, x: Tensor, at: Tensor | slice) -> Tensor:
        """(out, groups) -> rows of (out, in), or what broadcasts to them."""
        x = x[at] if len(x) > 1 else x  # one for the whole weight
        if x.shape[1] == 1:
            return x
        return x.repeat_interleave(self.group_size, dim=1)[:, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def extra_repr(self) -> str:
        """Sizes and bits, for the printed model."""
        return f"{self.in_features} -> {self.out_features}, {self.bits} bits"


class DynamicInt8Linear(QuantizedLinear):
    """Weight and input are both int8, and so is the multiplication.

    One scale a row of the weight, fixed; one scale a token of x, found anew at every call.
    Both are symmetric. A scale of a token's own keeps the model causal: with one scale for
    all of x, a later token changes how earlier ones are rounded. The sums are int32, exact.
    """

    def __init__(self, codes: Tensor, scale: Tensor, bias: nn.Parameter | None):
        super().__init__(codes, scale, None, 8, codes.shape[1], bias)

    def _packed(self, codes: Tensor) -> Tensor:
        return (codes - 128).to(torch.int8)  # signed, as the product wants them

    def _signed(self, at: Tensor | slice) -> Tensor:
        return self.packed[at].to(self.scale.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        with torch.no_grad():
            rows = x.reshape(-1, self.in_features)  # (..., in) -> (N, in)
            scale = rows.abs().amax(1, keepdim=True) / 127  # (N, 1)
            scale = scale.clamp(min=torch.finfo(x.dtype).tiny)  # a token of zeros
            q = (rows / scale).round().to(torch.int8)
            y = int8_product(q, self.packed).to(x.dtype)  # (N, in) -> (N, out)
            y = y * scale * self.scale.to(x.dtype).T
            y = y.view(*x.shape[:-1], -1)  # (N, out) -> (..., out)
        if torch.is_grad_enabled() and x.requires_grad:
            # Rounding has gradient 0. Straight through: the value of y, the gradient of
            # the layer without rounding of x.
            smooth = F.linear(x, self.weight.to(x.dtype))
            y = smooth + (y - smooth).detach()
        return y if self.bias is None else y + self.bias


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """a (N, in) and b (out, in), both int8 -> a b^T (N, out), sums of integers.

    On a CPU that multiplies bytes exactly (AVX512-VNNI and the like) the result is int32
    and quick. Elsewhere it is float32, exact below 2^24 and no quicker than other floats.
    """
    if a.device.type == "cpu" and _multiplies_int8():
        return torch._int_mm(a, b.T)
    return a.float() @ b.float().T


@functools.cache
def _multiplies_int8() -> bool:
    """Whether torch's product of int8 is right on this CPU, by trying the largest numbers.

    Without VNNI the library adds pairs of products in 16 bits, which overflow.
    """
    most = torch.full((32, 64), 127, dtype=torch.int8)
    try:
        return bool((torch._int_mm(most, most.T) == 64 * 127**2).all())
    except (AttributeError, RuntimeError):  # no such product in this torch
        return False


class QuantizedEmbedding(nn.Module):
    """An embedding that keeps its table as codes and unpacks only the rows asked for.

    The table is a layer, so that a tied head and its embedding are one module.
    """

    def __init__(self, table: QuantizedLinear):
        super().__init__()
        self.table = table

    def forward(self, idx: Tensor) -> Tensor:
        """idx (...) -> (..., C)."""
        return self.table.rows(idx.flatten()).view(*idx.shape, -1)


# --- models ----------------------------------------------------------------------------


def quantize(
    model: Model,
    bits: int = 8,
    scheme: str = "per_channel",
    group_size: int = 64,
    symmetric: bool = True,
) -> Model:
    """Round the weight of every linear layer to the nearest code, in place.

    Scales: "per_tensor" one a weight, "per_channel" one a row, "group" one for each
    `group_size` columns of a row. "dynamic_int8" is per_channel in 8 bits with inputs in
    int8 too, and the only one that is faster. Adapters keep their floats and their base is
    quantized (as in QLoRA, Dettmers et al. 2023). Embeddings, and a head that is tied to
    one, are left alone: see `quantize_embeddings`.

    Raises:
        ConfigError: an unknown scheme, a number out of range, or no layer to quantize.
    """
    _check(bits, scheme, group_size)
    if scheme == "dynamic_int8" and (bits != 8 or not symmetric):
        raise ConfigError(f"dynamic_int8 has 8 bits and is symmetric; got {bits} bits.")
    for name, layer in linear_layers(model).items():
        new = _rounded(layer.weight, layer.bias, bits, scheme, group_size, symmetric)
        replace_layer(model, name, new)
    return model


def quantize_embeddings(
    model: Model, bits: int = 8, scheme: str = "per_channel", group_size: int = 64
) -> Model:
    """Round the tables of the embeddings to the nearest code, in place, symmetrically.

    The schemes are those of `quantize`. A head that is tied to an embedding becomes the
    same table and multiplies as the scheme says.

    Raises:
        ConfigError: an unknown scheme, a number out of range, or no embedding.
    """
    _check(bits, scheme, group_size)
    modules = dict(model.named_modules())
    tables = {n: m for n, m in modules.items() if isinstance(m, nn.Embedding)}
    if not tables:
        raise ConfigError(
            f"This {type(model).__name__} has no embedding to quantize. Is it quantized "
            "already?"
        )
    for name, embedding in tables.items():
        heads = {
            n: m
            for n, m in modules.items()
            if isinstance(m, nn.Linear) and m.weight is embedding.weight
        }
        bias = next((head.bias for head in heads.values()), None)
        table = _rounded(embedding.weight, bias, bits, scheme, group_size, True)
        for head in heads:
            replace_layer(model, head, table)
        replace_layer(model, name, QuantizedEmbedding(table))
    return model


def gptq(
    model: Model,
    batch: Tensor,
    bits: int = 4,
    scheme: str = "per_channel",
    group_size: int = 64,
    symmetric: bool = True,
    damp: float = 0.01,
) -> Model:
    """Like `quantize`, but each layer is rounded so that its outputs on a batch stay close.

    batch (B, T) are ids to call the model with: a few thousand tokens of ordinary text. The
    layers are done in order, each with inputs from layers that are already quantized.

    Raises:
        ConfigError: as `quantize`; "dynamic_int8" has no such rounding.
    """
    _check(bits, scheme, group_size)
    if scheme == "dynamic_int8":
        raise ConfigError(
            "gptq rounds per_tensor, per_channel or group; not dynamic_int8."
        )
    was_training = model.training
    model.eval()
    for name, layer in linear_layers(model).items():
        H = _second_moments(model, layer, batch)
        way = (bits, scheme, group_size, symmetric, H, damp)
        replace_layer(model, name, _rounded(layer.weight, layer.bias, *way))
    model.train(was_training)
    return model


def round_with_feedback(
    W: Tensor, H: Tensor, scale: Tensor, zero: Tensor, bits: int, damp: float = 0.01
) -> Tensor:
    """Codes (out, in) for W (out, in) that keep W x close, for inputs with E[x x^T] = H.

    Column by column: round it, then change the columns that are still free so that they
    make up for the error as well as they can. How much each one changes is a row of the
    Cholesky factor of the inverse of H (Frantar et al. 2023, algorithm 1). scale and zero
    are (out, in), or (out, 1) for all columns. `damp` times the mean of H's diagonal is
    added to it, so that it has an inverse.
    """
    W, H = W.double().clone(), H.double().clone()
    H.diagonal().add_(damp * H.diagonal().mean().clamp(min=1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)  # (in, in), upper triangle
    scale, zero = scale.double().expand_as(W), zero.double().expand_as(W)
    codes = torch.empty_like(W)
    for i in range(W.shape[1]):
        codes[:, i] = nearest(W[:, i], scale[:, i], zero[:, i], bits)
        rounded = scale[:, i] * (codes[:, i] - zero[:, i])  # (out,)
        error = (W[:, i] - rounded) / U[i, i]
        W[:, i + 1 :] -= error[:, None] * U[i, i + 1 :]  # (out, in - i - 1)
    return codes


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that can be quantized, by name: all but one tied to an embedding.

    Raises:
        ConfigError: there is none.
    """
    found = {
        name: m
        for name, m in model.named_modules()
        if name and isinstance(m, nn.Linear) and not is_tied(model, m)
    }
    if not found:
        raise ConfigError(
            f"This {type(model).__name__} has no linear layer to quantize. Is it quantized "
            "already?"
        )
    return found


def is_tied(model: nn.Module, layer: nn.Module) -> bool:
    """Whether another layer of the model holds the same weight, as a tied head does."""
    weights = model.named_parameters(remove_duplicate=False)
    return sum(p is layer.weight for _, p in weights) > 1


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of the submodule of this name, in its mode."""
    parent, _, child = name.rpartition(".")
    layer.train(model.get_submodule(name).training)
    setattr(model.get_submodule(parent), child, layer)


def size_in_bytes(model: nn.Module) -> dict[str, int]:
    """The bytes of what a file of the model holds, by part, and their "total".

    "codes", "scales" (with zeros) and "adapters" are what this module and `lora` add;
    "linear" are weights of linear layers that are not quantized, "embeddings" those of
    embeddings, tied heads among them, and "rest" is norms, biases and buffers.
    """
    parts = dict.fromkeys(
        ("embeddings", "linear", "codes", "scales", "adapters", "rest"), 0
    )
    seen: set[int] = set()
    modules = list(model.modules())
    modules.sort(
        key=lambda m: not isinstance(m, nn.Embedding)
    )  # tied: embeddings first
    for module in modules:
        own = {**module._parameters, **module._buffers}
        for name, x in own.items():
            skip = name in module._non_persistent_buffers_set
            if x is None or skip or id(x) in seen:
                continue
            seen.add(id(x))
            parts[_part(module, name)] += x.nbytes
    return {**parts, "total": sum(parts.values())}


def _part(module: nn.Module, name: str) -> str:
    if isinstance(module, nn.Embedding):
        return "embeddings"
    if isinstance(module, QuantizedLinear) and name != "bias":
        return "codes" if name == "packed" else "scales"
    if isinstance(module, nn.Linear) and name == "weight":
        return "linear"
    if name in ("A", "B"):
        return "adapters"
    return "rest"


def _check(bits: int, scheme: str, group_size: int) -> None:
    if scheme not in SCHEMES:
        raise ConfigError(f"Unknown scheme {scheme!r}. They are: {', '.join(SCHEMES)}.")
    check_sizes(bits=bits, group_size=group_size)
    if not 2 <= bits <= 8:
        raise ConfigError(f"bits must be 2 to 8; got {bits}.")


def _rounded(
    W: Tensor,
    bias: nn.Parameter | None,
    bits: int,
    scheme: str,
    group_size: int,
    symmetric: bool,
    H: Tensor | None = None,
    damp: float = 0.0,
) -> QuantizedLinear:
    """W (out, in) rounded: to nearest, or with feedback if H is given."""
    W = W.detach()
    W = W.to(torch.promote_types(W.dtype, torch.float32))
    if not W.isfinite().all():
        raise ConfigError(
            "A weight holds a NaN or an infinity: it has no nearest code."
        )
    per_tensor = scheme == "per_tensor"
    size = min(group_size, W.shape[1]) if scheme == "group" else W.shape[1]
    pairs = [
        scale_and_zero(group, bits, symmetric, per_tensor)
        for group in torch.split(W, size, dim=1)
    ]
    scale, zero = (torch.cat(x, dim=1) for x in zip(*pairs))  # (out, groups)
    s, z = (x.repeat_interleave(size, 1)[:, : W.shape[1]] for x in (scale, zero))
    if H is None:
        codes = nearest(W, s, z, bits)
    else:
        codes = round_with_feedback(W, H, s, z, bits, damp)
    if per_tensor:
        scale, zero = scale[:1].clone(), zero[:1].clone()
    scale = scale.contiguous()
    if scheme == "dynamic_int8":
        return DynamicInt8Linear(codes, scale, bias)
    return QuantizedLinear(codes, scale, None if symmetric else zero, bits, size, bias)


@torch.no_grad()
def _second_moments(model: nn.Module, layer: nn.Linear, batch: Tensor) -> Tensor:
    """The mean of x x^T over the inputs x that a layer gets for a batch: (in, in)."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        model(batch)
    finally:
        hook.remove()
    if not seen:
        raise ConfigError("The batch never reached a linear layer of the model.")
    x = torch.cat([s.reshape(-1, s.shape[-1]) for s in seen]).double()  # (N, in)
    if not x.isfinite().all():
        raise ConfigError("The model gives NaN or infinity on the batch.")
    return x.T @ x / len(x)
