"""04.4: how each weight of a softmax answers to each score."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="04_dot_product_attention",
    id="04.4",
    title="How a softmax answers",
    kind="stretch",
    points=3,
    minutes=10,
    anchor="why-it-works",
    rules=(
        forbid(
            "backward grad autograd requires_grad requires_grad_ enable_grad "
            "jacobian jacrev jacfwd vjp jvp vmap linearize hessian forward_ad make_dual",
            think="Here you are the one who differentiates. Write p_i as exp(s_i) over a "
            "sum. What does a change of s_i do to it, and what does a change of another "
            "s_j, which is only in the sum?",
        ),
    ),
    equivalent={
        "same = torch.eye(n)": "Zeros and ones are exact in every dtype, and the more "
        "precise one wins in the subtraction.",
    },
    hints="""
    Two weights, 1/2 and 1/2. Push the first score up a little. What happens to the first
    weight, and what must happen to the second, if both add up to 1?

    d p_i / d s_i = p_i (1 - p_i), and for another score d p_i / d s_j = - p_i p_j. In one
    formula: p_i times ((1 if i = j else 0) - p_j).

    An (n, n) table with p on the diagonal and zeros elsewhere, minus the (n, n) table of
    all products p_i p_j (an outer product).
    """,
)


@exercise.oracle
def softmax_jacobian(p):
    numbers = p.tolist()
    rows = [
        [pi * ((i == j) - pj) for j, pj in enumerate(numbers)]
        for i, pi in enumerate(numbers)
    ]
    return torch.tensor(rows, dtype=p.dtype)


def random_case(n, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, generator=generator, dtype=torch.float64)
    return ((scores * scale).softmax(0).to(dtype),)


@exercise.cases
def cases():
    yield Case((torch.tensor([0.5, 0.5]),))
    yield Case((torch.tensor([0.25, 0.75]),))
    yield Case((torch.tensor([0.2, 0.3, 0.5]),))
    yield Case((torch.tensor([1.0, 0.0, 0.0]),), "all on one")
    yield Case((torch.tensor([1.0]),))
    yield Case((torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64),))
    for seed, n in enumerate([4, 6, 9]):
        yield Case(random_case(n, seed), "float64")
        yield Case(random_case(n, seed, torch.float32))
    yield Case(random_case(5, 3, scale=8.0), "float64")
    (p,) = random_case(4, 4)
    pairs = torch.stack([p, torch.ones_like(p)], dim=1)
    yield Case((pairs[:, 0],), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_loops(p):
    n = len(p)
    table = torch.zeros(n, n, dtype=p.dtype)
    for i in range(n):
        for j in range(n):
            table[i, j] = p[i] * (1 - p[i]) if i == j else -p[i] * p[j]
    return table


@exercise.right
def each_row_scaled(p):
    return p[:, None] * (torch.eye(len(p), dtype=p.dtype) - p)


@exercise.right
def column_times_row(p):
    column = p.unsqueeze(1)
    return p.diag_embed() - column @ column.T


@exercise.right
def diagonal_added_last(p):
    table = -torch.einsum("i,j->ij", p, p)
    table.diagonal().add_(p)
    return table


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("why-it-works")
def only_its_own_score_counts(p):
    """Each weight answers to its own score alone: everything off the diagonal is 0. That
    would be n sigmoids side by side.

    The weights add up to 1. If one of them grows, what must the others do?
    """
    return torch.diag(p * (1 - p))


@exercise.wrong("why-it-works")
def diagonal_as_a_vector(p):
    """These are n numbers, how each weight answers to its own score. Asked for is a table:
    each weight, each score.

    The other scores are in the sum below the line. How many pairs of a weight and a score
    are there?
    """
    return p * (1 - p)


@exercise.wrong("why-it-works")
def others_rise_too(p):
    """Off the diagonal the sign is wrong: pushing one score up takes weight away from the
    others.

    A row of the table says what a change of each score does to one weight. Adding the
    same to all scores changes nothing, so what must each row add up to?
    """
    return torch.diag(p) + torch.outer(p, p) - 2 * torch.diag(p * p)


@exercise.wrong("why-it-works")
def plus_instead_of_minus(p):
    """The products are added to the diagonal instead of subtracted from it.

    Adding the same number to all scores changes no weight, so each row must add up to 0.
    What do yours add up to?
    """
    return torch.diag(p) + torch.outer(p, p)


@exercise.wrong("why-it-works")
def every_sign_flipped(p):
    """Every sign is flipped: here a weight falls when its own score rises.

    p_i (1 - p_i) cannot be negative. Which of your two tables is subtracted from which?
    """
    return torch.outer(p, p) - torch.diag(p)


@exercise.wrong("why-it-works")
def diagonal_forgotten(p):
    """These are the products alone: the p on the diagonal is missing.

    p_i stands above the line too, as exp(s_i). What does that one add when its own score
    moves?
    """
    return -torch.outer(p, p)


@exercise.wrong("why-it-works")
def products_forgotten(p):
    """This is the diagonal alone: the products p_i p_j are missing.

    The sum below the line also grows when a score grows. What does that take away, from
    every weight?
    """
    return torch.diag(p)


@exercise.wrong("why-it-works")
def own_product_not_subtracted(p):
    """Off the diagonal it is right; on the diagonal stands p_i where p_i (1 - p_i) belongs.

    The sum below the line contains a weight's own score as well. What do your rows add up
    to, and what should they?
    """
    return torch.diag(p + p * p) - torch.outer(p, p)


@exercise.wrong("why-it-works")
def every_pair_like_the_diagonal(p):
    """p_i (1 - p_j) stands everywhere, as if every score were the weight's own.

    The 1 comes from the score above the line, and only i = j is there. What is left of
    (1 - p_j) for all the others?
    """
    return p[:, None] * (1 - p)


@exercise.also(every_pair_like_the_diagonal)
def every_pair_like_the_diagonal_turned(p):
    return p * (1 - p[:, None])


@exercise.wrong("vectorize")
def inner_product_subtracted(p):
    """`p @ p` of two vectors is one number, the sum of the squares, and it is subtracted
    from every cell. (`p.T` of a vector is the vector itself.)

    The products of all pairs are an (n, n) table: a column times a row. How does a vector
    become a column?
    """
    return torch.diag(p) - p @ p


@exercise.wrong("vectorize")
def squares_subtracted(p):
    """`p * p` of two vectors multiplies number by number. The n squares are then taken
    from every row of the table.

    Wanted is each p_i times each p_j. Which of the two factors has to be a column, so
    that broadcasting makes a table of them?
    """
    return torch.diag(p) - p * p


@exercise.also(squares_subtracted)
def squares_subtracted_from_each_column(p):
    return torch.diag(p) - (p * p)[:, None]


@exercise.wrong("why-it-works")
def softmax_applied_again(p):
    """`p` is taken for scores and a softmax is applied to it. It holds the weights
    already: they add up to 1.

    Which of the two is the Jacobian written in, the scores or the weights?
    """
    q = p.softmax(0)
    return torch.diag(q) - torch.outer(q, q)


@exercise.wrong("why-it-works")
def jacobian_of_the_logarithm(p):
    """This is 1 minus p_j on the diagonal and -p_j beside it: how the *logarithm* of each
    weight answers, as in the gradient of a cross-entropy.

    d ln p_i = d p_i / p_i. So by what must your row i be multiplied?
    """
    return torch.eye(len(p), dtype=p.dtype) - p


@exercise.also(jacobian_of_the_logarithm)
def jacobian_of_the_logarithm_turned(p):
    return torch.eye(len(p), dtype=p.dtype) - p[:, None]


@exercise.caught_as("wrong-dtype")
def float32_always(p):
    return softmax_jacobian(p).float()


@exercise.caught_as("wrong-type")
def table_as_lists(p):
    return softmax_jacobian(p).tolist()


@exercise.caught_as("wrong-shape")
def an_axis_too_many(p):
    return softmax_jacobian(p)[None]


@exercise.caught_as("returned-none")
def printed_not_returned(p):
    print(softmax_jacobian(p))


@exercise.caught_as("modified-input")
def negative_in_place(p):
    table = torch.diag(p)
    return table - torch.outer(p, p.neg_().neg())


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(p):
    return softmax_jacobian(torch.as_strided(p, (len(p),), (1,)))


@exercise.caught_as("forbidden-call")
def autograd_does_it(p):
    return torch.autograd.functional.jacobian(lambda s: s.softmax(0), p.log())
