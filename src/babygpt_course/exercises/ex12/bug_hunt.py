"""12.4: a frozen base that moves, although its gradient is zero."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="12_lora",
    id="12.4",
    title="Bug hunt: the adapter that fits nobody else",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="how-it-breaks",
    equivalent={
        name: "A squared difference is the same from either side."
        for name in (
            "F.mse_loss(y, x @ W.T + scale * x @ A.T @ B.T).backward()",
            "loss = F.mse_loss(y, x @ W.T + scale * x @ A.T @ B.T).item()",
        )
    }
    | {
        name: "The optimizer does not know W, so its gradient does not matter."
        for name in (
            "(dropped) W.grad = torch.zeros_like(W)",
            "W.grad = torch.ones_like(W)",
        )
    },
    hints="""
    The loss that is reported is that of three matrices. Two of them come back. What about the
    third: is it still what it was when training began?

    AdamW makes two moves in a step: one along the gradient's running means, and one toward zero,
    which needs no gradient at all. Which of the two does W make, and who told the optimizer
    about W?

    A weight that the optimizer does not know, it cannot move. Give it only what is trained.
    """,
)


@exercise.oracle
def tune(W, A, B, x, y, alpha, steps, lr, decay):
    w, xs, ys = W.tolist(), x.tolist(), y.tolist()
    a, b = A.tolist(), B.tolist()
    s, N, r = alpha / len(a), len(xs), len(a)
    n_out, n_in = len(w), len(w[0])
    outs, ins, ranks = range(n_out), range(n_in), range(r)
    means = {}

    def errors():
        low = [[sum(a[k][i] * row[i] for i in ins) for k in ranks] for row in xs]
        made = [
            [
                sum(w[o][i] * row[i] for i in ins)
                + s * sum(b[o][k] * few[k] for k in ranks)
                for o in outs
            ]
            for row, few in zip(xs, low)
        ]
        return low, [[p - t for p, t in zip(*rows)] for rows in zip(made, ys)]

    def moved(p, g, key, t):
        m, v = means.get(key, (0.0, 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        means[key] = m, v
        p = p * (1 - lr * decay)
        return p - lr * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)

    for t in range(1, steps + 1):
        low, error = errors()
        d = 2 / (N * n_out)
        up = [
            [d * s * sum(error[n][o] * low[n][k] for n in range(N)) for k in ranks]
            for o in outs
        ]
        back = [
            [sum(b[o][k] * error[n][o] for o in outs) for k in ranks] for n in range(N)
        ]
        down = [
            [d * s * sum(back[n][k] * xs[n][i] for n in range(N)) for i in ins]
            for k in ranks
        ]
        a = [[moved(a[k][i], down[k][i], ("a", k, i), t) for i in ins] for k in ranks]
        b = [[moved(b[o][k], up[o][k], ("b", o, k), t) for k in ranks] for o in outs]
    _, error = errors()
    loss = sum(e * e for row in error for e in row) / (N * n_out)
    return torch.tensor(a, dtype=W.dtype), torch.tensor(b, dtype=W.dtype), loss


def tuned(
    W,
    A,
    B,
    x,
    y,
    alpha,
    steps,
    lr,
    decay,
    make=None,
    trained="AB",
    after_backward=lambda W: None,
    after_step=lambda W, start: None,
    loss_of=None,
    clears=True,
    scale=None,
):
    """The code of the exercise, of which one part at a time is replaced."""
    start = W
    W, A, B = (nn.Parameter(p.detach().clone()) for p in (W, A, B))
    scale = alpha / len(A) if scale is None else scale
    named = {"W": W, "A": A, "B": B}
    if make is None:
        optimizer = torch.optim.AdamW(
            [named[n] for n in trained], lr, weight_decay=decay
        )
    else:
        optimizer = make(W, A, B)

    def mse(W):
        return F.mse_loss(x @ W.T + scale * x @ A.T @ B.T, y)

    for _ in range(steps):
        if clears:
            optimizer.zero_grad()
        mse(W).backward()
        after_backward(W)
        optimizer.step()
        after_step(W, start)
    return A.detach(), B.detach(), mse(W if loss_of is None else loss_of(start)).item()


def zeroed(W):
    W.grad = torch.zeros_like(W)


def set_back(W, start):
    W.data.copy_(start)


@exercise.given
def zero_gradient_is_taken_for_frozen(*args):
    return tuned(*args, trained="WAB", after_backward=zeroed)


def random_case(N, n_in, n_out, r, alpha, steps, lr, decay, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)

    W, A, B = normal(n_out, n_in), normal(r, n_in), normal(n_out, r)
    return W, A, B, normal(N, n_in), normal(N, n_out), alpha, steps, lr, decay


@exercise.cases
def cases():
    def numbers(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    one = numbers([2.0]), numbers([1.0]), numbers([0.5])
    yield Case((*one, numbers([1.0]), numbers([4.0]), 1, 1, 0.5, 0.5))
    yield Case((*one, numbers([1.0]), numbers([4.0]), 1, 0, 0.5, 0.5), "no step")
    yield Case((*one, numbers([1.0]), numbers([4.0]), 2, 2, 0.5, 0.0), "no decay")
    yield Case((*one, numbers([1.0], [2.0]), numbers([4.0], [9.0]), 2, 3, 0.25, 1.0))
    W, A, B = (
        numbers([1.0, 0.0], [0.0, 1.0]),
        numbers([1.0, 2.0]),
        numbers([0.0], [0.0]),
    )
    x, y = numbers([1.0, 2.0], [0.0, 1.0]), numbers([3.0, 1.0], [1.0, 1.0])
    yield Case((W, A, B, x, y, 2, 1, 0.1, 0.5), "B is still zero")
    yield Case((W, A, B, x, y, 2, 5, 0.1, 0.5), "B is still zero")
    sizes = [(5, 3, 4, 2, 6, 4, 0.1, 0.3), (4, 2, 3, 1, 2, 8, 0.03, 1.0)]
    sizes += [(6, 4, 2, 3, 1, 12, 0.02, 0.1)]
    for seed, size in enumerate(sizes):
        yield Case(random_case(*size, seed))
        yield Case(random_case(*size, seed, torch.float32), "float32")
    W, A, B, x, y, *rest = random_case(8, 3, 3, 3, 2, 3, 0.1, 0.2, 9)
    yield Case((W.T, A.T, B.T, x[::2], y[1::2], *rest), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def only_the_adapter_in_the_optimizer(*args):
    return tuned(*args, after_backward=zeroed)


@exercise.right
def no_gradient_instead_of_zero(*args):
    def forget(W):
        W.grad = None

    return tuned(*args, trained="WAB", after_backward=forget)


@exercise.right
def a_group_without_decay(W, A, B, x, y, alpha, steps, lr, decay):
    def make(W, A, B):
        groups = [
            {"params": [W], "weight_decay": 0.0},
            {"params": [A, B], "weight_decay": decay},
        ]
        return torch.optim.AdamW(groups, lr=lr)

    args = (W, A, B, x, y, alpha, steps, lr, decay)
    return tuned(*args, make=make, after_backward=zeroed)


@exercise.right
def base_set_back_after_each_step(*args):
    return tuned(*args, trained="WAB", after_backward=zeroed, after_step=set_back)


@exercise.right
def base_without_requires_grad(W, A, B, x, y, alpha, steps, lr, decay):
    A, B = (p.clone().requires_grad_() for p in (A, B))
    optimizer = torch.optim.AdamW((A, B), lr=lr, weight_decay=decay)
    target = y - x @ W.T
    for _ in range(steps):
        loss = ((alpha / A.shape[0] * x @ (B @ A).T - target) ** 2).mean()
        A.grad, B.grad = torch.autograd.grad(loss, [A, B])
        optimizer.step()
    merged = W + alpha / A.shape[0] * B @ A
    return A.detach(), B.detach(), F.mse_loss(x @ merged.T, y).item()


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("how-it-breaks")
def decay_switched_off(W, A, B, x, y, alpha, steps, lr, decay):
    """W stays where it is now, and A and B are no longer decayed either: the decay is off for
    everything.

    The optimizer should decay what it trains. How does it come to decay anything else?
    """
    return tuned(W, A, B, x, y, alpha, steps, lr, 0.0)


@exercise.wrong("how-it-breaks")
def decay_of_the_library(W, A, B, x, y, alpha, steps, lr, decay):
    """W stays where it is now, and A and B are decayed by another amount: without `weight_decay` AdamW takes a value
    of its own, 0.01.

    Which of the arguments of the given optimizer is missing in yours?
    """
    return tuned(W, A, B, x, y, alpha, steps, lr, 0.01)


@exercise.wrong("how-it-breaks")
def reported_with_the_old_base(*args):
    """The loss belongs to the base that A and B will be added to, which is half of the repair. But
    A and B were trained beside another W, one that shrank in every step.

    With which W must each of the losses in the loop be computed?
    """
    return tuned(
        *args, trained="WAB", after_backward=zeroed, loss_of=lambda start: start
    )


@exercise.wrong("how-it-breaks")
def base_trained_too(*args):
    """Now W is trained like A and B. It was not to move at all.

    The line about W's gradient was not the fault; it was not enough. What else moves a weight
    in AdamW?
    """
    return tuned(*args, trained="WAB")


@exercise.wrong("how-it-breaks")
def base_trained_and_its_old_self_judged(*args):
    """Now W is trained like A and B, and the loss at the end is computed with the W from before. A and
    B learned to correct a base that nobody will have.

    W must be the same in every step. Who may change it?
    """
    return tuned(*args, trained="WAB", loss_of=lambda start: start)


@exercise.wrong("how-it-breaks")
def everything_frozen(*args):
    """Nothing is trained any more: A and B come back as they went in.

    Which two of the three matrices should the optimizer know?
    """
    W, A, B, x, y, alpha, _, lr, decay = args
    return tuned(W, A, B, x, y, alpha, 0, lr, decay)


@exercise.wrong("how-it-breaks")
def only_b_trained(*args):
    """Only B is trained. A stays what it was at the start, and with it the few directions that the
    adapter can read.

    Which two of the three matrices should the optimizer know?
    """
    return tuned(*args, trained="B")


@exercise.wrong("how-it-breaks")
def only_a_trained(*args):
    """Only A is trained. When B begins at zero it stays zero, and the adapter never says anything.

    Which two of the three matrices should the optimizer know?
    """
    return tuned(*args, trained="A")


@exercise.wrong("how-it-breaks")
def gradients_pile_up(*args):
    """The base is frozen now, and the gradients of A and B are no longer emptied: every step adds its
    own to those of all steps before.

    `backward` adds to `.grad`. Who empties it?
    """
    return tuned(*args, after_backward=zeroed, clears=False)


@exercise.wrong("how-it-breaks")
def decay_in_the_gradient(W, A, B, x, y, alpha, steps, lr, decay):
    """This is Adam and no longer AdamW: the decay is added to the gradient of A and B, and then divided
    by its size.

    The kind of optimizer was right. What was wrong in the list of what it trains?
    """

    def make(W, A, B):
        return torch.optim.Adam([A, B], lr=lr, weight_decay=decay)

    return tuned(W, A, B, x, y, alpha, steps, lr, decay, make=make)


@exercise.wrong("how-it-breaks")
def plain_descent(W, A, B, x, y, alpha, steps, lr, decay):
    """This is plain gradient descent and no longer AdamW. A and B end somewhere else.

    The kind of optimizer was right. What was wrong in the list of what it trains?
    """

    def make(W, A, B):
        return torch.optim.SGD([A, B], lr=lr, weight_decay=decay)

    return tuned(W, A, B, x, y, alpha, steps, lr, decay, make=make)


@exercise.also(plain_descent)
def plain_descent_without_decay(W, A, B, x, y, alpha, steps, lr, decay):
    def make(W, A, B):
        return torch.optim.SGD([A, B], lr=lr)

    return tuned(W, A, B, x, y, alpha, steps, lr, decay, make=make)


@exercise.wrong("how-it-breaks")
def optimizer_without_a_memory(W, A, B, x, y, alpha, steps, lr, decay):
    """The optimizer is made anew for every step, so its running means begin at zero each time and every
    weight moves by a whole lr.

    Where does the line that makes the optimizer belong: before the loop, or in it?
    """
    for _ in range(steps):
        A, B, _ = tuned(W, A, B, x, y, alpha, 1, lr, decay)
    return tuned(W, A, B, x, y, alpha, 0, lr, decay)


@exercise.wrong("how-it-breaks")
def loss_before_the_last_step(W, A, B, x, y, alpha, steps, lr, decay):
    """A and B are right, and the loss was measured before the last step, with the A and B from before
    it.

    The loss should belong to what comes back. After which line is it measured?
    """
    a, b, _ = tuned(W, A, B, x, y, alpha, steps, lr, decay)
    *_, loss = tuned(W, A, B, x, y, alpha, max(steps - 1, 0), lr, decay)
    return a, b, loss


@exercise.wrong("how-it-breaks")
def loss_without_the_adapter(W, A, B, x, y, alpha, steps, lr, decay):
    """A and B are right. The loss is that of the base without them.

    The loss should be that of the layer with its adapter. What does `mse` add to x W?
    """
    a, b, _ = tuned(W, A, B, x, y, alpha, steps, lr, decay)
    return a, b, F.mse_loss(x @ W.T, y).item()


@exercise.wrong("how-it-breaks")
def loss_of_the_shrunken_base(W, A, B, x, y, alpha, steps, lr, decay):
    """A and B are right, and the loss is still that of a W which has shrunk.

    Whoever takes A and B has the W from before the training. What is the loss with that one?
    """
    a, b, _ = tuned(W, A, B, x, y, alpha, steps, lr, decay)
    shrunk = W * (1 - lr * decay) ** steps
    return a, b, F.mse_loss(x @ (shrunk + alpha / len(a) * b @ a).T, y).item()


@exercise.caught_as("modified-input")
def trains_what_it_was_given(W, A, B, x, y, alpha, steps, lr, decay):
    a, b, loss = tuned(W, A, B, x, y, alpha, steps, lr, decay)
    A.copy_(a + 1e-3)
    return a, b, loss


@exercise.caught_as("returned-none")
def printed(*args):
    print(tuned(*args))


@exercise.caught_as("wrong-type")
def adapter_alone(*args):
    return tuned(*args)[:2]


@exercise.caught_as("wrong-type")
def base_comes_back_too(W, *args):
    return W, *tuned(W, *args)


@exercise.caught_as("wrong-shape")
def merged_weight(W, A, *args):
    a, b, loss = tuned(W, A, *args)
    return (W + b @ a)[None], b, loss


@exercise.caught_as("raised")
def base_has_no_gradient(W, A, B, x, y, alpha, steps, lr, decay):
    A, B = (nn.Parameter(p.clone()) for p in (A, B))
    F.mse_loss(x @ W.T + alpha / len(A) * x @ A.T @ B.T, y).backward()
    W.grad.zero_()
    return A, B, 0.0
