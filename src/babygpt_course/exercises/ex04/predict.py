"""04.3: numbers of attention, said before they are run."""

import math

import torch

from babygpt_course.exercises.prediction import Prediction

D, T = 64, 100
VALUES = (2.0, 9.0, 1.0, 8.0)
DRAWS = 4_000_000

exercise = Prediction(
    chapter="04_dot_product_attention",
    id="04.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=9,
    anchor="predict",
    hints="""
    A score is a sum of 64 products of independent numbers. What happens to the variance
    when independent things are added up? And what is the variance of one such product?

    Var(q . k) = D. Dividing by c divides the deviation by c. Two scores x apart: the larger
    has the weight 1 / (1 + exp(-x)). Entropy of n equal weights: log2 n bits.

    self: q . q is a sum of 64 squares, each 1 on average, so none of them cancels; then
    divide by the root. hidden: of T * T cells those above the diagonal, that is 0 + 1 + 2 +
    ... + (T - 1). equal keys: equal scores, so equal weights.
    """,
)


def normal(seed):
    """Independent numbers with mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(DRAWS, generator=generator)


def softmax(*scores):
    return torch.tensor(scores, dtype=torch.float64).softmax(0)


@exercise.question
def score_variance():
    """q and k have D = 64 entries each, all independent, with mean 0 and variance 1. The
    variance of q . k?

    q . k adds up 64 independent products. What is the variance of one of them?
    """
    return round(D * (normal(0) * normal(1)).var().item())


@exercise.question
def score_deviation():
    """The same q and k: the standard deviation of q . k / 8, and 8 is the root of 64?

    The deviation is the root of the variance. What does a division by 8 do to it?
    """
    return round(math.sqrt(D * (normal(0) * normal(1)).var().item()) / 8)


@exercise.question
def self_score():
    """Self-attention on raw embeddings, so q = k = x, with 64 independent entries of mean 0
    and variance 1. The score of a token with itself, x . x / 8, on average?

    x . x is a sum of 64 squares. What is a square on average, and can it be negative?
    """
    return round(D * normal(0).square().mean().item() / 8)


@exercise.question
def entropy_bits():
    """A query gives 8 keys equal weights. The entropy of the weights, in bits?

    How many yes-or-no questions find one of 8 equally likely things?
    """
    weights = softmax(*[0.5] * 8)
    return -(weights * weights.log2()).sum().item()


@exercise.question
def weight_one_apart():
    """Two keys, one score larger than the other by 1. The weight of the larger?

    Take the scores 1 and 0. What does the softmax make of them?
    """
    return softmax(1, 0)[0].item()


@exercise.question
def weight_ten_apart():
    """Two keys, one score larger than the other by 10. The weight of the larger?

    Take the scores 10 and 0. By what factor are their exponentials apart?
    """
    return softmax(10, 0)[0].item()


@exercise.question
def equal_keys():
    """All four keys are the same; the values are 2, 9, 1 and 8. What does a query get?

    Equal keys have equal scores. What are the weights then, whatever the query?
    """
    q, k = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.0, 0.5]] * len(VALUES))
    weights = (q @ k.T / math.sqrt(2)).softmax(dim=-1)
    return (weights @ torch.tensor(VALUES)).item()


@exercise.question
def scores():
    """Self-attention over T = 100 positions, one head, no mask. How many scores?

    Draw the table for T = 3.
    """
    return torch.zeros(T, T).numel()


@exercise.question
def hidden_scores():
    """How many of these scores does a causal mask hide?

    Count the crosses in the table for T = 3. Does a position read itself?
    """
    return int(torch.ones(T, T).triu(diagonal=1).sum())


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
        "score_variance": 64.0,
        "score_deviation": math.sqrt(64) / 8,
        "self_score": 64 / math.sqrt(64),
        "entropy_bits": math.log2(8),
        "weight_one_apart": math.e / (math.e + 1),
        "weight_ten_apart": 1 / (1 + math.exp(-10)),
        "equal_keys": sum(VALUES) / 4,
        "scores": 100**2,
        "hidden_scores": sum(range(100)),
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("why-it-works")
def deviation_for_variance():
    """That is the standard deviation, the root of the variance; the question asks for the
    variance.

    Variances of independent things add up, deviations do not. What is the sum of 64
    variances of 1?
    """
    return {"score_variance": 8}


@exercise.wrong("why-it-works")
def one_whatever_the_size():
    """That is the variance of one product. A score is a sum of 64 of them.

    Do the 64 products average out, or does their sum spread further the more there are?
    """
    return {"score_variance": (1, 0)}


@exercise.wrong("why-it-works")
def deviations_added_up():
    """That is as if 64 deviations added up, or as if q and k counted separately: too large.

    Independent products partly cancel, so deviations do not add up; their squares, the
    variances, do. How many products are added up, and what is the variance of one?
    """
    return {"score_variance": (64**2, 128, 256, 512)}


@exercise.wrong("why-it-works")
def root_not_divided_by():
    """That is the deviation before the division; the question asks for it after.

    The root of the variance of q . k is 8. Then each score is divided by 8.
    """
    return {"score_deviation": 8}


@exercise.wrong("why-it-works")
def variance_divided_by_the_root():
    """That mixes up variance and deviation. Dividing numbers by 8 divides their deviation
    by 8, and their variance by 64.

    The variance of q . k is 64. What is its deviation, and what is an eighth of that?
    """
    return {"score_deviation": (math.sqrt(8), 1 / 8, 1 / 64, 64)}


@exercise.wrong("how-it-breaks")
def own_score_like_any_other():
    """That would be right for two independent vectors: their products cancel on average.
    A vector is not independent of itself.

    x . x adds up squares, and a square is never negative. What is the average of a square
    of a number with mean 0 and variance 1, and what is 64 times that, over 8?
    """
    return {"self_score": (0, 1)}


@exercise.wrong("how-it-breaks")
def own_score_without_the_root():
    """That is x . x itself, before the division by the root.

    The root of D is there in self-attention too. What is an eighth of your number?
    """
    return {"self_score": 64}


@exercise.wrong("how-it-breaks")
def own_score_multiplied():
    """That is 64 times 8, or 64 times 64: a multiplication where a score is divided.

    Each of the 64 squares is 1 on average. What is their sum, and what is an eighth of it?
    """
    return {"self_score": (512, 4096)}


@exercise.wrong("why-it-works")
def nats_for_bits():
    """That is the right entropy in nats; the question asks for bits.

    One of 8 is three yes-or-no questions: half, half, half. One bit is one question.
    """
    return {"entropy_bits": math.log(8)}


@exercise.wrong("why-it-works")
def number_of_keys_for_entropy():
    """That is the number of keys, or the weight of one; the entropy is the logarithm of how
    many equal choices there are.

    How often can 8 things be halved until one is left?
    """
    return {"entropy_bits": (8.0, 1 / 8, 0.375)}


@exercise.wrong("why-it-works")
def even_means_no_entropy():
    """Entropy 0 (or 1) would mean that nearly all is clear. Equal weights over 8 keys are the
    opposite: the most open case there is.

    How many yes-or-no questions tell you which of 8 equally likely keys it is?
    """
    return {"entropy_bits": (0.0, 1.0)}


@exercise.wrong("by-hand")
def smaller_weight():
    """That is the weight of the *smaller* score.

    The two weights add up to 1. Which of them belongs to the larger score?
    """
    smaller = (softmax(x, 0)[1].item() for x in (1, 10))
    return dict(zip(("weight_one_apart", "weight_ten_apart"), smaller))


@exercise.wrong("by-hand")
def ratio_for_weight():
    """That is by what factor the two weights differ, or one of the exponentials; a weight is
    between 0 and 1.

    exp(1) is about 2.72 and exp(0) is 1. What is the part of the larger in their sum?
    """
    return {
        "weight_one_apart": (math.e, math.exp(-1)),
        "weight_ten_apart": (10.0, math.exp(10)),
    }


@exercise.wrong("by-hand")
def shared_in_proportion():
    """That shares the weight in proportion to the scores, or in powers of 2. A softmax takes
    exponentials of them first, to the base e.

    With the scores 1 and 0: what are exp(1) and exp(0), and what is the larger's part?
    """
    return {
        "weight_one_apart": (1.0, 2 / 3, 0.5),
        "weight_ten_apart": (10 / 11, 0.9, 0.5),
    }


@exercise.wrong("by-hand")
def sum_instead_of_mean():
    """That is the sum of the values. The weights add up to 1, so attention takes a mean.

    Four equal weights that add up to 1: what is each of them?
    """
    return {"equal_keys": sum(VALUES)}


@exercise.wrong("by-hand")
def one_of_the_values():
    """That is one of the values alone, as if there were a winner. Equal keys have equal
    scores, so nobody wins.

    A softmax of four equal numbers gives four equal weights. What is a mean with those?
    """
    return {"equal_keys": VALUES}


@exercise.wrong("by-hand")
def nothing_at_all():
    """Equal scores are not scores of nothing: a softmax always hands out all of its weight.

    What are the weights of four equal scores, and what do they make of 2, 9, 1 and 8?
    """
    return {"equal_keys": (0.0, 1 / 4)}


@exercise.wrong("vectorize")
def one_score_a_position():
    """That is too few: every position has a score with every position, itself included.

    Each of 100 queries meets each of 100 keys. How many cells has the table?
    """
    return {"scores": (100, 200, 99)}


@exercise.wrong("vectorize")
def pairs_counted_once():
    """That leaves cells out: each pair of positions counted once, or without a position's
    score with itself.

    Position 3 asking position 7 is another score than 7 asking 3, and a position asks
    itself too. So the table is full.
    """
    return {"scores": (4950, 5050, 9900)}


@exercise.wrong("vectorize")
def channels_counted_as_well():
    """That counts channels too. A score is one number for a pair of positions, whatever D
    is: the dot product adds the channels up.

    How many pairs of a query and a key are there?
    """
    return {"scores": (100 * 100 * 64, 100 * 64)}


@exercise.wrong("vectorize")
def own_score_hidden_too():
    """That hides (or counts) the diagonal as well. A position may read itself, so its own
    score stays.

    In the first row 99 keys lie in the future, in the last row none. What do 99, 98, ...,
    1, 0 add up to?
    """
    return {"hidden_scores": 5050}


@exercise.wrong("vectorize")
def half_of_the_table():
    """That is half of the table. The diagonal is neither in the future nor in the past, so
    the future is less than half.

    Take the diagonal away first. What is half of the rest?
    """
    return {"hidden_scores": 5000}


@exercise.wrong("vectorize")
def all_but_the_diagonal():
    """That hides the past as well, or one key in each row. A causal mask hides only what
    comes later.

    How many keys lie in the future of the first position, of the second, of the last?
    """
    return {"hidden_scores": (9900, 100, 99, 0, 10000, 4851, 4900)}
