"""14.1: the nearest number of a format, given its exponent and mantissa bits."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="14_mixed_precision",
    id="14.1",
    title="Round to a format",
    kind="implement",
    points=3,
    minutes=12,
    anchor="by-hand",
    rules=(
        forbid(
            "round_to half bfloat16 Format FORMATS decode finfo",
            "The formats here are any formats: powers of two, a division and `round` are "
            "enough. How far apart are the numbers around x?",
        ),
    ),
    hints="""
    Around x the numbers of a format stand at equal distances, like the marks on a
    ruler. How far apart are the marks between 4 and 8, if there are 2 mantissa bits?
    And where does that distance stop to shrink?

    Let e be the exponent of x: 2^e <= |x| < 2^(e + 1), but never below 1 - bias. The
    marks are gap = 2^(e - M) apart, and the nearest is round(x / gap) * gap. What comes
    out at 2^(bias + 1) or beyond has no code.

    bias = 2 ** (E - 1) - 1; e = torch.frexp(x).exponent - 1, clamped from below at 1 -
    bias; gap = 2.0 ** (e - M); y = torch.round(x / gap) * gap; where |y| >= 2 ** (bias
    + 1): inf with the sign of x.
    """,
)


@exercise.oracle
def round_to_format(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1

    def nearest(number):
        if math.isinf(number):
            return number
        exponent = max(math.frexp(number)[1] - 1, 1 - bias)
        gap = 2.0 ** (exponent - mantissa_bits)
        y = round(number / gap) * gap  # Python rounds ties to even
        return math.copysign(math.inf, y) if abs(y) >= 2.0 ** (bias + 1) else y

    numbers = [nearest(number) for number in x.flatten().tolist()]
    return torch.tensor(numbers, dtype=x.dtype).view(x.shape)


def random_x(*shape, seed, dtype=torch.float64, spread=4.0):
    """Numbers of many sizes and both signs."""
    generator = torch.Generator().manual_seed(seed)
    x, size = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return (x * torch.exp2(spread * size)).to(dtype)


def numbers(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


@exercise.cases
def cases():
    yield Case((numbers(1.3), 3, 2))
    yield Case((numbers(1.2), 3, 2))
    yield Case((numbers(5.2), 3, 2))
    yield Case((numbers(2.9, 9.4), 3, 2))
    yield Case((numbers(1.0, 4.0, 8.0, 0.5), 3, 2), "powers of two")
    yield Case((numbers(-1.3, -9.4, 0.0), 3, 2), "negative numbers")
    yield Case((numbers(-3.9), 3, 2), "negative numbers")
    yield Case((numbers(1.125, 1.375, -1.625), 3, 2), "ties")
    yield Case((numbers(5.5, 6.5, 11.0, 13.0), 3, 2), "ties")
    yield Case((numbers(0.3), 3, 2), "tiny numbers")
    yield Case((numbers(0.2, 0.1), 3, 2), "tiny numbers")
    yield Case((numbers(0.04, 0.03, -0.15), 3, 2), "tiny numbers")
    yield Case((numbers(0.01, -0.002), 3, 2), "tiny numbers")
    yield Case((numbers(14.0, -14.0), 3, 2), "the largest number")
    yield Case((numbers(14.9), 3, 2), "near the largest number")
    yield Case((numbers(15.5, -15.9), 3, 2), "beyond the largest number")
    yield Case((numbers(15.0, 16.0), 3, 2), "beyond the largest number")
    yield Case((numbers(20.0, -300.0, math.inf), 3, 2), "beyond the largest number")
    yield Case((numbers(0.6, 1.6, 2.6, 3.4, 3.6, 0.2), 2, 1))
    yield Case((numbers(0.3, 3.9, 3.7, -0.9, 0.01), 2, 3))
    yield Case((torch.tensor(-0.7), 4, 3), "a single number")
    double = torch.float64
    yield Case((numbers(1 / 3, 2049.0, 2051.0, 65519.0, dtype=double), 5, 10), "fp16")
    yield Case((numbers(65520.0, 1e-7, 3.1e-8, 2.9e-8, dtype=double), 5, 10), "fp16")
    yield Case((numbers(257.0, 259.0, -1 / 3, 1e30, dtype=double), 8, 7), "bf16")
    yield Case((numbers(3.39e38, 3.4e38, dtype=double), 8, 7), "bf16")
    for seed, (shape, E, M) in enumerate(
        [((7,), 4, 3), ((3, 5), 5, 2), ((2, 3, 4), 3, 5)]
    ):
        yield Case((random_x(*shape, seed=seed), E, M))
        yield Case((random_x(*shape, seed=seed, dtype=torch.float32), E, M), "float32")
    x = random_x(6, 4, seed=5)
    yield Case((x[::2], 3, 3), NON_CONTIGUOUS)
    yield Case((x.T, 4, 2), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def by_logarithm(x, exponent_bits, mantissa_bits):
    bias = (1 << (exponent_bits - 1)) - 1
    power = torch.log2(x.abs()).floor().clamp(1 - bias, bias + 1)
    gap = torch.exp2(power - mantissa_bits)
    y = (x / gap).round() * gap
    y[y >= 2.0 ** (bias + 1)] = math.inf
    y[y <= -(2.0 ** (bias + 1))] = -math.inf
    return y


@exercise.right
def nearest_of_all_that_there_are(x, exponent_bits, mantissa_bits):
    E, M = exponent_bits, mantissa_bits
    bias = 2 ** (E - 1) - 1
    code = torch.arange((2**E - 1) << M)  # of all numbers from 0 on, in order
    exponent, mantissa = code >> M, code % 2**M
    lead = (exponent > 0).double()
    scale = torch.exp2((exponent.clamp(min=1) - bias).double())
    value = torch.cat(
        [
            (lead + mantissa / 2**M) * scale,
            torch.tensor([2.0 ** (bias + 1)], dtype=torch.float64),
        ]
    )
    middle = (value[1:] + value[:-1]) / 2
    size = x.double().abs().contiguous()
    low, high = (
        torch.searchsorted(middle, size),
        torch.searchsorted(middle, size, right=True),
    )
    at = torch.where(low % 2 == 0, low, high)  # at a tie the even code
    value[-1] = math.inf
    return torch.copysign(value[at], x.double()).to(x.dtype)


@exercise.right
def rounded_by_a_large_number(x, exponent_bits, mantissa_bits):
    wide = x.double()
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(wide).exponent - 1).clamp(min=1 - bias) - mantissa_bits
    large = 1.5 * 2.0 ** (power.double() + 52)
    y = torch.where(wide.isinf(), wide, (wide + large) - large)
    limit = (2 - 2.0**-mantissa_bits) * 2.0**bias
    return torch.where(y.abs() > limit, wide * math.inf, y).to(x.dtype)


@exercise.right
def number_by_number(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    out = torch.empty_like(x, memory_format=torch.contiguous_format).flatten()
    for i, number in enumerate(x.flatten()):
        size, gap = abs(number.item()), 2.0 ** (1 - bias - mantissa_bits)
        while math.isfinite(size) and size >= 2 * gap * 2**mantissa_bits:
            gap *= 2
        n = size / gap
        if math.isfinite(n):
            below = math.floor(n)
            up = n - below > 0.5 or (n - below == 0.5 and below % 2 == 1)
            n = below + up
        size = n * gap
        out[i] = math.copysign(size if size < 2.0 ** (bias + 1) else math.inf, number)
    return out.view(x.shape)


# --- wrong, each with the misconception behind it -------------------------------------


def rounded(
    x,
    E,
    M,
    to_whole=torch.round,
    bias=None,
    lowest=None,
    mantissa=0,
    exponent=lambda x: torch.frexp(x).exponent - 1,
    beyond=lambda y, x, limit: torch.where(y.abs() >= limit, x * math.inf, y),
):
    """The right answer, of which one part at a time is replaced."""
    x = x.clone()
    bias = 2 ** (E - 1) - 1 if bias is None else bias
    lowest = 1 - bias if lowest is None else lowest
    power = exponent(x).clamp(min=lowest).to(x.dtype)
    gap = 2.0 ** (power - M + mantissa)
    y = to_whole(x / gap) * gap
    return beyond(y, x, 2.0 ** (bias + 1))


@exercise.wrong("by-hand")
def toward_zero(x, exponent_bits, mantissa_bits):
    """The bits that do not fit are cut off, so every number moves toward 0. Rounding
    goes to the nearest, whether above or below.

    1.3 lies between 1.25 and 1.5, and 1.2 between 1 and 1.25. Which is nearer in each
    case?
    """
    return rounded(x, exponent_bits, mantissa_bits, torch.trunc)


@exercise.wrong("by-hand")
def always_down(x, exponent_bits, mantissa_bits):
    """Every number is rounded down, to the mark below it. Rounding goes to the nearest.

    1.2 lies between 1 and 1.25. Which of the two is nearer?
    """
    return rounded(x, exponent_bits, mantissa_bits, torch.floor)


@exercise.wrong("by-hand")
def always_up(x, exponent_bits, mantissa_bits):
    """Every number is rounded up, to the mark above it. Rounding goes to the nearest.

    1.3 lies between 1.25 and 1.5. Which of the two is nearer?
    """
    return rounded(x, exponent_bits, mantissa_bits, torch.ceil)


def half_up(x):
    return torch.floor(x + 0.5)


@exercise.wrong("by-hand")
def ties_not_to_even(x, exponent_bits, mantissa_bits):
    """A number in the middle of two marks always goes to the same side. Added up over
    many numbers, that is a drift.

    At a tie the mark wins whose last mantissa bit is 0. `torch.round` and Python's
    `round` do just that for whole numbers: 0.5 becomes 0, and 1.5 becomes 2. What do
    you round with?
    """
    return rounded(x, exponent_bits, mantissa_bits, half_up)


@exercise.also(ties_not_to_even)
def ties_away_from_zero(x, exponent_bits, mantissa_bits):
    return rounded(
        x, exponent_bits, mantissa_bits, lambda n: n.sign() * half_up(n.abs())
    )


@exercise.also(ties_not_to_even)
def ties_toward_zero(x, exponent_bits, mantissa_bits):
    return rounded(
        x, exponent_bits, mantissa_bits, lambda n: n.sign() * -half_up(-n.abs())
    )


def flushed(x, E, M, keeps):
    """Below the smallest normal number only what `keeps` says survives."""
    y, least = rounded(x, E, M), 2.0 ** (2 - 2 ** (E - 1))
    return torch.where(x.abs() < least, x.sign() * keeps(x.abs(), least), y)


@exercise.wrong("by-hand")
def tiny_numbers_flushed(x, exponent_bits, mantissa_bits):
    """Below the smallest number with a full mantissa there is nothing in your format
    but 0. The codes with exponent 0 fill that room in equal steps: the subnormal
    numbers.

    With 3 and 2 bits the smallest full one is 0.25. What are the three numbers between
    0 and 0.25?
    """
    args = x, exponent_bits, mantissa_bits
    return flushed(*args, lambda size, least: torch.zeros_like(size))


@exercise.also(tiny_numbers_flushed)
def tiny_numbers_to_the_nearer_end(x, exponent_bits, mantissa_bits):
    args = x, exponent_bits, mantissa_bits
    return flushed(*args, lambda size, least: (size > least / 2) * least)


@exercise.also(tiny_numbers_flushed)
def tiny_numbers_flushed_late(x, exponent_bits, mantissa_bits):
    y = rounded(x, exponent_bits, mantissa_bits)
    return y * (y.abs() >= 2.0 ** (2 - 2 ** (exponent_bits - 1)))


@exercise.wrong("vectorize")
def no_lowest_exponent(x, exponent_bits, mantissa_bits):
    """Your gap goes on shrinking toward 0. Below the smallest number with a full
    mantissa it should stay what it is there: the exponent has come to its end.

    With 3 and 2 bits the smallest full number is 0.25, and the gap just above it
    0.0625. How large is the gap around 0.1?
    """
    return rounded(x, exponent_bits, mantissa_bits, lowest=-1000)


@exercise.also(no_lowest_exponent)
def clamped_at_the_smallest_of_all(x, exponent_bits, mantissa_bits):
    lowest = 2 - 2 ** (exponent_bits - 1) - mantissa_bits
    return rounded(x, exponent_bits, mantissa_bits, lowest=lowest)


@exercise.also(no_lowest_exponent)
def clamped_below_the_smallest_of_all(x, exponent_bits, mantissa_bits):
    lowest = 1 - 2 ** (exponent_bits - 1) - mantissa_bits
    return rounded(x, exponent_bits, mantissa_bits, lowest=lowest)


@exercise.also(no_lowest_exponent)
def flushed_below_the_smallest_of_all(x, exponent_bits, mantissa_bits):
    y = rounded(x, exponent_bits, mantissa_bits, lowest=-1000)
    smallest = 2.0 ** (2 - 2 ** (exponent_bits - 1) - mantissa_bits)
    return torch.where(x.abs() < smallest, 0, y)


@exercise.wrong("by-hand")
def gap_shrinks_once_more(x, exponent_bits, mantissa_bits):
    """Below the smallest full number your gap is half of what it should be: exponent 0
    is read as the power below exponent 1.

    Exponent 0 has the *same* power as exponent 1, 2^(1 - bias); only the leading 1 is
    gone. So what is the gap there, compared with the one above?
    """
    bias = 2 ** (exponent_bits - 1) - 1
    return rounded(x, exponent_bits, mantissa_bits, lowest=-bias)


@exercise.wrong("vectorize")
def gap_stops_too_early(x, exponent_bits, mantissa_bits):
    """Below the smallest full number your gap is larger than it should be: it stops
    shrinking one power too early.

    The smallest full number is 2^(1 - bias). At which exponent does the clamp hold?
    """
    bias = 2 ** (exponent_bits - 1) - 1
    return rounded(x, exponent_bits, mantissa_bits, lowest=2 - bias)


@exercise.wrong("by-hand")
def smallest_step_forgets_the_mantissa(x, exponent_bits, mantissa_bits):
    """The smallest gap in your code is the smallest full number itself. Its mantissa
    bits divide the room below it further.

    With 3 and 2 bits: 0.25 is the smallest full number. Into how many steps do 2 bits
    divide the way from 0 to there?
    """
    bias = 2 ** (exponent_bits - 1) - 1
    return rounded(x, exponent_bits, mantissa_bits, lowest=1 - bias + mantissa_bits)


@exercise.wrong("by-hand")
def clipped_at_the_largest(x, exponent_bits, mantissa_bits):
    """What is too large becomes the largest number. Some hardware can do that; here it
    becomes infinite, so that an overflow is seen.

    What should a training step notice when a gradient is 100 times too large?
    """
    M = mantissa_bits

    def clipped(y, x, limit):
        return y.clamp(-(limit - limit / 2 ** (M + 1)), limit - limit / 2 ** (M + 1))

    return rounded(x, exponent_bits, M, beyond=clipped)


@exercise.wrong("by-hand")
def no_largest(x, exponent_bits, mantissa_bits):
    """There is no largest number in your format: the gap grows and grows.

    The exponent has only so many bits, and the highest one is kept for infinity and
    nan. What is the largest number with 3 and 2 bits?
    """
    return rounded(x, exponent_bits, mantissa_bits, beyond=lambda y, x, limit: y)


@exercise.wrong("by-hand")
def judged_before_rounding(x, exponent_bits, mantissa_bits):
    """What lies above the largest number is infinite at once. Just above it the nearest
    number is still the largest.

    With 3 and 2 bits 14 is the largest, and the next mark would be 16. Where does 14.9
    go? Round first, and judge what comes out.
    """
    M = mantissa_bits

    def early(y, x, limit):
        return torch.where(x.abs() > limit - limit / 2 ** (M + 1), x * math.inf, y)

    return rounded(x, exponent_bits, M, beyond=early)


@exercise.wrong("by-hand")
def tie_at_the_limit(x, exponent_bits, mantissa_bits):
    """Only one number is judged wrongly: the one in the middle between the largest and
    the next power of two. It is a tie, and the largest number is the odd one.

    With 3 and 2 bits 15 lies between 14 = 1.11 * 8 and 16 = 1.00 * 16. Which of the two
    ends in 0?
    """

    def lenient(y, x, limit):
        middle = limit - limit / 2 ** (mantissa_bits + 2)
        return torch.where(x.abs() == middle, x.sign() * (2 * middle - limit), y)

    def both(y, x, limit):
        return lenient(torch.where(y.abs() >= limit, x * math.inf, y), x, limit)

    return rounded(x, exponent_bits, mantissa_bits, beyond=both)


@exercise.also(tie_at_the_limit)
def next_power_given_at_the_tie(x, exponent_bits, mantissa_bits):
    def above(y, x, limit):
        middle = limit - limit / 2 ** (mantissa_bits + 2)
        return torch.where(x.abs() > middle, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=above)


@exercise.wrong("by-hand")
def judged_at_the_next_power(x, exponent_bits, mantissa_bits):
    """A number just below the next power of two is rounded up to that power, and it is
    given back, though it has no code.

    With 3 and 2 bits 14 is the largest number, and 15.5 is rounded to 16. Is the limit
    tested for x, or for what comes out?
    """

    def by_x(y, x, limit):
        return torch.where(x.abs() >= limit, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=by_x)


@exercise.also(judged_at_the_next_power)
def next_power_still_given(x, exponent_bits, mantissa_bits):
    def above(y, x, limit):
        return torch.where(y.abs() > limit, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=above)


@exercise.wrong("by-hand")
def largest_lost(x, exponent_bits, mantissa_bits):
    """The largest number itself becomes infinite. It has a code like any other.

    With 3 and 2 bits 14 is the largest. Is it beyond the limit, or just inside?
    """
    M = mantissa_bits

    def strict(y, x, limit):
        return torch.where(y.abs() >= limit - limit / 2 ** (M + 1), x * math.inf, y)

    return rounded(x, exponent_bits, M, beyond=strict)


@exercise.wrong("by-hand")
def limit_at_the_highest_power(x, exponent_bits, mantissa_bits):
    """Everything from 2^bias on is infinite for you. That is the highest *power*; the
    mantissa makes numbers up to nearly twice as much.

    With 3 and 2 bits the highest power is 8. Which numbers stand between 8 and 16?
    """

    def half(y, x, limit):
        return torch.where(y.abs() >= limit / 2, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=half)


@exercise.also(limit_at_the_highest_power)
def limit_above_the_highest_power(x, exponent_bits, mantissa_bits):
    def half(y, x, limit):
        return torch.where(y.abs() > limit / 2, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=half)


@exercise.wrong("by-hand")
def highest_exponent_used(x, exponent_bits, mantissa_bits):
    """Your largest numbers are twice as large as they should be: the highest exponent
    holds numbers too. It is kept for infinity and nan.

    With 3 exponent bits the codes go from 0 to 7, and the bias is 3. Which powers of
    two are left for numbers?
    """

    def twice(y, x, limit):
        return torch.where(y.abs() >= 2 * limit, x * math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=twice)


@exercise.wrong("by-hand")
def bias_one_more(x, exponent_bits, mantissa_bits):
    """The bias is one too large: all powers of two in your format are halved at the
    bottom and one is added at the top.

    With 3 exponent bits the bias is 3, and not 4. Which formula gives that?
    """
    return rounded(x, exponent_bits, mantissa_bits, bias=2 ** (exponent_bits - 1))


@exercise.wrong("by-hand")
def bias_from_all_the_bits(x, exponent_bits, mantissa_bits):
    """The bias is 2^E - 1 in your code, the highest code itself. It should be half of
    that, so that powers above and below 0 have about equally many codes.

    With 3 exponent bits the bias is 3. What does your formula give?
    """
    return rounded(x, exponent_bits, mantissa_bits, bias=2**exponent_bits - 1)


@exercise.wrong("vectorize")
def gap_twice_as_large(x, exponent_bits, mantissa_bits):
    """Your marks are twice as far apart as they should be, as if there were one
    mantissa bit less.

    Two things lead there. `frexp` gives a fraction from 1/2 to 1, and its exponent is
    one more than that of 1.xx. And the leading 1 is not one of the mantissa bits. How
    far apart are the marks between 1 and 2, with 2 bits?
    """
    return rounded(x, exponent_bits, mantissa_bits, mantissa=1)


@exercise.also(gap_twice_as_large)
def exponent_of_frexp(x, exponent_bits, mantissa_bits):
    return rounded(
        x, exponent_bits, mantissa_bits, exponent=lambda x: torch.frexp(x).exponent
    )


@exercise.wrong("vectorize")
def gap_half_as_large(x, exponent_bits, mantissa_bits):
    """Your marks are half as far apart as they should be, as if there were one mantissa
    bit more.

    How far apart are the marks between 1 and 2, with 2 bits? A leading 1 has no bit,
    and the numbers between 1 and 2 already have their lowest power, 1.
    """
    return rounded(x, exponent_bits, mantissa_bits, mantissa=-1)


@exercise.wrong("vectorize")
def exponent_rounded(x, exponent_bits, mantissa_bits):
    """The exponent is rounded to the nearest whole number. So from about 1.41 on a
    number counts as if it lay above 2, and its gap is too large.

    log2(1.5) is 0.58. Which power of two lies below 1.5, and what makes 0 of 0.58?
    """
    args = x, exponent_bits, mantissa_bits
    return rounded(*args, exponent=lambda x: x.abs().log2().round())


@exercise.wrong("vectorize")
def one_gap_for_all(x, exponent_bits, mantissa_bits):
    """All numbers have the same gap in your code. That is a fixed point. Here the point
    floats: the gap grows with the number.

    Between 1 and 2 the gap is 2^-M. How large is it between 4 and 8?
    """
    args = x, exponent_bits, mantissa_bits
    return rounded(*args, exponent=lambda x: torch.zeros_like(x))


@exercise.wrong("by-hand")
def decimals(x, exponent_bits, mantissa_bits):
    """You round to as many *decimal* places as there are mantissa bits. Bits divide by
    two, not by ten, and they count from the first digit of the number and not from its
    point.

    Which four numbers from 1 to 2 are there with 2 bits?
    """
    M = mantissa_bits
    y = torch.round(x.clone(), decimals=M)
    limit = 2.0**2 ** (exponent_bits - 1)
    return torch.where(y.abs() >= limit, x * math.inf, y)


@exercise.also(decimals)
def decimals_without_a_largest(x, exponent_bits, mantissa_bits):
    return torch.round(x.clone(), decimals=mantissa_bits)


@exercise.wrong("vectorize")
def signs_lost(x, exponent_bits, mantissa_bits):
    """The signs are gone: negative numbers come out positive.

    The exponent comes from the size of x alone. To what does the rounding apply?
    """
    return rounded(x, exponent_bits, mantissa_bits).abs()


@exercise.wrong("by-hand")
def all_overflow_positive(x, exponent_bits, mantissa_bits):
    """What is too large below 0 becomes +inf. It should keep its sign.

    A gradient of -20 overflows. In which direction would +inf send the weight?
    """

    def positive(y, x, limit):
        return torch.where(y.abs() >= limit, math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=positive)


@exercise.wrong("by-hand")
def only_positive_overflow(x, exponent_bits, mantissa_bits):
    """Numbers too far below 0 stay as they are; only those above become infinite.

    The range ends on both sides. What is compared with the limit: x, or its size?
    """

    def one_side(y, x, limit):
        return torch.where(y >= limit, math.inf, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=one_side)


@exercise.wrong("by-hand")
def overflow_is_nan(x, exponent_bits, mantissa_bits):
    """What is too large becomes nan. The format has an infinity, with a sign.

    e4m3, one of the 8-bit formats, gives nan there, because it has no infinity. What
    does this one have?
    """

    def nan(y, x, limit):
        return torch.where(y.abs() >= limit, math.nan, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=nan)


@exercise.wrong("by-hand")
def overflow_is_zero(x, exponent_bits, mantissa_bits):
    """What is too large becomes 0. That would hide an overflow altogether.

    Beyond the largest number the format has one more code on each side. Which?
    """

    def zero(y, x, limit):
        return torch.where(y.abs() >= limit, 0, y)

    return rounded(x, exponent_bits, mantissa_bits, beyond=zero)


@exercise.wrong("vectorize")
def logarithm_of_negative_numbers(x, exponent_bits, mantissa_bits):
    """Negative numbers come out as nan: a logarithm of them does not exist.

    The exponent belongs to the size of the number. What comes before the logarithm?
    """
    args = x, exponent_bits, mantissa_bits
    return rounded(*args, exponent=lambda x: x.log2().floor())


@exercise.wrong("vectorize")
def infinity_becomes_nan(x, exponent_bits, mantissa_bits):
    """All numbers are right, and an infinite x comes out as nan.

    inf / inf and inf - inf are nan. Which of your lines does that with an infinite x?
    It has a code of its own and may stay what it is.
    """
    y = rounded(x, exponent_bits, mantissa_bits)
    return torch.where(x.isinf(), math.nan, y)


@exercise.wrong("vectorize")
def zero_becomes_nan(x, exponent_bits, mantissa_bits):
    """0 comes out as nan; it has a code like every other number.

    log2(0) is -inf, and 0 / 0 is nan. What should the exponent of 0 be? The lowest
    there is.
    """
    y = rounded(x, exponent_bits, mantissa_bits)
    return torch.where(x == 0, math.nan, y)


@exercise.wrong("vectorize")
def divided_and_not_multiplied_back(x, exponent_bits, mantissa_bits):
    """What comes out are counts of gaps, and not numbers: the result of `round` is
    never multiplied by the gap again.

    1.3 is 5.2 gaps of 0.25, and 5 gaps are nearest. Which number is that?
    """
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(x).exponent - 1).clamp(min=1 - bias).to(x.dtype)
    y = torch.round(x / 2.0 ** (power - mantissa_bits))
    return torch.where(
        (y * 2.0 ** (power - mantissa_bits)).abs() >= 2.0 ** (bias + 1), x * math.inf, y
    )


@exercise.also(divided_and_not_multiplied_back)
def counts_without_a_largest(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(x).exponent - 1).clamp(min=1 - bias).to(x.dtype)
    return torch.round(x / 2.0 ** (power - mantissa_bits))


@exercise.wrong("vectorize")
def multiplied_by_the_gap(x, exponent_bits, mantissa_bits):
    """x is multiplied by the gap before it is rounded, and divided by it afterward.
    That is the wrong way round as soon as the gap does not belong to a number from 1 to
    2.

    How many gaps of 1 are in 5.2, and how many gaps of 0.25 in 1.3? Which operation
    counts them?
    """
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(x).exponent - 1).clamp(min=1 - bias).to(x.dtype)
    y = torch.round(x * 2.0 ** (power + mantissa_bits)) / 2.0 ** (power + mantissa_bits)
    return torch.where(y.abs() >= 2.0 ** (bias + 1), x * math.inf, y)


@exercise.also(multiplied_by_the_gap)
def multiplied_without_a_limit(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(x).exponent - 1).clamp(min=1 - bias).to(x.dtype)
    return torch.round(x * 2.0 ** (power + mantissa_bits)) / 2.0 ** (
        power + mantissa_bits
    )


@exercise.wrong("by-hand")
def half_added_to_negative_numbers(x, exponent_bits, mantissa_bits):
    """0.5 is added, and what stands behind the point is cut off. Below 0 that does not
    round to the nearest: half would have to be taken away there. And a tie goes the
    same way always.

    -5.2 plus 0.5 is -4.7. What is left of it when it is cut, and what should be?
    `torch.round` does it for both signs, and ties to even.
    """
    return rounded(x, exponent_bits, mantissa_bits, lambda n: torch.trunc(n + 0.5))


@exercise.wrong("by-hand")
def float16_whatever_the_bits(x, exponent_bits, mantissa_bits):
    """The two numbers of bits are not used: you always round to the same format, one of
    those that torch has.

    With 2 mantissa bits there are only four numbers from 1 to 2. Which of them is
    nearest to 1.3?
    """
    return x.to(torch.float16).to(x.dtype)


@exercise.also(float16_whatever_the_bits)
def bfloat16_whatever_the_bits(x, exponent_bits, mantissa_bits):
    return x.to(torch.bfloat16).to(x.dtype)


@exercise.also(float16_whatever_the_bits)
def nothing_rounded(x, exponent_bits, mantissa_bits):
    return x.clone()


@exercise.wrong("by-hand")
def bits_swapped(x, exponent_bits, mantissa_bits):
    """The two numbers of bits are swapped: the exponent gets the mantissa's and the
    mantissa the exponent's.

    Which comes first in the call, and which of the two decides about the gap between 1
    and 2?
    """
    return rounded(x, mantissa_bits, exponent_bits)


# --- two things wrong at once: the message of the first that shows ----------------------


def both(of, number, **parts):
    """A wrong answer that also lacks the largest number, or judges it too early."""

    def no_limit(y, x, limit):
        return y

    def too_early(y, x, limit):
        return torch.where(x.abs() > limit / 2, x * math.inf, y)

    def clipped(y, x, limit):
        return y.clamp(-limit, limit)

    for beyond in (no_limit, too_early, clipped):

        def made(x, exponent_bits, mantissa_bits, beyond=beyond):
            return rounded(x, exponent_bits, mantissa_bits, **parts, beyond=beyond)

        made.__name__ = f"{of.__name__}_{number}_{beyond.__name__}"
        exercise.also(of)(made)


for number, whole in enumerate((torch.trunc, torch.floor, torch.ceil)):
    both((toward_zero, always_down, always_up)[number], 1, to_whole=whole)
both(ties_not_to_even, 1, to_whole=half_up)
both(ties_not_to_even, 2, to_whole=lambda n: n.sign() * half_up(n.abs()))
both(ties_not_to_even, 3, to_whole=lambda n: n.sign() * -half_up(-n.abs()))
both(no_lowest_exponent, 1, lowest=-1000)
both(gap_twice_as_large, 1, mantissa=1)
both(gap_twice_as_large, 2, mantissa=1, lowest=-1000)
both(gap_twice_as_large, 3, exponent=lambda x: torch.frexp(x).exponent)
both(gap_half_as_large, 1, mantissa=-1)
both(gap_half_as_large, 2, mantissa=-1, lowest=-1000)
both(exponent_rounded, 1, exponent=lambda x: x.abs().log2().round())
both(one_gap_for_all, 1, exponent=torch.zeros_like)
both(half_added_to_negative_numbers, 1, to_whole=lambda n: torch.trunc(n + 0.5))


def table_searched(x, E, M, subnormal, beyond):
    """The nearest of a list of numbers; of two equally near ones the smaller."""
    bias = 2 ** (E - 1) - 1
    exponents = torch.arange(1 - bias, bias + 1).double()
    fraction = torch.arange(2**M).double() / 2**M
    full = (torch.exp2(exponents)[:, None] * (1 + fraction)).flatten()
    low = fraction * 2.0 ** (1 - bias) if subnormal else torch.zeros(1).double()
    values = torch.cat([low, full])
    middle = (values[1:] + values[:-1]) / 2
    at = torch.searchsorted(middle, x.double().abs().contiguous())
    y = values[at] * x.sign().double()
    if beyond:
        y = torch.where(x.double().abs() > values[-1], x.double() * math.inf, y)
    return y.to(x.dtype)


@exercise.also(ties_not_to_even)
def nearest_of_a_list(x, exponent_bits, mantissa_bits):
    return table_searched(x, exponent_bits, mantissa_bits, True, False)


@exercise.also(ties_not_to_even)
def nearest_of_a_list_with_infinity(x, exponent_bits, mantissa_bits):
    return table_searched(x, exponent_bits, mantissa_bits, True, True)


@exercise.also(ties_not_to_even)
def nearest_of_a_list_without_subnormals(x, exponent_bits, mantissa_bits):
    return table_searched(x, exponent_bits, mantissa_bits, False, False)


@exercise.also(ties_not_to_even)
def first_of_the_nearest(x, exponent_bits, mantissa_bits):
    y = table_searched(x, exponent_bits, mantissa_bits, True, False)
    return torch.where(x.isinf(), 0, y)  # all are equally far from infinity


@exercise.also(ties_not_to_even)
def first_of_the_nearest_without_subnormals(x, exponent_bits, mantissa_bits):
    y = table_searched(x, exponent_bits, mantissa_bits, False, False)
    return torch.where(x.isinf(), 0, y)


@exercise.also(no_largest)
def exponent_clamped_on_both_sides(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    power = (torch.frexp(x).exponent - 1).clamp(1 - bias, bias).to(x.dtype)
    gap = 2.0 ** (power - mantissa_bits)
    return torch.round(x / gap) * gap


@exercise.also(zero_becomes_nan)
def logarithm_of_zero(x, exponent_bits, mantissa_bits):
    args = x, exponent_bits, mantissa_bits
    nothing = dict(lowest=-1000, beyond=lambda y, x, limit: y)
    y = rounded(*args, exponent=lambda x: x.abs().log2().floor(), **nothing)
    return torch.where((x == 0) | x.isinf(), math.nan, y)


@exercise.also(tiny_numbers_flushed)
def tiny_numbers_flushed_and_no_limit(x, exponent_bits, mantissa_bits):
    args = x, exponent_bits, mantissa_bits
    y = rounded(*args, beyond=lambda y, x, limit: y)
    return torch.where(x.abs() < 2.0 ** (2 - 2 ** (exponent_bits - 1)), 0, y)


@exercise.caught_as("modified-input")
def divided_in_place(x, exponent_bits, mantissa_bits):
    bias = 2 ** (exponent_bits - 1) - 1
    gap = 2.0 ** ((torch.frexp(x).exponent - 1).clamp(min=1 - bias) - mantissa_bits)
    x /= gap
    return x.round() * gap


@exercise.caught_as("wrong-dtype")
def always_double(x, exponent_bits, mantissa_bits):
    return rounded(x.double(), exponent_bits, mantissa_bits)


@exercise.caught_as("wrong-type")
def list_of_numbers(x, exponent_bits, mantissa_bits):
    return rounded(x, exponent_bits, mantissa_bits).tolist()


@exercise.caught_as("wrong-shape")
def flattened(x, exponent_bits, mantissa_bits):
    return rounded(x, exponent_bits, mantissa_bits).flatten()[:, None]


@exercise.caught_as("returned-none")
def nothing_returned(x, exponent_bits, mantissa_bits):
    rounded(x, exponent_bits, mantissa_bits)


@exercise.caught_as("raised")
def one_number_at_a_time(x, exponent_bits, mantissa_bits):
    fraction, exponent = math.frexp(x.tolist())
    return math.ldexp(round(fraction * 2**mantissa_bits), exponent - mantissa_bits)


@exercise.caught_as("non-contiguous")
def view_of_the_numbers(x, exponent_bits, mantissa_bits):
    return rounded(x.view(-1), exponent_bits, mantissa_bits).view(x.shape)


@exercise.caught_as("forbidden-call")
def by_the_package(x, exponent_bits, mantissa_bits):
    from babygpt_course.precision import Format, round_to

    format = Format("mine", exponent_bits, mantissa_bits, torch.float32)
    return round_to(x, format)
