"""What a GPT or a Llama costs: parameters, FLOPs, memory and bytes, each by part.

Everything follows from the shape of the model, so it is known before the model exists.
Every function takes a model or its config. B batch, T positions, C channels, H heads.

The parts: `embedding` and `position` tables; `attention`, the projections into and out
of it; `scores`, the two products of attention that have no parameters, q.k and
weights.v, whose cost grows with the square of T; `mlp`; `norm`; `head`.
"""

import math
import statistics
import time
from typing import NamedTuple

import torch
from torch import nn

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPTConfig
from babygpt_course.llama import LlamaConfig
from babygpt_course.results import Table

PARTS = ("embedding", "position", "attention", "scores", "mlp", "norm", "head")
Costed = GPTConfig | LlamaConfig | nn.Module


class Shape(NamedTuple):
    """The numbers that GPT and Llama have in common, under one name each."""

    llama: bool
    V: int  # vocabulary
    L: int  # layers
    H: int  # heads
    C: int  # channels
    KV: int  # channels of all key heads together, and of all value heads
    hidden: int  # channels inside the MLP
    T: int  # the longest window


def shape_of(model: Costed) -> Shape:
    """The shape of a model or config.

    Raises:
        ConfigError: it is neither a GPT nor a Llama.
    """
    c = _config(model)
    if isinstance(c, GPTConfig):
        C = c.n_embd
        return Shape(
            False, c.vocab_size, c.n_layer, c.n_head, C, C, 4 * C, c.block_size
        )
    assert c.n_kv_heads is not None and c.hidden_dim is not None  # never, once made
    KV = c.n_kv_heads * c.head_dim
    sizes = (c.vocab_size, c.n_layers, c.n_heads, c.dim, KV, c.hidden_dim)
    return Shape(True, *sizes, c.max_seq_len)


def _config(model: Costed) -> GPTConfig | LlamaConfig:
    c = getattr(model, "config", model)
    if isinstance(c, (GPTConfig, LlamaConfig)):
        return c
    raise ConfigError(
        "The ledger knows GPT and Llama, as models or configs; got a "
        f"{type(c).__name__}."
    )


# --- parameters -----------------------------------------------------------------------


def parameters(model: Costed) -> dict[str, int]:
    """The number of parameters of each part; a tied head has none of its own."""
    s = shape_of(model)
    c = _config(model)
    count = dict.fromkeys(PARTS, 0)
    count["embedding"] = s.V * s.C
    count["attention"] = s.L * s.C * (2 * s.C + 2 * s.KV)
    count["head"] = 0 if c.tie else s.V * s.C
    if isinstance(c, LlamaConfig):
        count["mlp"] = s.L * 3 * s.C * s.hidden
        count["norm"] = (2 * s.L + 1) * s.C  # a scale
        return count
    count["position"] = s.T * s.C
    count["mlp"] = s.L * 2 * s.C * s.hidden
    count["norm"] = (2 * s.L + 1) * 2 * s.C  # a scale and a shift
    if c.bias:
        count["attention"] += s.L * 4 * s.C
        count["mlp"] += s.L * (s.hidden + s.C)
    count["head"] += s.V if c.head_bias else 0
    return count


def attribute(before: dict[str, int], after: dict[str, int]) -> dict[str, float]:
    """Which part a reduction comes from: shares of the difference, largest first.

    So what one change saved is not credited to another.

    Raises:
        ConfigError: the totals are equal.
    """
    removed = {k: before.get(k, 0) - after.get(k, 0) for k in before | after}
    total = sum(removed.values())
    if total == 0:
        raise ConfigError(
            "Both totals are the same: there is no difference to explain."
        )
    shares = {k: n / total for k, n in removed.items() if n}
    return dict(sorted(shares.items(), key=lambda item: -abs(item[1])))


# --- FLOPs ----------------------------------------------------------------------------


class Flops(NamedTuple):
    """Floating-point operations: a multiplication and an addition are two."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


def flops(model: Costed, B: int = 1, T: int | None = None) -> dict[str, Flops]:
    """FLOPs of one training step on B windows of T ids, by part.

    Matrix products only, as torch.utils.flop_counter counts them; what works on single
    numbers (norms, softmax, GELU) is small beside them. A product costs the same twice
    again backward, once for each of its two inputs. Attention forms the whole square of
    scores, also the half that the mask hides. T is block_size if not given.
    """
    s = shape_of(model)
    T = s.T if T is None else T
    n = B * T  # tokens
    forward = dict.fromkeys(PARTS, 0)
    forward["attention"] = 2 * n * s.L * s.C * (2 * s.C + 2 * s.KV)
    forward["scores"] = 2 * n * s.L * 2 * T * s.C
    forward["mlp"] = 2 * n * s.L * (3 if s.llama else 2) * s.C * s.hidden
    forward["head"] = 2 * n * s.C * s.V
    return {part: Flops(f, 2 * f) for part, f in forward.items()}


def flops_per_token(model: Costed, T: int | None = None) -> float:
    """FLOPs of training, forward and backward, for each token of a window of T."""
    T = shape_of(model).T if T is None else T
    return sum(f.total for f in flops(model, 1, T).values()) / T


def palm_flops_per_token(n_params: int, L: int, H: int, Q: int, T: int) -> int:
    """The rule of thumb 6N + 12LHQT, for Q channels a head.

    Chowdhery et al. 2022, appendix B. N has the embedding, which multiplies nothing
    unless it is tied to the head, so this is a little more than `flops_per_token`.
    """
    return 6 * n_params + 12 * L * H * Q * T


def chinchilla_flops(model: Costed, T: int) -> dict[str, int]:
    """FLOPs of a forward pass over one sequence of T tokens, as Hoffmann et al. count.

    2022, appendix F: the embedding as a product with one-hot vectors, and three
    operations for each entry of the softmax. It is for a GPT, with an MLP of two
    matrices.

    Raises:
        ConfigError: a Llama.
    """
    s = shape_of(model)
    if s.llama:
        raise ConfigError("This count is for a GPT. For a Llama use ledger.flops.")
    return {
        "embedding": 2 * T * s.V * s.C,
        "attention": s.L * 8 * T * s.C**2,
        "scores": s.L * (4 * T**2 * s.C + 3 * s.H * T**2),
        "mlp": s.L * 4 * T * s.C * s.hidden,
        "head": 2 * T * s.C * s.V,
    }


def kv_flops_per_token(model: Costed) -> int:
    """FLOPs for the keys and values of one token: what a cache saves each time."""
    s = shape_of(model)
    return 2 * 2 * s.L * s.C * s.KV


# --- memory ---------------------------------------------------------------------------


def kv_cache_bytes(model: Costed, length: int, B: int = 1, width: int = 4) -> int:
    """Bytes of cached keys and values: B texts of `length` tokens, `width` a number."""
    s = shape_of(model)
    return 2 * s.L * s.KV * width * length * B


def activation_bytes(
    model: Costed, B: int, T: int | None = None, *, fused: bool, width: int = 4
) -> dict[str, int]:
    """Bytes that a training step keeps from the forward pass for the backward pass.

    Without dropout. `fused` attention never keeps the weights, (B, H, T, T), which the
    manual path does. What is less than a hundredth of the whole (indices, masks of one
    head, rotary tables) is left out: tests compare with torch's saved tensors, within
    1%.
    """
    s = shape_of(model)
    T = s.T if T is None else T
    stream = B * T * s.C * width  # one copy of the residual stream
    inner = B * T * s.hidden * width
    scale = B * T * width  # one number a token
    kept = dict.fromkeys(PARTS, 0)
    # q, k, v and what goes into the projections: the normed stream, and the mixture.
    kept["attention"] = s.L * 5 * stream
    kept["scores"] = s.L * B * s.H * T * width * (1 if fused else T)
    if s.llama:
        if fused:  # the kernel's output is put into another order, and both are kept
            kept["attention"] += s.L * stream
        # The input; both halves of the gate, the SiLU of one, and their product.
        kept["mlp"] = s.L * (stream + 4 * inner)
        # The stream as it came, divided, and the divisor.
        kept["norm"] = (2 * s.L + 1) * (2 * stream + scale)
    else:
        kept["mlp"] = s.L * (stream + 2 * inner)  # before and after the GELU
        kept["norm"] = (2 * s.L + 1) * (stream + 2 * scale)  # mean and deviation
    # Into the head, and the log-probabilities.
    kept["head"] = stream + B * T * s.V * width
    return kept


# --- roofline: operations and the bytes they move -------------------------------------


class Work(NamedTuple):
    """FLOPs of an operation, and the bytes that it moves to and from memory."""

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs for each byte."""
        return self.flops / self.bytes


class Device(NamedTuple):
    """What a data sheet promises: bytes a second, and FLOP/s by number format."""

    name: str
    bandwidth: float
    peaks: dict[str, float]


# NVIDIA's data sheets: fp32 without tensor cores, 16 bits with them. Products with
# sparsity do half of the work that is counted, so H200 has half of the sheet's 1,979.
DEVICES = (
    Device("T4", 300e9, {"fp32": 8.1e12, "fp16": 65e12}),
    Device("A100", 2039e9, {"fp32": 19.5e12, "bf16": 312e12}),  # SXM, 80 GB
    Device("H200", 4.8e12, {"fp32": 67e12, "bf16": 989.5e12}),  # SXM
)


def work(
    model: Costed, B: int = 1, T: int | None = None, *, past: int = 0, width: int = 4
) -> dict[str, Work]:
    """A forward pass of B texts, T new tokens each, by part; `width` bytes a number.

    `past` tokens are in the key-value cache: T = 1 is decoding, past = 0 prefill. Each
    product reads its operands once and writes its result once; the scores themselves
    are never written (fused attention). What is no product is left out.
    """
    s = shape_of(model)
    T = s.T if T is None else T
    n, S, h = B * T, past + T, s.hidden
    moved = {  # numbers: weights, then what goes in and comes out
        "attention": s.L * (s.C * (2 * s.C + 2 * s.KV) + n * (4 * s.C + 2 * s.KV)),
        "scores": s.L * (2 * n * s.C + 2 * B * S * s.KV),
        "mlp": s.L * (2 * s.C * h + n * (2 * s.C + 2 * h)),
        "head": s.C * s.V + n * (s.C + s.V),
    }
    if s.llama:  # q, k and v are three products, and the MLP has a gate
        moved["attention"] += s.L * 2 * n * s.C
        moved["mlp"] += s.L * (s.C * h + n * (s.C + h))
    products = {part: f.forward for part, f in flops(model, B, T).items()}
    products["scores"] = 2 * n * s.L * 2 * S * s.C
    return {part: Work(products[part], width * moved[part]) for part in moved}


def attainable(intensity: float, peak: float, bandwidth: float) -> float:
    """The roofline: the most FLOP/s at this intensity. Williams et al. 2009."""
    return min(peak, intensity * bandwidth)


def ridge_batch(
    model: Costed,
    ridge: float,
    *,
    past: int = 0,
    width: int = 4,
    parts: tuple[str, ...] = ("attention", "mlp", "head"),
) -> int | None:
    """The smallest batch at which decoding reaches the intensity `ridge`, or None.

    The ridge is peak / bandwidth, where the roofline turns flat. FLOPs and bytes are
    linear in B, so B * f >= ridge * (c + B * d), which no B solves if f <= ridge * d.
    With the parts that have weights, unless others are named.
    """
    one, two = (work(model, B, 1, past=past, width=width) for B in (1, 2))
    f = sum(one[part].flops for part in parts)
    d = sum(two[part].bytes - one[part].bytes for part in parts)
    c = sum(one[part].bytes for part in parts) - d
    if f <= ridge * d:
        return None
    return max(1, math.ceil(ridge * c / (f - ridge * d)))


# --- this machine ---------------------------------------------------------------------


def mfu(
    tokens_per_second: float, model: Costed, peak: float, T: int | None = None
) -> float:
    """Model FLOPs utilization: the share of `peak` (FLOP/s) that training makes use of.

    A fraction, not a percentage. Only what the model needs counts (`flops_per_token`),
    not what a program computes twice. Measure the tokens of the step alone, without
    evaluation (`History.tokens_per_second`), and the peak in the same precision and
    threads (`measured_peak`). Chowdhery et al. 2022, appendix B.

    Raises:
        ConfigError: a rate or a peak that is not positive.
    """
    if not (tokens_per_second > 0 and peak > 0):
        raise ConfigError(
            "tokens_per_second and peak must be positive; got "
            f"{tokens_per_second!r} and {peak!r}."
        )
    return tokens_per_second * flops_per_token(model, T) / peak


@torch.no_grad()
def measured_peak(
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    n: int | None = None,
    repeats: int = 15,
) -> float:
    """FLOP/s of this machine at its best: the median product of n x n matrices.

    With the threads that torch has now, after a warm-up. It takes about a second.
    """
    device = torch.device(device)
    n = n or (8192 if device.type == "cuda" else 1024)
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    out = torch.empty_like(a)
    seconds = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # a GPU answers before it has finished
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds[3:])


@torch.no_grad()
def measured_bandwidth(
    device: torch.device | str = "cpu", n_bytes: int = 2**27, repeats: int = 7
) -> float:
    """Bytes a second of this machine's memory: the median copy of `n_bytes`.

    A copy reads them and writes them. Choose more than the caches hold.
    """
    device = torch.device(device)
    a = torch.ones(n_bytes // 4, device=device)
    b = torch.zeros_like(a)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        b.copy_(a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * n_bytes / statistics.median(seconds[1:])


def table(model: Costed, B: int = 1, T: int | None = None, *, fused: bool) -> Table:
    """All of it for one training step: a row for each part that costs anything."""
    columns = (
        parameters(model),
        {part: f.forward for part, f in flops(model, B, T).items()},
        {part: f.backward for part, f in flops(model, B, T).items()},
        activation_bytes(model, B, T, fused=fused),
    )
    rows = {part: [column[part] for column in columns] for part in PARTS}
    rows["all"] = [sum(column.values()) for column in columns]
    return Table(
        ["part", "parameters", "FLOPs forward", "FLOPs backward", "bytes kept"],
        [[name, *(f"{x:,}" for x in xs)] for name, xs in rows.items() if any(xs)],
    )
