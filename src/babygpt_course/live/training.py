"""Chapter 10: a bigram table that is trained in the browser, and curves of runs that were recorded."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from babygpt_course.bigram import count_pairs
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.live.ngram import packed
from babygpt_course.live.rng import random_numbers

Row = Mapping[str, float]
Point = tuple[int, float, float]  # step, training loss, validation loss

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
BATCHES = (1, 8, 64, 512)
SHARES = (0.0025, 0.01, 0.1, 1.0)  # of the training text
DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
STEPS = 3000
MOST_TRAIN, MOST_VAL = 200_000, 50_000  # characters that the page is given


@dataclass(frozen=True)
class _Run:
    """One run of the browser, made in Python too, so that what the page says of it was seen."""

    name: str
    lr: float
    batch: int
    share: float
    decay: float = 0.0


SEEN = {
    "base": _Run("bigram, rate 10", 10, 64, 1),
    "far": _Run("bigram, rate 300", 300, 64, 1),
    "small_batch": _Run("bigram, rate 30, batch 8", 30, 8, 1),
    "large_batch": _Run("bigram, rate 30, batch 512", 30, 512, 1),
    "little": _Run("bigram, 0.25 % of the text", 10, 64, SHARES[0]),
    "decay": _Run("the same, decay 0.0001", 10, 64, SHARES[0], 1e-4),
}


def training_figure(
    train_ids: Tensor,
    val_ids: Tensor,
    chars: str,
    *,
    runs: Mapping[str, Sequence[Row]] | None = None,
    exhibit: Sequence[Row] | None = None,
    exhibit_name: str = "A published run",
    title: str = "Training loss keeps falling after validation loss has turned",
    code_href: str = "",
    card: str = "",
    seed: int = 1,
) -> LiveFigure:
    """A bigram table to train in the browser, beside recorded curves and one that the reader predicts.

    Args:
        train_ids, val_ids: texts (N,) and (M,); the page gets the first 200,000 and 50,000 ids.
        chars: the V characters, in the order of the ids.
        runs: recorded runs by name, each the rows of a `History`; a run is drawn as far as its losses are finite.
        exhibit: rows (step, train_loss, val_loss) of a run that went on after its best validation loss;
            the reader guesses how it goes on. Without it there is no question.
        exhibit_name: what the menu calls it.
        code_href: link to the cell that made the recorded runs.
        card: one line on the data and the runs.
        seed: of the batches and of the sample texts.

    Raises:
        ConfigError: too little text, ids outside the characters, an exhibit that does not turn, or a
            text on which the bigram table does not show what the page says of it.
    """
    V = len(chars)
    train = torch.as_tensor(train_ids, dtype=torch.int64)[:MOST_TRAIN].cpu()
    val = torch.as_tensor(val_ids, dtype=torch.int64)[:MOST_VAL].cpu()
    if not 2 <= V <= 256:
        raise ConfigError(f"The figure takes 2 to 256 characters; got {V}.")
    if len(train) < 20_000 or len(val) < 2_000:
        raise ConfigError(
            "The figure needs 20,000 ids to train on and 2,000 to validate on; got "
            f"{len(train):,} and {len(val):,}."
        )
    for ids in (train, val):
        if not 0 <= int(ids.min()) <= int(ids.max()) < V:
            raise ConfigError(f"Ids must lie in 0..{V - 1}, one for each character.")

    curves = {name: _rows(name, rows) for name, rows in (runs or {}).items()}
    if exhibit is not None:
        curves = {exhibit_name: _turning(_rows(exhibit_name, exhibit)), **curves}
    seen = {
        name: _descend(run, train, val, V, STEPS, seed) for name, run in SEEN.items()
    }
    _check(seen)
    # So far above, the last bit of the arithmetic decides where the run goes: no number of it is shown.
    del seen["far"]

    little = seen["little"]
    low = _best(little)
    browser = (
        f"A bigram table trained on {_size(SHARES[0], train):,} characters does the same: validation "
        f"{low[2]:.3f} at step {low[0]:,} and {little[-1][2]:.3f} at step {little[-1][0]:,}."
    )
    if exhibit is not None:
        rows = curves[exhibit_name]
        best = _best(rows)
        alt = (
            f"{exhibit_name}: validation loss is lowest at step {best[0]:,}, {best[2]:.3f} nats, and {rows[-1][2]:.3f} "
            f"at step {rows[-1][0]:,}, while training loss falls from {best[1]:.3f} to {rows[-1][1]:.3f}. {browser}"
        )
    else:
        alt, rows = browser, little
    table = [
        [html.escape(name), f"{s:,}", f"{a:.3f}", f"{b:.3f}"]
        for name, points in curves.items()
        for s, a, b in _thinned(points, 12)
    ]
    table += [
        [SEEN[name].name, f"{s:,}", f"{a:.3f}", f"{b:.3f}"]
        for name, points in seen.items()
        for s, a, b in [points[-1]]
    ]
    return LiveFigure(
        name="training",
        title=title,
        alt=alt,
        picture=_still(rows, alt)
        + still_table(["run", "step", "training, nats", "validation, nats"], table),
        props={
            "chars": list(chars),
            "n": len(train),
            "m": len(val),
            "runs": [{"name": n, "rows": [list(row) for row in r]} for n, r in curves.items()],
            "exhibit": exhibit is not None,
            "rates": list(RATES),
            "batches": list(BATCHES),
            "shares": list(SHARES),
            "sizes": [_size(share, train) for share in SHARES],
            "decays": list(DECAYS),
            "steps": STEPS,
            "seed": seed,
            "seen": {
                name: {"end": list(rows[-1]), "low": list(_best(rows))}
                for name, rows in seen.items()
            },
            "code_href": code_href,
            "card": card,
        },
        tensors={"train": packed(train), "val": packed(val)},
    )  # fmt: skip


def _rows(name: str, rows: Sequence[Row]) -> list[Point]:
    """(step, training loss, validation loss) of a run, up to the first loss that is not finite."""
    made = [
        (int(r["step"]), round(float(r["train_loss"]), 4), round(float(r["val_loss"]), 4))
        for r in rows
    ]  # fmt: skip
    lost = [i for i, row in enumerate(made) if not all(map(math.isfinite, row))]
    made = made[: lost[0]] if lost else made
    steps = [row[0] for row in made]
    if len(made) < 2 or steps != sorted(set(steps)):
        raise ConfigError(
            f"The run {name!r} needs two rows or more with finite losses, in order of their step; got steps {steps}."
        )
    return made


def _best(rows: list[Point]) -> Point:
    """The row with the lowest validation loss."""
    return min(rows, key=lambda row: row[2])


def _turning(rows: list[Point]) -> list[Point]:
    """The rows, if there is something to predict in them."""
    best = _best(rows)
    after = rows[rows.index(best) + 1 :]
    if len(after) < 2 or rows[-1][2] < best[2] + 0.05 or rows[-1][1] >= best[1]:
        raise ConfigError(
            "The exhibit must go on after its best validation loss, with two rows or more, the last one at "
            "least 0.05 nats worse, and its training loss must go on falling."
        )
    return rows


def _size(share: float, train: Tensor) -> int:
    """How many characters a share of the training text is."""
    return max(2, round(share * len(train)))


def _due(step: int) -> bool:
    """Is the loss recorded at this step? Every step at first, then less and less often."""
    return step % (1 << max(0, step.bit_length() - 6)) == 0


def _descend(
    run: _Run, train: Tensor, val: Tensor, V: int, steps: int, seed: int
) -> list[Point]:
    """What the page's run does, in float64: rows (step, training loss, validation loss).

    The gradient of a pair's loss is p - onehot in the row of the id before it.
    """
    n = _size(run.share, train)
    known, held = (count_pairs(ids, V).double() for ids in (train[:n], val))  # (V, V)
    table = torch.zeros(V, V, dtype=torch.float64)
    draws = random_numbers(seed, steps * run.batch).view(steps, run.batch)
    at = (draws * (n - 1)).long()  # (steps, B)
    first = torch.arange(run.batch)
    rows = []
    for step in range(steps + 1):
        if _due(step) or step == steps:
            logp = table.log_softmax(1)  # (V, V)
            here, there = (float(-(c * logp).sum() / c.sum()) for c in (known, held))
            rows.append((step, round(here, 4), round(there, 4)))
        if step == steps:
            return rows
        before, after = train[at[step]], train[at[step] + 1]  # (B,), (B,)
        gradient = table[before].softmax(1)  # (B, V)
        gradient[first, after] -= 1
        if run.decay:
            table *= 1 - run.lr * run.decay
        table.index_add_(0, before, gradient, alpha=-run.lr / run.batch)
    raise AssertionError  # the loop returns


def _check(seen: dict[str, list[Point]]) -> None:
    """The page's words about the browser's runs must be true of this text."""
    end = {name: rows[-1][2] for name, rows in seen.items()}
    low = {name: min(row[2] for row in rows) for name, rows in seen.items()}
    start = seen["base"][0][2]
    claims = {
        "at rate 300 the loss ends above where it began": end["far"] > start,
        "a batch of 8 ends higher than one of 512": end["small_batch"]
        > end["large_batch"] + 0.05,
        "on little text validation turns": end["little"] > low["little"] + 0.05,
        "weight decay holds it down": end["decay"] < end["little"] - 0.03,
        "on all of the text it hardly turns": end["base"] < low["base"] + 0.05,
    }
    if wrong := [claim for claim, holds in claims.items() if not holds]:
        raise ConfigError(
            f"On this text the bigram table does not show: {'; '.join(wrong)}. Give a longer text, or one "
            "of another kind."
        )


def _thinned(rows: list[Point], most: int) -> list[Point]:
    """At most about `most` of the rows, the best and the last among them."""
    every = math.ceil(len(rows) / most)
    best = _best(rows)
    return [r for i, r in enumerate(rows) if i % every == 0 or r in (best, rows[-1])]


def _still(rows: list[Point], alt: str) -> str:
    """Loss against step for readers without scripts: training solid, validation dashed."""
    losses = [loss for row in rows for loss in row[1:]]
    low, high, last = min(losses), max(losses), rows[-1][0]

    def at(step: int, loss: float) -> str:
        y = 20 + 160 * (high - loss) / (high - low or 1)
        return f"{44 + 280 * step / last:.1f},{y:.1f}"

    lines = "".join(
        f'<polyline points="{" ".join(at(row[0], row[i]) for row in rows)}" fill="none" stroke-width="2" {look}/>'
        for i, look in (
            (1, 'style="stroke:var(--ink)"'),
            (2, 'stroke-dasharray="7 4" style="stroke:var(--orange)"'),
        )
    )
    best = _best(rows)
    x, y = at(best[0], best[2]).split(",")
    texts = [
        (40, 25, "end", f"{high:.1f}"),
        (40, 185, "end", f"{low:.1f}"),
        (44, 204, "middle", "0"),
        (324, 204, "end", f"step {last:,}"),
        (324, 226, "end", "solid: training; dashed: validation"),
    ]
    words = "".join(
        f'<text x="{a}" y="{b}" text-anchor="{anchor}">{html.escape(text)}</text>'
        for a, b, anchor, text in texts
    )
    return (
        f'<svg viewBox="0 0 340 232" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;max-width:480px;font-size:15px;fill:var(--ink)">{lines}'
        f'<circle cx="{x}" cy="{y}" r="5" style="fill:var(--orange)"/>{words}</svg>'
    )
