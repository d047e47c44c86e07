"""07.3: numbers of images as positions, said before they are run."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course.exercises.prediction import Prediction

SIDE, C = 64, 32
P = SIDE * SIDE

exercise = Prediction(
    chapter="07_spatial_attention",
    id="07.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="why-it-works",
    hints="""
    How many positions has the image, and how many pairs of positions are there? What does a
    convolution do at each position, and how often?

    P = h * w positions; P * P scores of 4 bytes each. A k x k convolution from C to C channels
    has k * k * C * C weights and C biases, and uses every weight once at each position.

    multiply-adds of attention: P * P scores of C products, and P * P weights for C channels of
    values. A kernel of size k lets the view grow by k - 1. If the side doubles, P becomes four
    times as large: put 4 P into each formula.
    """,
)


def convolution(k, bias=True):
    with torch.device("meta"):
        return nn.Conv2d(C, C, kernel_size=k, padding=k // 2, bias=bias)


def count(module):
    return sum(p.numel() for p in module.parameters())


def multiply_adds(run, side=SIDE):
    """By PyTorch's own counter, on tensors without memory behind them."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        run(side)
    return counter.get_total_flops() // 2  # it counts a product and a sum as two


def convolve(side):
    convolution(3)(torch.zeros(1, C, side, side))


def attend(side):
    q = torch.zeros(1, side * side, C)
    q @ q.mT @ q


@exercise.question
def positions():
    """An image of 64 x 64 pixels with C = 32 channels: how many positions does attention see?

    Every pixel is one. How many are there?
    """
    return torch.zeros(1, C, SIDE, SIDE).flatten(2).shape[2]


@exercise.question
def scores():
    """How many scores has one head of attention over this image, 64 x 64?

    Every position meets every position. How many pairs is that?
    """
    x = torch.zeros(P, 1, device="meta")
    return (x @ x.T).numel()


@exercise.question
def map_bytes():
    """How many bytes does this attention map take, one head, 64 x 64 pixels, in float32?

    One score is one number. How many bits has a float32, and how many bytes is that?
    """
    return scores() * torch.zeros(1, dtype=torch.float32).element_size()


@exercise.question
def parameters_1x1():
    """How many parameters has a 1x1 convolution from 32 to 32 channels, with bias?

    It is a linear layer that is used at each position. From how many numbers to how many?
    """
    return count(convolution(1))


@exercise.question
def parameters_3x3():
    """And a 3x3 convolution from 32 to 32 channels, with bias?

    Each output looks at nine pixels with 32 channels each. How many outputs are there for one
    position?
    """
    return count(convolution(3))


@exercise.question
def convolution_multiply_adds():
    """How many multiply-adds does this 3x3 convolution (32 to 32 channels) take on the 64 x 64
    image, with padding 1, without the bias?

    Every weight is used once at each position. How many weights, how many positions?
    """
    return multiply_adds(convolve)


@exercise.question
def attention_multiply_adds():
    """How many multiply-adds do the scores and the weighted sum of the values take together, in
    one head of 32 channels over the 64 x 64 image?

    There are two matrix products. How large is the map between them, and what does one of its
    cells cost in each?
    """
    return multiply_adds(attend)


@exercise.question
def three_convolutions_see():
    """Three 3x3 convolutions on top of each other, stride 1. How many pixels along a side does
    one output see?

    One sees 3. By how many does the view grow with the second one, at each end?
    """
    x = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    y = x
    for _ in range(3):
        y = torch.nn.functional.conv2d(y, torch.ones(1, 1, 3, 3), padding=1)
    y[0, 0, SIDE // 2, SIDE // 2].backward()
    return int(x.grad[0, 0].any(dim=0).sum())


@exercise.question
def convolution_grows():
    """The side doubles, to 128 x 128. By which factor do the multiply-adds of the convolution
    grow?

    How many positions are there now, and what does each of them cost?
    """
    return multiply_adds(convolve, 2 * SIDE) // multiply_adds(convolve)


@exercise.question
def attention_grows():
    """And by which factor do those of the scores and the weighted sum grow, if the side doubles
    to 128 x 128?

    How many positions are there now, and how many pairs of them?
    """
    return multiply_adds(attend, 2 * SIDE) // multiply_adds(attend)


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
        "positions": 2**12,
        "scores": 2**24,
        "map_bytes": 64 * 1024 * 1024,
        "parameters_1x1": 33 * 32,
        "parameters_3x3": (9 * 32 + 1) * 32,
        "convolution_multiply_adds": 9 * 2**22,
        "attention_multiply_adds": 2**30,
        "three_convolutions_see": 3 + 2 + 2,
        "convolution_grows": 2 * 2,
        "attention_grows": 2**4,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def one_side_for_the_image():
    """That counts a side (or both). Attention does not see rows and columns: every pixel is a
    position.

    Sixty-four rows of how many pixels?
    """
    return {
        "positions": (SIDE, 2 * SIDE),
        "scores": (SIDE * SIDE, (2 * SIDE) ** 2),
        "map_bytes": 4 * SIDE * SIDE,
    }


@exercise.wrong("by-hand")
def channels_counted_as_positions():
    """That counts every number of the image, or multiplies the pairs by their channels. The
    channels describe a position, they are none; and a score is one number.

    What does a dot product leave of 32 channels?
    """
    return {
        "positions": (P * C, C),
        "scores": (P * P * C, (P * C) ** 2, P * C),
        "map_bytes": (4 * P * P * C, 4 * (P * C) ** 2, 4 * P * C),
    }


@exercise.wrong("by-hand")
def each_pair_once():
    """That counts each pair once, or only half of the table. Here nothing is hidden, and a score
    from a to b is another number than from b to a.

    How many rows and how many columns has the full table?
    """
    return {"scores": (P * (P - 1) // 2, P * (P + 1) // 2, P * (P - 1))}


@exercise.wrong("why-it-works")
def bytes_confused():
    """The number of scores is right and their size is not: a float32 has 32 bits, which is 4
    bytes. (A float16 has 2 bytes, and 8 bits are one.)

    How many bytes is that for each score?
    """
    n = P * P
    return {"map_bytes": (n, 2 * n, 8 * n, 32 * n)}


@exercise.wrong("why-it-works")
def another_unit():
    """That is the right size in another unit, MB or MiB. The question asks for bytes.

    A MiB is 1024 * 1024 bytes. How many bytes are 64 of them?
    """
    return {"map_bytes": (64, 67.108864, 67.11, 67.1, 67, 65536, 0.0625)}


@exercise.wrong("by-hand")
def weights_of_the_kernel_alone():
    """That counts the kernel for one pair of channels, or for one output. Each of 32 outputs has
    weights of its own for each of 32 inputs.

    How many pairs of an input channel and an output channel are there?
    """
    return {
        "parameters_1x1": (1, 2, C, 2 * C, C + 1),
        "parameters_3x3": (9, 10, 9 * C, 9 * C + C, 9 * C + 1, 9 + C),
    }


@exercise.wrong("by-hand")
def bias_not_counted_right():
    """The weights are right and the biases are not. There is one for each output channel,
    whatever the size of the kernel.

    How many output channels are there?
    """
    w1, w3 = C * C, 9 * C * C
    return {
        "parameters_1x1": (w1, w1 + 1, w1 + 2 * C),
        "parameters_3x3": (w3, w3 + 1, w3 + 9, w3 + 9 * C, w3 + 2 * C),
    }


@exercise.wrong("by-hand")
def one_side_of_the_kernel():
    """That is a kernel of three pixels, or the other kernel. A 3x3 kernel reads nine.

    How many pixels does it lie on?
    """
    return {
        "parameters_1x1": 9 * C * C + C,
        "parameters_3x3": (3 * C * C + C, C * C + C, 6 * C * C + C, 3 * C * C),
        "convolution_multiply_adds": (P * 3 * C * C, P * C * C, P * 6 * C * C),
    }


@exercise.wrong("by-hand")
def weights_for_each_position():
    """That gives every position weights of its own. A convolution uses the same ones everywhere:
    that is what makes it one.

    Does a layer that is trained on 64 x 64 also run on 128 x 128?
    """
    return {
        "parameters_1x1": (P * (C * C + C), P * C * C, P * C, P * C + C),
        "parameters_3x3": (P * (9 * C * C + C), P * 9 * C * C),
    }


@exercise.wrong("why-it-works")
def positions_forgotten():
    """That is what one position costs (or the number of parameters). The kernel moves over the
    whole image.

    How often is each weight used?
    """
    return {
        "convolution_multiply_adds": (9 * C * C, 9 * C * C + C),
        "attention_multiply_adds": (P * C, 2 * P * C),
    }


@exercise.wrong("by-hand")
def edges_left_out():
    """That leaves out the pixels at the edge. With a padding of 1 the result is as large as the
    image.

    How many positions has the result: 62 times 62, or 64 times 64?
    """
    inner = (SIDE - 2) ** 2
    return {"convolution_multiply_adds": inner * 9 * C * C}


@exercise.wrong("why-it-works")
def channels_forgotten():
    """Something is missing: each of the 32 outputs reads all 32 channels of each pixel that it
    looks at. In attention a cell of the map costs 32 products, too.

    Write down the cost of one number of the result. How many numbers are there?
    """
    return {
        "convolution_multiply_adds": (9 * P, 9 * P * C),
        "attention_multiply_adds": (P * P, 2 * P * P),
    }


@exercise.wrong("why-it-works")
def product_and_sum_counted_apart():
    """That counts a multiply-add as two operations. Both ways of counting are in use; here a
    product with its sum is one.

    Nobody is wrong who counts two. What is half of your number?
    """
    return {
        "convolution_multiply_adds": (2 * 9 * P * C * C, P * (9 * C * C + C)),
        "attention_multiply_adds": 4 * P * P * C,
    }


@exercise.wrong("why-it-works")
def one_of_the_two_products():
    """That is one of the two products. The scores cost that much, and the weighted sum of the
    values costs as much again.

    (P, C) times (C, P), and then (P, P) times which shape?
    """
    return {"attention_multiply_adds": P * P * C}


@exercise.wrong("why-it-works")
def projections_counted():
    """That counts the projections as well (or three products of the map's size). Asked for are
    the scores and the weighted sum.

    Which two products have the (P, P) map on one side or the other?
    """
    n = P * P * C
    return {
        "attention_multiply_adds": (
            3 * n,
            2 * n + 3 * P * C * C,
            2 * n + 4 * P * C * C,
            3 * P * C * C,
        )
    }


@exercise.wrong("why-it-works")
def kernels_added_or_multiplied():
    """That adds up or multiplies the kernels. Neighbors overlap: each further layer sees one
    pixel more at each end.

    Draw it along one line: 3 pixels, then?
    """
    return {"three_convolutions_see": (9, 27, 3, 6)}


@exercise.wrong("why-it-works")
def one_layer_too_few_or_too_many():
    """That is the view of two layers, or of four, or the whole square. The question asks for the
    side, and for three layers.

    One layer sees 3. And two?
    """
    return {"three_convolutions_see": (5, 49, 81, 8)}


@exercise.wrong("why-it-works")
def growth_like_the_side():
    """The side doubles, and with it rows and columns: there are four times as many pixels. (Each
    costs a convolution as much as before, and attention four times as much.)

    Draw a 1 x 1 picture and a 2 x 2 picture. How many pixels has each, and how many pairs?
    """
    return {"convolution_grows": (2, 1), "attention_grows": (2, 1)}


@exercise.wrong("why-it-works")
def growth_like_the_pixels():
    """That is how the number of pixels grows. Each of them now meets four times as many others
    as well.

    Four times as many rows in the map, and how many columns?
    """
    return {"attention_grows": 4}


@exercise.wrong("why-it-works")
def growth_of_something_else():
    """That is too much or too little: side times two is pixels times four, and pairs times four
    times four. Nothing else changes.

    Put 128 in place of 64 into the formula, and divide.
    """
    return {"convolution_grows": (8, 16, 3), "attention_grows": (8, 32, 64, 256)}
