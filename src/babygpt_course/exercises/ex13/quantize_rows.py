"""13.1: a weight in 8 bits, with one scale a row."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="13_quantization",
    id="13.1",
    title="Eight bits and a scale",
    kind="implement",
    points=2,
    minutes=8,
    anchor="vectorize",
    rules=(
        forbid(
            "quantize_per_channel quantize_per_tensor scale_and_zero nearest quantize "
            "QuantizedLinear fake_quantize_per_channel_affine "
            "fake_quantize_per_tensor_affine",
            "A maximum, a division and `round` are all you need.",
        ),
    ),
    hints="""
    The largest number of a row, with or without its sign, gets the code 127 or -127. What must
    the scale of that row be, then? And the code of a number half as large?

    scale = the largest absolute value of the row / 127; code = round(W / scale). A row of zeros
    has the scale 1, so that nothing is divided by zero.

    scale = W.abs().amax(1, keepdim=True) / 127, which is (n_out, 1); replace its zeros by 1
    (torch.where or masked_fill); codes = (W / scale).round().to(torch.int8).
    """,
)


@exercise.oracle
def quantize_rows(W):
    codes, scales = [], []
    for row in W.tolist():
        scale = max(abs(w) for w in row) / 127 or 1.0
        codes.append([round(w / scale) for w in row])
        scales.append([scale])
    return torch.tensor(codes, dtype=torch.int8), torch.tensor(scales, dtype=W.dtype)


def random_case(n_out, n_in, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
    size = torch.logspace(-2, 2, n_out, dtype=torch.float64)[:, None]
    return (W * size).to(dtype)


@exercise.cases
def cases():
    yield Case((torch.tensor([[127.0, -50.3, 2.6], [0.2, 0.06, -0.254]]),))
    yield Case((torch.tensor([[-12.7, 1.26, 3.34]]),), "the largest is negative")
    yield Case((torch.tensor([[1.0, 0.3], [0.0, 0.0], [-4.0, 2.1]]),), "a row of zeros")
    yield Case((torch.tensor([[3.0], [-0.5], [0.0]]),), "one column")
    yield Case((torch.tensor([[-1.0, -0.7, -0.2]]),), "all negative")
    for seed, (n_out, n_in) in enumerate([(3, 5), (6, 4), (2, 40), (9, 17)]):
        yield Case((random_case(n_out, n_in, seed),))
        yield Case((random_case(n_out, n_in, seed, torch.float32),), "float32")
    yield Case((random_case(6, 8, 9).T[::3],), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def largest(W):
    return W.abs().amax(1, keepdim=True)


def quantized(W, most=largest, top=127, code=torch.round, zeros=1.0, clamp=None):
    """The code of the answer, of which one part at a time is replaced."""
    scale = most(W) / top
    scale = torch.where(scale == 0, zeros, scale)
    codes = code(W / scale)
    if clamp:
        codes = codes.clamp(*clamp)
    return codes.to(torch.int64).to(torch.int8), scale.expand(len(W), 1).to(W.dtype)


@exercise.right
def replaced_by_one(W):
    return quantized(W)


@exercise.right
def with_max_and_clamp(W):
    scale = W.abs().max(dim=-1).values.unsqueeze(1) / 127
    scale[scale == 0] = 1
    return torch.clamp(torch.round(W / scale), -127, 127).to(torch.int8), scale


@exercise.right
def lowest_and_highest(W):
    size = torch.maximum(W.amax(1), -W.amin(1))[:, None]
    scale = size.masked_fill(size == 0, 127) / 127
    return (W * (127 / size.masked_fill(size == 0, 127))).round().char(), scale


@exercise.right
def row_by_row(W):
    rows = []
    for row in W:
        scale = row.abs().max() / 127 if row.any() else row.new_ones(())
        rows.append(((row / scale).round().to(torch.int8), scale[None]))
    codes, scales = zip(*rows)
    return torch.stack(codes), torch.stack(scales)


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("by-hand")
def cut_off_instead_of_rounded(W):
    """The digits after the point are cut off. `.to(torch.int8)` does that by itself: 2.6 becomes 2, and
    -50.7 becomes -50. Every error is up to twice as large as it has to be.

    Which whole number is nearest to 2.6? What has to happen before the conversion?
    """
    return quantized(W, code=torch.trunc)


@exercise.wrong("by-hand")
def rounded_down(W):
    """Every number is rounded down. That makes all weights smaller by half a step on average, and such
    an error adds up over a row.

    Which whole number is nearest to 2.6? And to -50.3?
    """
    return quantized(W, code=torch.floor)


@exercise.wrong("by-hand")
def rounded_before_the_division(W):
    """W itself is rounded to whole numbers, and then divided. In a layer nearly all weights are smaller
    than a half: nothing is left of them.

    What is it that has to be a whole number: the weight, or the weight divided by the scale?
    """
    scale = quantized(W)[1]
    return (W.round() / scale).round().to(torch.int8), scale


@exercise.also(rounded_before_the_division)
def rounded_before_and_cut_off_after(W):
    scale = quantized(W)[1]
    return (W.round() / scale).to(torch.int8), scale


@exercise.wrong("by-hand")
def sign_ignored(W):
    """The scale comes from the largest number, and a large negative one is not seen: its code goes beyond
    -127 and does not fit into a byte.

    Which number of the row -12.7, 1.26, 3.34 is farthest from zero?
    """
    return quantized(W, most=lambda W: W.amax(1, keepdim=True))


@exercise.also(sign_ignored)
def sign_ignored_and_clamped(W):
    return quantized(W, most=lambda W: W.amax(1, keepdim=True), clamp=(-127, 127))


@exercise.also(sign_ignored)
def sign_ignored_and_clamped_to_the_byte(W):
    return quantized(W, most=lambda W: W.amax(1, keepdim=True), clamp=(-128, 127))


@exercise.wrong("vectorize")
def one_scale_for_all(W):
    """There is one scale for the whole matrix here. A row of small weights then gets only a few codes,
    and the smallest rows become zero.

    Over which axis is the maximum taken, and which shape has it afterward?
    """
    return quantized(W, most=lambda W: W.abs().max())


@exercise.also(one_scale_for_all)
def one_scale_as_one_number(W):
    codes, scale = one_scale_for_all(W)
    return codes, scale[0, 0]


@exercise.also(one_scale_for_all)
def one_scale_in_a_matrix(W):
    codes, scale = one_scale_for_all(W)
    return codes, scale[:1]


@exercise.wrong("vectorize")
def one_scale_a_column(W):
    """The scales belong to the columns. A column is what one *input* number meets; an output is made from a
    row, and its scale can be multiplied in after the sum.

    `amax(0)` goes down the rows and keeps the columns. Which axis should go away?
    """
    scale = W.abs().amax(0, keepdim=True) / 127
    scale = torch.where(scale == 0, 1.0, scale)
    return (W / scale).round().to(torch.int8), scale


@exercise.also(one_scale_a_column)
def one_scale_a_column_flat(W):
    codes, scale = one_scale_a_column(W)
    return codes, scale[0]


@exercise.wrong("by-hand")
def one_code_too_many(W):
    """The scale is made for a code of 128, and a signed byte ends at 127: the largest weight of each row turns
    into -128, with the opposite sign.

    Which whole numbers can an int8 hold? What is the largest one that has its negative too?
    """
    return quantized(W, top=128)


@exercise.wrong("by-hand")
def one_code_too_many_and_clamped(W):
    """The scale is divided by 128. The codes are clamped to 127, so the largest weight of each row is off by a
    whole step, the one that should be exact.

    What should the code of the largest weight be, and what is the scale then?
    """
    return quantized(W, top=128, clamp=(-128, 127))


@exercise.also(one_code_too_many_and_clamped)
def one_code_too_many_and_clamped_evenly(W):
    return quantized(W, top=128, clamp=(-127, 127))


@exercise.wrong("by-hand")
def all_codes_for_one_side(W):
    """The scale is divided by 255, the number of steps of a whole byte, and half of them are for the other sign.
    Most codes do not fit into an int8.

    From zero to the largest weight: how many steps are there on that side?
    """
    return quantized(W, top=255)


@exercise.also(all_codes_for_one_side)
def all_codes_for_one_side_and_clamped(W):
    return quantized(W, top=255, clamp=(-128, 127))


@exercise.also(all_codes_for_one_side)
def all_codes_of_a_byte(W):
    return quantized(W, top=256, clamp=(-128, 127))


@exercise.wrong("by-hand")
def scale_of_the_range(W):
    """The scale is made from the distance between the largest and the smallest number. That belongs to codes
    with a zero point. Here 0 has the code 0, and both sides have the same steps.

    Symmetric codes go from -127 to 127. How far from zero must 127 reach?
    """
    return quantized(
        W,
        most=lambda W: W.amax(1, keepdim=True) - W.amin(1, keepdim=True),
        top=255,
    )


@exercise.also(scale_of_the_range)
def scale_of_half_the_range(W):
    return quantized(
        W,
        most=lambda W: W.amax(1, keepdim=True) - W.amin(1, keepdim=True),
        top=254,
    )


@exercise.also(scale_of_the_range)
def scale_of_the_range_and_clamped(W):
    return quantized(
        W,
        most=lambda W: W.amax(1, keepdim=True) - W.amin(1, keepdim=True),
        top=255,
        clamp=(-128, 127),
    )


@exercise.wrong("by-hand")
def scale_upside_down(W):
    """The codes are right, and `scale` is its reciprocal. A code times the scale should give the weight
    back.

    The code of the largest weight is 127. Times which number is it that weight?
    """
    codes, scale = quantized(W)
    return codes, 1 / scale


@exercise.also(scale_upside_down)
def scale_upside_down_and_infinite(W):
    scale = 127 / largest(W)
    return (W * scale).nan_to_num().round().to(torch.int8), scale


@exercise.wrong("by-hand")
def multiplied_by_the_scale(W):
    """The weights are multiplied by the scale. The scale is the size of one step, and the code says how many
    steps a weight is away from zero.

    How many steps of 0.002 are in 0.06?
    """
    scale = quantized(W)[1]
    return (W * scale).round().to(torch.int64).to(torch.int8), scale


@exercise.wrong("vectorize")
def no_scale_for_zeros(W):
    """A row of zeros gets the scale 0 here, or one that is nearly 0. 0 / 0 is no number, and a tiny scale stands for
    nothing. The task asks for 1.

    `torch.where(scale == 0, 1, scale)` replaces the zeros and nothing else. Is there such a line?
    """
    scale = largest(W) / 127
    return (W / scale).nan_to_num().round().to(torch.int8), scale


@exercise.also(no_scale_for_zeros)
def clamped_scale(W):
    return quantized(W, zeros=1e-8)


@exercise.also(no_scale_for_zeros)
def clamped_size(W):
    return quantized(W, zeros=1e-5 / 127)


@exercise.also(no_scale_for_zeros)
def clamped_scale_that_is_larger(W):
    return quantized(W, zeros=1e-5)


@exercise.wrong("vectorize")
def one_for_one_hundred_and_twenty_seventh(W):
    """A row of zeros gets the scale 1 / 127: its zeros were replaced before the division.

    The task asks for a *scale* of 1 there. Which of the two lines comes first?
    """
    return quantized(W, zeros=1 / 127)


@exercise.wrong("by-hand")
def sign_lost(W):
    """All codes are positive: the sign is gone. It is needed for the largest value, and only there it is left
    out.

    What is the code of -50.3 when the scale is 1?
    """
    codes, scale = quantized(W)
    return codes.abs(), scale


@exercise.wrong("by-hand")
def four_bits(W):
    """The largest code is 7, which is what four bits have. Here there are eight.

    Which is the largest whole number in a signed byte?
    """
    return quantized(W, top=7)


@exercise.wrong("vectorize")
def by_the_mean_size(W):
    """The scale comes from the mean size of a row, and the larger half of its weights gets codes that do not
    fit.

    Which weight of the row must still fit into the codes?
    """
    return quantized(W, most=lambda W: W.abs().mean(1, keepdim=True))


@exercise.caught_as("wrong-dtype")
def values_instead_of_codes(W):
    codes, scale = quantized(W)
    return codes * scale, scale


@exercise.caught_as("wrong-dtype")
def shifted_to_unsigned(W):
    codes, scale = quantized(W)
    return (codes.int() + 128).to(torch.uint8), scale


@exercise.caught_as("wrong-shape")
def scales_flat(W):
    codes, scale = quantized(W)
    return codes, scale[:, 0]


@exercise.caught_as("wrong-type")
def codes_alone(W):
    return quantized(W)[0]


@exercise.caught_as("modified-input")
def divides_in_place(W):
    codes, scale = quantized(W)
    W /= scale
    return codes, scale


@exercise.caught_as("returned-none")
def printed(W):
    print(quantized(W))


@exercise.caught_as("raised")
def scales_in_a_row(W):
    return (W / W.abs().amax(1)).round().to(torch.int8), W.abs().amax(1)


@exercise.caught_as("forbidden-call")
def by_the_package(W):
    from babygpt_course.quantize import nearest, scale_and_zero

    scale, zero = scale_and_zero(W, 8, symmetric=True)
    return (nearest(W, scale, zero, 8) - zero).to(torch.int8), scale
