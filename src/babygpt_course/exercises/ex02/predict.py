"""02.3: numbers of n-gram models, said before they are run."""

import math
from collections import Counter

import torch

from babygpt_course.exercises.prediction import Prediction

V = 58

exercise = Prediction(
    chapter="02_ngram",
    id="02.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=7,
    anchor="predict",
    hints="""
    How many ids does a model of order 3 look back at, and how many possible answers are
    there for each?

    A table of order n has V to the power of n cells and V to the power of n - 1 rows. The
    surprise of a position in bits is -log2 p. Witten-Bell hands down T / (N + T).

    trigrams: how many starting points have two more characters behind them? aab: write it
    down, and ask at each position what came before and whether that settles the rest. unseen:
    one p is 0. handed down: list what came after "aa"; N is how many, T how many different.
    """,
)


def mean_bits(text, order):
    """Bits per character of the counted n-gram on its own text, from the first full
    context on.
    """
    ngrams = [text[i : i + order] for i in range(len(text) - order + 1)]
    full, before = Counter(ngrams), Counter(n[:-1] for n in ngrams)
    return sum(-math.log2(full[n] / before[n[:-1]]) for n in ngrams) / len(ngrams)


@exercise.question
def trigram_cells():
    """How many cells does the full table of a trigram model (order 3) of V = 58 characters
    have?

    Begin with V = 2 and write all possible triples down. How many are there?
    """
    return torch.zeros(V, V, V, dtype=torch.bool).numel()


@exercise.question
def contexts_of_order_6():
    """How many different contexts are possible for a model of order 6 (V = 58)?

    How many characters does a model of order 6 look back at? How many choices are there for
    each of them?
    """
    return math.prod([V] * (6 - 1))


@exercise.question
def trigrams_of_1000():
    """How many trigrams does a text of 1000 characters hold, repeats counted?

    Write down the trigrams of a text of four characters. How many fewer are there than
    characters?
    """
    return len([(a, a + 1, a + 2) for a in range(1000) if a + 2 < 1000])


@exercise.question
def bigram_bits():
    """The text is "aab" over and over (and one more a at the end). What does a bigram counted
    on it need on that same text, in bits per character?

    After a b the next character is certain. After an a it is not: how many yes-or-no
    questions is that, and how many of the positions stand after an a?
    """
    return mean_bits("aab" * 100 + "a", 2)


@exercise.question
def trigram_bits():
    """The same text, and a trigram counted on it. Bits per character?

    What comes after "aa", after "ab", after "ba"? Is there a choice anywhere?
    """
    return mean_bits("aab" * 100 + "a", 3)


@exercise.question
def unseen_bits():
    """A trigram model without smoothing reads 1000 trigrams of a new text. To 999 of them it
    gives a probability of 1/2 each; one was never counted, though its context was. Bits per
    character?

    What is -log2 of the probability of the one, and what is an average with that in it?
    """
    p = torch.full((1000,), 0.5, dtype=torch.float64)
    p[500] = 0
    return -p.log2().mean().item()


@exercise.question
def handed_down():
    """The training text is "aabaabaabaabaac". Which share of its probability does the context "aa"
    hand down to the shorter one, by Witten-Bell?

    List what came after "aa". How many followers are there, and how many different ones?
    """
    text = "aabaabaabaabaac"
    after = [text[i + 2] for i in range(len(text) - 2) if text[i : i + 2] == "aa"]
    return len(set(after)) / (len(after) + len(set(after)))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_decimals():
    return {key: round(value, 2) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {
        key: torch.tensor(value, dtype=torch.float64)
        for key, value in exercise.truth().items()
    }


@exercise.right
def worked_out_in_other_words():
    return {
        "trigram_cells": 58**3,
        "contexts_of_order_6": 58**5,
        "trigrams_of_1000": 998,
        "bigram_bits": 2 / 3,
        "trigram_bits": 0,
        "unseen_bits": float("inf"),
        "handed_down": 2 / 7,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def order_counts_the_whole_ngram():
    """The order is taken for the length of the context, or for one less than it is: the number
    is off by one factor of 58.

    The order counts the whole n-gram, the context and the character that follows. A bigram
    has order 2 and looks back at one. So order 3 looks back at two, and order 6 at five.
    """
    return {
        "trigram_cells": (V**2, V**4),
        "contexts_of_order_6": (V**6, V**4),
    }


@exercise.wrong("the-question")
def choices_added_instead_of_multiplied():
    """The choices are added. Each choice for one place can stand with each choice for the next
    one, so they multiply.

    With two characters the pairs are aa, ab, ba, bb: two times two. How many triples are
    there?
    """
    return {
        "trigram_cells": 3 * V,
        "contexts_of_order_6": (5 * V, 6 * V, 3 * V),
    }


@exercise.wrong("the-question")
def base_and_exponent_swapped():
    """The base and the exponent are swapped: that is 3, 5 or 6 choices for each of 58 places.

    There are few places and 58 choices for each of them. Which of the two numbers is
    multiplied with itself?
    """
    return {"trigram_cells": 3**V, "contexts_of_order_6": (5**V, 6**V)}


@exercise.wrong("the-question")
def repeats_or_order_left_out():
    """That leaves out contexts in which a character repeats, or counts the same characters in
    another order once.

    "aaa" is a trigram, and "abc" and "cba" are two. How many choices are there for the second
    place when the first one is taken?
    """
    return {
        "trigram_cells": (V * (V - 1) * (V - 2), math.comb(V, 3), math.comb(V + 2, 3)),
        "contexts_of_order_6": (math.perm(V, 5), math.comb(V, 5), math.comb(V + 4, 5)),
    }


@exercise.wrong("by-hand")
def trigrams_that_begin_anywhere():
    """A trigram cannot begin at the last character, nor at the last but one: there is nothing
    behind it.

    A text of three characters holds one trigram. What is the difference?
    """
    return {"trigrams_of_1000": (1000, 999)}


@exercise.wrong("by-hand")
def trigrams_that_do_not_overlap():
    """That is how often three characters fit into the text side by side.

    Trigrams overlap: "abcd" holds abc and bcd. How many starting points are there?
    """
    return {"trigrams_of_1000": (333, 334, 1000 / 3)}


@exercise.wrong("by-hand")
def one_subtracted_too_often():
    """That is one too few: order 3 leaves out the last two starting points, not the last
    three.

    Of three characters you can make one trigram. What does your formula say for a text of
    three?
    """
    return {"trigrams_of_1000": 997}


@exercise.wrong("by-hand")
def every_position_after_an_a():
    """That is the surprise after an a. One position in three stands after a b, and there the
    next character is certain.

    The average is over all positions. What do the others cost?
    """
    return {"bigram_bits": 1.0}


@exercise.wrong("by-hand")
def bigram_that_sees_the_pattern():
    """A bigram does not see the pattern: after an a it cannot know whether this was the first
    or the second a.

    Stand on an a and look at nothing else. What may come next?
    """
    return {"bigram_bits": 0.0}


@exercise.wrong("by-hand")
def context_ignored():
    """That is the entropy of the letters without any context: two a's for each b.

    After a b there is always an a, and the model knows that. At which positions is it in
    doubt, and how much?
    """
    h = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    return {"bigram_bits": h, "trigram_bits": h}


@exercise.wrong("by-hand")
def wrong_positions_in_doubt():
    """That counts one position in three as doubtful, or one in two.

    Write down aabaab and mark each character that comes after an a. For which share of the
    positions must the model choose between two?
    """
    return {"bigram_bits": (1 / 3, 0.5)}


@exercise.wrong("by-hand")
def nats_for_bits():
    """That is the right answer in nats; the question asks for bits.

    A fair choice between two costs one bit, or ln 2 nats. Which of the two did you add up?
    """
    return {"bigram_bits": 2 / 3 * math.log(2)}


@exercise.wrong("by-hand")
def two_characters_still_leave_a_choice():
    """Two characters settle everything in this text: after aa comes b, after ab comes a, after
    ba comes a.

    A longer context cannot make the loss on the training text higher. Here it takes away the
    last doubt. What is -log2 of 1?
    """
    return {"trigram_bits": (2 / 3, 1 / 3, 1.0, 0.5)}


@exercise.wrong("sparsity")
def unseen_costs_something_finite():
    """The one unseen trigram has probability 0: the model said "this never happens".

    What is -log2 p when p goes to 0? And what is an average, one part of which is that?
    """
    return {"unseen_bits": (1.0, 0.999, 999.0, 0.0, 1.001, 1000.0)}


@exercise.wrong("by-hand")
def sign_forgotten():
    """The size is right and the sign is not: a cost in bits is never negative.

    What is the sign of log2 p for a p below 1, and what does the minus in front make of it?
    """
    return {"bigram_bits": -2 / 3, "unseen_bits": -math.inf}


@exercise.wrong("by-hand")
def t_missing_below_the_line():
    """That is T / N: two different followers among five. Below the line belongs N + T.

    What is seen and what is handed down must make 1 together. What is N / (N + T) plus
    T / (N + T)?
    """
    return {"handed_down": 2 / 5}


@exercise.wrong("by-hand")
def kept_instead_of_handed_down():
    """That is what the context keeps for what it has seen, N / (N + T), or what it saw most
    often.

    Handed down is the rest. Which number counts the surprises, N or T?
    """
    return {"handed_down": (5 / 7, 4 / 7, 4 / 5)}


@exercise.wrong("by-hand")
def every_sighting_a_surprise():
    """That hands down half: every follower counts as new, although b came four times.

    After "aa" came b, b, b, b, c. How many of these were new when they came?
    """
    return {"handed_down": 0.5}


@exercise.wrong("by-hand")
def alphabet_for_t():
    """That takes the size of the alphabet for T: a, b and c.

    After "aa" an a never came. How many different letters did come there?
    """
    return {"handed_down": 3 / 8}


@exercise.wrong("by-hand")
def surprises_miscounted():
    """That counts one new follower: the c, or the letters that came just once.

    After "aa" came b, b, b, b, c. The b was new the first time, and so was the c. So what is T,
    and what is T / (N + T) with N = 5?
    """
    return {"handed_down": (1 / 6, 1 / 5, 1 / 7)}


@exercise.wrong("by-hand")
def count_instead_of_share():
    """That is a count, and the question asks for a share, between 0 and 1.

    Divide T, the number of different followers, by N + T.
    """
    return {"handed_down": (1, 2, 3, 5, 7)}
