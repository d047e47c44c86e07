"""05.1: share the channels out among the heads."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import no_loops

exercise = Exercise(
    chapter="05_multi_head_attention",
    id="05.1",
    title="Split the heads",
    kind="implement",
    points=2,
    minutes=8,
    anchor="vectorize",
    rules=(
        no_loops(
            think="All heads at once are two steps without a copy: first an axis becomes "
            "two, then two axes change places."
        ),
    ),
    equivalent={
        "return heads.transpose(2, 1)": "Swapping two axes is the same in either order.",
    },
    hints="""
    The four channels of one position are 1, 2, 3, 4, and there are two heads. Which
    channels should head 0 get, and which head 1? And of which position are they?

    Channel c belongs to head c // D, and is its channel c % D, with D = C / H. So the last
    axis becomes two, (H, D); then the axis of the heads goes in front of the positions.

    x as (B, T, H, D), with `view`, `reshape` or `unflatten`; then swap axes 1 and 2, with
    `transpose`: (B, H, T, D).
    """,
)


@exercise.oracle
def split_heads(x, n_head):
    B, T, C = x.shape
    D = C // n_head
    heads = x.new_zeros(B, n_head, T, D)
    for b in range(B):
        for h in range(n_head):
            for t in range(T):
                heads[b, h, t] = x[b, t, h * D : (h + 1) * D]
    return heads


def random_case(B, T, H, D, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(B, T, H * D, generator=generator, dtype=torch.float64)
    return x.to(dtype), H


def counting_case(B, T, H, D):
    return torch.arange(1.0, B * T * H * D + 1).view(B, T, H * D), H


@exercise.cases
def cases():
    yield Case(counting_case(1, 2, 2, 2))
    yield Case(counting_case(1, 3, 2, 2))
    yield Case(counting_case(1, 2, 2, 3))
    yield Case(counting_case(1, 2, 3, 1))
    yield Case(counting_case(1, 1, 1, 2))
    yield Case(counting_case(1, 4, 1, 2))
    yield Case(counting_case(2, 2, 2, 2))
    yield Case(counting_case(2, 3, 2, 3))
    yield Case(random_case(1, 2, 3, 2, 8), gradient=True)
    for seed, (B, T, H, D) in enumerate([(2, 5, 3, 4), (4, 3, 2, 5), (3, 7, 5, 2)]):
        yield Case(random_case(B, T, H, D, seed))
        yield Case(random_case(B, T, H, D, seed, torch.float32), "float32")
    yield Case(random_case(3, 4, 6, 1, 4))
    qkv, H = random_case(2, 4, 3, 6, 5)
    yield Case((qkv[..., 6:12], H), NON_CONTIGUOUS)  # the middle third, as k in qkv
    x, H = random_case(3, 2, 2, 2, 6)
    yield Case((x.transpose(0, 1), H), NON_CONTIGUOUS)
    yield Case((x.transpose(1, 2).contiguous().transpose(1, 2), H), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def view_then_permute(x, n_head):
    B, T, C = x.shape
    return x.view(B, T, n_head, C // n_head).permute(0, 2, 1, 3)


@exercise.right
def chunks_stacked(x, n_head):
    return torch.stack(x.chunk(n_head, dim=-1), dim=1)


@exercise.right
def channels_first(x, n_head):
    B, T, C = x.shape
    return x.transpose(1, 2).reshape(B, n_head, C // n_head, T).transpose(2, 3)


@exercise.right
def indices_looked_up(x, n_head):
    D = x.shape[-1] // n_head
    channel = torch.arange(n_head)[:, None] * D + torch.arange(D)  # (H, D)
    return torch.einsum("bthd->bhtd", x[:, :, channel]).contiguous()


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("how-it-breaks")
def viewed_without_transposing(x, n_head):
    """The shape is right and the numbers are not where they belong: `view` (or `reshape`)
    alone gives head 0 the first positions with all their channels, and head 1 the next.

    Memory holds position after position, and `view` keeps that order. Which axis can be
    cut into heads without mixing positions, and what must come after the cut?
    """
    B, T, C = x.shape
    return x.reshape(B, n_head, T, C // n_head)


@exercise.also(viewed_without_transposing)
def viewed_without_transposing_strictly(x, n_head):
    B, T, C = x.shape
    return x.view(B, n_head, T, C // n_head)


@exercise.wrong("vectorize")
def heads_left_behind_the_positions(x, n_head):
    """The channels are cut into heads, but the axis of the heads still stands behind the
    positions: (B, T, H, D).

    `q @ k.transpose(-2, -1)` works on the last two axes. For each head they must be
    positions and channels. Which two axes have to change places?
    """
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head)


@exercise.wrong("vectorize")
def channels_dealt_out_in_turn(x, n_head):
    """The channels are dealt out like cards: channel 0 to head 0, channel 1 to head 1, and
    so on. Asked for are neighbors: the first D channels for head 0.

    Which of the two factors of C stands first when the axis becomes two: heads, or
    channels of a head?
    """
    B, T, C = x.shape
    return x.reshape(B, T, C // n_head, n_head).permute(0, 3, 1, 2)


@exercise.wrong("vectorize")
def channels_first_then_cut_the_wrong_way(x, n_head):
    """Positions and channels change places first, and then the cut takes positions and
    channels together.

    After `x.transpose(1, 2)` the shape is (B, C, T). The C in the middle is what should
    become (H, D). Is it easier to cut C while it is the last axis?
    """
    B, T, C = x.shape
    return x.transpose(1, 2).reshape(B, n_head, T, C // n_head)


@exercise.wrong("vectorize")
def number_of_heads_taken_for_their_size(x, n_head):
    """`n_head` is used as the size of a head: this makes C / n_head heads of n_head
    channels.

    Four channels for two heads hide this mistake, six channels show it. Which of the two
    axes should have the size `n_head`?
    """
    B, T, C = x.shape
    return x.reshape(B, T, C // n_head, n_head).transpose(1, 2)


@exercise.wrong("vectorize")
def positions_last(x, n_head):
    """The heads are right, and inside each of them positions and channels have changed
    places: (B, H, D, T).

    In a head the rows are positions and the columns are channels. Which axes of (B, T, H,
    D) have to change places, and which stay?
    """
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head).permute(0, 2, 3, 1)


@exercise.wrong("vectorize")
def heads_behind_the_channels(x, n_head):
    """The wrong two axes have changed places: (B, T, D, H).

    Count from the front: 0 is the batch, 1 the positions, 2 the heads, 3 the channels of a
    head. Wanted is (B, H, T, D).
    """
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head).transpose(-2, -1)


@exercise.wrong("vectorize")
def heads_before_the_batch(x, n_head):
    """The heads stand in front of everything: (H, B, T, D).

    The batch stays in front in the whole course. Along which `dim` are the heads put
    together?
    """
    B, T, C = x.shape
    return x.reshape(B, T, n_head, C // n_head).permute(2, 0, 1, 3)


@exercise.wrong("vectorize")
def heads_folded_into_the_batch(x, n_head):
    """Batch and heads are one axis here, (B * H, T, D). Asked for are four axes.

    Some libraries do that, and have to unfold it later. What does `(B, H, T, D)` need that
    yours has not?
    """
    B, T, C = x.shape
    heads = x.reshape(B, T, n_head, C // n_head).transpose(1, 2)
    return heads.reshape(B * n_head, T, C // n_head)


@exercise.wrong("by-hand")
def every_head_gets_all_channels(x, n_head):
    """Every head gets all C channels. Then H heads cost H times as much, and they all see
    the same.

    The channels are shared out: each belongs to one head. How many are there for each?
    """
    B, T, C = x.shape
    return x.unsqueeze(1).expand(B, n_head, T, C)


@exercise.wrong("by-hand")
def positions_shared_out(x, n_head):
    """The positions are shared out among the heads instead of the channels.

    Every head reads the whole text, through its own channels. Which axis of (B, T, C) is
    to be cut?
    """
    return torch.stack(x.chunk(n_head, dim=1), dim=1)


@exercise.caught_as("raised")
def head_size_as_a_float(x, n_head):
    B, T, C = x.shape
    return x.view(B, T, n_head, C / n_head).transpose(1, 2)


@exercise.caught_as("modified-input")
def resized_in_place(x, n_head):
    x -= x.mean()
    return split_heads(x, n_head)


@exercise.caught_as("no-gradient")
def gradient_cut(x, n_head):
    return split_heads(x.detach(), n_head)


@exercise.caught_as("wrong-dtype")
def always_float32(x, n_head):
    return split_heads(x, n_head).float()


@exercise.caught_as("wrong-type")
def heads_in_a_list(x, n_head):
    return list(split_heads(x, n_head))


@exercise.caught_as("returned-none")
def printed_not_returned(x, n_head):
    print(split_heads(x, n_head))


@exercise.caught_as("non-contiguous")
def strides_worked_out_by_hand(x, n_head):
    B, T, C = x.shape
    D = C // n_head
    return x.as_strided((B, n_head, T, D), (T * C, D, C, 1))


@exercise.caught_as("python-loop")
def slice_by_slice(x, n_head):
    D = x.shape[-1] // n_head
    return torch.stack([x[..., h * D : (h + 1) * D] for h in range(n_head)], dim=1)
