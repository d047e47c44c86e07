"""14.3: what 16 bits do to numbers, sums and steps, said before it runs."""

import math

import torch
from torch import nn

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.precision import LossScaler

exercise = Prediction(
    chapter="14_mixed_precision",
    id="14.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    For each number ask: how far apart are the numbers of this format around here? What
    is less than half of that distance away is lost.

    Between 2^e and 2^(e + 1) the gap is 2^(e - M): M is 10 in fp16 and 7 in bf16. fp16
    ends at 65,504 and begins at 2^-24. A tie goes to the number whose last bit is 0.

    whole_numbers: where does the gap become 2? counter: where is adding 1 a tie that
    rounds down? smallest: for which n is 2^-n times 2^10 just 2^-24? bytes: count what is there between two steps, each in its own format.
    """,
)


@exercise.question
def whole_numbers():
    """fp16 has 10 mantissa bits. Up to which whole number can it hold every whole
    number?

    With a leading 1 that makes 11 digits in base two. Where does the gap become 2?
    """
    n = 1
    while torch.tensor(n).half().item() == n:
        n += 1
    return n - 1


@exercise.question
def gap_ratio():
    """How many times as large is the gap just above 1 in bf16 (7 mantissa bits) as in
    fp16 (10)?

    Each bit that is missing doubles the gap. How many are missing?
    """
    after_one = [torch.finfo(dtype).eps for dtype in (torch.bfloat16, torch.float16)]
    return after_one[0] / after_one[1]


@exercise.question
def rounded():
    """Which number does bf16 (7 mantissa bits) make of 100.3?

    100.3 lies between 64 and 128. How far apart are the numbers there?
    """
    return torch.tensor(100.3).bfloat16().item()


@exercise.question
def squared():
    """What is 300 * 300 in fp16? (`float("inf")` and `float("nan")` can be an answer
    too.)

    What is the largest number of fp16?
    """
    return (torch.tensor(300.0).half() * 300).item()


@exercise.question
def counter():
    """A counter in bf16 begins at 0, and 1 is added a thousand times. Where does it
    end?

    From where on is the gap 2? There, plus 1 is a tie.
    """
    count = torch.tensor(0.0, dtype=torch.bfloat16)
    for _ in range(1000):
        count += 1
    return count.item()


@exercise.question
def smallest():
    """The smallest number above 0 in fp16 is 2^-24. The loss is multiplied by 2^10.
    What is the largest n for which a gradient of 2^-n (of the loss itself) does not
    become 0?

    The gradient is 2^10 times as large when it is rounded. When is it still 2^-24?
    """
    n = 0
    while (torch.tensor(2.0 ** -(n + 1) * 2**10).half() > 0).item():
        n += 1
    return n


OVERFLOWS = 3, 7  # counted from 1
STEPS = 10


@exercise.question
def power():
    """A loss scaler begins with the factor 2^10, halves it after an overflow and
    doubles it after 3 good steps in a row. Of ten steps the 3rd and the 7th overflow.
    Its factor is then 2 to which power?

    Write the ten steps in a row, and under each how many good ones there have been
    since the factor last changed.
    """
    scaler = LossScaler(2.0**10, growth_interval=3)
    weight = nn.Parameter(torch.zeros(()))
    for number in range(1, STEPS + 1):
        weight.grad = torch.tensor(math.inf if number in OVERFLOWS else 1.0)
        scaler.step(torch.optim.SGD([weight], lr=0.1))
    return math.log2(scaler.factor)


@exercise.question
def bytes_per_weight():
    """A model is trained with AdamW under bf16 autocast. How many bytes for each weight
    are there between `backward` and `step`: the weight, its gradient and the
    optimizer's two means?

    Autocast makes 16-bit copies for the products and drops them. In which format is
    what stays?
    """
    model = nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.step()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.ones(1, 64)).float().sum()
        loss.backward()
    held = [model.weight, model.weight.grad, *optimizer.state[model.weight].values()]
    return sum(t.nbytes for t in held if t.numel() > 1) // model.weight.numel()


@exercise.question
def with_a_master():
    """A weight of 64 gets 0.1 added in each of 7 steps. The sum is kept in fp32, and
    the model computes with a bf16 copy of it. What is the copy after the 7 steps?

    Where is the fp32 number, and which number of bf16 is nearest? The gap from 64 on is
    0.5.
    """
    master = torch.tensor(64.0)
    for _ in range(7):
        master += 0.1
    return master.bfloat16().item()


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
        "whole_numbers": 2 ** (10 + 1),
        "gap_ratio": 2 ** (10 - 7),
        "rounded": 64 + 73 * 64 / 2**7,
        "squared": math.inf,
        "counter": 2**8,
        "smallest": 24 + 10,
        "power": 10 - 1 + 1 - 1 + 1,
        "bytes_per_weight": 4 + 4 + 4 + 4,
        "with_a_master": 64 + 0.5,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def the_leading_one_forgotten():
    """That forgets the leading 1, which has no bit of its own: with M mantissa bits a
    number has M + 1 digits in base two.

    With 2 mantissa bits 1.00, 1.01, 1.10 and 1.11 are three digits each. Which whole
    numbers have up to three digits?
    """
    return {"whole_numbers": (1024, 1023), "counter": 128}


@exercise.wrong("by-hand")
def one_short_of_the_power():
    """That is one less, or one more. The power of two itself is a number of the format
    too, and so is the way up to it.

    With 2 mantissa bits 7 is 1.11 times 4, and 8 is 1.00 times 8. And what is 9?
    """
    return {"whole_numbers": (2047, 2049), "counter": (255, 257)}


@exercise.wrong("by-hand")
def the_range_for_the_precision():
    """That is how far the format reaches. Long before its end the gaps have become
    larger than 1.

    How far apart are the numbers of fp16 between 32,768 and 65,536?
    """
    return {"whole_numbers": (65504, 65535, 65536, 32768, 2**15 - 1)}


@exercise.wrong("by-hand")
def bits_counted_and_not_doubled():
    """That counts the bits, or divides their numbers. Every bit more halves the gap.

    With one bit more there are twice as many numbers between 1 and 2. And with three
    bits more?
    """
    return {"gap_ratio": (3, 10 / 7, 7 / 10, 6, 9, 4, 16)}


@exercise.wrong("by-hand")
def ratio_the_other_way():
    """That is the ratio the other way round, or none at all. bf16 has fewer mantissa
    bits, so its gaps are the larger ones.

    Which format spends more of its 16 bits on the exponent? Where were they taken from?
    """
    return {"gap_ratio": (1 / 8, 1)}


@exercise.wrong("by-hand")
def decimals_kept():
    """That is finer, or coarser, than bf16 can be there. Between 64 and 128 it has 2^7
    numbers, and no more.

    64 numbers wide, 128 marks: how far apart are they?
    """
    return {"rounded": (100.3, 100, 100.25, 100.297, 101, 100.4, 102, 96)}


@exercise.wrong("by-hand")
def goes_on_without_an_end():
    """That is 300 * 300, or near it. fp16 ends before it: its exponent has 5 bits.

    Where does fp16 end? And what comes out beyond that: the largest number, or
    something else?
    """
    return {"squared": (90000, 89984, 90016, 90112, 89600)}


@exercise.wrong("by-hand")
def stops_at_the_largest():
    """That would be clipping. Beyond the largest number a format with an infinity gives
    just that.

    How would a training step notice an overflow, if it came out as an ordinary number?
    """
    return {"squared": (65504, 65535, 65536, 65519, 0)}


@exercise.wrong("why-it-works")
def every_one_counts():
    """That counts every 1. From some number on a 1 is only half of the gap, or less,
    and the sum is rounded to where it was.

    bf16 has 7 mantissa bits. From which power of two on is the gap 2?
    """
    return {"counter": (1000, 1024, 999, 1001, 512, 2048)}


@exercise.wrong("why-it-works")
def factor_not_counted():
    """That forgets the factor, or divides by it, or begins at 2^-14, the smallest
    number with a full mantissa. The subnormal numbers reach down to 2^-24, and what is
    rounded to fp16 is the gradient *times* 2^10.

    Is a gradient that is multiplied more likely to survive, or less? By how many powers
    of two?
    """
    return {"smallest": (24, 14, 25, 15)}


@exercise.wrong("why-it-works")
def tie_rounded_up():
    """That is one too many, or one too few. Half of the smallest number is a tie
    between 0 and the smallest number, and 0 is the even one.

    Where does half of the smallest number go? And three quarters of it?
    """
    return {"smallest": (33, 35)}


@exercise.wrong("the-module")
def row_not_begun_anew():
    """That lets the row of good steps go on after an overflow. The steps must be good
    in a row, with the factor that there is now.

    After the overflow in step 3, which three steps make a row?
    """
    return {"power": 11}


@exercise.wrong("the-module")
def only_overflows_counted():
    """That counts the overflows alone. Between them the factor has time to grow again.

    Steps 4, 5 and 6 are good. What happens after the third of them?
    """
    return {"power": (8, 9)}


@exercise.wrong("the-module")
def growth_without_end():
    """That lets the factor grow too often, or an overflow does too little to it.

    Three good steps double it once. How many full rows of three are there in ten steps?
    """
    return {"power": (12, 13, 14, 15, 16)}


@exercise.wrong("the-module")
def factor_instead_of_its_power():
    """That is the factor itself. Asked for is the power of two.

    2 to which power is 1024?
    """
    return {"power": (2**10, 2**9, 2**11)}


@exercise.wrong("the-module")
def all_in_16_bits():
    """That has the weights, their gradients or the means in 16 bits. Under autocast
    they all stay in fp32: only what the products read is rounded, for as long as a
    product takes.

    How many bytes has a number of fp32, and how many numbers are there for each weight?
    """
    return {"bytes_per_weight": (8, 10, 12, 14, 6, 2)}


@exercise.wrong("the-module")
def copies_kept():
    """That counts the 16-bit copies that autocast makes. They are dropped after the
    forward pass has ended, and the next one makes new ones.

    What must be there when the optimizer steps, and what not any more?
    """
    return {"bytes_per_weight": (18, 20, 22, 24)}


@exercise.wrong("the-module")
def something_not_counted():
    """That leaves one of the four out, or counts a number as one byte.

    Weight, gradient, and two means. How many bytes has each in fp32?
    """
    return {"bytes_per_weight": (4, 32, 64)}


@exercise.wrong("why-it-works")
def stands_still_all_the_same():
    """That is the weight as it would be if it lived in bf16: each 0.1 is less than half
    of the gap, and is lost. Here the sum is kept in fp32.

    0.1 seven times is not lost in fp32. Where is the sum then, and which number of bf16
    is nearest?
    """
    return {"with_a_master": 64}


@exercise.wrong("why-it-works")
def master_instead_of_the_copy():
    """That is the fp32 number. The model computes with the copy, which has only the
    numbers of bf16.

    From 64 on these are 0.5 apart. Which is the nearest?
    """
    return {"with_a_master": 64.7}


@exercise.wrong("why-it-works")
def copy_rounded_up():
    """That is farther away than another number of bf16. From 64 on these are 0.5 apart.

    64.7 lies between 64.5 and 65. Which is nearer?
    """
    return {"with_a_master": (65, 67.5, 64.75, 64.625)}
