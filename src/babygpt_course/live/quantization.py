"""Chapter 13: the weights of a small GPT in 8 to 2 bits, with the loss, the file and the text that this gives."""

import copy
import html
import math

import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course import quantize
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.tokenizer import WordTokenizer

BITS = (8, 7, 6, 5, 4, 3, 2)
SCHEMES = {
    "per_tensor": "one a matrix",
    "per_channel": "one a row",
    "group": "one for 32 weights",
}
GROUP = 32
FACTOR = 100  # the outlier, as a multiple of the largest weight of its layer
LAYER = "blocks.0.mlp"  # where it is planted
MOST_PARAMETERS = 300_000  # two bytes each
LETTERS = 1000  # of text, at least, that the loss is measured on


def rounded(
    model: GPT, bits: int, scheme: str, symmetric: bool, embeddings: bool
) -> GPT:
    """A copy of the model with its linear layers rounded, and its embeddings if asked for."""
    model = quantize.quantize(copy.deepcopy(model), bits, scheme, GROUP, symmetric)
    if embeddings:
        quantize.quantize_embeddings(model, bits, scheme, GROUP)
    return model


def with_outlier(model: GPT, unit: int) -> GPT:
    """A copy with one incoming weight of a hidden unit of the first MLP made huge."""
    model = copy.deepcopy(model)
    W = model.get_parameter(f"{LAYER}.fc.weight").data
    W[unit, 0] = FACTOR * W.abs().max()
    return model


@torch.no_grad()
def loss(model: GPT, tales: list[list[int]]) -> float:
    """Nats per token of a model over tales, each begun anew."""
    total = 0.0
    for ids in tales:
        x = torch.tensor([ids])
        logits = model(x[:, :-1])[0][0]  # (T, V)
        total += float(F.cross_entropy(logits, x[0, 1:], reduction="sum"))
    return total / sum(len(ids) - 1 for ids in tales)


def quantization_figure(
    model: GPT,
    tokenizer: WordTokenizer,
    text: str,
    *,
    prompt: str = "In the window of the toy shop, Nora saw a robot.",
    title: str = "Eight bits are nearly free, then comes a cliff, and one outlier can move it",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """A small GPT whose weights the reader rounds: bits, scales, zero point, embeddings, an outlier.

    The quietest hidden unit of the first MLP is switched off in all that is shown, so that
    an outlier among its incoming weights changes nothing but the rounding.

    Args:
        model: a trained GPT over the tokenizer's tokens, of 300,000 parameters at most.
        tokenizer: its tokens are the rows of the embedding.
        text: tales, one a line, that the loss is measured on: the first 1,000 characters
            or more, in whole tales.
        prompt: what the model continues.
        title: the claim.
        code_href: link to the cell that shows the same in Python.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: a model that does not fit, or one of which the title is not true.
    """
    config = model.config
    if config.vocab_size != tokenizer.vocab_size:
        raise ConfigError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size}."
        )
    if config.n_params > MOST_PARAMETERS:
        raise ConfigError(
            f"The page takes a model of {MOST_PARAMETERS:,} parameters at most; this one has {config.n_params:,}."
        )
    tales, letters = _tales(tokenizer, text, config.block_size)
    net = copy.deepcopy(model).cpu().half().double().eval()  # what the page gets
    mlp = net.get_submodule(LAYER)
    with torch.no_grad():
        out = mlp.get_parameter("proj.weight")  # (C, 4C)
        unit = int(out.norm(dim=0).argmin())
        out[:, unit] = 0
    state = {k: v.detach() for k, v in net.state_dict().items()}
    if quantize.is_tied(net, _head(net)):
        del state["head.weight"]  # the file holds it once
    base = loss(net, tales)

    planted = with_outlier(net, unit)
    curves: dict[str, dict[str, list[float]]] = {}
    for outlier, floats in ((False, net), (True, planted)):
        for symmetric in (True, False):
            for embeddings in (False, True):
                key = " ".join(map(str, map(int, (outlier, symmetric, embeddings))))
                curves[key] = {
                    scheme: [
                        loss(
                            rounded(floats, bits, scheme, symmetric, embeddings),
                            tales,
                        )
                        for bits in BITS
                    ]
                    for scheme in SCHEMES
                }
    _check(curves, base, loss(planted, tales))

    plain = {k: [v - base for v in row] for k, row in curves["0 1 0"].items()}
    hit = {k: row[0] - base for k, row in curves["1 1 0"].items()}
    alt = (
        f"On {letters} characters the model has a loss of {base:.3f} nats a token. Rounded with one scale a matrix it rises "
        f"by {plain['per_tensor'][0]:.3f} at 8 bits, {plain['per_tensor'][4]:.2f} at 4 and {plain['per_tensor'][6]:.1f} at 2; with "
        f"one for 32 weights by {plain['group'][4]:.3f} at 4 and {plain['group'][6]:.1f} at 2. One outlier makes 8 bits cost "
        f"{hit['per_tensor']:.2f} with one scale a matrix, {hit['per_channel']:.3f} with one a row."
    )
    rows = [
        [name, *(f"{plain[scheme][BITS.index(b)]:.3f}" for b in (8, 6, 4, 3, 2))]
        for scheme, name in SCHEMES.items()
    ]
    head = ["scales", *(f"{b} bits" for b in (8, 6, 4, 3, 2))]
    return LiveFigure(
        name="quantization",
        title=title,
        alt=alt,
        picture=_still(plain, alt) + still_table(head, rows),
        props={
            "tokens": tokenizer.tokens,
            "config": {"n_head": config.n_head},
            "tales": tales,
            "letters": letters,
            "prompt": tokenizer.encode("\n" + prompt),
            "base": base,
            "curves": {
                key: {s: [round(v, 5) for v in row] for s, row in each.items()}
                for key, each in curves.items()
            },
            "outlier": {"layer": LAYER, "unit": unit, "column": 0, "factor": FACTOR},
            "code_href": code_href,
            "card": card,
        },
        tensors=state,
    )


def _head(model: GPT) -> nn.Linear:
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    return head


def _tales(
    tokenizer: WordTokenizer, text: str, block_size: int
) -> tuple[list[list[int]], int]:
    """Whole tales as ids, of LETTERS characters or more, and how many characters they have."""
    tales: list[list[int]] = []
    letters = 0
    for line in text.splitlines(keepends=True):
        ids = tokenizer.encode("\n" + line)
        if len(ids) <= block_size + 1:
            tales.append(ids)
            letters += len(line)
        if letters >= LETTERS:
            return tales, letters
    raise ConfigError(
        f"The text has {letters} characters in tales that fit the model; it needs {LETTERS}."
    )


def _check(
    curves: dict[str, dict[str, list[float]]], base: float, planted: float
) -> None:
    """Raise a ConfigError unless the title is true of the model."""
    plain, hit = curves["0 1 0"], curves["1 1 0"]
    facts = {
        "8 bits are nearly free": all(abs(r[0] - base) < 0.02 for r in plain.values()),
        "2 bits are not": plain["per_tensor"][-1] > base + 0.3,
        "an outlier breaks one scale a matrix": hit["per_tensor"][0] > base + 0.05,
        "it does not break one scale a row": abs(hit["per_channel"][0] - base) < 0.02,
        "in floats it is harmless": abs(planted - base) < 1e-6,
    }
    wrong = [fact for fact, true in facts.items() if not true]
    if wrong:
        raise ConfigError(
            f"The title is not true of this model: {'; '.join(wrong)}. Train it longer."
        )


def _still(rises: dict[str, list[float]], alt: str) -> str:
    """The rise of the loss against bits, as an SVG for a page without scripts."""
    looks = {"per_tensor": "", "per_channel": "7 4", "group": "2 4"}

    def point(i: int, v: float) -> str:
        level = (math.log10(min(max(v, 0.001), 10)) + 3) / 4
        return f"{20 + 55 * i},{150 - 130 * level:.1f}"

    lines = "".join(
        f'<polyline points="{" ".join(point(i, v) for i, v in enumerate(row))}" fill="none" '
        f'stroke="currentColor" stroke-width="2" stroke-dasharray="{looks[scheme]}"/>'
        for scheme, row in rises.items()
    )
    names = "".join(
        f'<text x="{20 + 55 * i}" y="172" font-size="14" text-anchor="middle" fill="currentColor">{b}</text>'
        for i, b in enumerate(BITS)
    )
    return (
        f'<svg viewBox="0 0 370 180" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;max-width:460px">{lines}{names}</svg>'
    )
