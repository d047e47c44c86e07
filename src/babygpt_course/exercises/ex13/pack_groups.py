"""13.2: groups with a zero point, and two 4-bit codes in a byte."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="13_quantization",
    id="13.2",
    title="Two codes in a byte",
    kind="implement",
    points=3,
    minutes=10,
    anchor="by-hand",
    rules=(
        forbid(
            "pack scale_and_zero nearest quantize QuantizedLinear quantize_per_channel",
            "`view` or `reshape`, a smallest and a largest value, and whole numbers below 16 "
            "are all you need.",
        ),
    ),
    equivalent={
        "codes = ((g / scale).round() + zero).clamp(-1, 15)": "No code is below 0: the "
        "smallest value and the zero point are rounded the same way.",
        "packed = codes[:, ::2] + 16 * codes[:, 1::2]": "A slice begins at 0 by itself.",
    }
    | {
        name: "That axis has one entry: the first is the last."
        for name in (
            "return (packed, scale[:, :, -1], zero[:, :, 0].to(torch.uint8))",
            "return (packed, scale[:, :, 0], zero[:, :, -1].to(torch.uint8))",
        )
    },
    hints="""
    In a group the codes 0 and 15 are for the smallest and the largest value, and some code in
    between must mean exactly 0. What is the size of a step? How many steps is 0 above the
    smallest value?

    low = min(0, smallest), high = max(0, largest); scale = (high - low) / 15; zero =
    round(-low / scale); code = round(w / scale) + zero, clamped to 0 ... 15. A byte is the first
    code plus 16 times the second.

    g = W.reshape(n_out, -1, group_size); low, high over the last axis with keepdim, clamped at 0;
    scale 1 where it is 0; codes back to (n_out, n_in); packed = codes[:, ::2] + 16 * codes[:, 1::2],
    as uint8; scale and zero without their last axis.
    """,
)


@exercise.oracle
def pack_groups(W, group_size):
    packed, scales, zeros = [], [], []
    for row in W.tolist():
        codes, scales_here, zeros_here = [], [], []
        for at in range(0, len(row), group_size):
            group = row[at : at + group_size]
            low, high = min(0.0, *group), max(0.0, *group)
            scale = (high - low) / 15 or 1.0
            zero = round(-low / scale)
            codes += [min(max(round(w / scale) + zero, 0), 15) for w in group]
            scales_here.append(scale)
            zeros_here.append(zero)
        packed.append([a + 16 * b for a, b in zip(codes[::2], codes[1::2])])
        scales.append(scales_here)
        zeros.append(zeros_here)
    return (
        torch.tensor(packed, dtype=torch.uint8),
        torch.tensor(scales, dtype=W.dtype),
        torch.tensor(zeros, dtype=torch.uint8),
    )


def random_case(n_out, groups, group_size, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n_out, groups, group_size, generator=generator, dtype=torch.float64)
    shift = torch.linspace(-2.5, 2.5, groups, dtype=torch.float64)[:, None]
    size = torch.logspace(-1, 1, n_out, dtype=torch.float64)[:, None, None]
    return ((W + shift) * size).flatten(1).to(dtype), group_size


@exercise.cases
def cases():
    yield Case((torch.tensor([[-4.0, 11.0, 3.3, 0.0]]), 4))
    yield Case((torch.tensor([[-4.0, 11.0, -30.0, 0.2]]), 2), "two groups")
    yield Case((torch.tensor([[6.0, 15.0], [3.1, 1.2]]), 2), "all positive")
    yield Case((torch.tensor([[-6.0, -15.0, -1.2, -3.1]]), 4), "all negative")
    yield Case((torch.tensor([[0.0, 0.0, 1.0, -2.1]]), 2), "a group of zeros")
    # Exact in binary: 7.5 steps on either side, so the largest would get the code 16.
    yield Case((torch.tensor([[-7.5, 7.5, 2.2, -1.3]]), 4), "16 codes are not enough")
    sizes = [(2, 3, 4), (3, 2, 6), (4, 5, 2), (2, 2, 16)]
    for seed, (n_out, groups, group_size) in enumerate(sizes):
        yield Case(random_case(n_out, groups, group_size, seed))
        yield Case(
            random_case(n_out, groups, group_size, seed, torch.float32), "float32"
        )
    W, _ = random_case(8, 2, 3, 9)
    yield Case((W.T[::2], 4), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def in_order(codes):
    """Neighbors in one byte, the first in the low half."""
    return codes[:, ::2] + 16 * codes[:, 1::2]


def ends(g):
    return g.amin(-1, keepdim=True).clamp(max=0), g.amax(-1, keepdim=True).clamp(min=0)


def grouped(
    W,
    group_size,
    split=None,
    ends=ends,
    top=15,
    pack=in_order,
    code=None,
    zero_of=None,
    stored=lambda zero: zero,
    zeros=1.0,
    clamp=True,
):
    """The code of the answer, of which one part at a time is replaced."""
    g = W.reshape(len(W), -1, group_size) if split is None else split(W)
    low, high = ends(g)
    scale = (high - low) / top
    scale = torch.where(scale == 0, zeros, scale)
    zero = (-low / scale).round() if zero_of is None else zero_of(low, scale)
    codes = (g / scale).round() + zero if code is None else code(g, scale, zero, low)
    codes = codes.clamp(0, 15) if clamp else codes
    packed = pack(codes.reshape(len(W), -1).nan_to_num().long())
    as_byte = stored(zero).nan_to_num().long().to(torch.uint8)
    return packed.to(torch.uint8), scale[..., 0], as_byte[..., 0]


@exercise.right
def with_a_third_axis(W, group_size):
    return grouped(W, group_size)


@exercise.right
def with_shifts(W, group_size):
    def pack(codes):
        pairs = codes.to(torch.uint8).unflatten(1, (-1, 2))
        return pairs[..., 0] | (pairs[..., 1] << 4)

    return grouped(W, group_size, pack=pack)


@exercise.right
def group_by_group(W, group_size):
    codes, scales, zeros = [], [], []
    for part in W.split(group_size, dim=1):
        low = torch.minimum(part.min(1).values, torch.zeros(()))
        high = torch.maximum(part.max(1).values, torch.zeros(()))
        scale = ((high - low) / 15).to(W.dtype)
        scale[scale == 0] = 1
        zero = torch.round(-low / scale)
        code = torch.round(part / scale[:, None]) + zero[:, None]
        codes.append(code.clip(0, 15))
        scales.append(scale)
        zeros.append(zero.byte())
    whole = torch.cat(codes, 1).to(torch.uint8)
    return (
        whole[:, 0::2] + whole[:, 1::2] * 16,
        torch.stack(scales, 1),
        torch.stack(zeros, 1),
    )


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("by-hand")
def halves_swapped(W, group_size):
    """The two codes of each byte are in the wrong halves: the first one belongs into the *lower* half.

    The codes 3 and 10 become 3 + 16 times 10. Which byte do you get?
    """
    return grouped(W, group_size, pack=lambda c: 16 * c[:, ::2] + c[:, 1::2])


@exercise.wrong("by-hand")
def halves_of_the_row(W, group_size):
    """The first half of a row is in the lower halves of the bytes, and the second half of the row in the upper
    ones. Two *neighbors* share a byte.

    Which codes share byte 0: numbers 0 and 1, or 0 and n_in / 2?
    """

    def pack(codes):
        half = codes.shape[1] // 2
        return codes[:, :half] + 16 * codes[:, half:]

    return grouped(W, group_size, pack=pack)


@exercise.wrong("by-hand")
def shifted_by_ten(W, group_size):
    """The second code is multiplied by 10, as if a byte had two decimal digits. Its upper half counts sixteens.

    Which is the largest code, 15, in the upper half? And which is the largest byte?
    """
    return grouped(W, group_size, pack=lambda c: c[:, ::2] + 10 * c[:, 1::2])


@exercise.also(shifted_by_ten)
def shifted_by_fifteen(W, group_size):
    return grouped(W, group_size, pack=lambda c: c[:, ::2] + 15 * c[:, 1::2])


@exercise.also(shifted_by_ten)
def shifted_by_eight(W, group_size):
    return grouped(W, group_size, pack=lambda c: c[:, ::2] + 8 * c[:, 1::2])


@exercise.wrong("by-hand")
def not_packed(W, group_size):
    """Every code has a byte of its own: that is as large as eight bits, of which four are always zero.

    Two neighbors share a byte. How many bytes has a row of n_in codes?
    """
    return grouped(W, group_size, pack=lambda codes: codes)


@exercise.wrong("by-hand")
def without_the_zero(W, group_size):
    """The range of a group does not reach to 0: a group of positive numbers begins at its smallest. Then no
    code means 0, and the zero point falls outside of 0 ... 15.

    What is the zero point for the numbers 6 and 15?
    """
    return grouped(
        W,
        group_size,
        ends=lambda g: (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)),
    )


@exercise.also(without_the_zero)
def without_the_zero_and_clamped(W, group_size):
    return grouped(
        W,
        group_size,
        ends=lambda g: (g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)),
        zero_of=lambda low, scale: (-low / scale).round().clamp(0, 15),
    )


@exercise.wrong("by-hand")
def symmetric_codes(W, group_size):
    """These are symmetric codes: both sides get the same range, and 8 means 0. When all numbers of a group have
    one sign, half of the codes are for nothing.

    Which value should the code 0 stand for, and which the code 15?
    """

    def both(g):
        size = g.abs().amax(-1, keepdim=True)
        return -size, size

    return grouped(W, group_size, ends=both, top=14, zero_of=lambda low, s: 0 * s + 8)


@exercise.also(symmetric_codes)
def symmetric_codes_of_fifteen_steps(W, group_size):
    def both(g):
        size = g.abs().amax(-1, keepdim=True)
        return -size, size

    return grouped(W, group_size, ends=both)


@exercise.wrong("by-hand")
def sixteen_steps(W, group_size):
    """The range is divided by 16. Four bits make 16 codes, and between 16 codes there are 15 steps.

    The smallest value has the code 0. Which code has the largest with your scale?
    """
    return grouped(W, group_size, top=16)


@exercise.also(sixteen_steps)
def sixteen_steps_without_a_clamp(W, group_size):
    return grouped(W, group_size, top=16, clamp=False)


@exercise.wrong("by-hand")
def steps_of_eight_bits(W, group_size):
    """The range is divided by 255, and that is for 8 bits. Four bits have the codes 0 to 15.

    How many steps lie between the code 0 and the code 15?
    """
    return grouped(W, group_size, top=255)


@exercise.also(steps_of_eight_bits)
def steps_of_a_sign_and_three_bits(W, group_size):
    return grouped(W, group_size, top=7)


@exercise.wrong("by-hand")
def zero_point_negative(W, group_size):
    """The zero point has the wrong sign. The codes begin at 0 for the smallest value, so the code of 0 lies
    above that: it is -low / scale.

    The smallest value is -4 and a step is 1. Which code means 0?
    """
    return grouped(W, group_size, zero_of=lambda low, scale: (low / scale).round())


@exercise.wrong("by-hand")
def zero_point_not_added(W, group_size):
    """The zero point is stored, and not added to the codes: everything negative ends at the code 0.

    The smallest value must get the code 0. What is round(-4 / 1), without the zero point?
    """
    return grouped(W, group_size, code=lambda g, scale, zero, low: (g / scale).round())


@exercise.wrong("by-hand")
def zero_point_cut_off(W, group_size):
    """The digits of the zero point are cut off instead of rounded, perhaps by the conversion to a byte.

    -low / scale is 3.8. Which code is nearest to it?
    """
    return grouped(W, group_size, zero_of=lambda low, scale: (-low / scale).floor())


@exercise.also(zero_point_cut_off)
def zero_point_cut_off_in_storage_only(W, group_size):
    return grouped(
        W,
        group_size,
        zero_of=lambda low, scale: -low / scale,
        stored=lambda zero: zero.floor(),
        code=lambda g, scale, zero, low: (g / scale + zero).round(),
    )


@exercise.wrong("by-hand")
def counted_from_the_smallest(W, group_size):
    """The codes count the steps from the smallest value, and the zero point is rounded apart from them. The two do
    not always agree, and then 0 is not exact.

    What is the code of 0 in your group, and is it the zero point? Round w / scale, then add the rounded
    zero.
    """
    return grouped(
        W, group_size, code=lambda g, scale, zero, low: ((g - low) / scale).round()
    )


@exercise.wrong("by-hand")
def codes_cut_off(W, group_size):
    """The digits of w / scale are cut off, and not rounded. Every error is up to twice as large as it has to be.

    Which whole number is nearest to 3.7? Does the conversion to a whole number know that?
    """
    return grouped(
        W, group_size, code=lambda g, scale, zero, low: (g / scale + zero).trunc()
    )


@exercise.also(codes_cut_off)
def codes_cut_off_toward_zero(W, group_size):
    return grouped(
        W, group_size, code=lambda g, scale, zero, low: (g / scale).trunc() + zero
    )


@exercise.also(codes_cut_off)
def codes_rounded_down(W, group_size):
    return grouped(
        W, group_size, code=lambda g, scale, zero, low: (g / scale).floor() + zero
    )


@exercise.wrong("by-hand")
def code_sixteen(W, group_size):
    """A code comes out as 16: w / scale and the zero point were both rounded up. 16 does not fit into four bits,
    and its fifth bit falls into the neighbor's half.

    Which is the largest code, and what keeps the others below it?
    """
    return grouped(W, group_size, clamp=False)


@exercise.wrong("vectorize")
def one_group_a_row(W, group_size):
    """There is one scale for the whole row. `group_size` says how many neighbors share one.

    How many groups has a row of n_in numbers? Which shape has `scale` then?
    """
    return grouped(W, W.shape[1])


@exercise.wrong("vectorize")
def as_many_groups_as_their_size(W, group_size):
    """Every row is cut into `group_size` groups. `group_size` is how many numbers are *in* a group.

    A row of 12 numbers in groups of 4: how many groups are there?
    """
    return grouped(W, W.shape[1] // group_size)


@exercise.wrong("vectorize")
def every_nth_number(W, group_size):
    """A group is made of numbers that are far apart: number 0 and those that are some steps further on. A group
    is neighbors.

    Which axis comes last after your `reshape` or `view`: the groups, or the numbers in one?
    """

    def split(W):
        return W.reshape(len(W), group_size, -1).transpose(1, 2)

    _, scale, zero = grouped(W, group_size, split=split)
    s, z = (t.repeat(1, group_size) for t in (scale, zero))
    codes = ((W / s).round() + z).clamp(0, 15).long()
    return in_order(codes).to(torch.uint8), scale, zero


@exercise.wrong("vectorize")
def groups_down_the_columns(W, group_size):
    """A group goes down a column. It should be neighbors in a row: they are what one output sums up.

    Which axis of W has n_in numbers?
    """
    if len(W) % group_size:
        raise RuntimeError("shape is invalid")
    g = W.T.reshape(W.shape[1], -1, group_size)
    low, high = ends(g)
    scale = (high - low) / 15
    scale = torch.where(scale == 0, 1.0, scale)
    zero = (-low / scale).round()
    codes = ((g / scale).round() + zero).clamp(0, 15).flatten(1).T.long()
    return in_order(codes).to(torch.uint8), scale[..., 0].T, zero[..., 0].T.byte()


@exercise.wrong("by-hand")
def no_scale_for_zeros(W, group_size):
    """A group of zeros gets the scale 0 here, or one that is nearly 0. 0 / 0 is no number, and a tiny scale stands for
    nothing. The task asks for 1.

    `torch.where(scale == 0, 1, scale)` replaces the zeros and nothing else. Is there such a line?
    """
    return grouped(W, group_size, zeros=0.0)


@exercise.also(no_scale_for_zeros)
def clamped_scale(W, group_size):
    return grouped(W, group_size, zeros=1e-8)


@exercise.also(no_scale_for_zeros)
def clamped_scale_that_is_larger(W, group_size):
    return grouped(W, group_size, zeros=1e-5)


@exercise.wrong("by-hand")
def signed_codes_packed(W, group_size):
    """The codes are packed without their zero point, as signed numbers in the lowest four bits: -1 becomes 15. A
    code is counted from the zero point on, and lies between 0 and 15.

    Which code belongs to the smallest value of a group?
    """
    return grouped(
        W,
        group_size,
        code=lambda g, scale, zero, low: (g / scale).round(),
        clamp=False,
        pack=lambda c: in_order(c % 16),
    )


@exercise.wrong("by-hand")
def zero_subtracted(W, group_size):
    """The zero point is taken away from the steps. It is the code that 0 gets, so it is added: the smallest value
    then comes out as 0.

    low / scale is -4 and the zero point is 4. How do you get 0?
    """
    return grouped(
        W, group_size, code=lambda g, scale, zero, low: (g / scale).round() - zero
    )


@exercise.caught_as("wrong-dtype")
def zero_as_a_float(W, group_size):
    packed, scale, zero = grouped(W, group_size)
    return packed, scale, zero.to(W.dtype)


@exercise.caught_as("wrong-dtype")
def packed_as_long(W, group_size):
    packed, scale, zero = grouped(W, group_size)
    return packed.long(), scale, zero


@exercise.caught_as("wrong-shape")
def scale_with_three_axes(W, group_size):
    packed, scale, zero = grouped(W, group_size)
    return packed, scale[..., None], zero[..., None]


@exercise.caught_as("wrong-type")
def without_the_zeros(W, group_size):
    return grouped(W, group_size)[:2]


@exercise.caught_as("returned-none")
def printed(W, group_size):
    print(grouped(W, group_size))


@exercise.caught_as("modified-input")
def divides_in_place(W, group_size):
    made = grouped(W, group_size)
    W /= 2
    return made


@exercise.caught_as("raised")
def three_groups_always(W, group_size):
    return grouped(W, group_size, split=lambda W: W.reshape(len(W), 3, -1))


@exercise.caught_as("forbidden-call")
def by_the_package(W, group_size):
    from babygpt_course.quantize import nearest, scale_and_zero

    parts = [scale_and_zero(p, 4, False) for p in W.split(group_size, 1)]
    scale, zero = (torch.cat(x, 1) for x in zip(*parts))
    s, z = (t.repeat_interleave(group_size, 1) for t in (scale, zero))
    codes = nearest(W, s, z, 4).long()
    return in_order(codes).to(torch.uint8), scale, zero.to(torch.uint8)
