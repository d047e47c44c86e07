"""Chapter 08: the whole forward pass of a GPT, every tensor with its shape, and the guess after each block."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.tokenizer import WordTokenizer

MOST = 40  # tokens of a text: what a phone computes in an instant


def gpt_figure(
    model: GPT,
    tokenizer: WordTokenizer,
    texts: list[tuple[str, int]],
    *,
    title: str = "Each block adds to one stream, and the guess gets sharper",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """The forward pass of the chapter's model from left to right; parts can be switched off, numbers traced back.

    The figure is refused if the model does not show what the title says.

    Args:
        model: the trained model.
        tokenizer: its tokens are the rows of the embedding.
        texts: (text, position): the position, counted with the line break before the text, is that of the token
            whose guess is shown; the token after it is the answer. The first is what the figure opens with.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: there is no text, one is too long or its position has no answer; or the guess of the model
            does not get sharper with each block, or its answer does not lead at the end of the first text.
    """
    V = model.config.vocab_size
    if tokenizer.vocab_size != V:
        raise ConfigError(
            f"The model has {V} tokens and the tokenizer {tokenizer.vocab_size}."
        )
    if not texts:
        raise ConfigError("gpt_figure needs at least one text.")
    most = min(MOST, model.block_size)
    read = []
    for text, at in texts:
        ids = tokenizer.encode("\n" + text)
        if len(ids) > most or not 0 <= at < len(ids) - 1:
            raise ConfigError(
                f"A text has at most {most} tokens and its position one after it: {text!r} has {len(ids)}, "
                f"position {at}."
            )
        read.append(ids)
    rounded = copy.deepcopy(model).half().double().eval()  # what the browser gets
    losses = torch.stack([_losses(rounded, ids) for ids in read])  # (texts, L + 1)
    means = losses.mean(0).tolist()
    ids, at = read[0], texts[0][1]
    p = _lens(rounded, ids)[:, at].softmax(-1)  # (L + 1, V)
    answer = ids[at + 1]
    on_answer = p[:, answer].tolist()
    if any(a <= b for a, b in zip(means, means[1:])):
        raise ConfigError(
            "The guess does not get sharper with each block: the mean loss goes "
            f"{', '.join(f'{x:.2f}' for x in means)} nats. Train the model further."
        )
    if int(p[-1].argmax()) != answer or int(p[0].argmax()) == answer:
        raise ConfigError(
            f"At position {at} of {texts[0][0]!r} the answer must lead at the end and not at the start; it has "
            f"{', '.join(f'{x:.2f}' for x in on_answer)}."
        )

    word = tokenizer.tokens[answer].strip() or "space"
    names = [
        "embeddings",
        *(f"after block {i}" for i in range(1, len(model.blocks) + 1)),
    ]
    alt = (
        f"After “{tokenizer.decode(ids[max(1, at - 3) : at + 1]).strip()}” the next word “{word}” has the "
        "probability "
        + ", ".join(
            f"{value:.0%} ({name})" if i == 0 else f"{value:.0%} {name}"
            for i, (value, name) in enumerate(zip(on_answer, names))
        )
        + ". Over all texts offered the mean loss falls with each block."
    )
    rows = []
    for name, row in zip(names, p):
        best = row.topk(3)
        said = [
            f"{tokenizer.tokens[int(i)].strip() or 'space'} {float(v):.0%}"
            for v, i in zip(best.values, best.indices)
        ]
        rows.append([name, *said])
    return LiveFigure(
        name="gpt_inside",
        title=title,
        alt=alt,
        picture=_still_bars(word, dict(zip(names, on_answer)), alt)
        + still_table(["read", "first guess", "second", "third"], rows),
        props={
            "tokens": tokenizer.tokens,
            "config": {
                "n_head": model.config.n_head,
                "n_layer": len(model.blocks),
                "norm_eps": model.config.norm_eps,
            },
            "most": most,
            "texts": [{"text": text, "at": at} for text, at in texts],
            "code_href": code_href,
            "card": card,
        },
        tensors={
            name: x
            for name, x in model.state_dict().items()
            if not (name == "head.weight" and model.config.tie)
        },
    )


@torch.no_grad()
def _lens(model: GPT, ids: list[int]) -> Tensor:
    """The logits (L + 1, T, V) of the stream before the first block and after each."""
    idx = torch.tensor([ids])
    x = model.token_embedding(idx) + model.position_embedding.weight[: len(ids)]
    read = [x]
    for block in model.blocks:
        read.append(block(read[-1]))
    logits: Tensor = model.head(model.norm(torch.cat(read)))
    return logits


def _losses(model: GPT, ids: list[int]) -> Tensor:
    """The mean loss (L + 1,) of the tokens of a text, nats, read at each depth."""
    logits = _lens(model, ids)[:, :-1]  # (L + 1, T - 1, V)
    targets = torch.tensor(ids[1:]).expand(len(logits), -1)
    each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return each.mean(1)


def _still_bars(word: str, values: dict[str, float], alt: str) -> str:
    """The probability of the answer at each depth, as the picture of a page without scripts."""
    from babygpt_course import plots

    shown = plots.bars(
        values,
        title=f"The guess that “{word}” comes next",
        alt=alt,
        xlabel="probability",
    )
    return shown.svg
