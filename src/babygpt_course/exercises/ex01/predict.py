"""01.3: numbers of a bigram model, said before they are run."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.prediction import Prediction

V = 58

exercise = Prediction(
    chapter="01_bigram",
    id="01.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=6,
    anchor="predict",
    hints="""
    A table of zeros treats all characters alike. So what probability does it give
    to each of 58?

    Loss in nats: the mean of -ln p of what came. In bits: -log2 p. A table has rows
    times columns numbers.

    untrained: p = 1/58 everywhere. two ways: p = 1/2 each time. abab: after an a,
    what is p(b)? unseen: what is p when the count is 0? rate: each row's gradient
    is multiplied by how often the row occurs, so it is small.
    """,
)


def mean_nats(logits, ids):
    """The average loss of a table of logits (V, V) on ids, in nats per character."""
    return F.cross_entropy(logits[ids[:-1]], ids[1:])


def counted(ids, vocab_size):
    """The logarithms of the relative frequencies of the pairs."""
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
    counts.index_put_(
        (ids[:-1], ids[1:]),
        torch.ones(len(ids) - 1, dtype=torch.float64),
        accumulate=True,
    )
    return (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).log()


@exercise.question
def parameters():
    """How many numbers does a bigram model of V = 58 characters learn?

    Draw the table for V = 3. How many rows, how many columns, how many cells?
    """
    return torch.zeros(V, V).numel()


@exercise.question
def untrained_nats():
    """Average loss, in nats per character, of a table of zeros (V = 58) on a text of
    101 characters.

    Zeros are logits, not probabilities. What does the softmax make of a row of 58 equal
    numbers, and what is -ln of that?
    """
    ids = torch.randint(V, (101,), generator=torch.Generator().manual_seed(0))
    return mean_nats(torch.zeros(V, V, dtype=torch.float64), ids).item()


@exercise.question
def two_way_bits():
    """After every character exactly two others can come, equally likely. Bits per
    character of a perfect model.

    How many yes-or-no questions tell you which of two it is?
    """
    ids = torch.tensor(
        [0, 1, 0, 2, 1, 2, 0]
    )  # each of three characters is followed by each other one, once
    return mean_nats(counted(ids, 3), ids).item() / math.log(2)


@exercise.question
def abab_nats():
    """Average loss, in nats per character, of the table counted on "abababab", on that
    same text.

    What comes after an a in this text? How sure can a table of pairs be?
    """
    ids = torch.tensor([0, 1] * 4)
    return mean_nats(counted(ids, 2), ids).item()


@exercise.question
def unseen_nats():
    """The table counted on "abababab" (no smoothing) reads "abba". Its average loss, in
    nats per character.

    Which pair of "abba" was never counted, and what is -ln of its probability?
    """
    table = counted(torch.tensor([0, 1] * 4), 2)
    return mean_nats(table, torch.tensor([0, 1, 1, 0])).item()


RATES = (0.001, 0.1, 10.0)


@exercise.question
def best_rate():
    """Plain gradient descent on a bigram table of zeros, 100 steps on a whole text.
    Which learning rate ends lowest: 0.001, 0.1 or 10?

    Choose one of the three numbers.
    """
    ids = (
        torch.randint(V, (4000,), generator=torch.Generator().manual_seed(0)) ** 2 // V
    )
    final = {}
    for rate in RATES:
        logits = torch.zeros(V, V, requires_grad=True)
        for _ in range(100):
            (gradient,) = torch.autograd.grad(mean_nats(logits, ids), logits)
            logits = (logits - rate * gradient).detach().requires_grad_()
        final[rate] = mean_nats(logits, ids).item()
    return min(final, key=final.get)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_decimals():
    return {key: round(value, 2) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {key: torch.tensor(value) for key, value in exercise.truth().items()}


@exercise.right
def worked_out_in_other_words():
    return {
        "parameters": torch.zeros(58, 58).numel(),
        "untrained_nats": -math.log(1 / 58),
        "two_way_bits": math.log2(2),
        "abab_nats": -math.log(1),
        "unseen_nats": float("inf"),
        "best_rate": 10.0,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def one_number_a_character():
    """That is one number (or two) for each character, as if the model knew how common
    each character is by itself.

    A bigram model looks at the character before. How many "characters before" are
    there, and how many numbers does it need for each of them?
    """
    return {"parameters": (V, 2 * V)}


@exercise.wrong("the-module")
def parameters_that_are_not_there():
    """That counts parameters of a larger model: a second table, a bias for each
    character, or a table of triples.

    This model has one table and nothing else: row = character before, column =
    character that comes.
    """
    return {"parameters": (2 * V * V, V * V + V, V * V + 2 * V, V**3)}


@exercise.wrong("by-hand")
def each_pair_counted_in_one_direction():
    """That counts each pair of characters once, as if "ab" and "ba" shared a number.

    "th" and "ht" are not equally common, so each direction has its own cell.
    """
    return {"parameters": (V * (V - 1) // 2, V * (V + 1) // 2)}


@exercise.wrong("by-hand")
def fifty_eight_left_out():
    """That is 58 too few: either the pairs of a character with itself are missing, or one
    number a row, since a row adds up to one.

    "ee" and "oo" occur too. And the table that is trained holds logits: any numbers, all
    of them learned; adding up to one is the work of the softmax.
    """
    return {"parameters": V * V - V}


@exercise.wrong("by-hand")
def sign_forgotten():
    """The size is right and the sign is not: a loss is minus a logarithm of a probability,
    so it is never negative.

    What is the sign of ln p for a p below 1, and what does the minus in front make of it?
    """
    return {
        "untrained_nats": -math.log(V),
        "two_way_bits": -1.0,
        "unseen_nats": -math.inf,
    }


@exercise.wrong("by-hand")
def bits_for_nats():
    """That is the right loss in bits; the question asks for nats.

    Nats use the natural logarithm, bits the one to base 2. The loss in PyTorch is in
    nats. One bit is ln 2 nats.
    """
    return {"untrained_nats": math.log2(V)}


@exercise.wrong("by-hand")
def nats_for_bits():
    """That is the right loss in nats; the question asks for bits.

    A fair choice between two is one yes-or-no question. How many bits is one question?
    """
    return {"two_way_bits": math.log(2)}


@exercise.wrong("by-hand")
def probability_for_loss():
    """That is the probability of the character that comes; the loss is minus its
    logarithm.

    A good model has a high probability and a low loss. Which of the two did you write?
    """
    return {"untrained_nats": 1 / V, "two_way_bits": 0.5}


@exercise.wrong("by-hand")
def perplexity_for_loss():
    """That is the number of choices the model hesitates between, the perplexity; the
    loss is its logarithm.

    Twice as many choices cost one more bit, not twice as many bits. So which logarithm
    of your number is asked for?
    """
    return {"untrained_nats": float(V), "two_way_bits": 2.0}


@exercise.wrong("by-hand")
def sum_for_average():
    """That is the loss of the whole text; the question asks for the average over its
    predictions.

    Each of the 100 predictions costs the same here. What does one cost?
    """
    return {"untrained_nats": (100 * math.log(V), 101 * math.log(V))}


@exercise.wrong("the-module")
def zeros_mean_no_loss():
    """A table of zeros is not a model without loss. Zeros are logits: equal scores, so
    every character is equally likely.

    What is the probability of each of 58 equally likely characters, and what is minus
    its logarithm?
    """
    return {"untrained_nats": 0.0}


@exercise.wrong("by-hand")
def perfect_means_zero():
    """A perfect model is not a model without loss. When the source itself tosses a
    coin, nobody can know the side.

    What remains for a model that knows all there is to know, namely "it is one of these
    two, half and half"?
    """
    return {"two_way_bits": 0.0}


@exercise.wrong("by-hand")
def one_where_the_model_is_sure():
    """1 is the probability that this table gives to the next letter, or what a model
    needs in bits that only knows that there are two letters.

    In "abababab" the next letter is certain once you know the one before. What is -ln
    of a probability of 1?
    """
    return {"abab_nats": 1.0}


@exercise.wrong("by-hand")
def character_before_ignored():
    """That is the loss of a model that knows how common a and b are, and does not look
    at the character before.

    In "abababab", stand on an a. What comes next, and how sure can you be?
    """
    return {"abab_nats": (math.log(2), 0.5)}


@exercise.wrong("how-it-breaks")
def unseen_costs_something_finite():
    """The pair "bb" was never counted, so the table gives it probability 0: it said
    "this never happens".

    What is -ln p when p goes to 0? And what is an average, one part of which is that?
    """
    ln2 = math.log(2)
    return {"unseen_nats": (0.0, ln2, 2 * ln2, ln2 / 3, 1.0, 1 / 3, 2 / 3)}


@exercise.wrong("why-it-works")
def small_rate_is_safe():
    """A small rate is safe, but it does not arrive: after 100 steps the table has
    hardly moved.

    The loss is an average over the text, so a row that makes up 1/58 of the text gets
    1/58 of the gradient. By what factor may the rate grow to make up for that?
    """
    return {"best_rate": (0.001, 0.1)}
