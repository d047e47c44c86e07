"""Number formats, the loss scaler that fp16 needs, and which format a device should use.

Micikevicius et al. 2018 for mixed precision; Micikevicius et al. 2022 for fp8.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from babygpt_course.errors import ConfigError

# --- formats ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: one sign bit, the exponent, the mantissa.

    `infinite`: the highest exponent is kept for infinity and NaN. Without, as in e4m3, it
    holds numbers too, and only the code with all bits set is a NaN.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    dtype: torch.dtype  # torch's own
    infinite: bool = True

    @property
    def bits(self) -> int:
        """Of one number, the sign among them."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is taken from the exponent's bits, so that powers below 0 have codes."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def eps(self) -> float:
        """The gap between 1 and the next number."""
        return 2.0**-self.mantissa_bits

    @property
    def smallest_normal(self) -> float:
        """The smallest number whose mantissa has all its bits."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above 0: below half of it, all is rounded to 0."""
        return self.smallest_normal * self.eps

    @property
    def largest(self) -> float:
        """The largest finite number."""
        exponent = (1 << self.exponent_bits) - (2 if self.infinite else 1) - self.bias
        return (2 - self.eps * (1 if self.infinite else 2)) * 2.0**exponent


FP32 = Format("fp32", 8, 23, torch.float32)
BF16 = Format("bf16", 8, 7, torch.bfloat16)
FP16 = Format("fp16", 5, 10, torch.float16)
FP8_E4M3 = Format("fp8_e4m3", 4, 3, torch.float8_e4m3fn, infinite=False)
FP8_E5M2 = Format("fp8_e5m2", 5, 2, torch.float8_e5m2)
FORMATS = {f.name: f for f in (FP32, BF16, FP16, FP8_E4M3, FP8_E5M2)}


def decode(codes: Tensor, format: Format) -> Tensor:
    """The numbers, float64, that the bit patterns 0..2^bits - 1 stand for."""
    E, M = format.exponent_bits, format.mantissa_bits
    codes = codes.long()
    sign = 1.0 - 2.0 * (codes >> (E + M))
    exponent = (codes >> M) & (2**E - 1)
    mantissa = (codes & (2**M - 1)).double() / 2**M  # in [0, 1)
    # Exponent 0 is special: no leading 1, which fills the gap around 0 (subnormals).
    value = torch.where(exponent > 0, 1 + mantissa, 2 * mantissa)
    value = torch.ldexp(sign * value, (exponent - format.bias).double())
    highest = exponent == 2**E - 1
    if not format.infinite:
        return value.masked_fill(highest & (mantissa == 1 - format.eps), math.nan)
    value = torch.where(highest, sign * math.inf, value)
    return value.masked_fill(highest & (mantissa > 0), math.nan)


def round_to(x: Tensor, format: Format, saturate: bool = False) -> Tensor:
    """The nearest number of a format for each number of x, ties to even, in x's own dtype.

    Beyond the largest number it is infinity, or NaN in a format without infinity; with
    `saturate` it is the largest number.
    """
    wide = x.double()
    _, exponent = torch.frexp(wide)  # |x| = m 2^exponent with m in [1/2, 1)
    lowest = 1 - format.bias  # below it the gap between numbers stays the same
    gap = (exponent - 1).clamp(min=lowest) - format.mantissa_bits  # as a power of two
    gap = gap.double()  # else ldexp computes 2^gap in fp32, where it can overflow
    y = torch.ldexp(torch.ldexp(wide, -gap).round(), gap)
    y = torch.where(wide.isfinite(), y, wide)
    limit = format.largest
    if saturate:
        y = y.clamp(-limit, limit)
    else:
        beyond = torch.copysign(torch.tensor(math.inf, dtype=y.dtype), y)
        beyond = beyond if format.infinite else torch.full_like(y, math.nan)
        y = torch.where(y.abs() > limit, beyond, y)
    return y.to(x.dtype)


# --- the loss scaler -------------------------------------------------------------------


class LossScaler:
    """Multiply the loss, so that small gradients do not become 0 in fp16.

    The factor looks for itself: a step whose gradients overflow is skipped and the factor
    halved; after `growth_interval` good steps in a row it is doubled. The numbers are
    those of torch.amp.GradScaler.

        scaler.scale(loss).backward()
        scaler.unscale(optimizer)  # only if gradients are clipped or looked at
        stepped = scaler.step(optimizer)

    Several optimizers of one model go together: scaler.step(muon, adamw).

    Raises:
        ConfigError: a number out of range.
    """

    def __init__(
        self,
        factor: float = 2.0**16,
        growth: float = 2.0,
        backoff: float = 0.5,
        growth_interval: int = 2000,
    ):
        if not (0 < factor < math.inf and growth > 1 > backoff > 0):
            raise ConfigError(
                "A loss scaler needs factor > 0, growth > 1 and backoff between 0 and 1; "
                f"got {factor}, {growth} and {backoff}."
            )
        if growth_interval < 1:
            raise ConfigError(
                f"growth_interval must be 1 or more; got {growth_interval}."
            )
        self.factor = factor
        self.growth = growth
        self.backoff = backoff
        self.growth_interval = growth_interval
        self.good_steps = 0  # in a row, since the factor last changed
        self._finite: bool | None = None  # of this step's gradients, once unscaled

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss * self.factor

    def unscale(self, *optimizers: torch.optim.Optimizer) -> bool:
        """Divide the gradients by the factor, in place; whether all of them are finite.

        Raises:
            ConfigError: it was called twice for one step.
        """
        if self._finite is not None:
            raise ConfigError("The gradients of this step are unscaled already.")
        finite = True
        for gradient in _gradients(*optimizers):
            gradient.mul_(1 / self.factor)
            finite = finite and bool(gradient.isfinite().all())
        self._finite = finite
        return finite

    def step(self, *optimizers: torch.optim.Optimizer) -> bool:
        """Let the optimizers step if all gradients are finite, and adapt the factor.

        On False neither weights nor the state of an optimizer were touched.

        Raises:
            ConfigError: overflow at a factor of almost 0: NaN has another cause then.
        """
        finite = self.unscale(*optimizers) if self._finite is None else self._finite
        self._finite = None
        if finite:
            for optimizer in optimizers:
                optimizer.step()
            self.good_steps += 1
            if self.good_steps == self.growth_interval:
                # A factor of infinity would turn a gradient of 0 into NaN.
                larger = self.factor * self.growth
                self.factor = larger if larger <= FP32.largest else self.factor
                self.good_steps = 0
            return True
        self.good_steps = 0
        self.factor *= self.backoff
        if self.factor < FP32.smallest_normal:
            raise ConfigError(
                "The gradients are infinite or NaN however small the factor. Look for a "
                "division by zero or a log of zero in the model, or for NaN in the data."
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ConfigError: it is not a state of a scaler.
        """
        factor, good_steps = state.get("factor"), state.get("good_steps")
        if not (
            isinstance(factor, float)
            and 0 < factor < math.inf
            and isinstance(good_steps, int)
            and 0 <= good_steps < self.growth_interval
        ):
            raise ConfigError(f"This is not the state of a loss scaler: {state!r}.")
        self.factor, self.good_steps = factor, good_steps


def _gradients(*optimizers: torch.optim.Optimizer) -> Iterator[Tensor]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    yield parameter.grad


# --- by device -------------------------------------------------------------------------

PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class Policy:
    """Which format the matrix multiplications of a device should use, and why."""

    device_type: str
    format: Format
    scale: bool  # whether the loss must be scaled
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context for the forward pass. Weights stay in fp32; backward goes outside."""
        if self.format == FP32:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.format.dtype)

    def scaler(self) -> LossScaler | None:
        """A new loss scaler, or None where none is needed."""
        return LossScaler() if self.scale else None


def policy_for(precision: str, device: torch.device | str | nn.Module) -> Policy:
    """The policy that was asked for by name, one of PRECISIONS, on a device.

    "auto" is `autocast_policy`. fp16 always comes with a loss scaler. A CPU without the
    instructions emulates both 16-bit formats: the same numbers, slower than fp32.

    Raises:
        ConfigError: another name, or a format that the device does not have.
    """
    check_precision(precision)
    best = autocast_policy(device)
    if precision in ("auto", best.format.name):
        return best
    format = FORMATS[precision]
    if format == FP32:
        return Policy(best.device_type, FP32, False, "fp32, as asked for.")
    # bf16 on a GPU whose best is fp16 would be emulated, slower than fp32.
    lacks = best.device_type == "cuda" and best.format == FP16
    if lacks or not _autocasts(best.device_type, format):
        raise ConfigError(
            f'precision = "{precision}" is not to be had on this machine. {best.reason} '
            f'Use "{best.format.name}", or "auto" for the best that is there.'
        )
    return Policy(
        best.device_type, format, format == FP16, f"{precision}, as asked for."
    )


def check_precision(precision: str) -> None:
    """Raise a ConfigError for a name that is not one of PRECISIONS."""
    if precision not in PRECISIONS:
        choices = ", ".join(f'"{name}"' for name in PRECISIONS)
        raise ConfigError(f"precision must be one of {choices}; got {precision!r}.")


def _autocasts(device_type: str, format: Format) -> bool:
    """Whether a product on this device comes out in the format, by trying."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.autocast(device_type, dtype=format.dtype):
                x = torch.ones(2, 2, device=device_type)
                return (x @ x).dtype == format.dtype
    except (RuntimeError, AssertionError):  # torch has no such device, or no kernel
        return False


def autocast_policy(device: torch.device | str | nn.Module | None = None) -> Policy:
    """The format for a device (or for the one a model is on); by default the best one here.

    bf16 where the hardware has it, else fp16 with a loss scaler on a GPU, else fp32.
    """
    if isinstance(device, nn.Module):
        device = next(device.parameters()).device
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:  # is_bf16_supported() would say yes to emulation, which is slow
            why = f"{name} multiplies in bf16, whose range is that of fp32."
            return Policy("cuda", BF16, False, why)
        why = (
            f"{name} (compute capability {major}.{minor}) has no bf16. fp16 is fast, but "
            f"gradients below {FP16.smallest / 2:.0e} become 0 in it, so the loss is scaled."
        )
        return Policy("cuda", FP16, True, why)
    if device.type == "cpu" and _cpu_has_bf16():
        why = "This processor multiplies in bf16 (AVX512_BF16 or AMX)."
        return Policy("cpu", BF16, False, why)
    where = "This processor" if device.type == "cpu" else f"The device {device.type!r}"
    why = f"{where} is not known to multiply faster in 16 bits, so it is fp32."
    return Policy(device.type, FP32, False, why)


def _cpu_has_bf16() -> bool:
    """Whether the instructions are there; without them bf16 is emulated and slow."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
