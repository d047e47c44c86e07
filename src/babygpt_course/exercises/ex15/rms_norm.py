"""15.1: divide the channels of each position by their root mean square."""

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="15_llama_1",
    id="15.1",
    title="Divide by the root mean square",
    kind="implement",
    points=2,
    minutes=8,
    anchor="by-hand",
    equivalent={
        "wide = x.to(torch.promote_types(torch.float32, x.dtype))": "The wider of two is "
        "the same in either order.",
    },
    rules=(
        forbid(
            "rms_norm RMSNorm layer_norm LayerNorm native_layer_norm group_norm GroupNorm "
            "native_group_norm batch_norm native_batch_norm normalize _fused_rms_norm",
            "A square, a mean, a root, a division and a product are enough. Over which axis "
            "does the mean run?",
        ),
    ),
    hints="""
    Layer norm subtracts a mean and divides. This norm does one thing less. What is left
    of it, and how many numbers does it need of each position?

    For each vector of C channels: the mean of the squares, plus eps, and the root of
    that. Divide the channels by it, and multiply each by its weight. 16-bit numbers are
    squared as float32.

    wide = x in float64 if x is, else in float32; scale = root of (the mean of wide *
    wide over the last axis, kept, plus eps); give back wide / scale, in the dtype of x,
    times weight.
    """,
)


@exercise.oracle
def rms_norm(x, weight, eps):
    C, wide = x.shape[-1], x if x.dtype == torch.float64 else x.float()
    rows = []
    for vector in wide.reshape(-1, C):
        square = sum(number * number for number in vector) / C
        root = (square + eps) ** 0.5
        rows.append(torch.stack([(v / root).to(x.dtype) for v in vector]) * weight)
    return torch.stack(rows).view(x.shape)


def random_case(*shape, seed, dtype=torch.float64, eps=1e-5):
    """Every position and every channel has a mean and a scale of its own."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    C = shape[-1]
    x = numbers(*shape) + 2 * numbers(C) + numbers(*shape[:-1], 1)
    x = (x * numbers(*shape[:-1], 1).exp()).to(dtype)
    return x, (numbers(C) + 1).to(dtype), eps


@exercise.cases
def cases():
    two, one = torch.tensor([1.0, 7.0]), torch.ones(2)
    yield Case((two, one, 0.0))
    yield Case((two, torch.tensor([10.0, 100.0]), 0.0))
    yield Case((torch.tensor([3.0, -5.0]), torch.tensor([2.0, 0.5]), 19.0))
    rows = torch.tensor([[1.0, 7.0], [10.0, 50.0]])
    yield Case((rows, one, 0.0))
    yield Case((rows, torch.tensor([2.0, 4.0]), 0.5))
    four = torch.tensor([[1.0, 3.0, 5.0, 11.0]])
    yield Case((four, torch.ones(4), 0.0))
    yield Case((four[0], torch.arange(1.0, 5), 1.0))
    yield Case((torch.tensor([[0.0, 0.0], [0.0, 4.0]]), one, 1e-5), "all channels 0")
    yield Case((torch.tensor([0.0, 2e-3, 4e-3]), torch.ones(3), 1e-6), "tiny numbers")
    half, halves = torch.float16, torch.ones(2, dtype=torch.float16)
    large = torch.tensor([[300.0, -400.0], [300.0, 300.0]], dtype=half)
    yield Case((large, halves, 1e-5), "float16")
    yield Case(
        (torch.tensor([[2.0**-13, 0.0]], dtype=half), halves, 2.0**-27), "float16"
    )
    brain = torch.tensor([[1.0, 3.0, -20.0]], dtype=torch.bfloat16)
    yield Case(
        (brain, torch.tensor([1.0, 2.0, 0.5], dtype=torch.bfloat16), 1e-5), "bfloat16"
    )
    yield Case(random_case(3, 3, 3, seed=10))
    for seed, shape in enumerate([(2, 3, 4), (3, 4, 2), (2, 3, 2, 5), (5, 7)]):
        yield Case(random_case(*shape, seed=seed))
        yield Case(random_case(*shape, seed=seed, dtype=torch.float32), "float32")
    yield Case(random_case(2, 2, 3, seed=4, eps=2.0))
    yield Case(random_case(2, 3, seed=5, dtype=torch.float32), gradient=True)
    x, weight, eps = random_case(4, 6, 3, seed=6)
    yield Case((x[::2, 1::2], weight, eps), NON_CONTIGUOUS)
    yield Case((x.transpose(0, 1), weight, eps), NON_CONTIGUOUS)
    wide = random_case(3, 8, seed=7)
    yield Case((wide[0][:, ::2], wide[1][::2], 0.1), NON_CONTIGUOUS)


wide = True  # False in answers that also forget to leave the 16 bits


def widened(x):
    """float64 stays, all else becomes float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32)) if wide else x


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def with_rsqrt(x, weight, eps):
    wide = widened(x)
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide * scale).type_as(x) * weight


@exercise.right
def always_in_float64(x, weight, eps):
    wide = x.double()
    size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    root = (size**2 / x.shape[-1] + eps).sqrt()
    return (wide / root).to(x.dtype) * weight


@exercise.right
def position_by_position(x, weight, eps):
    C = x.shape[-1]
    done = []
    for v in widened(x).reshape(-1, C):
        done.append(v / (v.dot(v) / C + eps).sqrt())
    return torch.stack(done).reshape(x.shape).to(x.dtype) * weight


@exercise.right
def axis_put_back_by_indexing(x, weight, eps):
    wide = widened(x)
    square = torch.einsum("...c,...c->...", wide, wide) / x.shape[-1]
    return (wide / (square + eps)[..., None] ** 0.5).to(x.dtype) * weight


@exercise.right
def weight_in_the_scale(x, weight, eps):
    wide = widened(x)
    scale = widened(weight) / (wide.square().mean(-1, True) + eps).sqrt()
    return (wide * scale).to(x.dtype)


# --- wrong, each with the misconception behind it -------------------------------------


def adds(anchor="by-hand", of=None):
    """A wrong answer, and the same where 16-bit numbers are not widened, or stay wide."""

    def narrow(function):
        def made(x, weight, eps):
            global wide
            wide = False
            try:
                return function(x, weight, eps)
            finally:
                wide = True

        made.__name__ = f"{function.__name__}_in_16_bits"
        return made

    def left_wide(function):
        def made(x, weight, eps):
            return function(widened(x), widened(weight), eps)

        made.__name__ = f"{function.__name__}_left_in_32_bits"
        return made

    def add(function):
        (exercise.also(of) if of else exercise.wrong(anchor))(function)
        for variant in (narrow(function), left_wide(function)):
            exercise.also(of or function)(variant)
        return function

    return add


def normalized(x, eps, dims=-1, size=lambda x, dims: x.pow(2).mean(dims, keepdim=True)):
    wide = widened(x)
    return (wide / (size(wide, dims) + eps).sqrt()).to(x.dtype)


@adds()
def layer_norm(x, weight, eps):
    """The mean is subtracted first: that is the layer norm of chapter 8. This norm
    leaves it out.

    Of (1, 7) the mean square is 25. Where does a 4 come in?
    """
    wide = widened(x)
    d = wide - wide.mean(-1, keepdim=True)
    return normalized(d, eps).to(x.dtype) * weight


@adds(of=layer_norm)
def layer_norm_with_one_less(x, weight, eps):
    wide = widened(x)
    d = wide - wide.mean(-1, keepdim=True)
    return (d / (wide.var(-1, keepdim=True) + eps).sqrt()).to(x.dtype) * weight


@adds()
def standard_deviation(x, weight, eps):
    """The numbers are divided by their standard deviation, so the mean is still taken
    off below the line.

    A deviation is measured from the mean. From where are the numbers measured here?
    """
    wide = widened(x)
    var = wide.var(-1, keepdim=True, correction=0)
    return (wide / (var + eps).sqrt()).to(x.dtype) * weight


@adds(of=standard_deviation)
def standard_deviation_with_one_less(x, weight, eps):
    wide = widened(x)
    return (wide / (wide.var(-1, keepdim=True) + eps).sqrt()).to(x.dtype) * weight


@adds()
def only_the_mean_subtracted_above(x, weight, eps):
    """The mean is subtracted above the line. Below the line everything is right.

    Layer norm subtracts, this one does not. What is divided by the root: x, or x minus
    something?
    """
    wide = widened(x)
    root = (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return ((wide - wide.mean(-1, keepdim=True)) / root).to(x.dtype) * weight


@adds()
def length_of_the_vector(x, weight, eps):
    """The squares are added up and not divided by C: every vector comes out with length
    1, and with more channels each gets smaller.

    Root *mean* square. Over how many channels is the mean?
    """
    sums = normalized(x, eps, size=lambda x, dims: x.pow(2).sum(dims, keepdim=True))
    return sums * weight


@adds()
def square_of_the_mean(x, weight, eps):
    """The mean is squared, where the squares should be averaged. Numbers on both sides
    of 0 cancel in a mean.

    Of (3, -5) the mean is -1 and its square is 1. What is the mean of the squares?
    """
    means = normalized(x, eps, size=lambda x, dims: x.mean(dims, keepdim=True).pow(2))
    return means * weight


@adds()
def mean_of_the_sizes(x, weight, eps):
    """The numbers are divided by the mean of their sizes, without square and root. A
    single large channel then counts for less.

    Of (1, 7) the mean size is 4. What are the mean of the squares, and its root?
    """
    wide = widened(x)
    return (wide / (wide.abs().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


@adds()
def largest_size(x, weight, eps):
    """The numbers are divided by the largest of them. All others have no say then.

    Of (1, 7) the largest is 7. What is the root of the mean square?
    """
    wide = widened(x)
    return (wide / (wide.abs().amax(-1, keepdim=True) + eps)).to(x.dtype) * weight


@adds()
def root_not_taken(x, weight, eps):
    """The numbers are divided by the mean square itself; it should be its root.

    Numbers twice as large have four times the mean square, and should come out the
    same. What must they be divided by?
    """
    wide = widened(x)
    return (wide / (wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


@adds()
def multiplied(x, weight, eps):
    """The numbers are multiplied by the root of their mean square: large ones become
    larger still.

    (1, 7) should come out with a mean square of 1. Is the root something to multiply
    with, or to divide by?
    """
    wide = widened(x)
    root = (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (wide * root).to(x.dtype) * weight


@adds()
def eps_outside_the_root(x, weight, eps):
    """eps is added to the root of the mean square; it belongs to the mean square, under
    the root.

    The root of 0.0001 is 0.01, so under the root a small eps does more. What do you
    take the root of?
    """
    wide = widened(x)
    root = wide.pow(2).mean(-1, keepdim=True).sqrt() + eps
    return (wide / root).to(x.dtype) * weight


@adds(of=eps_outside_the_root)
def root_of_eps_outside_the_root(x, weight, eps):
    wide = widened(x)
    root = wide.pow(2).mean(-1, keepdim=True).sqrt() + eps**0.5
    return (wide / root).to(x.dtype) * weight


@adds(of=eps_outside_the_root)
def eps_added_to_the_reciprocal(x, weight, eps):
    wide = widened(x)
    return (wide * (1 / wide.pow(2).mean(-1, True).sqrt() + eps)).to(x.dtype) * weight


@adds()
def eps_as_a_floor(x, weight, eps):
    """eps is a floor for the mean square: it replaces a smaller one. It should be added
    to every mean square.

    With a mean square of 25 and an eps of 1, what stands under the root?
    """

    def floored(x, dims):
        return x.pow(2).mean(dims, keepdim=True).clamp(min=eps)

    return normalized(x, 0.0, size=floored) * weight


@adds()
def eps_forgotten(x, weight, eps):
    """eps is not used. A position whose channels are all 0 gives 0 / 0, which is nan.

    Where does eps keep the divisor away from 0?
    """
    return normalized(x, 0.0) * weight


@adds()
def eps_of_the_library(x, weight, eps):
    """eps is a number of its own in your code, whatever the argument says.

    1e-5 is what LLaMA takes. Here the caller says how much. Where is `eps` used?
    """
    return normalized(x, 1e-5) * weight


@adds(of=eps_of_the_library)
def eps_of_another_library(x, weight, eps):
    return normalized(x, 1e-6) * weight


@exercise.wrong("the-module")
def squared_in_16_bits(x, weight, eps):
    """All float32 and float64 cases are right. 16-bit numbers are squared as they are,
    and 300 * 300 is more than float16 can hold; tiny ones become 0.

    In which format is the square taken? And in which one does the result come back?
    """
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return x * scale * weight


@exercise.also(squared_in_16_bits)
def squared_in_16_bits_and_divided(x, weight, eps):
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


@exercise.also(squared_in_16_bits)
def widened_after_the_square(x, weight, eps):
    wide = widened((x * x).mean(-1, keepdim=True))
    return (widened(x) / (wide + eps).sqrt()).to(x.dtype) * weight


@exercise.also(squared_in_16_bits)
def widened_after_squaring(x, weight, eps):
    wide = widened(x * x).mean(-1, keepdim=True)
    return (widened(x) / (wide + eps).sqrt()).to(x.dtype) * weight


@adds()
def over_the_positions(x, weight, eps):
    """The mean runs over the positions, for each channel by itself. Then a position
    depends on what comes after it, and the future leaks.

    A position is normalized by its own channels alone. Which axis of (B, T, C) are
    those?
    """
    return normalized(x, eps, -2) * weight


@adds()
def over_the_batch(x, weight, eps):
    """The mean runs over the first axis: the result for a text depends on the texts
    beside it.

    Which axis holds the channels of one position, however many axes stand before it?
    """
    return normalized(x, eps, 0) * weight


@adds(of=over_the_batch)
def over_batch_and_positions(x, weight, eps):
    return normalized(x.reshape(-1, x.shape[-1]), eps, 0).view(x.shape) * weight


@adds()
def everything_together(x, weight, eps):
    """There is one mean square for all positions of all texts. A quiet position beside
    a loud one would all but vanish, and every result depends on everything.

    How many roots has a batch of 2 texts with 3 positions: 1, or 6?
    """
    return normalized(x, eps, tuple(range(x.ndim))) * weight


@adds()
def each_text_together(x, weight, eps):
    """There is one mean square for all positions of a text. Then a position depends on
    what comes after it, and the future leaks.

    How many roots has one text with 3 positions: 1, or 3?
    """
    return normalized(x, eps, (-2, -1)) * weight


@adds()
def axis_of_three_counted_from_the_front(x, weight, eps):
    """The channels are axis 2 in your code. That is right for (B, T, C) alone; the task
    has any number of axes before the channels.

    Counted from the end the channels always have the same number. Which?
    """
    return normalized(x, eps, 2) * weight


@adds("vectorize")
def axis_not_kept(x, weight, eps):
    """The roots have lost an axis, so they do not line up with the positions: that
    stops, or, if the sizes happen to fit, divides one position by the root of another.

    (T, C) divided by (T,) is counted from the right: C against T. What keeps an axis of
    size 1 in place of the C?
    """
    wide = widened(x)
    return (wide / (wide.pow(2).mean(-1) + eps).sqrt()).to(x.dtype) * weight


@adds(of=axis_not_kept)
def axis_not_kept_and_reciprocal(x, weight, eps):
    wide = widened(x)
    return (wide * torch.rsqrt(wide.pow(2).mean(-1) + eps)).to(x.dtype) * weight


@adds()
def weight_forgotten(x, weight, eps):
    """`weight` has no effect: every channel keeps the same size.

    The norm makes all positions alike. What lets the model decide which channel is
    loud?
    """
    return normalized(x, eps)


@adds()
def one_plus_weight(x, weight, eps):
    """The numbers are multiplied by 1 + weight. Some models store a norm's weight like
    that; in LLaMA it is the factor itself.

    What should a weight of 1 do?
    """
    return normalized(x, eps) * (1 + weight)


@adds()
def weight_before_the_norm(x, weight, eps):
    """The weight is applied to x, and the result is normalized. So the norm takes away
    a part of what it did.

    Which comes first: the division by the root, or the weight?
    """
    return normalized(widened(x) * widened(weight), eps).to(x.dtype)


@adds()
def weight_added(x, weight, eps):
    """The weight is added to the channels. This norm has no bias: the weight is a
    factor.

    What should a weight of 1 do to a channel?
    """
    return normalized(x, eps) + weight


@adds()
def divided_by_the_weight(x, weight, eps):
    """The channels are divided by the weight.

    A weight of 2 should make a channel louder. What does it do in your code?
    """
    return normalized(x, eps) / weight


@adds(of=length_of_the_vector)
def length_without_eps(x, weight, eps):
    y = widened(x)
    return (y / y.norm(dim=-1, keepdim=True)).to(x.dtype) * weight


@adds(of=length_of_the_vector)
def length_and_eps_outside(x, weight, eps):
    y = widened(x)
    return (y / (y.norm(dim=-1, keepdim=True) + eps)).to(x.dtype) * weight


@adds(of=mean_of_the_sizes)
def mean_of_the_sizes_without_eps(x, weight, eps):
    y = widened(x)
    return (y / y.abs().mean(-1, keepdim=True)).to(x.dtype) * weight


@adds(of=standard_deviation)
def standard_deviation_without_eps(x, weight, eps):
    y = widened(x)
    return (y / y.std(-1, keepdim=True, correction=0)).to(x.dtype) * weight


@adds(of=standard_deviation)
def standard_deviation_with_one_less_and_without_eps(x, weight, eps):
    y = widened(x)
    return (y / y.std(-1, keepdim=True)).to(x.dtype) * weight


@adds(of=root_not_taken)
def root_and_eps_not_taken(x, weight, eps):
    y = widened(x)
    return (y / y.pow(2).mean(-1, keepdim=True)).to(x.dtype) * weight


@adds(of=over_the_positions)
def over_axis_one(x, weight, eps):
    return normalized(x, eps, 1) * weight


@exercise.caught_as("modified-input")
def divided_in_place(x, weight, eps):
    x /= (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return x * weight


@exercise.caught_as("wrong-dtype")
def float32_given_back(x, weight, eps):
    wide = widened(x)
    return wide / (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


@exercise.caught_as("wrong-dtype")
def always_double(x, weight, eps):
    return rms_norm(x.double(), weight.double(), eps)


@exercise.caught_as("no-gradient")
def gradient_cut(x, weight, eps):
    return rms_norm(x, weight, eps).detach()


@exercise.caught_as("wrong-gradient")
def root_without_gradient(x, weight, eps):
    with torch.no_grad():
        root = (widened(x).pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (widened(x) / root).to(x.dtype) * weight


@exercise.caught_as("non-contiguous")
def view_instead_of_reshape(x, weight, eps):
    rows = x.view(-1, x.shape[-1])
    return (normalized(rows, eps) * weight).view(x.shape)


@exercise.caught_as("raised")
def three_axes_unpacked(x, weight, eps):
    B, T, C = x.shape
    return normalized(x.reshape(B, T, C), eps) * weight


@exercise.caught_as("forbidden-call")
def the_library_does_it(x, weight, eps):
    return F.rms_norm(widened(x), weight.shape, None, eps).to(x.dtype) * weight


@exercise.caught_as("returned-none")
def nothing_returned(x, weight, eps):
    normalized(x, eps) * weight


@exercise.caught_as("wrong-shape")
def flattened(x, weight, eps):
    return (normalized(x, eps) * weight).reshape(-1, 1)
