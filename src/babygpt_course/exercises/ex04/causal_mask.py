"""04.2: hide from every query the keys that come later."""

import functools
import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import no_loops

exercise = Exercise(
    chapter="04_dot_product_attention",
    id="04.2",
    title="Hide the future",
    kind="implement",
    points=2,
    minutes=7,
    anchor="vectorize",
    rules=(
        no_loops(
            think="The mask is needed in every forward pass. `torch.ones(T, T)` and "
            "`triu` or `tril` make a triangle at once, and `masked_fill` fills it."
        ),
    ),
    equivalent={"T = scores.shape[-2]": "There are as many queries as keys."},
    hints="""
    Position 0 asks: which keys may it read? And position 1? Draw the table for T = 3 and
    cross out what has to go.

    The score of query i and key j stays if j <= i and becomes -inf if j > i. That is the
    triangle above the diagonal; the diagonal itself stays.

    T = the last size of scores; future = a (T, T) table of True above the diagonal
    (`torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)`); give back scores.masked_fill
    (future, -inf), which broadcasts over all axes in front.
    """,
)


@exercise.oracle
def causal_mask(scores):
    masked = scores.clone()
    for i in range(scores.shape[-2]):
        for j in range(scores.shape[-1]):
            if j > i:
                masked[..., i, j] = -math.inf
    return masked


def random_case(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype),)


@exercise.cases
def cases():
    yield Case((torch.tensor([[1.0, 2.0], [3.0, 4.0]]),))
    yield Case((torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]),))
    yield Case((torch.tensor([[0.0, -1.0], [0.0, 0.0]]),))
    yield Case((torch.tensor([[1.0, 0.0], [2.0, 3.0]]),))
    yield Case((torch.tensor([[-1.0, -2.0, 0.5], [0.0, 1.0, -3.0], [2.0, 0.0, -1.0]]),))
    yield Case((torch.tensor([[2.0]]),), gradient=True)
    hidden = torch.tensor([[1.0, 2.0, 1.0], [-math.inf, 2.0, 3.0], [1.0, 0.0, 2.0]])
    yield Case((hidden,), "a score is -inf already")
    yield Case((torch.tensor([[-3e10, 1.0], [2e10, -4e9]]),), "large scores")
    yield Case((torch.arange(1.0, 13.0).view(3, 2, 2),))
    yield Case(random_case(2, 3, 3, seed=0))
    yield Case(random_case(2, 3, 4, 4, seed=2))
    yield Case(random_case(3, 2, 5, 5, seed=3, dtype=torch.float32), "float32")
    yield Case(random_case(1, 2, 3, 7, 7, seed=4))
    (scores,) = random_case(2, 4, 4, seed=5)
    yield Case((scores.transpose(-2, -1),), NON_CONTIGUOUS)
    yield Case((random_case(2, 3, 6, seed=6)[0][..., ::2],), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def where_it_may_look(scores):
    T = scores.size(-1)
    seen = torch.tril(torch.ones(T, T)) == 1
    return torch.where(seen, scores, float("-inf"))


@exercise.right
def minus_infinity_added(scores):
    T = scores.shape[-1]
    return scores + torch.full((T, T), -math.inf, dtype=scores.dtype).triu(1)


@exercise.right
def positions_compared(scores):
    at = torch.arange(scores.shape[-1])
    masked = scores.clone()
    masked[..., at[None, :] > at[:, None]] = -torch.inf
    return masked


@exercise.right
def a_column_of_positions(scores):
    T = scores.shape[-1]
    keys = torch.arange(T).expand(T, T)
    return scores.masked_fill(keys > keys.T, torch.tensor(-math.inf))


# --- wrong, each with the misconception behind it -------------------------------------


def future(scores, diagonal=1):
    """True where the key is later than the query."""
    T = scores.shape[-1]
    return torch.ones(T, T, dtype=torch.bool).triu(diagonal)


@exercise.wrong("vectorize")
def past_hidden(scores):
    """The past is hidden and the future is open: the triangle lies on the wrong side.

    Row = query, column = key. In the first row stands what position 0 reads. Which of its
    keys lie in the future, those on the right or those on the left?
    """
    return scores.masked_fill(future(scores).T, -math.inf)


@exercise.wrong("vectorize")
def own_position_hidden(scores):
    """The diagonal is hidden too: no position may read itself. Position 0 then has nothing
    left to read, and the softmax of a row of -inf is nan.

    A query may read its own position, since that token is known when the next one is
    asked for. With which `diagonal` does a triangle begin one step above the diagonal?
    """
    return scores.masked_fill(future(scores, 0), -math.inf)


@exercise.wrong("vectorize")
def mask_turned_around(scores):
    """The mask is turned around: what should stay is hidden, and what should be hidden is
    open.

    `masked_fill(mask, ...)` writes where the mask is True, and `torch.where(mask, a, b)`
    takes a where it is True. Is yours True where a position may look, or where it may not?
    """
    return scores.masked_fill(future(scores, 0).T, -math.inf)


@exercise.wrong("vectorize")
def next_position_left_open(scores):
    """Each position still reads the one right after it, and that one holds the answer.

    Predicting the next character is easy for someone who may read it. With which
    `diagonal` does the triangle begin right above the diagonal?
    """
    return scores.masked_fill(future(scores, 2), -math.inf)


@exercise.wrong("how-it-breaks")
def future_scores_set_to_zero(scores):
    """The scores of the future become 0. That hides nothing: 0 is a score like any other,
    and exp(0) is 1.

    A hidden key must end up with weight 0 after the softmax. Which number has an
    exponential of 0?
    """
    return scores.masked_fill(future(scores), 0.0)


@exercise.also(future_scores_set_to_zero)
def scores_times_the_triangle(scores):
    T = scores.shape[-1]
    return scores * torch.tril(torch.ones(T, T, dtype=scores.dtype))


@exercise.wrong("how-it-breaks")
def plus_infinity(scores):
    """The scores of the future become +inf; it should be -inf. A softmax of +inf is nan.

    Small scores get small weights. Which end of the number line is "none at all"?
    """
    return scores.masked_fill(future(scores), math.inf)


def finite(fill):
    """A large negative number in place of -inf."""

    @exercise.also(large_negative_number)
    def filled(scores):
        return scores.masked_fill(future(scores), fill)

    filled.__name__ = f"filled_with_{fill:g}"


@exercise.wrong("how-it-breaks")
def large_negative_number(scores):
    """A large negative number stands where -inf is asked for.

    It hides a key only as long as all visible scores are much larger, and half precision
    ends at -65,504. `-math.inf` and `float("-inf")` need no such luck: exp(-inf) is
    exactly 0.
    """
    return scores.masked_fill(future(scores), -1e9)


for fill in (
    -100,
    -1000,
    *(-(10.0**n) for n in (4, 5, 6, 7, 8, 10, 12, 15, 18, 20, 30)),
):
    finite(fill)
finite(-9e15)
finite(-1e38)


@exercise.also(large_negative_number)
def smallest_number_of_the_dtype(scores):
    return scores.masked_fill(future(scores), torch.finfo(scores.dtype).min)


@exercise.also(large_negative_number)
def large_negative_number_added(scores):
    return scores + future(scores) * -1e9


@exercise.also(large_negative_number)
def ten_thousand_subtracted(scores):
    return scores - future(scores) * 1e4


@exercise.wrong("how-it-breaks")
def zero_times_infinity(scores):
    """Visible scores became nan: somewhere 0 is multiplied with -inf, and that is no
    number.

    A triangle of zeros and ones can switch a number off, but not an infinity. Can the
    -inf be put in its place without a product?
    """
    return scores + future(scores).to(scores.dtype) * -math.inf


@exercise.wrong("how-it-breaks")
def multiplied_with_minus_infinity(scores):
    """The scores of the future are multiplied with -inf: a negative one becomes +inf, and
    0 becomes nan.

    Hiding must not depend on what the score was. What happens to it if it is replaced
    instead, or if -inf is added?
    """
    return scores * torch.where(future(scores), -math.inf, 1.0).to(scores.dtype)


@exercise.wrong("how-it-breaks")
def score_of_zero_taken_for_hidden(scores):
    """A visible score that is exactly 0 is hidden as well: the function looks for zeros in
    the scores and not in the mask.

    A score of 0 is a fine score. Build the triangle from ones, and ask the triangle
    where to hide.
    """
    lower = torch.tril(scores)
    return lower.masked_fill(lower == 0, -math.inf)


@exercise.wrong("how-it-breaks")
def future_score_of_zero_left_open(scores):
    """A future score that is exactly 0 stays visible: the function looks for numbers other
    than 0 in the scores and not in the mask.

    What is above the diagonal is hidden whatever it is. Build the triangle from ones, and
    ask the triangle where to hide.
    """
    return scores.masked_fill(scores.triu(1) != 0, -math.inf)


@exercise.wrong("vectorize")
def mask_of_numbers(scores):
    """The mask holds numbers, 0.0 and 1.0, and `masked_fill` (or `where`) wants True and
    False.

    `mask == 1` and `mask.bool()` make True and False of numbers, or `torch.ones(T, T,
    dtype=torch.bool)` has them from the start. Which of them should be True: those to hide,
    or those to keep?
    """
    return scores.masked_fill(future(scores).float(), -math.inf)


@exercise.also(mask_of_numbers)
def mask_of_numbers_in_where(scores):
    return torch.where((~future(scores)).float(), scores, -math.inf)


@exercise.also(mask_of_numbers)
def mask_of_integers(scores):
    return scores.masked_fill(future(scores).long(), -math.inf)


@exercise.also(mask_of_numbers)
def mask_of_the_dtype_of_the_scores(scores):
    return scores.masked_fill(torch.ones_like(scores).triu(1), -math.inf)


@exercise.wrong("vectorize")
def mask_without_the_scores(scores):
    """This is the mask alone, 0 and -inf: the scores are gone.

    The visible scores should come back as they were. What is the mask to be added to?
    """
    return torch.zeros_like(scores).masked_fill(future(scores), -math.inf)


@exercise.also(mask_without_the_scores)
def table_alone(scores):
    T = scores.shape[-1]
    return torch.full((T, T), -math.inf, dtype=scores.dtype).triu(1)


@exercise.also(mask_without_the_scores)
def true_and_false(scores):
    return ~future(scores)


@exercise.also(mask_without_the_scores)
def true_where_hidden(scores):
    return future(scores)


@exercise.wrong("vectorize")
def softmax_applied_as_well(scores):
    """These are weights: the softmax is applied already. Here only the scores are masked.

    What should stand in the place of a hidden score, and what stands there after a
    softmax?
    """
    return causal_mask(scores).softmax(-1)


@exercise.wrong("vectorize")
def future_scores_dropped(scores):
    """Only the visible scores come back, in one long row; the table is gone.

    Indexing with True and False picks numbers out. Here every number keeps its place, and
    those that are hidden become -inf. What keeps the shape?
    """
    return scores[..., ~future(scores)]


@exercise.wrong("vectorize")
def size_of_the_first_axis(scores):
    """The size of the triangle is taken from the first axis. That is the batch as soon as
    there is one.

    The last two axes are queries and keys, whatever stands in front of them. Which index
    is the last axis?
    """
    T = len(scores)
    return scores.masked_fill(torch.ones(T, T).triu(1) == 1, -math.inf)


def by_first_axis(function):
    """The same misconception, which another operation reports in other words."""

    @functools.wraps(function)
    def made(scores):
        return function(scores, len(scores))

    return exercise.also(size_of_the_first_axis)(made)


@by_first_axis
def size_of_the_first_axis_then_where(scores, T):
    return torch.where(torch.ones(T, T).tril() == 1, scores, -math.inf)


@by_first_axis
def size_of_the_first_axis_then_added(scores, T):
    return scores + torch.full((T, T), -math.inf, dtype=scores.dtype).triu(1)


@exercise.wrong("vectorize")
def texts_of_the_batch_masked(scores):
    """With a batch in front the mask hides whole texts instead of keys: it works on the
    first two axes.

    Queries and keys are the last two axes, whatever stands in front of them. `x[..., i,
    j]` counts from the end; `x[i, j]` counts from the start.
    """
    at = torch.arange(scores.shape[1])
    later = at[None, :] > torch.arange(len(scores))[:, None]
    later = later.view(*later.shape, *[1] * (scores.ndim - 2))
    return scores.masked_fill(later, -math.inf)


@exercise.caught_as("modified-input")
def filled_in_place(scores):
    return scores.masked_fill_(future(scores), -math.inf)


@exercise.caught_as("modified-input")
def written_into_the_scores(scores):
    scores[..., future(scores)] = -math.inf
    return scores


@exercise.caught_as("no-gradient")
def gradient_cut(scores):
    return causal_mask(scores.detach())


@exercise.caught_as("wrong-dtype")
def always_float32(scores):
    return causal_mask(scores.float())


@exercise.caught_as("returned-none")
def nothing_returned(scores):
    causal_mask(scores)


@exercise.caught_as("wrong-shape")
def batch_taken_away(scores):
    return causal_mask(scores).flatten(0, -2)


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(scores):
    sizes = torch.tensor([1, *scores.shape[:0:-1]]).cumprod(0).flip(0).tolist()
    return causal_mask(torch.as_strided(scores, scores.shape, sizes))


@exercise.caught_as("raised")
def size_of_the_mask_typed_in(scores):
    return scores.masked_fill(torch.ones(3, 3).triu(1) == 1, -math.inf)


@exercise.caught_as("python-loop")
def row_by_row(scores):
    masked = scores.clone()
    for i in range(scores.shape[-1]):
        masked[..., i, i + 1 :] = -math.inf
    return masked
