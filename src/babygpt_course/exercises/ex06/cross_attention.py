"""06.1: attention of one sequence to another."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="06_cross_attention",
    id="06.1",
    title="Read another sequence",
    kind="implement",
    points=3,
    minutes=11,
    anchor="vectorize",
    rules=(
        forbid(
            "scaled_dot_product_attention attention_weights MultiheadAttention "
            "multi_head_attention_forward MultiHeadAttention CrossAttention "
            "flex_attention",
            think="Three projections, the scores, the softmax, the weighted sum: each of "
            "them is a line. After this exercise you may use the library's.",
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
    Who asks here, and who is asked? How many rows must the result have, and how many
    weights must stand in one row?

    q = x w_q is (T, D); k = context w_k is (S, D); v = context w_v is (S, F). Then
    softmax(q k^T / sqrt(D)) v, with the softmax along each row of the (T, S) scores.

    Three products make q, k and v. scores = q times k transposed, over the root of D;
    weights = softmax of scores over the S positions of the context; give back weights
    times v.
    """,
)


def projected(vector, w):
    """One vector times a matrix, added up number by number."""
    return sum(number * row for number, row in zip(vector, w))


@exercise.oracle
def cross_attention(x, context, w_q, w_k, w_v):
    rows = []
    for asks in x:
        query = projected(asks, w_q)
        keys = [projected(c, w_k) for c in context]
        scores = [(query * key).sum() / math.sqrt(len(query)) for key in keys]
        top = max(scores).detach()
        exps = [torch.exp(score - top) for score in scores]
        values = [projected(c, w_v) for c in context]
        rows.append(sum(e / sum(exps) * value for e, value in zip(exps, values)))
    return torch.stack(rows)


def random_case(T, C, S, E, D, out, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (T, C), (S, E), (C, D), (E, D), (E, out)
    made = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    )
    x, context, w_q, w_k, w_v = (m.to(dtype) for m in made)
    return x, context, w_q, w_k, w_v


@exercise.cases
def cases():
    one, first, second = torch.eye(1), torch.eye(2)[:, :1], torch.eye(2)[:, 1:]
    context = torch.tensor([[0.0, 2.0], [0.0, 6.0]])
    yield Case((one, context, one, first, second))
    context = torch.tensor([[math.log(3), 2.0], [0.0, 6.0]])
    yield Case((one, context, one, first, second))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    context = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    w_k = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    yield Case((x, context, torch.eye(2), w_k, torch.tensor([[1.0, 1.0], [0.0, 1.0]])))
    context = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    w_q = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    w_k = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 2.0, 1.0, 1.0]])
    x, w_v = torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0], [4.0]])
    yield Case((x, context, w_q, w_k, w_v))
    far = torch.tensor([[1.0], [2.0]]), torch.tensor([[2000.0], [0.0], [1000.0]])
    yield Case((*far, one, one, 2 * one), "large scores")
    yield Case((*far, one, -one, torch.tensor([[1.0, 2.0]])), "large scores")
    yield Case((far[0] - 1, far[1], one, one, one), "large scores")
    for seed, sizes in enumerate([(2, 4, 3, 5, 6, 7), (6, 3, 2, 4, 5, 8)]):
        yield Case(random_case(*sizes, seed))
        yield Case(random_case(*sizes, seed, torch.float32), "float32")
    yield Case(random_case(4, 4, 4, 4, 4, 4, 2))
    yield Case(random_case(3, 4, 5, 4, 6, 2, 3))
    yield Case(random_case(5, 3, 7, 5, 4, 9, 4))
    yield Case(random_case(3, 2, 4, 5, 3, 1, 5), gradient=True)
    x, context, w_q, w_k, w_v = random_case(3, 6, 5, 4, 2, 7, 6)
    strided = x[::2], context.T.contiguous().T, w_q, w_k.T.contiguous().T, w_v
    yield Case(strided, NON_CONTIGUOUS)
    yield Case((x, context[::2], w_q.T.contiguous().T, w_k, w_v), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def keys_projected_into_the_askers_width(x, context, w_q, w_k, w_v):
    """(x w_q) (context w_k)^T = x (w_q w_k^T) context^T."""
    scores = x @ (w_q @ w_k.T) @ context.T * w_q.size(1) ** -0.5
    return F.softmax(scores, dim=1) @ context @ w_v


@exercise.right
def with_einsum(x, context, w_q, w_k, w_v):
    q = torch.einsum("tc,cd->td", x, w_q)
    k = torch.einsum("se,ed->sd", context, w_k)
    v = torch.einsum("se,ef->sf", context, w_v)
    scores = torch.einsum("td,sd->ts", q, k) / math.sqrt(k.shape[-1])
    return torch.einsum("ts,sf->tf", scores.softmax(-1), v)


@exercise.right
def one_query_at_a_time(x, context, w_q, w_k, w_v):
    k, v = torch.matmul(context, w_k), torch.matmul(context, w_v)
    rows = [torch.softmax(k @ (row @ w_q) / k.shape[1] ** 0.5, dim=0) @ v for row in x]
    return torch.stack(rows)


@exercise.right
def softmax_written_out(x, context, w_q, w_k, w_v):
    q, k, v = F.linear(x, w_q.T), F.linear(context, w_k.T), context.mm(w_v)
    scores = q.mm(k.t()).div(math.sqrt(q.shape[-1]))
    exps = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return exps @ v / exps.sum(dim=-1, keepdim=True)


# --- wrong, each with the misconception behind it -------------------------------------


def attended(q, k, v):
    return (q @ k.T / math.sqrt(q.shape[-1])).softmax(-1) @ v


def scaled_by(divisor, context, x, w_q, w_k, w_v):
    return (x @ w_q @ (context @ w_k).T / divisor).softmax(-1) @ (context @ w_v)


@exercise.wrong("how-it-breaks")
def reads_itself(x, context, w_q, w_k, w_v):
    """Keys and values are made of x, so x reads itself and never looks at the context.
    With C different from E that does not even fit.

    Who asks, and who is asked? Which of q, k and v come from the sequence that is read?
    """
    return attended(x @ w_q, x @ w_k, x @ w_v)


@exercise.also(reads_itself)
def reads_itself_values_first(x, context, w_q, w_k, w_v):
    v = x @ w_v
    return attended(x @ w_q, x @ w_k, v)


@exercise.wrong("how-it-breaks")
def context_reads_itself(x, context, w_q, w_k, w_v):
    """The queries are made of the context too, so the context reads itself, and x is never
    used. With C different from E that does not even fit.

    The result has one row for each position of x. Which sequence must the queries come
    from?
    """
    return attended(context @ w_q, context @ w_k, context @ w_v)


@exercise.wrong("by-hand")
def context_asks(x, context, w_q, w_k, w_v):
    """The roles are swapped: the context asks, and x is read.

    The result should have T rows, one for each position of x. A row belongs to the one who
    asks. So which sequence makes the queries?
    """
    return attended(context @ w_q, x @ w_k, x @ w_v)


@exercise.wrong("by-hand")
def keys_of_the_asker(x, context, w_q, w_k, w_v):
    """The keys are made of x, the values of the context: weights for the positions of x
    are used on the positions of the context.

    A key says by what a position is found, the value what it hands over. They belong to
    the same position. Of which sequence?
    """
    return attended(x @ w_q, x @ w_k, context @ w_v)


@exercise.wrong("by-hand")
def values_of_the_asker(x, context, w_q, w_k, w_v):
    """The values are made of x: the weights say where to look in the context, and then x
    hands itself over.

    What a query gets is what stands at the places that it looks at. Which sequence is
    that?
    """
    return attended(x @ w_q, context @ w_k, x @ w_v)


@exercise.wrong("by-hand")
def values_not_projected(x, context, w_q, w_k, w_v):
    """The context itself is mixed; `w_v` is not used.

    The result should be (T, F). With which matrix does a row of the context, E numbers,
    become F numbers?
    """
    return attended(x @ w_q, context @ w_k, context)


@exercise.wrong("by-hand")
def keys_not_projected(x, context, w_q, w_k, w_v):
    """The queries are held against the context itself; `w_k` is not used. With D different
    from E that does not even fit.

    A query has D numbers and a row of the context has E. What makes them comparable?
    """
    return attended(x @ w_q, context, context @ w_v)


@exercise.wrong("by-hand")
def queries_not_projected(x, context, w_q, w_k, w_v):
    """The keys are held against x itself; `w_q` is not used. With C different from D that
    does not even fit.

    A row of x has C numbers and a key has D. What makes them comparable?
    """
    return attended(x, context @ w_k, context @ w_v)


@exercise.wrong("by-hand")
def nothing_projected(x, context, w_q, w_k, w_v):
    """x is held against the context as it is, without any of the three matrices.

    The two sequences come from different places and have different widths. What do `w_q`,
    `w_k` and `w_v` do about that?
    """
    return attended(x, context, context)


@exercise.wrong("the-module")
def weights_transposed(x, context, w_q, w_k, w_v):
    """The weight matrices are transposed first, as in `nn.Linear`. There a matrix is (out,
    in); here it is (in, out), so that `x @ w_q` fits as it stands.

    x is (T, C) and w_q is (C, D). With which product does the C in the middle cancel?
    """
    return attended(F.linear(x, w_q), F.linear(context, w_k), F.linear(context, w_v))


@exercise.also(weights_transposed)
def weights_transposed_by_hand(x, context, w_q, w_k, w_v):
    return attended(x @ w_q.T, context @ w_k.T, context @ w_v.T)


@exercise.wrong("by-hand")
def keys_and_values_swapped(x, context, w_q, w_k, w_v):
    """`w_k` and `w_v` have changed places: what should be handed over is compared, and what
    should be compared is handed over.

    The keys meet the queries and need their D numbers. Which of the two matrices is (E,
    D)?
    """
    return attended(x @ w_q, context @ w_v, context @ w_k)


@exercise.wrong("why-it-works")
def root_forgotten(x, context, w_q, w_k, w_v):
    """The scores are not divided by the root of D, so the weights are sharper than they
    should be.

    A score is a sum of D products, so its typical size grows like the root of D. That does
    not depend on where the keys come from. On which line do you divide?
    """
    return scaled_by(1.0, context, x, w_q, w_k, w_v)


@exercise.wrong("why-it-works")
def divided_by_d_itself(x, context, w_q, w_k, w_v):
    """The scores are divided by D; it should be the root of D.

    The variance of a sum of D products is D. Is its typical size the variance, or the
    square root of the variance?
    """
    return scaled_by(w_q.shape[1], context, x, w_q, w_k, w_v)


@exercise.wrong("why-it-works")
def root_of_a_width_before_the_projection(x, context, w_q, w_k, w_v):
    """The scores are divided by the root of the width of x, or of the context. It should
    be the root of D, the width of queries and keys.

    Over how many products does a score add up: C, E, or the D that both have after the
    projection?
    """
    return scaled_by(math.sqrt(x.shape[1]), context, x, w_q, w_k, w_v)


@exercise.also(root_of_a_width_before_the_projection)
def root_of_the_width_of_the_context(x, context, w_q, w_k, w_v):
    return scaled_by(math.sqrt(context.shape[1]), context, x, w_q, w_k, w_v)


@exercise.wrong("why-it-works")
def root_of_a_length(x, context, w_q, w_k, w_v):
    """The scores are divided by the root of a number of positions. It should be the root of
    D, the number of channels of one query.

    `len(q)` counts queries and `len(k)` counts keys. Over what does a dot product add up?
    """
    return scaled_by(math.sqrt(len(context)), context, x, w_q, w_k, w_v)


@exercise.also(root_of_a_length)
def root_of_the_length_of_the_asker(x, context, w_q, w_k, w_v):
    return scaled_by(math.sqrt(len(x)), context, x, w_q, w_k, w_v)


@exercise.wrong("why-it-works")
def root_of_the_width_of_the_values(x, context, w_q, w_k, w_v):
    """The scores are divided by the root of F, the width of the values. It should be the
    root of D, the width of queries and keys.

    The values come in after the softmax and have nothing to do with the scores. In many
    models F and D happen to be equal; here they are not.
    """
    return scaled_by(math.sqrt(w_v.shape[1]), context, x, w_q, w_k, w_v)


@exercise.wrong("by-hand")
def softmax_over_the_queries(x, context, w_q, w_k, w_v):
    """The softmax goes down the columns: the queries compete for each position of the
    context, and the weights of one query do not add up to 1.

    Row = query, column = key. Each query shares out its attention among the S positions,
    so along which `dim` must the weights add up to 1?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    return (q @ k.T / math.sqrt(q.shape[-1])).softmax(0) @ v


@exercise.wrong("by-hand")
def softmax_over_all_pairs(x, context, w_q, w_k, w_v):
    """The softmax runs over all pairs of query and key at once, so all the queries together
    share one unit of attention.

    Each query has its own. How many sums should be 1, and what are they: the whole table, or
    its rows?
    """
    scores = x @ w_q @ (context @ w_k).T / math.sqrt(w_q.shape[1])
    return scores.flatten().softmax(0).view_as(scores) @ (context @ w_v)


@exercise.wrong("by-hand")
def root_applied_after_the_softmax(x, context, w_q, w_k, w_v):
    """The root divides the weights, after the softmax, so the weights of a query no longer add
    up to 1.

    The root is there to keep the scores small before the exponential sees them. On which side
    of the softmax does it belong?
    """
    weights = (x @ w_q @ (context @ w_k).T).softmax(-1)
    return weights / math.sqrt(w_q.shape[1]) @ (context @ w_v)


@exercise.wrong("why-it-works")
def only_the_best_position_counts(x, context, w_q, w_k, w_v):
    """Each query takes the value of its best position and nothing of the others.

    That lookup has no gradient: moving a key a little changes nothing, so no alignment can be
    learned. What takes a bit of every value, and most of the best one?
    """
    return (context @ w_v)[(x @ w_q @ (context @ w_k).T).argmax(-1)]


@exercise.wrong("by-hand")
def softmax_forgotten(x, context, w_q, w_k, w_v):
    """The scores themselves are used as weights: there is no softmax.

    A score may be negative, and the scores of a query do not add up to 1. What turns
    scores into a distribution?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    return q @ k.T / math.sqrt(q.shape[-1]) @ v


@exercise.wrong("why-it-works")
def context_averaged(x, context, w_q, w_k, w_v):
    """Every query gets the plain mean of the values: the scores are gone, and with them
    the choice of where to look.

    One summary for all queries is what encoder-decoders had before attention. What should
    make the weights of two queries different?
    """
    return (context @ w_v).mean(dim=0).expand(len(x), -1)


@exercise.wrong("by-hand")
def later_positions_hidden(x, context, w_q, w_k, w_v):
    """Positions of the context that come later than the query are hidden. Nobody asked for
    that here: the whole context is known before the first query.

    "Later" compares positions of one sequence. What would it mean between two sequences of
    different lengths?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    scores = q @ k.T / math.sqrt(q.shape[-1])
    seen = torch.ones_like(scores, dtype=torch.bool).tril()
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ v


@exercise.wrong("by-hand")
def weights_without_values(x, context, w_q, w_k, w_v):
    """These are the weights, (T, S). The values have not been mixed yet.

    The weights say how much of each value every query gets. Which product of (T, S) with
    (S, F) gives (T, F)?
    """
    q, k = x @ w_q, context @ w_k
    return (q @ k.T / math.sqrt(q.shape[-1])).softmax(-1)


@exercise.wrong("vectorize")
def keys_reshaped_instead_of_transposed(x, context, w_q, w_k, w_v):
    """The keys are reshaped from (S, D) to (D, S), which is not a transpose: the numbers of
    different keys get mixed up, and no error tells.

    `reshape` and `view` read the numbers in the same order into other rows. What are the
    two for k = [[1, 2, 3], [4, 5, 6]]?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    turned = k.reshape(k.shape[1], k.shape[0])
    return (q @ turned / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("vectorize")
def keys_not_transposed(x, context, w_q, w_k, w_v):
    """The product of q and k does not fit: the keys are not transposed. If S and D happen
    to be equal it even runs, and is wrong.

    q is (T, D) and k is (S, D); every query should meet every key. With which shape of
    the keys does the D in the middle cancel?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    return (q @ k / math.sqrt(q.shape[-1])).softmax(-1) @ v


@exercise.wrong("by-hand")
def exponential_that_overflows(x, context, w_q, w_k, w_v):
    """`exp` of a large score is inf, and inf / inf is nan (or a small one is 0, and 0 / 0
    is nan). The formula is right and the numbers are not.

    A softmax does not change when the same number is subtracted from a whole row. Which
    number makes the largest score 0? (Or use `torch.softmax`, which does that.)
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    exps = (q @ k.T / math.sqrt(q.shape[-1])).exp()
    return exps / exps.sum(-1, keepdim=True) @ v


@exercise.also(exponential_that_overflows)
def exponential_that_overflows_divided_last(x, context, w_q, w_k, w_v):
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    exps = (q @ k.T / math.sqrt(q.shape[-1])).exp()
    return exps @ v / exps.sum(-1, keepdim=True)


@exercise.wrong("by-hand")
def one_maximum_for_all_rows(x, context, w_q, w_k, w_v):
    """The largest score of the whole table is subtracted. In a row that is far below it, every
    exponential becomes 0, and 0 / 0 is nan.

    Each row is a softmax of its own. Over which `dim` should the maximum be taken, and with
    what does it keep its shape?
    """
    scores = x @ w_q @ (context @ w_k).T / math.sqrt(w_q.shape[1])
    exps = (scores - scores.max()).exp()
    return exps / exps.sum(-1, keepdim=True) @ (context @ w_v)


@exercise.wrong("the-module")
def input_added(x, context, w_q, w_k, w_v):
    """x is added to the result. The block around an attention layer does that; the layer
    itself gives back only what it read.

    x is (T, C) and the result is (T, F). Should they fit together here at all?
    """
    return x + cross_attention(x, context, w_q, w_k, w_v)


@exercise.wrong("vectorize")
def weights_given_back_as_well(x, context, w_q, w_k, w_v):
    """You give back two things, a tuple; asked for is the output alone.

    The weights are worth a look, with a `print` inside or in a function of their own. What
    stands after your `return`?
    """
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    weights = (q @ k.T / math.sqrt(q.shape[-1])).softmax(-1)
    return weights @ v, weights


@exercise.caught_as("wrong-dtype")
def always_double(x, context, w_q, w_k, w_v):
    return cross_attention(*(m.double() for m in (x, context, w_q, w_k, w_v)))


@exercise.caught_as("no-gradient")
def gradient_cut(x, context, w_q, w_k, w_v):
    return torch.tensor(
        cross_attention(x, context, w_q, w_k, w_v).tolist(), dtype=x.dtype
    )


@exercise.caught_as("wrong-gradient")
def context_is_not_trained(x, context, w_q, w_k, w_v):
    return cross_attention(x, context.detach(), w_q, w_k, w_v)


@exercise.caught_as("modified-input")
def queries_scaled_in_place(x, context, w_q, w_k, w_v):
    w_q *= w_q.shape[1] ** -0.5
    return (x @ w_q @ (context @ w_k).T).softmax(-1) @ context @ w_v


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(x, context, w_q, w_k, w_v):
    x = torch.as_strided(x, x.shape, (x.shape[1], 1))
    return cross_attention(x, context, w_q, w_k, w_v)


@exercise.caught_as("forbidden-call")
def the_library_does_it(x, context, w_q, w_k, w_v):
    q, k, v = x @ w_q, context @ w_k, context @ w_v
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]


@exercise.caught_as("returned-none")
def nothing_returned(x, context, w_q, w_k, w_v):
    cross_attention(x, context, w_q, w_k, w_v)


@exercise.caught_as("raised")
def axes_in_front(x, context, w_q, w_k, w_v):
    B, T, C = x.shape
    return cross_attention(x.view(B * T, C), context, w_q, w_k, w_v)
