"""08.1: normalize the channels of each position."""

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="08_gpt",
    id="08.1",
    title="Normalize each position",
    kind="implement",
    points=2,
    minutes=9,
    anchor="by-hand",
    rules=(
        forbid(
            "layer_norm LayerNorm native_layer_norm group_norm GroupNorm "
            "native_group_norm batch_norm native_batch_norm instance_norm rms_norm "
            "BatchNorm1d InstanceNorm1d RMSNorm normalize",
            think="A mean, a variance, a subtraction, a division, a product and a sum are "
            "enough. Over which axis do the first two run?",
        ),
    ),
    hints="""
    A batch of 2 texts with 3 positions of 4 channels: how many means are there? Should a
    position come out differently when another one changes?

    For each vector of C channels: subtract its mean, and divide by the root of (variance +
    eps), where the variance is the mean of the squared deviations. Then times weight, plus
    bias, channel by channel.

    mean = x.mean over the last axis, kept with `keepdim=True`; d = x - mean; var = mean of d
    times d over the last axis, kept too; give back weight times d over the root of (var +
    eps), plus bias.
    """,
)


@exercise.oracle
def layer_norm(x, weight, bias, eps):
    C = x.shape[-1]
    rows = []
    for vector in x.reshape(-1, C):
        mean = sum(vector) / C
        variance = sum((number - mean) ** 2 for number in vector) / C
        root = (variance + eps) ** 0.5
        channels = zip(vector, weight, bias)
        rows.append(torch.stack([w * (v - mean) / root + b for v, w, b in channels]))
    return torch.stack(rows).view(x.shape)


def random_case(*shape, seed, dtype=torch.float64, eps=1e-5):
    """Every position and every channel has a mean and a scale of its own."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    C = shape[-1]
    x = numbers(*shape) + 2 * numbers(C) + numbers(*shape[:-1], 1)
    x = (x * numbers(*shape[:-1], 1).exp()).to(dtype)
    return x, (numbers(C) + 1).to(dtype), numbers(C).to(dtype), eps


@exercise.cases
def cases():
    one, none = torch.ones(2), torch.zeros(2)
    two = torch.tensor([1.0, 3.0])
    yield Case((two, one, none, 0.0))
    yield Case((two, torch.tensor([10.0, 100.0]), torch.tensor([1.0, 2.0]), 0.0))
    yield Case((two, torch.tensor([2.0, 0.5]), torch.tensor([5.0, 3.0]), 3.0))
    rows = torch.tensor([[1.0, 3.0], [10.0, 50.0]])
    yield Case((rows, one, none, 0.0))
    yield Case((rows, torch.tensor([2.0, 4.0]), torch.tensor([0.5, 1.0]), 0.5))
    four = torch.tensor([[1.0, 3.0, 5.0, 11.0]])
    yield Case((four, torch.ones(4), torch.zeros(4), 0.0))
    yield Case((four[0], torch.arange(1.0, 5), torch.arange(4.0), 1.0))
    same = torch.tensor([[2.0, 2.0], [0.0, 4.0]])
    yield Case((same, one, none, 1e-5), "all channels alike")
    tiny = torch.tensor([0.0, 2e-3, 4e-3])
    yield Case((tiny, torch.ones(3), torch.zeros(3), 1e-6), "tiny numbers")
    odd = torch.tensor([10001.0, 9999.0, 10003.0, 9997.0])
    yield Case((odd, torch.ones(4), torch.zeros(4), 1e-5), "large numbers")
    x, weight, bias, eps = random_case(2, 3, seed=9)
    yield Case((x + 1e6, weight, bias, eps), "large numbers")
    yield Case(random_case(3, 3, 3, seed=10))
    for seed, shape in enumerate([(2, 3, 4), (3, 4, 2), (2, 3, 2, 5), (5, 7)]):
        yield Case(random_case(*shape, seed=seed))
        yield Case(random_case(*shape, seed=seed, dtype=torch.float32), "float32")
    yield Case(random_case(2, 2, 3, seed=4, eps=2.0))
    yield Case(random_case(2, 3, seed=5), gradient=True)
    x, weight, bias, eps = random_case(4, 6, 3, seed=6)
    yield Case((x[::2, 1::2], weight, bias, eps), NON_CONTIGUOUS)
    yield Case((x.transpose(0, 1), weight, bias, eps), NON_CONTIGUOUS)
    wide = random_case(3, 8, seed=7)
    yield Case((wide[0][:, ::2], wide[1][::2], wide[2][1::2], 0.1), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def with_var_mean(x, weight, bias, eps):
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(bias, (x - mean) * torch.rsqrt(var + eps), weight)


@exercise.right
def position_by_position(x, weight, bias, eps):
    C = x.shape[-1]
    done = [
        (v - v.mean()) / (v.var(unbiased=False) + eps).sqrt() for v in x.reshape(-1, C)
    ]
    return torch.stack(done).reshape(x.shape) * weight + bias


@exercise.right
def axis_put_back_by_indexing(x, weight, bias, eps):
    d = x - x.mean(-1)[..., None]
    scale = weight / (d.pow(2).mean(-1)[..., None] + eps) ** 0.5
    return d * scale + bias


@exercise.right
def means_by_a_matrix(x, weight, bias, eps):
    C = x.shape[-1]
    center = torch.eye(C, dtype=x.dtype) - torch.full((C, C), 1 / C, dtype=x.dtype)
    d = x @ center
    length = torch.einsum("...c,...c->...", d, d).unsqueeze(-1) / C
    return d / (length + eps).sqrt() * weight + bias


# --- wrong, each with the misconception behind it -------------------------------------


def normalized(x, eps, dims=-1, correction=0):
    mean = x.mean(dim=dims, keepdim=True)
    var = x.var(dim=dims, keepdim=True, correction=correction)
    return (x - mean) / (var + eps).sqrt()


@exercise.wrong("by-hand")
def divided_by_one_less(x, weight, bias, eps):
    """The variance divides by C - 1: everything comes out a little too small.

    `var` and `std` do that by default, to estimate the variance of more numbers than they
    see. Here these are all there are. Which argument makes it C?
    """
    return normalized(x, eps, correction=1) * weight + bias


@exercise.wrong("by-hand")
def eps_outside_the_root(x, weight, bias, eps):
    """eps is added to the root of the variance; it belongs to the variance, under the root.

    The root of 0.0001 is 0.01, so under the root a small eps does more. What do you take the
    root of?
    """
    std = x.var(dim=-1, keepdim=True, correction=0).sqrt()
    return (x - x.mean(-1, keepdim=True)) / (std + eps) * weight + bias


@exercise.also(eps_outside_the_root)
def eps_outside_the_root_and_one_less(x, weight, bias, eps):
    std = x.std(dim=-1, keepdim=True)
    return (x - x.mean(-1, keepdim=True)) / (std + eps) * weight + bias


@exercise.also(eps_outside_the_root)
def root_of_eps_outside_the_root(x, weight, bias, eps):
    std = x.var(dim=-1, keepdim=True, correction=0).sqrt() + eps**0.5
    return (x - x.mean(-1, keepdim=True)) / std * weight + bias


@exercise.wrong("by-hand")
def eps_as_a_floor(x, weight, bias, eps):
    """eps is a floor for the variance: it replaces a smaller one. It should be added to every
    variance.

    With a variance of 4 and an eps of 1, what stands under the root?
    """
    var = x.var(dim=-1, keepdim=True, correction=0).clamp(min=eps)
    return (x - x.mean(-1, keepdim=True)) / var.sqrt() * weight + bias


@exercise.wrong("by-hand")
def eps_forgotten(x, weight, bias, eps):
    """eps is not used. A position whose channels are all alike has a variance of 0, and 0 / 0
    is nan.

    Where does eps keep the divisor away from 0?
    """
    return normalized(x, 0.0) * weight + bias


@exercise.wrong("by-hand")
def eps_of_the_library(x, weight, bias, eps):
    """eps is a number of its own in your code, whatever the argument says.

    1e-5 is what the library takes if nobody says anything. Here somebody does. Where is
    `eps` used?
    """
    return normalized(x, 1e-5) * weight + bias


@exercise.also(eps_of_the_library)
def eps_of_another_library(x, weight, bias, eps):
    return normalized(x, 1e-6) * weight + bias


@exercise.wrong("by-hand")
def over_the_positions(x, weight, bias, eps):
    """Mean and variance run over the positions, for each channel by itself. Then a position
    depends on what comes after it, and the future leaks.

    A position is normalized by its own channels alone. Which axis of (B, T, C) are those?
    """
    return normalized(x, eps, -2) * weight + bias


@exercise.wrong("by-hand")
def over_the_batch(x, weight, bias, eps):
    """Mean and variance run over the first axis, as in batch norm: the result for a text
    depends on the texts beside it.

    Which axis holds the channels of one position, however many axes stand before it?
    """
    return normalized(x, eps, 0) * weight + bias


@exercise.also(over_the_batch)
def over_batch_and_positions(x, weight, bias, eps):
    return normalized(x.reshape(-1, x.shape[-1]), eps, 0).view(x.shape) * weight + bias


@exercise.wrong("by-hand")
def everything_together(x, weight, bias, eps):
    """There is one mean for all positions of all texts. A quiet position beside a loud one
    would all but vanish, and every result depends on everything.

    How many means has a batch of 2 texts with 3 positions: 1, or 6?
    """
    return normalized(x, eps, tuple(range(x.ndim))) * weight + bias


@exercise.wrong("by-hand")
def each_text_together(x, weight, bias, eps):
    """There is one mean for all positions of a text. Then a position depends on what comes
    after it, and the future leaks.

    How many means has one text with 3 positions: 1, or 3?
    """
    return normalized(x, eps, (-2, -1)) * weight + bias


@exercise.wrong("by-hand")
def axis_of_three_counted_from_the_front(x, weight, bias, eps):
    """The channels are axis 2 in your code. That is right for (B, T, C) alone; the task has
    any number of axes before the channels.

    Counted from the end the channels always have the same number. Which?
    """
    return normalized(x, eps, 2) * weight + bias


@exercise.wrong("by-hand")
def mean_not_subtracted(x, weight, bias, eps):
    """The numbers are divided by the right thing, and their mean is still in them.

    Before weight and bias every position should have the mean 0. Which step makes it so?
    """
    std = (x.var(-1, keepdim=True, correction=0) + eps).sqrt()
    return x / std * weight + bias


@exercise.wrong("by-hand")
def root_of_the_mean_square(x, weight, bias, eps):
    """The mean is never used: you divide by the root of the mean *square*. That is RMSNorm,
    another norm.

    A variance is the mean square of what is left after the mean is subtracted. Which comes
    first?
    """
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@exercise.wrong("by-hand")
def mean_subtracted_and_mean_square(x, weight, bias, eps):
    """The mean is subtracted above the line and not below it: you divide by the root of the
    mean square of x itself.

    The variance is about the deviations. Of which numbers do you take the square?
    """
    scale = (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (x - x.mean(-1, keepdim=True)) / scale * weight + bias


@exercise.wrong("by-hand")
def only_the_mean_subtracted(x, weight, bias, eps):
    """The mean is gone from each position, and nothing is divided: the spread is as it was.

    Before weight and bias every position should have the variance 1 (a little less, because
    of eps). Which step makes it so?
    """
    return (x - x.mean(-1, keepdim=True)) * weight + bias


@exercise.wrong("by-hand")
def root_not_taken(x, weight, bias, eps):
    """The deviations are divided by the variance; it should be its root.

    Numbers twice as large have four times the variance, and should come out the same. What
    must they be divided by?
    """
    var = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) / (var + eps) * weight + bias


@exercise.wrong("by-hand")
def length_of_the_vector(x, weight, bias, eps):
    """The squared deviations are added up and not divided by C: a position comes out with
    length 1 instead of variance 1.

    With more channels each would become smaller. Is a variance a sum or a mean?
    """
    d = x - x.mean(-1, keepdim=True)
    return d / (d.pow(2).sum(-1, keepdim=True) + eps).sqrt() * weight + bias


@exercise.wrong("by-hand")
def mean_square_minus_squared_mean(x, weight, bias, eps):
    """The formula is right on paper: mean of the squares minus square of the mean. With large
    numbers both are huge and nearly equal, and their difference is lost to rounding.

    Subtract first, square then. How large are the squares in that order?
    """
    mean = x.mean(-1, keepdim=True)
    var = x.pow(2).mean(-1, keepdim=True) - mean**2
    return (x - mean) / (var + eps).sqrt() * weight + bias


@exercise.wrong("vectorize")
def axis_not_kept(x, weight, bias, eps):
    """The means have lost an axis, so they do not line up with the positions: that stops, or,
    if the sizes happen to fit, takes the mean of one position from the numbers of another.

    (T, C) minus (T,) is counted from the right: C against T. What keeps an axis of size 1 in
    place of the C?
    """
    std = (x.var(-1, correction=0) + eps).sqrt()
    return (x - x.mean(-1)) / std * weight + bias


@exercise.wrong("by-hand")
def weight_forgotten(x, weight, bias, eps):
    """`weight` has no effect: every channel keeps the same size.

    The norm makes all positions alike. What lets the model decide which channel is loud?
    """
    return normalized(x, eps) + bias


@exercise.wrong("by-hand")
def bias_forgotten(x, weight, bias, eps):
    """`bias` has no effect: no channel is shifted.

    What is added to each channel, after all the rest?
    """
    return normalized(x, eps) * weight


@exercise.wrong("by-hand")
def weight_and_bias_forgotten(x, weight, bias, eps):
    """This is the norm alone: `weight` and `bias` have no effect.

    They are parameters, one of each for every channel. What does the formula do with them?
    """
    return normalized(x, eps)


@exercise.wrong("by-hand")
def weight_and_bias_swapped(x, weight, bias, eps):
    """`weight` and `bias` have changed places: the bias multiplies and the weight is added.

    At the start of training weight is 1 and bias is 0. With which order does the norm then
    come out unchanged?
    """
    return normalized(x, eps) * bias + weight


@exercise.wrong("by-hand")
def bias_added_before_the_weight(x, weight, bias, eps):
    """The bias is added first and then multiplied by the weight too.

    Times weight, then plus bias. What does a channel with weight 10 and bias 1 make of a 0?
    """
    return (normalized(x, eps) + bias) * weight


@exercise.wrong("by-hand")
def one_plus_weight(x, weight, bias, eps):
    """The numbers are multiplied by 1 + weight. Some libraries store a norm's weight like
    that; here it is the factor itself.

    What should a weight of 1 do?
    """
    return normalized(x, eps) * (1 + weight) + bias


@exercise.wrong("by-hand")
def weight_before_the_norm(x, weight, bias, eps):
    """Weight and bias are applied to x, and the result is normalized. So the norm takes away
    again what they did.

    Which comes first: mean and variance, or weight and bias?
    """
    return normalized(x * weight + bias, eps)


@exercise.also(weight_before_the_norm)
def only_weight_before_the_norm(x, weight, bias, eps):
    return normalized(x * weight, eps) + bias


@exercise.caught_as("modified-input")
def centered_in_place(x, weight, bias, eps):
    x -= x.mean(-1, keepdim=True)
    return normalized(x, eps) * weight + bias


@exercise.caught_as("wrong-dtype")
def always_double(x, weight, bias, eps):
    return layer_norm(x.double(), weight, bias, eps)


@exercise.caught_as("no-gradient")
def gradient_cut(x, weight, bias, eps):
    return layer_norm(x, weight, bias, eps).detach()


@exercise.caught_as("wrong-gradient")
def statistics_without_gradient(x, weight, bias, eps):
    with torch.no_grad():
        mean = x.mean(-1, keepdim=True)
        scale = (x.var(-1, keepdim=True, correction=0) + eps).sqrt()
    return (x - mean) / scale * weight + bias


@exercise.caught_as("non-contiguous")
def view_instead_of_reshape(x, weight, bias, eps):
    rows = x.view(-1, x.shape[-1])
    return (normalized(rows, eps) * weight + bias).view(x.shape)


@exercise.caught_as("raised")
def three_axes_unpacked(x, weight, bias, eps):
    B, T, C = x.shape
    return normalized(x.reshape(B, T, C), eps) * weight + bias


@exercise.caught_as("forbidden-call")
def the_library_does_it(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


@exercise.caught_as("returned-none")
def nothing_returned(x, weight, bias, eps):
    normalized(x, eps) * weight + bias
