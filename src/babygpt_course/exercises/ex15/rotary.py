"""15.2: turn each pair of channels by an angle that grows with the position."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="15_llama_1",
    id="15.2",
    title="Turn by the position",
    kind="implement",
    points=3,
    minutes=12,
    anchor="by-hand",
    rules=(
        forbid(
            "apply_rotary rotary_table RotaryEmbedding apply_rotary_emb "
            "apply_rotary_pos_emb",
            "The package's function is what you are building. A cosine, a sine and four "
            "products for each pair are enough.",
        ),
    ),
    hints="""
    Four channels are two pairs. Each pair is a point in a plane. By which angle does
    the second pair turn at position 3, and where does a point (a, b) go that is turned?

    Pair i holds the channels 2i and 2i + 1. At position p it turns by p * theta^(-2i /
    D). A point (a, b) turned by an angle goes to (a cos - b sin, a sin + b cos), both
    from the *old* a and b.

    rate = theta ** -(0, 2, 4 ... D - 2 over D), (D / 2,); angle =
    positions[:, None] * rate, (T, D / 2); a = x[..., ::2], b = x[..., 1::2]; y = an
    empty tensor like x; y[..., ::2] = a cos - b sin; y[..., 1::2] = a sin + b cos.
    """,
)


@exercise.oracle
def rotate(x, positions, theta):
    B, H, T, D = x.shape
    y = torch.empty(B, H, T, D, dtype=x.dtype)
    for t, p in enumerate(positions.tolist()):
        for i in range(D // 2):
            angle = p * theta ** (-2 * i / D)
            cos, sin = math.cos(angle), math.sin(angle)
            a, b = x[:, :, t, 2 * i], x[:, :, t, 2 * i + 1]
            y[:, :, t, 2 * i] = a * cos - b * sin
            y[:, :, t, 2 * i + 1] = a * sin + b * cos
    return y


def random_case(B, H, T, D, seed, theta):
    """Small angles: computed in float32 they are as good as in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(B, H, T, D, generator=generator)
    positions = torch.randint(12, (T,), generator=generator)
    return x, positions, theta


@exercise.cases
def cases():
    def one(*channels, at, theta=10_000.0, trait=""):
        x = torch.tensor(channels).view(1, 1, 1, -1)
        return Case((x, torch.tensor([at]), theta), trait)

    yield one(3.0, 1.0, at=0, trait="position 0")
    yield one(1.0, 0.0, at=1)
    yield one(0.0, 1.0, at=1)
    yield one(3.0, 1.0, at=2)
    yield one(0.0, 0.0, 1.0, 0.0, at=1, theta=100.0)
    yield one(1.0, 0.0, 1.0, 0.0, at=3, theta=100.0)
    yield one(1.0, 2.0, 3.0, 4.0, at=1, theta=16.0)
    yield one(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, at=2, theta=64.0)
    two = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    yield Case((two, torch.tensor([0, 1]), 10_000.0), "positions from 0 on")
    yield Case((two, torch.tensor([5, 6]), 10_000.0), "positions from 5 on")
    yield Case((two, torch.tensor([4, 1]), 10_000.0), "positions in any order")
    yield Case((two.double(), torch.tensor([0, 2]), 10_000.0), "float64")
    heads = torch.arange(1.0, 9).view(1, 2, 2, 2)
    yield Case((heads, torch.tensor([1, 3]), 10_000.0), "two heads")
    for seed, (shape, theta) in enumerate(
        [((2, 3, 4, 6), 50.0), ((1, 4, 2, 8), 1e4), ((3, 1, 5, 4), 500.0)]
    ):
        yield Case(random_case(*shape, seed, theta))
        yield Case(random_case(*shape, seed + 10, theta))
    yield Case(random_case(1, 2, 3, 4, 5, 10.0), gradient=True)
    x, positions, theta = random_case(2, 4, 6, 8, 6, 1e4)
    yield Case((x[:, ::2, ::3, ::2], positions[::3], theta), NON_CONTIGUOUS)
    split = x.transpose(1, 2).contiguous().transpose(1, 2)  # as split_heads leaves it
    yield Case((split, positions, theta), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def table(positions, theta, D, dtype):
    """The angles, (T, D / 2)."""
    rate = theta ** (-torch.arange(0, D, 2, dtype=dtype) / D)
    return positions[:, None].to(dtype) * rate


@exercise.right
def by_complex_numbers(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], x.dtype)
    pairs = torch.complex(x[..., ::2], x[..., 1::2])
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(turned).flatten(-2)


@exercise.right
def unflattened_and_stacked(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], x.dtype)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


@exercise.right
def neighbors_exchanged(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], x.dtype).repeat_interleave(2, dim=-1)
    other = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).reshape(x.shape)
    return x * angle.cos() + other * angle.sin()


@exercise.right
def by_matrices(x, positions, theta):
    T, D = x.shape[-2:]
    angle = table(positions, theta, D, torch.float64)
    cos, sin, at = angle.cos(), angle.sin(), torch.arange(0, D, 2)
    turn = torch.zeros(T, D, D, dtype=torch.float64)
    turn[:, at, at] = turn[:, at + 1, at + 1] = cos
    turn[:, at, at + 1], turn[:, at + 1, at] = sin, -sin
    turn = turn.to(x.dtype)
    return torch.einsum("bhtc,tcd->bhtd", x, turn)


@exercise.right
def angles_in_float32(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], torch.float32)
    a, b, cos, sin = x[..., ::2], x[..., 1::2], angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


# --- wrong, each with the misconception behind it -------------------------------------


def turned(
    x,
    positions,
    theta,
    split=lambda x: (x[..., ::2], x[..., 1::2]),
    turn=lambda a, b, cos, sin: (a * cos - b * sin, a * sin + b * cos),
    join=lambda a, b: torch.stack((a, b), dim=-1).flatten(-2),
    power=lambda i, D: -2 * i / D,
):
    """The right answer, of which one part at a time is replaced."""
    D = x.shape[-1]
    rate = theta ** power(torch.arange(D // 2, dtype=x.dtype), D)
    angle = positions[:, None].to(x.dtype) * rate
    return join(*turn(*split(x), angle.cos(), angle.sin()))


def halves(x):
    return x.chunk(2, dim=-1)


def joined_halves(a, b):
    return torch.cat((a, b), dim=-1)


@exercise.wrong("by-hand")
def halves_paired(x, positions, theta):
    """Channel i is paired with channel i + D / 2, as in some other code for LLaMA. Here
    a pair is two neighbors.

    Both are right, if queries and keys do the same and the weights were trained for it.
    With four channels, which are the two pairs here?
    """
    return turned(x, positions, theta, split=halves, join=joined_halves)


@exercise.wrong("vectorize")
def halves_put_together(x, positions, theta):
    """The pairs are taken right and put back in another order: all first channels, then
    all second ones.

    Channels 0 and 1 were neighbors. Where are they now? What brings two numbers of a
    pair side by side again?
    """
    return turned(x, positions, theta, join=joined_halves)


@exercise.wrong("vectorize")
def halves_taken(x, positions, theta):
    """The pairs that are turned are (i, i + D / 2), and the results are put back as
    neighbors.

    The first D / 2 channels are not the first ones of the pairs. Which channels are?
    """
    return turned(x, positions, theta, split=halves)


@exercise.wrong("by-hand")
def the_other_way(x, positions, theta):
    """The pairs turn the other way. With queries and keys alike that would give the
    same scores, but not with weights that were trained for this way.

    Where does (1, 0) go at position 1: up to (0.54, 0.84), or down?
    """
    return turned(x, -positions, theta)


@exercise.wrong("by-hand")
def no_turn_at_all(x, positions, theta):
    """That is no turn: a sign is wrong, and the point is mirrored or gets longer.

    A turn keeps the length. How long is (3, 1) before, and after your formula? One of
    the four products has a minus, and it is one with a sine.
    """

    def turn(a, b, cos, sin):
        return a * cos + b * sin, a * sin + b * cos

    return turned(x, positions, theta, turn=turn)


@exercise.also(no_turn_at_all)
def both_minus(x, positions, theta):
    def turn(a, b, cos, sin):
        return a * cos - b * sin, a * sin - b * cos

    return turned(x, positions, theta, turn=turn)


@exercise.also(no_turn_at_all)
def mirrored(x, positions, theta):
    def turn(a, b, cos, sin):
        return a * cos + b * sin, a * sin - b * cos

    return turned(x, positions, theta, turn=turn)


@exercise.also(no_turn_at_all)
def both_with_two_minus_signs(x, positions, theta):
    def turn(a, b, cos, sin):
        return a * cos - b * sin, b * cos - a * sin

    return turned(x, positions, theta, turn=turn)


@exercise.wrong("by-hand")
def new_number_used(x, positions, theta):
    """The second channel is computed from the *new* first one: it was overwritten
    before it was used.

    Both new numbers come from the two old ones. Which line changes `a` too early?
    """

    def turn(a, b, cos, sin):
        a = a * cos - b * sin
        return a, a * sin + b * cos

    return turned(x, positions, theta, turn=turn)


@exercise.wrong("by-hand")
def cosine_and_sine_swapped(x, positions, theta):
    """Sine and cosine have changed places. At position 0 the angle is 0, and nothing
    should turn.

    What is the cosine of 0? And by which of the two is `a` multiplied in the first
    channel?
    """

    def turn(a, b, cos, sin):
        return a * sin - b * cos, a * cos + b * sin

    return turned(x, positions, theta, turn=turn)


@exercise.wrong("by-hand")
def channels_swapped(x, positions, theta):
    """The two channels of each pair have changed places, on the way in or on the way
    out.

    Channel 2i is the first coordinate of the point and 2i + 1 the second. Which one
    does yours call `a`, and where is it put back?
    """

    def turn(a, b, cos, sin):
        return a * sin + b * cos, a * cos - b * sin

    return turned(x, positions, theta, turn=turn)


@exercise.wrong("by-hand")
def always_from_zero_on(x, positions, theta):
    """`positions` is not used: your positions are always 0, 1, 2 and so on. A text that
    goes on from a cache begins elsewhere.

    x has one row, and it stands at position 1. By which angle does it turn?
    """
    return turned(x, torch.arange(x.shape[-2]), theta)


@exercise.wrong("by-hand")
def only_the_start_used(x, positions, theta):
    """The positions are counted on from the first one. They may stand in any order and
    leave gaps.

    Positions 4 and 1: by which angle does the second row turn?
    """
    return turned(x, positions[0] + torch.arange(x.shape[-2]), theta)


@exercise.wrong("by-hand")
def counted_from_one(x, positions, theta):
    """All positions are one too large. Position 0 does not turn at all.

    What is the angle of pair 0 at position 0?
    """
    return turned(x, positions + 1, theta)


@exercise.wrong("by-hand")
def two_left_out_of_the_power(x, positions, theta):
    """The rates fall too slowly: the exponent is -i / D. It is -2i / D, because i
    counts pairs and D counts channels.

    With D = 4 and theta = 100 pair 1 has the rate 0.1. What does your exponent make of
    it?
    """
    return turned(x, positions, theta, power=lambda i, D: -i / D)


@exercise.wrong("by-hand")
def pairs_for_channels(x, positions, theta):
    """The rates fall too fast: the exponent is twice as large as it should be. Either
    2i is divided by D, or i by D / 2, but not 2i by D / 2.

    With D = 4 and theta = 100 pair 1 has the rate 0.1. What does your exponent make of
    it?
    """
    return turned(x, positions, theta, power=lambda i, D: -4 * i / D)


@exercise.also(pairs_for_channels)
def divided_by_nothing(x, positions, theta):
    return turned(x, positions, theta, power=lambda i, D: -2.0 * i)


@exercise.wrong("by-hand")
def rates_counted_from_one(x, positions, theta):
    """The pairs are counted from 1. Pair 0 has the rate theta^0 = 1: it turns by one
    radian a position.

    Which exponent has your first pair?
    """
    return turned(x, positions, theta, power=lambda i, D: -2 * (i + 1) / D)


@exercise.wrong("by-hand")
def rates_that_grow(x, positions, theta):
    """The rates grow from pair to pair. The first pair is the fastest; the last one
    should hardly turn.

    Theta is large. Is its power with a plus larger or smaller than 1?
    """
    return turned(x, positions, theta, power=lambda i, D: 2 * i / D)


@exercise.wrong("by-hand")
def rates_backward(x, positions, theta):
    """The rates stand in the other order: the last pair is the fastest.

    Pair 0 turns by one radian a position. Which pair does that in your code?
    """
    return turned(x, positions, theta, power=lambda i, D: 2 * i / D - 1 + 2 / D)


@exercise.wrong("by-hand")
def all_pairs_alike(x, positions, theta):
    """All pairs turn at the same rate. Then after about 6 positions everything is where
    it was, and near and far look alike.

    What is theta for? Which pair can still tell position 1 from position 1000?
    """
    return turned(x, positions, theta, power=lambda i, D: 0.0 * i)


@exercise.wrong("by-hand")
def rates_on_a_line(x, positions, theta):
    """The rates fall in equal steps, or theta is not a power in your code. Each rate is
    the one before times the same factor.

    With D = 6 and theta = 64 the rates are 1, 1/4 and 1/16. What are yours?
    """
    D = x.shape[-1]
    rate = 1 - torch.arange(0, D, 2, dtype=x.dtype) / D
    angle = positions[:, None].to(x.dtype) * rate
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


@exercise.also(rates_on_a_line)
def theta_times_and_not_to_the_power(x, positions, theta):
    D = x.shape[-1]
    rate = 1 / (theta * torch.arange(0, D, 2, dtype=x.dtype) / D).clamp(min=1)
    angle = positions[:, None].to(x.dtype) * rate
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


@exercise.wrong("by-hand")
def theta_of_its_own(x, positions, theta):
    """Theta is always 10,000 in your code, whatever the argument says.

    That is the usual number. Longer contexts use a larger one. Where is `theta` used?
    """
    return turned(x, positions, 10_000.0)


@exercise.wrong("by-hand")
def in_degrees(x, positions, theta):
    """The angle is taken for degrees, or for parts of a full turn. `cos` and `sin` want
    radians, and that is what the formula gives.

    Pair 0 turns by 1 at position 1. Is the cosine of it 0.54, or nearly 1?
    """
    return turned(x, positions.double() * math.pi / 180, theta)


@exercise.also(in_degrees)
def in_full_turns(x, positions, theta):
    return turned(x, positions.double() * 2 * math.pi, theta)


@exercise.wrong("vectorize")
def angles_by_head(x, positions, theta):
    """The angles belong to the heads in your code, and not to the positions. The axes
    of x are (B, H, T, D).

    Two heads, two positions: do two heads at the same position turn differently?
    """
    return turned(x.transpose(1, 2), positions, theta).transpose(1, 2)


@exercise.wrong("by-hand")
def one_angle_for_all_positions(x, positions, theta):
    """All rows turn by the angle of one position, the first or the last.

    Every row stands at its own position. Which shape have your angles: (D / 2,), or (T,
    D / 2)?
    """
    return turned(x, positions[:1].expand(x.shape[-2]), theta)


@exercise.also(one_angle_for_all_positions)
def angle_of_the_last_position(x, positions, theta):
    return turned(x, positions[-1:].expand(x.shape[-2]), theta)


@exercise.wrong("by-hand")
def only_the_first_pair(x, positions, theta):
    """Only the first pair is turned; the others stay as they are.

    D channels make D / 2 pairs, and each of them turns. How many does your code see?
    """
    first = turned(x, positions, theta)[..., :2]
    return torch.cat((first, x[..., 2:]), dim=-1)


@exercise.wrong("by-hand")
def a_rate_for_each_channel(x, positions, theta):
    """The two channels of a pair have different angles, so a pair is not turned but
    bent. Both need the same one.

    How many angles does one position have with D = 4: four, or two?
    """
    D = x.shape[-1]
    rate = theta ** (-torch.arange(D, dtype=x.dtype) / D)
    angle = positions[:, None].to(x.dtype) * rate
    other = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * angle.cos() + other * angle.sin()


@exercise.wrong("by-hand")
def angles_repeated_in_blocks(x, positions, theta):
    """The angles stand as (0, 1, 0, 1) beside channels whose pairs are (0, 0, 1, 1).
    That order belongs to the other way of pairing.

    Which angle stands beside channel 1, and which one beside channel 2?
    """
    angle = table(positions, theta, x.shape[-1], x.dtype).repeat(1, 2)
    other = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * angle.cos() + other * angle.sin()


@exercise.wrong("by-hand")
def two_ways_mixed(x, positions, theta):
    """The pairs are (i, i + D / 2), and the angles stand beside the channels as if the
    pairs were neighbors. These are two ways of pairing, mixed.

    Channel 1 turns together with another one. Which one gives the number, and which one
    the angle?
    """
    D = x.shape[-1]
    angle = table(positions, theta, D, x.dtype).repeat_interleave(2, -1)
    other = torch.cat((-x[..., D // 2 :], x[..., : D // 2]), dim=-1)
    return x * angle.cos() + other * angle.sin()


@exercise.also(all_pairs_alike)
def all_pairs_like_the_second(x, positions, theta):
    return turned(x, positions, theta, power=lambda i, D: 0.0 * i - 2 / D)


@exercise.wrong("by-hand")
def added_and_not_turned(x, positions, theta):
    """Cosine and sine are *added* to the channels. That is the position code of the
    first transformer; a rotary one turns what is there.

    Where should (0, 0) go, whatever its position is?
    """
    angle = table(positions, theta, x.shape[-1], x.dtype)
    return x + torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


@exercise.also(added_and_not_turned)
def added_the_other_way(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], x.dtype)
    return x + torch.stack((angle.cos(), angle.sin()), dim=-1).flatten(-2)


@exercise.wrong("by-hand")
def only_multiplied_by_the_cosine(x, positions, theta):
    """Every channel is multiplied by a cosine, and nothing of its neighbor comes in.
    That shortens a pair; it does not turn it.

    Where does (1, 0) go at position 1? What must become of its second channel?
    """
    angle = table(positions, theta, x.shape[-1], x.dtype)
    return x * angle.cos().repeat_interleave(2, dim=-1)


@exercise.also(only_multiplied_by_the_cosine)
def multiplied_by_cosine_and_sine(x, positions, theta):
    angle = table(positions, theta, x.shape[-1], x.dtype)
    return x * torch.stack((angle.cos(), angle.sin()), dim=-1).flatten(-2)


@exercise.wrong("by-hand")
def each_channel_with_itself(x, positions, theta):
    """Every channel is combined with itself: a cos - a sin. The other number of the
    pair never comes in, so nothing is turned.

    (1, 0) at position 1 becomes (0.54, 0.84). Where does the 0.84 come from?
    """
    angle = table(positions, theta, x.shape[-1], x.dtype).repeat_interleave(2, -1)
    return x * angle.cos() - x * angle.sin()


@exercise.caught_as("modified-input")
def turned_in_place(x, positions, theta):
    a, b = x[..., ::2].clone(), x[..., 1::2].clone()
    angle = table(positions, theta, x.shape[-1], x.dtype)
    x[..., ::2] = a * angle.cos() - b * angle.sin()
    x[..., 1::2] = a * angle.sin() + b * angle.cos()
    return x


@exercise.caught_as("wrong-dtype")
def always_float32(x, positions, theta):
    return turned(x.float(), positions, theta)


@exercise.caught_as("wrong-shape")
def pairs_not_joined(x, positions, theta):
    return turned(x, positions, theta).unflatten(-1, (-1, 2))


@exercise.caught_as("no-gradient")
def gradient_cut(x, positions, theta):
    return turned(x.detach(), positions, theta)


@exercise.caught_as("wrong-gradient")
def half_of_the_gradient_cut(x, positions, theta):
    def turn(a, b, cos, sin):
        return a * cos - b.detach() * sin, a * sin + b * cos

    return turned(x, positions, theta, turn=turn)


@exercise.caught_as("non-contiguous")
def view_as_pairs(x, positions, theta):
    pairs = x.view(-1, *x.shape[-2:-1], x.shape[-1] // 2, 2)
    return turned(pairs.flatten(-2), positions, theta).view(x.shape)


@exercise.caught_as("wrong-shape")
def angles_for_all_channels(x, positions, theta):
    rate = theta ** (-torch.arange(x.shape[-1], dtype=x.dtype) / x.shape[-1])
    angle = positions[:, None] * rate
    a, b, cos, sin = x[..., ::2], x[..., 1::2], angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


@exercise.caught_as("raised")
def pairs_counted_from_one(x, positions, theta):
    y, D = x.clone(), x.shape[-1]
    angle = table(positions, theta, D, x.dtype)
    for i in range(D // 2):
        a, b, z = x[..., 2 * i + 1], x[..., 2 * i + 2], angle[:, i]
        y[..., 2 * i + 1] = a * z.cos() - b * z.sin()
        y[..., 2 * i + 2] = a * z.sin() + b * z.cos()
    return y


@exercise.caught_as("returned-none")
def nothing_returned(x, positions, theta):
    turned(x, positions, theta)


@exercise.caught_as("forbidden-call")
def by_the_package(x, positions, theta):
    from babygpt_course.llama import apply_rotary

    angle = table(positions, theta, x.shape[-1], x.dtype)
    return apply_rotary(x, angle.cos(), angle.sin())
