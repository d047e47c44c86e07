"""05.3: numbers of multi-head attention, said before they are run."""

import math

import torch
from torch import nn

from babygpt_course.exercises.prediction import Prediction

C, H, T = 128, 8, 32

exercise = Prediction(
    chapter="05_multi_head_attention",
    id="05.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    The C channels are shared out among H heads. What does that leave for each, and what
    does a projection from C to C channels cost, whoever uses the result?

    D = C / H. A linear layer from C to C has C * C weights and, with a bias, C more. Each
    head has a table of T * T scores, and a score is D multiplications.

    parameters: four such layers (queries, keys, values, output). heads: does H stand
    anywhere in that? multiplications: H tables of T * T scores of D products. row 1: write
    the eight numbers of each head in the order of memory, and cut after every fourth.
    """,
)


def layers(bias, n_head=H):
    """Queries, keys and values of all heads, and the output; each head's own size."""
    D = C // n_head
    heads = [nn.Linear(C, D, bias=bias) for _ in range(3 * n_head)]
    return nn.ModuleList([*heads, nn.Linear(n_head * D, C, bias=bias)])


def count(module):
    return sum(p.numel() for p in module.parameters())


def table(n_head=H, length=T):
    """The scores of all heads of one text."""
    x = torch.zeros(1, n_head, length, C // n_head)
    return x @ x.mT


@exercise.question
def head_size():
    """C = 128 channels, H = 8 heads. How many channels has one head?

    The channels are shared out. What is left for each of 8?
    """
    return C // H


@exercise.question
def divisor():
    """By which number is a score divided, in each of these heads?

    The root of the number of products that a score adds up. How many does one head add up?
    """
    return math.sqrt(layers(False)[0].out_features)


@exercise.question
def parameters():
    """How many parameters have the projections of queries, keys, values and output, without
    biases (C = 128, H = 8)?

    How many layers from 128 to 128 channels are there, and what does one cost?
    """
    return count(layers(bias=False))


@exercise.question
def parameters_with_bias():
    """The same, with biases?

    A bias is one number for each output of a layer. How many outputs have the four layers?
    """
    return count(layers(bias=True))


@exercise.question
def parameters_of_16_heads():
    """How many without biases, if H is 16 instead of 8, and C stays 128?

    Sixteen heads of which size? What do they cost together?
    """
    return count(layers(bias=False, n_head=16))


@exercise.question
def scores():
    """One text of T = 32 tokens, 8 heads, before the mask. How many scores?

    Each head has a table of its own. How large is one?
    """
    return table().numel()


@exercise.question
def growth():
    """T is doubled to 64. By which factor does the number of scores grow?

    A table has T rows and T columns. What happens to the number of its cells?
    """
    return table(length=2 * T).numel() // table().numel()


@exercise.question
def multiplications():
    """How many multiplications are in all these scores (T = 32, C = 128, H = 8)?

    A score is a dot product. How many numbers does a query of one head have?
    """
    return table().numel() * (C // H)


@exercise.question
def latest_position_in_row_1():
    """y is (1, 2, 4, 2): two heads, four positions, two channels. `y.reshape(1, 4, 4)`, with
    no transpose, makes rows 0 to 3 of it. Which is the latest position that row 1 has
    numbers of?

    Write down the 16 numbers in the order of memory: head 0 with its positions 0, 1, 2, 3,
    then head 1. Which four are the second four?
    """
    position = torch.arange(4).view(1, 1, 4, 1).expand(1, 2, 4, 2)
    return position.reshape(1, 4, 4)[0, 1].max().item()


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def as_floats():
    return {key: float(value) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {key: torch.tensor(value) for key, value in exercise.truth().items()}


@exercise.right
def worked_out_in_other_words():
    return {
        "head_size": 128 / 8,
        "divisor": (128 / 8) ** 0.5,
        "parameters": 3 * 8 * (128 * 16) + 128 * 128,
        "parameters_with_bias": 4 * (128 + 1) * 128,
        "parameters_of_16_heads": 4 * 128**2,
        "scores": 8 * 32**2,
        "growth": 2**2,
        "multiplications": 32 * 32 * 128,
        "latest_position_in_row_1": 3,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def every_head_has_all_channels():
    """That gives every head all the channels. They are shared out: each channel belongs to
    one head.

    Eight heads side by side should give back 128 channels. How many does each bring?
    """
    return {"head_size": C, "multiplications": H * T * T * C}


@exercise.wrong("by-hand")
def number_of_heads_for_their_size():
    """That is the number of heads (or their product with the channels); the question asks
    for the channels of one.

    Head 0 has the channels 0 to D - 1, and 8 D is 128. What is D?
    """
    return {"head_size": (H, C * H)}


@exercise.wrong("by-hand")
def root_of_all_channels():
    """That is the root of all 128 channels. A score of one head adds up only the products
    of its own channels.

    How many channels has one head, and what is the root of that?
    """
    return {"divisor": math.sqrt(C)}


@exercise.wrong("by-hand")
def root_of_the_number_of_heads():
    """That is the root of the number of heads, or of nothing: a score does not get larger
    with more heads.

    A score adds up one product for each channel of the head. How many are there?
    """
    return {"divisor": (math.sqrt(H), H, 1, math.sqrt(T))}


@exercise.wrong("by-hand")
def root_not_taken():
    """That is the number of channels itself; a score is divided by its root.

    The variance of a sum of D products is D. What is the deviation?
    """
    return {"divisor": (C // H, C)}


@exercise.wrong("the-module")
def output_projection_forgotten():
    """That is queries, keys and values alone. There is a fourth layer: it mixes what the
    heads bring, before it goes back.

    Without it every head would write into its own 16 channels only. What does a layer from
    128 to 128 channels cost?
    """
    return {
        "parameters": 3 * C * C,
        "parameters_with_bias": 3 * (C * C + C),
        "parameters_of_16_heads": 3 * C * C,
    }


@exercise.wrong("the-module")
def one_projection_counted():
    """That is one of the projections. Queries, keys, values and output have one each.

    How many layers from 128 to 128 channels are there?
    """
    return {
        "parameters": C * C,
        "parameters_with_bias": C * C + C,
        "parameters_of_16_heads": C * C,
    }


@exercise.wrong("the-module")
def one_head_counted():
    """That counts the projections of a single head. All heads are asked for.

    One head makes 16 channels of queries out of 128. What do 8 such heads make, and what
    does it cost?
    """
    D = C // H
    return {
        "parameters": (3 * C * D, 4 * C * D, 3 * C * D + C * C),
        "parameters_with_bias": (3 * (C * D + D), 4 * (C * D + D)),
    }


@exercise.wrong("why-it-works")
def one_table_counted():
    """That is the table of one head. Each of the 8 heads has its own.

    What does one head look at, and does the next one look at the same?
    """
    return {"scores": T * T, "multiplications": T * T * (C // H)}


@exercise.wrong("the-module")
def heads_multiply_the_parameters():
    """That multiplies by the number of heads, as if each had projections to all 128
    channels. It has projections to its own D = C / H.

    H heads of C * D weights: what is H * C * D, and does it depend on H?
    """
    return {
        "parameters": (3 * H * C * C, 4 * H * C * C, 3 * H * C * C + C * C),
        "parameters_of_16_heads": (
            2 * 4 * C * C,
            16 * 4 * C * C,
            3 * 2 * C * C + C * C,
        ),
    }


@exercise.wrong("the-module")
def more_heads_cost_less():
    """That is less than with 8 heads. Each of 16 heads is half as wide, and there are twice
    as many of them.

    Half times twice: what stays the same?
    """
    return {"parameters_of_16_heads": (2 * C * C, 2.5 * C * C)}


@exercise.wrong("the-module")
def bias_not_counted_right():
    """The weights are right, and the biases are not: a layer has one number for each of its
    outputs, and there are four layers.

    Four layers with 128 outputs each: how many numbers come on top?
    """
    w = 4 * C * C
    return {
        "parameters_with_bias": (
            w,
            w + 1,
            w + 4,
            w + C,
            w + 3 * C,
            w + 4 * H,
            w + 8 * C,
        )
    }


@exercise.wrong("why-it-works")
def channels_taken_for_scores():
    """That counts channels. A score is one number for a pair of positions, in one head.

    How many pairs of a query and a key has each of 8 heads?
    """
    return {"scores": (T * C, T * T * C, T * H, H * T * T * C)}


@exercise.wrong("why-it-works")
def pairs_counted_once():
    """That leaves out pairs that the mask hides, or counts each pair once. Before the mask
    every query meets every key, in every head.

    How many cells has the full table of one head?
    """
    return {"scores": (H * T * (T + 1) // 2, H * T * (T - 1) // 2, T * (T + 1) // 2)}


@exercise.wrong("why-it-works")
def growth_like_the_text():
    """Twice as many queries, yes, and each of them meets twice as many keys.

    Draw the table for T = 2 and for T = 4. How many cells has each?
    """
    return {"growth": (2, 3)}


@exercise.wrong("why-it-works")
def growth_with_the_heads():
    """The number of heads and their size stay as they are; only T grows, and it stands in
    the number of scores twice.

    Rows double, columns double. What is there to double beyond that?
    """
    return {"growth": (8, 16, 1)}


@exercise.wrong("by-hand")
def one_multiplication_a_score():
    """That is the number of scores. Each score is a dot product, not one multiplication.

    How many pairs of numbers does a dot product of one head multiply?
    """
    return {"multiplications": H * T * T}


@exercise.wrong("by-hand")
def one_multiplication_a_number():
    """That counts the numbers in the queries, or in queries and keys. Each query meets each
    of the 32 keys, so its numbers are used 32 times.

    One score costs 16 multiplications. How many scores are there?
    """
    return {"multiplications": (T * C, 3 * T * C, T * C * C)}


@exercise.wrong("how-it-breaks")
def row_is_the_position():
    """That would be right if `reshape` kept the positions. It keeps the order in memory: all
    positions of head 0 come before the first one of head 1.

    A row has four numbers, and a position of a head has two. Which positions of head 0
    stand in the first row, and which in the second?
    """
    return {"latest_position_in_row_1": 1}


@exercise.wrong("how-it-breaks")
def rows_shifted_by_less():
    """Two positions of head 0 fit into each row: row 0 takes two of them, and row 1 the next
    two.

    Count on: which positions of head 0 are left for row 1?
    """
    return {"latest_position_in_row_1": (0, 2)}
