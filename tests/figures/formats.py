"""formats.mjs: decoding and rounding over all codes, histograms, sums and updates, against torch's own casts."""

import base64
import math

import torch
from torch import Tensor

from babygpt_course.live.precision import histogram
from babygpt_course.precision import FORMATS, FP32

SMALL = [f for f in FORMATS.values() if f.bits <= 16]


def bits(x: Tensor) -> str:
    """Float32 numbers as the bytes of their bit patterns."""
    return base64.b64encode(x.float().contiguous().numpy().tobytes()).decode()


def cast(x: Tensor, format) -> Tensor:
    """torch's own rounding, read back as float32."""
    y = x.float().to(format.dtype).float()
    if format.infinite:
        return y
    # Of overflow without infinity, versions of torch make NaN or the largest: NaN here.
    return y.masked_fill(x.abs() > 464, math.nan)  # 448 and half a gap


def all_numbers(format) -> Tensor:
    kind = torch.uint8 if format.bits == 8 else torch.uint16
    return torch.arange(2**format.bits).to(kind).view(format.dtype).float()


def hard_cases(format) -> Tensor:
    """All numbers of a format, the midpoints between neighbors, and what is just beside."""
    x = all_numbers(format)
    x = x[x.isfinite()].unique()
    last = x[-1:] + (x[-1:] - x[-2:-1])  # where the next one would be
    more = torch.cat([-last, x, last]) if last.isfinite() else x
    middle = ((more[1:].double() + more[:-1].double()) / 2).float()
    beside = [torch.nextafter(middle, torch.tensor(s * math.inf)) for s in (1, -1)]
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3e38, -3e38]
    return torch.cat([x, middle, *beside, torch.tensor(special)])


def golden() -> dict:
    generator = torch.Generator().manual_seed(0)
    formats = {}
    for format in SMALL:
        x = hard_cases(format)
        formats[format.name] = {
            "numbers": bits(all_numbers(format)),
            "x": bits(x),
            "y": bits(cast(x, format)),
        }
    wide = torch.randn(4096, generator=generator).double()
    wide *= 2.0 ** torch.randint(-150, 128, (4096,), generator=generator).double()
    limits = {
        name: {
            "eps": torch.finfo(f.dtype).eps,
            "smallestNormal": torch.finfo(f.dtype).tiny,
            "largest": torch.finfo(f.dtype).max,
        }
        for name, f in FORMATS.items()
    }

    gradients = torch.randn(50_000, generator=generator)
    gradients *= 2.0 ** (8 * torch.randn(50_000, generator=generator) - 18)
    made = histogram(gradients)
    shares = []
    for format in FORMATS.values():
        for scale in (0, 5, 11, 16, 24, 30):
            x = gradients.abs() * 2.0**scale
            y = cast(x, format)
            zero, over = y == 0, ~y.isfinite()
            coarse = ~zero & ~over & (y < torch.finfo(format.dtype).tiny)
            counts = [int(each.sum()) for each in (zero, coarse, over)]
            shares.append({"format": format.name, "scale": scale, "counts": counts})

    sums = []
    for format in FORMATS.values():
        for power in (-3, -4, -6, -7, -8, -9, -11, -12, -24):
            for master in (False, True):
                held = FP32 if master else format
                w = torch.tensor(1.0).to(held.dtype)
                seen = []
                for _ in range(200):
                    step = torch.tensor(2.0**power).to(held.dtype)
                    w = (w.float() + step.float()).to(held.dtype)
                    seen.append(float(w.to(format.dtype)))
                sums.append(
                    {"format": format.name, "update": 2.0**power, "master": master, "seen": seen}
                )  # fmt: skip
    weights = torch.randn(3000, generator=generator)
    updates = 0.01 * torch.randn(3000, generator=generator)
    updates *= 2.0 ** torch.randint(-20, 1, (3000,), generator=generator)
    updates[::7] = 0
    still = {}
    for name, format in FORMATS.items():
        w = cast(weights, format)
        same = cast(w + updates, format) == w
        still[name] = float(same[updates != 0].double().mean())
    within = {
        name: [
            float(v)
            for v in all_numbers(FORMATS[name]).double().unique()
            if 0.4 <= v <= 3
        ]
        for name in ("fp8_e4m3", "fp8_e5m2", "bf16")
    }
    return {
        "formats": formats,
        "limits": limits,
        "wide": wide,
        "narrow": wide.float().double(),
        "histogram": {
            "counts": made.counts,
            "low": made.low,
            "top": made.top,
        },
        "shares": shares,
        "sums": sums,
        "pairs": {
            "weights": weights.view(torch.int32),
            "updates": updates.view(torch.int32),
            "still": still,
        },
        "within": within,
        "small": [float(v) for v in all_numbers(FORMATS["fp16"]).double().unique() if 0 < v <= 2.0**-20],
    }  # fmt: skip


FAULTS = {
    "ties away from zero": ("formats.mjs", "(Math.abs(x) / gap + MAGIC - MAGIC) * gap", "Math.floor(Math.abs(x) / gap + 0.5) * gap"),
    "no subnormals": ("formats.mjs", "Math.max(exponentOf(x), 1 - bias) - M); // below", "exponentOf(x) - M); // below"),
    "a leading 1 among the subnormals": ("formats.mjs", "return exponent ? sign", "return true ? sign"),
    "the sign of zero lost": ("formats.mjs", "return x < 0 ? -y : y;", "return x < 0 && y ? -y : y;"),
    "infinity in e4m3": ("formats.mjs", "fp8_e4m3: format(4, 3, false)", "fp8_e4m3: format(4, 3, true)"),
    "overflow before rounding": ("formats.mjs", "if (y > largest)", "if (Math.abs(x) > largest)"),
    "bf16 with the exponent of fp16": ("formats.mjs", "bf16: format(8, 7)", "bf16: format(5, 10)"),
    "a bin counted by its lower edge": ("formats.mjs", "+ 0.5) / BINS);", ") / BINS);"),
    "the scale divides": ("formats.mjs", "middle(i, low) * 2 ** scale", "middle(i, low) / 2 ** scale"),
    "the largest gradient forgotten": ("formats.mjs", "total.overflow = 1;", "total.overflow = 0;"),
    "the master in the small format": ("formats.mjs", "master ? FORMATS.fp32 : format", "master ? format : format"),
    "the master not rounded for use": ("formats.mjs", "return roundTo(weight, format);", "return weight;"),
    "a weight of fp32 moved": ("formats.mjs", "const weight = roundTo(w[i], format);", "const weight = w[i];"),
    "updates of 0 counted": ("formats.mjs", "if (step === 0) return;", "if (step === null) return;"),
    "one gap for all numbers": ("formats.mjs", "x += 2 ** (Math.max(exponentOf(x), 1 - bias) - M)", "x += 2 ** -M"),
}  # fmt: skip
