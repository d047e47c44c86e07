"""10.1: one step of AdamW, by hand."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="10_training",
    id="10.1",
    title="One step of AdamW",
    kind="implement",
    points=3,
    minutes=11,
    anchor="by-hand",
    rules=(
        forbid(
            "AdamW Adam NAdam RAdam adamw adam _single_tensor_adamw _single_tensor_adam "
            "_fused_adamw_ _fused_adam_",
            "The library's optimizer is what you are building. `sqrt` and arithmetic are "
            "all you need.",
        ),
    ),
    hints="""
    Two running means are kept for each weight: of its gradients and of their squares. Both
    begin at 0. What is wrong with them after the first step, and by which factor?

    m = b1 * m + (1 - b1) * grad, and v likewise with b2 and grad squared. After t steps they
    are too small by 1 - b1 to the t and 1 - b2 to the t. The step is lr times the corrected m,
    divided by the root of the corrected v plus eps.

    new m; new v; m_hat = m / (1 - b1 ** t); v_hat = v / (1 - b2 ** t);
    p = p - lr * weight_decay * p; p = p - lr * m_hat / (sqrt(v_hat) + eps). Give back p, m and
    v, not m_hat and v_hat.
    """,
)


@exercise.oracle
def adamw_step(p, grad, m, v, t, lr, betas, eps, weight_decay):
    b1, b2 = betas
    new = [], [], []
    for w, g, first, second in zip(*(x.flatten().tolist() for x in (p, grad, m, v))):
        first = b1 * first + (1 - b1) * g
        second = b2 * second + (1 - b2) * g * g
        w -= lr * weight_decay * w
        w -= lr * (first / (1 - b1**t)) / (math.sqrt(second / (1 - b2**t)) + eps)
        for kept, x in zip(new, (w, first, second)):
            kept.append(x)
    return tuple(torch.tensor(kept, dtype=p.dtype).view(p.shape) for kept in new)


def random_case(shape, t, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    p, grad, m, v = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    return p.to(dtype), grad.to(dtype), m.to(dtype), (v * v).to(dtype), t


def tensors(*numbers):
    return tuple(torch.tensor(x, dtype=torch.float64) for x in numbers)


@exercise.cases
def cases():
    usual = (0.9, 0.99), 0.5, 0.5
    yield Case((*tensors([1.0], [2.0], [0.0], [0.0]), 1, 0.1, *usual))
    yield Case((*tensors([1.0], [2.0], [0.2], [0.04]), 2, 0.1, *usual))
    yield Case((*tensors([1.0], [2.0], [0.2], [0.04]), 2, 0.1, (0.9, 0.99), 0.5, 0.0))
    yield Case((*tensors([4.0], [0.0], [0.0], [0.0]), 1, 0.25, (0.5, 0.75), 0.5, 0.5))
    yield Case((*tensors([1.0], [-3.0], [1.0], [2.0]), 3, 0.5, (0.5, 0.75), 0.25, 0.1))
    both = tensors([0.0, 1.0], [3e-8, 3e4], [0.0, 0.0], [0.0, 0.0])
    yield Case((*both, 1, 0.01, (0.9, 0.999), 1e-8, 0.0), "tiny and huge gradients")
    yield Case((*tensors([2.0], [0.0], [1.0], [4.0]), 9, 1.0, (0.0, 0.5), 0.5, 0.25))
    for seed, (shape, t) in enumerate([((5,), 1), ((2, 3), 4), ((4, 3, 2), 250)]):
        own = 0.03 * (seed + 1), (0.9, 0.95), 1e-2, 0.1 * seed + 0.1
        yield Case((*random_case(shape, t, seed), *own))
        yield Case((*random_case(shape, t, seed, torch.float32), *own), "float32")
    p, grad, m, v, t = random_case((4, 6), 7, 5)
    own = 0.1, (0.8, 0.9), 1e-3, 0.2
    yield Case(
        (p[:, ::2], grad[:, ::2], m.T[:3].T, v[:, 1::2], t, *own), NON_CONTIGUOUS
    )
    yield Case((p[::2].T, grad[1::2].T, m[::2].T, v[::2].T, t, *own), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def with_lerp_and_addcmul(p, grad, m, v, t, lr, betas, eps, weight_decay):
    b1, b2 = betas
    m = torch.lerp(m, grad, 1 - b1)
    v = (b2 * v).addcmul(grad, grad, value=1 - b2)
    root = (v.sqrt() / math.sqrt(1 - b2**t)).add(eps)
    return (p * (1 - lr * weight_decay)).addcdiv(m, root, value=-lr / (1 - b1**t)), m, v


@exercise.right
def corrections_in_the_rate(p, grad, m, v, t, lr, betas, eps, weight_decay):
    b1, b2 = betas
    m = m + (1 - b1) * (grad - m)
    v = v + (1 - b2) * (grad.square() - v)
    root = (1 - b2**t) ** 0.5
    rate = lr * root / (1 - b1**t)
    return p - lr * weight_decay * p - rate * m / (v**0.5 + eps * root), m, v


@exercise.right
def in_place_on_copies(p, grad, m, v, t, lr, betas, eps, weight_decay):
    p, m, v = p.clone(), m.clone(), v.clone()
    m.mul_(betas[0]).add_(grad, alpha=1 - betas[0])
    v.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    p.mul_(1 - lr * weight_decay)
    p -= lr * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)
    return [p, m, v]


@exercise.right
def decay_and_step_in_one(p, grad, m, v, t, lr, betas, eps, weight_decay):
    m, v = (b * x + (1 - b) * g for b, x, g in zip(betas, (m, v), (grad, grad * grad)))
    m_hat, v_hat = (x / (1 - b**t) for b, x in zip(betas, (m, v)))
    return p - lr * (m_hat / (v_hat.sqrt() + eps) + weight_decay * p), m, v


# --- wrong, each with the misconception behind it -------------------------------------


def step(
    *args,
    moments=lambda m, v, grad, b1, b2: (
        b1 * m + (1 - b1) * grad,
        b2 * v + (1 - b2) * grad * grad,
    ),
    correct=lambda m, v, b1, b2, t: (m / (1 - b1**t), v / (1 - b2**t)),
    divide=lambda m, v, eps: m / (v.sqrt() + eps),
    decayed=lambda p, lr, decay: p - lr * decay * p,
    keeps=lambda p, m, v, m_hat, v_hat: (p, m, v),
):
    """AdamW of which one part at a time is replaced."""
    p, grad, m, v, t, lr, (b1, b2), eps, decay = args
    m, v = moments(m, v, grad, b1, b2)
    m_hat, v_hat = correct(m, v, b1, b2, t)
    p = decayed(p, lr, decay) - lr * divide(m_hat, v_hat, eps)
    return keeps(p, m, v, m_hat, v_hat)


@exercise.wrong("by-hand")
def not_corrected(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The two means are used as they are. They began at 0 and have seen few gradients, so both
    are too small at first, and not by the same factor.

    After the first step m is 0.1 times the gradient. By what must it be divided to be the
    gradient itself?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=lambda m, v, *_: (m, v))


@exercise.also(not_corrected)
def not_corrected_and_no_decay(p, grad, m, v, t, lr, betas, eps, weight_decay):
    args = p, grad, m, v, t, lr, betas, eps, 0.0
    return step(*args, correct=lambda m, v, *_: (m, v))


@exercise.wrong("by-hand")
def only_one_mean_corrected(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """One of the two means is corrected for its start at 0 and the other is not.

    Both began at 0, and both are divided by 1 minus their own beta to the t. Which one is
    still as it was?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=lambda m, v, b1, b2, t: (m / (1 - b1**t), v))


@exercise.also(only_one_mean_corrected)
def only_the_squares_corrected(p, grad, m, v, t, lr, betas, eps, weight_decay):
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=lambda m, v, b1, b2, t: (m, v / (1 - b2**t)))


@exercise.wrong("by-hand")
def correction_of_the_first_step_forever(
    p, grad, m, v, t, lr, betas, eps, weight_decay
):
    """The means are always divided by 1 - beta, as in the first step. Later they have seen more
    gradients and are hardly too small any more.

    The 0 at the start has the weight beta to the t. What is it after 1 step, and after 100?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=lambda m, v, b1, b2, t: (m / (1 - b1), v / (1 - b2)))


def counted(off):
    return lambda m, v, b1, b2, t: (
        m / (1 - b1 ** (t + off)),
        v / (1 - b2 ** (t + off)),
    )


@exercise.wrong("by-hand")
def step_counted_wrongly(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The correction uses another power than t, so that it belongs to the step before or the
    step after.

    t is the number of this step, and the first one is 1. How many gradients have the new
    means seen?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=counted(1))


@exercise.also(step_counted_wrongly)
def step_counted_from_zero(p, grad, m, v, t, lr, betas, eps, weight_decay):
    return step(p, grad, m, v, t, lr, betas, eps, weight_decay, correct=counted(-1))


@exercise.wrong("by-hand")
def correction_multiplied(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The means are multiplied by 1 - beta to the t, which makes them smaller still.

    They are too small by just this factor. What undoes it?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(
        *args, correct=lambda m, v, b1, b2, t: (m * (1 - b1**t), v * (1 - b2**t))
    )


@exercise.wrong("by-hand")
def corrected_means_kept(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights are right, and the corrected means are handed on. In the next step they would
    be corrected a second time.

    The correction is for this step's use only. Which m and v does the next step start from?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, keeps=lambda p, m, v, m_hat, v_hat: (p, m_hat, v_hat))


@exercise.wrong("by-hand")
def old_means_kept(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights are right, and the means that are given back are the old ones: nothing is
    remembered of this gradient.

    What must the next step know about this one?
    """
    new, _, _ = adamw_step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    return new, m, v


@exercise.wrong("by-hand")
def decay_in_the_gradient(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The decay is added to the gradient, and so it goes through both means. That is Adam with
    an L2 penalty: weights with large gradients hardly decay.

    The W in AdamW says that the decay acts on the weights alone. Where does it belong?
    """
    args = p, grad + weight_decay * p, m, v, t, lr, betas, eps, 0.0
    return step(*args)


@exercise.also(decay_in_the_gradient)
def decay_in_the_gradient_not_corrected(p, grad, m, v, t, lr, betas, eps, weight_decay):
    args = p, grad + weight_decay * p, m, v, t, lr, betas, eps, 0.0
    return step(*args, correct=lambda m, v, *_: (m, v))


@exercise.wrong("by-hand")
def decay_without_the_rate(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights decay by the whole `weight_decay` in each step, whatever the learning rate is.

    The schedule should slow down the decay together with the step. What is it multiplied
    by?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, decayed=lambda p, lr, decay: p - decay * p)


@exercise.wrong("by-hand")
def decay_forgotten(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights do not decay: this is Adam, as if `weight_decay` were 0.

    Even with a gradient of 0 a weight should shrink a little. By how much?
    """
    return step(p, grad, m, v, t, lr, betas, eps, 0.0)


@exercise.wrong("by-hand")
def decay_makes_larger(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The decay has the wrong sign: weights grow away from 0.

    With a gradient of 0, is a weight of 4 larger or smaller after the step?
    """
    return step(p, grad, m, v, t, lr, betas, eps, -weight_decay)


@exercise.wrong("by-hand")
def decay_after_the_step(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The decay is taken from the weights that have already moved. It is meant for the weights
    as they came in.

    The difference is small, lr times lr. Which p stands in `lr * weight_decay * p`?
    """
    new, m, v = step(p, grad, m, v, t, lr, betas, eps, 0.0)
    return new - lr * weight_decay * new, m, v


@exercise.wrong("by-hand")
def eps_inside_the_root(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """`eps` is added under the root. There it counts as its own root, which for 1e-8 is ten
    thousand times as much.

    It is there so that nobody divides by 0. Is it added before or after `sqrt`?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / (v + eps).sqrt())


@exercise.wrong("by-hand")
def eps_before_the_correction(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """`eps` is added to the root of v before v is corrected, so in the first steps it counts
    for more than it should.

    First correct v, then take the root, then add `eps`. In which order does your line do it?
    """
    b1, b2 = betas
    m = b1 * m + (1 - b1) * grad
    v = b2 * v + (1 - b2) * grad * grad
    root = (v.sqrt() + eps) / math.sqrt(1 - b2**t)
    return p - lr * weight_decay * p - lr * m / (1 - b1**t) / root, m, v


@exercise.wrong("by-hand")
def eps_left_out(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """`eps` is not used. A weight whose gradient was always 0 gives 0 / 0, which is nan.

    What stands below the line of the fraction then, and what keeps it from being 0?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / v.sqrt())


@exercise.wrong("by-hand")
def no_root(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The step is divided by v itself. v is a mean of squares: a gradient ten times as large
    would make the step ten times as small.

    What brings a mean of squares back to the size of a gradient?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / (v + eps))


@exercise.wrong("by-hand")
def gradient_instead_of_its_mean(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The step follows this step's gradient; m is kept and never used.

    A single batch is noisy. What does AdamW take for the direction instead of its gradient?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, correct=lambda m, v, b1, b2, t: (grad, v / (1 - b2**t)))


@exercise.wrong("by-hand")
def old_means_used(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights move by the means from *before* this gradient came in; the new ones are only
    handed on.

    In the first step the old means are 0. How far should the weight go then?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    old = m, v

    def correct(m, v, b1, b2, t):
        return old[0] / (1 - b1**t), old[1] / (1 - b2**t)

    return step(*args, correct=correct)


@exercise.wrong("by-hand")
def betas_swapped(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The two betas are swapped, or m and v are kept with each other's: the first one belongs to
    the gradients and the second one to their squares.

    The squares need the longer memory. Which of the two betas is larger?
    """
    return step(p, grad, m, v, t, lr, betas[::-1], eps, weight_decay)


@exercise.wrong("by-hand")
def beta_and_its_rest_swapped(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The new gradient gets the weight beta and the old mean only 1 - beta: hardly anything is
    remembered.

    With a beta of 0.9, how much of the old mean should stay?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(
        *args,
        moments=lambda m, v, grad, b1, b2: (
            (1 - b1) * m + b1 * grad,
            (1 - b2) * v + b2 * grad * grad,
        ),
    )


@exercise.wrong("by-hand")
def gradients_added_whole(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The new gradient is added whole, without the factor 1 - beta: these are sums, ten or a
    thousand times as large as a mean.

    Of a mean the shares add up to 1. The old one has the share beta; what is left?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(
        *args,
        moments=lambda m, v, grad, b1, b2: (b1 * m + grad, b2 * v + grad * grad),
    )


@exercise.wrong("by-hand")
def squares_of_the_mean(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """v is made of m squared, and not of this step's gradient squared. Where gradients change
    their sign, m is near 0, and the step would become huge.

    v says how large the gradients are, whatever their sign. What has to be squared?
    """

    def moments(m, v, grad, b1, b2):
        m = b1 * m + (1 - b1) * grad
        return m, b2 * v + (1 - b2) * m * m

    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, moments=moments)


@exercise.wrong("by-hand")
def gradient_not_squared(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """v is a mean of the gradients themselves, or of their sizes. It has to be one of their
    squares: the root comes later.

    A gradient of 2 in the first step, with 0.99: is v 0.02 or 0.04?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(
        *args,
        moments=lambda m, v, grad, b1, b2: (
            b1 * m + (1 - b1) * grad,
            b2 * v + (1 - b2) * grad,
        ),
    )


@exercise.also(gradient_not_squared)
def size_of_the_gradient(p, grad, m, v, t, lr, betas, eps, weight_decay):
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(
        *args,
        moments=lambda m, v, grad, b1, b2: (
            b1 * m + (1 - b1) * grad,
            b2 * v + (1 - b2) * grad.abs(),
        ),
    )


@exercise.wrong("by-hand")
def uphill(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The step goes the wrong way: the loss would grow.

    The gradient points to where the loss grows. Is the step added or taken away?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: -m / (v.sqrt() + eps))


@exercise.wrong("by-hand")
def rate_forgotten(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The learning rate is missing in front of the step; every weight moves by about 1.

    Corrected m divided by the root of v is about 1 in size. What makes a small step of it?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / (v.sqrt() + eps) / lr)


@exercise.wrong("by-hand")
def plain_gradient_descent(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The weights go lr times their gradient: that is plain gradient descent. The two means are
    kept and do nothing.

    A gradient of 30,000 and one of 0.00000003 are in one tensor. How far does AdamW move each?
    """
    _, m, v = step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    return p - lr * weight_decay * p - lr * grad, m, v


@exercise.wrong("by-hand")
def results_in_another_order(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """The three results are right and stand in another order.

    The weights come first, then the mean of the gradients, then that of the squares. What is
    your `return`?
    """
    p, m, v = step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    return m, v, p


@exercise.also(results_in_another_order)
def means_swapped_in_the_result(p, grad, m, v, t, lr, betas, eps, weight_decay):
    p, m, v = step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    return p, v, m


@exercise.wrong("by-hand")
def one_root_for_the_whole_tensor(p, grad, m, v, t, lr, betas, eps, weight_decay):
    """All weights are divided by one number, the root of the mean (or of the sum) of v over the
    whole tensor. AdamW divides each weight by its own.

    One weight has gradients a million times those of another. Should they share a step size?
    """
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / (v.mean().sqrt() + eps))


@exercise.also(one_root_for_the_whole_tensor)
def one_norm_for_the_whole_tensor(p, grad, m, v, t, lr, betas, eps, weight_decay):
    args = p, grad, m, v, t, lr, betas, eps, weight_decay
    return step(*args, divide=lambda m, v, eps: m / (v.sum().sqrt() + eps))


@exercise.caught_as("modified-input")
def means_written_in_place(p, grad, m, v, t, lr, betas, eps, weight_decay):
    m *= betas[0]
    m += (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad * grad
    root = (v / (1 - betas[1] ** t)).sqrt() + eps
    return p - lr * weight_decay * p - lr * m / (1 - betas[0] ** t) / root, m, v


@exercise.caught_as("wrong-type")
def only_the_weights(p, grad, m, v, t, lr, betas, eps, weight_decay):
    return step(p, grad, m, v, t, lr, betas, eps, weight_decay)[0]


@exercise.caught_as("returned-none")
def nothing_returned(p, grad, m, v, t, lr, betas, eps, weight_decay):
    step(p, grad, m, v, t, lr, betas, eps, weight_decay)


@exercise.caught_as("wrong-dtype")
def always_float32(p, grad, m, v, t, lr, betas, eps, weight_decay):
    return tuple(
        x.float() for x in step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    )


@exercise.caught_as("wrong-shape")
def flattened(p, grad, m, v, t, lr, betas, eps, weight_decay):
    return tuple(
        x.flatten() for x in step(p, grad, m, v, t, lr, betas, eps, weight_decay)
    )


@exercise.caught_as("raised")
def root_of_a_number(p, grad, m, v, t, lr, betas, eps, weight_decay):
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    root = math.sqrt(v / (1 - betas[1] ** t)) + eps
    return p - lr * weight_decay * p - lr * m / (1 - betas[0] ** t) / root, m, v


@exercise.caught_as("forbidden-call")
def by_the_library(p, grad, m, v, t, lr, betas, eps, weight_decay):
    w = torch.nn.Parameter(p.clone())
    w.grad = grad.clone()
    optimizer = torch.optim.AdamW(
        [w], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay
    )
    count = torch.tensor(float(t - 1))
    state = {"step": count, "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.state[w] = state
    optimizer.step()
    return w.detach(), state["exp_avg"], state["exp_avg_sq"]
