"""03.4: the most probable way to cut a text into pieces (Viterbi)."""

import functools
import math
import random
import string

from babygpt_course.exercises.exercise import Case, Exercise, Speed


def random_case(n, letters, seed, longest=4, share=0.5):
    """A text of n letters, and log probabilities of its letters and of some pieces."""
    chance = random.Random(seed)
    text = "".join(chance.choice(string.ascii_lowercase[:letters]) for _ in range(n))
    inside = {text[i : i + k] for k in range(2, longest + 1) for i in range(n - k + 1)}
    pieces = sorted(set(string.ascii_lowercase[:letters]))
    pieces += [*(p for p in sorted(inside) if chance.random() < share), "zz", "zzz"]
    log_probs = {p: -round(chance.uniform(1, 3) * len(p) ** 0.6, 3) for p in pieces}
    return text, log_probs


exercise = Exercise(
    chapter="03_tokenization",
    id="03.4",
    title="The most probable pieces",
    kind="implement",
    points=3,
    minutes=12,
    anchor="the-best-path-instead-of-the-first",
    speed=Speed(
        args=lambda n: random_case(n, 3, 0),
        sizes=(8, 16, 22, 26, 28, 160),
        ratio=1000,
        unit="characters",
        think="A text of n letters has 2 to the power of n - 1 segmentations. Whatever "
        "comes before position i, the best way to cut the rest is the same: compute it "
        "once for each position and keep it.",
    ),
    equivalent={
        "best, start = ([1.0], [0])": "Every way begins at the same score.",
        "best, start = ([-1.0], [0])": "Every way begins at the same score.",
        "best, start = ([0.0], [1])": "The way back ends at 0 and never asks further.",
        "best, start = ([0.0], [-1])": "The way back ends at 0 and never asks further.",
    },
    hints="""
    Suppose you know the best way to cut the first 0, 1, 2, ..., i - 1 letters. The last
    piece of the first i letters begins somewhere. Where can it begin, and what is the
    score then?

    best(0) = 0, and best(i) = the largest of best(j) + log_probs[text[j:i]] over all j < i
    for which text[j:i] is a piece. Keep the j that won: there the last piece begins.

    for i from 1 to n: for j from 0 to i - 1: if text[j:i] is a piece, its score is best[j] +
    log_probs[text[j:i]]; keep the largest and its j. At the end go back from n: the piece
    text[start[i]:i], then i = start[i], until 0; turn the list around.
    """,
)


@exercise.oracle
def best_segmentation(text, log_probs):
    best, cuts = [0.0], [[]]  # of the first i characters: the score, and the pieces
    for i in range(1, len(text) + 1):
        ways = [
            (best[j] + log_probs[text[j:i]], j)
            for j in range(i)
            if text[j:i] in log_probs
        ]
        score, j = max(ways)
        best.append(score)
        cuts.append([*cuts[j], text[j:i]])
    return cuts[-1]


@exercise.cases
def cases():
    ab = {"a": -1.0, "b": -2.0}
    yield Case(("a", ab))
    yield Case(("ab", {**ab, "ab": -2.5}))
    yield Case(("ab", {**ab, "ab": -4.0}))
    yield Case(("ba", {**ab, "ab": -1.5, "ba": -2.5}))
    abc = {"a": -2.0, "b": -2.0, "c": -2.0}
    yield Case(("abc", {**abc, "ab": -3.5, "bc": -1.0}))
    yield Case(("abc", {**abc, "ab": -1.0, "bc": -3.5}))
    yield Case(("abc", {**abc, "ab": -2.5, "bc": -2.75, "abc": -4.0}))
    yield Case(("abc", {**abc, "ab": -2.5, "bc": -2.75, "abc": -4.75}))
    yield Case(("abab", {**ab, "ab": -1.5, "aba": -2.0, "bab": -5.0}))
    yield Case(("abcd", {**abc, "d": -4.0, "cd": -4.25, "abc": -3.0, "ab": -2.5}))
    yield Case(("ab", {"a": -9.0, "b": -9.0, "ab": 0.0}), "a probability of 1")
    yield Case(("", ab), "empty")
    yield Case(("ad a", {"a": -1.0, "d": -3.5, " ": -1.5, " a": -2.0, "ad ": -5.0}))
    whole = {**abc, "d": -2.0, "ab": -3.0, "cd": -3.0, "abcd": -5.0, "abcdd": -1.0}
    yield Case(("abcd", whole))
    alphabet = string.ascii_lowercase[:20]
    yield Case((alphabet, {alphabet: -30.0, **dict.fromkeys(alphabet, -2.0)}))
    yield Case(("éaé", {"é": -3.0, "a": -1.0, "éa": -3.5, "aé": -2.5}))
    for seed, (n, letters) in enumerate([(5, 2), (7, 3), (9, 2), (10, 4), (11, 3)]):
        yield Case(random_case(n, letters, seed))
        yield Case(random_case(n, letters, 10 + seed, longest=n, share=0.25))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def backward_with_pointers(text, log_probs):
    n = len(text)
    best, length = [0.0] * (n + 1), [0] * n
    for i in reversed(range(n)):
        best[i] = -math.inf
        for k in range(1, n - i + 1):
            if text[i : i + k] in log_probs:
                score = log_probs[text[i : i + k]] + best[i + k]
                if score > best[i]:
                    best[i], length[i] = score, k
    pieces, i = [], 0
    while i < n:
        pieces.append(text[i : i + length[i]])
        i += length[i]
    return pieces


@exercise.right
def forward_from_each_position(text, log_probs):
    ways = {0: (0.0, ())}
    for i in range(len(text)):
        score, pieces = ways[i]
        for piece, log_prob in log_probs.items():
            if text.startswith(piece, i):
                end = i + len(piece)
                new = (score + log_prob, (*pieces, piece))
                if end not in ways or new[0] > ways[end][0]:
                    ways[end] = new
    return list(ways[len(text)][1])


@exercise.right
def calls_itself_and_remembers(text, log_probs):
    @functools.cache
    def best(i):
        if i == len(text):
            return 0.0, ()
        return max(
            (log_probs[piece] + best(end)[0], (piece, *best(end)[1]))
            for end in range(i + 1, len(text) + 1)
            if (piece := text[i:end]) in log_probs
        )

    return list(best(0)[1])


# --- wrong, each with the misconception behind it -------------------------------------


def all_ways(text, log_probs):
    """Every segmentation of a short text into pieces."""
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if text[:end] in log_probs:
            for rest in all_ways(text[end:], log_probs):
                yield [text[:end], *rest]


def path(start, text):
    """The pieces that end at the end of the text, where start[i] begins the one before i."""
    pieces, i = [], len(text)
    while i > 0:
        pieces.insert(0, text[start[i] : i])
        i = start[i]
    return pieces


@exercise.wrong("the-best-path-instead-of-the-first")
def longest_piece_first(text, log_probs):
    """From left to right you take the longest piece that fits. That is *greedy*: what it
    takes now can force bad pieces later.

    A long piece is not always a probable one. Compare your pieces and the expected ones:
    what do their log probabilities add up to?
    """
    pieces = []
    while text:
        end = next(k for k in range(len(text), 0, -1) if text[:k] in log_probs)
        pieces.append(text[:end])
        text = text[end:]
    return pieces


@exercise.wrong("the-best-path-instead-of-the-first")
def longest_piece_from_the_end(text, log_probs):
    """From right to left you take the longest piece that fits, or you keep the first way
    that reaches a position, which comes to the same. What it takes now can force bad pieces
    later.

    Compare your pieces and the expected ones: what do their log probabilities add up to? And
    if you go from position to position: where do you compare a new way with the old one?
    """
    pieces = []
    while text:
        at = next(k for k in range(len(text)) if text[k:] in log_probs)
        pieces.insert(0, text[at:])
        text = text[:at]
    return pieces


@exercise.wrong("the-best-path-instead-of-the-first")
def most_probable_next_piece(text, log_probs):
    """At each place you take the piece with the highest probability. A short piece is
    usually more probable by itself, and leaves more pieces to pay for.

    The probability of a segmentation is a product over all its pieces. What does the rest
    cost after your first choice?
    """
    pieces = []
    while text:
        fits = [text[:k] for k in range(1, len(text) + 1) if text[:k] in log_probs]
        pieces.append(max(fits, key=log_probs.get))
        text = text[len(pieces[-1]) :]
    return pieces


@exercise.wrong("the-best-path-instead-of-the-first")
def best_neighbors_merged_first(text, log_probs):
    """You start with single letters and join, again and again, the two neighbors that make
    the most probable piece. That is how byte-pair encoding applies its merges.

    A piece may be the best one although no half of it is a piece, and a good early join can
    block a better one. Here all segmentations compete. Which one has the largest sum?
    """
    pieces = list(text)
    while True:
        joins = [
            (log_probs[a + b], -i)
            for i, (a, b) in enumerate(zip(pieces, pieces[1:]))
            if a + b in log_probs
        ]
        if not joins:
            return pieces
        i = -max(joins)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


@exercise.wrong("the-best-path-instead-of-the-first")
def fewest_pieces(text, log_probs):
    """You cut the text into as few pieces as possible.

    Few pieces are often the most probable, but a rare long piece can cost more than two
    common short ones. Where do the log probabilities enter?
    """
    ways = list(all_ways(text, log_probs))
    return min(ways, key=lambda w: (len(w), -sum(log_probs[p] for p in w)))


@exercise.also(fewest_pieces)
def fewest_pieces_first_found(text, log_probs):
    return min(all_ways(text, log_probs), key=len)


@exercise.also(fewest_pieces)
def fewest_pieces_step_by_step(text, log_probs):
    n, start = [0], [0]
    for i in range(1, len(text) + 1):
        ways = [(n[j] + 1, j) for j in range(i) if text[j:i] in log_probs]
        n.append(min(ways)[0])
        start.append(min(ways)[1])
    return path(start, text)


@exercise.wrong("the-best-path-instead-of-the-first")
def probabilities_added(text, log_probs):
    """The probabilities of the pieces are added. So every further piece makes a segmentation
    better, and many short ones win.

    Pieces follow each other, so their probabilities are multiplied, and their logarithms
    added. What does `exp` do in your code?
    """
    return max(
        all_ways(text, log_probs), key=lambda w: sum(math.exp(log_probs[p]) for p in w)
    )


@exercise.wrong("the-best-path-instead-of-the-first")
def average_of_the_pieces(text, log_probs):
    """You compare the average log probability of a piece. Then a bad piece is forgiven if
    many cheap ones stand around it.

    The probability of the whole is the product of all pieces, so every piece adds its full
    cost. By what do you divide?
    """
    if not text:
        return []
    return max(
        all_ways(text, log_probs), key=lambda w: sum(log_probs[p] for p in w) / len(w)
    )


@exercise.wrong("the-best-path-instead-of-the-first")
def least_probable(text, log_probs):
    """This is the *least* probable segmentation.

    Log probabilities are negative, and the one closest to 0 is the most probable. Is it
    `max` or `min`, and `>` or `<`, that you want?
    """
    return min(all_ways(text, log_probs), key=lambda w: sum(log_probs[p] for p in w))


@exercise.also(least_probable)
def least_probable_step_by_step(text, log_probs):
    sums, start = [0.0], [0]
    for i in range(1, len(text) + 1):
        fits = [j for j in range(i) if text[j:i] in log_probs]
        score, j = min((sums[j] + log_probs[text[j:i]], j) for j in fits)
        sums.append(score)
        start.append(j)
    return path(start, text)


@exercise.wrong("the-best-path-instead-of-the-first")
def always_single_characters(text, log_probs):
    """The text is cut into single characters, whatever pieces there are.

    Which stretches of the text does your code look up? If longer ones are among them: does
    each new way to a position replace the one before, without a comparison of the scores?
    """
    return list(text)


@exercise.wrong("the-best-path-instead-of-the-first")
def text_in_one_piece(text, log_probs):
    """The whole text comes back in one piece, although it is no piece of the dict.

    With `log_probs.get(piece, 0)` an unknown piece costs nothing. If all scores begin at 0,
    no negative sum is ever larger. And a loop that ends early leaves the last position as it
    was. Which score says "impossible", and how far does your loop go?
    """
    return [text] if text else []


@exercise.also(text_in_one_piece)
def unknown_pieces_cost_nothing(text, log_probs):
    best, start = [0.0], [0]
    for i in range(1, len(text) + 1):
        scores = [best[j] + log_probs.get(text[j:i], 0.0) for j in range(i)]
        best.append(max(scores))
        start.append(scores.index(max(scores)))
    return path(start, text)


@exercise.also(text_in_one_piece)
def unknown_pieces_cost_little(text, log_probs):
    every = {text[j:i]: -10.0 for i in range(len(text) + 1) for j in range(i)}
    return best_segmentation(text, every | log_probs)


@exercise.wrong("the-best-path-instead-of-the-first")
def back_to_front(text, log_probs):
    """The pieces are right, and they stand in the wrong order: the last one first.

    Going back from the end finds the last piece first. What is to be done with the list at
    the end?
    """
    return best_segmentation(text, log_probs)[::-1]


@exercise.wrong("the-best-path-instead-of-the-first")
def score_of_the_last_piece_only(text, log_probs):
    """For each position you compare only the last piece, not the whole way to it.

    The score of a way to position i is the best score at the start of its last piece *plus*
    that piece. Which of the two is missing?
    """
    start = [0]
    for i in range(1, len(text) + 1):
        fits = [j for j in range(i) if text[j:i] in log_probs]
        start.append(max(fits, key=lambda j: log_probs[text[j:i]]))
    return path(start, text)


@exercise.also(always_single_characters)
def later_ways_overwrite(text, log_probs):
    start = [0]
    for i in range(1, len(text) + 1):
        start.append(max(j for j in range(i) if text[j:i] in log_probs))
    return path(start, text)


@exercise.also(longest_piece_from_the_end)
def first_way_stays(text, log_probs):
    start = [0]
    for i in range(1, len(text) + 1):
        start.append(min(j for j in range(i) if text[j:i] in log_probs))
    return path(start, text)


@exercise.wrong("the-best-path-instead-of-the-first")
def zero_taken_for_missing(text, log_probs):
    """A piece with a log probability of 0 is treated as if it were no piece.

    0 is the logarithm of 1: this piece is certain. But `if log_probs.get(piece):` is false
    for 0. How else can you ask whether a key is in a dict?
    """
    return best_segmentation(
        text, {p: q for p, q in log_probs.items() if q or len(p) == 1}
    )


@exercise.wrong("the-best-path-instead-of-the-first")
def whole_text_never_a_piece(text, log_probs):
    """The whole text is never tried as one piece.

    It may be a piece as well as any part of it. Look at the ends of your two loops: is the
    slice that begins at 0 and ends at len(text) among them?
    """
    shorter = {p: q for p, q in log_probs.items() if p != text or len(p) == 1}
    return best_segmentation(text, shorter)


@exercise.wrong("the-best-path-instead-of-the-first")
def no_piece_longer_than_three(text, log_probs):
    """Long pieces are never found: your code stops looking at some length.

    How long a piece can be is for the dict to say. Is there a number in your code that
    limits the length?
    """
    return best_segmentation(text, {p: q for p, q in log_probs.items() if len(p) <= 3})


@exercise.also(no_piece_longer_than_three)
def no_piece_longer_than_four(text, log_probs):
    return best_segmentation(text, {p: q for p, q in log_probs.items() if len(p) <= 4})


@exercise.also(no_piece_longer_than_three)
def no_piece_longer_than_sixteen(text, log_probs):
    return best_segmentation(text, {p: q for p, q in log_probs.items() if len(p) <= 16})


@exercise.wrong("by-hand")
def pieces_of_two_at_most(text, log_probs):
    """Only pieces of one and two characters are used.

    How long a piece can be is for the dict to say. Which lengths does your inner loop try?
    """
    return best_segmentation(text, {p: q for p, q in log_probs.items() if len(p) <= 2})


@exercise.caught_as("wrong-type")
def pieces_and_score(text, log_probs):
    pieces = best_segmentation(text, log_probs)
    return pieces, sum(log_probs[p] for p in pieces)


@exercise.caught_as("wrong-type")
def score_instead_of_pieces(text, log_probs):
    return sum(log_probs[p] for p in best_segmentation(text, log_probs))


@exercise.caught_as("wrong-type")
def pieces_in_one_string(text, log_probs):
    return " ".join(best_segmentation(text, log_probs))


@exercise.caught_as("returned-none")
def printed_not_returned(text, log_probs):
    print(best_segmentation(text, log_probs))


@exercise.caught_as("modified-input")
def pieces_that_do_not_occur_deleted(text, log_probs):
    for piece in [p for p in log_probs if p not in text]:
        del log_probs[piece]
    return best_segmentation(text, log_probs)


@exercise.caught_as("raised")
def every_stretch_looked_up(text, log_probs):
    best, start = [0.0], [0]
    for i in range(1, len(text) + 1):
        ways = [(best[j] + log_probs[text[j:i]], j) for j in range(i)]
        best.append(max(ways)[0])
        start.append(max(ways)[1])
    return path(start, text)


@exercise.caught_as("raised")
def empty_text_forgotten(text, log_probs):
    return [text[0], *best_segmentation(text, log_probs)][1:]


@exercise.caught_as("too-slow")
def every_segmentation_tried(text, log_probs):
    return max(all_ways(text, log_probs), key=lambda w: sum(log_probs[p] for p in w))


@exercise.caught_as("too-slow")
def calls_itself_without_memory(text, log_probs):
    def best(i):
        if i == len(text):
            return 0.0, []
        ways = []
        for end in range(i + 1, len(text) + 1):
            if text[i:end] in log_probs:
                score, rest = best(end)
                ways.append((log_probs[text[i:end]] + score, [text[i:end], *rest]))
        return max(ways)

    return best(0)[1]
