"""Chapter 02: the ladder of an n-gram, one rung for each length of the context."""

import html
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.ngram import NGram

METHODS = {
    "mle": "plain counts",
    "add_k": "add-k",
    "witten_bell": "Witten-Bell",
    "kneser_ney": "Kneser-Ney",
}


def ngram_figure(
    chars: str,
    ids: Tensor,
    held_out: Tensor,
    *,
    context: str,
    title: str = "What a long context never saw, a shorter one answers",
    max_order: int = 6,
    ks: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0),
    discounts: tuple[float, ...] = (0.1, 0.3, 0.5, 0.75, 0.9),
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """A ladder of counts for any context the reader types, and the loss of each order.

    Args:
        chars: the V characters, in the order of the ids.
        ids: the text (N,) that is counted; it is sent whole, one byte a character, so that nothing is pruned.
        held_out: the text (M,) that the orders are measured on.
        context: what the figure opens with.
        ks, discounts: what the reader can choose for add-k and for Kneser-Ney.
        code_href: link to the cell that made the losses.
        card: one line on the counts.

    Raises:
        ConfigError: more than 256 characters, no order to choose, or a context with other characters.
    """
    V = len(chars)
    if V > 256:
        raise ConfigError(f"One byte holds 256 different ids; there are {V}.")
    if max_order < 2:
        raise ConfigError(f"max_order must be at least 2; got {max_order}.")
    if strange := set(context) - set(chars):
        raise ConfigError(
            f"The context holds {sorted(strange)!r}, which is not among the characters."
        )
    losses: dict[str, list[dict[str, list[float | None]]]] = {
        "mle": [_empty()],
        "add_k": [_empty() for _ in ks],
        "witten_bell": [_empty()],
        "kneser_ney": [_empty() for _ in discounts],
    }
    known = ids[: len(held_out)]  # as much as there is of the other
    for order in range(1, max_order + 1):
        raw = NGram(order, "mle").fit(ids, V)
        kn = NGram(order, "kneser_ney").fit(ids, V)
        for method, per_setting in losses.items():
            model = kn if method == "kneser_ney" else raw
            model.smoothing = method
            for i, row in enumerate(per_setting):
                model.k, model.discount = ks[min(i, len(ks) - 1)], discounts[min(i, len(discounts) - 1)]  # fmt: skip
                for name, text in (("train", known), ("held", held_out)):
                    loss = model.nll(text)
                    row[name].append(loss if math.isfinite(loss) else None)

    shown = {"k": _nearest(ks, 0.01), "d": _nearest(discounts, 0.75)}
    lines = {
        "mle": losses["mle"][0]["held"],
        "add_k": losses["add_k"][shown["k"]]["held"],
        "witten_bell": losses["witten_bell"][0]["held"],
        "kneser_ney": losses["kneser_ney"][shown["d"]]["held"],
    }
    train = losses["mle"][0]["train"]
    infinite = [i + 1 for i, loss in enumerate(lines["mle"]) if loss is None]
    at = (
        f"infinite from order {infinite[0]} on" if infinite else "finite at every order"
    )
    best = {m: min(row["held"][-1] or math.inf for row in losses[m]) for m in losses}
    alt = (
        f"Held-out loss of plain counts is {at}. At order {max_order}: Kneser-Ney {best['kneser_ney']:.3f} nats "
        f"per character, Witten-Bell {best['witten_bell']:.3f}, add-k {best['add_k']:.3f}, each at its best setting; "
        f"plain counts have {train[-1]:.3f} on the training text."
    )
    head = ["order", "training, plain", *(name.removesuffix(" counts") for name in METHODS.values())]  # fmt: skip
    rows = [
        [f"{i + 1}", *(_number(v[i]) for v in (train, *lines.values()))]
        for i in range(max_order)
    ]
    return LiveFigure(
        name="ngram",
        title=title,
        alt=alt,
        picture=_still(train, lines, alt) + still_table(head, rows),
        props={
            "chars": list(chars),
            "n": len(ids),
            "max_order": max_order,
            "context": context,
            "ks": list(ks),
            "discounts": list(discounts),
            **shown,
            "losses": losses,
            "code_href": code_href,
            "card": card,
        },
        tensors={"text": packed(ids)},
    )


def packed(ids: Tensor) -> Tensor:
    """Ids (N,) below 256, four to an int32 (N / 4 rounded up,): what the figure's file holds."""
    return F.pad(ids.to(torch.uint8), (0, -len(ids) % 4)).view(torch.int32)


def _empty() -> dict[str, list[float | None]]:
    return {"train": [], "held": []}


def _nearest(values: tuple[float, ...], wanted: float) -> int:
    return min(range(len(values)), key=lambda i: abs(math.log(values[i] / wanted)))


def _number(loss: float | None) -> str:
    return "∞" if loss is None else f"{loss:.3f}"


def _still(
    train: list[float | None], lines: dict[str, list[float | None]], alt: str
) -> str:
    """Loss against order for readers without scripts: training solid, held-out dashed."""
    curves = [("training, plain counts", train, "ink", "")]
    curves += [
        (f"held-out, {METHODS[m]}", lines[m], color, ' stroke-dasharray="6 4"')
        for m, color in (
            ("kneser_ney", "blue"),
            ("witten_bell", "edge"),
            ("add_k", "orange"),
        )
    ]
    every = [v for _, values, _, _ in curves for v in values if v is not None]
    low, high = min(every), max(every)
    xs = [20 + 330 * i / (len(train) - 1) for i in range(len(train))]

    def y(v: float) -> float:
        return 20 + 170 * (high - v) / (high - low or 1)

    drawn, label_at = [], math.inf
    for name, values, color, dash in curves:  # from the lowest end to the highest
        points = [(x, y(v)) for x, v in zip(xs, values) if v is not None]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        label_at = min(points[-1][1] + 5, label_at - 19)
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke-width="2"{dash} style="stroke:var(--{color})"/>'
            f'<text x="{xs[-1] + 10:.0f}" y="{label_at:.1f}">{name}</text>'
        )
    ticks = "".join(
        f'<text x="{x:.1f}" y="220" text-anchor="middle">{i}</text>'
        for i, x in enumerate(xs, 1)
    )
    return (
        f'<svg viewBox="0 0 540 226" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;max-width:640px;font-size:15px;fill:var(--ink)">{"".join(drawn)}{ticks}</svg>'
    )
