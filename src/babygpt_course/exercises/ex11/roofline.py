"""11.5: what a machine can attain, and from which batch on it does not wait for memory."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="11_flops_mfu",
    id="11.5",
    title="Under the roof",
    kind="stretch",
    points=3,
    minutes=11,
    anchor="why-it-works",
    hints="""
    More rows use the same weights. Which of the numbers that are moved grow with the batch, and
    which do not? What becomes of FLOPs per byte in a very large batch?

    FLOPs are 2 * B * n_in * n_out, bytes are width * (B * n_in + n_in * n_out + B * n_out). Their
    quotient is the intensity; the machine attains the smaller of peak and intensity times
    bandwidth. The ridge is peak / bandwidth.

    The intensity never reaches 2 * n_in * n_out / (width * (n_in + n_out)). If the ridge is not
    below that: 0. Else B = 1, 2, 3 ... until the intensity of B is at least the ridge.
    """,
)


@exercise.oracle
def roofline(batch, n_in, n_out, width, peak, bandwidth):
    def flops_and_bytes(B):
        rows_in, weights, rows_out = B * n_in, n_in * n_out, B * n_out
        return 2 * B * n_in * n_out, width * (rows_in + weights + rows_out)

    attainable = []
    for B in batch.tolist():
        flops, moved = flops_and_bytes(B)
        attainable.append(min(peak, flops / moved * bandwidth))
    smallest = 0
    if 2 * n_in * n_out * bandwidth > peak * width * (n_in + n_out):
        smallest = 1
        while True:
            flops, moved = flops_and_bytes(smallest)
            if flops * bandwidth >= peak * moved:  # whole numbers: no rounding
                break
            smallest += 1
    return torch.tensor(attainable, dtype=batch.dtype), smallest


def of(*sizes, dtype=torch.float64):
    return torch.tensor(sizes, dtype=dtype)


@exercise.cases
def cases():
    yield Case((of(1.0), 2, 2, 1, 12, 8))
    yield Case((of(1.0, 2, 3, 4), 2, 2, 1, 12, 8))
    yield Case((of(1.0, 9), 2, 2, 1, 20, 8), "out of reach")
    yield Case((of(1.0, 9), 2, 2, 1, 16, 8), "just out of reach")
    yield Case((of(1.0, 2), 2, 2, 1, 4, 8), "a single row is enough")
    yield Case((of(2.0, 5), 4, 4, 2, 5, 4))
    yield Case((of(1.0, 31, 32, 33), 64, 64, 4, 512, 64), "on the ridge itself")
    yield Case((of(3.0), 3, 7, 2, 10, 7))
    yield Case((of(1.0, 27, 28), 2, 3, 1, 23, 10), "barely within reach")
    yield Case((of(1.0, 6, 40), 8, 2, 2, 10, 8))
    yield Case((of(1.0, 6, 40), 2, 8, 2, 10, 8))
    sizes = 1.0, 16, 128, 400, 2048
    yield Case((of(*sizes), 4096, 4096, 2, 312 * 10**12, 2039 * 10**9), "A100, 16 bits")
    yield Case((of(*sizes), 256, 1024, 2, 312 * 10**12, 2039 * 10**9), "A100, 16 bits")
    single = of(*sizes, dtype=torch.float32)
    yield Case((single, 512, 2048, 4, 60 * 10**9, 12 * 10**9), "float32")
    yield Case((single, 288, 768, 4, 45 * 10**9, 20 * 10**9), "float32")
    yield Case((of(*range(1, 11))[::3], 16, 32, 4, 90, 31), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def in_closed_form(batch, n_in, n_out, width, peak, bandwidth):
    weights, rows, ridge = n_in * n_out, n_in + n_out, peak / bandwidth
    slope = bandwidth * 2 * batch * weights / (width * (batch * rows + weights))
    gain = 2 * weights - ridge * width * rows
    smallest = math.ceil(ridge * width * weights / gain) if gain > 0 else 0
    return slope.clamp(max=peak), smallest


@exercise.right
def by_the_two_times(batch, n_in, n_out, width, peak, bandwidth):
    def times(B):
        flops = 2 * B * n_in * n_out
        moved = width * (B * (n_in + n_out) + n_in * n_out)
        return flops / peak, moved / bandwidth

    compute, memory = times(batch)
    attainable = 2 * batch * n_in * n_out / torch.maximum(compute, memory)
    if 2 * n_in * n_out / (width * (n_in + n_out)) <= peak / bandwidth:
        return attainable, 0
    B = 1
    while times(B)[0] < times(B)[1] * (1 - 1e-12):
        B += 1
    return attainable, B


@exercise.right
def by_halving(batch, n_in, n_out, width, peak, bandwidth):
    def intensity(B):
        return 2 * B / (width * (B / n_in + B / n_out + 1))

    ridge = peak / bandwidth
    high = 1
    while intensity(high) < ridge:
        high *= 2
        if high > 2**40:
            return (intensity(batch) * bandwidth).clamp(max=peak), 0
    low = 0  # too small
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if intensity(middle) >= ridge else (middle, high)
    return [torch.minimum(intensity(batch) * bandwidth, of(peak).to(batch.dtype)), high]


# --- wrong, each with the misconception behind it -------------------------------------


def moved_numbers(B, n_in, n_out):
    return B * n_in + n_in * n_out + B * n_out


def first_batch(intensity, ridge, far=20_000):
    """The first batch that reaches the ridge, 0 if none up to far away does."""
    if intensity(1) >= ridge:
        return 1
    if intensity(far) < ridge:
        return 0
    return next(B for B in range(1, far + 1) if intensity(B) >= ridge)


def bounded(
    args,
    flops=lambda B, n, m: 2 * B * n * m,
    moved=moved_numbers,
    width=lambda w: w,
    roof=lambda intensity, peak, bandwidth: (intensity * bandwidth).clamp(max=peak),
    smallest=first_batch,
    ridge=lambda peak, bandwidth: peak / bandwidth,
):
    """The roofline, of which one part at a time is replaced."""
    batch, n_in, n_out, w, peak, bandwidth = args

    def intensity(B):
        return flops(B, n_in, n_out) / (width(w) * moved(B, n_in, n_out))

    attainable = roof(intensity(batch) + 0 * batch, peak, bandwidth)
    return attainable, smallest(intensity, ridge(peak, bandwidth))


@exercise.wrong("why-it-works")
def multiplications_only(batch, n_in, n_out, width, peak, bandwidth):
    """Multiplications are counted and additions are not, so the intensity is half of what it is.

    A peak in FLOP/s counts both. How many operations is one multiply-add?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, flops=lambda B, n, m: B * n * m)


@exercise.wrong("why-it-works")
def numbers_for_bytes(batch, n_in, n_out, width, peak, bandwidth):
    """Numbers are counted instead of bytes. The bandwidth is in bytes a second.

    How many bytes has a number here?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, width=lambda w: 1)


@exercise.wrong("why-it-works")
def only_the_weights_moved(batch, n_in, n_out, width, peak, bandwidth):
    """Only the weights are moved here. The rows have to come in and the results have to go out, and
    both grow with the batch.

    In a batch of a million rows, what takes up most of the memory's time?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, moved=lambda B, n, m: n * m)


@exercise.wrong("why-it-works")
def weights_not_moved(batch, n_in, n_out, width, peak, bandwidth):
    """The weights are missing among the bytes. With one row they are nearly all of them.

    What has to be read before the first product can be made?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, moved=lambda B, n, m: B * n + B * m)


@exercise.wrong("why-it-works")
def results_not_moved(batch, n_in, n_out, width, peak, bandwidth):
    """What comes out is not counted among the bytes. The results have to be written.

    Three things go over the bus: the rows, the weights, and what else?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, moved=lambda B, n, m: B * n + n * m)


@exercise.wrong("why-it-works")
def rows_not_moved(batch, n_in, n_out, width, peak, bandwidth):
    """The rows that come in are not counted among the bytes.

    Three things go over the bus: the weights, the results, and what else?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, moved=lambda B, n, m: n * m + B * m)


@exercise.wrong("why-it-works")
def weights_for_every_row(batch, n_in, n_out, width, peak, bandwidth):
    """The weights are read anew for every row. Then a larger batch would help nothing; they are read
    once for all rows.

    Which of the three terms has no B in it?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, moved=lambda B, n, m: B * (n + m + n * m))


@exercise.wrong("why-it-works")
def bytes_for_each_operation(batch, n_in, n_out, width, peak, bandwidth):
    """The intensity is upside down: bytes for each FLOP.

    A byte that is used for many operations is a good byte. Should that be a large number or a
    small one?
    """

    def upside_down(B):
        return width * moved_numbers(B, n_in, n_out) / (2 * B * n_in * n_out)

    attainable = (upside_down(batch) * bandwidth).clamp(max=peak)
    return attainable, first_batch(upside_down, peak / bandwidth)


@exercise.wrong("why-it-works")
def no_flat_roof(batch, n_in, n_out, width, peak, bandwidth):
    """The slope goes on and on: nothing holds it at the peak.

    At a very large intensity, can the machine do more FLOP/s than its peak?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, roof=lambda i, peak, bandwidth: i * bandwidth)


@exercise.wrong("why-it-works")
def always_at_the_peak(batch, n_in, n_out, width, peak, bandwidth):
    """This says that the machine always reaches its peak. With few rows it waits for the weights.

    How many bytes does one row need, and how long does it take to bring them?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, roof=lambda i, peak, bandwidth: i * 0 + peak)


@exercise.wrong("why-it-works")
def larger_of_the_two(batch, n_in, n_out, width, peak, bandwidth):
    """This takes the larger of the two limits. A chain is as strong as its weaker link.

    If memory can feed 8 FLOP/s and the processor can do 12, how many are done?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(
        args, roof=lambda i, peak, bandwidth: (i * bandwidth).clamp(min=peak)
    )


@exercise.wrong("why-it-works")
def one_after_the_other(batch, n_in, n_out, width, peak, bandwidth):
    """The time of the memory and the time of the processor are added up. The roof says that both
    work at the same time, and the slower one decides.

    While one part is computed, the next can be brought. Is the whole time a sum or a
    maximum?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(
        args, roof=lambda i, peak, bandwidth: 1 / (1 / peak + 1 / (i * bandwidth))
    )


@exercise.wrong("why-it-works")
def intensity_returned(batch, n_in, n_out, width, peak, bandwidth):
    """The first result is the intensity, in FLOPs a byte. Asked for is what the machine attains, in
    FLOP/s.

    Times which speed does FLOPs a byte become FLOPs a second?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, roof=lambda i, peak, bandwidth: i)


@exercise.wrong("why-it-works")
def share_of_the_peak(batch, n_in, n_out, width, peak, bandwidth):
    """The first result is a share of the peak. Asked for are FLOP/s.

    What does half of the peak come to, in FLOP/s?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(
        args, roof=lambda i, peak, bandwidth: (i * bandwidth / peak).clamp(max=1)
    )


@exercise.wrong("why-it-works")
def peak_and_bandwidth_swapped(batch, n_in, n_out, width, peak, bandwidth):
    """Peak and bandwidth have changed places: the slope is made with the peak, and the bandwidth is
    the flat roof.

    Intensity is FLOPs a byte. Times bytes a second, or times FLOPs a second?
    """
    return bounded((batch, n_in, n_out, width, bandwidth, peak))


@exercise.wrong("why-it-works")
def ridge_upside_down(batch, n_in, n_out, width, peak, bandwidth):
    """The FLOP/s are right. The batch is compared with bandwidth / peak, and the ridge is the other way
    round.

    At the ridge, intensity times bandwidth is the peak. So what is the intensity there?
    """
    args = batch, n_in, n_out, width, peak, bandwidth
    return bounded(args, ridge=lambda peak, bandwidth: bandwidth / peak)


@exercise.wrong("why-it-works")
def ridge_must_be_passed(batch, n_in, n_out, width, peak, bandwidth):
    """The FLOP/s are right. A batch that stands on the ridge itself already has the whole peak, and
    is passed over here.

    "At least the ridge": `>` or `>=`?
    """
    attainable, right = roofline(batch, n_in, n_out, width, peak, bandwidth)
    on_it = 2 * right * n_in * n_out * bandwidth == peak * width * moved_numbers(
        right, n_in, n_out
    )
    return attainable, right + (1 if on_it and right else 0)


@exercise.wrong("why-it-works")
def one_too_small(batch, n_in, n_out, width, peak, bandwidth):
    """The FLOP/s are right. The batch is the last one that is still on the slope (or the exact place of
    the ridge is rounded down).

    The next whole batch *above* is the first that reaches it. Which rounding is that?
    """
    attainable, right = roofline(batch, n_in, n_out, width, peak, bandwidth)
    ridge, weights, rows = peak / bandwidth, n_in * n_out, n_in + n_out
    exact = ridge * width * weights / (2 * weights - ridge * width * rows or math.nan)
    return attainable, math.floor(exact) if right else 0


@exercise.also(one_too_small)
def last_on_the_slope(batch, n_in, n_out, width, peak, bandwidth):
    attainable, right = roofline(batch, n_in, n_out, width, peak, bandwidth)
    return attainable, max(right - 1, 0)


@exercise.wrong("why-it-works")
def rounded_to_the_nearest(batch, n_in, n_out, width, peak, bandwidth):
    """The FLOP/s are right. The exact place of the ridge is rounded to the nearest batch, and when
    that is below it the batch does not reach it.

    Is a batch of 2 enough if 2.4 would be needed?
    """
    attainable, right = roofline(batch, n_in, n_out, width, peak, bandwidth)
    ridge, weights, rows = peak / bandwidth, n_in * n_out, n_in + n_out
    exact = ridge * width * weights / (2 * weights - ridge * width * rows or math.nan)
    return attainable, round(exact) if right else 0


@exercise.wrong("why-it-works")
def never_is_a_negative_batch(batch, n_in, n_out, width, peak, bandwidth):
    """When no batch reaches the ridge the formula still gives a number, and it is negative. The task
    wants 0 then.

    The intensity has a limit that it never passes. What if the ridge is above it?
    """
    attainable, right = roofline(batch, n_in, n_out, width, peak, bandwidth)
    ridge, weights, rows = peak / bandwidth, n_in * n_out, n_in + n_out
    gain = 2 * weights - ridge * width * rows
    return attainable, right or math.ceil(ridge * width * weights / (gain or -1e-9))


@exercise.also(never_is_a_negative_batch)
def limit_is_divided_by(batch, n_in, n_out, width, peak, bandwidth):
    attainable, _ = roofline(batch, n_in, n_out, width, peak, bandwidth)
    ridge, weights, rows = peak / bandwidth, n_in * n_out, n_in + n_out
    exact = ridge * width * weights / (2 * weights - ridge * width * rows)
    return attainable, math.ceil(exact)


@exercise.wrong("why-it-works")
def only_among_the_given(batch, n_in, n_out, width, peak, bandwidth):
    """The smallest batch is looked for among those of the list. It may be any whole number.

    If the list is 1 and 9 and the answer is 3, what does your search find?
    """
    attainable, _ = roofline(batch, n_in, n_out, width, peak, bandwidth)
    good = [int(B) for B, a in zip(batch, attainable) if a >= peak * (1 - 1e-6)]
    return attainable, min(good, default=0)


@exercise.wrong("why-it-works")
def results_swapped(batch, n_in, n_out, width, peak, bandwidth):
    """The two results have changed places.

    First the FLOP/s, one for each batch, and then the smallest batch. What is your `return`?
    """
    return roofline(batch, n_in, n_out, width, peak, bandwidth)[::-1]


@exercise.caught_as("wrong-type")
def batch_as_a_decimal_number(batch, n_in, n_out, width, peak, bandwidth):
    attainable, smallest = roofline(batch, n_in, n_out, width, peak, bandwidth)
    return attainable, float(smallest)


@exercise.caught_as("wrong-type")
def only_the_speeds(batch, n_in, n_out, width, peak, bandwidth):
    return roofline(batch, n_in, n_out, width, peak, bandwidth)[0]


@exercise.caught_as("wrong-dtype")
def always_float32(batch, n_in, n_out, width, peak, bandwidth):
    attainable, smallest = roofline(batch, n_in, n_out, width, peak, bandwidth)
    return attainable.float(), smallest


@exercise.caught_as("wrong-shape")
def best_of_all(batch, n_in, n_out, width, peak, bandwidth):
    attainable, smallest = roofline(batch, n_in, n_out, width, peak, bandwidth)
    return attainable.max(), smallest


@exercise.caught_as("modified-input")
def multiplied_in_place(batch, n_in, n_out, width, peak, bandwidth):
    result = roofline(batch, n_in, n_out, width, peak, bandwidth)
    batch *= 2
    return result


@exercise.caught_as("raised")
def whole_numbers_from_a_tensor(batch, n_in, n_out, width, peak, bandwidth):
    smallest = next(B for B in range(1, 10) if B * bandwidth > 10**30)
    return batch, smallest
