"""Chapter 06: which characters of a written date each character of the ISO date is read from."""

import copy
import html
import re
from typing import cast

import torch
from torch import Tensor

from babygpt_course import seq2seq
from babygpt_course.attention import CrossAttention
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.seq2seq import Seq2Seq


def cross_attention_figure(
    model: Seq2Seq,
    *,
    text: str = "7 March 1994",
    iso: str = "1994-03-07",
    answer: str = "1994",
    title: str = "The year stands last and is read first",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """What each step of a trained decoder reads in a written date, with places that can be hidden.

    The weights are those of the last decoder layer. The figure is refused if the model does not show
    what the title says.

    Args:
        model: a trained encoder-decoder for dates.
        text: the date that the figure opens with.
        iso: what the model must write for it.
        answer: the word of it that the first character of `iso` must read.
        title: the claim.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: the model writes another date, or its first character reads another word, or
            hiding that word breaks none of its own digits.
    """
    rounded = copy.deepcopy(model).half().double().eval()  # what the browser gets
    source = seq2seq.encode([text])  # (1, S)
    written, weights, sure = _read(rounded, source)
    if written != iso:
        raise ConfigError(
            f"The model writes {written!r} for {text!r}, not {iso!r}. Train it further."
        )
    words = {m[0]: slice(m.start(), m.end()) for m in re.finditer(r"\w+", text)}
    if answer not in words:
        raise ConfigError(f"{answer!r} is no word of {text!r}.")
    mean = weights.mean(dim=0)  # (H, T, S) -> (T, S)
    per_word = {word: mean[:, at].sum(dim=1) for word, at in words.items()}  # (T,) each
    first = {word: float(share[0]) for word, share in per_word.items()}
    most = max(first, key=first.__getitem__)
    if most != answer or first[answer] < 0.4:
        raise ConfigError(
            f"The first character gives {first[most]:.2f} of its weight to {most!r} and "
            f"{first[answer]:.2f} to {answer!r}, which must have the most, and 0.4 at least."
        )
    hidden = source.clone()
    hidden[:, words[answer]] = seq2seq.PAD
    without = seq2seq.decode(rounded.translate(source, hidden != seq2seq.PAD))[0]
    broken = [t for t, (a, b) in enumerate(zip(iso, without)) if a != b]
    if not {*broken} & {0, 1, 2, 3}:
        raise ConfigError(
            f"With {answer!r} hidden the model writes {without!r}: a digit of {answer!r} must break."
        )
    if {*broken} <= {0, 1, 2, 3}:
        rest = "it makes up digits of a year, and keeps month and day."
    else:
        others = ", ".join(f"{t + 1}" for t in broken if t > 3)
        rest = f"it makes up digits of a year, and beyond the year this also changes {others}."
    alt = (
        f"For {text} the model writes {written}. Its first character gives {first[answer]:.0%} of the "
        f"attention to the word {answer}, mean of {len(weights)} heads. With {answer} hidden from the decoder "
        f"it writes {without} instead."
    )
    rows = [
        [
            f"{t + 1}",
            html.escape(char),
            f"{float(sure[t]):.3f}",
            html.escape(_name(text, int(mean[t].argmax()))),
            f"{float(mean[t].max()):.3f}",
            *[f"{float(share[t]):.3f}" for share in per_word.values()],
        ]
        for t, char in enumerate(written)
    ]
    head = ["step", "writes", "probability", "reads most", "weight"]
    head += [f"weight of {word}" for word in words]
    notes = [
        f"The year is read first, although it stands last: {first[answer]:.0%} of the first step's weight "
        f"lies on {answer}. The order of reading follows the date that is written, not the source.",
        "The steps that write a hyphen, and the second digit of the year, can do without the source: a hyphen "
        "always stands there, and in these two centuries 9 follows 1 and 0 follows 2. They read all the same. "
        "What they read tells nothing of what they need.",
        f"With {answer} hidden the model writes {without}: {rest} It never met a source with a hole, so the "
        "year may even belong to no century that it knows.",
    ]
    return LiveFigure(
        name="cross_attention",
        title=title,
        alt=alt,
        picture=_still(text, written, mean, alt) + still_table(head, rows),
        props={
            "chars": seq2seq.CHARS,
            "most": model.config.source_length,
            "steps": model.config.target_length,
            "config": {"n_head": model.config.n_head},
            "text": text,
            "answer": answer,
            "notes": notes,
            "code_href": code_href,
            "card": card,
        },
        tensors={name: x.detach() for name, x in model.state_dict().items()},
    )


@torch.no_grad()
def _read(model: Seq2Seq, source: Tensor) -> tuple[str, Tensor, Tensor]:
    """The text that is written, the last layer's weights (H, T, S), and each character's probability (T,)."""
    ids = model.translate(source)  # (1, T)
    logits, _ = model(source, ids)  # (1, T, V)
    weights = cast(CrossAttention, model.decoder[-1].cross_attention).weights
    assert weights is not None  # the manual path keeps them
    sure = logits.softmax(-1).gather(-1, ids[..., None])  # (1, T, 1)
    return seq2seq.decode(ids)[0], weights[0], sure[0, :, 0]


def _name(text: str, i: int) -> str:
    return f"{'space' if text[i] == ' ' else text[i]} at {i + 1}"


def _still(text: str, written: str, weights: Tensor, alt: str) -> str:
    """The attention map: a row for each character written, a column for each of the source."""
    import matplotlib

    color = matplotlib.colormaps["cividis"]
    cells, letter = [], 'font-size="15" text-anchor="middle" fill="currentColor"'
    for s, char in enumerate(text):
        if char != " ":
            cells.append(
                f'<text x="{34 + 22 * s}" y="16" {letter}>{html.escape(char)}</text>'
            )
    for t, char in enumerate(written):
        cells.append(
            f'<text x="10" y="{39 + 22 * t}" {letter}>{html.escape(char)}</text>'
        )
        for s in range(len(text)):
            w = float(weights[t, s])
            shade = matplotlib.colors.to_hex(color(w))
            cells.append(
                f'<rect x="{23 + 22 * s}" y="{23 + 22 * t}" width="22" height="22" fill="{shade}"/>'
            )
    size = f"0 0 {24 + 22 * len(text)} {24 + 22 * len(written)}"
    return (
        f'<div role="img" aria-label="{html.escape(alt)}" style="max-width:22rem">'
        f'<svg viewBox="{size}" aria-hidden="true" style="display:block;width:100%">{"".join(cells)}</svg></div>'
    )
