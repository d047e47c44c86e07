"""Chapter 10: what temperature, top-k and top-p leave of a model's answer, and what it then writes."""

import copy
import html
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from babygpt_course.errors import ConfigError
from babygpt_course.generate import filter_logits
from babygpt_course.gpt import GPT
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.live.rng import random_numbers

TEXTS = 5
P = 0.9  # what the figure opens with, and what its claim is about
MOST_PARAMETERS = 300_000  # two bytes each


def sampling_figure(
    model: GPT,
    chars: str,
    contexts: Sequence[str],
    *,
    title: str = "Top-p follows how sure the model is, top-k does not",
    seed: int = 1,
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """The next character's probabilities, two cuts in them, and five texts that a small GPT writes.

    Args:
        model: a trained GPT; it runs in the page, so it may have 300,000 parameters at most.
        chars: the V characters, in the order of the ids.
        contexts: two or more beginnings of a text to choose from. After one of them the model should be
            sure of the next character, after another one not.
        seed: of the texts.
        code_href: link to the cell that trained the model.
        card: one line on the model.

    Raises:
        ConfigError: a model that does not fit the page or the characters, contexts with other characters
            or too long, or contexts after which top-p keeps about as many characters.
    """
    config = model.config
    V = len(chars)
    if config.vocab_size != V:
        raise ConfigError(f"The model has {config.vocab_size} ids for {V} characters.")
    if config.n_params > MOST_PARAMETERS:
        raise ConfigError(
            f"The page takes a model of {MOST_PARAMETERS:,} parameters at most; this one has {config.n_params:,}."
        )
    length = min(80, config.block_size * 5 // 8)  # characters of each text
    most = config.block_size - length  # of a context: then no text leaves the window
    if len(contexts) < 2 or len(set(contexts)) < len(contexts):
        raise ConfigError("The figure needs two different contexts or more.")
    for context in contexts:
        if not 1 <= len(context) <= most or set(context) - set(chars):
            raise ConfigError(
                f"A context has 1 to {most} of the model's characters; got {context!r}."
            )

    rounded = copy.deepcopy(model).cpu().half().double().eval()  # what the page runs
    logits = [_next(rounded, [chars.index(c) for c in text]) for text in contexts]
    kept = [_kept(row, None, P) for row in logits]
    sure, unsure = kept.index(min(kept)), kept.index(max(kept))
    if kept[unsure] < kept[sure] + 2:
        counts = ", ".join(f"{n} after {text!r}" for n, text in zip(kept, contexts))
        raise ConfigError(
            f"Top-p = {P} keeps about as many characters after every context ({counts}), so the figure would not "
            "show its claim. Give one context with a sure continuation and one with many."
        )
    k = 5 if kept[sure] < 5 < kept[unsure] else (kept[sure] + kept[unsure]) // 2
    probs = [torch.softmax(row, 0) for row in logits]  # (V,) each
    ordered = [p.sort(descending=True).values for p in probs]
    junk = float(ordered[sure][kept[sure] : k].sum())
    lost = float(ordered[unsure][k : kept[unsure]].sum())
    alt = (
        f"Top-p = {P} keeps {_count(kept[sure])} after “{_plain(contexts[sure])}”, where the model is surer, and "
        f"{kept[unsure]} after “{_plain(contexts[unsure])}”, where it is less sure. Top-k = {k} keeps {k} after both: after the "
        f"first {k - kept[sure]} that share {_percent(junk)}, while after the second it cuts {kept[unsure] - k} that have "
        f"{_percent(lost)} together."
    )
    head = ["after", "entropy, bits", f"top-p = {P} keeps", f"top-k = {k} keeps", "likeliest next"]  # fmt: skip
    rows = []
    for text, p, n, order in zip(contexts, probs, kept, ordered):
        best = ", ".join(
            f"{_name(chars[i])} {_percent(float(p[i]))}"
            for i in p.argsort(descending=True)[:3]
        )
        rows.append(
            [
                html.escape(_plain(text)),
                f"{float(-torch.xlogy(p, p).sum()) / math.log(2):.2f}",
                f"{n}",
                f"{_percent(float(order[:k].sum()))}",
                html.escape(best),
            ]
        )
    return LiveFigure(
        name="sampling",
        title=title,
        alt=alt,
        picture=_still(chars, [(contexts[i], probs[i], kept[i]) for i in (sure, unsure)], k, alt)
        + still_table(head, rows),
        props={
            "chars": list(chars),
            "contexts": list(contexts),
            "sure": sure,
            "unsure": unsure,
            "kept": kept,
            "k": k,
            "p": P,
            "most": most,
            "length": length,
            "texts": TEXTS,
            "seed": seed,
            "config": {"n_head": config.n_head, "norm_eps": config.norm_eps},
            "code_href": code_href,
            "card": card,
        },
        tensors={
            name: tensor
            for name, tensor in rounded.state_dict().items()
            if not (config.tie and name == "head.weight")
        },
    )  # fmt: skip


def continuation(
    model: GPT,
    context: list[int],
    n: int,
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[int]:
    """The n ids that the page writes after a context, one random number each.

    An id is where the running sum of the probabilities, in the order of the ids, passes the number.
    """
    ids = list(context)
    for u in random_numbers(seed, n):
        logits = _next(model, ids)
        if temperature == 0:
            new = int(logits.argmax())
        else:
            cut = filter_logits(logits[None], temperature, top_k, top_p)[0]
            new = int((torch.softmax(cut, 0).cumsum(0) <= u).sum())
        ids.append(min(new, len(logits) - 1))
    return ids[len(context) :]


@torch.no_grad()
def _next(model: GPT, ids: list[int]) -> Tensor:
    """Logits (V,) after ids."""
    logits: Tensor = model(torch.tensor([ids]))[0][0, -1]
    return logits


def _kept(logits: Tensor, k: int | None, p: float | None) -> int:
    """How many ids the cuts leave of logits (V,)."""
    return int(filter_logits(logits[None], 1.0, k, p).isfinite().sum())


def _name(char: str) -> str:
    return {" ": "space", "\n": "newline"}.get(char, char)


def _plain(text: str) -> str:
    """A text on one line."""
    return text.replace("\n", " ").strip() or _name(text[0])


def _percent(p: float) -> str:
    return f"{100 * p:.1f} %"


def _count(n: int) -> str:
    return f"{n} character{'' if n == 1 else 's'}"


def _still(chars: str, panels: list[tuple[str, Tensor, int]], k: int, alt: str) -> str:
    """Sorted bars after two contexts, a line at each cut, for readers without scripts."""
    drawn = []
    for text, p, n in panels:
        order = p.argsort(descending=True)[: max(n, k) + 2]
        bars = "".join(
            f'<rect x="70" y="{4 + 20 * i}" width="{max(1.0, 190 * float(p[j])):.1f}" height="14" '
            f'style="fill:var(--blue)"/><text x="62" y="{16 + 20 * i}" text-anchor="end">{html.escape(_name(chars[j]))}</text>'
            for i, j in enumerate(order.tolist())
        )
        cuts = "".join(
            f'<line x1="0" x2="270" y1="{1 + 20 * at}" y2="{1 + 20 * at}" style="stroke:var(--ink)" stroke-dasharray="{dash}"/>'
            f'<text x="270" y="{(-4 if above else 15) + 20 * at}" text-anchor="end">{words}</text>'
            for at, dash, words, above in (
                (n, "none", f"p = {P}", n > k),
                (k, "4 3", f"k = {k}", k > n),
            )
        )
        drawn.append(
            f'<div>after “{html.escape(_plain(text))}”<svg viewBox="0 0 270 {20 * len(order) + 4}" aria-hidden="true" '
            f'style="font-size:15px;fill:var(--ink)">{bars}{cuts}</svg></div>'
        )
    return (
        f'<div class="lf-panels" style="grid-template-columns:repeat(auto-fit,minmax(15rem,1fr))" role="img" '
        f'aria-label="{html.escape(alt)}">{"".join(drawn)}</div>'
    )
