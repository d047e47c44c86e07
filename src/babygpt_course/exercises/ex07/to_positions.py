"""07.1: an image as a sequence of positions."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import no_loops

exercise = Exercise(
    chapter="07_spatial_attention",
    id="07.1",
    title="An image as positions",
    kind="implement",
    points=2,
    minutes=8,
    anchor="vectorize",
    rules=(
        no_loops(
            think="All positions at once are two steps: two axes become one, and two axes "
            "change places. In which order you do them is up to you."
        ),
    ),
    hints="""
    Attention takes (B, P, C): for each position a row with its channels. Where in (B, C, h,
    w) are the channels of one pixel: side by side, or far apart?

    Pixel (i, j) becomes position i * w + j, and its row holds x[b, 0, i, j], x[b, 1, i, j],
    ..., x[b, C - 1, i, j].

    Make one axis of the last two: (B, C, P), with `flatten`. Then let channels and positions
    change places, with `transpose`: (B, P, C).
    """,
)


@exercise.oracle
def to_positions(x):
    B, C, h, w = x.shape
    rows = x.new_zeros(B, h * w, C)
    for b in range(B):
        for i in range(h):
            for j in range(w):
                for c in range(C):
                    rows[b, i * w + j, c] = x[b, c, i, j]
    return rows


def counting(B, C, h, w):
    return torch.arange(1.0, B * C * h * w + 1).view(B, C, h, w)


def random_case(B, C, h, w, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, C, h, w, generator=generator, dtype=torch.float64).to(dtype),
    )


@exercise.cases
def cases():
    yield Case((counting(1, 2, 1, 3),))
    yield Case((counting(1, 2, 2, 2),))
    yield Case((counting(1, 2, 2, 3),))
    yield Case((counting(1, 3, 3, 2),))
    yield Case((counting(1, 1, 2, 2),))
    yield Case((counting(2, 2, 1, 1),))
    yield Case((counting(2, 2, 2, 2),))
    yield Case((counting(3, 2, 2, 1),))
    yield Case((counting(1, 4, 2, 2),))
    yield Case(random_case(1, 2, 2, 3, 8), gradient=True)
    for seed, (B, C, h, w) in enumerate([(2, 3, 4, 5), (4, 5, 2, 3), (3, 2, 7, 4)]):
        yield Case(random_case(B, C, h, w, seed))
        yield Case(random_case(B, C, h, w, seed, torch.float32), "float32")
    (x,) = random_case(2, 6, 3, 4, 5)
    yield Case((x[:, 2:4],), NON_CONTIGUOUS)  # the middle third, as k in qkv
    yield Case((x[:, :, ::2, 1:],), NON_CONTIGUOUS)  # a part of the picture
    channels_last = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    yield Case((channels_last,), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def flattened_and_transposed(x):
    return x.flatten(2).transpose(1, 2)


@exercise.right
def with_einsum(x):
    return torch.einsum("bcij->bijc", x).flatten(1, 2)


@exercise.right
def moved_and_reshaped(x):
    B, C = x.shape[:2]
    return x.movedim(1, -1).reshape(B, -1, C).contiguous()


@exercise.right
def indices_looked_up(x):
    h, w = x.shape[2:]
    at = torch.arange(h * w)
    return x[:, :, at // w, at % w].permute(0, 2, 1)


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("vectorize")
def reshaped_without_transposing(x):
    """The shape is right and the numbers are not where they belong: a row holds several
    pixels of one channel, not several channels of one pixel.

    Memory holds channel after channel, each a whole picture, and `reshape` and `view` keep
    that order. Which two axes have to change places before, or after?
    """
    B, C, h, w = x.shape
    return x.reshape(B, h * w, C)


@exercise.also(reshaped_without_transposing)
def viewed_without_transposing(x):
    B, C, h, w = x.shape
    return x.view(B, h * w, C)


@exercise.wrong("by-hand")
def column_by_column(x):
    """The positions are numbered column by column. Asked for is row by row, as one reads:
    the whole first row, then the second.

    Which axis should run faster, the rows or the columns? The one that comes later does.
    """
    B, C, h, w = x.shape
    return x.permute(0, 3, 2, 1).reshape(B, h * w, C)


@exercise.wrong("vectorize")
def channels_in_front(x):
    """The positions are one axis now, and it comes last: (B, C, P). For attention the rows
    are positions and the columns are channels.

    `q @ k.transpose(-2, -1)` would compare channels here. Which two axes have to change
    places?
    """
    return x.flatten(2)


@exercise.wrong("vectorize")
def rows_and_columns_kept(x):
    """The channels come last now, and rows and columns are still two axes: (B, h, w, C).

    Attention does not know rows from columns. Which two axes should become one?
    """
    return x.permute(0, 2, 3, 1)


@exercise.wrong("vectorize")
def images_joined(x):
    """All images are one long sequence, (B * P, C): a pixel would read the pixels of other
    images.

    The batch stays an axis of its own. Which axes does your `flatten` or `reshape` join?
    """
    return x.permute(0, 2, 3, 1).flatten(0, 2)


@exercise.wrong("vectorize")
def positions_before_the_batch(x):
    """The positions stand in front of the batch: (P, B, C). Some libraries want that; this
    course has the batch in front.

    Which axis should be number 0 in the end?
    """
    return x.flatten(2).permute(2, 0, 1)


@exercise.wrong("vectorize")
def view_of_a_permuted_tensor(x):
    """The axes are in the right order, and then `view` refuses: after the permute the numbers
    of the result do not lie side by side in memory.

    `reshape` and `flatten` copy where it is needed; `.contiguous().view(...)` says it in two
    steps. Or flatten first, and transpose then: does that need a copy?
    """
    B, C, h, w = x.shape
    return x.permute(0, 2, 3, 1).view(B, h * w, C)


@exercise.wrong("vectorize")
def channels_between_rows_and_columns(x):
    """The wrong axes change places: this is (B, h, C, w) before the reshape, so a row of the
    result mixes pixels and channels.

    Count from the front: 0 is the batch, 1 the channels, 2 the rows, 3 the columns. Which
    axis must be the last one, so that the channels of a pixel come side by side?
    """
    B, C, h, w = x.shape
    return x.transpose(1, 2).reshape(B, h * w, C)


@exercise.wrong("vectorize")
def rows_and_columns_swapped(x):
    """Rows and columns change places, which turns the picture over, and the channels stay in
    front: a row of the result still holds several pixels of one channel.

    The channels of a pixel should come side by side. Which axis must be the last one?
    """
    B, C, h, w = x.shape
    return x.transpose(2, 3).reshape(B, h * w, C)


@exercise.wrong("by-hand")
def all_channels_of_the_image_in_each_row(x):
    """Each row of the picture became one position, with the channels of all its pixels: (B,
    h, w * C), or (B, w, h * C).

    Every pixel is a position of its own. How many are there, and how many numbers describe
    one of them?
    """
    return x.permute(0, 2, 3, 1).flatten(2)


@exercise.also(all_channels_of_the_image_in_each_row)
def rows_as_positions(x):
    return x.permute(0, 2, 1, 3).flatten(2)


@exercise.also(all_channels_of_the_image_in_each_row)
def columns_as_positions(x):
    return x.permute(0, 3, 1, 2).flatten(2)


@exercise.wrong("by-hand")
def read_from_the_end(x):
    """The positions stand back to front: the last pixel comes first.

    Position 0 is the pixel in the upper left corner. Who turns the order around?
    """
    return to_positions(x).flip(1)


@exercise.wrong("by-hand")
def channels_averaged(x):
    """The channels of each pixel are added up or averaged: one number is left of C.

    Attention compares pixels by their channels. What should a row hold?
    """
    return x.mean(dim=1).flatten(1)[..., None]


@exercise.also(channels_averaged)
def channels_added_up(x):
    return x.sum(dim=1).flatten(1)[..., None]


@exercise.caught_as("raised")
def channels_forgotten_in_the_product(x):
    B, _, h, w = x.shape
    return x.reshape(B, h * w)


@exercise.caught_as("modified-input")
def centered_in_place(x):
    x -= x.mean()
    return to_positions(x)


@exercise.caught_as("no-gradient")
def gradient_cut(x):
    return torch.from_numpy(to_positions(x).detach().numpy())


@exercise.caught_as("wrong-dtype")
def always_float32(x):
    return to_positions(x).float()


@exercise.caught_as("wrong-type")
def rows_in_a_list(x):
    return to_positions(x).tolist()


@exercise.caught_as("returned-none")
def nothing_returned(x):
    to_positions(x)


@exercise.caught_as("non-contiguous")
def strides_worked_out_by_hand(x):
    B, C, h, w = x.shape
    return x.as_strided((B, h * w, C), (C * h * w, 1, h * w))


@exercise.caught_as("python-loop")
def channel_by_channel(x):
    return torch.stack([channel.flatten(1) for channel in x.unbind(1)], dim=-1)
