"""02.2: how much of the probability a context hands down to the shorter one."""

import functools

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="02_ngram",
    id="02.2",
    title="Hand down what was not seen",
    kind="implement",
    points=2,
    minutes=8,
    anchor="by-hand",
    hints="""
    After a context came a, a, a and b: four followers, two different ones. How often,
    of these four times, was the follower new at that moment? That is how often to expect
    a new one.

    p = (c + T q) / (N + T): c is the counts, N their sum, T how many of them are not
    zero, q is `lower`. If nothing was seen, N and T are both 0: then p = q.

    c = counts as float64; q = lower as float64; N = c.sum(); T = (c > 0).sum(); if N is
    0, give back q; else (c + T * q) / (N + T).
    """,
)


@exercise.oracle
def witten_bell(counts, lower):
    seen, shorter = counts.tolist(), lower.tolist()
    total, kinds = sum(seen), sum(c > 0 for c in seen)
    if total == 0:
        return torch.tensor(shorter, dtype=torch.float64)
    probs = [(c + kinds * q) / (total + kinds) for c, q in zip(seen, shorter)]
    return torch.tensor(probs, dtype=torch.float64)


def random_case(vocab_size, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(7, (vocab_size,), generator=generator)
    counts *= torch.randint(2, (vocab_size,), generator=generator)
    lower = torch.rand(vocab_size, generator=generator, dtype=torch.float64)
    return counts, (lower / lower.sum()).to(dtype)


def given(counts, lower, dtype=torch.float64):
    return Case((torch.tensor(counts), torch.tensor(lower, dtype=dtype)))


@exercise.cases
def cases():
    yield given([1, 0], [0.25, 0.75])
    yield given([3, 0], [0.25, 0.75])
    yield given([3, 1, 0], [0.2, 0.3, 0.5])
    yield given([2, 3, 1], [0.2, 0.3, 0.5])
    yield given([0, 6, 0, 1], [0.1, 0.2, 0.3, 0.4])
    yield given([1, 1, 4, 0, 0], [0.5, 0.125, 0.125, 0.25, 0.0])
    yield given([2, 0, 5], [0.0, 0.0, 1.0])
    yield Case((torch.tensor([0, 0]), torch.tensor([0.25, 0.75]).double()), "unseen")
    yield Case((torch.zeros(3, dtype=torch.int64), random_case(3, 0)[1]), "unseen")
    yield given([4], [1.0])
    for seed, vocab_size in enumerate([5, 11, 58], 1):
        yield Case(random_case(vocab_size, seed))
        yield Case(random_case(vocab_size, seed, torch.float32), "float32")
    yield Case(
        (torch.zeros(4, dtype=torch.int64), random_case(4, 4)[1].float()), "unseen"
    )
    counts, lower = (x.repeat_interleave(2)[::2] for x in random_case(7, 5))
    counts._base[1::2] += 3
    yield Case((counts, lower), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def a_mix_of_two_distributions(counts, lower):
    total, kinds = counts.sum().item(), (counts > 0).sum().item()
    if total == 0:
        return lower.double()
    own = total / (total + kinds)
    return own * (counts.double() / total) + (1 - own) * lower.double()


@exercise.right
def chosen_by_where(counts, lower):
    lower = lower.to(torch.float64)
    kinds = counts.count_nonzero()
    mixed = (counts + kinds * lower) / (counts.sum() + kinds)
    return torch.where(counts.sum() > 0, mixed, lower)


@exercise.right
def one_id_at_a_time(counts, lower):
    probs = torch.zeros(len(counts), dtype=torch.float64)
    n, t = int(counts.sum()), len(counts.nonzero())
    for i in range(len(counts)):
        seen = float(counts[i])
        probs[i] = (seen + t * float(lower[i])) / (n + t) if n else float(lower[i])
    return probs


# --- wrong, each with the misconception behind it -------------------------------------


def parts(counts, lower):
    """c, q, N and T of the formula, as float64."""
    c = counts.double()
    return c, lower.double(), c.sum(), (c > 0).sum().double()


def wrong_formula(function):
    """A formula as it is, which an unseen context makes 0 / 0, and with that mended."""

    @functools.wraps(function)
    def mended(counts, lower):
        return function(counts, lower) if counts.sum() > 0 else lower.double()

    def raw(counts, lower):
        return function(counts, lower)

    def mended_dtype_left_alone(counts, lower):
        return mended(counts, lower).to(lower.dtype)

    raw.__name__ = f"{function.__name__}_and_unseen_forgotten"
    mended_dtype_left_alone.__name__ = f"{function.__name__}_and_dtype_left_alone"
    exercise.wrong("by-hand")(mended)
    exercise.also(mended)(raw)
    exercise.also(mended)(mended_dtype_left_alone)
    return mended


@wrong_formula
def size_of_the_vocabulary_for_t(counts, lower):
    """T is the size of the vocabulary here; it should be how many different ids were
    seen after this context.

    After a q came only u, a thousand times: T is 1, and hardly anything is handed down.
    What would V do to that context?
    """
    c, q, n, _ = parts(counts, lower)
    return (c + len(c) * q) / (n + len(c))


@wrong_formula
def size_of_the_vocabulary_for_n(counts, lower):
    """N is the length of `counts` here, the size of the vocabulary; it should be their sum,
    how many ids came after this context.

    The probabilities do not add up to 1. To what do the c above the line add up?
    """
    c, q, _, t = parts(counts, lower)
    return (c + t * q) / (len(c) + t)


@wrong_formula
def every_sighting_counted_for_t(counts, lower):
    """Half of the probability is handed down, always, as if T were equal to N: every
    sighting of a follower counts, not every different follower.

    T is how many *different* ids came. If the same id came a thousand times, how many is
    that?
    """
    c, q, n, _ = parts(counts, lower)
    return (c + n * q) / (n + n)


@exercise.also(every_sighting_counted_for_t)
def half_and_half(counts, lower):
    c, q, n, _ = parts(counts, lower)
    return (c / n + q) / 2


@wrong_formula
def unseen_kinds_for_t(counts, lower):
    """T counts the ids that did not come; it should count those that did.

    Each different id that came was new once. That is the evidence for how often new
    ones come. Which way round is your comparison with 0?
    """
    c, q, n, t = parts(counts, lower)
    new = len(c) - t
    return (c + new * q) / (n + new)


@wrong_formula
def different_counts_for_t(counts, lower):
    """T is how many different *numbers* stand in `counts`; it should be how many different
    ids came.

    `unique` of the counts does not tell which ids they belong to: two ids that came three
    times each are two. How many cells of `counts` are greater than 0?
    """
    c, q, n, _ = parts(counts, lower)
    t = len(counts.unique())
    return (c + t * q) / (n + t)


@wrong_formula
def seen_once_for_t(counts, lower):
    """T counts the ids that came exactly once; it should count all that came at least
    once.

    The estimate with the ids that came once is another one, by Good and Turing. Here an
    id that came ten times was new once as well. What must c be compared with?
    """
    c, q, n, _ = parts(counts, lower)
    once = (c == 1).sum()
    return (c + once * q) / (n + once)


@wrong_formula
def one_added_to_each_count(counts, lower):
    """This is add-one smoothing: every id gets the same, whatever the shorter context
    says.

    `lower` knows which of the unseen ids are likely. Where does it come into your
    formula?
    """
    c, _, n, _ = parts(counts, lower)
    return (c + 1) / (n + len(c))


@wrong_formula
def handed_down_evenly(counts, lower):
    """The right amount is handed down, but every id gets an equal part of it.

    The shorter context has seen more text and knows which ids are common. By what, other
    than 1 / V, should T be multiplied?
    """
    c, _, n, t = parts(counts, lower)
    return (c + t / len(c)) / (n + t)


@wrong_formula
def handed_down_to_the_unseen_only(counts, lower):
    """An id that was seen gets nothing from `lower`, so the probabilities do not add up
    to 1.

    `lower` is a distribution over all ids. If you use only some of its parts, their sum
    is not 1. In this formula the seen ids get their part too: c + T q, for every id.
    """
    c, q, n, t = parts(counts, lower)
    probs = torch.where(c > 0, c / (n + t), t * q / (n + t))
    return probs


@wrong_formula
def backoff_instead_of_a_mix(counts, lower):
    """What is handed down goes to the unseen ids alone, scaled up so that all adds up to
    1. That is *backoff*, a relative of what is asked for.

    Here `lower` is mixed in for every id, the seen ones too: c + T q. It is simpler, and
    needs no second normalization.
    """
    c, q, n, t = parts(counts, lower)
    unseen = q * (c == 0)
    share = unseen / unseen.sum() if unseen.sum() > 0 else unseen
    probs = torch.where(c > 0, c / (n + t), share * t / (n + t))
    return probs


@wrong_formula
def t_missing_below_the_line(counts, lower):
    """Your probabilities add up to more than 1: T is added above the line and not below
    it.

    The c add up to N and the q add up to 1. To what do all c + T q add up?
    """
    c, q, n, t = parts(counts, lower)
    return (c + t * q) / n


@wrong_formula
def t_missing_above_the_line(counts, lower):
    """Your probabilities do not add up to 1: `lower` goes in once, and the sum below the
    line says T times.

    The c add up to N and the q add up to 1. By what must q be multiplied so that all of
    it adds up to N + T?
    """
    c, q, n, t = parts(counts, lower)
    return (c + q) / (n + t)


@wrong_formula
def lower_added_once(counts, lower):
    """T is 1 in your formula, whatever was seen: `lower` weighs as much as one sighting.

    A context with many different followers should hand down more than one that is
    always followed by the same id. What in your formula tells the two apart?
    """
    c, q, n, _ = parts(counts, lower)
    return (c + q) / (n + 1)


@wrong_formula
def nothing_handed_down(counts, lower):
    """These are the relative frequencies: what was not seen after this context is
    impossible.

    Where does `lower` come into your formula?
    """
    c, _, n, _ = parts(counts, lower)
    return c / n


@wrong_formula
def weights_swapped(counts, lower):
    """The two parts of the mix are swapped: what was seen gets T / (N + T), and `lower`
    gets N / (N + T).

    The more a context was seen, the more it should be trusted. What happens to your
    weights when N grows?
    """
    c, q, n, t = parts(counts, lower)
    return t / (n + t) * c / n + n / (n + t) * q


@exercise.wrong("by-hand")
def unseen_context_is_nan(counts, lower):
    """For a context that was never seen this is 0 / 0, which is nan.

    Then N and T are both 0 and the formula has nothing to say. Who knows something about
    the next id, even then?
    """
    c, q, n, t = parts(counts, lower)
    return (c + t * q) / (n + t)


@exercise.also(unseen_context_is_nan)
def unseen_context_is_nan_and_dtype_left_alone(counts, lower):
    t = (counts > 0).sum()
    return (counts + t * lower) / (counts.sum() + t)


@exercise.wrong("by-hand")
def unseen_context_is_zero(counts, lower):
    """For a context that was never seen all probabilities are 0, and a distribution must
    add up to 1.

    Keeping the division from failing is not enough. Who knows something about the next
    id when this context does not?
    """
    c, q, n, t = parts(counts, lower)
    return (c + t * q) / (n + t).clamp(min=1)


@exercise.also(unseen_context_is_zero)
def unseen_context_divided_by_a_bit_more(counts, lower):
    c, q, n, t = parts(counts, lower)
    return torch.nan_to_num((c + t * q) / (n + t))


@exercise.wrong("by-hand")
def unseen_context_is_uniform(counts, lower):
    """For a context that was never seen all ids are equally likely here.

    The shorter context may well have been seen, and knows more than nothing. Which of
    the two arguments is what it says?
    """
    c, _, n, _ = parts(counts, lower)
    return witten_bell(counts, lower) if n > 0 else torch.ones_like(c) / len(c)


@exercise.wrong("by-hand")
def unseen_context_divides_by_zero(counts, lower):
    """For a context that was never seen the number below the line is 0, and a division
    of Python's numbers by 0 raises an error.

    Then N and T are both 0 and the formula has nothing to say. Who knows something about
    the next id, even then?
    """
    total, kinds = counts.sum().item(), (counts > 0).sum().item()
    own = total / (total + kinds)
    return own * (counts.double() / total) + (1 - own) * lower.double()


@exercise.caught_as("wrong-dtype")
def half_the_precision(counts, lower):
    return witten_bell(counts, lower).float()


@exercise.caught_as("wrong-dtype")
def dtype_of_the_unseen_context_left_alone(counts, lower):
    return witten_bell(counts, lower) if counts.sum() > 0 else lower


@exercise.caught_as("wrong-shape")
def only_what_was_seen(counts, lower):
    return witten_bell(counts, lower)[counts > 0]


@exercise.caught_as("wrong-type")
def probabilities_in_a_list(counts, lower):
    return witten_bell(counts, lower).tolist()


@exercise.caught_as("returned-none")
def printed_not_returned(counts, lower):
    print(witten_bell(counts, lower))


@exercise.caught_as("modified-input")
def lower_scaled_in_place(counts, lower):
    t, n = (counts > 0).sum(), counts.sum()
    if n > 0:
        lower *= t
        lower += counts
        lower /= n + t
    return lower.double()


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(counts, lower):
    return witten_bell(torch.as_strided(counts, (len(counts),), (1,)), lower)
