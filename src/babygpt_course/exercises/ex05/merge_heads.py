"""05.5: heads that are merged in the wrong order, so that the future leaks."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="05_multi_head_attention",
    id="05.5",
    title="Bug hunt: the loss that is too good",
    kind="bug hunt",
    points=3,
    minutes=8,
    anchor="how-it-breaks",
    equivalent={
        "y = y.transpose(2, 1)": "Swapping two axes is the same in either order.",
    },
    hints="""
    Fill y with the number of the position: y[b, h, t, d] = t. What should stand in row t of
    the result, and what does stand there?

    `reshape` keeps the numbers in the order in which they lie in memory. In (B, H, T, D)
    all positions of head 0 come before the first position of head 1. In which order must
    they lie for (B, T, C)?

    The axes must be batch, positions, heads, channels of a head, before the last two become
    one. Which two axes of (B, H, T, D) have to change places?
    """,
)


@exercise.oracle
def merge_heads(y):
    B, H, T, D = y.shape
    merged = y.new_zeros(B, T, H * D)
    for b in range(B):
        for t in range(T):
            for h in range(H):
                merged[b, t, h * D : (h + 1) * D] = y[b, h, t]
    return merged


@exercise.given
def reshaped_as_it_lies(y):
    B, H, T, D = y.shape
    return y.reshape(B, T, H * D)


def counting(B, H, T, D):
    return torch.arange(1.0, B * H * T * D + 1).view(B, H, T, D)


def random_case(B, H, T, D, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, H, T, D, generator=generator, dtype=torch.float64).to(dtype),
    )


@exercise.cases
def cases():
    yield Case((counting(1, 2, 2, 1),))
    yield Case((counting(1, 2, 2, 2),))
    yield Case((counting(1, 2, 3, 2),))
    yield Case((counting(1, 3, 2, 2),))
    yield Case((counting(1, 1, 3, 2),))
    yield Case((counting(1, 3, 1, 2),))
    yield Case((counting(2, 2, 2, 2),))
    yield Case((counting(2, 2, 3, 3),))
    yield Case(random_case(1, 3, 2, 2, 8), gradient=True)
    for seed, (B, H, T, D) in enumerate([(2, 3, 5, 4), (4, 2, 3, 5), (3, 5, 7, 2)]):
        yield Case(random_case(B, H, T, D, seed))
        yield Case(random_case(B, H, T, D, seed, torch.float32), "float32")
    (y,) = random_case(2, 3, 4, 2, 5)
    yield Case((y.transpose(1, 2).contiguous().transpose(1, 2),), NON_CONTIGUOUS)
    yield Case((y[:, ::2],), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def transposed_and_flattened(y):
    return y.transpose(1, 2).flatten(2)


@exercise.right
def permuted_and_copied(y):
    B, H, T, D = y.shape
    return y.permute(0, 2, 1, 3).contiguous().view(B, T, H * D)


@exercise.right
def heads_side_by_side(y):
    return torch.cat([y[:, h] for h in range(y.shape[1])], dim=-1)


@exercise.right
def channels_in_front(y):
    B, H, T, D = y.shape
    return y.transpose(-2, -1).reshape(B, H * D, T).transpose(1, 2)


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("how-it-breaks")
def positions_and_channels_swapped(y):
    """The wrong two axes change places: this is (B, H, D, T) before the reshape, so the
    numbers of one channel at many positions stand in a row.

    Count from the front: 0 is the batch, 1 the heads, 2 the positions, 3 the channels of a
    head. Which axis should come right after the batch?
    """
    B, H, T, D = y.shape
    return y.transpose(2, 3).reshape(B, T, H * D)


@exercise.wrong("how-it-breaks")
def heads_and_channels_swapped(y):
    """Heads and channels change places: (B, D, T, H) before the reshape. The positions still
    do not come right after the batch, so rows mix them.

    Row t of the result holds position t and nothing else. Which axis must be number 1?
    """
    B, H, T, D = y.shape
    return y.transpose(1, 3).reshape(B, T, H * D)


@exercise.wrong("vectorize")
def channels_in_turn(y):
    """Each row holds its own position now, and the channels are in the wrong order: the
    first of every head, then the second of every head.

    `split_heads` gave D neighbors to each head. In which order must the last two axes be,
    so that D neighbors come back together?
    """
    B, H, T, D = y.shape
    return y.permute(0, 2, 3, 1).reshape(B, T, H * D)


@exercise.wrong("how-it-breaks")
def view_for_reshape(y):
    """`view` does the same as `reshape`, or refuses where `reshape` would copy. The numbers
    still stand where they stood.

    Neither of the two changes the order of axes. Which operation does?
    """
    B, H, T, D = y.shape
    return y.view(B, T, H * D)


@exercise.wrong("vectorize")
def view_of_a_transposed_tensor(y):
    """The right axes change places, and then `view` refuses: after a transpose the numbers
    do not lie side by side in memory.

    `reshape` and `flatten` copy where it is needed; `.contiguous().view(...)` says it in
    two steps. The given code had `reshape`.
    """
    B, H, T, D = y.shape
    return y.transpose(1, 2).view(B, T, H * D)


@exercise.wrong("vectorize")
def transposed_and_not_merged(y):
    """The right axes change places, and then the merge is missing: this is (B, T, H, D).

    The last two axes should become one. What did the given code do in its last line?
    """
    return y.transpose(1, 2)


@exercise.wrong("vectorize")
def channels_before_positions(y):
    """This is (B, C, T): channels and positions have changed places.

    Asked for is (B, T, C). Which line makes T the last axis?
    """
    return y.transpose(2, 3).flatten(1, 2)


@exercise.wrong("how-it-breaks")
def heads_one_after_the_other(y):
    """The heads follow each other along the positions, (B, H * T, D). They should stand side
    by side, in the channels.

    The text has T positions, not H * T. Along which axis do the heads belong together?
    """
    return y.flatten(1, 2)


@exercise.wrong("by-hand")
def heads_averaged(y):
    """The heads are added up or averaged into D channels: what each of them said is lost.

    They stand side by side, so that the output layer can treat them differently. What are
    H heads of D channels together?
    """
    return y.mean(dim=1)


@exercise.also(heads_averaged)
def heads_added_up(y):
    return y.sum(dim=1)


@exercise.wrong("how-it-breaks")
def texts_and_heads_swapped(y):
    """The batch changes places with the heads, so texts get mixed: one text reads what is in
    another.

    The batch is axis 0 and stays there. Which of the others have to change places?
    """
    B, H, T, D = y.shape
    return y.transpose(0, 1).reshape(B, T, H * D)


@exercise.wrong("how-it-breaks")
def texts_and_positions_mixed(y):
    """The positions come in front of the batch, so a row of the result mixes texts.

    The batch is axis 0 and stays there. Which of the others have to change places?
    """
    B, H, T, D = y.shape
    return y.permute(2, 0, 1, 3).reshape(B, T, H * D)


@exercise.also(texts_and_positions_mixed)
def texts_and_positions_swapped(y):
    B, H, T, D = y.shape
    return y.transpose(0, 2).reshape(B, T, H * D)


@exercise.wrong("how-it-breaks")
def shape_turned_without_the_numbers(y):
    """The positions come first in the shape, and yet no number has moved: `reshape` to (B, T,
    H, D) is not a transpose.

    `reshape` keeps the order in memory, whatever axes you name. Which operation changes
    the order of axes?
    """
    B, H, T, D = y.shape
    return y.reshape(B, T, H, D).transpose(2, 3).reshape(B, T, H * D)


@exercise.wrong("how-it-breaks")
def transposed_back_again(y):
    """After the reshape, rows and columns of each text are swapped as well. The numbers were
    mixed up before that, and stay so.

    The order has to be right when the axes become one. What must happen before the
    `reshape`?
    """
    B, H, T, D = y.shape
    return y.reshape(B, H * D, T).transpose(1, 2)


@exercise.caught_as("no-gradient")
def gradient_cut(y):
    return torch.tensor(merge_heads(y).tolist(), dtype=y.dtype)


@exercise.caught_as("wrong-dtype")
def always_float32(y):
    return merge_heads(y).float()


@exercise.caught_as("returned-none")
def nothing_returned(y):
    merge_heads(y)


@exercise.caught_as("modified-input")
def transposed_in_place(y):
    B, H, T, D = y.shape
    y.transpose_(1, 2)
    return y.reshape(B, T, H * D)


@exercise.caught_as("non-contiguous")
def strides_worked_out_by_hand(y):
    B, H, T, D = y.shape
    return y.as_strided((B, T, H, D), (H * T * D, D, T * D, 1)).flatten(2)


@exercise.caught_as("wrong-type")
def rows_in_a_list(y):
    return merge_heads(y).tolist()
