"""Chapter 07: what one position of a picture reads, through attention and through a 3x3 convolution."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from babygpt_course.attention import SpatialAttention
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_panels, still_table
from babygpt_course.vision import SHAPES, SIZE, Convolution, ImageModel

# The ready-made drawings: the shape at the left and at the right; the first opens the figure.
PAIRS = [
    ("square", "square"),
    ("cross", "cross"),
    ("slash", "slash"),
    ("bars", "bars"),
    ("square", "cross"),
    ("square", "slash"),
    ("corner", "bars"),
    ("dots", "bars"),
]
# Row and column of the upper left corners. Both rows are even and both columns odd: a
# position is two by two pixels, so equal shapes then look the same to the model.
LEFT, RIGHT = (2, 1), (8, 11)


def spatial_attention_figure(
    attention: ImageModel,
    convolution: ImageModel,
    *,
    title: str = "A position reads its twin across the picture; a 3×3 convolution cannot",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """Draw, and see what a position reads, and what both models make of the drawing.

    Args:
        attention: an ImageModel with one block of attention, trained on same/different.
        convolution: its rival with one 3x3 convolution.
        title: the claim the figure makes.
        code_href: link to the cell that trained the models.
        card: one line on the models: size, data, seed.

    Raises:
        ConfigError: not such models, or models that do not show what the figure claims:
            attention that is right in most of the ready-made drawings and gives the twin
            at least twice its share of the picture, and a rival that is not right.
    """
    for model, mixer in ((attention, SpatialAttention), (convolution, Convolution)):
        if len(model.mixers) != 1 or not isinstance(model.mixers[0], mixer):
            raise ConfigError(
                "The figure takes an ImageModel with one block of attention and one with one block of convolution."
            )
    images = torch.stack([_drawing(a, b) for a, b in PAIRS])  # (N, 1, 16, 16)
    truth = torch.tensor([a == b for a, b in PAIRS])
    same, weights = _answers(attention, images)  # (N,), (N, P, P)
    rival, _ = _answers(convolution, images)  # (N,)

    inked = F.max_pool2d(images, 2)[:, 0] > 0  # (N, 8, 8)
    half = inked.shape[-1] // 2
    left, right = inked.clone(), inked.clone()
    left[..., half:] = False
    right[..., :half] = False
    left, right = left.flatten(1), right.flatten(1)  # (N, P)
    to_right = (weights * right[:, None]).sum(-1)  # (N, P) by query
    to_left = (weights * left[:, None]).sum(-1)
    query = int((to_right[0] * left[0]).argmax())  # in the left square
    own, other = float(to_left[0, query]), float(to_right[0, query])
    area = float(right[0].double().mean())
    hits = int(((same > 0.5) == truth).sum())
    rival_hits = int(((rival > 0.5) == truth).sum())
    row, column = divmod(query, inked.shape[-1])
    reach = _reach(row, column)
    blind = not bool((reach * images[0, 0])[:, SIZE // 2 :].any())
    right_enough = hits >= len(PAIRS) - 1 and rival_hits <= len(PAIRS) - 2
    if not (right_enough and other >= 2 * area and blind):
        raise ConfigError(
            f"These models do not show what the figure claims: attention is right in {hits} of {len(PAIRS)} drawings, "
            f"convolution in {rival_hits}, and the twin gets {other:.3f} of the weight for {area:.3f} of the picture."
        )
    alt = (
        f"Two equal squares stand far apart. A query in the left one gives {100 * other:.0f} % of its attention to the "
        f"right one, which covers {100 * area:.0f} % of the picture, and {100 * own:.0f} % to its own. A 3×3 convolution "
        f"there does not reach it. Of {len(PAIRS)} drawings the attention model judges {hits} rightly, the convolution "
        f"model {rival_hits}."
    )
    panels = [
        ("The drawing", images[0, 0]),
        ("What the query reads", weights[0, query].view_as(inked[0]).double()),
        ("What a 3×3 convolution sees", reach),
    ]
    rows = [
        [
            f"{a}, {b}",
            "same" if a == b else "different",
            f"{100 * p:.1f} %",
            f"{100 * r:.1f} %",
        ]
        for (a, b), p, r in zip(PAIRS, same.tolist(), rival.tolist())
    ]
    head = [
        "drawing",
        "truth",
        "attention says same",
        "convolution says same",
    ]
    return LiveFigure(
        name="spatial_attention",
        title=title,
        alt=alt,
        picture=still_panels(panels, alt) + still_table(head, rows),
        props={
            "config": {
                "n_groups": cast(SpatialAttention, attention.mixers[0]).norm.num_groups
            },
            "examples": [
                {"name": f"{a}, {b}", "pixels": _hex(image)}
                for (a, b), image in zip(PAIRS, images)
            ],
            "query": [row, column],
            "found": {
                "own": own,
                "other": other,
                "low": float(rival.min()),
                "high": float(rival.max()),
                "right": hits,
                "of": len(PAIRS),
            },
            "code_href": code_href,
            "card": card,
        },
        tensors={
            f"{name}.{key}": value
            for name, model in (("attention", attention), ("convolution", convolution))
            for key, value in model.state_dict().items()
        },
    )


def _drawing(left: str, right: str) -> Tensor:
    """The two shapes without noise: (1, 16, 16)."""
    image = torch.zeros(1, SIZE, SIZE)
    for shape, (y, x) in ((left, LEFT), (right, RIGHT)):
        bitmap = [[float(c == "#") for c in row] for row in SHAPES[shape]]
        image[0, y : y + 4, x : x + 4] = torch.tensor(bitmap)
    return image


@torch.no_grad()
def _answers(model: ImageModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """P(same) (N,), and the attention weights (N, P, P), from weights as the file has them."""
    exact = copy.deepcopy(model).double().eval()
    for parameter in exact.parameters():
        parameter.copy_(parameter.half().double())
    mixer = exact.mixers[0]
    if isinstance(mixer, SpatialAttention):
        mixer.fused = False
    logits, _ = exact(images.double())
    weights = torch.empty(0)
    if isinstance(mixer, SpatialAttention) and mixer.weights is not None:
        weights = mixer.weights[:, 0]
    return logits.softmax(-1)[:, 1], weights


def _reach(row: int, column: int) -> Tensor:
    """1 where a 3x3 convolution on the positions sees the pixels from (row, column)."""
    seen = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    y, x = 2 * row, 2 * column
    seen[max(y - 4, 0) : y + 6, max(x - 4, 0) : x + 6] = 1
    return seen


def _hex(image: Tensor) -> str:
    """A drawing as 64 hexadecimal digits, four pixels each, row by row."""
    fours = image.view(-1, 4).int() @ torch.tensor([8, 4, 2, 1], dtype=torch.int32)
    return "".join(f"{four:x}" for four in fours.tolist())
