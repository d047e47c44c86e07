"""03.1: one step of byte-pair encoding, a pair of neighbors becomes one id."""

import random

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="03_tokenization",
    id="03.1",
    title="Merge a pair",
    kind="implement",
    points=2,
    minutes=7,
    anchor="merge-by-merge",
    hints="""
    In [1, 1, 1] the pair (1, 1) stands at position 0 and at position 1. After you have
    merged the first one, which ids are still free to be merged?

    Walk from left to right with a position i. If ids[i] and ids[i + 1] are the pair,
    `new` goes out and i grows by 2; else ids[i] goes out and i grows by 1.

    out = []; i = 0; while i < len(ids): if i is not the last position and (ids[i], ids[i
    + 1]) == pair: append new, i += 2; else: append ids[i], i += 1.
    """,
)


@exercise.oracle
def merge_pair(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@exercise.cases
def cases():
    small = [
        ([1, 2], (1, 2)),
        ([1, 2, 3], (1, 2)),
        ([3, 1, 2], (1, 2)),
        ([2, 1], (1, 2)),
        ([1, 1, 2], (1, 2)),
        ([1, 2, 1, 2], (1, 2)),
        ([1, 2, 2], (1, 2)),
        ([1, 1, 1], (1, 1)),
        ([1, 1, 1, 1], (1, 1)),
        ([1, 1, 1, 1, 1, 3], (1, 1)),
        ([1, 3, 2], (1, 2)),
        ([11, 2, 1, 21], (1, 2)),
        ([12, 1], (1, 2)),
        ([5], (1, 2)),
        ([1], (1, 2)),
    ]
    for ids, pair in small:
        yield Case((ids, pair, 256))
    yield Case(([], (1, 2), 256), "empty")
    yield Case(([97, 256, 98, 256, 98, 97], (256, 98), 257))
    yield Case(([256, 256, 97, 256, 256], (256, 256), 300))
    yield Case(([0, 0, 1, 0], (0, 1), 256))
    yield Case(([1, 2, 3, 1, 2, 256], (1, 2), 256), "new occurs already")
    for seed, (n, kinds) in enumerate([(9, 2), (41, 3), (200, 2)]):
        chance = random.Random(seed)
        ids = [chance.randrange(kinds) for _ in range(n)]
        yield Case(
            (ids, (chance.randrange(kinds), chance.randrange(kinds)), 256 + seed)
        )


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def text_of_characters_replaced(ids, pair, new):
    text = "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(new))
    return [ord(c) for c in text]


@exercise.right
def looks_back_instead_of_ahead(ids, pair, new):
    out, free = [], False  # is the last id of `out` one that may still be merged?
    for i in ids:
        if free and (out[-1], i) == pair:
            out[-1] = new
            free = False
        else:
            out.append(i)
            free = True
    return out


@exercise.right
def an_iterator_with_a_memory(ids, pair, new):
    rest, out = list(reversed(ids)), []
    while rest:
        first = rest.pop()
        if rest and first == pair[0] and rest[-1] == pair[1]:
            rest.pop()
            out += [new]
        else:
            out += [first]
    return out


@exercise.right
def a_copy_changed_in_place(ids, pair, new):
    ids = ids[:]
    i = 0
    while i < len(ids) - 1:
        if ids[i : i + 2] == list(pair):
            ids[i : i + 2] = [new]
        i += 1
    return ids


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("merge-by-merge")
def second_of_the_pair_kept(ids, pair, new):
    """The new id is in, and the second id of the pair is still there as well.

    In a `for` loop, `i += 1` does not skip the next round: the loop gives i its next value
    anyway. Which kind of loop lets you decide how far to go on?
    """
    out = []
    for i in range(len(ids)):
        match = i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair
        out.append(new if match else ids[i])
    return out


@exercise.also(second_of_the_pair_kept)
def second_of_the_pair_kept_and_last_id_lost(ids, pair, new):
    out = []
    for i in range(len(ids) - 1):
        out.append(new if (ids[i], ids[i + 1]) == pair else ids[i])
    return out


@exercise.wrong("merge-by-merge")
def overlapping_occurrences_merged(ids, pair, new):
    """In a run such as 1, 1, 1 the middle id is used twice: once for the pair on its left
    and once for the pair on its right.

    Each id of the text can become part of one piece only. After a merge at position i,
    where does the next pair begin at the earliest?
    """
    at = [i for i in range(len(ids) - 1) if (ids[i], ids[i + 1]) == pair]
    used = {*at, *(i + 1 for i in at)}
    return [
        new if i in at else ids[i] for i in range(len(ids)) if i in at or i not in used
    ]


@exercise.wrong("merge-by-merge")
def from_right_to_left(ids, pair, new):
    """The pairs are merged from the right: in 1, 1, 1 the last two became one.

    Whoever encodes and whoever trains must agree on the order, and it is left to right, as
    one reads. Which pair comes first in 1, 1, 1?
    """
    return merge_pair(ids[::-1], pair[::-1], new)[::-1]


@exercise.wrong("merge-by-merge")
def only_the_first_occurrence(ids, pair, new):
    """Only the first occurrence of the pair is merged.

    A merge is a rule for the whole text. What does your function do after it has found the
    pair once?
    """
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new, *ids[i + 2 :]]
    return list(ids)


@exercise.wrong("merge-by-merge")
def last_id_lost(ids, pair, new):
    """The last id of the text is gone where no pair ends there.

    A loop over the places where a pair can begin ends one position early, and the last id
    begins no pair. Who puts it out then?
    """
    merged = merge_pair(ids, pair, new)
    ends = len(ids) >= 2 and (ids[-2], ids[-1]) == pair
    return merged if ends and merged[-1] == new else merged[:-1]


@exercise.wrong("merge-by-merge")
def pair_at_the_end_missed(ids, pair, new):
    """A pair at the very end of the text is not merged.

    The last pair begins at position len(ids) - 2, counted from 0. Does your loop get there?
    """
    return [] if not ids else [*merge_pair(ids[:-1], pair, new), ids[-1]]


@exercise.wrong("merge-by-merge")
def id_after_a_pair_lost(ids, pair, new):
    """The id right after a merged pair is gone.

    A pair has two ids. By how much does your position grow in all after a merge, the line
    at the end of the loop included?
    """
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
        i += 1
    return out


@exercise.wrong("merge-by-merge")
def both_directions_merged(ids, pair, new):
    """The two ids are merged in both orders: 2, 1 as well as 1, 2.

    "th" and "ht" would become the same piece, and nobody could decode it. Which id must
    come first?
    """
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and {ids[i], ids[i + 1]} == set(pair):
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@exercise.wrong("merge-by-merge")
def each_member_replaced(ids, pair, new):
    """Each of the two ids is replaced, wherever it stands alone.

    A piece stands for the two side by side. Do you ask whether *one* id is in the pair, or
    whether *two neighbors* are the pair?
    """
    return [new if i in pair else i for i in ids]


@exercise.wrong("merge-by-merge")
def first_member_alone_decides(ids, pair, new):
    """Only the first id of the pair is looked at; what follows it is swallowed unseen.

    Both must fit. What do you compare `ids[i + 1]` with?
    """
    out, i = [], 0
    while i < len(ids):
        match = ids[i] == pair[0] and i + 1 < len(ids)
        out.append(new if match else ids[i])
        i += 2 if match else 1
    return out


@exercise.wrong("merge-by-merge")
def gaps_closed(ids, pair, new):
    """Two ids that are not neighbors were merged: something stands between them.

    Pairs are neighbors, at positions i and i + 1. How far ahead do you look for the second
    one?
    """
    out, i = [], 0
    while i < len(ids):
        rest = ids[i + 1 :]
        if ids[i] == pair[0] and pair[1] in rest:
            at = i + 1 + rest.index(pair[1])
            out += [new, *ids[i + 1 : at]]
            i = at + 1
        else:
            out.append(ids[i])
            i += 1
    return out


@exercise.wrong("merge-by-merge")
def nothing_is_ever_equal(ids, pair, new):
    """Nothing is merged: the ids come back as they were.

    `pair` is a tuple, and in Python a list never equals a tuple: `[1, 2] == (1, 2)` is
    False. What do you compare it with? Print both sides.
    """
    return list(ids)


@exercise.wrong("merge-by-merge")
def numbers_taken_as_text(ids, pair, new):
    """Numbers were cut in two: the ids are joined into one string, and the digits of "1 2"
    occur inside "11 2" as well.

    An id is one thing, however many digits it has. In which form is each id one single
    element?
    """
    text = " ".join(map(str, ids)).replace(" ".join(map(str, pair)), str(new))
    return [int(number) for number in text.split()]


@exercise.also(numbers_taken_as_text)
def numbers_taken_as_text_with_commas(ids, pair, new):
    text = str(list(ids)).replace(f"{pair[0]}, {pair[1]}", str(new))
    return [int(number) for number in text.strip("[]").split(",") if number]


@exercise.wrong("merge-by-merge")
def new_id_forgotten(ids, pair, new):
    """The pairs are gone, and nothing stands in their place.

    The text must still be readable: whoever meets the new id knows which two it stands for.
    Where do you put `new` out?
    """
    return [i for i in merge_pair(ids, pair, None) if i is not None]


@exercise.wrong("merge-by-merge")
def pair_kept_beside_the_new_id(ids, pair, new):
    """The new id is in, and the two old ones are still there.

    The text should get shorter: two go, one comes. Which line puts the old ones out?
    """
    out = []
    for i in merge_pair(ids, pair, None):
        out += [i] if i is not None else [*pair, new]
    return out


@exercise.wrong("merge-by-merge")
def at_even_positions_only(ids, pair, new):
    """The text is cut into blocks of two, so a pair that begins at an odd position is missed.

    In 3, 1, 2 the pair begins at position 1. How far do you go on when there is no pair?
    """
    out = []
    for i in range(0, len(ids), 2):
        block = tuple(ids[i : i + 2])
        out += [new] if block == pair else block
    return out


@exercise.caught_as("wrong-type")
def ids_in_a_tuple(ids, pair, new):
    return tuple(merge_pair(ids, pair, new))


@exercise.caught_as("wrong-type")
def ids_and_a_count(ids, pair, new):
    out = merge_pair(ids, pair, new)
    return out, len(ids) - len(out)


@exercise.caught_as("returned-none")
def printed_not_returned(ids, pair, new):
    print(merge_pair(ids, pair, new))


@exercise.caught_as("modified-input")
def changed_in_place(ids, pair, new):
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new]
        i += 1
    return ids


@exercise.caught_as("raised")
def one_index_too_far(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@exercise.caught_as("raised")
def list_shrinks_under_the_loop(ids, pair, new):
    ids = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new]
    return ids


@exercise.caught_as("remembers")
def output_that_lives_on(ids, pair, new, out=[]):  # noqa: B006
    out += merge_pair(ids, pair, new)
    return out
