"""10.2: what may be drawn, and how probably: temperature, top-k, top-p, in this order."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="10_training",
    id="10.2",
    title="What may be drawn",
    kind="implement",
    points=3,
    minutes=11,
    anchor="look-inside",
    rules=(
        forbid(
            "filter_logits generate top_k_top_p_filtering TopPLogitsWarper",
            "The package's filter is what you are building. `topk`, `sort`, `cumsum` and "
            "`softmax` are fine.",
        ),
    ),
    equivalent={
        name: "A vector has one axis: 0 and -1 are the same one."
        for name in (
            "probs, at = torch.softmax(x, dim=-1).sort(descending=True)",
            "before = probs.cumsum(dim=-1) - probs",
            "return torch.softmax(x, dim=-1)",
        )
    }
    | {
        "k = min(len(x), top_k)": "The smaller of two is the same in either order.",
        "x[at[before > top_p]] = -math.inf": "They differ only where a sum is exactly "
        "top_p. There rounding decides, and no case asks.",
    },
    hints="""
    Three settings change one distribution, one after the other. Which distribution does the
    second one see, and which one the third?

    Divide the logits by the temperature. The k-th largest is the limit for top-k; what lies
    below it becomes -inf. Softmax, sort from the likeliest on: an id stays if all likelier ids
    together have less than top_p.

    x = logits / temperature; if top_k: x below x.topk(min(top_k, V)).values[-1] becomes -inf.
    If top_p: probs, at = softmax(x).sort(descending=True); before = probs.cumsum(0) - probs;
    x[at[before >= top_p]] = -inf. At the end softmax(x).
    """,
)


@exercise.oracle
def next_probs(logits, temperature, top_k, top_p):
    scaled = [x / temperature for x in logits.tolist()]
    kept = sorted(range(len(scaled)), key=lambda i: -scaled[i])
    largest = scaled[kept[0]]
    if top_k is not None:
        least = scaled[kept[min(top_k, len(kept)) - 1]]
        kept = [i for i in kept if scaled[i] >= least]
    if top_p is not None:
        total = sum(math.exp(scaled[i] - largest) for i in kept)
        before, enough = 0.0, []
        for i in kept:
            if before < top_p:
                enough.append(i)
            before += math.exp(scaled[i] - largest) / total
        kept = enough
    total = sum(math.exp(scaled[i] - largest) for i in kept)
    probs = [0.0] * len(scaled)
    for i in kept:
        probs[i] = math.exp(scaled[i] - largest) / total
    return torch.tensor(probs, dtype=logits.dtype)


def of(probs, dtype=torch.float64):
    """Logits whose softmax these probabilities are."""
    return torch.tensor(probs, dtype=torch.float64).log().to(dtype)


def random_logits(V, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(V, generator=generator, dtype=torch.float64)).to(dtype)


@exercise.cases
def cases():
    yield Case((torch.tensor([0.0, 0.0]), 1.0, None, None))
    yield Case((of([0.2, 0.8]), 0.5, None, None), "temperature alone")
    yield Case((of([0.2, 0.8]), 2.0, None, None), "temperature alone")
    three = of([0.1, 0.6, 0.3])
    yield Case((three, 1.0, 2, None), "top-k alone")
    yield Case((three, 1.0, 1, None), "top-k alone")
    yield Case((three, 1.0, 9, None), "top-k larger than the vocabulary")
    yield Case((torch.tensor([1.0, 2, 1, 0]), 1.0, 2, None), "equals at the limit")
    yield Case((torch.tensor([-1.0, -2, -3]), 1.0, 2, None), "negative logits")
    four = of([0.1, 0.4, 0.2, 0.3])
    yield Case((four, 1.0, None, 0.6), "top-p alone")
    yield Case((four, 1.0, None, 0.71), "top-p alone")
    yield Case((four, 1.0, None, 0.69), "top-p alone")
    yield Case((four, 1.0, None, 0.3), "top-p below the likeliest")
    yield Case((four, 1.0, None, 1.0), "top-p of 1")
    yield Case((of([0.1, 0.5, 0.4]), 0.5, None, 0.6), "temperature and top-p")
    yield Case((of([0.1, 0.5, 0.4]), 3.0, None, 0.75), "temperature and top-p")
    yield Case((four, 1.0, 2, 0.5), "top-k and top-p")
    yield Case((four, 1.0, 3, 0.75), "top-k and top-p")
    yield Case((four, 0.5, 2, 0.62), "all three")
    yield Case((four, 0.5, 3, 0.88), "all three")
    yield Case((four, 2.0, 3, 0.7), "all three")
    large = torch.tensor([3000.0, 2999.0, -3000.0, 2998.0])
    yield Case((large, 1.0, None, 0.8), "large logits")
    yield Case((large, 0.01, None, None), "large logits")
    yield Case((-large, 1.0, 3, None), "large logits")
    for seed, (V, temperature, k, p) in enumerate(
        [
            (9, 0.7, 4, 0.8),
            (30, 1.5, 12, 0.9),
            (17, 1.2, 20, 0.55),
            (12, 0.9, None, 0.35),
        ]
    ):
        yield Case((random_logits(V, seed), temperature, k, p))
        yield Case(
            (random_logits(V, seed, torch.float32), temperature, k, p), "float32"
        )
    strided = random_logits(24, 9)[::2]
    yield Case((strided, 0.8, 6, 0.7), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def scattered_back(logits, temperature, top_k, top_p):
    values, at = (logits / temperature).sort(descending=True)
    if top_k is not None:
        k = min(top_k, len(values))
        values = values.masked_fill(values < values[k - 1], -torch.inf)
    probs = values.softmax(0)
    if top_p is not None:
        before = torch.cat([probs.new_zeros(1), probs.cumsum(0)[:-1]])
        probs = probs * (before < top_p)
    return torch.zeros_like(probs).scatter(0, at, probs / probs.sum())


@exercise.right
def by_a_limit_of_the_probability(logits, temperature, top_k, top_p):
    probs = torch.softmax(logits / temperature, dim=-1)
    if top_k and top_k < len(probs):
        probs = torch.where(probs >= probs.sort().values[-top_k], probs, 0)
        probs = probs / probs.sum()
    if top_p and top_p < 1:
        ordered = probs.sort(descending=True).values
        n = int((ordered.cumsum(0) < top_p).sum()) + 1
        probs = torch.where(probs >= ordered[n - 1], probs, 0)
    return probs / probs.sum()


@exercise.right
def one_id_after_the_other(logits, temperature, top_k, top_p):
    x = (logits - logits.max()) / temperature
    ids = sorted(range(len(x)), key=lambda i: x[i].item(), reverse=True)
    if top_k is not None and top_k < len(ids):
        ids = [i for i in ids if x[i] >= x[ids[top_k - 1]]]
    chances = x.exp()
    if top_p is not None:
        total, mass = sum(chances[i] for i in ids), 0.0
        for n, i in enumerate(ids):
            mass += chances[i] / total
            if mass >= top_p:
                ids = ids[: n + 1]
                break
    probs = torch.zeros_like(logits)
    probs[ids] = chances[ids] / chances[ids].sum()
    return probs


@exercise.right
def like_the_package(logits, temperature, top_k, top_p):
    x = logits / temperature
    if top_k is not None:
        x = x.masked_fill(x < x.topk(min(top_k, len(x))).values[-1], -math.inf)
    if top_p is not None:
        ordered, at = x.sort(descending=True)
        probs = ordered.softmax(0)
        cut = torch.zeros(len(x), dtype=torch.bool)
        cut[at] = probs.cumsum(0) - probs >= top_p
        x = x.masked_fill(cut, -math.inf)
    return x.softmax(0)


# --- wrong, each with the misconception behind it -------------------------------------


def heated(x, temperature):
    return x / temperature


def by_k(x, k):
    if k is None:
        return x
    return x.masked_fill(x < x.topk(min(k, len(x))).values[-1], -math.inf)


def by_p(x, p, cut=lambda probs, p: probs.cumsum(0) - probs >= p):
    """`cut` says of probabilities in their order which ones go."""
    if p is None:
        return x
    ordered, at = x.sort(descending=True)
    gone = torch.zeros(len(x), dtype=torch.bool)
    gone[at] = cut(ordered.softmax(0), p)
    return x.masked_fill(gone, -math.inf)


@exercise.wrong("look-inside")
def temperature_at_the_end(logits, temperature, top_k, top_p):
    """The temperature comes after top-p. So top-p adds up probabilities that are not the ones
    that are drawn from.

    A high temperature makes the distribution flat, and more ids are needed to reach top_p.
    Which distribution does your top-p see?
    """
    return heated(by_p(by_k(logits, top_k), top_p), temperature).softmax(0)


@exercise.wrong("look-inside")
def multiplied_by_the_temperature(logits, temperature, top_k, top_p):
    """The logits are multiplied by the temperature. A low one should make the likely ids likelier
    still, and here it makes all equal.

    With a temperature near 0 only the largest logit should count. Which operation drives
    the logits apart then?
    """
    return by_p(by_k(logits * temperature, top_k), top_p).softmax(0)


@exercise.wrong("look-inside")
def temperature_ignored(logits, temperature, top_k, top_p):
    """The temperature has no effect. (If it divides probabilities, it is gone as soon as they are
    made to add up to 1 again.)

    With probabilities 0.2 and 0.8 and a temperature of 0.5, is the likelier id as likely as
    before?
    """
    return by_p(by_k(logits, top_k), top_p).softmax(0)


@exercise.wrong("look-inside")
def softmax_of_a_softmax(logits, temperature, top_k, top_p):
    """The softmax is taken twice: the second one takes probabilities for logits. They are all
    between 0 and 1, so everything becomes nearly equally likely.

    The softmax turns differences of logits into ratios. On what should temperature and filters
    work, and when is the softmax due?
    """
    x = logits.softmax(0) / temperature
    return by_p(by_k(x, top_k), top_p).softmax(0)


@exercise.also(softmax_of_a_softmax)
def softmax_after_the_filters_too(logits, temperature, top_k, top_p):
    return by_p(by_k(logits / temperature, top_k), top_p).softmax(0).softmax(0)


@exercise.wrong("look-inside")
def top_p_before_top_k(logits, temperature, top_k, top_p):
    """top-p adds up probabilities as they were before top-k (or comes first). After top-k the
    ids that are left share all of the probability, so fewer of them are enough.

    Of 0.4, 0.3, 0.2, 0.1 top-k keeps two. What are their probabilities now, and how many of
    them reach 0.5?
    """
    return by_k(by_p(logits / temperature, top_p), top_k).softmax(0)


@exercise.wrong("look-inside")
def crossing_id_dropped(logits, temperature, top_k, top_p):
    """The id with which the sum reaches top_p is dropped: what is left has less than top_p, and
    if the likeliest id alone has more, nothing is left at all.

    "The fewest ids that together have top_p": does the one that gets there belong to them?
    """
    x = by_k(logits / temperature, top_k)
    return by_p(x, top_p, lambda probs, p: probs.cumsum(0) > p + 1e-12).softmax(0)


@exercise.also(crossing_id_dropped)
def crossing_id_dropped_but_one_kept(logits, temperature, top_k, top_p):
    x = by_k(logits / temperature, top_k)

    def cut(probs, p):
        return (probs.cumsum(0) > p + 1e-12) & (torch.arange(len(probs)) > 0)

    return by_p(x, top_p, cut).softmax(0)


@exercise.also(crossing_id_dropped)
def crossing_id_dropped_unless_p_is_1(logits, temperature, top_k, top_p):
    x = by_k(logits / temperature, top_k)
    if top_p == 1:
        return x.softmax(0)
    return by_p(x, top_p, lambda probs, p: probs.cumsum(0) > p).softmax(0)


@exercise.wrong("look-inside")
def one_id_too_many(logits, temperature, top_k, top_p):
    """One id too many stays: the sum had already reached top_p before it.

    An id is needed if all the likelier ones together have less than top_p. What do you compare
    with top_p, the sum before the id or something else?
    """
    x = by_k(logits / temperature, top_k)

    def cut(probs, p):
        before = probs.cumsum(0) - probs
        return before - torch.cat([before.new_zeros(1), probs[:-1]]) >= p

    return by_p(x, top_p, cut).softmax(0)


@exercise.wrong("look-inside")
def top_p_as_a_limit_for_each(logits, temperature, top_k, top_p):
    """top_p is taken as a limit for each id by itself: those with less probability go. It is a
    limit for the *sum* of the likeliest ids.

    When ten ids have 0.1 each, how many should top_p = 0.5 keep?
    """
    x = by_k(logits / temperature, top_k)
    return by_p(x, top_p, lambda probs, p: probs < p).softmax(0)


@exercise.also(top_p_as_a_limit_for_each)
def top_p_as_a_share_of_the_largest(logits, temperature, top_k, top_p):
    x = by_k(logits / temperature, top_k)
    return by_p(x, top_p, lambda probs, p: probs < p * probs[0]).softmax(0)


@exercise.also(top_p_as_a_limit_for_each)
def the_rest_as_a_limit_for_each(logits, temperature, top_k, top_p):
    x = by_k(logits / temperature, top_k)
    return by_p(x, top_p, lambda probs, p: probs < 1 - p).softmax(0)


@exercise.wrong("look-inside")
def least_likely_first(logits, temperature, top_k, top_p):
    """The sum begins with the least likely ids, so the tail stays and the likeliest ids go.

    In which order must the ids be, so that the fewest of them reach top_p?
    """
    x = by_k(logits / temperature, top_k)
    return (-by_p_from_the_tail(x, top_p)).softmax(0)


def by_p_from_the_tail(x, p):
    """Minus the logits, inf where the sum from the least likely id on has reached p."""
    if p is None:
        return -x
    ordered, at = x.sort()
    probs = ordered.softmax(0)
    gone = torch.zeros(len(x), dtype=torch.bool)
    gone[at] = probs.cumsum(0) - probs >= p
    return (-x).masked_fill(gone, math.inf)


@exercise.wrong("look-inside")
def order_not_undone(logits, temperature, top_k, top_p):
    """The right ids are cut, at the wrong places: what was found in the sorted order is used on
    the ids as they are.

    Entry 0 of the sorted list is the likeliest id, whichever that is. Which second result of
    `sort` leads back?
    """
    x = by_k(logits / temperature, top_k)
    if top_p is not None:
        probs = x.sort(descending=True).values.softmax(0)
        x = x.masked_fill(probs.cumsum(0) - probs >= top_p, -math.inf)
    return x.softmax(0)


@exercise.wrong("look-inside")
def probabilities_in_sorted_order(logits, temperature, top_k, top_p):
    """The probabilities are right and sorted: entry 0 is the likeliest id, whichever that is.
    Whoever draws from it draws the wrong id.

    Entry i must belong to id i. Which second result of `sort` leads back?
    """
    x = by_p(by_k(logits / temperature, top_k), top_p)
    return x.softmax(0).sort(descending=True).values


@exercise.also(probabilities_in_sorted_order)
def sorted_when_something_is_cut(logits, temperature, top_k, top_p):
    x = by_p(by_k(logits / temperature, top_k), top_p).softmax(0)
    return x if top_p is None else x.sort(descending=True).values


@exercise.wrong("look-inside")
def only_what_is_kept(logits, temperature, top_k, top_p):
    """The result has an entry for each id that stays, instead of one for each id of the
    vocabulary. The place in a shorter list is no id.

    Whoever draws entry 1 of it, which id do they get? What should stand at an id that is
    out?
    """
    x = by_p(by_k(logits / temperature, top_k), top_p)
    return x[x > -math.inf].softmax(0)


@exercise.also(only_what_is_kept)
def only_the_k_largest(logits, temperature, top_k, top_p):
    x = logits / temperature
    if top_k is not None:
        x = x.topk(min(top_k, len(x))).values
    return by_p(x, top_p).softmax(0)


@exercise.wrong("look-inside")
def equals_at_the_limit_dropped(logits, temperature, top_k, top_p):
    """Of several ids that are equal to the k-th largest, some are kept and some are cut. Which
    ones, only the order in memory decides.

    The task keeps the k largest *and their equals*. What do you compare, places or
    values?
    """
    x = logits / temperature
    if top_k is not None:
        values, at = x.topk(min(top_k, len(x)))
        x = torch.full_like(x, -math.inf).scatter(0, at, values)
    return by_p(x, top_p).softmax(0)


@exercise.wrong("look-inside")
def limit_itself_cut(logits, temperature, top_k, top_p):
    """The k-th largest is cut with the rest: one id too few stays, and with top_k = 1 none at
    all.

    Is the limit itself inside or outside? `<` and `<=` differ in just this.
    """
    x = logits / temperature
    if top_k is not None:
        x = x.masked_fill(x <= x.topk(min(top_k, len(x))).values[-1], -math.inf)
    return by_p(x, top_p).softmax(0)


@exercise.wrong("look-inside")
def one_rank_too_far(logits, temperature, top_k, top_p):
    """One id more than the k largest stays.

    Places count from 0. In a sorted list, where does the k-th largest stand?
    """
    return by_p(
        by_k(logits / temperature, None if top_k is None else top_k + 1), top_p
    ).softmax(0)


@exercise.wrong("look-inside")
def k_smallest(logits, temperature, top_k, top_p):
    """The smallest logits stay instead of the largest.

    `sort` begins with the smallest unless it is told otherwise. Which end of it do you
    take?
    """
    x = logits / temperature
    if top_k is not None:
        k = min(top_k, len(x))
        x = x.masked_fill(x > x.topk(k, largest=False).values[-1], -math.inf)
    return by_p(x, top_p).softmax(0)


@exercise.wrong("look-inside")
def more_than_there_are(logits, temperature, top_k, top_p):
    """A top_k that is larger than the vocabulary is an error here. It should just keep all.

    How many ids can `topk` give at most?
    """
    x = logits / temperature
    if top_k is not None:
        x = x.masked_fill(x < x.topk(top_k).values[-1], -math.inf)
    return by_p(x, top_p).softmax(0)


@exercise.also(more_than_there_are)
def more_than_there_are_in_a_sorted_list(logits, temperature, top_k, top_p):
    x = logits / temperature
    if top_k is not None:
        limit = torch.sort(x, descending=True).values[top_k - 1]
        x = x.masked_fill(x < limit, -math.inf)
    return by_p(x, top_p).softmax(0)


@exercise.wrong("look-inside")
def cut_to_zero(logits, temperature, top_k, top_p):
    """Logits that are cut become 0. A logit of 0 is not a probability of 0: beside negative
    logits it is even the largest.

    exp of which logit is 0?
    """
    x = by_p(by_k(logits / temperature, top_k), top_p)
    return x.masked_fill(x == -math.inf, 0.0).softmax(0)


@exercise.wrong("look-inside")
def does_not_add_up(logits, temperature, top_k, top_p):
    """What was cut is missing: the probabilities that stay do not add up to 1.

    Print the sum. What do the ids that stay have to be divided by?
    """
    x = logits / temperature
    kept = by_p(by_k(x, top_k), top_p) > -math.inf
    return x.softmax(0) * kept


@exercise.wrong("look-inside")
def logits_returned(logits, temperature, top_k, top_p):
    """These are logits: they are cut in the right places, and they are no probabilities.

    What makes numbers of 0 or more that add up to 1 of them?
    """
    return by_p(by_k(logits / temperature, top_k), top_p)


@exercise.wrong("look-inside")
def top_p_ignored(logits, temperature, top_k, top_p):
    """top_p has no effect: as many ids stay with it as without.

    Compare a run with top_p = 0.3 and one with None. Which of your lines makes the
    difference?
    """
    return by_k(logits / temperature, top_k).softmax(0)


@exercise.wrong("look-inside")
def top_k_ignored(logits, temperature, top_k, top_p):
    """top_k has no effect: as many ids stay with it as without.

    How many entries above 0 should there be with top_k = 1? Count yours.
    """
    return by_p(logits / temperature, top_p).softmax(0)


@exercise.wrong("look-inside")
def one_of_the_two_filters(logits, temperature, top_k, top_p):
    """When top_k and top_p are both given, only one of them has an effect.

    `if` and then `elif` choose one. Can both be wanted?
    """
    x = logits / temperature
    return (by_k(x, top_k) if top_k is not None else by_p(x, top_p)).softmax(0)


@exercise.also(one_of_the_two_filters)
def the_other_of_the_two_filters(logits, temperature, top_k, top_p):
    x = logits / temperature
    return (by_k(x, top_k) if top_p is None else by_p(x, top_p)).softmax(0)


@exercise.wrong("look-inside")
def exponentials_overflow(logits, temperature, top_k, top_p):
    """With large logits the exponentials become inf (or all of them 0), and their ratio is nan.

    Only differences of logits count. What can be taken from all of them before `exp`?
    `softmax` does it by itself.
    """
    x = by_p(by_k(logits / temperature, top_k), top_p).exp()
    return x / x.sum()


@exercise.caught_as("modified-input")
def cut_in_place(logits, temperature, top_k, top_p):
    logits /= temperature
    return by_p(by_k(logits, top_k), top_p).softmax(0)


@exercise.caught_as("returned-none")
def nothing_if_nothing_is_cut(logits, temperature, top_k, top_p):
    if top_k or top_p:
        return next_probs(logits, temperature, top_k, top_p)


@exercise.caught_as("wrong-dtype")
def always_float32(logits, temperature, top_k, top_p):
    return next_probs(logits, temperature, top_k, top_p).float()


@exercise.caught_as("wrong-shape")
def with_a_batch_axis(logits, temperature, top_k, top_p):
    return next_probs(logits, temperature, top_k, top_p)[None]


@exercise.caught_as("raised")
def none_compared(logits, temperature, top_k, top_p):
    x = by_k(logits / temperature, top_k)
    return (by_p(x, top_p) if top_p < 1 else x).softmax(0)


@exercise.caught_as("forbidden-call")
def by_the_package(logits, temperature, top_k, top_p):
    from babygpt_course.generate import filter_logits

    return filter_logits(logits[None], temperature, top_k, top_p)[0].softmax(0)
