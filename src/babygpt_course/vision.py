"""A small image model that can look across the image, and its rival that cannot.

The task: are the two shapes in a 16x16 image the same? They stand far apart. A position of
a 3x3 convolution never sees both whole; attention over positions compares them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import SpatialAttention, check_sizes
from babygpt_course.errors import ConfigError

# --- the task --------------------------------------------------------------------------

SIZE = 16  # of an image
SHAPES = {
    "square": ["####", "#..#", "#..#", "####"],
    "cross": [".##.", "####", "####", ".##."],
    "slash": ["...#", "..#.", ".#..", "#..."],
    "corner": ["#...", "#...", "#...", "####"],
    "bars": ["####", "....", "....", "####"],
    "dots": ["#..#", "....", "....", "#..#"],
}


def make_images(
    n: int, seed: int, noise: float = 0.1
) -> tuple[Tensor, Tensor, list[tuple[str, str]]]:
    """n images (n, 1, 16, 16), labels (n,) 1 = same shape, and the names of the shapes.

    One shape in each of the left- and rightmost 5 columns, so at least 6 columns lie
    between; half of the pairs are the same. One seed, one set.

    Raises:
        ConfigError: n is not a whole number of at least 1.
    """
    check_sizes(n=n)
    g = torch.Generator().manual_seed(seed)
    names = list(SHAPES)
    bitmaps = torch.tensor(
        [[[c == "#" for c in row] for row in s] for s in SHAPES.values()]
    )
    left = torch.randint(len(names), (n,), generator=g)
    other = torch.randint(1, len(names), (n,), generator=g)
    same = torch.randint(2, (n,), generator=g)
    right = (left + other * (1 - same)) % len(names)
    images = noise * torch.randn(n, 1, SIZE, SIZE, generator=g)  # (n, 1, 16, 16)
    for i in range(n):
        for shape, columns in ((left[i], (0, 2)), (right[i], (SIZE - 5, SIZE - 3))):
            y = int(torch.randint(SIZE - 3, (1,), generator=g))
            x = int(torch.randint(*columns, (1,), generator=g))
            images[i, 0, y : y + 4, x : x + 4] += bitmaps[shape]
    return images, same, [(names[a], names[b]) for a, b in zip(left, right)]


# --- the models ------------------------------------------------------------------------


class Convolution(nn.Module):
    """The rival of SpatialAttention: what it adds to a position comes from its neighbors.

    It has no GroupNorm, whose mean and variance run over the whole image: through them
    the two shapes would meet after all.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, height, width) -> the same shape."""
        x = x + self.conv(F.gelu(x))
        return x


MIXERS: dict[str, Callable[[int], nn.Module]] = {
    "attention": lambda channels: SpatialAttention(channels, n_groups=4),
    "convolution": Convolution,
}


STEMS: dict[str, Callable[[int], nn.Module]] = {
    "convolution": lambda C: nn.Sequential(
        nn.Conv2d(1, C, kernel_size=3, padding=1),  # (B, 1, h, w) -> (B, C, h, w)
        nn.GELU(),
        nn.Conv2d(C, C, kernel_size=4, stride=2, padding=1),  # -> (B, C, h / 2, w / 2)
        nn.GELU(),
    ),
    "pixel": lambda C: nn.Sequential(nn.Conv2d(1, C, kernel_size=1), nn.GELU()),
}


class ImageModel(nn.Module):
    """A stem, then blocks that mix positions, the mean over positions, a line.

    `mixer` is "attention" or "convolution". The mean and the linear head add up what each
    position says, so a model whose positions see one shape each cannot tell "the same"
    from "different": f(a) + f(a) and f(b) + f(b) high means f(a) + f(b) is high too.

    `stem` is "convolution", which halves the picture, or "pixel", a 1x1 convolution in
    which no pixel sees another. `positions`, the (height, width) after the stem, adds a
    vector of its own to each position; without it attention does not know where it looks.

    Raises:
        ConfigError: an unknown mixer or stem.
    """

    def __init__(
        self,
        mixer: str = "attention",
        channels: int = 32,
        n_block: int = 1,
        n_class: int = 2,
        stem: str = "convolution",
        positions: tuple[int, int] | None = None,
    ):
        super().__init__()
        for name, value, known in (("mixer", mixer, MIXERS), ("stem", stem, STEMS)):
            if value not in known:
                raise ConfigError(
                    f"{name} must be one of {list(known)}; got {value!r}."
                )
        C = channels
        self.stem = STEMS[stem](C)
        self.positions = (
            None if positions is None else nn.Parameter(torch.randn(C, *positions))
        )
        self.mixers = nn.ModuleList(MIXERS[mixer](C) for _ in range(n_block))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(C, 2 * C, 1), nn.GELU(), nn.Conv2d(2 * C, C, 1))
            for _ in range(n_block)
        )
        self.head = nn.Linear(C, n_class)

    def forward(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """images (B, 1, h, w) -> logits (B, n_class), and for targets their loss in nats."""
        x = self.stem(images)  # (B, 1, h, w) -> (B, C, h', w')
        if self.positions is not None:
            x = x + self.positions  # (B, C, h', w')
        for mix, mlp in zip(self.mixers, self.mlps):
            x = mix(x)  # (B, C, h', w'): between positions
            x = x + mlp(x)  # (B, C, h', w'): at each position
        logits = self.head(
            x.mean(dim=(2, 3))
        )  # (B, C, h', w') -> (B, C) -> (B, n_class)
        return logits, None if targets is None else F.cross_entropy(logits, targets)


# --- fitting them ----------------------------------------------------------------------


def fit(
    model: ImageModel,
    images: Tensor,
    labels: Tensor,
    steps: int = 600,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
) -> list[float]:
    """Train in place on images (N, 1, 16, 16), labels (N,); each step's loss in nats.

    AdamW, with a rate that falls to zero in a straight line.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        rows = torch.randint(len(images), (batch_size,), generator=generator)  # (B,)
        _, loss = model(images[rows], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def accuracy(model: ImageModel, images: Tensor, labels: Tensor) -> float:
    """The share of images (N, 1, 16, 16) whose label the model gives."""
    logits, _ = model(images)  # (N, 2)
    return float((logits.argmax(dim=-1) == labels).float().mean())
