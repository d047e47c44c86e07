"""01.2: how many bits a table of probabilities needs for each character of a text."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="01_bigram",
    id="01.2",
    title="Bits per character",
    kind="implement",
    points=2,
    minutes=7,
    anchor="vectorize",
    rules=(
        forbid(
            "cross_entropy nll_loss binary_cross_entropy CrossEntropyLoss NLLLoss",
            think=(
                "Look up the probability of each pair that occurs, take the logarithm, "
                "and average. That is all a cross-entropy is, and after this exercise "
                "you may use the library's."
            ),
        ),
    ),
    hints="""
    If the model gave the character that came a probability of 1/8, how many
    yes-or-no questions is that worth? And 1/2? And 1?

    The mean, over all pairs (a, b) of the text, of -log2 p(b | a), where p(b | a)
    stands in row a, column b.

    p = probs[previous, following], one number a pair (index with two tensors at
    once); minus the mean of log2 of them.
    """,
)


@exercise.oracle
def bits_per_char(probs, ids):
    total, chars = 0.0, ids.tolist()
    for previous, following in zip(chars[:-1], chars[1:]):
        p = probs[previous, following].item()
        total += -math.log2(p) if p > 0 else math.inf
    return total / (len(chars) - 1)


def random_case(vocab_size, n, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(
        vocab_size, vocab_size, generator=generator, dtype=torch.float64
    )
    probs = (2 * logits).softmax(dim=1).to(dtype)
    return probs, torch.randint(vocab_size, (n,), generator=generator)


@exercise.cases
def cases():
    uneven = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    impossible = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    yield Case((uneven, torch.tensor([0, 0])))
    yield Case((uneven, torch.tensor([0, 1])))
    yield Case((uneven, torch.tensor([0, 0, 1, 0])))
    yield Case((impossible, torch.tensor([0, 1])))
    yield Case((impossible, torch.tensor([0, 1, 1, 0])))
    yield Case((impossible, torch.tensor([1, 0, 0])), "impossible under the model")
    for seed, (vocab_size, n) in enumerate([(3, 10), (5, 41), (7, 200)]):
        yield Case(random_case(vocab_size, n, seed))
        yield Case(random_case(vocab_size, n, seed, torch.float32), "float32")
    probs, ids = random_case(3, 6, 3)
    yield Case((probs.T.contiguous().T, ids.repeat_interleave(2)[::2]), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def the_loop(probs, ids):
    bits = [-torch.log2(probs[a, b]) for a, b in zip(ids[:-1], ids[1:])]
    return sum(bits) / len(bits)


@exercise.right
def nats_turned_into_bits(probs, ids):
    rows = probs[ids[:-1]]
    p = rows.gather(1, ids[1:].unsqueeze(1)).squeeze(1)
    return (-p.log().mean() / math.log(2)).item()


@exercise.right
def flat_lookup(probs, ids):
    at = ids[:-1] * probs.shape[1] + ids[1:]
    return float(probs.flatten()[at].log2().neg().sum() / at.numel())


# --- wrong, each with the misconception behind it -------------------------------------


def surprises(probs, ids):
    """-log2 p of each pair, in bits."""
    return -torch.log2(probs[ids[:-1], ids[1:]])


@exercise.wrong("by-hand")
def nats_instead_of_bits(probs, ids):
    """These are nats: the logarithm is the natural one.

    A bit is one yes-or-no question, so p = 1/2 must cost exactly 1. What does your
    function say for 1/2? `log` is base e in torch and in math; `log2` is there too.
    """
    return surprises(probs, ids).mean() * math.log(2)


@exercise.wrong("by-hand")
def sum_instead_of_average(probs, ids):
    """This is the cost of the whole text, not of one character: the bits are added up
    and not averaged.

    A text twice as long should not look twice as hard. What do you divide by to compare
    texts of any length?
    """
    return surprises(probs, ids).sum()


@exercise.wrong("by-hand")
def divided_by_all_characters(probs, ids):
    """The sum is right, but divided by the number of characters instead of the number
    of pairs.

    The first character has nothing before it, so it is never predicted. How many
    predictions are there in a text of N characters?
    """
    return surprises(probs, ids).sum() / len(ids)


@exercise.wrong("by-hand")
def minus_sign_missing(probs, ids):
    """The size is right and the sign is not: a cost in bits cannot be negative.

    A probability is at most 1. What is the sign of its logarithm, and what turns that
    into a cost?
    """
    return -surprises(probs, ids).mean()


@exercise.wrong("by-hand")
def perplexity_instead_of_bits(probs, ids):
    """This is the perplexity, 2 to the power of the bits: among how many equally likely
    characters the model hesitates.

    For a fair coin the perplexity is 2 and the bits are 1. Which line of yours goes
    back from bits to a number of choices?
    """
    return 2 ** surprises(probs, ids).mean()


@exercise.wrong("by-hand")
def rows_and_columns_swapped(probs, ids):
    """The table is read with rows and columns swapped: the probability that the earlier
    character follows the later one.

    In `probs` the row is the character you have, the column the one that comes. Which
    of your slices comes first in the brackets?
    """
    return -torch.log2(probs[ids[1:], ids[:-1]]).mean()


@exercise.wrong("by-hand")
def logarithm_of_the_average(probs, ids):
    """The probabilities are averaged first and the logarithm comes last. That is kinder
    to the model: one impossible pair hardly moves the mean of the probabilities.

    Probabilities of a text are multiplied, so their logarithms are added. Which comes
    first then, the logarithm or the average?
    """
    return -torch.log2(probs[ids[:-1], ids[1:]].mean())


@exercise.wrong("how-it-breaks")
def impossible_pair_made_possible(probs, ids):
    """A pair with probability 0 costs a finite number of bits here: something like `+
    1e-9` or `clamp` hides it.

    The model said "this never happens", and it happened. No number of bits makes up for
    that: the answer is `inf`. Smoothing belongs into the table, where all can see it,
    not into the measurement.
    """
    return -torch.log2(probs[ids[:-1], ids[1:]].clamp(min=1e-9)).mean()


@exercise.also(impossible_pair_made_possible)
def impossible_pair_given_one_in_a_million(probs, ids):
    return -torch.log2(probs[ids[:-1], ids[1:]] + 1e-6).mean()


@exercise.also(impossible_pair_made_possible)
def impossible_pair_given_1e_8(probs, ids):
    return -torch.log2(probs[ids[:-1], ids[1:]] + 1e-8).mean()


@exercise.also(impossible_pair_made_possible)
def impossible_pair_given_1e_10(probs, ids):
    return -torch.log2(probs[ids[:-1], ids[1:]] + 1e-10).mean()


@exercise.also(impossible_pair_made_possible)
def impossible_pair_given_1e_12(probs, ids):
    return -torch.log2(probs[ids[:-1], ids[1:]] + 1e-12).mean()


@exercise.wrong("how-it-breaks")
def impossible_pair_skipped(probs, ids):
    """Pairs with probability 0 are left out of the average, so the model's worst
    mistakes cost nothing.

    The model said "this never happens", and it happened. What is -log2 of a number that
    goes to 0, and what is then the average?
    """
    p = probs[ids[:-1], ids[1:]]
    return -torch.log2(p[p > 0]).mean() if (p > 0).any() else torch.tensor(0.0)


@exercise.wrong("by-hand")
def entropy_of_the_model(probs, ids):
    """This weighs each surprise with the model's own probability, so it measures how
    unsure the model is, not how well it predicts this text. For an impossible pair it
    even gives 0 * inf, which is nan.

    Each pair that occurs in the text counts the same. Where does a second factor `p`
    come into your average?
    """
    p = probs[ids[:-1], ids[1:]]
    return -(p * torch.log2(p)).mean()


@exercise.wrong("the-module")
def probabilities_taken_for_logits(probs, ids):
    """A softmax is applied to the probabilities: they are taken for logits.

    The rows of `probs` add up to 1 already. What does a softmax do to the row [0, 1]?
    """
    return F.cross_entropy(probs[ids[:-1]], ids[1:]) / math.log(2)


@exercise.wrong("vectorize")
def logarithm_that_refuses_zero(probs, ids):
    """`math.log2(0)` raises an error, and this text holds a pair whose probability is
    0.

    `torch.log2` of a tensor gives -inf for 0, which is what you want here: an
    impossible pair costs infinitely many bits.
    """
    pairs = zip(ids[:-1].tolist(), ids[1:].tolist())
    return sum(-math.log2(probs[a, b]) for a, b in pairs) / (len(ids) - 1)


@exercise.caught_as("wrong-shape")
def one_number_a_pair(probs, ids):
    return torch.cat([surprises(probs, ids), torch.zeros(1)])


@exercise.caught_as("wrong-type")
def a_sentence(probs, ids):
    return f"{surprises(probs, ids).mean():.2f} bits"


@exercise.caught_as("modified-input")
def logarithms_written_into_the_table(probs, ids):
    return -probs.log2_()[ids[:-1], ids[1:]].mean()


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(probs, ids):
    flat = torch.as_strided(probs, (probs.numel(),), (1,))
    return -torch.log2(flat[ids[:-1] * len(probs) + ids[1:]]).mean()


@exercise.caught_as("forbidden-call")
def the_library_does_it(probs, ids):
    return F.nll_loss(probs[ids[:-1]].log(), ids[1:]) / math.log(2)
