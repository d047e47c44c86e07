"""The course's pictures: one look, and a text alternative on each.

A picture is an SVG whose text takes the color of the page around it, so the same output reads on a
light and on a dark page. Colors mean the same everywhere: the palette below is that of the live figures.
"""

from __future__ import annotations

import html
import io
import math
import re
from typing import TYPE_CHECKING, Any

from babygpt_course.results import Row

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

# Chosen to differ for color-blind readers and to keep a contrast of at least 3:1 on white and on near-black.
BLUE, ORANGE, GREEN, GRAY = "#1F6FD1", "#C84E00", "#0B8A6A", "#7A828C"
PROBABILITY = "cividis"  # 0..1, dark to light
_INK = "#010203"  # stands for "the page's text color" until the SVG is written


class Picture:
    """A matplotlib figure with the sentence that states what it shows.

    The sentence is what a screen reader says and what a text-only viewer prints.
    """

    def __init__(self, figure: Figure, alt: str):
        import matplotlib.pyplot as plt

        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            metadata={"Date": None},
        )
        plt.close(figure)
        self.alt = alt
        self.svg = _for_any_page(buffer.getvalue(), alt)

    def _repr_html_(self) -> str:
        return f'<figure class="picture" style="margin:0;max-width:100%">{self.svg}</figure>'

    def __repr__(self) -> str:
        return f"[picture] {self.alt}"


def _for_any_page(svg: str, alt: str) -> str:
    svg = (
        svg[svg.index("<svg") :]
        .replace(_INK, "currentColor")
        .replace(_INK.lower(), "currentColor")
    )
    width = re.search(r'width="([\d.]+)pt"', svg)
    size = f"{float(width[1]) * 4 / 3:.0f}px" if width else "100%"
    svg = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", svg, count=1)
    style = f'style="width:{size};max-width:100%;height:auto" role="img" aria-label="{html.escape(alt)}"'
    return re.sub(r'<svg([^>]*?) width="[\d.]+pt"', rf"<svg {style}\1", svg, count=1)


def axes(width: float = 5.4, height: float = 3.2, **kwargs: Any) -> tuple[Figure, Any]:
    """A figure and axes (or a grid of them, as `plt.subplots`) in the course's style. Inches."""
    import matplotlib

    style: dict[Any, Any] = {  # matplotlib's type lists every name it knows
        "figure.figsize": (width, height),
        "font.size": 11,
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "axes.titlecolor": _INK,
        "axes.titlesize": 12,
        "axes.titlelocation": "left",
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text: sharp, selectable, in the page's font size
        "svg.hashsalt": "babygpt-course",
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans"],
    }
    matplotlib.rcParams.update(style)
    import matplotlib.pyplot as plt

    return plt.subplots(**kwargs)


def visible(char: str) -> str:
    """A character as it can be read on an axis: "space" for " ", "newline" for a line break."""
    return {" ": "space", "\n": "newline", "\t": "tab"}.get(char, char)


def heatmap(
    table: Tensor | NDArray[np.floating],
    labels: str,
    *,
    title: str,
    alt: str,
    log: bool = False,
) -> Picture:
    """A (V, V) table: row = previous character, column = next character.

    With `log`, shades show log10(1 + value), so that rare pairs can be seen beside common ones.
    """
    import numpy as np
    from torch import Tensor

    if isinstance(table, Tensor):
        table = table.detach().double().cpu().numpy()
    shown = np.log10(1 + table) if log else table
    _figure, ax = axes(6.8, 6.2)
    image = ax.imshow(shown, cmap=PROBABILITY, interpolation="nearest")
    names = [{" ": "␣", "\n": "↵"}.get(c, c) for c in labels]
    ax.set_xticks(range(len(labels)), names, fontsize=7)
    ax.set_yticks(range(len(labels)), names, fontsize=7)
    ax.tick_params(length=0, pad=2)
    ax.set(xlabel="next character", ylabel="previous character", title=title)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.outline.set_visible(False)
    if log:
        top = int(shown.max())
        bar.set_ticks(range(top + 1), labels=[f"{10**i:,}" for i in range(top + 1)])
        bar.set_label("count + 1")
    return Picture(ax.figure, alt)


def bars(values: dict[str, float], *, title: str, alt: str, xlabel: str) -> Picture:
    """Horizontal bars, one a name, each with its value written beside it.

    `xlabel` names the unit.
    """
    _figure, ax = axes(5.4, 0.5 + 0.32 * len(values))
    names = [visible(name) for name in values]
    ax.barh(names, list(values.values()), color=BLUE, height=0.7)
    for i, value in enumerate(values.values()):
        ax.annotate(
            f"{value:.3g}",
            (value, i),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.12)
    return Picture(ax.figure, alt)


def loss_curve(
    rows: list[dict[str, float]], *, lines: dict[str, float], title: str | None = None
) -> Picture:
    """Training and validation loss (nats per token) against steps, with named horizontal levels."""
    figure, ax = axes()
    steps = [row["step"] for row in rows]
    ax.plot(steps, [row["train_loss"] for row in rows], color=BLUE, label="training")
    ax.plot(
        steps,
        [row["val_loss"] for row in rows],
        color=ORANGE,
        ls="--",
        label="validation",
    )
    for name, value in lines.items():
        ax.axhline(value, color=GRAY, lw=1, ls=":")
        ax.annotate(
            f"{name} {value:.3f}",
            (steps[-1], value),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
        )
    ax.set(
        xlabel="step",
        ylabel="loss, nats per character",
        title=title or "Loss while training",
    )
    first, last = rows[0], rows[-1]
    # a loss that has risen again is where the legend would be
    if last["val_loss"] > 0.8 * first["val_loss"]:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 0.08))
    else:
        ax.legend(loc="upper right", bbox_to_anchor=(1, 0.92))
    best = min(rows, key=lambda row: row["val_loss"])
    levels = "".join(f" {name}: {value:.3f}." for name, value in lines.items())
    alt = (
        f"Loss against step. Validation loss falls from {first['val_loss']:.3f} at step {first['step']} to "
        f"{last['val_loss']:.3f} nats at step {last['step']}; its lowest value is {best['val_loss']:.3f} at "
        f"step {best['step']}. Training loss ends at {last['train_loss']:.3f}.{levels}"
    )
    return Picture(figure, alt)


def running_chart(
    rows: list[Row],
    *,
    floor: float,
    title: str = "Every model so far, against the floor",
) -> Picture:
    """The chart that runs through the book: bits per character of each model, and the exact floor.

    `floor` is in bits per character, like the rows.
    """
    _figure, ax = axes(5.4, 0.9 + 0.42 * (len(rows) + 1))
    names = [row.model for row in rows] + ["floor (exact)"]
    values = [row.bits_per_char for row in rows] + [floor]
    colors = [BLUE] * len(rows) + [GREEN]
    hatch = [""] * len(rows) + ["///"]
    drawn = ax.barh(names, values, color=colors, height=0.62)
    for bar, pattern, value in zip(drawn, hatch, values):
        bar.set_hatch(pattern)
        if pattern:
            bar.set(facecolor="none", edgecolor=GREEN)
        y = bar.get_y() + bar.get_height() / 2
        ax.annotate(
            f"{value:.2f}",
            (value, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.axvline(floor, color=GREEN, lw=1, ls=":")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.1)
    ax.set(
        xlabel="bits per character on validation text (lower is better)", title=title
    )
    listed = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values))
    return Picture(ax.figure, f"Bits per character, lower is better: {listed}.")


def lattice(
    word: str, log_probs: dict[str, float], path: list[str], *, title: str, alt: str
) -> Picture:
    """Every way to cut a word: an arc for each piece with its log-probability.

    The arcs of `path`, pieces that give the word when joined, are thick and bold.
    """
    import numpy as np

    _figure, ax = axes(6.6, 3.4)
    ends = [sum(map(len, path[:i])) for i in range(len(path) + 1)]
    on_path = set(zip(ends, ends[1:]))
    turn = np.linspace(0, np.pi, 40)
    for a in range(len(word)):
        for b in range(a + 1, len(word) + 1):
            if word[a:b] not in log_probs:
                continue
            on, top = (a, b) in on_path, (b - a) ** 0.8
            color = ORANGE if on else GRAY
            x = (a + b) / 2 - (b - a) / 2 * np.cos(turn)
            ax.plot(x, top * np.sin(turn), color=color, lw=3 if on else 1)
            ax.annotate(
                f"{log_probs[word[a:b]]:.1f}".replace("-", "\u2212"),
                ((a + b) / 2, top),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                fontweight="bold" if on else "normal",
            )
    ax.plot(range(len(word) + 1), [0] * (len(word) + 1), "o", color=GRAY, ms=5)
    for i, letter in enumerate(word):
        ax.annotate(letter, (i + 0.5, -0.45), ha="center", fontsize=13)
    ax.set(title=title, ylim=(-0.6, len(word) ** 0.8))
    ax.axis("off")
    return Picture(ax.figure, alt)


def images(
    pictures: list[tuple[str, Tensor]],
    *,
    alt: str,
    title: str = "",
    columns: int = 4,
    top: float | None = None,
) -> Picture:
    """Small pictures (height, width) in rows of `columns`, each with its name above it.

    `top` is the value of the brightest shade, 1 for weights and probabilities; without it
    each picture has shades of its own, from its lowest to its highest value.
    """
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure, grid = axes(
        1.65 * columns,
        1.95 * rows + (0.35 if title else 0),
        nrows=rows,
        ncols=columns,
        squeeze=False,
    )
    levels = {} if top is None else {"vmin": 0, "vmax": top}
    for ax in grid.flat:
        ax.axis("off")
    for ax, (name, picture) in zip(grid.flat, pictures):
        shades = picture.detach().double().cpu().numpy()
        ax.imshow(shades, cmap=PROBABILITY, interpolation="nearest", **levels)
        ax.set_title(name, fontsize=10, loc="center")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=_INK)
    figure.tight_layout()
    return Picture(figure, alt)


def bits(nats: float) -> float:
    """Nats to bits."""
    return nats / math.log(2)
