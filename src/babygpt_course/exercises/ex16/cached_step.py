"""16.2: one token more, when keys and values of all tokens before it are kept."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="16_llama_2",
    id="16.2",
    title="One step with a cache",
    kind="implement",
    points=3,
    minutes=9,
    anchor="the-module",
    rules=(
        forbid(
            "scaled_dot_product_attention MultiheadAttention KVCache attention_weights",
            "Keep, score, softmax, mean: write the four of them.",
        ),
    ),
    hints="""
    Which tokens may the new one look at: only those before it, or itself too? In which order must
    keeping and looking be done, then?

    New keys: (G, S + 1, D), the old ones and behind them the new one. Head h scores the keys of pair
    h // (H / G), all S + 1 of them. Nothing is hidden: there is nothing after the last token.

    keys = cat((keys, k[:, None]), dim=1), values likewise; scores[h] = keys[g] @ q[h] / sqrt(D);
    y[h] = softmax(scores[h]) @ values[g]. Return y, keys, values.
    """,
    equivalent={
        "scores = q @ keys.transpose(2, 1) / math.sqrt(D)": "the same two axes change places",
    },
)


@exercise.oracle
def cached_step(q, k, v, keys, values):
    (H, D), G = q.shape, len(keys)
    own = [[*keys[g], k[g]] for g in range(G)], [[*values[g], v[g]] for g in range(G)]
    y = []
    for h in range(H):
        some = [x[h // (H // G)] for x in own]
        scores = [sum(q[h] * key) / math.sqrt(D) for key in some[0]]
        top = max(x.item() for x in scores)
        weights = [(x - top).exp() for x in scores]
        y.append(sum(w * value for w, value in zip(weights, some[1])) / sum(weights))
    return torch.stack(y), *(
        torch.stack([torch.stack(x) for x in kept]) for kept in own
    )


def random_case(H, G, S, D, E, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (H, D), (G, D), (G, E), (G, S, D), (G, S, E)
    return tuple(
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    )


@exercise.cases
def cases():
    one = torch.ones(1, 1)
    empty = torch.zeros(1, 0, 1)
    yield Case((one, one, torch.tensor([[3.0]]), empty, empty), "the first token")
    kept = torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]])
    yield Case((one, torch.tensor([[0.0]]), torch.tensor([[3.0]]), *kept))
    q = torch.zeros(4, 1)
    k, v = torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])
    yield Case((q, k, v, torch.zeros(2, 0, 1), torch.zeros(2, 0, 1)), "the first token")
    q, k, v = torch.tensor([[1.0, 1]]), torch.tensor([[1.0, 1]]), torch.tensor([[9.0]])
    kept = torch.tensor([[[0.0, 0], [1, 0]]]), torch.tensor([[[1.0], [3]]])
    yield Case((q, k, v, *kept))
    sizes = [(6, 2, 5, 4, 7), (4, 4, 3, 2, 5), (6, 3, 1, 9, 5), (3, 1, 8, 4, 2), (6, 2, 0, 4, 3)]  # fmt: skip
    for seed, size in enumerate(sizes):
        yield Case(random_case(*size, seed))
        yield Case(random_case(*size, seed, torch.float32), "float32")
    q, *rest = random_case(6, 2, 5, 4, 3, 9)
    yield Case((1000 * q, *rest), "large scores")
    q, k, v, keys, values = random_case(4, 2, 3, 5, 6, 10)
    q, k = (x.T.contiguous().T for x in (q, k))
    keys = keys.transpose(0, 1).contiguous().transpose(0, 1)
    yield Case((q, k, v, keys, values), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def grown(k, v, keys, values):
    return torch.cat((keys, k[:, None]), 1), torch.cat((values, v[:, None]), 1)


def look(q, keys, values, scale=None, mask=None, pairs=None):
    """y (H, E), of which one part at a time is replaced."""
    H, G = len(q), len(keys)
    at = [h // (H // G) for h in range(H)] if pairs is None else pairs
    scores = (keys[at] @ q[:, :, None])[..., 0]  # (H, S + 1)
    scores = scores / (math.sqrt(q.shape[1]) if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1)[:, None] @ values[at])[:, 0]


@exercise.right
def by_repeating(q, k, v, keys, values):
    keys, values = grown(k, v, keys, values)
    n = len(q) // len(keys)
    wide_keys, wide_values = (x.repeat_interleave(n, 0) for x in (keys, values))
    scores = torch.einsum("hd,hsd->hs", q, wide_keys) / q.shape[-1] ** 0.5
    y = torch.einsum("hs,hse->he", torch.softmax(scores, -1), wide_values)
    return y, keys, values


@exercise.right
def by_groups(q, k, v, keys, values):
    keys = torch.concatenate([keys, k.unsqueeze(1)], dim=1)
    values = torch.concatenate([values, v.unsqueeze(1)], dim=1)
    H, D = q.shape
    q = q.reshape(len(keys), -1, D) / math.sqrt(D)
    y = torch.softmax(q @ keys.mT, dim=-1) @ values
    return [y.reshape(H, -1), keys, values]


@exercise.right
def into_larger_buffers(q, k, v, keys, values):
    S = keys.shape[1]
    new_keys = keys.new_empty(len(keys), S + 1, keys.shape[2])
    new_values = values.new_empty(len(keys), S + 1, values.shape[2])
    new_keys[:, :S], new_keys[:, S] = keys, k
    new_values[:, :S], new_values[:, S] = values, v
    y = torch.empty(len(q), values.shape[2], dtype=q.dtype)
    for h in range(len(q)):
        g = h * len(keys) // len(q)
        scores = new_keys[g] @ q[h] / math.sqrt(len(q[h]))
        y[h] = scores.softmax(0) @ new_values[g]
    return y, new_keys, new_values


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("the-module")
def does_not_see_itself(q, k, v, keys, values):
    """The new token looks only at the tokens before it. It may look at itself too: the first token of
    a text has nothing else.

    Which comes first, keeping the new key or looking at the keys?
    """
    return look(q, keys, values), *grown(k, v, keys, values)


@exercise.also(does_not_see_itself)
def does_not_see_itself_gives_nan(q, k, v, keys, values):
    y = look(q, keys, values)
    return y if keys.shape[1] else y * math.nan, *grown(k, v, keys, values)


@exercise.also(does_not_see_itself)
def neither_sees_nor_keeps_itself(q, k, v, keys, values):
    return look(q, keys, values), keys, values


@exercise.wrong("the-module")
def not_kept(q, k, v, keys, values):
    """The result is right, and the cache that comes back has not grown. The next token will not
    see this one.

    How long are the keys that you return: S, or S + 1?
    """
    return look(q, *grown(k, v, keys, values)), keys, values


@exercise.wrong("the-module")
def looks_without_the_cache(q, k, v, keys, values):
    """The token looks at itself alone. What is in the cache was kept so that it is looked at.

    Over how many keys does the softmax run? With S kept tokens they are S + 1.
    """
    return look(q, k[:, None], v[:, None]), *grown(k, v, keys, values)


@exercise.also(looks_without_the_cache)
def no_cache_at_all(q, k, v, keys, values):
    return look(q, k[:, None], v[:, None]), k[:, None], v[:, None]


@exercise.wrong("the-module")
def only_the_new_one_is_kept(q, k, v, keys, values):
    """The cache that comes back holds the new token only: everything before it was thrown away.

    A cache grows. Which of the two is it that you return, the new key or all of them?
    """
    return look(q, *grown(k, v, keys, values)), k[:, None], v[:, None]


@exercise.wrong("the-module")
def put_in_front(q, k, v, keys, values):
    """The new key and value are put in front of the others. Row s of the cache is the token at
    position s, so the newest is the last.

    Softmax and mean do not mind the order. Who does, later on?
    """
    y = look(q, *grown(k, v, keys, values))
    return y, torch.cat((k[:, None], keys), 1), torch.cat((v[:, None], values), 1)


@exercise.wrong("the-module")
def overwrites_the_last(q, k, v, keys, values):
    """The new token takes the place of the last one that was kept, and the cache stays as long as it
    was.

    Rows 0 to S - 1 are taken. Which row is free?
    """
    if not keys.shape[1]:
        return cached_step(q, k, v, keys, values)
    keys, values = grown(k, v, keys[:, :-1], values[:, :-1])
    return look(q, keys, values), keys, values


@exercise.also(overwrites_the_last)
def overwrites_the_last_of_none(q, k, v, keys, values):
    keys, values = keys.clone(), values.clone()
    keys[:, -1], values[:, -1] = k, v
    return look(q, keys, values), keys, values


@exercise.wrong("the-module")
def drops_the_oldest(q, k, v, keys, values):
    """The oldest token leaves the cache when the new one comes. Nothing asks for that here: the
    cache grows by one.

    How long is it before, and how long after?
    """
    if not keys.shape[1]:
        return cached_step(q, k, v, keys, values)
    keys, values = grown(k, v, keys[:, 1:], values[:, 1:])
    return look(q, keys, values), keys, values


@exercise.also(drops_the_oldest)
def drops_one_after_looking(q, k, v, keys, values):
    keys, values = grown(k, v, keys, values)
    return look(q, keys, values), keys[:, 1:], values[:, 1:]


@exercise.also(drops_the_oldest)
def drops_one_before_looking(q, k, v, keys, values):
    keys, values = (x[:, 1:] for x in grown(k, v, keys, values))
    return look(q, keys, values), keys, values


@exercise.wrong("how-it-breaks")
def sees_the_first_token_only(q, k, v, keys, values):
    """The token sees only the first of all tokens. That is a causal mask cut from the wrong corner:
    row 0 of it belongs to position 0, and this is position S.

    The newest token has nothing after it. What is there to hide?
    """
    keys, values = grown(k, v, keys, values)
    mask = torch.ones(1, keys.shape[1], dtype=torch.bool).tril()
    return look(q, keys, values, mask=mask), keys, values


@exercise.wrong("by-hand")
def dealt_in_turn(q, k, v, keys, values):
    """The pairs are dealt in turn: head 1 reads pair 1. Neighbors share a pair: with 4 heads and 2
    pairs, heads 0 and 1 read pair 0.

    What is `h % G`, and what `h // (H // G)`? `repeat`, or `repeat_interleave`?
    """
    keys, values = grown(k, v, keys, values)
    pairs = [h % len(keys) for h in range(len(q))]
    return look(q, keys, values, pairs=pairs), keys, values


@exercise.wrong("by-hand")
def all_read_the_first_pair(q, k, v, keys, values):
    """Every head reads pair 0. That is right only as long as there is one pair.

    With 6 heads and 2 pairs, which pair does head 5 read?
    """
    keys, values = grown(k, v, keys, values)
    return look(q, keys, values, pairs=[0] * len(q)), keys, values


@exercise.wrong("by-hand")
def pair_by_number_of_pairs(q, k, v, keys, values):
    """Head h reads pair h // G. Below the line belongs the number of heads that share a pair, H // G.

    6 heads and 3 pairs: how many heads share one?
    """
    keys, values = grown(k, v, keys, values)
    pairs = [min(h // len(k), len(k) - 1) for h in range(len(q))]
    return look(q, keys, values, pairs=pairs), keys, values


@exercise.wrong("the-module")
def kept_for_each_head(q, k, v, keys, values):
    """The cache that comes back is as large as if every head had keys of its own. It was to hold one
    row for each *pair*: that is what sharing saves.

    Where do you repeat the keys: before they are kept, or only to look at them?
    """
    y, keys, values = cached_step(q, k, v, keys, values)
    n = len(q) // len(keys)
    return y, keys.repeat_interleave(n, 0), values.repeat_interleave(n, 0)


@exercise.wrong("by-hand")
def not_scaled(q, k, v, keys, values):
    """The scores are not divided by the root of D.

    A cache keeps numbers; it changes none of them. What did the layer do to its scores without
    one?
    """
    keys, values = grown(k, v, keys, values)
    return look(q, keys, values, scale=1.0), keys, values


@exercise.wrong("by-hand")
def scaled_by_d(q, k, v, keys, values):
    """The scores are divided by the wrong number: it is the root of D, the size of one query.

    How many products are added up for one score? Of that number, the root.
    """
    keys, values = grown(k, v, keys, values)
    return look(q, keys, values, scale=q.shape[1]), keys, values


def scaled_otherwise(name, size):
    def answer(q, k, v, keys, values):
        keys, values = grown(k, v, keys, values)
        return look(q, keys, values, scale=size(q, v, keys)), keys, values

    answer.__name__ = f"scaled_by_{name}"
    exercise.also(scaled_by_d)(answer)


scaled_otherwise("width", lambda q, v, keys: math.sqrt(q.numel()))
scaled_otherwise("heads", lambda q, v, keys: math.sqrt(len(q)))
scaled_otherwise("the_value", lambda q, v, keys: math.sqrt(v.shape[1]))
scaled_otherwise("keys", lambda q, v, keys: math.sqrt(keys.shape[1]))
scaled_otherwise("nothing_but_its_inverse", lambda q, v, keys: q.shape[1] ** -0.5)


@exercise.wrong("by-hand")
def softmax_over_heads(q, k, v, keys, values):
    """The softmax runs over the heads. The weights of *one* head over all kept tokens must add up to 1.

    Which dimension of the scores is the tokens?
    """
    keys, values = grown(k, v, keys, values)
    at = [h // (len(q) // len(k)) for h in range(len(q))]
    scores = (keys[at] @ q[:, :, None])[..., 0] / math.sqrt(q.shape[1])
    return (scores.softmax(0)[:, None] @ values[at])[:, 0], keys, values


@exercise.wrong("by-hand")
def exponentials_overflow(q, k, v, keys, values):
    """With large scores the exponentials become infinite, and inf / inf is nan.

    Only differences of scores count. What can be taken from all of them before `exp`? `softmax`
    does it by itself.
    """
    keys, values = grown(k, v, keys, values)
    at = [h // (len(q) // len(k)) for h in range(len(q))]
    x = ((keys[at] @ q[:, :, None])[..., 0] / math.sqrt(q.shape[1])).exp()
    return ((x / x.sum(1, keepdim=True))[:, None] @ values[at])[:, 0], keys, values


@exercise.wrong("the-module")
def values_forgotten(q, k, v, keys, values):
    """The new value is not in the cache of values: it holds something else in its last row, or lacks
    it.

    Keys and values grow together. Which of k and v do you put behind which?
    """
    new, _ = grown(k, v, keys, values)
    return cached_step(q, k, v, keys, values)[0], new, values


@exercise.wrong("the-module")
def results_in_another_order(q, k, v, keys, values):
    """Keys and values do not come back in their places: two of the three results are exchanged, or one comes
    twice. The order is: result, keys, values.

    What stands after `return`, and in which order?
    """
    y, keys, values = cached_step(q, k, v, keys, values)
    return y, values, keys


@exercise.also(results_in_another_order)
def result_at_the_end(q, k, v, keys, values):
    y, keys, values = cached_step(q, k, v, keys, values)
    return keys, values, y


@exercise.also(results_in_another_order)
def keys_twice(q, k, v, keys, values):
    y, keys, values = cached_step(q, k, v, keys, values)
    return y, keys, keys


@exercise.wrong("the-module")
def k_and_v_exchanged(q, k, v, keys, values):
    """The new value is put behind the keys, and the new key behind the values. As long as both have the same
    size, no error says so.

    Which of k and v belongs to the keys?
    """
    keys, values = torch.cat((keys, v[:, None]), 1), torch.cat((values, k[:, None]), 1)
    return look(q, keys, values), keys, values


@exercise.wrong("by-hand")
def no_softmax(q, k, v, keys, values):
    """The scores themselves are used as weights: there is no softmax.

    Weights are above 0, and those of a head add up to 1.
    """
    keys, values = grown(k, v, keys, values)
    at = [h // (len(q) // len(k)) for h in range(len(q))]
    scores = (keys[at] @ q[:, :, None])[..., 0] / math.sqrt(q.shape[1])
    return (scores[:, None] @ values[at])[:, 0], keys, values


@exercise.caught_as("modified-input")
def writes_into_the_cache(q, k, v, keys, values):
    y = cached_step(q, k, v, keys, values)
    if keys.shape[1]:
        keys[:, -1] = k
    return y


@exercise.caught_as("wrong-type")
def the_result_alone(q, k, v, keys, values):
    return look(q, *grown(k, v, keys, values))


@exercise.caught_as("wrong-dtype")
def always_float32(q, k, v, keys, values):
    y, *kept = cached_step(q, k, v, keys, values)
    return y.float(), *kept


@exercise.caught_as("wrong-shape")
def with_a_time_axis(q, k, v, keys, values):
    y, *kept = cached_step(q, k, v, keys, values)
    return y[:, None], *kept


@exercise.caught_as("raised")
def wrong_axis(q, k, v, keys, values):
    keys, values = torch.cat((keys, k), 1), torch.cat((values, v), 1)
    return look(q, keys, values), keys, values


@exercise.caught_as("forbidden-call")
def by_torch(q, k, v, keys, values):
    keys, values = grown(k, v, keys, values)
    y = F.scaled_dot_product_attention(
        q[None, :, None], keys[None], values[None], enable_gqa=True
    )
    return y[0, :, 0], keys, values
