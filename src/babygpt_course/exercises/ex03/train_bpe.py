"""03.2: learn the merges of byte-pair encoding from a text."""

import random
from collections import Counter

from babygpt_course.exercises.ex03.merge_pair import (
    both_directions_merged,
    merge_pair,
    only_the_first_occurrence,
    overlapping_occurrences_merged,
    second_of_the_pair_kept,
)
from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="03_tokenization",
    id="03.2",
    title="Learn the merges",
    kind="implement",
    points=3,
    minutes=12,
    anchor="merge-by-merge",
    equivalent={
        "counts[pair] = counts.get(pair, 1) + 1": "All counts grow by one, so the same pair "
        "is the most frequent.",
        "counts[pair] = counts.get(pair, -1) + 1": "All counts shrink by one, so the same "
        "pair is the most frequent.",
        "counts[pair] = counts.get(pair, 0) + 2": "All counts are doubled, so the same pair "
        "is the most frequent.",
    },
    hints="""
    Do three merges of "abababc" on paper. After the first one, which pairs are there to be
    counted, and where did the pair b, a go?

    Each round: count the neighbors zip(ids, ids[1:]); take the pair with the highest
    count, of several the one with the smaller ids; note it; replace it everywhere by 256
    plus the number of merges before.

    repeat n_merges times: counts of all pairs; if there is none, stop; best = min over the
    pairs by the key (-count, pair); ids = merge_pair(ids, best, 256 + len(merges));
    merges.append(best).
    """,
)


@exercise.oracle
def train_bpe(ids, n_merges):
    merges = []
    while len(merges) < n_merges:
        counts = Counter(zip(ids, ids[1:]))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        ids = merge_pair(ids, best, 256 + len(merges))
        merges.append(best)
    return merges


@exercise.cases
def cases():
    yield Case(([1, 2], 1))
    yield Case(([1, 2, 1, 2, 3], 1))
    yield Case(([3, 4, 1, 2], 1), "tie")
    yield Case(([1, 3, 1, 2], 1), "tie")
    yield Case(([1, 2, 3], 2))
    yield Case(([1, 2, 1, 2, 1, 2, 3], 3))
    yield Case(([1, 1, 1, 2, 3, 2, 3], 1), "overlap")
    yield Case(([9, 9, 9, 9, 9, 9, 9, 9], 3))
    yield Case(([5, 6, 5, 6, 7, 5, 6, 7], 2))
    yield Case((list(b"banana bandana"), 4))
    yield Case(([1, 2], 0), "no merges")
    yield Case(([1, 2], 3), "no pair left")
    yield Case(([7], 2), "no pair left")
    yield Case(([], 1), "empty")
    yield Case((list("the cat sat on the mat, thé".encode()), 9))
    for seed, (n, kinds, merges) in enumerate([(30, 2, 6), (70, 4, 12), (160, 3, 15)]):
        chance = random.Random(seed)
        yield Case(([chance.randrange(kinds) for _ in range(n)], merges))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def sorted_by_count_and_pair(ids, n_merges):
    merges = []
    for new in range(256, 256 + n_merges):
        counts = {}
        for pair in zip(ids[:-1], ids[1:]):
            counts[pair] = counts.get(pair, 0) + 1
        ranked = sorted(sorted(counts), key=counts.get, reverse=True)
        if not ranked:
            return merges
        merges.append(ranked[0])
        ids = merge_pair(ids, ranked[0], new)
    return merges


@exercise.right
def negative_ids_in_the_key(ids, n_merges):
    ids, merges = list(ids), []
    for _ in range(n_merges):
        if len(ids) < 2:
            break
        pairs = [(ids[i], ids[i + 1]) for i in range(len(ids) - 1)]
        best = max(set(pairs), key=lambda p: (pairs.count(p), -p[0], -p[1]))
        new = 256 + len(merges)
        i = 0
        while i < len(ids) - 1:
            if (ids[i], ids[i + 1]) == best:
                ids[i : i + 2] = [new]
            i += 1
        merges.append(best)
    return merges


@exercise.right
def strings_of_characters(ids, n_merges):
    text, merges = "".join(map(chr, ids)), []
    for new in range(256, 256 + n_merges):
        counts = Counter(map(str.__add__, text, text[1:]))
        if not counts:
            break
        most = max(counts.values())
        best = min(pair for pair, count in counts.items() if count == most)
        text = text.replace(best, chr(new))
        merges.append((ord(best[0]), ord(best[1])))
    return merges


# --- wrong, each with the misconception behind it -------------------------------------


def first_by_ids(counts):
    """The pair with the highest count, of several the one with the smaller ids."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def learned(
    ids,
    n_merges,
    *,
    count=lambda ids: Counter(zip(ids, ids[1:])),
    best=first_by_ids,
    merge=merge_pair,
    new=lambda ids, merges: 256 + len(merges),
):
    """`train_bpe` with one step done in another way."""
    merges = []
    while len(merges) < n_merges:
        counts = count(ids)
        if not counts:
            break
        pair = best(counts)
        ids = merge(ids, pair, new(ids, merges))
        merges.append(pair)
    return merges


@exercise.wrong("merge-by-merge")
def ties_by_first_seen(ids, n_merges):
    """Of several pairs that are equally frequent yours is the one that comes first in the
    text.

    `max` and `most_common` keep the first one they meet, so the merges depend on where the
    text begins. The rule is: the smaller ids first. What could `max` or `min` compare other
    than the count alone?
    """
    return learned(ids, n_merges, best=lambda c: max(c, key=c.get))


@exercise.also(ties_by_first_seen)
def ties_by_first_seen_and_no_end(ids, n_merges):
    merges = []
    for k in range(n_merges):
        counts = Counter(zip(ids, ids[1:]))
        merges.append(max(counts, key=counts.get))
        ids = merge_pair(ids, merges[-1], 256 + k)
    return merges


@exercise.also(ties_by_first_seen)
def ties_by_first_seen_and_most_common(ids, n_merges):
    merges = []
    for k in range(n_merges):
        merges.append(Counter(zip(ids, ids[1:])).most_common(1)[0][0])
        ids = merge_pair(ids, merges[-1], 256 + k)
    return merges


@exercise.wrong("merge-by-merge")
def ties_by_the_first_id_only(ids, n_merges):
    """Of several pairs that are equally frequent and begin with the same id yours is the one
    that comes first in the text.

    (1, 2) goes before (1, 3). Where do you compare the second ids?
    """
    return learned(ids, n_merges, best=lambda c: min(c, key=lambda p: (-c[p], p[0])))


@exercise.wrong("merge-by-merge")
def ties_to_the_larger_ids(ids, n_merges):
    """Of several pairs that are equally frequent yours is the one with the larger ids.

    `max` over (count, pair) looks for the largest count, and then for the largest pair. How
    can one and the same comparison prefer a large count and a small pair?
    """
    return learned(ids, n_merges, best=lambda c: max(c, key=lambda p: (c[p], p)))


@exercise.wrong("merge-by-merge")
def ties_by_last_seen(ids, n_merges):
    """Of several pairs that are equally frequent yours is the one that comes last in the
    text.

    The rule is: the smaller ids first. What decides in your code when two counts are equal?
    """
    return learned(ids, n_merges, best=lambda c: max(reversed(c), key=c.get))


@exercise.wrong("merge-by-merge")
def counted_only_once(ids, n_merges):
    """The pairs are counted once, in the original text, and the most frequent ones are
    taken.

    After a merge the text is another one: some pairs are gone, and new ones have come that
    contain the new id. When must you count again?
    """
    counts = Counter(zip(ids, ids[1:]))
    return sorted(counts, key=lambda pair: (-counts[pair], pair))[:n_merges]


@exercise.also(counted_only_once)
def counted_only_once_most_common(ids, n_merges):
    return [pair for pair, _ in Counter(zip(ids, ids[1:])).most_common(n_merges)]


@exercise.wrong("merge-by-merge")
def text_never_merged(ids, n_merges):
    """The same pair is found in every round: the text stays as it was.

    After a pair is chosen, every occurrence in `ids` must be replaced by the new id before
    you count again. Does your code keep the list that `merge_pair` gives back?
    """
    return learned(ids, n_merges, merge=lambda ids, pair, new: ids)


@exercise.also(text_never_merged)
def text_never_merged_first_seen(ids, n_merges):
    return learned(
        ids,
        n_merges,
        best=lambda c: max(c, key=c.get),
        merge=lambda ids, pair, new: ids,
    )


@exercise.wrong("merge-by-merge")
def new_id_always_256(ids, n_merges):
    """Every merge gets the same new id, 256, so different pieces cannot be told apart.

    The first merge makes 256, the second one 257. What grows by one in each round?
    """
    return learned(ids, n_merges, new=lambda ids, merges: 256)


@exercise.wrong("merge-by-merge")
def new_id_after_the_largest(ids, n_merges):
    """The new id is the largest id of this text plus one; it should be 256 plus the number
    of merges before.

    Ids 0 to 255 belong to the 256 bytes, also to those that this text does not use.
    Otherwise a new piece and a byte of another text share an id.
    """
    return learned(ids, n_merges, new=lambda ids, merges: max(ids) + 1)


@exercise.also(new_id_after_the_largest)
def new_id_after_the_largest_first_seen(ids, n_merges):
    return learned(
        ids,
        n_merges,
        best=lambda c: max(c, key=c.get),
        new=lambda ids, merges: max(ids) + 1,
    )


@exercise.wrong("merge-by-merge")
def new_ids_from_257(ids, n_merges):
    """The new ids are one too high: your first merge makes 257.

    The bytes are 0 to 255, so the first free id is 256. Is the pair in your list already
    when you compute its id?
    """
    return learned(ids, n_merges, new=lambda ids, merges: 257 + len(merges))


@exercise.wrong("merge-by-merge")
def new_ids_from_255(ids, n_merges):
    """The new ids are one too low: your first merge makes 255, and that is a byte.

    There are 256 bytes, and the first one is 0. What is the first free id?
    """
    return learned(ids, n_merges, new=lambda ids, merges: 255 + len(merges))


@exercise.wrong("merge-by-merge")
def overlaps_counted_once(ids, n_merges):
    """In a run such as 1, 1, 1 you count the pair 1, 1 once; as neighbors it stands there
    twice.

    Counting and merging differ here: all neighbors are counted, also where two pairs share
    an id. Only the merge must choose. What are the pairs in zip(ids, ids[1:])?
    """

    def apart(ids):
        counts = {}
        for pair in zip(ids, ids[1:]):
            counts.setdefault(pair, len(ids) - len(merge_pair(ids, pair, -1)))
        return counts

    return learned(ids, n_merges, count=apart)


@exercise.wrong("merge-by-merge")
def stops_at_pairs_seen_once(ids, n_merges):
    """You stop when no pair occurs twice.

    That is a sensible rule, and not the one asked for: here it goes on until there are
    n_merges or no pair is left at all. When is no pair left?
    """
    return learned(
        ids,
        n_merges,
        count=lambda ids: {
            p: n for p, n in Counter(zip(ids, ids[1:])).items() if n > 1
        },
    )


@exercise.wrong("merge-by-merge")
def new_pieces_never_merged_again(ids, n_merges):
    """A new piece is never part of another merge: only pairs of single bytes are counted.

    From "th" and "e" comes "the". A new id is an id like any other. What keeps ids from 256
    on out of your counts?
    """
    return learned(
        ids,
        n_merges,
        count=lambda ids: Counter(p for p in zip(ids, ids[1:]) if max(p) < 256),
    )


@exercise.wrong("merge-by-merge")
def rarest_pair_first(ids, n_merges):
    """You merge the rarest pair; it should be the most frequent one.

    A merge should make the text as much shorter as possible. Which sign or which of `min`
    and `max` does that?
    """
    return learned(ids, n_merges, best=lambda c: min(c, key=lambda p: (c[p], p)))


@exercise.wrong("merge-by-merge")
def order_of_the_pair_ignored(ids, n_merges):
    """Pairs are counted without regard to their order: 1, 2 and 2, 1 together.

    "th" and "ht" are different pieces. Where in your code does the order get lost, a sort or
    a set?
    """
    return learned(
        ids,
        n_merges,
        count=lambda ids: Counter(tuple(sorted(p)) for p in zip(ids, ids[1:])),
        merge=both_directions_merged,
    )


@exercise.wrong("merge-by-merge")
def surprising_pairs_first(ids, n_merges):
    """The pairs are ranked by how much more often they occur than their parts suggest, the
    count divided by the counts of both parts. WordPiece does that.

    Byte-pair encoding asks only how often the pair occurs. By what do you divide the count?
    """

    def scores(ids):
        alone = Counter(ids)
        pairs = Counter(zip(ids, ids[1:]))
        return {(a, b): n / (alone[a] * alone[b]) for (a, b), n in pairs.items()}

    return learned(ids, n_merges, count=scores)


@exercise.wrong("merge-by-merge")
def blocks_of_two_counted(ids, n_merges):
    """The text is cut into blocks of two before it is counted, so half of the pairs are not
    seen.

    Every position but the last one begins a pair. What are the pairs in zip(ids, ids[1:])?
    """
    return learned(ids, n_merges, count=lambda ids: Counter(zip(ids[::2], ids[1::2])))


@exercise.wrong("merge-by-merge")
def only_first_occurrence_merged(ids, n_merges):
    """The right pair is chosen, and replaced only where it first occurs.

    A merge is a rule for the whole text. Does exercise 03.1 pass?
    """
    return learned(ids, n_merges, merge=only_the_first_occurrence)


@exercise.wrong("merge-by-merge")
def second_of_the_pair_left_behind(ids, n_merges):
    """The right pair is chosen, and when it is merged its second id stays behind.

    Two ids go, one comes. Does exercise 03.1 pass?
    """
    return learned(ids, n_merges, merge=second_of_the_pair_kept)


@exercise.wrong("merge-by-merge")
def overlaps_merged_twice(ids, n_merges):
    """The right pair is chosen, and in a run such as 1, 1, 1 it is merged twice: the middle
    id is used for both.

    Each id of the text can become part of one piece only. Does exercise 03.1 pass?
    """
    return learned(ids, n_merges, merge=overlapping_occurrences_merged)


@exercise.wrong("merge-by-merge")
def one_merge_too_few(ids, n_merges):
    """There is one merge less than asked for.

    `range(a, b)` has b - a numbers in it. How many rounds does your loop go?
    """
    return train_bpe(ids, n_merges - 1)


@exercise.wrong("merge-by-merge")
def one_merge_too_many(ids, n_merges):
    """There is one merge more than asked for.

    For n_merges = 0 the list must be empty. When does your loop look at n_merges, before
    or after a merge?
    """
    return train_bpe(ids, n_merges + 1)


@exercise.wrong("merge-by-merge")
def merged_text_instead_of_merges(ids, n_merges):
    """You give back the text after the merges; asked for are the merges, the pairs in their
    order.

    The merges are the tokenizer: with them any text can be encoded. Which list grows by one
    in each round?
    """
    for i, pair in enumerate(train_bpe(ids, n_merges)):
        ids = merge_pair(ids, pair, 256 + i)
    return list(ids)


@exercise.wrong("merge-by-merge")
def merges_in_a_dict(ids, n_merges):
    """You give back a dict from pair to new id; asked for is a list of the pairs in their
    order.

    The place in the list says the id: pair i becomes 256 + i. A dict holds the same and
    would do, but here the list is the format.
    """
    return {pair: 256 + i for i, pair in enumerate(train_bpe(ids, n_merges))}


@exercise.wrong("merge-by-merge")
def pairs_in_lists(ids, n_merges):
    """The pairs are right, and each of them is a list; they should be tuples.

    A pair has to serve as a key later, and a list cannot. `tuple(...)` makes one of it.
    """
    return [list(pair) for pair in train_bpe(ids, n_merges)]


@exercise.wrong("merge-by-merge")
def merges_with_their_new_ids(ids, n_merges):
    """The pairs are right, and each of them stands beside its new id; asked for are the pairs
    alone.

    The place in the list says the id: pair i becomes 256 + i. What do you append?
    """
    return [(pair, 256 + i) for i, pair in enumerate(train_bpe(ids, n_merges))]


@exercise.wrong("merge-by-merge")
def no_pair_left_and_none_appended(ids, n_merges):
    """When no pair is left, your list goes on with something that is no pair.

    A text of one id has no neighbors. Then the list ends early. Where can you ask whether
    there is any pair?
    """
    merges = train_bpe(ids, n_merges)
    return merges + [None] * (n_merges - len(merges))


@exercise.wrong("merge-by-merge")
def no_pair_left_is_an_error(ids, n_merges):
    """When no pair is left, there is nothing to take the best of, and your function stops
    with an error.

    A text of one id has no neighbors. Then the list ends early. Where can you ask whether
    there is any pair?
    """
    merges = []
    for k in range(n_merges):
        counts = Counter(zip(ids, ids[1:]))
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        ids = merge_pair(ids, merges[-1], 256 + k)
    return merges


@exercise.also(no_pair_left_is_an_error)
def no_pair_left_is_an_error_of_max(ids, n_merges):
    merges = []
    for k in range(n_merges):
        counts = Counter(zip(ids, ids[1:]))
        merges.append(max(counts, key=lambda p: (counts[p], -p[0], -p[1])))
        ids = merge_pair(ids, merges[-1], 256 + k)
    return merges


@exercise.also(no_pair_left_is_an_error)
def no_pair_left_is_an_error_of_an_index(ids, n_merges):
    merges = []
    for k in range(n_merges):
        counts = Counter(zip(ids, ids[1:]))
        merges.append(sorted(counts, key=lambda p: (-counts[p], p))[0])
        ids = merge_pair(ids, merges[-1], 256 + k)
    return merges


@exercise.caught_as("wrong-type")
def merges_and_text(ids, n_merges):
    return train_bpe(ids, n_merges), ids


@exercise.caught_as("returned-none")
def printed_not_returned(ids, n_merges):
    print(train_bpe(ids, n_merges))


@exercise.caught_as("modified-input")
def text_merged_in_place(ids, n_merges):
    merges = train_bpe(ids, n_merges)
    for i, pair in enumerate(merges):
        ids[:] = merge_pair(ids, pair, 256 + i)
    return merges


@exercise.caught_as("raised")
def one_index_too_far(ids, n_merges):
    return Counter((ids[i], ids[i + 1]) for i in range(len(ids))).most_common(n_merges)


@exercise.caught_as("remembers")
def merges_that_live_on(ids, n_merges, merges=[]):  # noqa: B006
    merges += train_bpe(ids, n_merges)
    return merges


@exercise.caught_as("not-attempted")
def helper_that_is_still_a_stub(ids, n_merges):
    return learned(ids, n_merges, merge=stub)


def stub(ids, pair, new):
    raise NotImplementedError
