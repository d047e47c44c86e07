"""14.4: a training step in fp16 whose result depends on the factor of the loss."""

import math

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="14_mixed_precision",
    id="14.4",
    title="Bug hunt: the factor that should not matter",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="the-module",
    equivalent={
        "loss = F.mse_loss(y, pred.float())": "A squared difference is the same either "
        "way round.",
    },
    hints="""
    The factor goes in before `backward` and comes out after it. Whatever happens to the
    gradients between the two sees them `factor` times too large. What happens there?

    The gradients of the scaled loss are clipped to length `clip`, and then divided by
    the factor. How long are they after that, at most? And how long should they be
    allowed to be?

    Two statements are in the wrong order. First divide both gradients by the factor,
    then clip them.
    """,
)


def fp16(number):
    return torch.tensor(number, dtype=torch.float64).half().item()


@exercise.oracle
def train_step(weight, bias, x, y, factor, lr, clip):
    # In every case all sums are exact in fp16, so they may be taken in any order.
    rows, targets, n = x.tolist(), y.tolist(), len(y)
    w, b = [fp16(number) for number in weight.tolist()], fp16(bias.item())
    w_grad, b_grad = [0.0] * len(w), 0.0
    for row, target in zip(rows, targets):
        pred = fp16(sum(r * v for r, v in zip(row, w)) + b)
        slope = fp16(factor * 2 * (pred - target) / n)  # of a prediction
        w_grad = [g + slope * r for g, r in zip(w_grad, row)]
        b_grad += slope
    grads = [fp16(g) for g in [*w_grad, b_grad]]
    if not all(map(math.isfinite, grads)):
        return weight.clone(), bias.clone(), factor / 2
    grads = [g / factor for g in grads]
    share = min(1.0, clip / (math.hypot(*grads) + 1e-6))
    *moves, last = (lr * share * g for g in grads)
    return weight - torch.tensor(moves), bias - last, factor


def stepped(
    args,
    prepare,
    scaled=lambda loss, factor: loss * factor,
    usable=lambda w, b: bool(w.grad.isfinite().all() and b.grad.isfinite().all()),
    skipped=lambda weight, bias, factor: (weight.clone(), bias.clone(), factor / 2),
    lr=lambda lr, factor: lr,
):
    """The code of the exercise, of which one part at a time is replaced."""
    weight, bias, x, y, factor, rate, clip = args
    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    pred = x.half() @ w.half() + b.half()
    loss = F.mse_loss(pred.float(), y)
    scaled(loss, factor).backward()
    prepare(w, b, factor, clip)
    if not usable(w, b):
        return skipped(weight, bias, factor)
    rate = lr(rate, factor)
    return (w - rate * w.grad).detach(), (b - rate * b.grad).detach(), factor


def finite(*grads):
    return all(bool(g.isfinite().all()) for g in grads)


def divide(w, b, factor):
    w.grad /= factor
    b.grad /= factor


def takes_all(function, role):
    """Give a function of all arguments at once the signature of the exercise."""

    def made(weight, bias, x, y, factor, lr, clip):
        return function((weight, bias, x, y, factor, lr, clip))

    made.__name__, made.__doc__ = function.__name__, function.__doc__
    return role(made)


def given(function):
    return takes_all(function, exercise.given)


def right(function):
    return takes_all(function, exercise.right)


def wrong(anchor="the-module"):
    return lambda function: takes_all(function, exercise.wrong(anchor))


def also(of):
    return lambda function: takes_all(function, exercise.also(of))


def caught(id):
    return lambda function: takes_all(function, exercise.caught_as(id))


@given
def clipped_before_unscaled(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)
        divide(w, b, factor)

    return stepped(args, prepare)


def random_case(n, C, seed, factor, lr, clip):
    """Numbers on a coarse grid: everything that fp16 adds up is exact."""
    generator = torch.Generator().manual_seed(seed)

    def whole(high, *shape):
        return torch.randint(-high, high + 1, shape, generator=generator).float()

    x, y = whole(3, n, C), whole(8, n) / 4
    return whole(4, C) / 4, whole(4) / 4, x, y, factor, lr, clip


@exercise.cases
def cases():
    def case(w, b, x, y, factor, lr, clip, trait=""):
        tensors = (torch.tensor(t) for t in (w, b, x, y))
        return Case((*tensors, factor, lr, clip), trait)

    yield case([1.0], 0.0, [[3.0]], [1.0], 1.0, 0.5, 100.0, "a factor of 1")
    yield case([0.0], 0.0, [[3.0]], [-2.5], 1.0, 0.5, 1.0, "a factor of 1")
    yield case([1.0], 0.0, [[3.0]], [1.0], 2.0, 0.5, 100.0, "nothing to clip")
    yield case([1.0], 0.0, [[3.0]], [1.0], 8.0, 0.5, 100.0, "nothing to clip")
    yield case([1.0], 0.0, [[3.0]], [1.0], 8.0, 0.5, 13.0)
    yield case([0.0], 0.0, [[3.0]], [-2.0], 8.0, 0.5, 1.0)
    yield case([0.0], 0.0, [[3.0]], [-2.0], 64.0, 0.5, 4.0)
    yield case([1.0, -1.0], 0.5, [[1.0, 2.0], [0.0, 1.0]], [1.0, 0.5], 16.0, 0.1, 0.25)
    yield case([1.0], 0.5, [[0.0], [0.0]], [1.0, 0.0], 4.0, 0.5, 1.0, "gradients of 0")
    yield case([1.0], 0.0, [[3.0]], [1.0], 65536.0, 0.5, 1.0, "overflow")
    yield case([1.0], 0.0, [[0.0]], [1.0], 65536.0, 0.5, 1.0, "overflow")
    yield case([1.0], 0.0, [[-3.0]], [1.0], 16384.0, 0.5, 1.0, "overflow")
    yield case([1.0], 0.0, [[3.0]], [1.0], 8192.0, 0.5, 1.0, "overflow")
    two = [[1.0], [-0.5]], [-2.0, -3.5]
    yield case([1.0], 0.0, *two, 13312.0, 0.5, 1.0, "overflow")
    yield case(
        [0.0], 0.0, [[1024.0]], [2.0**-27], 2.0**16, 256.0, 1.0, "tiny gradients"
    )
    sizes = [(4, 3, 2.0**8, 1.0), (8, 2, 2.0**10, 50.0), (2, 5, 2.0**4, 0.1)]
    for seed, (n, C, factor, clip) in enumerate(sizes):
        yield Case(random_case(n, C, seed, factor, 0.1, clip))
        yield Case(random_case(n, C, seed + 10, 2 * factor, 0.25, clip / 4))
    w, b, x, y, *rest = random_case(8, 4, 7, 2.0**6, 0.1, 0.5)
    yield Case((w[::2], b, x[::2, ::2], y[::2], *rest), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@right
def divided_and_then_clipped(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@right
def limit_scaled_like_the_gradients(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip * factor)
        divide(w, b, factor)

    return stepped(args, prepare)


@right
def clipped_by_hand(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        length = (w.grad.square().sum() + b.grad**2).sqrt()
        if length > clip:
            for p in (w, b):
                p.grad = p.grad * (clip / length)

    return stepped(args, prepare)


@right
def clipped_after_the_test(args):
    """Divide, look for bad numbers, and clip only good ones."""
    weight, bias, x, y, factor, lr, clip = args
    params = [torch.nn.Parameter(p.clone()) for p in (weight, bias)]
    pred = torch.mv(x.half(), params[0].half()) + params[1].half()
    loss = (pred.float() - y).pow(2).mean()
    grads = torch.autograd.grad(factor * loss, params)
    grads = [g / factor for g in grads]
    if any(not g.isfinite().all() for g in grads):
        return weight, bias, factor / 2
    length = torch.cat([g.flatten() for g in grads]).norm()
    share = min(1.0, clip / length.item()) if length > 0 else 1.0
    return [p.detach() - lr * share * g for p, g in zip(params, grads)] + [factor]


# --- "fixes" that break something else ------------------------------------------------


@wrong()
def not_clipped(args):
    """The factor does not matter any more, and nothing is clipped: a single odd batch
    can throw the weights far away.

    Clipping was no fault. At which moment do the gradients have their true length?
    """
    return stepped(args, lambda w, b, factor, clip: divide(w, b, factor))


@wrong()
def not_unscaled(args):
    """The gradients are clipped and never divided by the factor. They belong to
    `factor` times the loss, and as they are so long, nearly all are cut down to the
    limit.

    How long is a step when the true gradient is tiny? Who divides?
    """

    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@also(not_unscaled)
def not_unscaled_and_limit_scaled(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip * factor)

    return stepped(args, prepare)


@also(not_unscaled)
def not_unscaled_and_limit_divided(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip / factor)

    return stepped(args, prepare)


@also(not_unscaled)
def rate_multiplied_by_the_factor(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)
        divide(w, b, factor)

    return stepped(args, prepare, lr=lambda lr, factor: lr * factor)


@wrong()
def neither_clipped_nor_unscaled(args):
    """The gradients are used as they come from `backward`: `factor` times too long, and
    not clipped.

    Two lines have something to do here. Which one comes first?
    """
    return stepped(args, lambda w, b, factor, clip: None)


@wrong()
def divided_twice(args):
    """The gradients are divided by the factor twice: once before clipping and once
    after. They are now far too small.

    The loss was multiplied once. How often must that be undone?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)
        divide(w, b, factor)

    return stepped(args, prepare)


@wrong()
def limit_divided_by_the_factor(args):
    """The limit goes the wrong way: it is divided by the factor, and so the gradients
    are cut down even more.

    The gradients are `factor` times too long. If they are clipped as they are, how long
    may they be?
    """

    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip / factor)
        divide(w, b, factor)

    return stepped(args, prepare)


@wrong()
def limit_scaled_and_order_changed(args):
    """The order is right now, and the limit is multiplied by the factor as well: nearly
    nothing is clipped any more.

    Either the gradients are divided first, or the limit grows with them. Which of the
    two have you done?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip * factor)

    return stepped(args, prepare)


@wrong()
def each_clipped_by_itself(args):
    """The order is right now, and each gradient is clipped on its own. So the direction
    of the step changes, and together they may be longer than `clip`.

    The given code clipped both together. Which list did it hand over?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w], clip)
        clip_grad_norm_([b], clip)

    return stepped(args, prepare)


@wrong()
def clipped_number_by_number(args):
    """Every number of the gradients is cut at `clip`. The given code shortened the
    gradient as a whole and kept its direction.

    What was wrong was when it was clipped, not how. Which function did that?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        torch.nn.utils.clip_grad_value_([w, b], clip)

    return stepped(args, prepare)


@wrong()
def always_made_as_long_as_the_limit(args):
    """The gradients are always given the length `clip`, also the short ones. Near the
    minimum the steps would never become small.

    A gradient that is shorter than the limit stays as it is. What does `min` do in that
    formula?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        length = (w.grad.square().sum() + b.grad**2).sqrt() + 1e-6
        w.grad *= clip / length
        b.grad *= clip / length

    return stepped(args, prepare)


@wrong()
def only_the_weight_clipped(args):
    """The bias is left out when the gradients are clipped. Their length is that of both
    together.

    The given code clipped a list of two. What is in yours?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w], clip)

    return stepped(args, prepare)


@wrong()
def only_the_weight_unscaled(args):
    """One of the two gradients is not divided by the factor before they are clipped; it
    is so long that hardly anything of the other one is left.

    Both come from the same scaled loss. Which of them has no line?
    """

    def prepare(w, b, factor, clip):
        w.grad /= factor
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@also(only_the_weight_unscaled)
def only_the_bias_unscaled(args):
    def prepare(w, b, factor, clip):
        b.grad /= factor
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@also(only_the_weight_unscaled)
def bias_unscaled_after_clipping(args):
    def prepare(w, b, factor, clip):
        w.grad /= factor
        clip_grad_norm_([w, b], clip)
        b.grad /= factor

    return stepped(args, prepare)


@also(only_the_weight_unscaled)
def weight_unscaled_after_clipping(args):
    def prepare(w, b, factor, clip):
        b.grad /= factor
        clip_grad_norm_([w, b], clip)
        w.grad /= factor

    return stepped(args, prepare)


@wrong("why-it-works")
def loss_not_scaled(args):
    """The factor is gone from the loss, so it cannot do any harm; nor any good. The
    gradients of the predictions are in fp16, and small ones become 0 again.

    The factor was there for a reason. What is 2^-26 in fp16, and what is it times 2^16?
    """

    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, scaled=lambda loss, factor: loss)


@wrong("why-it-works")
def scaled_and_unscaled_before_backward(args):
    """The loss is divided by the factor again before `backward`, so the gradients are
    made without it, and small ones become 0.

    Where do the gradients pass through fp16? The factor must still be there at that
    point.
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, scaled=lambda loss, factor: loss / factor)


@also(loss_not_scaled)
def loss_not_scaled_and_divided(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, scaled=lambda loss, factor: loss)


@also(loss_not_scaled)
def loss_not_scaled_clipped_and_divided(args):
    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)
        divide(w, b, factor)

    return stepped(args, prepare, scaled=lambda loss, factor: loss)


@wrong("why-it-works")
def all_in_fp32(args):
    """The products are made in another format now, fp32 or bf16, in which nothing
    overflows. Then the factor is of no use; in fp32 nothing is saved either.

    The task is a step with products in fp16. What was wrong with the gradients *after*
    backward?
    """
    weight, bias, x, y, factor, lr, clip = args
    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    (F.mse_loss(x @ w + b, y) * factor).backward()
    divide(w, b, factor)
    clip_grad_norm_([w, b], clip)
    return (w - lr * w.grad).detach(), (b - lr * b.grad).detach(), factor


def clipped_to(length, limit=lambda w, b, factor, clip: clip):
    """Divide, and clip by another length or to another limit."""

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        share = limit(w, b, factor, clip) / (length(w.grad, b.grad) + 1e-6)
        for p in (w, b):
            p.grad *= min(1.0, float(share))

    return prepare


def norm(*grads):
    return torch.cat([g.flatten() for g in grads]).norm()


@wrong()
def another_length(args):
    """The order is right now, and the length is another one. It is the root of the sum
    of all squares, of the weight's gradient and the bias's together.

    With the gradients (12) and 4, is the length 12, 16 or 12.65? Which did the given
    code take?
    """
    return stepped(args, clipped_to(lambda w, b: w.abs().sum() + b.abs()))


@also(another_length)
def length_of_the_weight_alone(args):
    return stepped(args, clipped_to(lambda w, b: w.norm()))


@also(another_length)
def sum_of_two_lengths(args):
    return stepped(args, clipped_to(lambda w, b: w.norm() + b.norm()))


@also(another_length)
def largest_number(args):
    return stepped(args, clipped_to(lambda w, b: torch.maximum(w.abs().max(), b.abs())))


@wrong()
def limit_of_its_own(args):
    """The order is right now, and `clip` has no effect: the gradients are clipped to
    another length.

    1.0 is what many programs take. Here the caller says how much. Where is `clip` used?
    """
    return stepped(args, clipped_to(norm, lambda *_: 1.0))


@also(limit_of_its_own)
def limit_is_the_factor(args):
    return stepped(args, clipped_to(norm, lambda w, b, factor, clip: factor))


@wrong()
def multiplied_by_the_factor(args):
    """The gradients are multiplied by the factor once more, before or after they are
    clipped. They already are `factor` times too long.

    What undoes a multiplication, and how often is it needed?
    """

    def prepare(w, b, factor, clip):
        clip_grad_norm_([w, b], clip)
        divide(w, b, 1 / factor)

    return stepped(args, prepare)


@also(multiplied_by_the_factor)
def multiplied_before_clipping(args):
    def prepare(w, b, factor, clip):
        divide(w, b, 1 / factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@also(divided_twice)
def divided_by_the_square(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor**2)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@wrong("the-module")
def only_one_gradient_tested(args):
    """Only one of the two gradients is tested for bad numbers any more. The given code
    tested both.

    What happens when the other one has overflowed?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        if finite(w.grad, b.grad):
            clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, usable=lambda w, b: finite(w.grad))


@also(only_one_gradient_tested)
def only_the_other_gradient_tested(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        if finite(w.grad, b.grad):
            clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, usable=lambda w, b: finite(b.grad))


@also(only_one_gradient_tested)
def only_one_gradient_tested_after_clipping(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, usable=lambda w, b: finite(w.grad))


@also(only_one_gradient_tested)
def only_the_other_gradient_tested_after_clipping(args):
    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, usable=lambda w, b: finite(b.grad))


@wrong("the-module")
def never_skipped(args):
    """A step with infinite gradients is made all the same. The given code left it out,
    and that was no fault.

    What is left of the weights after such a step?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, usable=lambda w, b: True)


@wrong("the-module")
def bad_gradients_made_zero(args):
    """Infinite gradients are replaced by numbers, and the step is made. The given code
    left it out and halved the factor.

    An overflow says that the factor is too large. Who hears that now?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        for p in (w, b):
            p.grad = torch.where(p.grad.isfinite(), p.grad, 0)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare)


@wrong("the-module")
def factor_stays_after_overflow(args):
    """The order is right, and the factor is not halved any more after an overflow. The
    next step will overflow too.

    The given code did halve it. What was there to change?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return stepped(args, prepare, skipped=lambda w, b, factor: (w, b, factor))


@wrong("the-module")
def factor_back_to_one(args):
    """The factor comes back as 1. The step itself is right, but the next one will have
    no factor.

    The factor belongs to the training run, and changes only after an overflow. How?
    """

    def prepare(w, b, factor, clip):
        divide(w, b, factor)
        clip_grad_norm_([w, b], clip)

    return *stepped(args, prepare)[:2], 1.0


@caught("modified-input")
def moved_in_place(args):
    new, *rest = divided_and_then_clipped(*args)
    args[0].copy_(new)
    return args[0], *rest


@caught("wrong-type")
def only_the_weights(args):
    return divided_and_then_clipped(*args)[:2]


@caught("wrong-dtype")
def weights_in_fp16(args):
    weight, bias, factor = divided_and_then_clipped(*args)
    return weight.half(), bias.half(), factor


@caught("returned-none")
def nothing_returned(args):
    divided_and_then_clipped(*args)


@caught("raised")
def gradient_of_a_copy(args):
    weight, bias, x, y, factor, lr, _ = args
    w = weight.clone().requires_grad_().half()
    (F.mse_loss((x.half() @ w).float(), y) * factor).backward()
    w.grad /= factor
    return weight - lr * w.grad, bias, factor


@caught("wrong-shape")
def bias_with_an_axis(args):
    weight, bias, factor = divided_and_then_clipped(*args)
    return weight, bias[None], factor
