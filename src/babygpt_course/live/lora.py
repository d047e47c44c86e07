"""Chapter 12: a fine-tuned model whose change, or whose weights, are cut to a rank, beside LoRA of that rank."""

import copy
import html
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.lora import adapters, factors
from babygpt_course.plots import bits
from babygpt_course.tokenizer import WordTokenizer

OPENS = 4  # the rank that the figure opens with
PLACES = {"all": ("attention", "mlp"), "attention": ("attention",), "mlp": ("mlp",)}
WAYS = ("change", "whole", "lora")
MARGIN = 0.05  # bits per character that the claim must hold by


def truncated(W: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank."""
    up, down = factors(W, rank)
    return up @ down


def stops(k: int) -> list[int]:
    """The ranks of the slider: 0, the powers of two below k, and k, the full rank."""
    return [0, *(2**i for i in range(k.bit_length()) if 2**i < k), k]


def lora_figure(
    base: GPT,
    tuned: GPT,
    trained: Mapping[int, nn.Module],
    tokenizer: WordTokenizer,
    *,
    night: Sequence[str],
    day: Sequence[str],
    title: str = "A fine-tune's change survives a cut to low rank; the weights do not",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """One fine-tuned model in three approximations of low rank, each run in the browser.

    "change": the base plus the change, cut to a rank. "whole": the fine-tuned weights, cut.
    "lora": the base with an adapter that was trained with its rank.

    Args:
        base: a `gpt.GPT` with a head of its own.
        tuned: the same after fine-tuning the matrices inside its blocks, and nothing else.
        trained: the base with adapters on all those matrices, by rank, 4 among them.
        tokenizer: its tokens are the rows of the embedding.
        night: a few tales of the new style, on which the losses are measured.
        day: a few of the old one.
        title: the claim.
        code_href: link to the cell that trained the models.
        card: one line on the models.

    Raises:
        ConfigError: the models do not belong together, or do not show what the title says.
    """
    names = _matrices(base)
    _check(base, tuned, trained, tokenizer, names)
    models = [copy.deepcopy(m).half().double() for m in (base, tuned)]  # as in the file
    W = {n: _weight(models[0], n).detach() for n in names}
    tensors: dict[str, Tensor] = {k: v.detach() for k, v in base.state_dict().items()}
    D, BA = {}, {}
    for n in names:
        delta = (_weight(tuned, n) - _weight(base, n)).detach()
        tensors[f"{n}.change"] = delta
        D[n] = delta.half().double()
    for rank, model in trained.items():
        for n, layer in adapters(model).items():
            tensors[f"{n}.{rank}.A"] = layer.A.detach()
            tensors[f"{n}.{rank}.B"] = layer.scale * layer.B.detach()
            low = [tensors[f"{n}.{rank}.{part}"].half().double() for part in "BA"]
            BA[rank, n] = low[0] @ low[1]

    k = min(min(w.shape) for w in W.values())
    ranks, has = stops(k), sorted(trained)
    texts = {"night": list(night), "day": list(day)}
    work, _ = models

    def measured(way: str, rank: int, where: str) -> list[float]:
        for n in names:
            if n.split(".")[2] not in PLACES[where]:
                new = W[n] if way == "lora" else W[n] + D[n]
            elif way == "change":
                new = W[n] + truncated(D[n], rank)
            elif way == "whole":
                new = truncated(W[n] + D[n], rank)
            else:
                new = W[n] + BA[rank, n] if rank else W[n]
            _weight(work, n).data = new
        return [round(_bits(work, tokenizer, t), 4) for t in texts.values()]

    curves = {
        where: {
            way: [measured(way, r, where) for r in ([0, *has] if way == "lora" else ranks)]
            for way in WAYS
        }
        for where in PLACES
    }  # fmt: skip
    at, lora_at = ranks.index(OPENS), [0, *has].index(OPENS)
    change, whole, lora = (curves["all"][way] for way in WAYS)
    start, end = change[0][0], change[-1][0]
    cut, damaged, adapter = change[at][0], whole[at][0], lora[lora_at][0]
    if not (cut < start - MARGIN and damaged > start + MARGIN and end < cut):
        raise ConfigError(
            f"At rank {OPENS} the cut change has {cut:.3f} bits and the cut whole {damaged:.3f}, "
            f"the base {start:.3f} and the fine-tuned model {end:.3f}: the title is not true of them."
        )
    alt = (
        f"On tales of the new style the base has {start:.2f} bits per character and the fine-tuned model {end:.2f}. "
        f"With its change cut to rank {OPENS} of {k} it has {cut:.2f}, with its weights cut to that rank "
        f"{damaged:.2f}; LoRA trained with rank {OPENS} has {adapter:.2f}."
    )
    rows = [
        [str(r), f"{a[0]:.3f}", f"{b[0]:.3f}", f"{lora[[0, *has].index(r)][0]:.3f}" if r in (0, *has) else "–"]
        for r, a, b in zip(ranks, change, whole)
    ]  # fmt: skip
    head = ["rank", "change cut, bits", "whole cut, bits", "LoRA, bits"]
    return LiveFigure(
        name="lora",
        title=title,
        alt=alt,
        picture=_still(ranks, curves["all"], [0, *has], alt) + still_table(head, rows),
        props={
            "tokens": tokenizer.tokens,
            "config": {"n_head": base.config.n_head},
            "texts": texts,
            "matrices": names,
            "ranks": ranks,
            "trained": has,
            "opens": OPENS,
            "curves": curves,
            "code_href": code_href,
            "card": card,
        },
        tensors=tensors,
    )


def _matrices(model: GPT) -> list[str]:
    """The linear layers inside the blocks."""
    return [
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and n.startswith("blocks.")
    ]


def _weight(model: nn.Module, name: str) -> Tensor:
    return model.get_parameter(f"{name}.weight")


def _check(
    base: GPT,
    tuned: GPT,
    trained: Mapping[int, nn.Module],
    tokenizer: WordTokenizer,
    names: list[str],
) -> None:
    """Do the models belong together?"""
    before, after = base.state_dict(), tuned.state_dict()
    if before.keys() != after.keys() or base.config.tie:
        raise ConfigError(
            "base and tuned must be two GPTs of one shape, tie=False; LoRA models are given by rank."
        )
    if len(before["token_embedding.weight"]) != tokenizer.vocab_size:
        raise ConfigError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model "
            f"{len(before['token_embedding.weight'])}. Give the one it was trained with."
        )
    free = {f"{n}.weight" for n in names}
    strayed = [k for k in before if k not in free and not before[k].equal(after[k])]
    if strayed:
        raise ConfigError(
            f"Fine-tuning has changed {strayed[0]}. The figure takes a model of which only "
            "the matrices inside the blocks were trained."
        )
    if OPENS not in trained:
        raise ConfigError(f"trained needs the rank {OPENS}; got {sorted(trained)}.")
    for rank, model in trained.items():
        layers = adapters(model)
        if list(layers) != names or any(x.rank != rank for x in layers.values()):
            raise ConfigError(
                f"The model of rank {rank} needs an adapter of that rank on each of: "
                f"{', '.join(names)}."
            )
        for n, layer in layers.items():
            if not layer.base.weight.equal(_weight(base, n)):
                raise ConfigError(
                    f"The adapters of rank {rank} are not on the given base."
                )


@torch.no_grad()
def _bits(model: nn.Module, tokenizer: WordTokenizer, texts: list[str]) -> float:
    """Bits per character over some tales, each read from its beginning."""
    total = 0.0
    for text in texts:
        ids = torch.tensor(tokenizer.encode("\n" + text))
        logits = model(ids[None, :-1])[0][0]  # (T, V)
        total += float(F.cross_entropy(logits, ids[1:], reduction="sum"))
    return bits(total / sum(map(len, texts)))


def _still(
    ranks: list[int], curves: dict[str, Any], lora_ranks: list[int], alt: str
) -> str:
    """The three curves as they are without scripts."""
    width, height, left, top, bottom = 560, 240, 44, 10, 40
    most: float = max(v[0] for rows in curves.values() for v in rows) * 1.05
    x = {r: left + i * (width - left - 16) / (len(ranks) - 1) for i, r in enumerate(ranks)}  # fmt: skip

    def y(v: float) -> float:
        return top + (height - top - bottom) * (1 - v / most)

    looks = {
        "change": "stroke:var(--blue);stroke-width:2.5",
        "whole": "stroke:var(--orange);stroke-width:2.5;stroke-dasharray:7 4",
        "lora": "stroke:var(--ink);stroke-width:2;stroke-dasharray:2 4",
    }
    drawn = []
    for way, rows in curves.items():
        at = lora_ranks if way == "lora" else ranks
        points = " ".join(f"{x[r]:.1f},{y(v[0]):.1f}" for r, v in zip(at, rows) if r in x)  # fmt: skip
        drawn.append(f'<polyline points="{points}" fill="none" style="{looks[way]}"/>')
    style = 'font-size="14" fill="var(--soft)"'
    for r in ranks:
        drawn.append(
            f'<text x="{x[r]:.1f}" y="{height - bottom + 18}" text-anchor="middle" {style}>{r}</text>'
        )
    for v in range(int(most) + 1):
        drawn.append(
            f'<text x="{left - 8}" y="{y(v) + 5:.1f}" text-anchor="end" {style}>{v}</text>'
        )
    drawn.append(
        f'<text x="{left}" y="{height - 4}" {style}>rank; upward: bits per character</text>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(alt)}" '
        f'style="display:block;width:100%;max-width:{width}px">{"".join(drawn)}</svg>'
        '<p style="font-size:14px">Solid: the change cut to the rank. Dashed: the whole cut. Dotted: LoRA.</p>'
    )
