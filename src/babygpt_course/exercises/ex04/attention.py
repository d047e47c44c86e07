"""04.1: scaled dot-product attention, written out."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid, no_loops

exercise = Exercise(
    chapter="04_dot_product_attention",
    id="04.1",
    title="Attention in four steps",
    kind="implement",
    points=3,
    minutes=10,
    anchor="vectorize",
    rules=(
        no_loops(
            think="All scores at once are one matrix product, (T, D) times (D, S). All "
            "weighted sums at once are another one."
        ),
        forbid(
            "scaled_dot_product_attention attention_weights MultiheadAttention "
            "multi_head_attention_forward MultiHeadAttention CrossAttention "
            "flex_attention",
            think="Scores, the root, the softmax, the weighted sum: four steps, each of "
            "them a line. After this exercise you may use the library's.",
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
    One query, two keys. By what do you see which key it fits better? And what must the
    weights of the two values add up to?

    softmax(q k^T / sqrt(D)) v: the scores are (T, S), row = query, column = key; each row
    of weights adds up to 1; D is the number of channels of one query.

    scores = q times k transposed, over the root of D; weights = softmax of scores over the
    keys, so along each row; give back weights times v.
    """,
)


@exercise.oracle
def attention(q, k, v):
    rows = []
    for query in q:
        scores = [(query * key).sum() / math.sqrt(len(query)) for key in k]
        top = max(scores).detach()
        exps = [torch.exp(score - top) for score in scores]
        parts = [e / sum(exps) * value for e, value in zip(exps, v)]
        rows.append(sum(parts))
    return torch.stack(rows)


def random_case(T, S, D, E, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    made = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((T, D), (S, D), (S, E))
    )
    q, k, v = ((x * scale).to(dtype) for x in made)
    return q, k, v


@exercise.cases
def cases():
    one, two = torch.ones(1, 1), torch.tensor([[0.0], [1.0]])
    yield Case((one, two, torch.tensor([[0.0], [10.0]])))
    q, k = torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.zeros(2, 4)
    k[1] = 1
    yield Case((q, k, torch.tensor([[0.0], [10.0]])))
    q = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    k = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [1, -1, 0, 0]])
    yield Case((q, k, torch.tensor([[1.0, 0], [0, 1], [0, 0]])))
    yield Case((-q[:1], k[:2], torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
    far = torch.tensor([[1.0], [0.0]]), torch.tensor([[2000.0], [0.0], [1000.0]])
    v = torch.tensor([[3.0, 0.0], [0.0, 6.0], [9.0, 3.0]])
    yield Case((far[0][:1], far[1], v), "large scores")
    yield Case((*far, v), "large scores")
    yield Case((-far[0], far[1], v), "large scores")
    yield Case((*(x.double() for x in far), v.double()), "large scores")
    for seed, (T, S, D, E) in enumerate([(2, 3, 4, 5), (5, 2, 3, 7), (6, 9, 8, 4)]):
        yield Case(random_case(T, S, D, E, seed))
        yield Case(random_case(T, S, D, E, seed, torch.float32), "float32")
    yield Case(random_case(4, 4, 4, 4, 3))
    yield Case(random_case(3, 1, 2, 5, 4))
    yield Case(random_case(5, 7, 6, 3, 5, scale=3.0))
    yield Case(random_case(2, 3, 4, 1, 7), gradient=True)
    q, k, v = random_case(3, 4, 2, 5, 6)
    fused = torch.cat(
        [torch.ones_like(k), k], dim=1
    )  # k is the second half of each row
    strided = q.T.contiguous().T, fused[:, 2:], v.T.contiguous().T
    yield Case(strided, NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def scaled_before_the_product(q, k, v):
    return F.softmax(q * q.size(1) ** -0.5 @ k.T, dim=1) @ v


@exercise.right
def with_einsum(q, k, v):
    scores = torch.einsum("td,sd->ts", q, k) / torch.tensor(q.shape[-1]).sqrt()
    return torch.einsum("ts,sf->tf", scores.softmax(-1), v)


@exercise.right
def softmax_written_out(q, k, v):
    scores = torch.matmul(q, k.transpose(-2, -1)).div(math.sqrt(k.shape[-1]))
    exps = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return exps @ v / exps.sum(dim=-1, keepdim=True)


@exercise.right
def products_added_up(q, k, v):
    scores = (q[:, None, :] * k[None, :, :]).sum(-1) / q.shape[1] ** 0.5
    return (scores.log_softmax(1).exp()[:, :, None] * v).sum(dim=1)


# --- wrong, each with the misconception behind it -------------------------------------


def scores_of(q, k):
    """The dot products before any scaling, (T, S)."""
    return q @ k.T


@exercise.wrong("why-it-works")
def root_forgotten(q, k, v):
    """The scores are not divided by the root of D, so the weights are sharper than they
    should be.

    A score is a sum of D products, so its typical size grows with D, like the root of D.
    What keeps the softmax from putting everything on one key when D is large?
    """
    return scores_of(q, k).softmax(-1) @ v


@exercise.wrong("why-it-works")
def divided_by_d_itself(q, k, v):
    """The scores are divided by D; it should be the root of D.

    The variance of a sum of D products is D. In which unit is its typical size: the
    variance, or the square root of the variance?
    """
    return (scores_of(q, k) / q.shape[-1]).softmax(-1) @ v


@exercise.wrong("why-it-works")
def multiplied_by_the_root(q, k, v):
    """The scores are multiplied by the root of D instead of divided by it.

    The scores are too large already when D is large. Do they get larger or smaller on
    your line?
    """
    return (scores_of(q, k) * math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("why-it-works")
def root_of_the_number_of_keys(q, k, v):
    """The scores are divided by the root of S, the number of keys. It should be the root
    of D, the number of channels.

    Over what does a dot product add up: over the keys, or over the channels of one key?
    Which entry of `shape` is that?
    """
    return (scores_of(q, k) / math.sqrt(k.shape[0])).softmax(-1) @ v


@exercise.wrong("why-it-works")
def root_of_the_number_of_queries(q, k, v):
    """The scores are divided by the root of T, the number of queries. It should be the
    root of D, the number of channels.

    `len(q)` and `q.shape[0]` count the queries. Over what does a dot product add up?
    """
    return (scores_of(q, k) / math.sqrt(len(q))).softmax(-1) @ v


@exercise.wrong("why-it-works")
def root_of_the_width_of_the_values(q, k, v):
    """The scores are divided by the root of E, the width of the values. It should be the
    root of D, the width of queries and keys.

    The values come in after the softmax and have nothing to do with the scores. In many
    models E and D happen to be equal; here they are not.
    """
    return (scores_of(q, k) / math.sqrt(v.shape[-1])).softmax(-1) @ v


@exercise.wrong("by-hand")
def root_applied_after_the_softmax(q, k, v):
    """The root divides the weights, after the softmax, so the weights of a query no
    longer add up to 1.

    The root is there to keep the scores small before the exponential sees them. On which
    side of the softmax does it belong?
    """
    return scores_of(q, k).softmax(-1) / math.sqrt(q.shape[-1]) @ v


@exercise.wrong("by-hand")
def softmax_over_the_queries(q, k, v):
    """The softmax goes down the columns: the queries compete for each key. The weights of
    one query do not add up to 1.

    Row = query, column = key. Each query shares out its attention among the keys, so
    along which `dim` must the weights add up to 1? With one query alone, every weight of
    yours is 1.
    """
    return (scores_of(q, k) / math.sqrt(q.shape[-1])).softmax(0) @ v


@exercise.wrong("by-hand")
def softmax_over_all_pairs(q, k, v):
    """The softmax runs over all pairs of query and key at once, so all the queries
    together share one unit of attention.

    Each query has its own. How many sums should be 1, and what are they: the whole table,
    or its rows?
    """
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    return scores.flatten().softmax(0).view_as(scores) @ v


@exercise.wrong("by-hand")
def softmax_forgotten(q, k, v):
    """The scores themselves are used as weights: there is no softmax.

    A score may be negative, and the scores of a query do not add up to 1. What turns
    scores into a distribution?
    """
    return scores_of(q, k) / math.sqrt(q.shape[-1]) @ v


@exercise.also(softmax_forgotten)
def softmax_and_root_forgotten(q, k, v):
    return scores_of(q, k) @ v


@exercise.wrong("by-hand")
def scores_divided_by_their_sum(q, k, v):
    """The weights are the scores divided by their sum. They add up to 1, but a negative
    score gives a negative weight, and a sum near 0 blows everything up.

    Before they are divided by their sum, all numbers have to become positive. Which
    function does that in a softmax?
    """
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    return scores / scores.sum(-1, keepdim=True) @ v


@exercise.wrong("by-hand")
def only_the_best_key_counts(q, k, v):
    """Each query takes the value of its best key and nothing of the others, as if this
    were a dict.

    That lookup has no gradient: moving a key a little changes nothing, so nothing can be
    learned. What takes a bit of every value, and most of the best one?
    """
    return v[scores_of(q, k).argmax(-1)]


@exercise.wrong("by-hand")
def lengths_thrown_away(q, k, v):
    """Queries and keys are scaled to length 1 first: this compares directions only, the
    cosine.

    In dot-product attention a long query asks more loudly: its weights are sharper. What
    would you lose if all queries had the same length?
    """
    return scores_of(F.normalize(q, dim=-1), F.normalize(k, dim=-1)).softmax(-1) @ v


@exercise.also(lengths_thrown_away)
def lengths_thrown_away_then_the_root(q, k, v):
    cosine = scores_of(F.normalize(q, dim=-1), F.normalize(k, dim=-1))
    return (cosine / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("by-hand")
def keys_handed_over_instead_of_values(q, k, v):
    """What is mixed are the keys; it should be the values.

    The key says by what a position is found, the value says what it hands over. Which of
    the two comes after the weights in your last line?
    """
    return (scores_of(q, k) / math.sqrt(q.shape[-1])).softmax(-1) @ k


@exercise.wrong("by-hand")
def weights_without_values(q, k, v):
    """These are the weights, one for each pair of query and key. The values have not been
    mixed yet.

    The weights say how much of each value every query gets. Which product of (T, S) with
    (S, E) gives (T, E)?
    """
    return (scores_of(q, k) / math.sqrt(q.shape[-1])).softmax(-1)


@exercise.wrong("vectorize")
def keys_reshaped_instead_of_transposed(q, k, v):
    """The keys are reshaped from (S, D) to (D, S), which is not a transpose: the numbers of
    different keys get mixed up, and no error tells.

    `reshape` and `view` read the numbers in the same order into other rows. A transpose
    exchanges rows and columns. What are the two for k = [[1, 2, 3], [4, 5, 6]]?
    """
    scores = q @ k.reshape(k.shape[1], k.shape[0]) / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v


@exercise.also(keys_reshaped_instead_of_transposed)
def keys_viewed_instead_of_transposed(q, k, v):
    scores = q @ k.view(k.shape[1], k.shape[0]) / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v


@exercise.wrong("vectorize")
def keys_not_transposed(q, k, v):
    """The product of q and k does not fit: the keys are not transposed. If S and D happen
    to be equal it even runs, and is wrong.

    q is (T, D) and k is (S, D); every query should meet every key. With which shape of
    the keys does the D in the middle cancel?
    """
    return (q @ k / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("vectorize")
def queries_and_keys_paired_off(q, k, v):
    """`q * k` multiplies the first query with the first key, the second with the second:
    each query meets one key only. (If there are more keys than queries it may not fit at
    all.)

    Every query should meet every key. Which product of (T, D) and (D, S) gives (T, S)?
    """
    return ((q * k).sum(-1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("vectorize")
def queries_and_keys_swapped(q, k, v):
    """The scores are k times q transposed: row = key, column = query. That is the table
    turned over, and it does not fit the values.

    Who asks gets a row. Which of the two has to stand on the left of the `@`?
    """
    return (k @ q.T / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("by-hand")
def exponential_that_overflows(q, k, v):
    """`exp` of a large score is inf, and inf / inf is nan (or a small one is 0, and 0 / 0
    is nan). The formula is right and the numbers are not.

    A softmax does not change when the same number is subtracted from a whole row. Which
    number makes the largest score 0? (Or use `torch.softmax`, which does that.)
    """
    exps = (scores_of(q, k) / math.sqrt(q.shape[-1])).exp()
    return exps / exps.sum(-1, keepdim=True) @ v


@exercise.also(exponential_that_overflows)
def exponential_that_overflows_divided_last(q, k, v):
    exps = (scores_of(q, k) / math.sqrt(q.shape[-1])).exp()
    return exps @ v / exps.sum(-1, keepdim=True)


@exercise.wrong("by-hand")
def one_maximum_for_all_rows(q, k, v):
    """The largest score of the whole table is subtracted. In a row that is far below it,
    every exponential becomes 0, and 0 / 0 is nan.

    Each row is a softmax of its own. Over which `dim` should the maximum be taken, and
    with what does it keep its shape?
    """
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    exps = (scores - scores.max()).exp()
    return exps / exps.sum(-1, keepdim=True) @ v


@exercise.also(one_maximum_for_all_rows)
def one_maximum_for_all_rows_divided_last(q, k, v):
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    exps = (scores - scores.max()).exp()
    return exps @ v / exps.sum(-1, keepdim=True)


@exercise.wrong("by-hand")
def later_keys_hidden(q, k, v):
    """Keys that come later than the query are hidden. Nobody asked for that here: every
    query reads every key.

    In this exercise queries and keys need not come from the same text, so "later" means
    nothing. The causal mask is the next exercise.
    """
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    seen = torch.ones_like(scores, dtype=torch.bool).tril()
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v


@exercise.wrong("vectorize")
def weights_given_back_as_well(q, k, v):
    """You give back two things, a tuple; asked for is the output alone.

    The weights are worth a look, with a `print` inside or in a function of their own. What
    stands after your `return`?
    """
    weights = (scores_of(q, k) / math.sqrt(q.shape[-1])).softmax(-1)
    return weights @ v, weights


@exercise.caught_as("returned-none")
def printed_not_returned(q, k, v):
    print(attention(q, k, v))


@exercise.caught_as("wrong-dtype")
def half_the_precision(q, k, v):
    return attention(q, k, v).float()


@exercise.caught_as("wrong-shape")
def an_axis_too_many(q, k, v):
    return attention(q, k, v)[None]


@exercise.caught_as("modified-input")
def query_divided_in_place(q, k, v):
    q /= math.sqrt(q.shape[-1])
    return (q @ k.T).softmax(-1) @ v


@exercise.caught_as("no-gradient")
def gradient_cut(q, k, v):
    return attention(q, k, v).detach()


@exercise.caught_as("wrong-gradient")
def gradient_of_the_weights_cut(q, k, v):
    return (q @ k.T / math.sqrt(q.shape[-1])).softmax(-1).detach() @ v


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(q, k, v):
    return attention(torch.as_strided(q, q.shape, (q.shape[1], 1)), k, v)


@exercise.caught_as("python-loop")
def the_loop_itself(q, k, v):
    rows = []
    for query in q:
        weights = torch.softmax(k @ query / math.sqrt(len(query)), dim=0)
        rows.append(weights @ v)
    return torch.stack(rows)


@exercise.caught_as("forbidden-call")
def the_library_does_it(q, k, v):
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]


exercise.caught_as("forbidden-call")(F.scaled_dot_product_attention)
