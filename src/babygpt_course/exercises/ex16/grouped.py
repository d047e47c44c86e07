"""16.1: attention in which several heads share keys and values."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="16_llama_2",
    id="16.1",
    title="Share keys and values",
    kind="implement",
    points=3,
    minutes=10,
    anchor="by-hand",
    rules=(
        forbid(
            "scaled_dot_product_attention MultiheadAttention GroupedQueryAttention "
            "attention_weights multi_head_attention_forward",
            "Scores, mask, softmax, mean: each is one line. Write the four of them.",
        ),
    ),
    hints="""
    There are H heads with queries, and only G pairs of keys and values. How many heads share one
    pair? Which pair belongs to head 0, which to the last one?

    Head h reads pair h // (H / G): neighbors share. The scores are q k^T / sqrt(D). The queries are
    the last T of S positions: query t stands at position S - T + t, and may look at all
    positions up to its own.

    k = k.repeat_interleave(H // G, dim=0), and v too; scores = q @ k.transpose(1, 2) / sqrt(D); where
    the column is beyond S - T + row: -inf; softmax over the last dimension; @ v.
    """,
    equivalent={
        "scores = q @ k.transpose(2, 1) / math.sqrt(D)": "the same two axes change places",
    },
)


@exercise.oracle
def grouped_attention(q, k, v):
    (H, T, D), (G, S, E) = q.shape, v.shape
    out = []
    for h in range(H):
        keys, values = k[h // (H // G)], v[h // (H // G)]
        for t in range(T):
            seen = range(S - T + t + 1)
            scores = [sum(q[h, t] * keys[s]) / math.sqrt(D) for s in seen]
            top = max(x.item() for x in scores)
            weights = [(x - top).exp() for x in scores]
            mean = sum(w * values[s] for s, w in zip(seen, weights)) / sum(weights)
            out.append(mean)
    return torch.stack(out).view(H, T, E)


def random_case(H, G, T, S, D, E, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (H, T, D), (G, S, D), (G, S, E)
    return tuple(
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    )


@exercise.cases
def cases():
    one = torch.ones(1, 1, 1)
    yield Case((one, one, torch.tensor([[[3.0]]])))
    q = torch.tensor([[[1.0, 0]], [[1.0, 0]]])
    k = torch.tensor([[[0.0, 1], [0, 1]]])
    v = torch.tensor([[[2.0], [6]]])
    yield Case((q, k, v))
    # Four heads, two pairs: who reads which is seen at once.
    q = torch.zeros(4, 1, 2)
    k = torch.zeros(2, 1, 2)
    yield Case((q, k, torch.tensor([[[1.0]], [[2.0]]])))
    q = torch.tensor([[[0.0], [0.0]], [[0.0], [0.0]]])
    yield Case((q, torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]])))
    yield Case((q, torch.zeros(1, 3, 1), torch.tensor([[[1.0], [2.0], [6.0]]])))
    sizes = [(6, 2, 3, 5, 4, 7), (4, 4, 3, 3, 2, 5), (6, 3, 2, 4, 9, 5), (3, 1, 5, 6, 4, 2)]  # fmt: skip
    for seed, size in enumerate(sizes):
        yield Case(random_case(*size, seed), gradient=seed < 2)
        yield Case(random_case(*size, seed, torch.float32), "float32")
    q, k, v = random_case(6, 2, 5, 5, 4, 3, 9)
    yield Case((1000 * q, k, v), "large scores")
    q, k, v = random_case(4, 2, 3, 6, 4, 3, 10)
    q, k = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k))
    yield Case((q, k, v.repeat_interleave(2, dim=1)[:, ::2]), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def shared(k, H):
    return k.repeat_interleave(H // len(k), dim=0)


def seen(T, S):
    return torch.ones(T, S, dtype=torch.bool).tril(S - T)


@exercise.right
def queries_in_groups(q, k, v):
    (H, T, D), (G, S, E) = q.shape, v.shape
    q = q.reshape(G, H // G, T, D)
    scores = torch.einsum("ghtd,gsd->ghts", q, k) / D**0.5
    weights = scores.masked_fill(~seen(T, S), -math.inf).softmax(-1)
    return torch.einsum("ghts,gse->ghte", weights, v).reshape(H, T, E)


@exercise.right
def head_after_head(q, k, v):
    H, T, D = q.shape
    G, S, _ = k.shape
    mask = torch.full((T, S), -math.inf, dtype=q.dtype).triu(S - T + 1)
    heads = []
    for h in range(H):
        g = h * G // H
        heads.append(torch.softmax(q[h] @ k[g].T / math.sqrt(D) + mask, 1) @ v[g])
    return torch.stack(heads)


@exercise.right
def stacked_queries(q, k, v):
    """The queries of a group are read like one longer list of queries."""
    (H, T, D), (G, S, E) = q.shape, v.shape
    stacked = q.reshape(G, H // G * T, D)
    scores = stacked @ k.mT * D**-0.5
    mask = seen(T, S).repeat(H // G, 1)
    weights = torch.where(mask, scores, -torch.inf)
    weights = torch.exp(weights - weights.amax(-1, keepdim=True))
    return ((weights @ v) / weights.sum(-1, keepdim=True)).view(H, T, E)


# --- wrong, each with the misconception behind it -------------------------------------


def attend(q, k, v, mask=None, scale=None, dim=-1):
    """The right steps, of which one at a time is replaced; k and v have H heads."""
    T, S = q.shape[1], k.shape[1]
    scores = q @ k.mT / (math.sqrt(q.shape[-1]) if scale is None else scale)
    mask = seen(T, S) if mask is None else mask
    return scores.masked_fill(~mask, -math.inf).softmax(dim) @ v


def one_mistake(**changed):
    """Shared keys and values, and attention with one part replaced."""

    def make(q, k, v):
        H = len(q)
        options = {name: f(q, k, v) for name, f in changed.items()}
        return attend(q, shared(k, H), shared(v, H), **options)

    return make


@exercise.wrong("by-hand")
def dealt_in_turn(q, k, v):
    """The pairs are dealt in turn: head 0 gets pair 0, head 1 gets pair 1, and so on from the
    start again. Here neighbors share: with 4 heads and 2 pairs, heads 0 and 1 read pair 0.

    `repeat` puts whole copies one after the other. What does `repeat_interleave` do? And what
    is `h % G`, what `h // (H // G)`?
    """
    n = len(q) // len(k)
    return attend(q, k.repeat(n, 1, 1), v.repeat(n, 1, 1))


@exercise.wrong("by-hand")
def only_keys_are_shared_rightly(q, k, v):
    """The keys go to the right heads, and the values to others: a head weighs one pair's keys and
    averages another pair's values.

    A key and a value belong to one token of one pair. Are both repeated in the same order?
    """
    return attend(q, shared(k, len(q)), v.repeat(len(q) // len(k), 1, 1))


@exercise.also(only_keys_are_shared_rightly)
def only_values_are_shared_rightly(q, k, v):
    return attend(q, k.repeat(len(q) // len(k), 1, 1), shared(v, len(q)))


@exercise.wrong("by-hand")
def all_read_the_first_pair(q, k, v):
    """Every head reads the same pair. That is right as long as there is only one.

    With 6 heads and 2 pairs, which pair does head 0 read, and which head 5?
    """
    return attend(q, k[:1].expand(len(q), -1, -1), v[:1].expand(len(q), -1, -1))


@exercise.also(all_read_the_first_pair)
def all_read_the_last_pair(q, k, v):
    return attend(q, k[-1:].expand(len(q), -1, -1), v[-1:].expand(len(q), -1, -1))


@exercise.wrong("by-hand")
def pair_by_number_of_pairs(q, k, v):
    """Head h reads pair h // G, with the number of pairs below the line. It should be the number of
    heads that *share* a pair, H // G.

    6 heads and 3 pairs: how many heads share one? Which pair does head 5 read?
    """
    at = [min(h // len(k), len(k) - 1) for h in range(len(q))]
    return attend(q, k[at], v[at])


@exercise.wrong("by-hand")
def pairs_in_reverse(q, k, v):
    """The first heads get the last pair. The order of heads and pairs is the same.

    Which pair does head 0 read?
    """
    return attend(q, shared(k.flip(0), len(q)), shared(v.flip(0), len(q)))


@exercise.wrong("by-hand")
def queries_of_a_group_averaged(q, k, v):
    """The heads of a group all give the same, because their queries were averaged (or one stands
    for all). Only keys and values are shared: each head keeps queries of its own.

    What would be left of the H heads then?
    """
    H, G = len(q), len(k)
    mean = q.unflatten(0, (G, H // G)).mean(1)
    return shared(attend(mean, k, v), H)


@exercise.also(queries_of_a_group_averaged)
def first_query_of_a_group(q, k, v):
    return shared(attend(q[:: len(q) // len(k)], k, v), len(q))


@exercise.also(queries_of_a_group_averaged)
def queries_of_a_group_summed(q, k, v):
    H, G = len(q), len(k)
    return shared(attend(q.unflatten(0, (G, H // G)).sum(1), k, v), H)


@exercise.wrong("by-hand")
def keys_of_all_pairs(q, k, v):
    """Each head looks at the keys of *all* pairs. A head has one pair of its own, which it shares
    with its neighbors.

    Over how many numbers does the softmax of one query run: S, or G times S?
    """
    G, S, _ = k.shape
    mask = seen(q.shape[1], S).repeat(1, G)
    k, v = (x.reshape(1, G * S, -1).expand(len(q), -1, -1) for x in (k, v))
    return attend(q, k, v, mask=mask)


@exercise.also(keys_of_all_pairs)
def results_of_all_pairs_added(q, k, v):
    H = len(q)
    pairs = zip(k, v)
    return sum(attend(q, a.expand(H, -1, -1), b.expand(H, -1, -1)) for a, b in pairs)


@exercise.also(keys_of_all_pairs)
def results_of_all_pairs_averaged(q, k, v):
    return results_of_all_pairs_added(q, k, v) / len(k)


@exercise.wrong("by-hand")
def mean_over_pairs(q, k, v):
    """Keys and values of all pairs are averaged first. Sharing means that several heads read the
    same pair, and the pairs stay different.

    Which pair does head 0 read, and what has the other one to do with it?
    """
    k, v = (x.mean(0, keepdim=True).expand(len(q), -1, -1) for x in (k, v))
    return attend(q, k, v)


not_scaled = exercise.wrong("by-hand")(one_mistake(scale=lambda q, k, v: 1.0))
not_scaled.__name__ = "not_scaled"
not_scaled.__doc__ = """The scores are not divided by the root of D, the size of a query.

    Sharing changes nothing about the scores themselves. What did chapter 4 do with a product of
    two long vectors?
    """


def scaled_by(name, size):
    made = one_mistake(scale=size)
    made.__name__ = name
    if name != "scaled_by_width":
        return exercise.also(scaled_by_width)(made)
    made.__doc__ = """The scores are divided by the wrong number. It is the root of the size of *one head's*
    query: not D itself, nor the size of all heads together, nor that of a value.

    How many products are added up for one score? Of that number, the root.
    """
    return exercise.wrong("by-hand")(made)


scaled_by_width = scaled_by(
    "scaled_by_width", lambda q, k, v: math.sqrt(len(q) * q.shape[-1])
)
scaled_by("scaled_by_d", lambda q, k, v: q.shape[-1])
scaled_by("scaled_by_the_value", lambda q, k, v: math.sqrt(v.shape[-1]))
scaled_by("scaled_by_keys", lambda q, k, v: math.sqrt(k.shape[1]))
scaled_by("scaled_by_queries", lambda q, k, v: math.sqrt(q.shape[1]))
scaled_by("scaled_the_wrong_way", lambda q, k, v: 1 / math.sqrt(q.shape[-1]))
scaled_by("scaled_twice", lambda q, k, v: float(q.shape[-1]) ** 1.5)
scaled_by("scaled_by_the_group", lambda q, k, v: math.sqrt(len(q) / len(k)))
scaled_by("scaled_by_pairs", lambda q, k, v: math.sqrt(len(k) * q.shape[-1]))


@exercise.wrong("by-hand")
def no_mask(q, k, v):
    """Every query looks at all positions, those that come after it too.

    Query t stands at position S - T + t. What may it see?
    """
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.wrong("how-it-breaks")
def mask_from_the_first_position(q, k, v):
    """The mask takes query 0 for position 0. The queries are the *last* T of S positions: with one
    query and S keys it would see the first token only.

    At which position does query 0 stand when T = 2 and S = 5? What does `tril(diagonal=...)` shift?
    """
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril()
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.wrong("by-hand")
def hides_itself(q, k, v):
    """A query does not see its own position. The first token then sees nothing at all.

    Query t may look at all positions up to *and with* its own.
    """
    T, S = q.shape[1], k.shape[1]
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T - 1)
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.also(hides_itself)
def hides_itself_and_gives_zeros(q, k, v):
    return hides_itself(q, k, v).nan_to_num(0)


@exercise.wrong("by-hand")
def sees_one_too_many(q, k, v):
    """A query sees one position too many: the one after its own.

    The last query stands at S - 1 and sees all S. How many does the one before it see?
    """
    T, S = q.shape[1], k.shape[1]
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T + 1)
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.wrong("by-hand")
def sees_the_future(q, k, v):
    """The mask is the wrong way round: a query sees what comes after it, and not what came before.

    Rows are the ones who read, columns are read. Which triangle stays?
    """
    T, S = q.shape[1], k.shape[1]
    mask = torch.ones(T, S, dtype=torch.bool).triu(S - T)
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.also(sees_the_future)
def hides_what_it_may_see(q, k, v):
    mask = ~seen(q.shape[1], k.shape[1])
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.also(sees_the_future)
def hides_the_lower_triangle(q, k, v):
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(1)
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.also(sees_the_future)
def sees_from_itself_on(q, k, v):
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu()
    return attend(q, shared(k, len(q)), shared(v, len(q)), mask=mask)


@exercise.wrong("by-hand")
def scaled_after_the_softmax(q, k, v):
    """The weights are divided by the root of D, after the softmax, and no longer add up to 1. What is divided are
    the scores.

    What comes first: score, division, softmax?
    """
    H, D = len(q), q.shape[-1]
    return attend(q, shared(k, H), shared(v, H), scale=1.0) / math.sqrt(D)


@exercise.wrong("by-hand")
def masked_after_the_softmax(q, k, v):
    """The weights are set to 0 after the softmax, and no longer add up to 1.

    What has to be done to a *score* so that its weight is 0 and the others still share all of 1?
    """
    H, T, S = len(q), q.shape[1], k.shape[1]
    scores = q @ shared(k, H).mT / math.sqrt(q.shape[-1])
    return (scores.softmax(-1) * seen(T, S)) @ shared(v, H)


@exercise.wrong("by-hand")
def hidden_scores_are_zero(q, k, v):
    """A hidden score becomes 0, and e to the power 0 is 1: a hidden key still gets weight.

    Which number has an exponential of 0?
    """
    H, T, S = len(q), q.shape[1], k.shape[1]
    scores = q @ shared(k, H).mT / math.sqrt(q.shape[-1])
    return (scores * seen(T, S)).softmax(-1) @ shared(v, H)


@exercise.wrong("by-hand")
def softmax_over_queries(q, k, v):
    """The softmax runs over the queries, or over the heads. The weights of *one* query over all keys
    must add up to 1.

    In (H, T, S), which dimension is the keys?
    """
    return attend(q, shared(k, len(q)), shared(v, len(q)), dim=1).nan_to_num(0)


@exercise.also(softmax_over_queries)
def softmax_over_queries_with_nan(q, k, v):
    return attend(q, shared(k, len(q)), shared(v, len(q)), dim=1)


@exercise.also(softmax_over_queries)
def softmax_over_heads(q, k, v):
    return attend(q, shared(k, len(q)), shared(v, len(q)), dim=0)


@exercise.wrong("by-hand")
def no_softmax(q, k, v):
    """The scores themselves are used as weights: there is no softmax.

    Weights are above 0, and those of a query add up to 1.
    """
    H, T, S = len(q), q.shape[1], k.shape[1]
    return (q @ shared(k, H).mT / math.sqrt(q.shape[-1]) * seen(T, S)) @ shared(v, H)


@exercise.wrong("by-hand")
def exponentials_overflow(q, k, v):
    """With large scores the exponentials become infinite, and inf / inf is nan.

    Only differences of scores count. What can be taken from all of a row before `exp`? `softmax`
    does it by itself.
    """
    H, T, S = len(q), q.shape[1], k.shape[1]
    x = (q @ shared(k, H).mT / math.sqrt(q.shape[-1])).exp() * seen(T, S)
    return x / x.sum(-1, keepdim=True) @ shared(v, H)


@exercise.caught_as("modified-input")
def scales_in_place(q, k, v):
    q /= math.sqrt(q.shape[-1])
    return attend(q, shared(k, len(q)), shared(v, len(q)), scale=1.0)


@exercise.caught_as("no-gradient")
def detached(q, k, v):
    return grouped_attention(q.detach(), k.detach(), v.detach())


@exercise.caught_as("wrong-dtype")
def always_float32(q, k, v):
    return grouped_attention(q, k, v).float()


@exercise.caught_as("wrong-shape")
def heads_merged(q, k, v):
    return grouped_attention(q, k, v).transpose(0, 1).flatten(1)


@exercise.caught_as("wrong-shape")
def one_result_a_pair(q, k, v):
    return grouped_attention(q[:: len(q) // len(k)], k, v)


@exercise.caught_as("raised")
def not_shared_at_all(q, k, v):
    return attend(q, k, v)


@exercise.caught_as("forbidden-call")
def by_torch(q, k, v):
    T, S = q.shape[1], k.shape[1]
    return F.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=seen(T, S), enable_gqa=True
    )[0]
