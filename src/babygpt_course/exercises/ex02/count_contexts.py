"""02.1: what followed each context, for any order, without a table of V^n cells."""

import random
from collections import Counter, defaultdict

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="02_ngram",
    id="02.1",
    title="Count what follows each context",
    kind="implement",
    points=2,
    minutes=9,
    anchor="by-hand",
    hints="""
    Take order 3 and the text [5, 7, 5, 9]. At which positions does an id stand that has
    two ids before it? Which two are they, each time?

    The context of position t is the order - 1 ids at t - (order - 1), ..., t - 1: the
    slice ids[t - order + 1 : t]. The first t for which that slice is full is order - 1.

    for each t from order - 1 to the end: context = that slice as a tuple; look up the
    dict of this context (a new one if there is none yet); add 1 at ids[t].
    """,
)


@exercise.oracle
def count_contexts(ids, order):
    counts = {}
    for t in range(order - 1, len(ids)):
        followers = counts.setdefault(tuple(ids[t - order + 1 : t]), {})
        followers[ids[t]] = followers.get(ids[t], 0) + 1
    return counts


@exercise.cases
def cases():
    yield Case(([0, 1], 2))
    yield Case(([0, 1, 2], 3))
    yield Case(([0, 1, 0], 1), "order 1")
    yield Case(([0, 1, 0, 1], 2))
    yield Case(([5, 7, 5, 9], 3))
    yield Case(([5, 7, 9, 5, 7, 9, 5, 7, 2], 3))
    yield Case(([4, 4, 4, 4, 4], 2))
    yield Case(([3], 1))
    yield Case(([3], 2), "shorter than a context")
    yield Case(([3, 1, 2], 5), "shorter than a context")
    yield Case(([3, 1, 2], 4), "shorter than a context")
    yield Case(([], 1), "empty")
    yield Case(([], 3), "empty")
    yield Case(([1000, 7, 1000, 8, 1000, 7], 2))
    for order, (n, vocab_size) in zip((1, 2, 3, 4, 6), [(9, 3), (41, 5), (60, 2)] * 2):
        chance = random.Random(order)
        yield Case(([chance.randrange(vocab_size) for _ in range(n)], order))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def a_dict_of_counters(ids, order):
    counts = defaultdict(Counter)
    for end in range(order, len(ids) + 1):
        *context, following = ids[end - order : end]
        counts[tuple(context)][following] += 1
    return counts


@exercise.right
def shifted_copies_zipped(ids, order):
    counts = {}
    for *context, following in zip(*(ids[k:] for k in range(order))):
        row = counts.setdefault(tuple(context), {})
        row.setdefault(following, 0)
        row[following] += 1
    return counts


@exercise.right
def one_counter_of_ngrams_first(ids, order):
    ngrams = Counter(tuple(ids[i : i + order]) for i in range(len(ids) - order + 1))
    counts = {ngram[:-1]: {} for ngram in ngrams}
    for ngram, n in ngrams.items():
        counts[ngram[:-1]][ngram[-1]] = n
    return counts


@exercise.right
def a_window_that_slides(ids, order):
    counts, window = {}, ()
    for following in ids:
        if len(window) == order - 1:
            counts.setdefault(window, Counter())[following] += 1
        window = (*window, following)
        window = window[len(window) - order + 1 :] if len(window) >= order else window
    return counts


# --- wrong, each with the misconception behind it -------------------------------------


def counted(pairs):
    """{context: {following: how often}} of pairs (context, following)."""
    counts = {}
    for context, following in pairs:
        row = counts.setdefault(context, {})
        row[following] = row.get(following, 0) + 1
    return counts


def pairs(ids, order):
    """(context, following) at each position that has a full context."""
    return [(tuple(ids[t - order + 1 : t]), ids[t]) for t in range(order - 1, len(ids))]


@exercise.wrong("by-hand")
def context_one_too_long(ids, order):
    """Your contexts have `order` ids; they should have one less.

    The order counts the whole n-gram: the context and the id that follows. A bigram has
    order 2. How many ids does it look back at?
    """
    return count_contexts(ids, order + 1)


@exercise.wrong("by-hand")
def context_one_too_short(ids, order):
    """Your contexts are one id too short: this is what a model one order lower counts.

    A bigram has order 2 and looks back at one id. At how many does order 3 look back?
    """
    return count_contexts(ids, max(order - 1, 1))


@exercise.wrong("how-it-breaks")
def newest_id_skipped(ids, order):
    """The id right before the position is missing from the context, and an older one
    is in its place. It runs, it looks plausible, and it is a skip-gram.

    The newest id says most about what follows. Where does your slice end, and is the
    end of a slice part of it?
    """
    return counted(
        (tuple(ids[t - order : t - 1]), ids[t]) for t in range(order, len(ids))
    )


@exercise.wrong("by-hand")
def short_contexts_at_the_start(ids, order):
    """The first positions have fewer than order - 1 ids before them, and you count them
    too, with the short context that there is.

    Only full contexts are asked for. What is the first position that has order - 1 ids
    before it?
    """
    return counted(
        (tuple(ids[max(t - order + 1, 0) : t]), ids[t]) for t in range(len(ids))
    )


@exercise.wrong("by-hand")
def short_windows_at_the_end(ids, order):
    """At the end of the text your windows run out of ids and become shorter, and you count
    them too.

    A slice that reaches beyond the end gives what there is and does not complain. What is
    the last position at which a window of `order` ids begins?
    """
    grams = [ids[i : i + order] for i in range(len(ids))]
    return counted((tuple(gram[:-1]), gram[-1]) for gram in grams)


@exercise.wrong("by-hand")
def contexts_that_nothing_followed(ids, order):
    """There is an entry for the last context of the text, with nothing in it: no id follows.

    Only what occurred is asked for. On which line does a context get its dict before it is
    sure that something follows? (Reading from a `defaultdict` makes an entry too.)
    """
    last = ids[len(ids) - order + 1 :] if len(ids) >= order - 1 else None
    counts = count_contexts(ids, order)
    return counts if last is None else {tuple(last): {}} | counts


@exercise.wrong("by-hand")
def slice_that_starts_below_zero(ids, order):
    """At the first positions the start of your slice is negative, and Python counts a
    negative start from the end of the list. So contexts turn up that stand nowhere in
    the text.

    Print `ids[-1:1]` for a list of two ids, and of three. Which is the first position
    for which the start of the slice is not negative?
    """
    return counted((tuple(ids[t - order + 1 : t]), ids[t]) for t in range(len(ids)))


@exercise.wrong("by-hand")
def last_position_missing(ids, order):
    """The last n-gram is missing: your loop stops one position too early.

    The last id of the text follows something too. `range(a, b)` ends before b; what
    must b be?
    """
    return count_contexts(ids[:-1], order)


@exercise.wrong("by-hand")
def first_position_missing(ids, order):
    """The first n-gram is missing: your loop begins one position too late.

    The first id with a full context stands at position order - 1, because positions are
    counted from 0. Where does your loop begin?
    """
    return count_contexts(ids[1:], order)


@exercise.wrong("by-hand")
def row_made_anew_each_time(ids, order):
    """When a context comes a second time, your code gives it a new dict, and what followed
    it before is lost.

    A new dict is right only the first time. How can you tell whether there is one already,
    or let `setdefault` tell?
    """
    return {context: {following: 1} for context, following in pairs(ids, order)}


@exercise.wrong("by-hand")
def followers_in_a_list(ids, order):
    """Under each context you keep a list of what followed; asked is how often each id did.

    The list has all that is needed, in another form. Which dict says of `[4, 4, 7]` how
    often each id is in it?
    """
    followers = {}
    for context, following in pairs(ids, order):
        followers.setdefault(context, []).append(following)
    return followers


@exercise.wrong("by-hand")
def following_id_inside_the_context(ids, order):
    """The id that follows is part of the context: your table says "after ab came b".

    A model that sees the answer in its input has nothing left to predict. Does your
    slice end at t or at t + 1, and is the end of a slice part of it?
    """
    return counted((c if order == 1 else (*c[1:], f), f) for c, f in pairs(ids, order))


@exercise.also(following_id_inside_the_context)
def whole_ngram_as_context(ids, order):
    return counted(((*c, f), f) for c, f in pairs(ids, order))


@exercise.wrong("by-hand")
def windows_that_do_not_overlap(ids, order):
    """The text is cut into blocks of `order` ids, so most n-grams are missing.

    In [5, 7, 9] the 7 follows the 5 and is itself followed. Every position with a full
    context counts. By how much does your loop move on?
    """
    starts = range(0, len(ids) - order + 1, order)
    return counted((tuple(ids[i : i + order - 1]), ids[i + order - 1]) for i in starts)


@exercise.wrong("by-hand")
def newest_id_first(ids, order):
    """The ids are right, but each context stands back to front: the newest id first.

    A context is a piece of the text, in the order in which one reads it. If another
    part of the code looks up (5, 7), does it find your (7, 5)?
    """
    return counted((c[::-1], f) for c, f in pairs(ids, order))


@exercise.wrong("by-hand")
def order_of_the_context_lost(ids, order):
    """Contexts with the same ids in another order share one entry.

    "on" and "no" are followed by different letters. Does something in your code sort,
    or make a set, on the way to the key?
    """
    return counted((tuple(sorted(c)), f) for c, f in pairs(ids, order))


@exercise.wrong("by-hand")
def reads_backward(ids, order):
    """Your contexts are the ids that come after, not those that come before.

    The model reads from left to right: it knows the past. On which side of position t
    does your slice lie?
    """
    return counted((tuple(reversed(c)), f) for c, f in pairs(ids[::-1], order))


@exercise.wrong("by-hand")
def repeats_counted_once(ids, order):
    """What followed a context twice is counted once: every count is 1.

    A count is a number that grows. On which line does your dict get a 1 even where there
    is a 1 already?
    """
    return {c: dict.fromkeys(row, 1) for c, row in count_contexts(ids, order).items()}


@exercise.wrong("why-it-works")
def all_orders_together(ids, order):
    """Contexts of every length up to order - 1 are counted, not only the full ones.

    Smoothing will ask for shorter contexts later, one table for each order. This
    function makes one of these tables: which length of context belongs to it?
    """
    return counted(pair for n in range(1, order + 1) for pair in pairs(ids, n))


@exercise.wrong("by-hand")
def bare_id_as_context(ids, order):
    """For order 2 the key is an id; it should be a tuple with one id in it.

    All orders look alike if every key is a tuple: (), (5,), (5, 7). What is the
    difference between `(5)` and `(5,)`?
    """
    return counted((c[0] if len(c) == 1 else c, f) for c, f in pairs(ids, order))


@exercise.wrong("by-hand")
def flat_table_of_ngrams(ids, order):
    """You count whole n-grams. Here two levels are asked for: a context, and under it
    what followed.

    A model asks "what came after this context?", and one look into the dict should
    answer that. Which part of your key is the context, which part followed?
    """
    return dict(Counter((*c, f) for c, f in pairs(ids, order)))


@exercise.wrong("by-hand")
def probabilities_instead_of_counts(ids, order):
    """These are relative frequencies; the exercise asks for the counts they are made
    from.

    Smoothing needs to know how often a context was seen: one time in two and a hundred
    times in two hundred are not the same. Which is your last step?
    """
    counts = count_contexts(ids, order)
    totals = {c: sum(row.values()) for c, row in counts.items()}
    return {c: {f: n / totals[c] for f, n in row.items()} for c, row in counts.items()}


@exercise.wrong("the-question")
def never_seen_stored_as_zero(ids, order):
    """Ids that never followed a context are stored with a count of 0.

    With a context of five characters nearly all cells would be such zeros. The dict is
    there to hold only what occurred. What does `.get(following, 0)` give for the rest?
    """
    every = sorted(set(ids))
    counts = count_contexts(ids, order)
    return {c: {f: row.get(f, 0) for f in every} for c, row in counts.items()}


@exercise.wrong("by-hand")
def end_joined_to_start(ids, order):
    """There are a few n-grams too many: the end of the text is followed by its start
    again, as on a ring.

    A text ends. What does your code take for the ids before the first ones, or for those
    after the last one?
    """
    return count_contexts(ids + ids[: order - 1], order)


@exercise.wrong("by-hand")
def minus_zero_keeps_everything(ids, order):
    """Orders from 2 on are right, and for order 1 the contexts grow without end. A slice
    such as `window[-(order - 1):]` is to blame: for order 1 it is `window[-0:]`.

    -0 is 0, so that slice is the whole window and not an empty one. How can you write
    "the last n" so that it holds for n = 0 too?
    """
    counts, window = {}, []
    for following in ids:
        if len(window) >= order - 1:
            row = counts.setdefault(tuple(window), {})
            row[following] = row.get(following, 0) + 1
        window = [*window, following][-(order - 1) :]
    return counts


@exercise.wrong("by-hand")
def first_id_forgotten_at_order_one(ids, order):
    """Orders from 2 on are right, and for order 1 the first id of the text is missing.

    With order 1 the context is empty, so the very first id has a full context: nothing.
    Where does your loop begin for order 1?
    """
    return count_contexts(ids[1:] if order == 1 else ids, order)


@exercise.wrong("by-hand")
def context_in_a_list(ids, order):
    """A list cannot be the key of a dict, because a list can change.

    `tuple(...)` makes of it something that stays as it is.
    """
    counts = {}
    for t in range(order - 1, len(ids)):
        counts.setdefault(ids[t - order + 1 : t], {})
    return counts


@exercise.caught_as("wrong-type")
def a_list_of_pairs(ids, order):
    return pairs(ids, order)


@exercise.caught_as("returned-none")
def printed_not_returned(ids, order):
    print(count_contexts(ids, order))


@exercise.caught_as("modified-input")
def eats_the_text(ids, order):
    counts = {}
    while len(ids) >= order:
        row = counts.setdefault(tuple(ids[: order - 1]), {})
        row[ids[order - 1]] = row.get(ids[order - 1], 0) + 1
        ids.pop(0)
    return counts


@exercise.caught_as("raised")
def one_index_too_far(ids, order):
    counts = {}
    for t in range(len(ids)):
        row = counts.setdefault(tuple(ids[t : t + order - 1]), {})
        row[ids[t + order - 1]] = row.get(ids[t + order - 1], 0) + 1
    return counts


@exercise.caught_as("raised")
def key_not_made_first(ids, order):
    counts = {}
    for context, following in pairs(ids, order):
        counts[context][following] += 1
    return counts


@exercise.caught_as("remembers")
def counts_that_live_on(ids, order, counts={}):  # noqa: B006
    for context, following in pairs(ids, order):
        row = counts.setdefault(context, {})
        row[following] = row.get(following, 0) + 1
    return counts
