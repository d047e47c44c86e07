"""01.5: the gradient of the cross-entropy, worked out instead of asked for."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="01_bigram",
    id="01.5",
    title="The gradient by hand",
    kind="stretch",
    points=4,
    minutes=14,
    anchor="why-it-works",
    rules=(
        forbid(
            "backward grad autograd requires_grad requires_grad_ enable_grad "
            "jacobian jacrev jacfwd vjp grad_and_value jvp linearize hessian forward_ad "
            "make_dual",
            think=(
                "Here you are the one who differentiates. For one prediction the "
                "gradient with respect to the row of logits is: the probabilities, "
                "minus 1 at the character that came."
            ),
        ),
    ),
    hints="""
    Take one pair (a, b). Which logits had any influence on its loss? What happens
    to the loss when the logit of b goes up, and when another logit of that row goes
    up?

    For one pair: d loss / d logits[a] = softmax(logits[a]) - onehot(b). The loss is
    the mean of N - 1 pairs, and a row collects from every pair that begins with its
    character.

    p = softmax of the rows of the previous characters, (N-1, V); subtract 1 at the
    following character of each; divide by N - 1; add row i to row previous[i] of a
    table of zeros (index_add_ adds up repeated rows).
    """,
)


@exercise.oracle
def bigram_grad(logits, ids):
    rows, chars = logits.tolist(), ids.tolist()
    table = [[0.0] * len(rows) for _ in rows]
    for previous, following in zip(chars[:-1], chars[1:]):
        top = max(rows[previous])
        exps = [math.exp(x - top) for x in rows[previous]]
        for c, e in enumerate(exps):
            error = e / sum(exps) - (c == following)
            table[previous][c] += error / (len(chars) - 1)
    return torch.tensor(table, dtype=logits.dtype)


def random_case(vocab_size, n, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(
        vocab_size, vocab_size, generator=generator, dtype=torch.float64
    ).to(dtype)
    return logits, torch.randint(vocab_size, (n,), generator=generator)


@exercise.cases
def cases():
    zeros = torch.zeros(2, 2)
    yield Case((zeros, torch.tensor([0, 1])))
    yield Case((zeros, torch.tensor([0, 1, 0])))
    yield Case((zeros, torch.tensor([0, 1, 0, 0])))
    yield Case((torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])))
    yield Case(
        (
            torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]),
            torch.tensor([0, 2, 0, 2]),
        )
    )
    yield Case(
        (torch.tensor([[0.0, 200.0], [0.0, 0.0]]), torch.tensor([0, 0, 1])),
        "large logits",
    )
    for seed, (vocab_size, n) in enumerate([(3, 8), (5, 30), (9, 151)]):
        yield Case(random_case(vocab_size, n, seed, torch.float64), "float64")
        yield Case(random_case(vocab_size, n, seed, torch.float32))
    logits, ids = random_case(2, 5, 3, torch.float64)
    yield Case((logits.T, ids.repeat_interleave(2)[::2]), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def from_the_counts(logits, ids):
    V = len(logits)
    pair = ids[:-1] * V + ids[1:]
    counts = torch.bincount(pair, minlength=V * V).view(V, V).to(logits.dtype)
    return (counts.sum(dim=1, keepdim=True) * logits.softmax(dim=1) - counts) / (
        len(ids) - 1
    )


@exercise.right
def with_one_hot_matrices(logits, ids):
    eye = torch.eye(len(logits), dtype=logits.dtype)
    x, y = eye[ids[:-1]], eye[ids[1:]]
    return x.T @ (torch.softmax(x @ logits, dim=-1) - y) / len(x)


@exercise.right
def one_pair_at_a_time(logits, ids):
    grad_table = torch.zeros_like(logits)
    for a, b in zip(ids[:-1], ids[1:]):
        grad_table[a] += torch.softmax(logits[a], dim=0)
        grad_table[a, b] -= 1
    return grad_table / (len(ids) - 1)


# --- wrong, each with the misconception behind it -------------------------------------


def errors(logits, ids):
    """softmax - onehot of each pair, (N-1, V)."""
    e = logits[ids[:-1]].softmax(dim=1)
    e[torch.arange(len(e)), ids[1:]] -= 1
    return e


def collect(e, logits, ids):
    """The rows of e added up by previous character."""
    return torch.zeros_like(logits).index_add(0, ids[:-1], e)


@exercise.wrong("why-it-works")
def sign_flipped(logits, ids):
    """Every sign is flipped: this is the direction in which the loss falls, not the
    gradient.

    The gradient points uphill, and the optimizer subtracts it. When the logit of the
    character that came goes up, does the loss go up or down? So which sign does its
    gradient have?
    """
    return -bigram_grad(logits, ids)


@exercise.wrong("why-it-works")
def sum_instead_of_mean(logits, ids):
    """This is the gradient of the sum of the losses; the loss here is their mean.

    The size of a step should not grow with the length of the text. How many predictions
    are there, and where do you divide by that number?
    """
    return collect(errors(logits, ids), logits, ids)


@exercise.wrong("why-it-works")
def divided_by_all_characters(logits, ids):
    """Almost: the sum is divided by the number of characters instead of the number of
    pairs.

    The first character is never predicted. How many predictions are there in a text of
    N characters?
    """
    return collect(errors(logits, ids), logits, ids) / len(ids)


@exercise.wrong("vectorize")
def repeated_rows_overwritten(logits, ids):
    """A character that occurs twice keeps only its last contribution: `grad[previous] =
    ...` and `grad[previous] += ...` with repeated indices write, they do not add up.

    Which operation adds up rows with the same index? Look at `index_add_`, or multiply
    with one-hot rows.
    """
    out = torch.zeros_like(logits)
    out[ids[:-1]] += errors(logits, ids) / (len(ids) - 1)
    return out


@exercise.also(repeated_rows_overwritten)
def repeated_rows_overwritten_in_two_steps(logits, ids):
    out = torch.zeros_like(logits)
    out[ids[:-1]] += logits[ids[:-1]].softmax(dim=1)
    out[ids[:-1], ids[1:]] -= 1
    return out / (len(ids) - 1)


@exercise.wrong("why-it-works")
def each_row_averaged_by_itself(logits, ids):
    """Each row is averaged over its own pairs, so a rare character pulls as hard as a
    common one.

    The loss is one mean over all pairs. A character that occurs once in a thousand
    contributes a thousandth to it. By which one number is everything divided?
    """
    n = torch.bincount(ids[:-1], minlength=len(logits)).clamp(min=1)
    return collect(errors(logits, ids), logits, ids) / n[:, None]


@exercise.wrong("why-it-works")
def rows_never_visited_get_a_gradient(logits, ids):
    """Rows of characters that never came before another one get a gradient too. They
    had no influence on the loss.

    Move a logit of such a row a little. What happens to the loss of this text? So what
    is its derivative?
    """
    V = len(logits)
    pair = ids[:-1] * V + ids[1:]
    counts = torch.bincount(pair, minlength=V * V).view(V, V).to(logits.dtype)
    rows = counts.sum(dim=1, keepdim=True)
    return (rows.clamp(min=1) * logits.softmax(dim=1) - counts) / (len(ids) - 1)


@exercise.wrong("why-it-works")
def one_hot_forgotten(logits, ids):
    """These are the probabilities alone: the 1 at the character that came is never
    subtracted.

    The gradient must be negative where the logit should grow. Which logit should grow?
    """
    return collect(logits[ids[:-1]].softmax(dim=1), logits, ids) / (len(ids) - 1)


@exercise.wrong("the-module")
def softmax_forgotten(logits, ids):
    """The logits themselves are used where the probabilities belong: the softmax is
    missing.

    Logits are scores of any size; `softmax` makes probabilities of a row of them. On
    which line should that happen?
    """
    e = logits[ids[:-1]]
    e[torch.arange(len(e)), ids[1:]] -= 1
    return collect(e, logits, ids) / (len(ids) - 1)


@exercise.wrong("the-module")
def softmax_down_the_columns(logits, ids):
    """The softmax goes down the columns: it compares characters before, instead of
    characters that can come.

    The row is the character you stand on, and its entries must add up to 1. Which `dim`
    runs along a row?
    """
    e = logits.softmax(dim=0)[ids[:-1]]
    e[torch.arange(len(e)), ids[1:]] -= 1
    return collect(e, logits, ids) / (len(ids) - 1)


@exercise.wrong("by-hand")
def rows_and_columns_swapped(logits, ids):
    """Rows and columns are swapped: the contribution of a pair belongs into the row of
    the character before.

    Which character picked the row of logits that made the prediction?
    """
    return bigram_grad(logits, ids).T.contiguous()


@exercise.wrong("by-hand")
def gradient_of_bits(logits, ids):
    """Everything is larger by the same factor, 1 / ln 2: this is the gradient of the
    loss in bits.

    The loss here is in nats, as PyTorch's. Which logarithm is the natural one?
    """
    return bigram_grad(logits, ids) / math.log(2)


@exercise.wrong("how-it-breaks")
def exponential_that_overflows(logits, ids):
    """`exp` of a large logit is inf, and inf / inf is nan. The formula is right and the
    numbers are not.

    A softmax does not change when you subtract the same number from a whole row. Which
    number makes the largest logit 0? (Or use `torch.softmax`, which does that.)
    """
    e = logits.exp()[ids[:-1]]
    e = e / e.sum(dim=1, keepdim=True)
    e[torch.arange(len(e)), ids[1:]] -= 1
    return collect(e, logits, ids) / (len(ids) - 1)


@exercise.caught_as("wrong-dtype")
def always_double(logits, ids):
    return bigram_grad(logits.double(), ids)


@exercise.caught_as("wrong-shape")
def gradient_of_the_rows_visited(logits, ids):
    return errors(logits, ids) / (len(ids) - 1)


@exercise.caught_as("modified-input")
def writes_into_the_logits(logits, ids):
    logits -= logits.max(dim=1, keepdim=True).values
    return bigram_grad(logits, ids)


@exercise.caught_as("forbidden-call")
def autograd_does_it(logits, ids):
    table = logits.detach().clone().requires_grad_()
    torch.nn.functional.cross_entropy(table[ids[:-1]], ids[1:]).backward()
    return table.grad


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(logits, ids):
    return bigram_grad(torch.as_strided(logits, logits.shape, (len(logits), 1)), ids)
