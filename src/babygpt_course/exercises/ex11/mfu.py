"""11.2: model FLOPs utilization from measured intervals."""

import statistics

import torch

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="11_flops_mfu",
    id="11.2",
    title="A share of the peak",
    kind="implement",
    points=2,
    minutes=8,
    anchor="train-it",
    hints="""
    Which of the measured times say something about a step of a long run? And what is the one
    number for them, if a single slow one should not matter?

    Leave out the first `warmup` intervals. The median of an even number of values is the mean
    of the two in the middle. FLOPs divided by seconds is a speed; MFU is that speed divided by
    the peak of the number format that was used.

    kept = seconds[warmup:]; one = statistics.median(kept); return flops / one /
    peaks[number_format].
    """,
)


@exercise.oracle
def mfu(seconds, flops, warmup, peaks, number_format):
    left = []
    for i, s in enumerate(seconds):
        if i >= warmup:
            at = 0
            while at < len(left) and left[at] < s:
                at += 1
            left.insert(at, s)
    middle = (left[(len(left) - 1) // 2] + left[len(left) // 2]) / 2
    return flops / middle / peaks[number_format]


T4 = {"fp32": 8.1e12, "fp16": 65e12}


@exercise.cases
def cases():
    one = {"fp32": 8.0}
    yield Case(([2.0], 4, 0, one, "fp32"))
    yield Case(([9.0, 2.0], 4, 1, one, "fp32"), "one left")
    two = {"bf16": 64.0, "fp32": 8.0}
    yield Case(([2.0], 4, 0, two, "fp32"))
    yield Case(([2.0], 4, 0, {"fp32": 8.0, "bf16": 64.0}, "bf16"))
    yield Case(([0.5, 3.0, 1.0], 4, 0, one, "fp32"), "not in order")
    yield Case(([9.0, 5.0, 3.0, 4.0], 6, 1, one, "fp32"))
    yield Case(([9.0, 2.0, 4.0, 3.0, 100.0], 7, 1, two, "fp32"), "an even number")
    yield Case(([50.0, 1.0, 3.0, 8.0, 2.0], 7, 2, two, "bf16"))
    yield Case(([1.0, 4.0, 2.0, 2.0, 2.0, 16.0], 5, 1, one, "fp32"), "equal times")
    yield Case(([0.001, 4.0, 1.0, 2.0, 3.0, 5.0], 5, 1, one, "fp32"), "a fast start")
    yield Case(
        ([19.5, 0.15, 0.14, 0.13, 18.8, 0.16, 0.12], 82_414_461_000, 1, T4, "fp32")
    )
    yield Case(([3.5, 1.2, 0.031, 0.029, 0.034, 0.03, 0.4], 10**11, 2, T4, "fp16"))
    generator = torch.Generator().manual_seed(0)
    for n, warmup in ((12, 3), (11, 4)):
        times = torch.rand(n, generator=generator).add(0.25).tolist()
        times = [round(s, 4) for s in times]
        yield Case((times, 3 * 10**9, warmup, {"a": 9e9, "b": 2e10, "c": 4e9}, "b"))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def sorted_and_the_middle(seconds, flops, warmup, peaks, number_format):
    kept = sorted(seconds[warmup:])
    n = len(kept)
    middle = kept[n // 2] if n % 2 else (kept[n // 2 - 1] + kept[n // 2]) / 2
    return flops / (middle * peaks[number_format])


@exercise.right
def with_a_quantile(seconds, flops, warmup, peaks, number_format):
    kept = torch.tensor(seconds[warmup:], dtype=torch.float64)
    return flops / kept.quantile(0.5) / peaks[number_format]


@exercise.right
def seconds_at_the_peak(seconds, flops, warmup, peaks, number_format):
    at_best = flops / peaks[number_format]
    return at_best / statistics.median(list(seconds)[warmup:])


# --- wrong, each with the misconception behind it -------------------------------------


def share(
    args, middle=statistics.median, kept=lambda s, w: s[w:], peak=lambda p, f: p[f]
):
    """The formula, of which one part at a time is replaced."""
    seconds, flops, warmup, peaks, number_format = args
    return flops / middle(kept(seconds, warmup)) / peak(peaks, number_format)


@exercise.wrong("train-it")
def warm_up_counted(seconds, flops, warmup, peaks, number_format):
    """The warm-up is counted with the rest. Those steps allocate memory and choose routines, which
    no later step does.

    How many intervals at the beginning does `warmup` tell you to leave out?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: s)


@exercise.wrong("train-it")
def one_warm_up_step(seconds, flops, warmup, peaks, number_format):
    """Always one interval is left out, whatever `warmup` says.

    With warmup = 2 which interval is the first that counts, and which with warmup = 0?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: s[1:] or s)


@exercise.wrong("train-it")
def warm_up_at_the_end(seconds, flops, warmup, peaks, number_format):
    """The intervals are left out at the end. A machine warms up at the beginning.

    `seconds[:-warmup]` or `seconds[warmup:]`: which one starts later?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: s[: len(s) - w])


@exercise.wrong("train-it")
def only_the_warm_up(seconds, flops, warmup, peaks, number_format):
    """Only the warm-up is used, and the steps that count are thrown away.

    Which one holds the later steps, `seconds[:warmup]` or `seconds[warmup:]`?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: s[:w] or s)


@exercise.wrong("train-it")
def slowest_left_out(seconds, flops, warmup, peaks, number_format):
    """The slowest intervals are left out, wherever they are. The warm-up is what came *first*, and it
    need not be the slowest.

    Sorting forgets the order of time. What must be done before it?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: sorted(s)[: len(s) - w])


@exercise.also(slowest_left_out)
def fastest_left_out(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, kept=lambda s, w: sorted(s)[w:])


@exercise.wrong("train-it")
def mean_for_median(seconds, flops, warmup, peaks, number_format):
    """This takes the mean of the times (or all FLOPs by all seconds, which is the same). One
    interval with an evaluation in it pulls it far away.

    Of the times 2, 3, 4 and 100, which number says how long a step takes?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=statistics.fmean)


@exercise.wrong("train-it")
def mean_of_the_speeds(seconds, flops, warmup, peaks, number_format):
    """This takes the mean of the *speeds*, one for each interval. One interval that was measured too
    short makes it as large as you like.

    The task wants one time first. Which one, and then the speed from it?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=statistics.harmonic_mean)


@exercise.wrong("train-it")
def median_of_the_speeds(seconds, flops, warmup, peaks, number_format):
    """This takes the median of the *speeds*. With an odd number of intervals it is the same; with an
    even number the mean of two speeds is not the speed of the mean of two times.

    Which is asked for first, a time or a speed?
    """
    args = seconds, flops, warmup, peaks, number_format

    def middle(kept):
        return 1 / statistics.median(1 / s for s in kept)

    return share(args, middle=middle)


@exercise.wrong("train-it")
def fastest_step(seconds, flops, warmup, peaks, number_format):
    """This takes the fastest interval. It says what the machine can do at its best moment, and not
    what a run makes use of.

    The peak is already the best. What should the time be: the best, or the usual one?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=min)


@exercise.wrong("train-it")
def last_step(seconds, flops, warmup, peaks, number_format):
    """This takes the last interval alone. In a real run that one often has an evaluation in it, and
    one interval is luck in any case.

    What would the result be if you had stopped one step earlier?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=lambda kept: kept[-1])


@exercise.wrong("train-it")
def lower_of_the_two(seconds, flops, warmup, peaks, number_format):
    """With an even number of intervals this takes one of the two in the middle (`torch.median` and
    `sorted(x)[len(x) // 2]` do that). The median is the mean of both.

    Of 2, 3, 4 and 100, what lies in the middle?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=statistics.median_low)


@exercise.also(lower_of_the_two)
def higher_of_the_two(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=statistics.median_high)


@exercise.wrong("train-it")
def not_sorted(seconds, flops, warmup, peaks, number_format):
    """This takes the interval in the middle of the *run*. The median is the one in the middle when
    they are sorted by size.

    Of the times 0.5, 3 and 1, in this order, which is the median?
    """
    args = seconds, flops, warmup, peaks, number_format

    def middle(kept):
        n = len(kept)
        return (kept[(n - 1) // 2] + kept[n // 2]) / 2

    return share(args, middle=middle)


@exercise.also(not_sorted)
def not_sorted_and_upper(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=lambda kept: kept[len(kept) // 2])


@exercise.wrong("train-it")
def first_peak(seconds, flops, warmup, peaks, number_format):
    """The peak is not that of the number format that was used: always the first (or the largest, or
    the smallest) of the table is taken.

    The run was in `number_format`. Which entry of `peaks` belongs to it?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, peak=lambda p, f: next(iter(p.values())))


@exercise.also(first_peak)
def largest_peak(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, peak=lambda p, f: max(p.values()))


@exercise.also(first_peak)
def smallest_peak(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, peak=lambda p, f: min(p.values()))


@exercise.also(first_peak)
def peaks_added_up(seconds, flops, warmup, peaks, number_format):
    args = seconds, flops, warmup, peaks, number_format
    return share(args, peak=lambda p, f: sum(p.values()))


@exercise.wrong("train-it")
def percent(seconds, flops, warmup, peaks, number_format):
    """That is in percent. A share is a number from 0 to 1; who mixes the two is off by a factor of
    a hundred.

    Which number should "half of the peak" be?
    """
    return 100 * share((seconds, flops, warmup, peaks, number_format))


@exercise.wrong("train-it")
def upside_down(seconds, flops, warmup, peaks, number_format):
    """The fraction is upside down: a slower step would have the higher MFU.

    Useful work in the time, divided by what could have been done in it. Which of the two is
    smaller?
    """
    return 1 / share((seconds, flops, warmup, peaks, number_format))


@exercise.wrong("train-it")
def peak_left_out(seconds, flops, warmup, peaks, number_format):
    """That is a speed, in FLOP/s. A utilization is a share of what the machine could do.

    Divide by the peak. Which one?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, peak=lambda p, f: 1.0)


@exercise.wrong("train-it")
def time_multiplied(seconds, flops, warmup, peaks, number_format):
    """The FLOPs are multiplied by the time. A speed is work *divided* by time.

    If a step takes twice as long, is the speed half or double?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=lambda kept: 1 / statistics.median(kept))


@exercise.wrong("train-it")
def work_of_all_steps(seconds, flops, warmup, peaks, number_format):
    """The FLOPs of all steps are divided by the time of one. `flops` is the work of one step.

    How many steps lie in one interval?
    """
    n = len(seconds) - warmup
    return n * share((seconds, flops, warmup, peaks, number_format))


@exercise.also(work_of_all_steps)
def work_of_all_steps_and_the_warm_up(seconds, flops, warmup, peaks, number_format):
    n = len(seconds)
    return n * share((seconds, flops, warmup, peaks, number_format))


@exercise.wrong("train-it")
def work_of_one_in_the_time_of_all(seconds, flops, warmup, peaks, number_format):
    """The FLOPs of one step are divided by the time of all steps together.

    How many steps were made in that time, and how much work is that?
    """
    args = seconds, flops, warmup, peaks, number_format
    return share(args, middle=sum)


@exercise.wrong("train-it")
def three_times_the_work(seconds, flops, warmup, peaks, number_format):
    """The FLOPs are multiplied by 3 for the backward pass. `flops` is the work of a whole step: it is
    in there.

    Read the table again: what does `flops` count?
    """
    return 3 * share((seconds, flops, warmup, peaks, number_format))


@exercise.caught_as("modified-input")
def warm_up_taken_out(seconds, flops, warmup, peaks, number_format):
    del seconds[:warmup]
    return share((seconds, flops, 0, peaks, number_format))


@exercise.caught_as("modified-input")
def sorted_in_place(seconds, flops, warmup, peaks, number_format):
    value = share((seconds, flops, warmup, peaks, number_format))
    seconds.sort()
    return value


@exercise.caught_as("returned-none")
def printed(seconds, flops, warmup, peaks, number_format):
    print(share((seconds, flops, warmup, peaks, number_format)))


@exercise.caught_as("wrong-type")
def as_text(seconds, flops, warmup, peaks, number_format):
    return f"{share((seconds, flops, warmup, peaks, number_format)):.1%}"


@exercise.caught_as("raised")
def format_not_known(seconds, flops, warmup, peaks, number_format):
    return share((seconds, flops, warmup, peaks, "tf32"))


@exercise.caught_as("wrong-shape")
def one_for_each_interval(seconds, flops, warmup, peaks, number_format):
    return flops / torch.tensor([*seconds, 1.0]) / peaks[number_format]
