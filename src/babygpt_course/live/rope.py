"""Chapter 15: four models that know their positions in four ways, and what a shift of all positions does to each."""

import html
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import attention_weights, merge_heads, split_heads
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.llama import apply_rotary
from babygpt_course.tokenizer import CharTokenizer

SCHEMES = {
    "none": "none",
    "learned": "learned table",
    "sinusoids": "sinusoids",
    "rotary": "rotary",
}
SHIFT = 8  # the claim is about moving all positions by so many
THETAS = (10, 100, 1_000, 10_000, 100_000)
MOST_PARAMETERS = 60_000  # of each model; two bytes each
BIN = 4  # positions to a point of the curves


def rope_figure(
    models: Mapping[str, nn.Module],
    tokenizer: CharTokenizer,
    trained: int,
    *,
    texts: Sequence[str],
    windows: Tensor,
    title: str = "Turned positions know only distance; added ones know the place",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """Scores and losses of four small GPTs under a shift of all positions, and past the trained length.

    The figure is refused if the models do not show what the title says.

    Args:
        models: "none", "learned", "sinusoids", "rotary". Each is a GPT with LayerNorm and GELU and one number of
            heads; the second and third have the table `position_embedding`, the last turns queries and keys with
            the base 10,000.
        tokenizer: its characters are the rows of the embedding.
        trained: the length of the windows that they were trained on.
        texts: what the reader may choose from; the first is what the figure opens with.
        windows: ids (N, L) of held-out text, L above `trained` and at most the length of the tables; losses by
            position are measured on them.
        code_href: link to the cell that trained the models.
        card: one line on the models.

    Raises:
        ConfigError: models that are missing, too large or of another kind, texts or windows that do not fit them,
            or models that do not show the claim.
    """
    if list(models) != list(SCHEMES):
        raise ConfigError(f"rope_figure takes the models {', '.join(SCHEMES)}, in this order; got {', '.join(models)}.")  # fmt: skip
    length = windows.shape[1]
    if not trained + SHIFT <= length:
        raise ConfigError(f"Windows of {length} do not reach {SHIFT} positions past {trained}.")  # fmt: skip
    heads: set[int] = set()
    states = {}
    for scheme, model in models.items():
        state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
        states[scheme] = state
        n = sum(x.numel() for x in state.values())
        if n > MOST_PARAMETERS + length * state["token_embedding.weight"].shape[1]:
            raise ConfigError(f"The page takes models of {MOST_PARAMETERS:,} parameters; {scheme!r} has {n:,}.")  # fmt: skip
        heads.add(int(model.blocks[0].attention.n_head))  # type: ignore[index, union-attr]
        if state["token_embedding.weight"].shape[0] != tokenizer.vocab_size:
            raise ConfigError(f"The model {scheme!r} has another number of characters than the tokenizer.")  # fmt: skip
        table = state.get("position_embedding.weight")
        if (table is not None) != (scheme in ("learned", "sinusoids")) or (table is not None and len(table) < length):  # fmt: skip
            raise ConfigError(f"The model {scheme!r} must have {'a table of positions for all of a window' if scheme in ('learned', 'sinusoids') else 'no table of positions'}.")  # fmt: skip
    if len(heads) != 1:
        raise ConfigError("The four models must have one number of heads.")
    n_head = heads.pop()
    for text in texts:
        if not 2 <= len(text) <= trained or set(text) - set(tokenizer.chars):
            raise ConfigError(f"A text has 2 to {trained} characters of the models; got {text!r}.")  # fmt: skip
    if not texts:
        raise ConfigError("The figure needs a text.")

    with torch.no_grad():
        for scheme, model in models.items():
            theirs = model(windows[:2])[0].double()
            ours = read(_double(states[scheme]), windows[:2], n_head, scheme)[0]
            if not torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3):
                raise ConfigError(f"The model {scheme!r} is not the GPT with {SCHEMES[scheme]} positions that the page computes.")  # fmt: skip

    rounded = {s: _double({k: v.half() for k, v in x.items()}) for s, x in states.items()}  # fmt: skip
    ids = torch.tensor([tokenizer.encode(texts[0])])
    facts = {s: _facts(x, ids, n_head, s) for s, x in rounded.items()}
    curves = {s: _curve(x, windows, n_head, s) for s, x in rounded.items()}
    inside = {s: sum(c[2 : trained // BIN]) / len(c[2 : trained // BIN]) for s, c in curves.items()}  # fmt: skip
    beyond = {s: sum(c[-2:]) / 2 for s, c in curves.items()}
    for scheme in SCHEMES:
        moved = facts[scheme][0]
        if (moved > 0.02) != (scheme in ("learned", "sinusoids")):
            raise ConfigError(
                f"The scores of {scheme!r} move by {moved:.2g} under a shift by {SHIFT}, which is not what the figure claims. "
                "Train the models further."
            )
    if inside["rotary"] != min(inside.values()):
        raise ConfigError(
            "The rotary model is not the best of the four within the trained length: "
            + ", ".join(f"{s} {x:.2f}" for s, x in inside.items())
            + " bits per character. Train the models further."
        )

    stay = ", ".join(SCHEMES[s] for s in SCHEMES if facts[s][0] <= 0.02)
    alt = (
        f"When all positions move by {SHIFT}, the scores of these stay: {stay}. Those of the learned table move by up to "
        f"{facts['learned'][0]:.2f} and of the sinusoids by up to {facts['sinusoids'][0]:.2f}. Within {trained} characters, the trained "
        f"length, the rotary model is best, {inside['rotary']:.2f} bits per character; at the end of {length} it has {beyond['rotary']:.2f}, "
        f"the learned table {beyond['learned']:.2f}."
    )
    rows = [
        [SCHEMES[s], f"{facts[s][0]:.3f}", *(f"{x:.2f}" for x in (inside[s], beyond[s]))]
        for s in SCHEMES
    ]  # fmt: skip
    head = ["positions", f"scores move, shift {SHIFT}", "bits within the trained length", f"bits at the end of {length}"]  # fmt: skip
    return LiveFigure(
        name="rope",
        title=title,
        alt=alt,
        picture=_still(curves, trained, length, alt) + still_table(head, rows),
        props={
            "chars": list(tokenizer.chars),
            "texts": list(texts),
            "schemes": [[s, name] for s, name in SCHEMES.items()],
            "trained": trained,
            "length": length,
            "shift": SHIFT,
            "thetas": list(THETAS),
            "config": {"n_head": n_head},
            "curves": {s: [round(x, 4) for x in c] for s, c in curves.items()},
            "bin": BIN,
            "code_href": code_href,
            "card": card,
        },
        tensors={
            f"{s}.{name}": x
            for s, state in states.items()
            for name, x in state.items()
            if name != "head.weight" or not x.equal(state["token_embedding.weight"])
        },
    )


@torch.no_grad()
def read(
    state: Mapping[str, Tensor],
    ids: Tensor,
    n_head: int,
    scheme: str,
    start: int = 0,
    theta: float = 10_000.0,
) -> tuple[Tensor, Tensor]:
    """Logits (B, T, V), and the first layer's scores (B, H, T, T) before the mask, from a state_dict.

    The first of ids (B, T) stands at position `start`.
    """
    T = ids.shape[1]
    x = state["token_embedding.weight"][ids]  # (B, T, C)
    C = x.shape[-1]
    if "position_embedding.weight" in state:
        x = x + state["position_embedding.weight"][start : start + T]

    def lin(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (C,), state[f"{name}.weight"], state.get(f"{name}.bias"))

    scores: list[Tensor] = []
    while f"blocks.{len(scores)}.norm1.weight" in state:
        name = f"blocks.{len(scores)}"
        parts = lin(norm(x, f"{name}.norm1"), f"{name}.attention.qkv").chunk(3, dim=-1)
        q, k, v = (split_heads(part, n_head) for part in parts)  # (B, H, T, D) each
        if scheme == "rotary":
            D = q.shape[-1]
            rate = theta ** (-torch.arange(0, D, 2, dtype=x.dtype) / D)  # (D / 2,)
            angle = torch.arange(start, start + T, dtype=x.dtype)[:, None] * rate
            q, k = (apply_rotary(part, angle.cos(), angle.sin()) for part in (q, k))
        scores.append(q @ k.mT / math.sqrt(q.shape[-1]))
        y = merge_heads(attention_weights(q, k, is_causal=True) @ v)
        x = x + lin(y, f"{name}.attention.proj")
        wide = F.gelu(lin(norm(x, f"{name}.norm2"), f"{name}.mlp.fc"), approximate="tanh")  # fmt: skip
        x = x + lin(wide, f"{name}.mlp.proj")
    head = state.get("head.weight", state["token_embedding.weight"])
    return F.linear(norm(x, "norm"), head), scores[0]


def _double(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() for name, x in state.items()}


def _facts(
    state: Mapping[str, Tensor], ids: Tensor, n_head: int, scheme: str
) -> tuple[float, float, float]:
    """How far a shift moves the visible scores at most; bits per character without it and with it."""
    found = [read(state, ids, n_head, scheme, start) for start in (0, SHIFT)]
    seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    moved = (found[0][1] - found[1][1])[..., seen].abs().max()
    bits = [
        float(F.cross_entropy(logits[0, :-1], ids[0, 1:])) / math.log(2)
        for logits, _ in found
    ]
    return float(moved), bits[0], bits[1]


def _curve(
    state: Mapping[str, Tensor], windows: Tensor, n_head: int, scheme: str
) -> list[float]:
    """Bits per character by position, a mean for every BIN positions."""
    total = torch.zeros(windows.shape[1] - 1, dtype=torch.float64)
    single = {name: x.float() for name, x in state.items()}
    for part in torch.split(windows, 64):
        logits = read(single, part, n_head, scheme)[0][:, :-1]
        loss = F.cross_entropy(logits.mT, part[:, 1:], reduction="none")  # (B, T - 1)
        total += loss.double().sum(0)
    bits = total / len(windows) / math.log(2)
    return [float(x.mean()) for x in torch.split(bits, BIN)]


_LOOK = {
    "rotary": ("var(--ink)", "none"),
    "learned": ("var(--orange)", "7 4"),
    "sinusoids": ("var(--edge)", "7 4"),
    "none": ("var(--blue)", "2 4"),
}


def _still(
    curves: Mapping[str, list[float]], trained: int, length: int, alt: str
) -> str:
    """Bits by position, for readers without scripts."""
    low = min(min(c[2:]) for c in curves.values())
    high = max(max(c[2:]) for c in curves.values())

    def point(i: int, v: float) -> str:
        x = 40 + 440 * (i + 0.5) * BIN / length
        return f"{x:.1f},{20 + 180 * (high - v) / (high - low):.1f}"

    lines = "".join(
        f'<polyline fill="none" style="stroke:{_LOOK[s][0]};stroke-width:2;stroke-dasharray:{_LOOK[s][1]}" '
        f'points="{" ".join(point(i, v) for i, v in enumerate(c) if i > 1)}"/>'
        for s, c in curves.items()
    )
    names = "".join(
        f'<g transform="translate({150 * (i % 2) + 150},{244 + 20 * (i // 2)})"><line x1="0" x2="28" y1="-4" y2="-4" '
        f'style="stroke:{_LOOK[s][0]};stroke-width:2;stroke-dasharray:{_LOOK[s][1]}"/><text x="34">{html.escape(SCHEMES[s])}</text></g>'
        for i, s in enumerate(SCHEMES)
    )
    at = 40 + 440 * trained / length
    return (
        f'<svg viewBox="0 0 500 270" role="img" aria-label="{html.escape(alt)}" style="display:block;width:100%;max-width:34rem;'
        f'font-size:15px;fill:var(--ink)"><text x="36" y="25" text-anchor="end">{high:.1f}</text><text x="36" y="205" text-anchor="end">'
        f'{low:.1f}</text><text x="0" y="10" style="fill:var(--soft)">bits per character</text><line x1="{at:.0f}" x2="{at:.0f}" y1="16" '
        f'y2="204" style="stroke:var(--edge)"/><text x="{at + 6:.0f}" y="28" style="fill:var(--soft)">trained to here</text>{lines}'
        f'<text x="40" y="222">0</text><text x="480" y="222" text-anchor="end">position {length}</text>{names}</svg>'
    )
