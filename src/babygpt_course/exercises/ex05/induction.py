"""05.4: how much of its attention a head spends on what came next the last time."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="05_multi_head_attention",
    id="05.4",
    title="Find the induction head",
    kind="implement",
    points=3,
    minutes=12,
    anchor="look-inside",
    hints="""
    You stand on a token that you have seen before. Which position tells you what came next
    the last time? And what should such a head do on a token that is new?

    For each t whose id occurred before: j = the last position before t with the same id;
    the weight that counts is weights[h, t, j + 1]. The score of head h is the mean of these
    weights over all such t.

    picked = []; for t from 0 to T - 1: the earlier j with ids[j] == ids[t]; if there are
    any, append weights[:, t, max(j) + 1], which is (H,). At the end the mean of the picked
    rows, or H zeros if there are none. (`ids.tolist()` gives plain numbers to compare.)
    """,
)


@exercise.oracle
def induction_score(weights, ids):
    tokens, rows = ids.tolist(), weights.tolist()
    scores = []
    for head in rows:
        total, n = 0.0, 0
        for t, token in enumerate(tokens):
            earlier = [j for j in range(t) if tokens[j] == token]
            if earlier:
                total += head[t][earlier[-1] + 1]
                n += 1
        scores.append(total / n if n else 0.0)
    return torch.tensor(scores, dtype=weights.dtype)


def causal_weights(H, T, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(H, T, T, generator=generator, dtype=torch.float64)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1).to(dtype)


def random_case(H, T, V, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 + seed)
    ids = torch.randint(V, (T,), generator=generator)
    return causal_weights(H, T, seed, dtype), ids


def rows(*heads):
    return torch.tensor([[[float(x) for x in row] for row in head] for head in heads])


@exercise.cases
def cases():
    ab = [1, 0, 0], [0.5, 0.5, 0], [0.25, 0.625, 0.125]
    yield Case((rows(ab), torch.tensor([7, 3, 7])))
    yield Case(
        (rows(ab, ([1, 0, 0], [0, 1, 0], [0.5, 0.25, 0.25])), torch.tensor([7, 3, 7]))
    )
    four = (
        [1, 0, 0, 0],
        [0.75, 0.25, 0, 0],
        [0.5, 0.25, 0.25, 0],
        [0.125, 0.25, 0.5, 0.125],
    )
    yield Case((rows(four), torch.tensor([5, 2, 5, 5])))
    yield Case((rows(four), torch.tensor([5, 2, 5, 2])))
    yield Case((rows(four), torch.tensor([5, 2, 8, 2])))
    yield Case((rows(ab), torch.tensor([0, 1, 2])), "no token occurs twice")
    yield Case((rows([[1]]), torch.tensor([4])), "one token")
    yield Case(
        (causal_weights(2, 3, 9), torch.tensor([1, 2, 3])), "no token occurs twice"
    )
    yield Case((rows(([1, 0], [0.25, 0.75])), torch.tensor([4, 4])))
    yield Case((causal_weights(2, 6, 0), torch.tensor([3, 1, 2, 3, 1, 2])))
    yield Case((causal_weights(3, 5, 1), torch.tensor([9, 9, 9, 9, 9])))
    yield Case((causal_weights(2, 7, 2), torch.tensor([4, 1, 4, 2, 4, 3, 0])))
    for seed, (H, T, V) in enumerate([(4, 9, 5), (3, 12, 4), (5, 20, 12)], 3):
        yield Case(random_case(H, T, V, seed))
        yield Case(random_case(H, T, V, seed, torch.float32), "float32")
    yield Case((causal_weights(3, 14, 7), torch.arange(14) % 7 + 1000))
    weights, ids = random_case(3, 8, 3, 8)
    ids = torch.stack([ids, ids.flip(0)], dim=1)[:, 0]
    yield Case(
        (weights.permute(1, 2, 0).contiguous().permute(2, 0, 1), ids), NON_CONTIGUOUS
    )


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def last_place_remembered(weights, ids):
    last, picked = {}, []
    for t, token in enumerate(ids.tolist()):
        if token in last:
            picked.append(weights[:, t, last[token] + 1])
        last[token] = t
    if not picked:
        return torch.zeros(len(weights), dtype=weights.dtype)
    return torch.stack(picked).mean(dim=0)


@exercise.right
def tables_instead_of_loops(weights, ids):
    T = len(ids)
    same = (ids[:, None] == ids).tril(-1)  # (T, T): an earlier position, the same token
    last = torch.where(same, torch.arange(T), -1).amax(dim=1)  # (T,)
    (at,) = torch.where(last >= 0)
    return weights[:, at, last[at] + 1].sum(dim=1) / max(len(at), 1)


@exercise.right
def search_from_the_back(weights, ids):
    score, n = weights.new_zeros(weights.shape[0]), 0
    for t in range(len(ids)):
        for j in range(t - 1, -1, -1):
            if ids[j] == ids[t]:
                score = score + weights[:, t, j + 1]
                n += 1
                break
    return score / n if n else score


@exercise.right
def positions_shifted_by_one(weights, ids):
    tokens = ids.tolist()
    pairs = [
        (t, 1 + max(j for j in range(t) if tokens[j] == tokens[t]))
        for t in range(1, len(tokens))
        if tokens[t] in tokens[:t]
    ]
    total = sum(
        (weights[:, t, after] for t, after in pairs), torch.zeros_like(weights[:, 0, 0])
    )
    return total / max(1, len(pairs))


# --- wrong, each with the misconception behind it -------------------------------------


def earlier(ids, t):
    """The positions before t that hold the same token."""
    tokens = ids.tolist()
    return [j for j in range(t) if tokens[j] == tokens[t]]


def mean_over(weights, pairs):
    """The mean over (query, key) pairs, zeros if there are none."""
    if not pairs:
        return torch.zeros(len(weights), dtype=weights.dtype)
    return stacked(weights, pairs).mean(dim=0)


def stacked(weights, pairs):
    """The weights of each pair, (n, H); `torch.stack` refuses an empty list."""
    return torch.stack([weights[:, t, s] for t, s in pairs])


def pairs_of(ids, key=lambda t, seen: seen[-1] + 1):
    """(t, the key that counts) for each t whose token occurred before."""
    places = ((t, earlier(ids, t)) for t in range(len(ids)))
    return [(t, key(t, seen)) for t, seen in places if seen]


def empty_is_nan(weights, pairs):
    return mean_over(weights, pairs) * len(pairs) / torch.tensor(len(pairs))


def empty_divides(weights, pairs):
    return mean_over(weights, pairs) * (len(pairs) / len(pairs))


def adds(register, pairs, of=None):
    """Wrong pairs, averaged; and the same where the case without pairs is forgotten."""

    def answer(mean, name):
        def made(weights, ids):
            return mean(weights, pairs(ids))

        made.__name__, made.__doc__ = pairs.__name__ + name, pairs.__doc__
        return made

    first = register(answer(mean_over, ""))
    for mean in (empty_is_nan, empty_divides, lambda w, p: stacked(w, p).mean(dim=0)):
        ending = {empty_is_nan: "_and_nan", empty_divides: "_and_divided"}
        exercise.also(of or first)(answer(mean, ending.get(mean, "_and_stacked")))
    return first


def wrong_pairs(pairs):
    return adds(exercise.wrong("look-inside"), pairs)


@wrong_pairs
def earlier_occurrence_itself(ids):
    """This reads the weight on the earlier occurrence itself. That is a head that finds the
    same token again, and does not know yet what came next.

    If the text says "Mia ... Mia", the useful position is the one right *after* the first
    "Mia". Which index is that?
    """
    return pairs_of(ids, lambda t, seen: seen[-1])


@wrong_pairs
def position_before_the_occurrence(ids):
    """This reads the position *before* the earlier occurrence (or, for an occurrence at 0,
    the last position of the row, since -1 counts from the end).

    What came next the last time stands one step to the right. Is that + 1 or - 1?
    """
    return pairs_of(ids, lambda t, seen: seen[-1] - 1)


@wrong_pairs
def previous_position(ids):
    """This reads the weight on the position right before t. That is a previous-token head,
    the partner that an induction head needs in the layer below.

    The position that counts is found by the *token*: where did it occur before?
    """
    return pairs_of(ids, lambda t, seen: t - 1)


@wrong_pairs
def first_occurrence_for_the_last(ids):
    """This takes the first earlier occurrence; asked for is the last one.

    `list.index` and a dict that is filled only once find the first. A token that occurs
    three times tells the two apart. Which one is nearer to t?
    """
    return pairs_of(ids, lambda t, seen: seen[0] + 1)


@exercise.wrong("look-inside")
def all_occurrences_added_up(weights, ids):
    """For a token that occurred several times before, the weights after all of its
    occurrences are added up; only the last one counts.

    Each t contributes one weight. Which j of several does the task choose?
    """
    if not pairs_of(ids):
        return mean_over(weights, [])
    every = [(t, j + 1) for t in range(len(ids)) for j in earlier(ids, t)]
    return mean_over(weights, every) * (len(every) / len(pairs_of(ids)))


@wrong_pairs
def all_occurrences_averaged(ids):
    """Every pair of equal tokens counts, so a token that occurred three times before counts
    three times; only the last earlier occurrence should.

    How many weights does one position t contribute?
    """
    return [(t, j + 1) for t in range(len(ids)) for j in earlier(ids, t)]


@exercise.wrong("look-inside")
def divided_by_all_positions(weights, ids):
    """The weights are added up rightly and then divided by T, the number of all positions.
    A text in which little is repeated would get a low score, however good the head is.

    Only some positions can be judged at all. How many are they?
    """
    return mean_over(weights, pairs_of(ids)) * (len(pairs_of(ids)) / len(ids))


@exercise.wrong("look-inside")
def sum_for_mean(weights, ids):
    """This is the sum of the weights. A score is a mean: never above 1, however long the text
    is.

    By how many positions do you have to divide?
    """
    return mean_over(weights, pairs_of(ids)) * len(pairs_of(ids))


@exercise.wrong("look-inside")
def largest_for_mean(weights, ids):
    """This is the largest of the weights. One lucky position is enough for that.

    A head that does it always should score higher than one that did it once. What tells
    them apart?
    """
    picked = [weights[:, t, s] for t, s in pairs_of(ids)]
    return torch.stack(picked).amax(dim=0) if picked else mean_over(weights, [])


@wrong_pairs
def rows_and_columns_swapped(ids):
    """This reads weights[h, j + 1, t]: how much the earlier position looks at the later one.
    Under a causal mask that is nearly always 0.

    Row = who reads, column = what is read. Who reads here, t or j + 1?
    """
    return [(s, t) for t, s in pairs_of(ids)]


@exercise.wrong("look-inside")
def heads_averaged_too(weights, ids):
    """This is one number for all heads. The score is asked for each head, to find the one
    that does it.

    Over which axis should the mean go, and which stays? (H,) has as many numbers as there
    are heads.
    """
    return mean_over(weights, pairs_of(ids)).mean()


@exercise.wrong("look-inside")
def nothing_repeated_is_nan(weights, ids):
    """When no token occurs twice this is 0 / 0, which is nan (or a mean of nothing).

    The task says what the score is then. Which case has to be asked for before the
    division?
    """
    return empty_is_nan(weights, pairs_of(ids))


@exercise.wrong("look-inside")
def nothing_repeated_divides_by_zero(weights, ids):
    """When no token occurs twice the number below the line is 0, and Python's division stops.

    The task says what the score is then. Which case has to be asked for before the
    division?
    """
    return empty_divides(weights, pairs_of(ids))


@exercise.also(nothing_repeated_divides_by_zero)
def nothing_repeated_to_stack(weights, ids):
    return stacked(weights, pairs_of(ids)).mean(dim=0)


@wrong_pairs
def direct_repetition_left_out(ids):
    """A token that directly repeats the one before is left out, or an occurrence further
    back is taken for it.

    For "a a" the last earlier occurrence is at t - 1, and the position after it is t itself.
    The task says that this counts like any other.
    """
    return [(t, s) for t, s in pairs_of(ids) if s != t]


def direct_repetition_skipped(ids):
    gaps = [(t, [j for j in earlier(ids, t) if j < t - 1]) for t in range(len(ids))]
    return [(t, seen[-1] + 1) for t, seen in gaps if seen]


adds(
    exercise.also(direct_repetition_left_out),
    direct_repetition_skipped,
    of=direct_repetition_left_out,
)


@wrong_pairs
def only_the_first_repetition(ids):
    """Each token counts only once, at its second occurrence; the third and fourth are left
    out.

    Every position t whose token occurred before counts. Which of them does your loop skip?
    """
    return [(t, s) for t, s in pairs_of(ids) if len(earlier(ids, t)) == 1]


@wrong_pairs
def only_right_predictions(ids):
    """Only positions count at which the repetition goes on, so that the next token is what
    came next the last time. The task counts all t whose token occurred before.

    The head cannot know the next token. It is judged by where it looks, not by whether that
    helps.
    """
    tokens = [*ids.tolist(), None]
    return [(t, s) for t, s in pairs_of(ids) if tokens[t + 1] == tokens[s]]


@wrong_pairs
def row_of_the_next_position(ids):
    """This reads the row of t + 1; the one who reads is t.

    The token at t is the last one that is known when the next one is predicted. So whose
    weights show where the head looks then?
    """
    return [(t + 1, s) for t, s in pairs_of(ids) if t + 1 < len(ids)]


@exercise.wrong("look-inside")
def new_tokens_counted_as_zero(weights, ids):
    """The weights are added up rightly and divided by T - 1, as if every position but the
    first could be judged. A new token cannot.

    How many positions have a token that occurred before? That is the number to divide by.
    """
    pairs = pairs_of(ids)
    return mean_over(weights, pairs) * (len(pairs) / max(len(ids) - 1, 1))


@exercise.wrong("by-hand")
def tensors_compared_by_identity(weights, ids):
    """No repetition is ever found: every score is 0. `ids[t]` is a tensor, and two tensors
    with the same number are two different keys of a dict, or members of a set.

    `ids.tolist()` (or `.item()`) gives plain numbers, which can be looked up. What are the
    keys of your dict?
    """
    last, picked = {}, []
    for t, token in enumerate(ids):
        if token in last:
            picked.append((t, last[token] + 1))
        last[token] = t
    return mean_over(weights, picked)


@exercise.wrong("look-inside")
def token_finds_itself(weights, ids):
    """The position t counts as an occurrence of its own token, so j + 1 is t + 1: the
    future, and at the last position an index too far.

    *Earlier* means j < t. Is the place of a token written down before it is looked up, or
    does a loop over j go too far?
    """
    last, picked = {}, []
    for t, token in enumerate(ids.tolist()):
        last[token] = t
        picked.append(weights[:, t, last[token] + 1])
    return torch.stack(picked).mean(dim=0)


@exercise.also(token_finds_itself)
def token_finds_itself_in_lists(weights, ids):
    rows = weights.tolist()
    scores = [[head[t][t + 1] for t in range(len(ids))] for head in rows]
    return torch.tensor(scores, dtype=weights.dtype).mean(dim=1)


@exercise.also(token_finds_itself)
def token_finds_itself_head_by_head(weights, ids):
    scores = [[head[t, t + 1] for t in range(len(ids))] for head in weights]
    return torch.tensor(scores).mean(dim=1)


@exercise.caught_as("wrong-dtype")
def always_float32(weights, ids):
    return induction_score(weights, ids).float()


@exercise.caught_as("wrong-type")
def scores_in_a_list(weights, ids):
    return induction_score(weights, ids).tolist()


@exercise.caught_as("wrong-shape")
def scores_in_a_column(weights, ids):
    return induction_score(weights, ids)[:, None]


@exercise.caught_as("returned-none")
def printed_not_returned(weights, ids):
    print(induction_score(weights, ids))


@exercise.caught_as("modified-input")
def tokens_crossed_out(weights, ids):
    score = induction_score(weights, ids)
    ids[0] = -1
    return score


@exercise.caught_as("raised")
def occurrences_in_the_whole_text(weights, ids):
    picked = []
    for t in range(len(ids)):
        places = (ids == ids[t]).nonzero().flatten().tolist()
        if len(places) > 1:
            picked.append(weights[:, t, places[-1] + 1])
    return (
        torch.stack(picked).mean(0) if picked else torch.zeros(len(weights)).to(weights)
    )


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(weights, ids):
    return induction_score(weights, torch.as_strided(ids, (len(ids),), (1,)))
