"""Chapter 14: number formats on a line, with the gradients and the updates of a training run laid over it."""

import copy
import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.precision import BF16, FORMATS, FP16, FP32, Format, round_to
from babygpt_course.trainer import as_ids, get_batch

BINS = 16  # of a histogram, in each octave; as in formats.mjs
LOWEST = -100  # octaves below are counted there: fp32 and bf16 hold them all
PAIRS = 4096  # weights and their updates, of each recorded step
SCALES = 25  # of the loss: 2^0 ... 2^24
KINDS = ("outputs", "weights")


@dataclass(frozen=True)
class Histogram:
    """The sizes of gradients, 16 bins in each octave; the first begins at 2^low."""

    counts: list[int]
    low: int
    top: float  # the largest of them; gradients of exactly 0 are in no bin

    @property
    def total(self) -> int:
        """How many gradients are not 0."""
        return sum(self.counts)


@dataclass(frozen=True)
class Recorded:
    """One step of training: sizes of gradients, and a sample of weights and updates."""

    step: int
    loss: float
    gradients: dict[str, Histogram]  # of KINDS
    weights: Tensor  # (PAIRS,) before the update
    updates: Tensor  # (PAIRS,) what AdamW added to each


def histogram(x: Tensor) -> Histogram:
    """Sizes by octave and the first 4 bits of the mantissa: the edges of bins are exact."""
    x = x.detach().flatten().float().abs()
    finite = bool(x.isfinite().all())
    x = x[x > 0]
    if not finite or not len(x):
        raise ConfigError("A histogram needs finite numbers that are not all 0.")
    bits = x.view(torch.int32)
    octave = ((bits >> 23) - 127).clamp(min=LOWEST)
    low = int(octave.min())
    at = (octave - low) * BINS + ((bits >> 19) & (BINS - 1))
    counts = torch.bincount(at, minlength=(int(octave.max()) - low + 1) * BINS)
    return Histogram(counts.tolist(), low, float(x.max()))


def fates(made: Histogram, scale: int, format: Format) -> dict[str, int]:
    """How many of the gradients, times 2^scale, become 0, lose bits, are kept, overflow."""
    i = torch.arange(len(made.counts))
    middle = (1 + ((i % BINS) + 0.5) / BINS).double()
    x = torch.ldexp(middle, (made.low + i // BINS + scale).double())
    y = round_to(x, format)
    counts = torch.tensor(made.counts)
    zero, overflow = y == 0, ~y.isfinite()
    coarse = ~zero & ~overflow & (y < format.smallest_normal)
    told = {
        "zero": int(counts[zero].sum()),
        "coarse": int(counts[coarse].sum()),
        "kept": int(counts[~zero & ~coarse & ~overflow].sum()),
        "overflow": int(counts[overflow].sum()),
    }
    # A bin may lie on both sides of the limit; the largest gradient is known exactly.
    top = torch.tensor([made.top], dtype=torch.float64) * 2.0**scale
    if not told["overflow"] and not bool(round_to(top, format).isfinite()):
        told["overflow"] = 1
        told["kept"] -= 1
    return told


def unchanged(weights: Tensor, updates: Tensor, format: Format) -> float:
    """The share of updates, of those that are not 0, that leave a weight of a format as it was."""
    moves = updates != 0
    w = round_to(weights.double(), format)
    same = round_to(w + updates.double(), format) == w
    return float(same[moves].double().mean()) if bool(moves.any()) else 0.0


def record(
    model: nn.Module,
    ids: Tensor,
    block_size: int,
    *,
    steps: Sequence[int],
    batch_size: int,
    lr: float,
    seed: int,
) -> list[Recorded]:
    """Train a copy of the model in fp32 with AdamW, and keep what is seen at some steps."""
    model = copy.deepcopy(model).float().cpu().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    told = []
    for step in range(1, max(steps) + 1):
        x, y = get_batch(ids, batch_size, block_size, generator)
        seen: list[Tensor] = []
        keep = partial(_keep, seen)
        handles = [
            m.register_full_backward_hook(keep)
            for m in (linear if step in steps else [])
        ]
        _, loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        for handle in handles:
            handle.remove()
        before = _flat(model).clone() if handles else None
        optimizer.step()
        if before is None:
            continue
        outputs = torch.cat([g.flatten() for g in seen])
        weights = torch.cat([_gradient(p).flatten() for p in model.parameters()])
        some = torch.randperm(len(before), generator=generator)[:PAIRS]
        told.append(
            Recorded(
                step,
                float(loss.detach()),
                {"outputs": histogram(outputs), "weights": histogram(weights)},
                before[some],
                (_flat(model) - before)[some],
            )
        )
    return told


def _keep(seen: list[Tensor], _module: nn.Module, _inputs: Any, outputs: Any) -> None:
    """Gradient of what a linear layer gave: autocast lets it flow in the small format."""
    seen.append(outputs[0])


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def precision_figure(
    model: nn.Module,
    train_ids: Tensor,
    *,
    block_size: int = 64,
    steps: Sequence[int] = (1, 10, 50, 200),
    batch_size: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
    title: str = "fp16 loses the small gradients, and bf16 the small updates",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """Formats, loss scale and updates to choose from, over gradients of a model that is trained for it.

    A copy of the model is trained in fp32 for max(steps) steps; the model stays as it is.

    Args:
        model: a fresh model whose forward(ids, targets) gives (logits, loss).
        train_ids: text (N,) to train on.
        block_size: how many tokens a window has.
        steps: which steps to record, ascending.
        batch_size, lr, seed: of the run.
        code_href: link to the cell that shows where the gradients come from.
        card: one line on the model and its run.

    Raises:
        ConfigError: too little text, steps that do not ascend, or a run that does not show
            what the title says.
    """
    ids = as_ids(train_ids, block_size, "training")
    if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise ConfigError(f"steps must be whole numbers that ascend; got {steps!r}.")
    told = record(
        model, ids, block_size, steps=steps, batch_size=batch_size, lr=lr, seed=seed
    )
    still = {
        f.name: [unchanged(r.weights, r.updates, f) for r in told]
        for f in FORMATS.values()
    }
    best = _check(told, still)
    last = told[-1]
    unscaled = _share(last.gradients["outputs"], 0, FP16)
    alt = (
        f"At step {last.step:,}, {unscaled[0]:.1f} % of the gradients of layer outputs "
        f"become 0 in fp16; with the loss times 2^{best}, {_lost(last, best)}, "
        f"and none overflow. bf16 loses none without a scale, but in bf16 "
        f"{100 * still['bf16'][-1]:.0f} % of the updates of AdamW leave a weight as it was."
    )
    rows = [
        [
            name,
            f"{f.smallest:.1e}",
            f"{f.largest:.1e}",
            f"{f.eps:.1e}",
            html.escape(_percent(_share(last.gradients["outputs"], 0, f)[0])),
            html.escape(_percent(_share(last.gradients["weights"], 0, f)[0])),
            html.escape(_percent(100 * still[name][-1])),
        ]
        for name, f in FORMATS.items()
    ]
    head = [
        "format", "smallest", "largest", "eps", "output gradients that become 0",
        "weight gradients that become 0", "updates that change nothing",
    ]  # fmt: skip
    answer = (
        f"In fp16, {_percent(unscaled[0])} of the gradients of layer outputs become 0 at "
        f"scale 1, {_lost(last, best)} at 2^{best}; beyond 2^{_most(last)} the "
        "largest overflow, and a step with one infinity is skipped whole. bf16 has the "
        "range of fp32 and needs no scale, and for the same bits it has fewer numbers "
        f"between 1 and 2: {_percent(100 * still['bf16'][-1])} of the updates of step "
        f"{last.step:,} are below half a gap of their weight and are lost, "
        f"{_percent(100 * still['fp16'][-1])} in fp16. Such an update is lost however often "
        "it comes: the weight stands still. A master in fp32 adds them up, and only a "
        "rounded copy of it goes into the products. The formats of 8 bits have both "
        "faults at once."
    )
    tensors: dict[str, Tensor] = {}
    for i, r in enumerate(told):
        for kind, made in r.gradients.items():
            tensors[f"{kind}.{i}"] = torch.tensor(made.counts, dtype=torch.int32)
        # As bit patterns: float16 would round away what is to be shown.
        tensors[f"w.{i}"] = r.weights.contiguous().view(torch.int32)
        tensors[f"update.{i}"] = r.updates.contiguous().view(torch.int32)
    return LiveFigure(
        name="precision",
        title=title,
        alt=alt,
        picture=_still(last.gradients["outputs"], alt) + still_table(head, rows),
        props={
            "steps": [
                {
                    "step": r.step,
                    "loss": r.loss,
                    **{k: {"low": g.low, "top": g.top} for k, g in r.gradients.items()},
                }
                for r in told
            ],
            "scales": SCALES,
            "best": best,
            "answer": answer,
            "code_href": code_href,
            "card": card,
        },
        tensors=tensors,
    )


def _share(made: Histogram, scale: int, format: Format) -> tuple[float, int]:
    """Per cent of gradients that become 0, and how many overflow."""
    found = fates(made, scale, format)
    return 100 * found["zero"] / made.total, found["overflow"]


def _percent(x: float) -> str:
    if x and x < 0.01:
        return "<0.01 %"
    return f"{x:.2f} %" if x < 1 else f"{x:.1f} %"


def _lost(r: Recorded, scale: int) -> str:
    """How few are lost with a scale, in words."""
    share = _share(r.gradients["outputs"], scale, FP16)[0]
    return "none do" if share == 0 else f"{max(share, 0.001):.3f} % do"


def _most(r: Recorded) -> int:
    """The largest scale with which neither kind of gradients overflows in fp16."""
    fits = [
        s
        for s in range(SCALES)
        if not any(_share(g, s, FP16)[1] for g in r.gradients.values())
    ]
    return max(fits, default=-1)


def _check(told: list[Recorded], still: dict[str, list[float]]) -> int:
    """What the page says must be true of this run. Returns the scale that it recommends."""
    last = told[-1]
    best = _most(last)
    outputs = last.gradients["outputs"]
    unscaled, scaled = (_share(outputs, s, FP16)[0] for s in (0, max(best, 0)))
    claims = {
        "fp16 loses 0.5 % of the outputs' gradients or more": unscaled >= 0.5,
        "a scale brings back nine tenths of them": best > 0 and scaled < unscaled / 10,
        "bf16 loses none": all(
            _share(g, 0, BF16)[0] == 0 for r in told for g in r.gradients.values()
        ),
        "bf16 swallows 3 % of the updates or more": still[BF16.name][-1] >= 0.03,
        "fp16 swallows fewer": still[FP16.name][-1] < still[BF16.name][-1],
        "fp32 swallows next to none": still[FP32.name][-1] < 0.002,
    }
    if wrong := [claim for claim, holds in claims.items() if not holds]:
        raise ConfigError(
            f"This run does not show: {'; '.join(wrong)}. Train for longer, or use a "
            "smaller learning rate or a larger batch."
        )
    return best


def _still(made: Histogram, alt: str) -> str:
    """The gradients by octave over the ranges of two formats, for readers without scripts."""
    low, high = -44, 20
    octaves = [0] * (high - low)
    for i, n in enumerate(made.counts):
        octaves[min(max(made.low + i // BINS - low, 0), high - low - 1)] += n

    def x(power: float) -> float:
        return 60 + 480 * (power - low) / (high - low)

    most = max(octaves)
    drawn = []
    for i, n in enumerate(octaves):
        height = 120 * n / most
        drawn.append(
            f'<rect x="{x(low + i):.1f}" y="{130 - height:.1f}" width="7" '
            f'height="{height:.1f}" style="fill:var(--{"orange" if low + i < -25 else "blue"})"/>'
        )
    bands = ((FP16, -24, -14, 16, 152), (BF16, low, low, high, 182))
    for format, smallest, normal, top, y in bands:
        drawn.append(f'<text x="0" y="{y + 12}">{format.name}</text>')
        drawn.append(
            f'<rect x="{x(smallest):.1f}" y="{y}" width="{x(top) - x(smallest):.1f}" '
            'height="16" style="fill:none;stroke:var(--ink)"/>'
            f'<rect x="{x(normal):.1f}" y="{y}" width="{x(top) - x(normal):.1f}" '
            'height="16" style="fill:var(--edge)"/>'
        )
    for power in range(-40, 21, 10):
        drawn.append(
            f'<text x="{x(power):.1f}" y="222" text-anchor="middle">2^{power}</text>'
        )
    drawn.append('<text x="60" y="14">orange: becomes 0 in fp16</text>')
    return (
        f'<svg viewBox="0 0 560 232" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;max-width:640px;font-size:15px;fill:var(--ink)">{"".join(drawn)}</svg>'
    )
