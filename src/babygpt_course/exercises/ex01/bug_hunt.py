"""01.4: a bigram model that trains, runs, and is not a bigram model."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="01_bigram",
    id="01.4",
    title="Bug hunt: the model that looks healthy",
    kind="bug hunt",
    points=3,
    minutes=10,
    anchor="how-it-breaks",
    hints="""
    Fit it on a text you can predict yourself, such as "abcabcabc" with k = 0. After
    an a, which letter must have all the probability, and which one has it?

    A bigram is a pair of neighbors: the character at position i and the one at
    position i + 1.

    for i from 0 to the last but one position: add 1 to the cell of (text[i], text[i
    + 1]). How far apart are the characters that the given loop brings together?
    """,
)


def table(pairs, chars, k):
    """Relative frequencies of pairs of characters, after adding k to each count."""
    counts = torch.full((len(chars), len(chars)), float(k), dtype=torch.float64)
    for previous, following in pairs:
        counts[chars.index(previous), chars.index(following)] += 1
    return counts / counts.sum(dim=1, keepdim=True)


@exercise.oracle
def fit_bigram(text, chars, k=1.0):
    return table([(text[i], text[i + 1]) for i in range(len(text) - 1)], chars, k)


@exercise.given
def two_apart(text, chars, k=1.0):
    return table(zip(text, text[2:]), chars, k)


@exercise.cases
def cases():
    yield Case(("ab", "ab", 1.0))
    yield Case(("aab", "ab", 1.0))
    yield Case(("abc", "abc", 0.5))
    yield Case(("abab", "ba", 1.0))
    yield Case(("ab", "ab", 0.01))
    yield Case((" a b ", "ab ", 0.5))
    yield Case(("aAbA", "Aab", 1.0))
    yield Case(("abcabc", "abcd"))
    yield Case(("abcab", "abc", 0.0))
    yield Case(("the cat sat on the mat.", " .acehmnost", 0.1))
    for seed in range(3):
        at = torch.randint(
            5, (60,), generator=torch.Generator().manual_seed(seed)
        ).tolist()
        yield Case(("".join("edcba"[i] for i in at), "bdaec", 0.25 + seed))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def neighbors_by_itertools(text, chars, k=1.0):
    from itertools import pairwise

    counts = torch.full((len(chars), len(chars)), k, dtype=torch.float64)
    for previous, following in pairwise(text):
        counts[chars.index(previous), chars.index(following)] += 1
    return counts / counts.sum(1, keepdim=True)


@exercise.right
def tensors_all_the_way(text, chars, k=1.0):
    V = len(chars)
    ids = torch.tensor([chars.index(c) for c in text])
    pair = ids[:-1] * V + ids[1:]
    counts = torch.bincount(pair, minlength=V * V).view(V, V).double() + k
    return counts / counts.sum(dim=-1, keepdim=True)


@exercise.right
def a_counter_of_pairs(text, chars, k=1.0):
    from collections import Counter

    seen = Counter(zip(text[:-1], text[1:]))
    rows = torch.tensor(
        [[seen[a, b] + k for b in chars] for a in chars], dtype=torch.float64
    )
    return rows / rows.sum(dim=1)[:, None]


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("by-hand")
def reads_backward(text, chars, k=1.0):
    """Now the pairs are neighbors, but in the wrong order: the table says what came
    before, not what comes next.

    In a pair, the character that stands first in the text picks the row. Which of your
    two texts is shifted?
    """
    return table(zip(text[1:], text), chars, k)


@exercise.wrong("by-hand")
def end_joined_to_start(text, chars, k=1.0):
    """The neighbors are right, and one pair is too many: the last character followed by
    the first one.

    `zip` stops at the shorter of its two texts. What does your fix put behind the last
    character?
    """
    return table(zip(text, text[1:] + text[:1]), chars, k)


@exercise.wrong("by-hand")
def paired_with_itself(text, chars, k=1.0):
    """Each character is paired with itself, so the model says that every letter repeats
    forever.

    The follower is one step further in the text. How far is the second text of your
    `zip` shifted now?
    """
    return table(zip(text, text), chars, k)


@exercise.wrong("by-hand")
def three_apart(text, chars, k=1.0):
    """The pairs are now three characters apart: the shift went the wrong way.

    Neighbors are one step apart. Which number is that step in your `zip`?
    """
    return table(zip(text, text[3:]), chars, k)


@exercise.wrong("how-it-breaks")
def old_pairs_kept(text, chars, k=1.0):
    """The neighbors are counted, and the old pairs, two apart, are still counted as
    well.

    Which pairs should the table hold, and which line still adds others?
    """
    return table([*zip(text, text[1:]), *zip(text, text[2:])], chars, k)


@exercise.wrong("by-hand")
def pairs_that_do_not_overlap(text, chars, k=1.0):
    """The text is cut into blocks of two, so every second pair of neighbors is missing.

    In "abc" the b ends one pair and begins the next one. How many pairs does "abc"
    have?
    """
    return table(zip(text[::2], text[1::2]), chars, k)


@exercise.wrong("by-hand")
def last_pair_missing(text, chars, k=1.0):
    """The distance is right now, and the last pair of the text is missing.

    `text[:-1]` has every character that has a follower. What does your first text leave
    out?
    """
    return table(zip(text[:-2], text[1:]), chars, k)


@exercise.wrong("why-it-works")
def smoothing_lost(text, chars, k=1.0):
    """The pairs are right, but k is gone: a pair that was not seen has probability 0
    again, and a row that was not seen is 0 / 0, which is nan.

    Only the pairs were wrong. What did the given code do with `k` before it counted?
    """
    return table(zip(text, text[1:]), chars, 0.0)


@exercise.wrong("why-it-works")
def smoothing_always_one(text, chars, k=1.0):
    """The pairs are right, but every count gets 1 added, whatever k is.

    Only the pairs were wrong. Where did the given code use `k`?
    """
    return table(zip(text, text[1:]), chars, 1.0)


@exercise.wrong("by-hand")
def columns_add_up_to_one(text, chars, k=1.0):
    """The pairs are right, but now the columns add up to 1 instead of the rows.

    A row holds everything that can come after one character. Over which `dim` do you
    add up to get the total of a row?
    """
    probs = table(zip(text, text[1:]), chars, k)
    counts = (
        probs
        * (k * len(chars) + torch.tensor([float(text[:-1].count(c)) for c in chars]))[
            :, None
        ]
    )
    return counts / counts.sum(dim=0, keepdim=True)


@exercise.wrong("by-hand")
def alphabet_sorted_anew(text, chars, k=1.0):
    """The rows stand in another order than `chars`: the table follows the alphabet and
    not the argument.

    `chars` says which character owns which row. Who else would know that your row 0 is
    another character?
    """
    return table(zip(text, text[1:]), "".join(sorted(chars)), k)


@exercise.wrong("vectorize")
def counts_instead_of_probabilities(text, chars, k=1.0):
    """The pairs are right, but these are counts: the division by the row totals is
    gone.

    What do the rows of the table add up to, and what should they?
    """
    counts = torch.full((len(chars), len(chars)), float(k), dtype=torch.float64)
    for previous, following in zip(text, text[1:]):
        counts[chars.index(previous), chars.index(following)] += 1
    return counts


@exercise.caught_as("wrong-dtype")
def half_the_precision(text, chars, k=1.0):
    return fit_bigram(text, chars, k).float()


@exercise.caught_as("wrong-shape")
def table_of_the_characters_seen(text, chars, k=1.0):
    return fit_bigram(text, [c for c in chars if c in text], k)


@exercise.caught_as("raised")
def one_index_too_far(text, chars, k=1.0):
    return table([(text[i], text[i + 1]) for i in range(len(text))], chars, k)


@exercise.wrong("by-hand")
def row_totals_clamped(text, chars, k=1.0):
    """The pairs are right, and a row that was seen rarely no longer adds up to one: its
    total is kept from getting small.

    The given division was right. With k = 0.01 a row may add up to much less than 1
    before it is divided; by what must it be divided so that it adds up to 1?
    """
    counts = torch.full((len(chars), len(chars)), float(k), dtype=torch.float64)
    for previous, following in zip(text, text[1:]):
        counts[chars.index(previous), chars.index(following)] += 1
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


@exercise.wrong("by-hand")
def text_stripped(text, chars, k=1.0):
    """The pairs are right, and spaces at the ends of the text are thrown away first.

    The fault is one number in one line. Every character of the text belongs to a pair,
    spaces too.
    """
    text = text.strip()
    return table(zip(text, text[1:]), chars, k)
