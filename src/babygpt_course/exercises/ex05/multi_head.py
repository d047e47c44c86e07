"""05.2: causal attention in several heads, from the split to the merge."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="05_multi_head_attention",
    id="05.2",
    title="All heads at once",
    kind="implement",
    points=3,
    minutes=12,
    anchor="vectorize",
    rules=(
        forbid(
            "scaled_dot_product_attention attention_weights MultiheadAttention "
            "multi_head_attention_forward MultiHeadAttention CrossAttention "
            "flex_attention",
            think="Split, scores, mask, softmax, values, merge: each is a line. After "
            "this exercise you may use the library's.",
        ),
    ),
    equivalent={
        "scores = q @ k.transpose(-1, -2) / math.sqrt(C // n_head)": "Swapping two axes is the same in either "
        "order.",
        "scores = q @ k.transpose(2, -1) / math.sqrt(C // n_head)": "Of four axes number 2 "
        "is number -2.",
        "return y.transpose(2, 1).reshape(B, T, C)": "Swapping two axes is the same in either "
        "order.",
    },
    hints="""
    What would you do for one head, on its own D channels of q, k and v? And in what order
    do the results of the heads lie side by side in the C channels of the output?

    Head h works on channels h D to (h + 1) D - 1: softmax(mask(q k^T / sqrt(D))) v. The
    root is that of D = C / H, since a score adds up D products.

    q, k, v as (B, H, T, D); scores = q k^T / sqrt(D), (B, H, T, T); -inf above the
    diagonal; softmax over the keys; times v, (B, H, T, D); swap axes 1 and 2; reshape to
    (B, T, C).
    """,
)


@exercise.oracle
def multi_head(q, k, v, n_head):
    B, T, C = q.shape
    D = C // n_head
    out = v.new_zeros(B, T, C)
    for b in range(B):
        for h in range(n_head):
            own = slice(h * D, (h + 1) * D)
            for t in range(T):
                query = q[b, t, own]
                scores = [
                    (query * k[b, s, own]).sum() / math.sqrt(D) for s in range(t + 1)
                ]
                top = max(scores).detach()
                exps = [torch.exp(score - top) for score in scores]
                parts = [e / sum(exps) * v[b, s, own] for s, e in enumerate(exps)]
                out[b, t, own] = sum(parts)
    return out


def random_case(B, T, H, D, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(3, B, T, H * D, generator=generator, dtype=torch.float64) * scale
    return *(x.clone() for x in qkv.to(dtype)), H


@exercise.cases
def cases():
    # In float64 the root of D is a whole number, so that `torch.sqrt(torch.tensor(D))`,
    # which is float32, is as exact as `math.sqrt(D)`.
    zeros = torch.zeros(1, 2, 2)
    yield Case((zeros, zeros, torch.tensor([[[2.0, 10.0], [6.0, 30.0]]]), 2))
    q = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    k = torch.tensor([[[0.0, 0.0], [2.0, 2.0]]])
    yield Case((q, k, torch.tensor([[[2.0, 10.0], [6.0, 30.0]]]), 2))
    q = torch.tensor([[[1.0, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]])
    k = torch.tensor([[[0.0] * 8, [1.0] * 8]])
    yield Case((q, k, torch.arange(16.0).view(1, 2, 8), 2))
    yield Case((torch.ones(1, 1, 4), torch.ones(1, 1, 4), torch.ones(1, 1, 4), 2))
    yield Case(random_case(1, 3, 2, 2, 20, torch.float32))
    yield Case(random_case(1, 3, 1, 2, 21, torch.float32))
    far = torch.tensor([[[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]]])
    k = torch.tensor([[[0.0, 0.0], [3000.0, 2000.0], [1000.0, 4000.0]]])
    v = torch.tensor([[[1.0, 1.0], [2.0, 20.0], [4.0, 40.0]]])
    yield Case((far, k, v, 2), "large scores")
    yield Case((far, -k, v, 2), "large scores")
    for seed, (B, T, H, D) in enumerate([(2, 5, 3, 4), (3, 4, 2, 9), (2, 3, 3, 4)]):
        yield Case(random_case(B, T, H, D, seed))
        float32 = random_case(B, T, H, D + 1, seed, torch.float32)
        yield Case(float32, "float32")
    yield Case(random_case(2, 4, 4, 4, 3))
    yield Case(random_case(3, 4, 5, 1, 4, scale=2.0))
    yield Case(random_case(1, 2, 2, 1, 9), gradient=True)
    q, k, v, H = random_case(2, 3, 2, 4, 5)
    fused = torch.cat([q, k, v], dim=-1)  # (B, T, 3C), as one projection makes it
    yield Case((*fused.chunk(3, dim=-1), H), NON_CONTIGUOUS)
    q, k, v, H = random_case(3, 2, 2, 4, 6)
    yield Case((*(x.transpose(0, 1) for x in (q, k, v)), H), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def split(x, n_head):
    return x.unflatten(-1, (n_head, -1)).transpose(1, 2)


def future(x, diagonal=1):
    T = x.shape[-2]
    return torch.ones(T, T, dtype=torch.bool).triu(diagonal)


@exercise.right
def heads_by_chunk(q, k, v, n_head):
    q, k, v = (torch.stack(x.chunk(n_head, dim=-1), dim=1) for x in (q, k, v))
    return torch.cat(attended(q, k, v).unbind(dim=1), dim=-1)


@exercise.right
def one_head_after_the_other(q, k, v, n_head):
    D = q.shape[-1] // n_head
    parts = []
    for h in range(n_head):
        a, b, c = (x[:, :, h * D : (h + 1) * D] for x in (q, k, v))
        scores = a @ b.mT / D**0.5
        parts.append(F.softmax(scores.masked_fill(future(q), -math.inf), dim=2) @ c)
    return torch.cat(parts, dim=2)


@exercise.right
def einsum_all_the_way(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (x.reshape(B, T, n_head, -1) for x in (q, k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) * (C // n_head) ** -0.5
    mask = torch.full((T, T), -torch.inf, dtype=q.dtype).triu(1)
    weights = (scores + mask).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", weights, v).reshape(B, T, C)


@exercise.right
def heads_in_the_batch(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (split(x, n_head).flatten(0, 1) for x in (q, k, v))  # (B * H, T, D)
    scores = torch.bmm(q, k.mT) / torch.sqrt(torch.tensor(q.shape[-1]))
    y = torch.bmm(scores.masked_fill(future(q), -1e9).softmax(-1), v)
    return y.unflatten(0, (B, n_head)).permute(0, 2, 1, 3).contiguous().view(B, T, C)


# --- wrong, each with the misconception behind it -------------------------------------


def attended(q, k, v, root=None, hide=None):
    """Causal attention on the last two axes."""
    scores = q @ k.mT / math.sqrt(root or q.shape[-1])
    hide = future(scores) if hide is None else hide
    return scores.masked_fill(hide, -math.inf).softmax(-1) @ v


def headwise(q, k, v, n_head):
    return (split(x, n_head) for x in (q, k, v))


def merged(y):
    return y.transpose(1, 2).flatten(2)


@exercise.wrong("why-it-works")
def heads_ignored(q, k, v, n_head):
    """This is one head with all C channels: `n_head` has no effect.

    With several heads each has weights of its own, from its own D channels. How many
    tables of weights should there be for one text?
    """
    return attended(q, k, v)


@exercise.wrong("by-hand")
def root_of_all_channels(q, k, v, n_head):
    """The scores are divided by the root of C. A score of one head adds up only D = C / H
    products.

    Why is there a root at all, and how many products does a head add up? After the split,
    which entry of `q.shape` is that?
    """
    return merged(attended(*headwise(q, k, v, n_head), root=q.shape[-1]))


@exercise.wrong("by-hand")
def root_of_the_number_of_heads(q, k, v, n_head):
    """The scores are divided by the root of H, the number of heads; it should be the root
    of D, the channels of one head.

    A score adds up D products. Does it get larger when there are more heads?
    """
    return merged(attended(*headwise(q, k, v, n_head), root=n_head))


@exercise.wrong("by-hand")
def root_forgotten(q, k, v, n_head):
    """The scores are not divided by the root of D.

    A score of one head adds up D = C / H products, so its size grows like the root of D.
    What keeps the softmax from putting everything on one key?
    """
    return merged(attended(*headwise(q, k, v, n_head), root=1))


@exercise.wrong("by-hand")
def mask_forgotten(q, k, v, n_head):
    """Every position reads the future too: the causal mask is missing.

    Row = query, column = key. Which scores have to become -inf before the softmax?
    """
    q, k, v = headwise(q, k, v, n_head)
    return merged(attended(q, k, v, hide=torch.tensor(False)))


@exercise.wrong("by-hand")
def past_hidden(q, k, v, n_head):
    """The past is hidden and the future is open: the triangle lies on the wrong side.

    In the first row stands what position 0 reads. Which of its keys are later, those on
    the right or those on the left?
    """
    return merged(attended(*headwise(q, k, v, n_head), hide=future(q).T))


@exercise.wrong("by-hand")
def own_position_hidden(q, k, v, n_head):
    """The diagonal is hidden too. Position 0 has nothing left to read, and the softmax of
    a row of -inf is nan.

    A position may read itself. With which `diagonal` does a triangle begin one step above
    the diagonal?
    """
    return merged(attended(*headwise(q, k, v, n_head), hide=future(q, 0)))


@exercise.wrong("by-hand")
def mask_turned_around(q, k, v, n_head):
    """The mask is turned around: what should stay is hidden, and what should be hidden is
    open.

    `masked_fill(mask, ...)` writes where the mask is True, and `torch.where(mask, a, b)`
    takes a where it is True. Is yours True where a position may look, or where it may not?
    """
    return merged(attended(*headwise(q, k, v, n_head), hide=~future(q)))


@exercise.also(own_position_hidden)
def own_position_hidden_by_a_billion(q, k, v, n_head):
    q, k, v = headwise(q, k, v, n_head)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return merged(scores.masked_fill(future(q, 0), -1e9).softmax(-1) @ v)


@exercise.wrong("by-hand")
def mask_after_the_softmax(q, k, v, n_head):
    """The mask comes after the softmax, so the rows of weights do not add up to 1: the sum
    below the line still counts the future.

    What must the output be if all values are 1? Hide the scores, with -inf, before the
    softmax divides.
    """
    q, k, v = headwise(q, k, v, n_head)
    return merged((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).tril() @ v)


@exercise.wrong("by-hand")
def future_scores_set_to_zero(q, k, v, n_head):
    """The scores of the future become 0. That hides nothing: exp(0) is 1.

    Which score has an exponential of 0?
    """
    q, k, v = headwise(q, k, v, n_head)
    return merged((q @ k.mT / math.sqrt(q.shape[-1])).tril().softmax(-1) @ v)


@exercise.wrong("how-it-breaks")
def merged_without_transposing(q, k, v, n_head):
    """The heads are right, and the merge mixes them up: (B, H, T, D) is reshaped to (B, T,
    C) as it lies. Then row 0 holds several positions of head 0, later ones too, and the
    future leaks.

    `reshape` keeps the order of the numbers. Which axes have to change places before the
    last two can become one?
    """
    B, T, C = q.shape
    return attended(*headwise(q, k, v, n_head)).reshape(B, T, C)


@exercise.wrong("how-it-breaks")
def viewed_both_ways(q, k, v, n_head):
    """Split and merge are both a bare `view`, without a transpose. It runs and the shapes
    fit; but each "head" holds a stretch of positions, chopped up, and not D channels of all
    of them.

    Memory holds position after position. What must come after the cut of C into (H, D),
    and be undone before the merge?
    """
    B, T, C = q.shape
    q, k, v = (x.reshape(B, n_head, T, C // n_head) for x in (q, k, v))
    return attended(q, k, v).reshape(B, T, C)


@exercise.also(viewed_both_ways)
def viewed_both_ways_strictly(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (x.view(B, n_head, T, C // n_head) for x in (q, k, v))
    return attended(q, k, v).view(B, T, C)


@exercise.wrong("how-it-breaks")
def viewed_at_the_split(q, k, v, n_head):
    """The merge is right, but the split is a bare `view` (or `reshape`), without a transpose:
    each "head" holds a stretch of positions, chopped up, and not D channels of all of them.

    Memory holds position after position. What must come after the cut of C into (H, D)?
    """
    B, T, C = q.shape
    return merged(attended(*(x.reshape(B, n_head, T, C // n_head) for x in (q, k, v))))


@exercise.also(viewed_at_the_split)
def viewed_at_the_split_strictly(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (x.view(B, n_head, T, C // n_head) for x in (q, k, v))
    return merged(attended(q, k, v))


@exercise.wrong("vectorize")
def view_of_a_transposed_tensor(q, k, v, n_head):
    """All is right up to the last line: `view` cannot merge axes whose numbers do not lie
    side by side in memory, and after a transpose they do not.

    `reshape` and `flatten` make a copy where one is needed; `.contiguous().view(...)` says
    it in two steps.
    """
    B, T, C = q.shape
    y = attended(*headwise(q, k, v, n_head))
    return y.transpose(1, 2).view(B, T, C)


@exercise.wrong("vectorize")
def heads_look_at_each_other(q, k, v, n_head):
    """The heads of one position look at each other, instead of the positions of one head:
    the scores are (B, T, H, H).

    `@` multiplies the last two axes. For each head these must be positions and channels,
    so which axes change places after the split?
    """
    q, k, v = (x.unflatten(-1, (n_head, -1)) for x in (q, k, v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, T, H, H)
    return (scores.softmax(-1) @ v).flatten(2)


@exercise.also(heads_look_at_each_other)
def heads_look_at_earlier_heads(q, k, v, n_head):
    q, k, v = (x.unflatten(-1, (n_head, -1)) for x in (q, k, v))
    return attended(q, k, v).flatten(2)


@exercise.also(heads_look_at_each_other)
def heads_look_at_each_other_under_a_mask_of_positions(q, k, v, n_head):
    hide = future(q)
    q, k, v = (x.unflatten(-1, (n_head, -1)) for x in (q, k, v))
    return attended(q, k, v, hide=hide).flatten(2)


@exercise.wrong("by-hand")
def softmax_over_the_queries(q, k, v, n_head):
    """The softmax goes down the columns: the queries compete for each key.

    Row = query, column = key. Each query shares out its attention among the keys. Which
    `dim` of (B, H, T, T) are the keys?
    """
    q, k, v = headwise(q, k, v, n_head)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future(q), -math.inf)
    return merged(scores.softmax(-2) @ v)


@exercise.wrong("by-hand")
def softmax_over_the_heads(q, k, v, n_head):
    """The softmax runs over the heads: they compete with each other for every pair. (In
    (B, H, T, T) that is `dim=1`.)

    Each head is an attention of its own, whose weights add up to 1 over the keys. Which
    `dim` are the keys?
    """
    q, k, v = headwise(q, k, v, n_head)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future(q), -math.inf)
    return merged(scores.softmax(1) @ v)


@exercise.wrong("vectorize")
def channels_dealt_out_in_turn(q, k, v, n_head):
    """The heads take the channels in turn, like cards, instead of D neighbors each.

    When the last axis becomes two, heads come first and the channels of a head second:
    (H, D). Which order has yours?
    """
    q, k, v = (x.unflatten(-1, (-1, n_head)).permute(0, 3, 1, 2) for x in (q, k, v))
    return attended(q, k, v).permute(0, 2, 3, 1).flatten(2)


@exercise.wrong("vectorize")
def channels_merged_in_turn(q, k, v, n_head):
    """Split and attention are right; in the merge the channels of the heads alternate. The
    output should hold the D channels of head 0, then those of head 1.

    The last two axes become one, the inner one running fastest. Which should be the inner
    one, heads or channels of a head?
    """
    return attended(*headwise(q, k, v, n_head)).permute(0, 2, 3, 1).flatten(2)


@exercise.wrong("vectorize")
def number_of_heads_taken_for_their_size(q, k, v, n_head):
    """`n_head` is used as the size of a head: this has C / n_head heads of n_head channels.

    Which of the two axes that C becomes should have the size `n_head`?
    """
    return merged(attended(*headwise(q, k, v, q.shape[-1] // n_head)))


@exercise.wrong("vectorize")
def heads_not_merged(q, k, v, n_head):
    """The heads are right and not merged yet: this is (B, H, T, D).

    Each position should get its C channels back, those of head 0 first. Which axes change
    places, and which two become one?
    """
    return attended(*headwise(q, k, v, n_head))


@exercise.also(heads_not_merged)
def heads_transposed_and_not_merged(q, k, v, n_head):
    return attended(*headwise(q, k, v, n_head)).transpose(1, 2)


@exercise.wrong("by-hand")
def heads_averaged(q, k, v, n_head):
    """The results of the heads are added up or averaged into D channels. They should stand
    side by side, so that H heads of D channels are C channels again.

    Added up, nobody could tell any more which head said what. What puts tensors side by
    side?
    """
    return attended(*headwise(q, k, v, n_head)).mean(dim=1)


@exercise.also(heads_averaged)
def heads_added_up(q, k, v, n_head):
    return attended(*headwise(q, k, v, n_head)).sum(dim=1)


@exercise.wrong("by-hand")
def exponential_that_overflows(q, k, v, n_head):
    """`exp` of a large score is inf, and inf / inf is nan (or all of a row is 0, and 0 / 0
    is nan). The formula is right and the numbers are not.

    A softmax does not change when the same number is subtracted from a whole row. Which
    number makes the largest score 0? (Or use `torch.softmax`, which does that.)
    """
    q, k, v = headwise(q, k, v, n_head)
    exps = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future(q), -math.inf).exp()
    return merged(exps / exps.sum(-1, keepdim=True) @ v)


@exercise.also(exponential_that_overflows)
def exponential_that_overflows_then_masked(q, k, v, n_head):
    q, k, v = headwise(q, k, v, n_head)
    exps = (q @ k.mT / math.sqrt(q.shape[-1])).exp().tril()
    return merged(exps / exps.sum(-1, keepdim=True) @ v)


@exercise.wrong("vectorize")
def weights_given_back_as_well(q, k, v, n_head):
    """You give back two things, a tuple; asked for is the output alone.

    The weights are worth a look, with a `print` inside or in a function of their own. What
    stands after your `return`?
    """
    q, k, v = headwise(q, k, v, n_head)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future(q), -math.inf)
    weights = scores.softmax(-1)
    return merged(weights @ v), weights


@exercise.caught_as("modified-input")
def queries_scaled_in_place(q, k, v, n_head):
    own = split(q, n_head)
    own /= math.sqrt(own.shape[-1])
    return merged(attended(own, split(k, n_head), split(v, n_head), root=1))


@exercise.caught_as("no-gradient")
def gradient_cut(q, k, v, n_head):
    return multi_head(q, k, v, n_head).detach()


@exercise.caught_as("wrong-gradient")
def gradient_of_the_values_cut(q, k, v, n_head):
    return multi_head(q, k, v.detach(), n_head)


@exercise.caught_as("wrong-dtype")
def half_the_precision(q, k, v, n_head):
    return multi_head(q, k, v, n_head).float()


@exercise.caught_as("returned-none")
def printed_not_returned(q, k, v, n_head):
    print(multi_head(q, k, v, n_head))


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(q, k, v, n_head):
    _, T, C = q.shape
    return multi_head(torch.as_strided(q, q.shape, (T * C, C, 1)), k, v, n_head)


@exercise.caught_as("raised")
def head_size_as_a_float(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (x.view(B, T, n_head, C / n_head).transpose(1, 2) for x in (q, k, v))
    return merged(attended(q, k, v))


@exercise.caught_as("forbidden-call")
def the_library_does_it(q, k, v, n_head):
    q, k, v = headwise(q, k, v, n_head)
    return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True))
