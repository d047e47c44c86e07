"""Chapter 01: the table that counting finds and the table that gradient descent finds."""

import math

import torch
from torch import Tensor

from babygpt_course.bigram import count_probs
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_panels, still_table


def bigram_figure(
    chars: str,
    counts: Tensor,
    stages: list[tuple[int, Tensor, float]],
    *,
    title: str = "Gradient descent finds the table that counting finds",
    uniform: float | None = None,
    counted: float | None = None,
    floor: float | None = None,
    ask: str | None = None,
    code_href: str = "",
    card: str = "",
    seed: int = 1337,
) -> LiveFigure:
    """The counted table beside the trained one, at several training steps.

    Args:
        chars: the V characters, in the order of the ids.
        counts: how often each follows each, integers (V, V), row = previous.
        stages: (training step, logits (V, V), validation loss in nats), in order of the step.
        uniform, counted, floor: levels to draw in the loss curve, nats: the loss of knowing nothing
            (by default ln V), of the counted table, and of the text's own entropy.
        ask: the character the reader is first asked about; by default q, or the most predictable letter.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.
        seed: of the characters that the reader generates.

    Raises:
        ConfigError: the shapes do not fit the characters, or there is no stage.
    """
    size = len(chars)
    if not stages:
        raise ConfigError(
            "A bigram figure needs at least one stage: (step, logits, validation loss)."
        )
    steps, logits, losses = zip(*stages)
    for what, table in [
        ("counts", counts),
        *[(f"logits of step {s}", t) for s, t in zip(steps, logits)],
    ]:
        if tuple(table.shape) != (size, size):
            raise ConfigError(
                f"The {what} must be ({size}, {size}), one row a character; got {tuple(table.shape)}."
            )
    if list(steps) != sorted(set(steps)):
        raise ConfigError(
            f"The stages must be in order of their step, each step once; got {steps}."
        )

    for what, level in {
        "counted": counted,
        "floor": floor,
        "validation loss": sum(losses),
    }.items():
        if level is not None and not math.isfinite(level):
            raise ConfigError(
                f"The {what} must be finite to be drawn; got {level}. Smooth the table, or leave it out."
            )
    if ask not in (None, *chars):
        raise ConfigError(f"ask must be one of the {size} characters; got {ask!r}.")
    truth = count_probs(counts)  # (V, V) float64
    seen = counts.sum(1).double()  # (V,)
    if ask is None:
        letters = [i for i, c in enumerate(chars) if c.isalpha() and seen[i] > 0] or [
            int(seen.argmax())
        ]
        surest = max(letters, key=lambda i: float(truth[i].max()))
        ask = "q" if "q" in chars and seen[chars.index("q")] > 0 else chars[surest]

    logq = [torch.log_softmax(t.detach().double().cpu(), dim=1) for t in logits]
    # KL(counted || trained) of each row, weighted by how often the row was seen: nats.
    gaps = [
        float((seen / seen.sum()) @ (torch.xlogy(truth, truth) - truth * q).sum(1))
        for q in logq
    ]
    alt = (
        f"After {steps[-1]:,} steps the trained table is {gaps[-1]:.3f} nats from the counted one "
        f"(KL, mean over characters); at step {steps[0]:,} it was {gaps[0]:.3f}. Validation loss went from "
        f"{losses[0]:.3f} to {losses[-1]:.3f} nats = {losses[-1] / math.log(2):.3f} bits per character."
    )
    panels = [
        ("Counted", truth),
        *[(f"Trained, step {steps[i]:,}", logq[i].exp()) for i in (0, -1)],
    ]
    rows = [
        [f"{step:,}", f"{loss:.3f}", f"{loss / math.log(2):.3f}", f"{gap:.3f}"]
        for step, loss, gap in zip(steps, losses, gaps)
    ]
    head = [
        "training step",
        "validation loss, nats",
        "bits per character",
        "KL(counted ‖ trained), nats",
    ]
    return LiveFigure(
        name="bigram",
        title=title,
        alt=alt,
        picture=still_panels(panels, alt) + still_table(head, rows),
        props={
            "chars": list(chars),
            "steps": list(steps),
            "losses": [float(x) for x in losses],
            "uniform": math.log(size) if uniform is None else uniform,
            "counted": counted,
            "floor": floor,
            "ask": ask,
            "code_href": code_href,
            "card": card,
            "seed": seed,
        },
        tensors={
            "counts": counts,
            "stages": torch.stack([t.detach().cpu().float() for t in logits]),
        },
    )
