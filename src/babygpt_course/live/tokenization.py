"""Chapter 03: the pieces of any text, by byte-pair encoding and by a unigram model."""

import html
import math

import torch
from torch import Tensor

from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.tokenizer import BPETokenizer, SentencePieceTokenizer

MARKS = 259  # <unk>, <s>, </s> and the bytes come before the pieces
SAMPLES = {
    "English": "The little cat wanted to see the sea.",
    "German": "Die kleine Katze wollte das Meer sehen.",
    "Greek": "Η μικρή γάτα ήθελε να δει τη θάλασσα.",
    "Chinese": "小猫想看大海。",
    "digits": "In 1948 there were 12345 cats.",
    "emoji": "🐱👀🌊",
}


def tokenization_figure(
    bpe: BPETokenizer,
    unigrams: list[SentencePieceTokenizer],
    models: list[tuple[str, int, float, float]],
    *,
    text: str,
    word: str | None = None,
    title: str = "A larger vocabulary reads further, and pays in parameters",
    merges: int = 256,
    n_embd: int = 32,
    context: int = 4,
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """Pieces and bytes of what the reader types, merge by merge, and the lattice of a word.

    Args:
        bpe: all merges that the reader can replay.
        unigrams: SentencePiece unigram models, from the smallest to the largest.
        models: of each trained model (name, V, nats per token, bits per character).
        text: what the figure opens with.
        word: the word whose lattice is drawn first, with the space before it; by default
            the longest of the text.
        merges: how many merges are in use at first.
        n_embd, context: C and the number of tokens that the models read.
        code_href: link to the cell that trained the models.
        card: one line on the models.

    Raises:
        ConfigError: no unigram model, no trained model, a loss that is not finite, or more
            merges than there are.
    """
    if not unigrams or not models:
        raise ConfigError(
            "A tokenization figure needs at least one unigram model and one trained model: "
            "(name, V, nats per token, bits per character)."
        )
    if not all(math.isfinite(x) for model in models for x in model[1:]):
        raise ConfigError(f"The losses must be finite to be drawn; got {models}.")
    if not 0 <= merges <= len(bpe.merges):
        raise ConfigError(
            f"merges must lie in 0..{len(bpe.merges)}, the merges of the tokenizer; got {merges}."
        )
    steps = sorted({0, merges, len(bpe.merges)})
    cuts = {n: _pieces(BPETokenizer(bpe.merges[:n]), text) for n in steps}
    tokens = ", ".join(f"{len(cuts[n])} with {n:,} merges" for n in steps)
    paid = "; ".join(
        f"{name}: {bits:.3f} bits per character, {V * n_embd:,} embedding parameters"
        for name, V, _, bits in models
    )
    alt = f"A text of {len(text)} characters takes {tokens}. {paid}."
    lines = "".join(
        f"<div>{n:,} merges, {len(cuts[n])} pieces<br><code>{html.escape('|'.join(cuts[n]))}</code></div>"
        for n in steps
    )
    rows = [
        [name, f"{V:,}", f"{V * n_embd:,}", f"{loss:.3f}", f"{bits:.3f}"]
        for name, V, loss, bits in models
    ]
    head = ["model", "V", "embedding parameters", "nats per token", "bits per character"]  # fmt: skip
    return LiveFigure(
        name="tokenization",
        title=title,
        alt=alt,
        picture=f'<div class="lf-panels" role="img" aria-label="{html.escape(alt)}">{lines}</div>'
        + still_table(head, rows),
        props={
            "text": text,
            "word": word,
            "merges": merges,
            "sizes": [u.vocab_size for u in unigrams],
            "size": min(
                range(len(unigrams)),
                key=lambda i: abs(unigrams[i].vocab_size - 256 - merges),
            ),
            "models": [
                {"name": name, "V": V, "loss": loss, "bits": bits}
                for name, V, loss, bits in models
            ],
            "samples": list(SAMPLES.items()),
            "n_embd": n_embd,
            "context": context,
            "code_href": code_href,
            "card": card,
        },
        tensors={
            "merges": torch.tensor(bpe.merges).reshape(-1, 2),
            **{
                f"{name}.{i}": tensor
                for i, u in enumerate(unigrams)
                for name, tensor in packed(u).items()
            },
        },
    )


def packed(model: SentencePieceTokenizer) -> dict[str, Tensor]:
    """The pieces of a unigram model as code points and lengths, and its scores.

    Scores are float32 whose bits are sent as int32: a rounded one could turn a tie.
    """
    pieces = model.pieces[MARKS:]
    return {
        "codes": torch.tensor([ord(c) for piece in pieces for c in piece]),
        "lengths": torch.tensor([len(piece) for piece in pieces]),
        "scores": torch.tensor(model.scores[MARKS:], dtype=torch.float32).view(
            torch.int32
        ),
    }


def _pieces(tokenizer: BPETokenizer, text: str) -> list[str]:
    """The pieces of a text; bytes that are no whole character as <E2>."""
    shown = []
    for i in tokenizer.encode(text):
        data = tokenizer.pieces[i]
        try:
            shown.append(data.decode())
        except UnicodeDecodeError:
            shown.append("".join(f"<{b:02X}>" for b in data))
    return shown
