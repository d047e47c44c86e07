"""Chapter 05: a small model that copies, its heads as maps, each with what its removal costs."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_panels, still_table

Head = tuple[int, int]  # layer and head, counted from 0


def multi_head_attention_figure(
    model: nn.Module,
    chars: str,
    *,
    text: str = "xqz xqz",
    title: str = "The head that matters most is not one of those that look at the answer",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """All heads of a model of attention alone, each of which the reader can switch off.

    The figure is refused if the model does not show what the title says.

    Args:
        model: takes ids (B, T) and gives logits (B, T, V); its parts are named as those of `gpt.GPT`.
        chars: the V characters, in the order of the ids.
        text: what the figure opens with: a run of different characters, and the same run again.
        title: the claim.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: the text has no run that comes twice, or the model has no induction head on it, or
            needs one of them, or has no helper in its first layer.
    """
    if strange := set(text) - set(chars):
        raise ConfigError(
            f"The text holds {sorted(strange)!r}, which is not among the characters."
        )
    run = next((n for n in range(1, len(text)) if text[n:] == text[: len(text) - n]), 0)
    again = range(run + 1, len(text))  # the letters that can be copied
    if not run or len(set(text[:run])) < run or not again:
        raise ConfigError(
            f"{text!r} must be a run of different characters and at least two characters of the same run."
        )
    rounded = copy.deepcopy(model).half().double().eval()  # what the browser gets
    layers = [block.attention for block in rounded.blocks]  # type: ignore[union-attr]
    H, C = layers[0].n_head, layers[0].proj.in_features
    for layer in layers:
        layer.fused = False  # the weights are looked at
    ids = torch.tensor([[chars.index(c) for c in text]])  # (1, T)

    @torch.no_grad()
    def loss(*off: Head) -> float:
        """Mean loss of the letters that can be copied, with some heads off."""
        part = copy.deepcopy(rounded)
        for layer, head in off:
            D = C // H
            proj = part.blocks[layer].attention.proj  # type: ignore[index,union-attr]
            proj.weight[:, head * D : (head + 1) * D] = 0
        logits = part(ids)[0]  # (T, V)
        at = torch.tensor([*again])
        return float(F.cross_entropy(logits[at - 1], ids[0, at]))

    with torch.no_grad():
        rounded(ids)
    maps: list[Tensor] = [layer.weights[0] for layer in layers]  # L of (H, T, T)
    reads = torch.tensor([t - 1 for t in again])  # places that must look run - 1 back
    score = torch.stack([w[:, reads, reads - run + 1].mean(1) for w in maps])  # (L, H)
    heads = [(layer, head) for layer in range(len(layers)) for head in range(H)]
    whole = loss()
    rise = {head: loss(head) - whole for head in heads}
    induction = max(heads, key=lambda head: float(score[head]))
    helper = max(heads, key=rise.__getitem__)
    if induction[0] == 0 or score[induction] < 0.7 or whole > 0.5:
        raise ConfigError(
            f"No induction head: the best score on {text!r} is {float(score[induction]):.2f} (layer "
            f"{induction[0] + 1}), and copied letters cost {whole:.2f} nats. Train the model further."
        )
    if helper[0] != 0 or rise[helper] < 1 or rise[induction] > 0.5:
        raise ConfigError(
            f"Without layer {helper[0] + 1} head {helper[1] + 1} copied letters cost {rise[helper]:+.2f} "
            f"nats, without the induction head {rise[induction]:+.2f}: the title is not true of this model."
        )

    back = float(maps[0][helper[1]].diagonal(-1).mean())
    several = int((score[1:] > 0.5).sum())
    every = loss(*(head for head in heads if head[0] > 0)) - whole
    if back < 0.5 or several < 2 or every < 1:
        raise ConfigError(
            f"Layer 1 head {helper[1] + 1} spends {back:.2f} of its weight one place back, {several} heads above "
            f"look at the answer, and without all of them copied letters cost {every:+.2f} nats: the notes are "
            "not true of this model."
        )

    def name(head: Head) -> str:
        return f"layer {head[0] + 1} head {head[1] + 1}"

    alt = (
        f"On “{text}”, {name(induction)} gives {float(score[induction]):.0%} of its attention to the letter "
        f"to be copied, and switching it off changes the loss of copied letters by {rise[induction]:+.2f} nats. "
        f"Switching off {name(helper)}, which looks one place back, changes it by {rise[helper]:+.2f}."
    )
    panels = [(name(at).capitalize(), maps[at[0]][at[1]] ** 2) for at in heads]
    rows = [[name(at), f"{float(score[at]):.2f}", f"{rise[at]:+.2f}"] for at in heads]
    head_row = [
        "head",
        "attention to the answer",
        "change of the loss without it, nats",
    ]
    return LiveFigure(
        name="multi_head_attention",
        title=title,
        alt=alt,
        picture=still_panels(panels, alt) + still_table(head_row, rows),
        props={
            "chars": list(chars),
            "config": {"n_head": H, "n_layer": len(layers)},
            "most": int(rounded.position_embedding.num_embeddings),  # type: ignore[union-attr,arg-type]
            "text": text,
            "place": run + 1,  # the second letter of the second run
            "read": 1,
            "induction": list(induction),
            "helper": list(helper),
            "code_href": code_href,
            "card": card,
        },
        tensors={name: x.detach() for name, x in model.state_dict().items()},
    )
