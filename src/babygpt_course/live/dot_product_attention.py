"""Chapter 04: what the square root does to a softmax, and a trained attention layer that reads a story."""

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn

from babygpt_course.attention import MultiHeadAttention
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.tokenizer import WordTokenizer

SIZES = (4, 8, 16, 32, 64, 128, 256)  # D
KEYS, DRAWS = 8, 200
# A memory in two dimensions: word, key, value.
MEMORY = (
    ("Leo", (2.0, 0.2), (2.0, 1.0)),
    ("Lucy", (1.3, 1.5), (0.6, 2.0)),
    ("kite", (-1.0, 1.7), (-2.0, 0.8)),
    ("rain", (-0.8, -1.7), (-0.8, -2.0)),
)


def draw_scores(seed: int) -> Tensor:
    """q . k of random queries with 8 random keys each, for each D: (7, 200, 8)."""
    rows = []
    for D in SIZES:
        g = torch.Generator().manual_seed(seed + D)
        q = torch.randn(DRAWS, 1, D, generator=g)
        rows.append((q * torch.randn(DRAWS, KEYS, D, generator=g)).sum(-1))
    return torch.stack(rows).half().double()  # what the page gets


def meters(scores: Tensor) -> tuple[float, float]:
    """Mean entropy of the weights in bits, and mean size of the softmax's gradient: scores (n, keys)."""
    p = scores.softmax(-1)
    slope = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # (n, keys, keys)
    entropy = -torch.xlogy(p, p).sum(-1).mean() / math.log(2)
    return float(entropy), float(slope.norm(dim=(-2, -1)).mean())


def dot_product_attention_figure(
    *,
    title: str = "Without the square root, attention freezes",
    code_href: str = "",
    card: str = "200 random queries for each D, 8 random keys each",
    seed: int = 1337,
) -> LiveFigure:
    """Scores of random queries and keys with and without the root, and a lookup in two dimensions.

    Args:
        code_href: link to the cell that measured the same.
        card: one line on where the numbers come from.
        seed: of the random queries and keys.
    """
    scores = draw_scores(seed)
    rows = []
    for D, raw in zip(SIZES, scores):
        (e1, g1), (e2, g2) = meters(raw / math.sqrt(D)), meters(raw)
        rows.append([D, float(raw.var()), e1, e2, g1, g2])
    last = rows[-1]
    alt = (
        f"At D = {last[0]} the scores have the variance {last[1]:.0f}. Divided by the root of D, the weights on "
        f"{KEYS} keys have an entropy of {last[2]:.2f} bits and the softmax a gradient of {last[4]:.2f}; not "
        f"divided, {last[3]:.2f} bits and {last[5]:.2f}. At D = {rows[0][0]} it is {rows[0][2]:.2f} bits against {rows[0][3]:.2f}."
    )
    table = still_table(
        [
            "D",
            "variance of q·k",
            "entropy, divided",
            "entropy, not divided",
            "gradient, divided",
            "gradient, not divided",
        ],
        [[str(r[0]), f"{r[1]:.1f}", *(f"{x:.2f}" for x in r[2:])] for r in rows],
    )
    return LiveFigure(
        name="dot_product_attention",
        title=title,
        alt=alt,
        picture=_still_lines(rows, alt) + table,
        props={
            "sizes": list(SIZES),
            "keys": KEYS,
            "memory": [
                {"word": word, "key": key, "value": value}
                for word, key, value in MEMORY
            ],
            "code_href": code_href,
            "card": card,
        },
        tensors={"scores": scores},
    )


def attention_reader_figure(
    model: nn.Module,
    tokenizer: WordTokenizer,
    stories: list[tuple[str, int, str]],
    *,
    title: str = "One attention layer finds the name at the other end of the story",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """The chapter's trained model reading a story: what each token reads, and the words it expects next.

    Args:
        model: token_embedding, window, norm1, attention (one head), norm2 and head, as in the chapter.
        tokenizer: its tokens are the rows of the embedding.
        stories: (text, position, name): the position, counted with the line break before the text, is
            that of the token just before the name is due.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: there is no story, a position lies outside its story, or the model is another.
    """
    if not stories:
        raise ConfigError("attention_reader_figure needs at least one story.")
    state = model.state_dict()
    V = len(state.get("token_embedding.weight", ()))
    if tokenizer.vocab_size != V or "window.weight" not in state:
        raise ConfigError(
            f"The model must have a token_embedding of {tokenizer.vocab_size} rows, one a token, and a window; "
            f"got {V} rows and the parts {sorted({name.split('.')[0] for name in state})}."
        )
    texts = []
    for text, at, _name in stories:
        ids = tokenizer.encode("\n" + text.strip("\n"))
        if not 0 <= at < len(ids):
            raise ConfigError(
                f"Position {at} lies outside a story of {len(ids)} tokens."
            )
        texts.append(ids)
    rounded = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half())
    ids, at, name = texts[0], stories[0][1], stories[0][2]
    said = [tokenizer.tokens[i].strip() == name for i in ids[: at + 1]]
    row, p = _reads(rounded, ids, at)
    _, p_unscaled = _reads(_without_root(rounded), ids, at)
    best = [i for i, token in enumerate(tokenizer.tokens) if token.strip() == name]
    on_name = float(row[torch.tensor(said)].sum())
    alt = (
        f"Just before “{name}” is due, the layer gives {on_name:.0%} of its weight to that name, "
        f"{sum(said)} of {at + 1} tokens, and the model expects it with probability {float(p[best].sum()):.2f}. "
        f"Without the square root, for which it was not trained, it is {float(p_unscaled[best].sum()):.2f}."
    )
    order = row.argsort(descending=True)[:8].tolist()
    shown = [
        [repr(tokenizer.tokens[ids[s]]).strip("'"), str(at - s), f"{float(row[s]):.3f}"]
        for s in order
    ]
    return LiveFigure(
        name="attention_reader",
        title=title,
        alt=alt,
        picture=_still_text(tokenizer, ids, row, alt)
        + still_table(["token read", "tokens back", "weight"], shown),
        props={
            "tokens": tokenizer.tokens,
            "stories": [
                {"text": text.strip("\n"), "at": at, "name": name}
                for text, at, name in stories
            ],
            "code_href": code_href,
            "card": card,
        },
        tensors={k: v for k, v in state.items() if v.is_floating_point()},
    )


@torch.no_grad()
def _reads(model: nn.Module, ids: list[int], at: int) -> tuple[Tensor, Tensor]:
    """The weights of the token at a position, and the probabilities of the next."""
    logits = model(torch.tensor([ids[: at + 1]]))[0, -1]
    weights = cast(MultiHeadAttention, model.attention).weights
    assert weights is not None  # it is not fused
    return weights[0, 0, -1], logits.softmax(-1)


def _without_root(model: nn.Module) -> nn.Module:
    """The same model with scores that are not divided: its queries are larger by the root."""
    model = copy.deepcopy(model)
    qkv = cast(MultiHeadAttention, model.attention).qkv
    C = qkv.in_features
    with torch.no_grad():
        qkv.weight[:C] *= math.sqrt(C)
        if qkv.bias is not None:
            qkv.bias[:C] *= math.sqrt(C)
    return model


def _still_lines(rows: list[list[float]], alt: str) -> str:
    """Entropy against D, as the picture of a page without scripts."""
    from babygpt_course import plots

    figure, ax = plots.axes(5.4, 2.8)
    sizes = [row[0] for row in rows]
    for column, color, style, name in (
        (2, plots.BLUE, "-o", "divided by √D"),
        (3, plots.ORANGE, "--s", "not divided"),
    ):
        ax.plot(sizes, [row[column] for row in rows], style, color=color, label=name)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(D) for D in sizes])
    ax.set(xlabel="D", ylabel="entropy of the weights, bits", ylim=(0, math.log2(KEYS)))
    ax.legend()
    return plots.Picture(figure, alt).svg


def _still_text(tokenizer: WordTokenizer, ids: list[int], row: Tensor, alt: str) -> str:
    """The story up to the reading token; an underline's thickness is the weight."""
    import html

    parts = []
    for i, w in zip(ids[1:], row.tolist()[1:]):
        text = html.escape(tokenizer.tokens[i])
        thick = round(40 * w)
        parts.append(
            f'<span style="border-bottom:{thick}px solid var(--blue)">{text}</span>'
            if thick
            else text
        )
    return f'<p role="img" aria-label="{html.escape(alt)}">{"".join(parts)} …</p>'
