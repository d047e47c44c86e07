"""14.2: what a loss scaler does with the gradients of one step."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="14_mixed_precision",
    id="14.2",
    title="A step of the loss scaler",
    kind="implement",
    points=3,
    minutes=10,
    anchor="the-module",
    rules=(
        forbid(
            "GradScaler LossScaler _amp_foreach_non_finite_check_and_unscale_ "
            "_amp_update_scale_",
            "The scaler is what you are building. `isfinite`, a division and an `if` are "
            "enough.",
        ),
    ),
    hints="""
    Before anything else: can these gradients be used at all? One bad number is enough
    to spoil the step. Who must not move then, and what should be different the next
    time?

    If all numbers of both gradients are finite: w = w - lr * grad / factor, and the row
    of good steps is one longer. When it has reached `interval`, the factor doubles and
    the row begins anew. If not: the weights stay, the factor halves, the row begins
    anew.

    If isfinite(...).all() fails for one of the two: return weight, bias, factor / 2, 0.
    Else the step, with the gradients as float32 or better *before* they are divided;
    good_steps += 1; if good_steps == interval: factor, good_steps = 2 * factor, 0;
    return all four.
    """,
)


@exercise.oracle
def scaler_step(weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval):
    def moved(w, grad):
        pairs = zip(w.flatten().tolist(), grad.flatten().tolist())
        numbers = [x - lr * g / factor for x, g in pairs]
        return torch.tensor(numbers, dtype=w.dtype).view(w.shape)

    every = [*weight_grad.flatten().tolist(), *bias_grad.flatten().tolist()]
    if not all(math.isfinite(g) for g in every):
        return weight.clone(), bias.clone(), factor / 2, 0
    new = moved(weight, weight_grad), moved(bias, bias_grad)
    if good_steps + 1 == interval:
        return *new, factor * 2, 0
    return *new, factor, good_steps + 1


def vectors(*rows, dtype=torch.float32):
    return tuple(torch.tensor(row, dtype=dtype) for row in rows)


def random_case(shape, seed, dtype=torch.float64, factor=64.0):
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    w, b = numbers(*shape), numbers(shape[-1])
    return w, b, factor * numbers(*shape), factor * numbers(shape[-1]), factor


INF, NAN = math.inf, math.nan


@exercise.cases
def cases():
    def case(w, b, w_grad, b_grad, *rest, trait=""):
        return Case((*vectors(w, b, w_grad, b_grad), *rest), trait)

    yield case([1.0], [2.0], [8.0], [4.0], 4.0, 0, 0.5, 3)
    yield case([1.0], [2.0], [8.0], [4.0], 4.0, 1, 0.5, 3)
    yield case([1.0], [2.0], [8.0], [4.0], 4.0, 2, 0.5, 3, trait="the row is full")
    yield case([1.0], [2.0], [INF], [4.0], 4.0, 0, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [8.0], [INF], 4.0, 0, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [INF], [4.0], 4.0, 2, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [INF], [INF], 4.0, 0, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [-INF], [4.0], 4.0, 1, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [INF], [4.0], 1.0, 1, 0.5, 3, trait="overflow")
    yield case([1.0], [2.0], [1e5], [4.0], 1024.0, 1, 0.01, 3, trait="large numbers")
    yield case([1.0], [2.0], [NAN], [4.0], 4.0, 1, 0.5, 3, trait="nan")
    yield case([1.0], [2.0], [8.0], [NAN], 4.0, 1, 0.5, 3, trait="nan")
    two = [1.0, 2.0], [2.0]
    yield case(*two, [8.0, INF], [4.0], 8.0, 1, 1.0, 2, trait="overflow")
    yield case(*two, [-3.0, 0.0], [4.0], 2.0, 0, 1.0, 1)
    yield case([1.0], [2.0], [0.75], [-0.5], 0.25, 4, 0.125, 5)
    yield case([3.0], [2.0], [0.0], [0.0], 0.5, 6, 2.0, 9, trait="gradients of 0")
    half = torch.float16
    small = *vectors([0.0, 1.0], [0.0]), *vectors([0.001, 0.5], [0.25], dtype=half)
    yield Case((*small, 2.0**16, 0, 3 * 2.0**18, 3), "float16 gradients")
    many, inf = torch.full((4,), 4e4, dtype=half), torch.tensor([INF], dtype=half)
    large = torch.zeros(4), torch.ones(1), many, many[:1]
    yield Case((*large, 1024.0, 0, 0.125, 3), "float16 gradients")
    yield Case((*vectors([1.0], [2.0]), many[:1], inf, 4.0, 1, 0.1, 2), "overflow")
    for seed, shape in enumerate([(4,), (2, 3), (3, 2, 4)]):
        rest = 4 + seed, 0.3, 5 + 2 * seed
        yield Case((*random_case(shape, seed), *rest))
        yield Case((*random_case(shape, seed, torch.float32), *rest), "float32")
    w, b, wg, bg, factor = random_case((4, 6), 5)
    strided = w[:, ::2], b[::2], wg[:, 1::2], bg[::2]
    yield Case((*strided, factor, 1, 0.1, 2), NON_CONTIGUOUS)
    yield Case((w.T, b, wg.T, bg, factor, 0, 0.1, 2), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def unscaled_first(
    weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval
):
    grads = [
        g.to(w.dtype) / factor for w, g in ((weight, weight_grad), (bias, bias_grad))
    ]
    if any((~g.isfinite()).any() for g in grads):
        return [weight, bias, factor * 0.5, 0]
    good_steps = (good_steps + 1) % interval
    new = [torch.add(w, g, alpha=-lr) for w, g in zip((weight, bias), grads)]
    return [*new, factor * (1 if good_steps else 2), good_steps]


@exercise.right
def by_the_largest_size(
    weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval
):
    largest = max(g.abs().max().item() for g in (weight_grad, bias_grad))
    total = weight_grad.double().sum() + bias_grad.double().sum()
    if not largest < math.inf or torch.isnan(total):
        return weight.clone(), bias.clone(), factor / 2.0, 0
    if good_steps == interval - 1:
        after = 2 * factor, 0
    else:
        after = factor, good_steps + 1
    weight = (weight.double() - lr / factor * weight_grad.double()).to(weight.dtype)
    bias = (bias.double() - lr / factor * bias_grad.double()).to(bias.dtype)
    return weight, bias, *after


@exercise.right
def with_copies_and_an_optimizer(
    weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval
):
    params = [torch.nn.Parameter(p.clone()) for p in (weight, bias)]
    for p, g in zip(params, (weight_grad, bias_grad)):
        p.grad = g.clone().to(p.dtype).mul_(1 / factor)
    ok = all(torch.isfinite(p.grad).all() for p in params)
    if ok:
        torch.optim.SGD(params, lr=lr).step()
        good_steps += 1
    else:
        factor, good_steps = factor * 0.5, 0
    if ok and good_steps >= interval:
        factor, good_steps = factor * 2.0, 0
    return params[0].detach(), params[1].detach(), factor, good_steps


# --- wrong, each with the misconception behind it -------------------------------------


def finite(*grads):
    return all(bool(g.isfinite().all()) for g in grads)


def step(
    args,
    usable=finite,
    move=lambda w, g, factor, lr: w - lr * g.to(w.dtype) / factor,
    skipped=lambda w, b, factor, good: (w, b, factor / 2, 0),
    counted=lambda factor, good, interval: (
        (2 * factor, 0) if good == interval else (factor, good)
    ),
):
    """The right answer, of which one part at a time is replaced."""
    w, b, wg, bg, factor, good, lr, interval = args
    w, b = w.clone(), b.clone()
    if not usable(wg, bg):
        return skipped(w, b, factor, good)
    new = move(w, wg, factor, lr), move(b, bg, factor, lr)
    return *new, *counted(factor, good + 1, interval)


def wrong(anchor="the-module", of=None, plain=False):
    """A wrong answer whose function takes all arguments as one; and, unless it is `plain`,
    the same with gradients that are divided while they are still float16.
    """

    def add(function):
        made = with_all_arguments(function)
        (exercise.also(of) if of else exercise.wrong(anchor))(made)
        if not plain:
            both = with_all_arguments(lambda args: function(as_if_divided(args)))
            both.__name__ = f"{function.__name__}_and_divided_in_float16"
            exercise.also(of or made)(both)
        return made

    return add


def as_if_divided(args):
    """The arguments with gradients as large as if float16 ones were divided too early."""
    w, b, *grads, factor, good, lr, interval = args
    wg, bg = ((g / factor).to(w.dtype) * factor for g in grads)
    return w, b, wg, bg, factor, good, lr, interval


def caught(id):
    def add(function):
        made = with_all_arguments(function)
        return exercise.caught_as(id)(made)

    return add


def with_all_arguments(function):
    def made(weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval):
        return function(
            (weight, bias, weight_grad, bias_grad, factor, good_steps, lr, interval)
        )

    made.__name__, made.__doc__ = function.__name__, function.__doc__
    return made


@wrong()
def never_skipped(args):
    """The step is made whatever the gradients are. One inf or nan goes into the
    weights, and from there into everything.

    What is 1 minus infinity? And what will the loss be after that?
    """
    return step(args, usable=lambda *grads: True)


@wrong()
def stepped_and_halved(args):
    """The factor is halved after an overflow, and yet the step is made: inf or nan goes
    into the weights.

    What should the weights be after a step whose gradients cannot be used?
    """
    w, b, wg, bg, factor, _, lr, _ = args
    if finite(wg, bg):
        return step(args)
    return *(x - lr * g / factor for x, g in ((w, wg), (b, bg))), factor / 2, 0


@wrong()
def nan_not_seen(args):
    """An infinite gradient is found, and nan is not. inf minus inf, inside the backward
    pass, makes nan.

    nan is not equal to anything and not larger than anything. Which test finds both?
    """
    return step(
        args, usable=lambda *grads: not any(bool(g.isinf().any()) for g in grads)
    )


@wrong()
def infinity_not_seen(args):
    """nan is found, and an infinite gradient is not. An overflow first makes inf; nan
    comes later, when infinities meet.

    Which one test finds both of them, on either side of 0?
    """
    return step(
        args, usable=lambda *grads: not any(bool(g.isnan().any()) for g in grads)
    )


@wrong()
def minus_infinity_not_seen(args):
    """+inf is found, and -inf is not. A gradient overflows on both sides.

    What comes before a comparison with infinity? Or which test needs no comparison?
    """
    return step(
        args,
        usable=lambda *grads: (
            not any(bool((g.isnan() | (g == INF)).any()) for g in grads)
        ),
    )


@wrong(of=minus_infinity_not_seen)
def only_plus_infinity_seen(args):
    return step(
        args, usable=lambda *grads: not any(bool((g == INF).any()) for g in grads)
    )


@wrong()
def only_the_weight_tested(args):
    """Only one of the two gradients is tested. An overflow in the other one goes into
    its weights.

    Which of the two may hold an inf without anybody noticing?
    """
    return step(args, usable=lambda wg, bg: finite(wg))


@wrong(of=only_the_weight_tested)
def only_the_bias_tested(args):
    return step(args, usable=lambda wg, bg: finite(bg))


@wrong()
def one_good_number_is_enough(args):
    """A gradient counts as usable when *some* number of it is finite. One bad number
    among a thousand good ones is enough to spoil the step.

    `any` or `all`: which of the two do you need?
    """
    return step(
        args, usable=lambda *grads: all(bool(g.isfinite().any()) for g in grads)
    )


@wrong(of=one_good_number_is_enough)
def one_good_gradient_is_enough(args):
    return step(args, usable=lambda wg, bg: finite(wg) or finite(bg))


@wrong()
def each_on_its_own(args):
    """Only the tensor with the bad number stays; the other one moves. A step is made by
    all weights together or by none.

    The overflow happened somewhere in the backward pass. Which of the gradients can
    still be trusted?
    """
    w, b, wg, bg, factor, _, lr, _ = args
    new = [
        x - lr * g.to(x.dtype) / factor if finite(g) else x
        for x, g in ((w, wg), (b, bg))
    ]
    return *new, *step(args)[2:]


@wrong()
def bad_numbers_made_zero(args):
    """Bad numbers become 0 and the step is made with the others. The step that remains
    points somewhere else.

    The whole step is left out instead. With half the factor the next one will most
    likely fit. What do the weights do in the meantime?
    """
    w, b, wg, bg, factor, good, lr, interval = args
    wg, bg = (torch.where(g.isfinite(), g, 0) for g in (wg, bg))
    clean = step((w, b, wg, bg, factor, good, lr, interval))
    return *clean[:2], *step(args)[2:]


@wrong()
def not_unscaled(args):
    """The weights move by the gradients of the *scaled* loss, so the step is `factor`
    times too large.

    The loss was multiplied by the factor before `backward`. What undoes that, and
    where?
    """
    return step(args, move=lambda w, g, factor, lr: w - lr * g.to(w.dtype))


@wrong()
def scaled_once_more(args):
    """The gradients are multiplied by the factor a second time.

    They belong to factor times the loss. How do you get those of the loss itself?
    """
    return step(args, move=lambda w, g, factor, lr: w - lr * g.to(w.dtype) * factor)


@wrong()
def divided_by_the_next_factor(args):
    """When the factor doubles, the gradients of this step are divided by the doubled
    one. They were made with the old one.

    Which comes first: to use the gradients, or to set the factor for the next step?
    """
    good, _, interval = args[5:]
    return step(
        args,
        move=lambda w, g, factor, lr: (
            w - lr * g.to(w.dtype) / (factor * (2 if good + 1 == interval else 1))
        ),
    )


@wrong(plain=True)
def divided_in_float16(args):
    """The gradients are divided while they are still float16, and small ones become 0:
    just what the factor was there to prevent.

    0.001 / 65536 is about 1.5e-8. Which is the smallest number of float16? In which
    format should the division be made?
    """
    return step(args, move=lambda w, g, factor, lr: w - lr * (g / factor))


@wrong(of=divided_in_float16, plain=True)
def divided_in_float16_after_the_rate(args):
    return step(args, move=lambda w, g, factor, lr: w - lr * g / factor)


@wrong(of=divided_in_float16, plain=True)
def divided_in_float16_and_then_widened(args):
    return step(args, move=lambda w, g, factor, lr: w - lr * (g / factor).to(w.dtype))


@wrong(of=divided_in_float16, plain=True)
def step_made_in_float16(args):
    return step(args, move=lambda w, g, factor, lr: w - (lr / factor) * g)


@wrong(plain=True)
def sum_tested(args):
    """The *sum* of the gradients is tested. Many large and finite float16 numbers add
    up to inf, and a good step is thrown away.

    40,000 is a number of float16, and four times that is none. Which numbers should be
    tested?
    """
    return step(
        args, usable=lambda *grads: all(math.isfinite(g.sum().item()) for g in grads)
    )


@wrong(of=sum_tested, plain=True)
def length_tested(args):
    return step(
        args, usable=lambda *grads: all(math.isfinite(g.norm().item()) for g in grads)
    )


@wrong()
def grows_after_each_good_step(args):
    """The factor doubles after every good step. It would overflow all the time.

    `interval` good steps in a row are asked for. What counts them?
    """
    return step(args, counted=lambda factor, good, interval: (2 * factor, 0))


@wrong(of=grows_after_each_good_step)
def grows_after_each_good_step_and_counts(args):
    return step(args, counted=lambda factor, good, interval: (2 * factor, good))


@wrong()
def never_grows(args):
    """The factor does not double when this step makes the row full. It never grows
    then, or one step too late.

    With `interval` = 3 and two good steps behind you, this good one is the third. Is it
    counted before the row is looked at?
    """
    return step(args, counted=lambda factor, good, interval: (factor, good))


@wrong(of=never_grows)
def never_grows_and_begins_anew(args):
    return step(
        args,
        counted=lambda factor, good, interval: (
            factor,
            0 if good == interval else good,
        ),
    )


@wrong()
def grows_one_step_early(args):
    """The factor doubles one step too early.

    With `interval` = 3 the row must have three good steps, this one included. How many
    has it when yours doubles?
    """

    def counted(factor, good, interval):
        return (2 * factor, 0) if good >= interval - 1 else (factor, good)

    return step(args, counted=counted)


@wrong()
def row_goes_on_after_growth(args):
    """The factor has doubled and the row of good steps goes on counting, so with `==`
    it never doubles again (and with `>=` in every step).

    After a change of the factor, how many good steps has the new one behind it?
    """
    return step(
        args,
        counted=lambda factor, good, interval: (
            factor * (2 if good == interval else 1),
            good,
        ),
    )


@wrong()
def row_begins_at_one(args):
    """After the factor has doubled the row begins at 1, as if this step counted for the
    new factor too.

    It was made with the old factor. How many good steps has the new one seen?
    """
    return step(
        args,
        counted=lambda factor, good, interval: (
            (2 * factor, 1) if good == interval else (factor, good)
        ),
    )


@wrong()
def row_goes_on_after_overflow(args):
    """After an overflow the row of good steps goes on where it was. The steps must be
    good *in a row*, with the same factor.

    Two good ones, an overflow, a good one: how long is the row?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor / 2, good))


@wrong()
def overflow_counted_as_a_step(args):
    """A step that was skipped is counted as a good one.

    What was good about it? After an overflow the row begins anew: at which number?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor / 2, good + 1))


@wrong(of=overflow_counted_as_a_step)
def row_begins_at_one_after_overflow(args):
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor / 2, 1))


@wrong()
def factor_stays_after_overflow(args):
    """The step is left out and the factor stays as it is. The next step will overflow
    again, and all that come after.

    The factor was too large. What should it be the next time?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor, 0))


@wrong(of=factor_stays_after_overflow)
def nothing_changes_after_overflow(args):
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor, good))


@wrong()
def factor_doubled_after_overflow(args):
    """After an overflow the factor is *doubled*: the gradients will be even larger.

    inf means too large. Which way must the factor go?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, 2 * factor, 0))


@wrong()
def factor_back_to_one(args):
    """After an overflow the factor is set to 1. Then small gradients become 0 again,
    until it has grown for a long time.

    How much smaller should it be after one overflow?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, 1.0, 0))


@wrong()
def uphill(args):
    """The weights go the wrong way: the loss would grow.

    The gradient points to where the loss grows. Is the step added or taken away?
    """
    return step(args, move=lambda w, g, factor, lr: w + lr * g.to(w.dtype) / factor)


@wrong()
def rate_forgotten(args):
    """The learning rate is not used: the weights move by the whole gradient.

    Plain gradient descent takes a small part of the gradient. Which part?
    """
    return step(args, move=lambda w, g, factor, lr: w - g.to(w.dtype) / factor)


@wrong()
def weights_not_moved(args):
    """Factor and row are right, and the weights stay where they were even in a good
    step.

    If all gradients are finite the step is made. What does plain gradient descent do
    with w?
    """
    return step(args, move=lambda w, g, factor, lr: w)


@wrong()
def only_one_of_the_two_moved(args):
    """One of the two tensors stays where it was in a good step.

    Both have a gradient. Which of them has no line of its own in your code?
    """
    w, _, *rest = step(args)
    return w, args[1], *rest


@wrong(of=only_one_of_the_two_moved)
def only_the_bias_moved(args):
    _, b, *rest = step(args)
    return args[0], b, *rest


@wrong()
def gradients_given_back(args):
    """What comes back are the unscaled gradients. Asked for are the weights after the
    step.

    The gradients are only used on the way. What do they do to the weights?
    """
    return step(args, move=lambda w, g, factor, lr: g.to(w.dtype) / factor)


@wrong()
def two_added_to_the_factor(args):
    """After a full row 2 is added to the factor. It should be twice what it was.

    2 more than 1,024 is no change at all. What is twice as much?
    """

    def counted(factor, good, interval):
        return (factor + 2, 0) if good == interval else (factor, good)

    return step(args, counted=counted)


@wrong()
def half_cut_to_a_whole_number(args):
    """Half of 1 is 0 in your code: `//` cuts off what stands behind the point. With a
    factor of 0 every gradient would be lost.

    The factor is any number above 0. Which division keeps the half?
    """
    return step(args, skipped=lambda w, b, factor, good: (w, b, factor // 2, 0))


@wrong()
def never_below_one(args):
    """Your factor does not go below 1. A loss can be so large that its gradients
    overflow as they are; then a factor of a half is what is needed.

    What should the factor be after an overflow with a factor of 1?
    """
    return step(
        args, skipped=lambda w, b, factor, good: (w, b, max(factor / 2, 1.0), 0)
    )


@wrong(plain=True)
def end_of_float16_tested(args):
    """A gradient above 65,504 counts as an overflow. That is the end of float16; these
    gradients are float32, and 100,000 is an ordinary number there.

    What does a number look like that has really overflowed?
    """
    return step(
        args,
        usable=lambda *grads: (
            finite(*grads) and max(g.abs().max() for g in grads) < 65505
        ),
    )


@wrong(of=end_of_float16_tested, plain=True)
def end_of_float16_tested_and_nan_not_seen(args):
    return step(
        args,
        usable=lambda *grads: not any(bool((g.abs() > 65504).any()) for g in grads),
    )


@wrong()
def no_step_when_the_row_is_full(args):
    """When the row is full the factor doubles, and the step is left out. It is a good
    step like the others.

    The factor is for the next step. What are this step's gradients good for?
    """
    moved = step(args)
    return (*args[:2], *moved[2:]) if moved[2] > args[4] else moved


@wrong(of=row_goes_on_after_growth)
def row_goes_on_always(args):
    return step(
        args,
        skipped=lambda w, b, factor, good: (w, b, factor / 2, good),
        counted=lambda factor, good, interval: (
            factor * (2 if good % interval == 0 else 1),
            good,
        ),
    )


@wrong(of=bad_numbers_made_zero)
def bad_numbers_made_zero_and_counted(args):
    w, b, wg, bg, *rest = args
    return step((w, b, *(torch.where(g.isfinite(), g, 0) for g in (wg, bg)), *rest))


def _and_never_grows(of, move):
    """The row is not looked at either: the message of what shows first."""

    def function(args):
        counted = lambda factor, good, interval: (factor, good)  # noqa: E731
        return step(args, move=move, counted=counted)

    function.__name__ = f"{of.__name__}_and_never_grows"
    wrong(of=of)(function)


_and_never_grows(not_unscaled, lambda w, g, factor, lr: w - lr * g.to(w.dtype))
_and_never_grows(
    scaled_once_more, lambda w, g, factor, lr: w - lr * g.to(w.dtype) * factor
)
_and_never_grows(uphill, lambda w, g, factor, lr: w + lr * g.to(w.dtype) / factor)
_and_never_grows(rate_forgotten, lambda w, g, factor, lr: w - g.to(w.dtype) / factor)
_and_never_grows(weights_not_moved, lambda w, g, factor, lr: w)


@caught("modified-input")
def moved_in_place(args):
    w, _, wg, bg, factor, _, lr, _ = args
    if finite(wg, bg):
        w -= lr * wg.to(w.dtype) / factor
    return w, step(args)[1], *step(args)[2:]


@caught("wrong-type")
def only_the_weights(args):
    return step(args)[:2]


@caught("wrong-type")
def factor_as_text(args):
    *new, factor, good = step(args)
    return *new, str(factor), good


@caught("returned-none")
def nothing_in_a_good_step(args):
    return None if finite(*args[2:4]) else step(args)


@caught("wrong-dtype")
def always_double(args):
    w, b, *rest = step(args)
    return w.double(), b.double(), *rest


@caught("raised")
def condition_of_many_numbers(args):
    if torch.isfinite(torch.cat([g.flatten() for g in args[2:4]])):
        return step(args)
    return args[0], args[1], args[4] / 2, 0


@caught("forbidden-call")
def by_the_package(args):
    from babygpt_course.precision import LossScaler

    w, b, wg, bg, factor, good, lr, interval = args
    scaler = LossScaler(factor, growth_interval=interval)
    scaler.good_steps = good
    params = [torch.nn.Parameter(x.clone()) for x in (w, b)]
    for p, g in zip(params, (wg, bg)):
        p.grad = g.clone().to(p.dtype)
    scaler.step(torch.optim.SGD(params, lr=lr))
    return *(p.detach() for p in params), scaler.factor, scaler.good_steps
