"""15.3: what the parts of a LLaMA change, and what they cost, said before it runs."""

import math

import torch
from torch import nn

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import RMSNorm, SwiGLU, apply_rotary, rotary_table

exercise = Prediction(
    chapter="15_llama_1",
    id="15.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    For the norm: what does dividing by the root mean square undo? For the parameters:
    which tensors are no longer there? For the scores: of which two numbers do they
    depend alone?

    A layer from m to n channels has m n weights and n biases. A position embedding has
    a row for each position. Pair i of D channels turns by theta^(-2i / D) radians a
    position. Turned by a difference of d radians, two equal vectors of length 1 have
    the product cos d.

    silu(z) = z / (1 + exp(-z)); at z = 1 it is 0.73, at 20 it is 20. hidden: two
    matrices of C times 4C against three of C times h. shifted: both positions grow by
    100, and what about their difference?
    """,
)


@exercise.question
def first_channel():
    """What does RMSNorm (weight 1, eps 0) make of the first channel of (3, 4)?

    What is the mean of 9 and 16, and its root?
    """
    return RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0]))[0].item()


@exercise.question
def times_ten():
    """All channels of x are multiplied by 10. By which factor does the output of
    RMSNorm (eps 0) grow?

    The root mean square grows too. By which factor, and what is done with it?
    """
    norm, x = RMSNorm(8, eps=0.0), torch.arange(1.0, 9)
    return (norm(10 * x).norm() / norm(x).norm()).item()


@exercise.question
def biases():
    """A GPT block has C = 64 and biases in all its four layers: C to 3C and C to C in
    attention, C to 4C and 4C to C in the MLP. How many parameters go if these biases
    are left out?

    A layer has one bias for each channel that it puts out. How many does each of the
    four put out?
    """
    C = 64
    shapes = (C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)
    return sum(nn.Linear(*shape).bias.numel() for shape in shapes)


@exercise.question
def positions():
    """A GPT reads up to 256 positions, with C = 64. Its learned positions are replaced
    by rotary ones. How many parameters go?

    What does a rotary position learn? And how large was the table of the learned ones?
    """
    config = GPTConfig(vocab_size=9, block_size=256, n_layer=1, n_head=1, n_embd=64)
    return GPT(config).position_embedding.weight.numel()


@exercise.question
def hidden():
    """An MLP has two matrices, C to 4C and 4C to C, with C = 96 and no biases. A SwiGLU
    with equally many parameters takes its place. How many hidden channels has it?

    Three matrices instead of two. Which share of 4C is left for each?
    """
    C, n = 96, 1
    weights = 2 * C * 4 * C
    while sum(p.numel() for p in SwiGLU(C, n + 1).parameters()) <= weights:
        n += 1
    return n


@exercise.question
def gated():
    """One hidden channel of a SwiGLU has w1 x = 1 and w3 x = 3. What does it hand to
    w2?

    silu(1) is 1 times the sigmoid of 1. And then?
    """
    layer = SwiGLU(1, 1)
    for p, number in zip((layer.w1, layer.w3, layer.w2), (1.0, 3.0, 1.0)):
        nn.init.constant_(p.weight, number)
    return layer(torch.ones(1, 1, 1)).item()


@exercise.question
def second_rate():
    """A head has D = 4 channels, and theta is 100. Its first pair turns by 1 radian a
    position. By how many does the second?

    The exponent of pair 1 is -2 / 4. What is the root of 100?
    """
    cos, sin = rotary_table(4, 2, theta=100.0)
    return math.atan2(sin[1, 1].item(), cos[1, 1].item())


def score(q, k, at_q, at_k):
    cos, sin = rotary_table(len(q), max(at_q, at_k) + 1)
    q = apply_rotary(torch.tensor(q).view(1, 1, 1, -1), cos[[at_q]], sin[[at_q]])
    k = apply_rotary(torch.tensor(k).view(1, 1, 1, -1), cos[[at_k]], sin[[at_k]])
    return (q * k).sum().item()


@exercise.question
def one_apart():
    """A query and a key are both (1, 0) before they are turned, with D = 2. The query
    stands at position 8, the key at position 7. What is their product after the turn?

    Both have length 1. Which angle is between them?
    """
    return score([1.0, 0.0], [1.0, 0.0], 8, 7)


@exercise.question
def shifted():
    """A query at position 8 and a key at position 5 have the product 0.7. The same two
    vectors, before the turn, now stand at positions 108 and 105. What is their product?

    Both turn by the same angle more. What does that do to the angle between them?
    """
    q, k = [0.3, -0.2, 0.5, 0.9], [1.0, 0.4, -0.6, 0.2]
    return 0.7 / score(q, k, 8, 5) * score(q, k, 108, 105)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def as_floats():
    return {key: float(value) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {
        key: torch.tensor(value, dtype=torch.float64)
        for key, value in exercise.truth().items()
    }


@exercise.right
def worked_out_in_other_words():
    return {
        "first_channel": 3 / math.sqrt((9 + 16) / 2),
        "times_ten": 10 / 10,
        "biases": (3 + 1 + 4 + 1) * 64,
        "positions": 2**8 * 2**6,
        "hidden": 96 * 8 // 3,
        "gated": 3 / (1 + math.exp(-1)),
        "second_rate": 100**-0.5,
        "one_apart": math.cos(1),
        "shifted": 7 / 10,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def divided_by_the_length():
    """That divides by the length of the vector, the root of the *sum* of the squares.
    Here it is the root of their mean.

    The length of (3, 4) is 5. What is the root of 25 / 2?
    """
    return {"first_channel": 3 / 5}


@exercise.wrong("by-hand")
def layer_norm_in_mind():
    """That is layer norm: it subtracts the mean first, 3.5 here. RMSNorm leaves that
    out.

    How large are 9 and 16 on average?
    """
    return {"first_channel": (-1, -0.5, -0.7071)}


@exercise.wrong("by-hand")
def another_divisor():
    """That divides by something else: by the mean square without its root, by the mean,
    or by the largest channel.

    Root, mean, square: read it from the back. What are the squares, their mean, and its
    root?
    """
    return {"first_channel": (3 / 12.5, 3 / 3.5, 3 / 4, 3, 1, 3 / 25)}


@exercise.wrong("why-it-works")
def size_kept():
    """That lets the size of x pass through the norm. The root mean square is ten times
    as large too, and x is divided by it.

    What is (30, 40) divided by ten times as much as (3, 4)?
    """
    return {"times_ten": (10, 100, math.sqrt(10))}


@exercise.wrong("why-it-works")
def size_turned_around():
    """That makes the output smaller, as if only the divisor had grown.

    x is ten times as large as well. What becomes of the fraction?
    """
    return {"times_ten": (0.1, 0.01, 0)}


@exercise.wrong("the-module")
def one_layer_forgotten():
    """One of the four layers is missing, or two of them. Each has as many biases as
    channels that it puts out.

    C to 3C has 3C. What have C to C, C to 4C and 4C to C?
    """
    return {"biases": (3 * 64, 4 * 64, 5 * 64, 6 * 64, 7 * 64, 8 * 64)}


@exercise.wrong("the-module")
def biases_of_what_comes_in():
    """That counts a bias for each channel that comes in, or on both sides. A bias is
    added to what comes out.

    How many numbers does a layer from C to 4C put out?
    """
    return {"biases": 16 * 64}


@exercise.wrong("the-module")
def weights_for_biases():
    """That counts weights. The matrices stay, only what is added after them goes.

    A layer from m to n channels has m n weights. And how many biases?
    """
    return {"biases": (12 * 64 * 64, 12 * 64 * 64 + 9 * 64, 64 * 64)}


@exercise.wrong("the-module")
def norms_counted_too():
    """That counts the biases of the two norms as well. The question is about the four
    layers.

    A norm has one bias for each channel. How many are left without them?
    """
    return {"biases": (11 * 64, 13 * 64)}


@exercise.wrong("why-it-works")
def rotary_learned():
    """That leaves some parameters for the rotary positions, or takes none away. Their
    angles are computed from position and pair; nothing in them is learned.

    How many numbers had the learned table? All of them go.
    """
    return {"positions": (0, 256 * 32, 256 * 64 - 32, 256, 64, 256 * 64 - 64)}


@exercise.wrong("by-hand")
def four_c_for_all():
    """That keeps 4C hidden channels. With three matrices instead of two that would be
    half as many parameters again.

    3 C h should be 2 C 4C. What is h?
    """
    return {"hidden": (4 * 96, 3 * 96, 96)}


@exercise.wrong("by-hand")
def half_of_it():
    """That halves 4C, as if there were four matrices. There are three: two on the way
    in and one on the way out.

    3 C h should be 8 C C. What is h?
    """
    return {"hidden": (2 * 96, 4 * 96 // 3)}


@exercise.wrong("by-hand")
def rounded_to_a_multiple():
    """That is close. Some models round up to a multiple of a power of two; here nothing
    needs to be rounded.

    8 times 96, divided by 3: how much is that exactly?
    """
    return {"hidden": (255, 257, 260, 272, 320)}


@exercise.wrong("by-hand")
def sigmoid_forgotten():
    """That multiplies the two without the bend, or leaves one of them out. The gate is
    silu(w1 x), and it multiplies w3 x.

    silu(z) = z / (1 + exp(-z)). What is it at 1?
    """
    return {"gated": (3, 0.7311, 1)}


@exercise.wrong("by-hand")
def the_other_one_bent():
    """That bends the wrong one, both, or their product. Only w1 x goes through silu; w3
    x stays as it is.

    silu(1) is 0.73. Times which number?
    """
    return {
        "gated": (
            3 / (1 + math.exp(-3)),
            3 / (1 + math.exp(-1)) / (1 + math.exp(-3)),
            4,
            3 + 1 / (1 + math.exp(-1)),
        )
    }


@exercise.wrong("by-hand")
def gelu_in_mind():
    """That is the bend of GPT, GELU, or ReLU. The S in SwiGLU stands for Swish, another
    name of SiLU: z times the sigmoid of z.

    What is the sigmoid of 1?
    """
    return {"gated": (3 * 0.8413, 3 * 0.8412)}


@exercise.wrong("by-hand")
def exponent_misread():
    """That takes another exponent, or the usual theta of 10,000. For pair i of D
    channels the exponent is -2i / D, and i is 1 here.

    -2 / 4 is -0.5. What is 100 to the power -0.5?
    """
    return {"second_rate": (100**-0.25, 100**-1, 100**-2, 1 / 50, 1 / 200, 0.25, 0.5)}


@exercise.wrong("by-hand")
def rates_alike_or_growing():
    """That lets the second pair turn as fast as the first, or faster. From pair to pair
    the turn becomes slower.

    Is the exponent of theta above 0 or below?
    """
    return {"second_rate": (1, 2, 10, 100)}


@exercise.wrong("why-it-works")
def place_counts():
    """That takes the angle of one of the two positions, or of both together. The two
    turn in the same sense, so only the difference of their angles is left between them.

    8 radians and 7 radians: what is the angle between the two?
    """
    return {
        "one_apart": (math.cos(8), math.cos(7), math.cos(15), math.cos(8) * math.cos(7))
    }


@exercise.wrong("why-it-works")
def not_turned():
    """That is the product of vectors that were not turned, or of vectors at right
    angles. One position apart means one radian apart.

    Two vectors of length 1 with an angle of 1 radian between them: which function of
    the angle is their product?
    """
    return {"one_apart": (1, 0)}


@exercise.wrong("why-it-works")
def sine_or_degrees():
    """That takes the sine, or turns the sign.

    At an angle of 0 the product should be 1. Which function does that, and what is it
    at 1 radian?
    """
    return {"one_apart": (math.sin(1), -math.cos(1), -1)}


@exercise.wrong("why-it-works")
def place_changes_the_score():
    """That lets the score depend on where the two stand. Both are turned by the angle
    of 100 more positions, and the angle between them is what it was.

    How far apart are 8 and 5? And 108 and 105?
    """
    return {
        "shifted": (0, 0.7 * math.cos(100), 0.7 * math.cos(200), 70, 0.007, 100.7, 1)
    }
