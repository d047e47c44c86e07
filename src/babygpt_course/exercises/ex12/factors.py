"""12.2: the best two factors of a weight, and the rank from which they save nothing."""

import functools

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS, Fault
from babygpt_course.exercises.rules import forbid
from babygpt_course.exercises.show import dtype, kind, show


class Unfit(Exception):
    """Factors that cannot be multiplied to something of W's shape; holds the message."""

    def __init__(self, id, says, think, value):
        super().__init__(says)
        self.fault = Fault(id, says, think)
        self.value = value

    @property
    def drawn(self):
        """What came back instead, each thing in a few words."""
        if not isinstance(self.value, (tuple, list)):
            return kind(self.value)
        tensor = torch.Tensor
        each = [
            f"{tuple(v.shape)}" if isinstance(v, tensor) else kind(v)
            for v in self.value
        ]
        named = (
            [f"up {each[0]}", f"down {each[1]}", each[2]] if len(each) == 3 else each
        )
        return ", ".join(named)


class Multiplied:
    """An answer whose two factors are multiplied, as many pairs have one product."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.__code__ = getattr(function, "__code__", None)

    def __call__(self, W, rank):
        value = self.__wrapped__(W, rank)
        if value is None:
            return None
        if not isinstance(value, (tuple, list)) or len(value) != 3:
            have = len(value) if isinstance(value, (tuple, list)) else kind(value)
            says = f"The function should give back 3 results; this is {have}."
            raise Unfit("wrong-type", says, "What stands after `return`?", value)
        *pair, limit = value
        wanted = {"up": (len(W), rank), "down": (rank, W.shape[1])}
        for (name, shape), factor in zip(wanted.items(), pair):
            if not isinstance(factor, torch.Tensor):
                says = f"`{name}` should be a tensor; this is {kind(factor)}."
                raise Unfit("wrong-type", says, "What does `return` give back?", value)
            if tuple(factor.shape) != shape:
                says = (
                    f"`{name}` has the wrong shape: expected {shape}, yours is "
                    f"{tuple(factor.shape)}."
                )
                raise Unfit("wrong-shape", says, SHAPES, value)
            if factor.dtype != W.dtype:
                says = (
                    f"`{name}` should have the dtype of W, {dtype(W)}; yours is "
                    f"{dtype(factor)}."
                )
                raise Unfit(
                    "wrong-dtype", says, "Which line makes it another one?", value
                )
        return pair[0] @ pair[1], limit


SHAPES = (
    "Of U, S and Vh as `torch.linalg.svd` gives them, the columns of U, the entries of S and "
    "the *rows* of Vh belong together. Which of them are kept?"
)


class OfAProduct(Exercise):
    """An exercise on two factors, judged by their product."""

    def grade(self, answer):
        """The answer, with its factors multiplied."""
        if callable(answer) and not isinstance(answer, (type, Multiplied)):
            answer = Multiplied(answer)
        return super().grade(answer)

    def explain(self, answer, cases, case, mine, truth, fault, first):
        """A misfit in its own words."""
        if isinstance(mine.error, Unfit):
            fault = mine.error.fault
        return super().explain(answer, cases, case, mine, truth, fault, first)

    def drawn(self, case, mine, truth, fault):
        """The product is what is compared, and the rows say so."""
        rows = dict(super().drawn(case, mine, truth, fault))
        if isinstance(mine.error, Unfit):
            W, rank = case.args
            rows["expected"] = f"up {(len(W), rank)}, down {(rank, W.shape[1])}, an int"
            rows["yours"] = mine.error.drawn
            return tuple(rows.items())
        for name, run in (("expected", truth), ("yours", mine)):
            if isinstance(run.value, tuple) and fault.id != "modified-input":
                product, limit = run.value
                rows[name] = f"up @ down: {show(product, True)}\nlimit: {show(limit)}"
        return tuple(rows.items())


exercise = OfAProduct(
    chapter="12_lora",
    id="12.2",
    title="The best two factors",
    kind="implement",
    points=2,
    minutes=8,
    anchor="why-it-works",
    rules=(
        forbid(
            "low_rank svd_lowrank pca_lowrank",
            "`torch.linalg.svd` is fine, and all that is needed besides is a cut.",
        ),
    ),
    equivalent={
        name: "The full matrices have more at the end, which the cut takes away."
        for name in (
            "U, S, Vh = torch.linalg.svd(W)",
            "U, S, Vh = torch.linalg.svd(W, full_matrices=True)",
        )
    },
    hints="""
    The SVD writes W as a sum of matrices of rank 1, each a column times a row times a singular
    value. Which of them are the ones to keep? And how many numbers hold what is kept?

    W = U diag(S) Vh, with S from the largest down. Keep the first r columns of U, entries of S
    and rows of Vh. S must be in the product once. Two factors hold r (n_out + n_in) numbers.

    U, S, Vh = torch.linalg.svd(W, full_matrices=False); up = U[:, :r] * S[:r]; down = Vh[:r];
    limit: the smallest r with r * (n_out + n_in) >= n_out * n_in, which is a division that is
    rounded up.
    """,
)


def split(W, rank, keep=None, left=None, right=None, limit=None):
    """The code of the answer, of which one part at a time is replaced."""
    n_out, n_in = W.shape
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    at = slice(rank) if keep is None else keep(len(S))
    U, S, Vh = U[:, at], S[at], Vh[at]
    up = U * S if left is None else left(U, S)
    down = Vh if right is None else right(S, Vh)
    return up, down, smallest(n_out, n_in) if limit is None else limit(n_out, n_in)


def smallest(n_out, n_in):
    return -(-n_out * n_in // (n_out + n_in))


@exercise.oracle
@Multiplied
def factors(W, rank):
    rest, up, down = W.double(), [], []
    for _ in range(rank):  # one singular value after the other, by powers of a matrix
        M = rest.T @ rest
        for _ in range(40):
            M = M @ M
            M = M / M.diagonal().sum().clamp(min=1e-300)
        v = M[:, M.diagonal().argmax()]
        v = v / v.norm().clamp(min=1e-150)
        up.append(rest @ v)
        down.append(v)
        rest = rest - torch.outer(up[-1], v)
    limit, (n_out, n_in) = 1, W.shape
    while limit * (n_out + n_in) < n_out * n_in:
        limit += 1
    return torch.stack(up, 1).to(W.dtype), torch.stack(down).to(W.dtype), limit


def random_case(n_out, n_in, rank, seed, dtype=torch.float64):
    """A weight whose singular values are 6, 5, 4 ...: each clearly another."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    S = torch.arange(len(S) + 2, 2, -1, dtype=torch.float64)
    return ((U * S) @ Vh).to(dtype), rank


@exercise.cases
def cases():
    yield Case((torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1))
    yield Case((torch.tensor([[2.0, 2.0], [1.0, -1.0]]), 1))
    yield Case((torch.tensor([[1.0, 0.0], [0.0, 4.0]]), 1), "the largest comes last")
    yield Case((torch.tensor([[2.0, 2.0], [1.0, -1.0]]), 2), "all of the rank")
    wide = torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.0, 2.0, 0.0, 0.0]])
    yield Case((wide, 1), "wide")
    yield Case((wide.T.contiguous(), 2), "tall")
    yield Case((torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]).double(), 1), "rank 1")
    sizes = [(4, 4, 2), (3, 6, 2), (7, 5, 3), (5, 8, 1), (9, 9, 7)]
    for seed, (n_out, n_in, rank) in enumerate(sizes):
        yield Case(random_case(n_out, n_in, rank, seed))
        yield Case(random_case(n_out, n_in, rank, seed, torch.float32), "float32")
    W, _ = random_case(6, 10, 1, 9)
    yield Case((W.T[1::2], 2), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
@Multiplied
def values_on_the_left(W, rank):
    return split(W, rank)


@exercise.right
@Multiplied
def values_on_the_right(W, rank):
    return split(W, rank, left=lambda U, S: U, right=lambda S, Vh: S[:, None] * Vh)


@exercise.right
@Multiplied
def half_of_each_value_on_either_side(W, rank):
    return split(
        W,
        rank,
        left=lambda U, S: U * S.sqrt(),
        right=lambda S, Vh: torch.diag(S.sqrt()) @ Vh,
    )


@exercise.right
@Multiplied
def by_projection(W, rank):
    _, _, V = torch.svd(W)
    n_out, n_in = W.shape
    down = V[:, :rank].T
    limit = next(r for r in range(1, n_in + 1) if r * (n_out + n_in) >= n_out * n_in)
    return W @ down.T, down, limit


@exercise.right
@Multiplied
def by_eigenvectors(W, rank):
    values, V = torch.linalg.eigh((W.T @ W).double())
    down = V[:, values.argsort(descending=True)[:rank]].T.to(W.dtype)
    n_out, n_in = W.shape
    return W @ down.mT, down, (n_out * n_in + n_out + n_in - 1) // (n_out + n_in)


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("why-it-works")
@Multiplied
def smallest_values_kept(W, rank):
    """The smallest singular values are kept, and the largest are thrown away.

    `torch.linalg.svd` sorts from the largest down, and `torch.linalg.eigh` from the smallest up.
    Which end do you cut off?
    """
    return split(W, rank, keep=lambda n: slice(n - rank, n))


@exercise.wrong("why-it-works")
@Multiplied
def values_left_out(W, rank):
    """The singular values are in neither factor: what is left has the right directions, and all of
    them equally long.

    up @ down should be U S Vh, cut. Where does S go?
    """
    return split(W, rank, left=lambda U, S: U)


@exercise.wrong("why-it-works")
@Multiplied
def values_on_both_sides(W, rank):
    """The singular values are in both factors, so their product has the square of each.

    Either one factor takes S, or each takes the root of it. What is 3 on both sides in the
    product?
    """
    return split(W, rank, right=lambda S, Vh: S[:, None] * Vh)


@exercise.wrong("why-it-works")
@Multiplied
def root_on_one_side(W, rank):
    """One factor has the root of the singular values, and the other has none of them.

    The product of what both factors have must be S. What is missing?
    """
    return split(W, rank, left=lambda U, S: U * S.sqrt())


@exercise.wrong("why-it-works")
@Multiplied
def v_not_transposed(W, rank):
    """The third result of `torch.linalg.svd` is Vh, which is V transposed already: its *rows* belong
    to the singular values. Here its columns are taken.

    U @ diag(S) @ Vh is W, without any transpose. Which rows of Vh belong to the first r values?
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:, :rank] * S[:rank], Vh[:, :rank].T, smallest(*W.shape)


@exercise.also(v_not_transposed)
@Multiplied
def v_transposed_again(W, rank):
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:, :rank] * S[:rank], Vh.T[:rank], smallest(*W.shape)


@exercise.wrong("why-it-works")
@Multiplied
def rows_of_u(W, rank):
    """The first rows of U are taken, and each singular value has a *column* of it.

    U has one row for each number that comes out, and one column for each singular value. Which
    axis is cut to r?
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:rank].T * S[:rank], Vh[:rank], smallest(*W.shape)


@exercise.wrong("why-it-works")
@Multiplied
def values_on_the_wrong_axis(W, rank):
    """The singular values multiply the rows of U (or the columns of Vh), and each belongs to a column
    of U and to a row of Vh.

    `U * S` multiplies column k by S[k]. What does `S[:, None] * U` do?
    """
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return S[:, None] * U[:, :rank], Vh[:rank], smallest(*W.shape)


@exercise.also(values_on_the_wrong_axis)
@Multiplied
def roots_on_the_wrong_axis(W, rank):
    return split(
        W, rank, left=lambda U, S: U * S.sqrt(), right=lambda S, Vh: S.sqrt() * Vh
    )


@exercise.also(values_on_the_wrong_axis)
@Multiplied
def values_on_the_columns_of_vh(W, rank):
    return split(W, rank, left=lambda U, S: U, right=lambda S, Vh: S * Vh)


@exercise.wrong("why-it-works")
@Multiplied
def weight_cropped(W, rank):
    """Some columns (or rows) of W are kept as they are, and the others are zero. The best factors mix
    all of them.

    The matrix [[1, 1], [1, 1]] has rank 1. Can one of its columns alone give it?
    """
    n_out, n_in = W.shape
    return W[:, :rank], torch.eye(rank, n_in, dtype=W.dtype), smallest(n_out, n_in)


@exercise.also(weight_cropped)
@Multiplied
def rows_cropped(W, rank):
    n_out, n_in = W.shape
    return torch.eye(n_out, rank, dtype=W.dtype), W[:rank], smallest(n_out, n_in)


@exercise.wrong("why-it-works")
@Multiplied
def by_qr(W, rank):
    """These are factors of QR, cut at r. They follow the order of W's columns, and know nothing of
    which directions are large.

    Whatever comes first in W is kept here. What does the SVD keep?
    """
    Q, R = torch.linalg.qr(W)
    return Q[:, :rank], R[:rank], smallest(*W.shape)


@exercise.wrong("why-it-works")
@Multiplied
def limit_is_the_full_rank(W, rank):
    """The factors are right. `limit` is the largest rank that W can have; the two factors are as large
    as W long before that.

    For a weight of 100 by 100, how many numbers have two factors of rank 50?
    """
    return split(W, rank, limit=min)


@exercise.also(limit_is_the_full_rank)
@Multiplied
def one_more_than_the_full_rank(W, rank):
    return split(W, rank, limit=lambda n_out, n_in: min(n_out, n_in) + 1)


@exercise.wrong("why-it-works")
@Multiplied
def limit_rounded_down(W, rank):
    """The factors are right. `limit` is rounded the wrong way: at the rank that you give they still hold fewer
    numbers than W, and asked for is the first rank at which they do not.

    The division seldom comes out even. To which side must it be rounded, always?
    """
    return split(W, rank, limit=lambda n_out, n_in: n_out * n_in // (n_out + n_in))


@exercise.also(limit_rounded_down)
@Multiplied
def limit_rounded_to_the_nearest(W, rank):
    return split(
        W, rank, limit=lambda n_out, n_in: round(n_out * n_in / (n_out + n_in))
    )


@exercise.wrong("why-it-works")
@Multiplied
def limit_without_equal(W, rank):
    """The factors are right. `limit` is the first rank at which they are *larger* than W. When they
    hold exactly as many numbers nothing is saved either.

    A weight of 4 by 4 has 16 numbers. How many have two factors of rank 2?
    """
    return split(W, rank, limit=lambda n_out, n_in: n_out * n_in // (n_out + n_in) + 1)


@exercise.wrong("why-it-works")
@Multiplied
def limit_is_half(W, rank):
    """The factors are right. `limit` is half of a side, which is true for a square weight only.

    Two factors hold r (n_out + n_in) numbers. When is that n_out times n_in?
    """
    return split(W, rank, limit=lambda n_out, n_in: -(-min(n_out, n_in) // 2))


@exercise.also(limit_is_half)
@Multiplied
def limit_is_half_rounded_down(W, rank):
    return split(W, rank, limit=lambda n_out, n_in: min(n_out, n_in) // 2)


@exercise.wrong("why-it-works")
@Multiplied
def limit_is_no_whole_number(W, rank):
    """The factors are right. `limit` is the point where both are equally large, and it is no whole
    number: there is no such rank.

    Which is the first whole number that is not below it?
    """
    return split(W, rank, limit=lambda n_out, n_in: n_out * n_in / (n_out + n_in))


@exercise.wrong("why-it-works")
@Multiplied
def limit_saves_a_number_count(W, rank):
    """The factors are right. `limit` is how many numbers two factors of this rank hold, and not a
    rank.

    Which r makes r (n_out + n_in) as large as n_out times n_in?
    """
    up, down, _ = split(W, rank)
    return up, down, rank * sum(W.shape)


@exercise.caught_as("wrong-shape")
@Multiplied
def full_rank_returned(W, rank):
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U * S, Vh, smallest(*W.shape)


@exercise.caught_as("wrong-shape")
@Multiplied
def down_as_columns(W, rank):
    up, down, limit = split(W, rank)
    return up, down.T, limit


@exercise.caught_as("wrong-type")
@Multiplied
def without_a_limit(W, rank):
    return split(W, rank)[:2]


@exercise.caught_as("wrong-type")
@Multiplied
def in_numpy(W, rank):
    up, down, limit = split(W, rank)
    return up.numpy(), down.numpy(), limit


@exercise.caught_as("wrong-dtype")
@Multiplied
def in_double(W, rank):
    return split(W.double(), rank)


@exercise.caught_as("returned-none")
@Multiplied
def printed(W, rank):
    print(split(W, rank))


@exercise.caught_as("modified-input")
@Multiplied
def subtracts_in_place(W, rank):
    up, down, limit = split(W, rank)
    W -= up @ down
    return up, down, limit


@exercise.caught_as("forbidden-call")
@Multiplied
def at_random(W, rank):
    U, S, V = torch.svd_lowrank(
        W.double(), q=rank + 3 if min(W.shape) > rank + 3 else min(W.shape), niter=60
    )
    up, down = (U * S)[:, :rank], V[:, :rank].T
    return up.to(W.dtype), down.to(W.dtype), smallest(*W.shape)


@exercise.caught_as("raised")
@Multiplied
def rank_one_too_many(W, rank):
    return W.reshape(rank, -1) @ W, W, 1
