"""04.5: causal attention whose mask comes one step too late."""

import functools
import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="04_dot_product_attention",
    id="04.5",
    title="Bug hunt: the weights that do not add up",
    kind="bug hunt",
    points=3,
    minutes=10,
    anchor="how-it-breaks",
    rules=(
        forbid(
            "scaled_dot_product_attention attention_weights MultiheadAttention "
            "multi_head_attention_forward MultiHeadAttention flex_attention",
            think="Mend the code that is there. A new engine does not tell what was wrong "
            "with the old one.",
        ),
    ),
    equivalent={
        "scores = q @ k.transpose(1, 0) / math.sqrt(q.shape[-1])": "Swapping two axes "
        "is the same in either order.",
        "scores = q @ k.transpose(0, 1) / math.sqrt(q.shape[1])": "With two axes the "
        "last one is number 1.",
        "weights = torch.softmax(scores, dim=1)": "With two axes the last one is number "
        "1.",
    },
    hints="""
    Attention is a weighted mean. What must the mean be if all values are 1? What comes out
    of the given function then, position by position?

    Each row of weights adds up to 1 over the keys that may be read. The softmax divides by
    a sum. Which keys are in that sum?

    scores = q k^T / sqrt(D); hide the future in the scores, with -inf; then the softmax;
    then the weighted sum. In the given code two of these steps are in the wrong order.
    """,
)


@exercise.oracle
def causal_attention(q, k, v):
    rows = []
    for i, query in enumerate(q):
        seen = [(query * k[j]).sum() / math.sqrt(len(query)) for j in range(i + 1)]
        top = max(seen).detach()
        exps = [torch.exp(score - top) for score in seen]
        rows.append(sum(e / sum(exps) * v[j] for j, e in enumerate(exps)))
    return torch.stack(rows)


def scores_of(q, k):
    return q @ k.T / math.sqrt(q.shape[-1])


def future(q, diagonal=1):
    return torch.ones(len(q), len(q), dtype=torch.bool).triu(diagonal)


@exercise.given
def masked_after_the_softmax(q, k, v):
    return scores_of(q, k).softmax(-1).masked_fill(future(q), 0.0) @ v


def random_case(T, D, E, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    made = (
        torch.randn(T, n, generator=generator, dtype=torch.float64) for n in (D, D, E)
    )
    q, k, v = (x.to(dtype) for x in made)
    return q, k, v


@exercise.cases
def cases():
    one = torch.ones(1, 1)
    yield Case((torch.zeros(2, 1), torch.zeros(2, 1), torch.ones(2, 1)))
    yield Case((torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([[2.0], [6.0]])))
    q = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    k = torch.tensor([[0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 1.0, 0.0]])
    yield Case((q, k, torch.tensor([[2.0], [6.0]])))
    yield Case((one, one, torch.tensor([[3.0, 4.0]])))
    q = torch.tensor([[1.0], [-1.0], [2.0]])
    k = torch.tensor([[1.0], [2.0], [-1.0]])
    yield Case((q, k, torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])))
    k = torch.tensor([[0.0], [2e5], [4e5]])
    yield Case(
        (torch.ones(3, 1), k, torch.tensor([[1.0], [2.0], [4.0]])), "large scores"
    )
    yield Case((-torch.ones(2, 1), k[1:], torch.tensor([[1.0], [2.0]])), "large scores")
    q, k, v = torch.tensor([[1.0], [0.0]]), torch.tensor([[9e4], [3.0]]), torch.eye(2)
    yield Case((q.double(), k.double(), v.double()), "large scores")
    for seed, (T, D, E) in enumerate([(3, 2, 4), (4, 6, 3), (7, 5, 9)]):
        yield Case(random_case(T, D, E, seed))
        yield Case(random_case(T, D, E, seed, torch.float32), "float32")
    yield Case(random_case(4, 4, 4, 3))
    yield Case(random_case(3, 4, 1, 5), gradient=True)
    q, k, v = random_case(4, 3, 2, 4)
    yield Case((q.T.contiguous().T, k.T.contiguous().T, v), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def hidden_in_the_scores(q, k, v):
    return scores_of(q, k).masked_fill(future(q), -math.inf).softmax(-1) @ v


@exercise.right
def only_keys_so_far(q, k, v):
    rows = [
        torch.softmax(k[: i + 1] @ q[i] / math.sqrt(q.shape[1]), dim=0) @ v[: i + 1]
        for i in range(len(q))
    ]
    return torch.stack(rows)


@exercise.right
def a_mask_that_is_added(q, k, v):
    mask = torch.full((len(q), len(q)), float("-inf"), dtype=q.dtype).triu(1)
    return F.softmax(scores_of(q, k) + mask, dim=-1) @ v


@exercise.right
def hidden_by_a_billion(q, k, v):
    """In a model no score gets near it; -inf is exact."""
    return scores_of(q, k).masked_fill(future(q), -1e9).softmax(-1) @ v


@exercise.right
def exponentials_of_the_visible(q, k, v):
    scores = scores_of(q, k).masked_fill(future(q), -math.inf)
    exps = (scores - scores.max(dim=-1, keepdim=True).values).exp()
    return exps @ v / exps.sum(-1, keepdim=True)


@exercise.right
def hidden_twice(q, k, v):
    scores = q @ k.T / torch.sqrt(torch.tensor(q.shape[-1]))
    return scores.masked_fill(future(q), -math.inf).softmax(-1).tril() @ v


# --- "fixes" that break something else ------------------------------------------------


def rescaled(q, k, v, eps=0.0):
    weights = scores_of(q, k).softmax(-1).masked_fill(future(q), 0.0)
    return weights / (weights.sum(-1, keepdim=True) + eps) @ v


@exercise.wrong("how-it-breaks")
def rescaled_afterward(q, k, v):
    """The weights that are left are divided by their sum. That is right on paper, and
    fails when a key in the future has a much larger score: what is left is then rounded
    to 0, and 0 / 0 is nan.

    So the future still decides whether the past is computed well. Can it be taken out
    before the softmax, so that nothing needs mending after it?
    """
    return rescaled(q, k, v)


@exercise.also(rescaled_afterward)
def rescaled_with_a_billionth(q, k, v):
    return rescaled(q, k, v, 1e-9)


@exercise.also(rescaled_afterward)
def rescaled_with_one_in_ten_to_the_eighth(q, k, v):
    return rescaled(q, k, v, 1e-8)


@exercise.also(rescaled_afterward)
def rescaled_with_a_millionth(q, k, v):
    return rescaled(q, k, v, 1e-6)


@exercise.also(rescaled_afterward)
def rescaled_with_less(q, k, v):
    return rescaled(q, k, v, 1e-12)


@exercise.also(rescaled_afterward)
def rescaled_by_normalize(q, k, v):
    weights = scores_of(q, k).softmax(-1).tril()
    return F.normalize(weights, p=1, dim=-1) @ v


@exercise.wrong("how-it-breaks")
def future_scores_set_to_zero(q, k, v):
    """Now the mask comes before the softmax, but it writes 0, and 0 is a score like any
    other: exp(0) is 1, and the future is read.

    A weight of 0 hides, a score of 0 does not. Which score becomes a weight of 0?
    """
    return scores_of(q, k).tril().softmax(-1) @ v


@exercise.wrong("how-it-breaks")
def minus_infinity_after_the_softmax(q, k, v):
    """-inf is written into the weights. It belongs into the scores, before the softmax:
    a weight of -inf times a value is -inf, or nan.

    The fill is right now and the place is not. What should the softmax see?
    """
    return scores_of(q, k).softmax(-1).masked_fill(future(q), -math.inf) @ v


@exercise.wrong("how-it-breaks")
def softmax_applied_twice(q, k, v):
    """A second softmax follows the mask. The rows add up to 1 again, but they are a softmax
    of weights: all of them between 0 and 1, so nearly even.

    One softmax is enough if the mask comes before it. Which of the two has to go?
    """
    weights = scores_of(q, k).softmax(-1).masked_fill(future(q), -math.inf)
    return weights.softmax(-1) @ v


@exercise.also(softmax_applied_twice)
def softmax_of_the_zeros_too(q, k, v):
    return scores_of(q, k).softmax(-1).tril().softmax(-1) @ v


@exercise.wrong("vectorize")
def past_hidden(q, k, v):
    """The rows add up to 1 now, and it is the past that is hidden: each position reads
    itself and what comes after it.

    Row = query, column = key. On which side of the diagonal is the future?
    """
    return scores_of(q, k).masked_fill(future(q).T, -math.inf).softmax(-1) @ v


@exercise.wrong("how-it-breaks")
def own_position_hidden(q, k, v):
    """Now the diagonal is hidden too. Position 0 has nothing left to read, and the softmax
    of a row of -inf is nan.

    Only the order of two steps was wrong, not the triangle. Which `diagonal` did the
    given code have?
    """
    return scores_of(q, k).masked_fill(future(q, 0), -math.inf).softmax(-1) @ v


@exercise.wrong("vectorize")
def mask_turned_around(q, k, v):
    """The mask is turned around: what should stay is hidden, and what should be hidden is
    open.

    `masked_fill(mask, ...)` writes where the mask is True, and `torch.where(mask, a, b)`
    takes a where it is True. Is yours True where a position may look, or where it may not?
    """
    return scores_of(q, k).masked_fill(~future(q), -math.inf).softmax(-1) @ v


@exercise.also(own_position_hidden)
def own_position_hidden_by_a_billion(q, k, v):
    return scores_of(q, k).masked_fill(future(q, 0), -1e9).softmax(-1) @ v


@exercise.wrong("how-it-breaks")
def next_position_left_open(q, k, v):
    """The rows add up to 1 now, and each position reads the one right after it as well:
    that one holds the answer.

    Only the order of two steps was wrong, not the triangle. Which `diagonal` did the
    given code have?
    """
    return scores_of(q, k).masked_fill(future(q, 2), -math.inf).softmax(-1) @ v


@exercise.wrong("how-it-breaks")
def mask_gone(q, k, v):
    """The rows add up to 1 because the mask is gone: every position reads the future.

    Both must hold: rows that add up to 1, and nothing of the future in them. Where can a
    mask act before the softmax divides?
    """
    return scores_of(q, k).softmax(-1) @ v


@exercise.wrong("why-it-works")
def root_gone(q, k, v):
    """The mask is right now, but the scores are no longer divided by the root of D.

    Only the order of two steps was wrong. What else did the line with the scores do?
    """
    return (q @ k.T).masked_fill(future(q), -math.inf).softmax(-1) @ v


@exercise.wrong("by-hand")
def scores_gone(q, k, v):
    """Every visible key gets the same weight: the scores are gone, and what is left is
    the plain mean of the past.

    The mask says which keys count, the scores say how much. Where do the scores come in
    after your change?
    """
    seen = (~future(q)).to(q.dtype)
    return seen / seen.sum(-1, keepdim=True) @ v


@exercise.wrong("by-hand")
def softmax_over_the_queries(q, k, v):
    """The softmax goes down the columns now, so it is the columns that add up to 1: each
    key shares itself out among the queries.

    The row is the one who reads. Along which `dim` must the weights of one reader add up
    to 1?
    """
    return scores_of(q, k).masked_fill(future(q), -math.inf).softmax(0) @ v


@exercise.also(softmax_over_the_queries)
def softmax_over_the_queries_then_masked(q, k, v):
    return scores_of(q, k).softmax(0).masked_fill(future(q), 0.0) @ v


def hidden_by(fill):
    """A number written into the scores of the future, or added to them."""

    @exercise.also(a_number_that_is_not_small_enough)
    def filled(q, k, v):
        return scores_of(q, k).masked_fill(future(q), fill).softmax(-1) @ v

    @exercise.also(a_number_that_is_not_small_enough)
    def added(q, k, v):
        return (scores_of(q, k) + fill * future(q)).softmax(-1) @ v

    filled.__name__, added.__name__ = f"filled_with_{fill:g}", f"added_{fill:g}"


@exercise.wrong("how-it-breaks")
def a_number_that_is_not_small_enough(q, k, v):
    """The mask comes before the softmax now, but the number it writes is not small enough:
    when the visible scores are lower still, all the weight goes to the future.

    Which number is smaller than every score there can be?
    """
    return scores_of(q, k).masked_fill(future(q), -1e4).softmax(-1) @ v


for fill in (-1.0, -10.0, -100.0, -1e3, -1e4, -1e5):
    hidden_by(fill)


@exercise.wrong("how-it-breaks")
def plus_infinity(q, k, v):
    """The mask comes before the softmax now, but it writes +inf, the largest score of all.
    A softmax of +inf is nan.

    Small scores get small weights. Which end of the number line is "none at all"?
    """
    return scores_of(q, k).masked_fill(future(q), math.inf).softmax(-1) @ v


@exercise.wrong("by-hand")
def exponential_that_overflows(q, k, v):
    """`exp` of a large score is inf, and inf / inf is nan. `softmax` in the given code
    was safe from that.

    Only the order of two steps was wrong: the softmax may stay.
    """
    exps = scores_of(q, k).masked_fill(future(q), -math.inf).exp()
    return exps / exps.sum(-1, keepdim=True) @ v


@exercise.wrong("vectorize")
def weights_given_back_as_well(q, k, v):
    """You give back two things, a tuple; the given function gave back the output alone.

    Only the order of two steps was wrong. What stood after `return`?
    """
    weights = scores_of(q, k).masked_fill(future(q), -math.inf).softmax(-1)
    return weights @ v, weights


@exercise.caught_as("returned-none")
def nothing_returned(q, k, v):
    causal_attention(q, k, v)


@exercise.caught_as("wrong-dtype")
def half_the_precision(q, k, v):
    return causal_attention(q, k, v).float()


@exercise.caught_as("modified-input")
def queries_scaled_in_place(q, k, v):
    q *= q.shape[-1] ** -0.5
    return (q @ k.T).masked_fill(future(q), -math.inf).softmax(-1) @ v


@exercise.caught_as("no-gradient")
def gradient_cut(q, k, v):
    return causal_attention(q, k, v).detach()


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(q, k, v):
    return causal_attention(torch.as_strided(q, q.shape, (q.shape[1], 1)), k, v)


@exercise.caught_as("forbidden-call")
def the_library_does_it(q, k, v):
    out = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)
    return out[0]


library = functools.partial(F.scaled_dot_product_attention, is_causal=True)
library.__name__ = "library_handed_in"  # type: ignore[attr-defined]
exercise.caught_as("forbidden-call")(library)
