"""07.5: positions that are put back into an image in the wrong order."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="07_spatial_attention",
    id="07.5",
    title="Bug hunt: the colors that ran",
    kind="bug hunt",
    points=3,
    minutes=8,
    anchor="vectorize",
    equivalent={
        "y = y.transpose(2, 1)": "Swapping two axes is the same in either order.",
    },
    hints="""
    Fill y with the number of the channel: y[b, p, c] = c. What should channel 0 of the image
    look like, and what does it look like?

    `reshape` keeps the numbers in the order in which they lie in memory. In (B, P, C) the C
    channels of position 0 come first. In which order must they lie for (B, C, h, w)?

    The axes must be batch, channels, positions before the last one becomes two. Which two
    axes of (B, P, C) have to change places?
    """,
)


@exercise.oracle
def from_positions(y, h, w):
    B, _, C = y.shape
    image = y.new_zeros(B, C, h, w)
    for b in range(B):
        for c in range(C):
            for i in range(h):
                for j in range(w):
                    image[b, c, i, j] = y[b, i * w + j, c]
    return image


@exercise.given
def reshaped_as_it_lies(y, h, w):
    B, _, C = y.shape
    return y.reshape(B, C, h, w)


def counting(B, C, h, w):
    return torch.arange(1.0, B * C * h * w + 1).view(B, h * w, C), h, w


def random_case(B, C, h, w, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(B, h * w, C, generator=generator, dtype=torch.float64)
    return y.to(dtype), h, w


@exercise.cases
def cases():
    yield Case(counting(1, 2, 1, 3))
    yield Case(counting(1, 2, 2, 2))
    yield Case(counting(1, 2, 2, 3))
    yield Case(counting(1, 3, 3, 2))
    yield Case(counting(1, 1, 2, 2))
    yield Case(counting(1, 1, 2, 3))
    yield Case(counting(2, 3, 1, 1))
    yield Case(counting(2, 2, 2, 2))
    yield Case(counting(1, 4, 2, 2))
    yield Case(counting(1, 3, 1, 4))
    yield Case(random_case(1, 2, 2, 3, 8), gradient=True)
    for seed, (B, C, h, w) in enumerate([(2, 3, 4, 5), (4, 5, 2, 3), (3, 2, 7, 4)]):
        yield Case(random_case(B, C, h, w, seed))
        yield Case(random_case(B, C, h, w, seed, torch.float32), "float32")
    y, h, w = random_case(2, 6, 3, 4, 5)
    yield Case((y[:, :, ::2], h, w), NON_CONTIGUOUS)
    yield Case((y.transpose(1, 2).contiguous().transpose(1, 2), h, w), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def transposed_and_unflattened(y, h, w):
    return y.transpose(1, 2).unflatten(2, (h, w))


@exercise.right
def cut_into_rows_first(y, h, w):
    return y.reshape(y.shape[0], h, w, y.shape[2]).permute(0, 3, 1, 2)


@exercise.right
def channel_by_channel(y, h, w):
    B = len(y)
    return torch.stack([c.reshape(B, h, w) for c in y.unbind(-1)], dim=1)


@exercise.right
def with_einsum(y, h, w):
    B, _, C = y.shape
    return torch.einsum("bpc->bcp", y).contiguous().view(B, C, h, w)


@exercise.right
def moved_and_reshaped(y, h, w):
    return y.mT.reshape(y.size(0), -1, h, w).contiguous()


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("vectorize")
def channels_last(y, h, w):
    """The numbers are in the right order, and the channels come last: (B, h, w, C).

    The next layer is a convolution and wants (B, C, h, w). Where must the last axis go?
    """
    B, _, C = y.shape
    return y.reshape(B, h, w, C)


@exercise.wrong("vectorize")
def picture_turned_over(y, h, w):
    """Channels and pixels are apart now, and the picture is turned over: its rows are columns,
    (B, C, w, h), whatever shape it is given afterward.

    After the channels come the rows, then the columns. On a square picture no shape would
    tell. Which order do your axes have?
    """
    B, _, C = y.shape
    return y.reshape(B, h, w, C).permute(0, 3, 2, 1)


@exercise.also(picture_turned_over)
def picture_turned_over_by_transpose(y, h, w):
    return y.transpose(1, 2).unflatten(2, (h, w)).transpose(2, 3)


@exercise.also(picture_turned_over)
def picture_turned_over_in_the_right_shape(y, h, w):
    B, _, C = y.shape
    return y.reshape(B, h, w, C).transpose(1, 3).reshape(B, C, h, w)


@exercise.wrong("vectorize")
def height_and_width_swapped(y, h, w):
    """Channels and pixels are apart now, and h and w have changed places in the shape: rows of
    the wrong length.

    A picture of 2 rows and 3 columns: after how many positions does a new row begin?
    """
    B, _, C = y.shape
    return y.transpose(1, 2).reshape(B, C, w, h)


@exercise.wrong("by-hand")
def column_by_column(y, h, w):
    """Channels and pixels are apart now, and the picture is filled column by column. The
    positions were counted row by row.

    Position 1 is the second pixel of the first row. Where do you put it?
    """
    B, _, C = y.shape
    return y.reshape(B, w, h, C).permute(0, 3, 2, 1)


@exercise.wrong("by-hand")
def side_from_the_root(y, h, w):
    """The side is taken to be the root of P, so only square pictures can be put back.

    h and w are arguments for that reason. Where are they used?
    """
    B, P, C = y.shape
    side = int(math.sqrt(P))
    return y.transpose(1, 2).reshape(B, C, side, side)


@exercise.wrong("vectorize")
def transposed_after_the_reshape(y, h, w):
    """The axes change places after the `reshape`, when the numbers are mixed up already.

    Channels and pixels must be told apart while they still are two axes of (B, P, C). What
    comes first?
    """
    B, _, C = y.shape
    return y.reshape(B, C, w, h).transpose(2, 3)


@exercise.also(transposed_after_the_reshape)
def transposed_after_the_reshape_to_the_wrong_shape(y, h, w):
    B, _, C = y.shape
    return y.reshape(B, C, h, w).transpose(2, 3)


@exercise.also(transposed_after_the_reshape)
def rows_in_front_then_the_channels(y, h, w):
    B, _, C = y.shape
    return y.reshape(B, h, C, w).transpose(1, 2)


@exercise.wrong("vectorize")
def shape_turned_without_the_numbers(y, h, w):
    """The right shape is written down twice, and no number has moved: `reshape` to (B, C, P) is
    not a transpose.

    `reshape` keeps the order in memory, whatever axes you name. Which operation changes the
    order of axes?
    """
    B, P, C = y.shape
    return y.reshape(B, C, P).transpose(1, 2).reshape(B, C, h, w)


@exercise.wrong("vectorize")
def transposed_and_not_cut(y, h, w):
    """Channels and positions have changed places, (B, C, P), and the positions are still one
    axis.

    A convolution wants rows and columns. What did the given code do in its last line?
    """
    return y.transpose(1, 2)


@exercise.wrong("vectorize")
def images_mixed(y, h, w):
    """The batch has moved too, so images get mixed: one shows what belongs to another.

    The batch is axis 0 and stays there. Which of the other two have to change places?
    """
    B, _, C = y.shape
    return y.permute(2, 0, 1).reshape(B, C, h, w)


@exercise.also(images_mixed)
def images_mixed_with_channels(y, h, w):
    B, _, C = y.shape
    return y.transpose(0, 2).reshape(B, C, h, w)


@exercise.also(images_mixed)
def images_mixed_with_positions(y, h, w):
    B, _, C = y.shape
    return y.transpose(0, 1).reshape(B, C, h, w)


@exercise.also(images_mixed)
def images_mixed_in_turn(y, h, w):
    B, _, C = y.shape
    return y.permute(1, 2, 0).reshape(B, C, h, w)


@exercise.wrong("by-hand")
def channels_averaged(y, h, w):
    """The channels of each position are averaged, and every channel of the image shows the
    same.

    Each channel is a picture of its own. Which number of y belongs to channel c at position
    p?
    """
    B, _, C = y.shape
    return y.mean(-1).reshape(B, 1, h, w).expand(B, C, h, w)


@exercise.wrong("by-hand")
def read_from_the_end(y, h, w):
    """The picture stands on its head: position 0 is in the lower right corner.

    Position 0 is the pixel in the upper left corner. Who turns the order around?
    """
    return from_positions(y, h, w).flip(2, 3)


@exercise.caught_as("no-gradient")
def gradient_cut(y, h, w):
    return torch.tensor(from_positions(y, h, w).tolist(), dtype=y.dtype)


@exercise.caught_as("wrong-dtype")
def always_float32(y, h, w):
    return from_positions(y, h, w).float()


@exercise.caught_as("returned-none")
def nothing_returned(y, h, w):
    from_positions(y, h, w)


@exercise.caught_as("modified-input")
def written_into_the_positions(y, h, w):
    B, P, C = y.shape
    y[:] = y.transpose(1, 2).reshape(B, P, C)
    return y.reshape(B, C, h, w)


@exercise.caught_as("non-contiguous")
def strides_worked_out_by_hand(y, h, w):
    B, P, C = y.shape
    return y.as_strided((B, C, h, w), (P * C, 1, w * C, C))


@exercise.caught_as("wrong-type")
def rows_in_a_list(y, h, w):
    return from_positions(y, h, w).tolist()


@exercise.caught_as("raised")
def view_of_a_permuted_tensor(y, h, w):
    B, _, C = y.shape
    return y.permute(0, 2, 1).view(-1).view(B, C, h, w)
