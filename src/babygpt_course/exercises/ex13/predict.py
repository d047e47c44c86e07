"""13.3: sizes and errors, said before they are measured."""

import torch
from torch import nn

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.quantize import nearest, quantize, scale_and_zero, size_in_bytes

exercise = Prediction(
    chapter="13_quantization",
    id="13.3",
    title="Predict, then measure",
    kind="predict",
    points=2,
    minutes=8,
    anchor="why-it-works",
    equivalent={
        name: "The same to two decimals, which are enough."
        for name in (
            "... er': 4 * 512 * 512 / (512 * 512 + 4 * 513), 'bits_a_weight': 4 + 32 / "
            "64, 'with_ ...",
            "... er': 4 * 512 * 512 / (512 * 512 + 4 * 511), 'bits_a_weight': 4 + 32 / "
            "64, 'with_ ...",
            "... 32 / 64, 'with_embedding': 100 / (60 + 41 / 4), 'values': 15, "
            "'largest_error': 1 ...",
            "...  32 / 64, 'with_embedding': 100 / (60 + 39 / 4), 'values': 15, "
            "'largest_error':  ...",
        )
    },
    hints="""
    For each size ask: how many bytes before, how many after, and what besides the codes is stored?
    For each error ask: how large is one step, and what sets it?

    A code has `bits` bits, and a scale in fp32 has 32, shared by its row or its group. A step is the
    largest weight that shares the scale, divided by 127 (or by 7). An error is half a step at most.

    smaller: all the bytes before by all the bytes after. bits_a_weight: 4 plus the share of a scale.
    with_embedding: 100 by what is left of 100. outlier: how many steps is 1, if 127 steps are 100? wraps:
    take away 256 until it fits.
    """,
)


@exercise.question
def smaller():
    """A linear layer of 512 by 512, no bias, goes from fp32 to int8 with one fp32 scale a row. By which
    factor is it smaller?

    How many bytes are all the weights before, all the codes after, and all the scales?
    """
    model = nn.Sequential(nn.Linear(512, 512, bias=False))
    before = size_in_bytes(model)["total"]
    return before / size_in_bytes(quantize(model))["total"]


@exercise.question
def bits_a_weight():
    """Codes of 4 bits in groups of 64, each group with one scale in fp32 and no zero point. How many bits
    does a weight take, all in all?

    With how many weights does each one share the bits of its scale?
    """
    model = nn.Sequential(nn.Linear(128, 16, bias=False))
    quantize(model, 4, "group", group_size=64)
    return 8 * size_in_bytes(model)["total"] / (128 * 16)


@exercise.question
def with_embedding():
    """60 percent of a model's bytes are an embedding that stays in fp32. Everything else becomes int8 (leave out
    the scales). By which factor is the file smaller?

    Of 100 bytes, how many are left?
    """
    return 100 / (60 + 40 / 4)


@exercise.question
def values():
    """Symmetric codes of 4 bits, as in the chapter: 7 is for the largest weight and the lowest code is not
    used. How many different values can a weight of one row have?

    Count the codes below zero, above zero, and zero.
    """
    W = torch.linspace(-1, 1, 1001)[None]
    return nearest(W, *scale_and_zero(W, 4, True), 4).unique().numel()


@exercise.question
def largest_error():
    """A row is rounded to 8 bits, symmetrically, and its largest weight is 254. How far from its weight can a
    rounded one be at most?

    How large is one step? And how far is the middle between two steps from either?
    """
    W = torch.linspace(-254, 254, 2033)[None]
    scale, zero = scale_and_zero(W, 8, True)
    return (W - scale * (nearest(W, scale, zero, 8) - zero)).abs().max().item()


@exercise.question
def outlier():
    """All weights of a matrix lie between -1 and 1, except one, which is 100. The matrix is rounded to 8 bits with
    one scale. How many different codes do the other weights have?

    How large is one step? Which whole numbers of steps are nearest to something between -1 and 1?
    """
    W = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([100.0])])[None]
    return nearest(W, *scale_and_zero(W, 8, True), 8)[0, :-1].unique().numel()


@exercise.question
def wraps():
    """Two int8 numbers, both 100, are multiplied, and the product is kept in an int8. Which number is it?

    How often does 256 go into 10,000, and what is left?
    """
    return int(
        torch.tensor(100, dtype=torch.int8) * torch.tensor(100, dtype=torch.int8)
    )


@exercise.question
def tokens_a_second():
    """For each token that a model writes it reads each of its 100,000,000 weights once, in int8, and the machine reads
    20 GB a second. How many tokens a second can it write at most?

    How many bytes does one token need? How often do they fit into 20,000,000,000?
    """
    return 20 * 10**9 // (100 * 10**6)


@exercise.question
def worst():
    """One weight of a matrix is a thousand times as large as all the others. Which rounding has the largest mean squared
    error for the *others*: 1, 8 bits with one scale a row; 2, 8 bits with one scale a matrix; 3, 4 bits in
    groups of 32?

    How many weights share a scale with the large one? What is left of those?
    """
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(64, 64, generator=generator) * 2 - 1
    W[0, 0] = 1000.0
    errors = []
    for bits, scheme in ((8, "per_channel"), (8, "per_tensor"), (4, "group")):
        model = nn.Sequential(nn.Linear(64, 64, bias=False))
        model[0].weight.data = W.clone()
        off = W - quantize(model, bits, scheme, group_size=32)[0].weight
        errors.append(off.flatten()[1:].square().mean().item())
    return 1 + errors.index(max(errors))


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
        "smaller": 4 * 512 * 512 / (512 * 512 + 4 * 512),
        "bits_a_weight": 4 + 32 / 64,
        "with_embedding": 1 / 0.7,
        "values": 7 + 1 + 7,
        "largest_error": 254 / 127 / 2,
        "outlier": 3,
        "wraps": 10_000 - 39 * 256,
        "tokens_a_second": 200,
        "worst": 2,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("why-it-works")
def scales_cost_nothing():
    """That counts the codes alone. The scales are stored too, in fp32.

    How many scales are there, and how many bytes are they?
    """
    return {"smaller": 4, "bits_a_weight": 4}


@exercise.wrong("why-it-works")
def one_scale_for_the_matrix():
    """That counts the scales of another scheme, or counts them in other units. The task says how many there are: one a
    row.

    262,144 codes of one byte, 512 scales of four. How many bytes is that together?
    """
    return {
        "smaller": (
            4 * 512**2 / (512**2 + 4),
            4 * 512**2 / (512**2 + 512),
            4 * 512**2 / (512**2 + 32 * 512),
            (512**2 + 4 * 512) / (4 * 512**2),
        )
    }


@exercise.wrong("why-it-works")
def scale_of_another_width():
    """That takes a scale for wider or narrower than it is, or counts a zero point too. A scale in fp32 has 32 bits, and 64
    weights share it.

    How many bits of the scale fall to one weight?
    """
    return {"bits_a_weight": (4.25, 5, 4.0625, 36, 4.125, 4.625, 68, 8.5)}


@exercise.wrong("why-it-works")
def embedding_forgotten():
    """That is what the file would be if everything became int8. The embedding stays, and it is the larger part.

    Of 100 bytes 60 stay as they are. How many do the other 40 become?
    """
    return {"with_embedding": (4, 3.97)}


@exercise.wrong("why-it-works")
def shares_mixed_up():
    """That takes the wrong share for the one that shrinks, or adds up factors instead of bytes.

    Take 100 bytes. How many are left of the 60, and how many of the 40?
    """
    return {
        "with_embedding": (
            100 / (40 + 15),
            0.7,
            0.6 + 0.4 * 4,
            0.4 * 4,
            100 / 60,
            100 / 40,
            1.3,
            0.4,
            0.6 * 4,
        )
    }


@exercise.wrong("by-hand")
def every_code_used():
    """That counts all codes that four bits have. One of them is left unused here, so that the codes are symmetric: 7 has its
    -7, and -8 would have no partner.

    Which is the smallest code, and which the largest?
    """
    return {"values": (16, 8)}


@exercise.wrong("by-hand")
def one_side_only():
    """That counts one side, or leaves out zero.

    How many codes are there from -7 to 7?
    """
    return {"values": (7, 14)}


@exercise.wrong("by-hand")
def a_whole_step():
    """That is a whole step, or the step of other codes. Rounding goes to the nearer end, so the worst place is in the
    middle.

    The step is 254 / 127. How far is the middle between two codes from each?
    """
    return {"largest_error": (2, 508 / 255, 0.5, 254 / 128, 127, 254 / 256, 4)}


@exercise.wrong("by-hand")
def mean_error():
    """That is a mean, and asked for is the largest error there can be.

    Where between two codes is a weight farthest from both?
    """
    return {"largest_error": (2 / 12**0.5, 4 / 12)}


@exercise.wrong("why-it-works")
def outlier_does_not_matter():
    """That would be so if the outlier had a scale of its own. Here all weights share one, and it is made for 100.

    127 steps reach to 100. How many steps reach to 1?
    """
    return {"outlier": (255, 254, 256, 127)}


@exercise.wrong("why-it-works")
def everything_becomes_zero():
    """Nearly. One step is 100 / 127, which is less than 1: the largest of the others are still nearer to one step than to
    zero.

    Which code has a weight of 0.9? And one of -0.9?
    """
    return {"outlier": (1, 2, 0)}


@exercise.wrong("how-it-breaks")
def it_stops_at_the_end():
    """That stops at the largest number that fits. Nothing stops an integer in the computer: it goes on from the other
    end.

    What is 127 + 1 in an int8? And what is left of 10,000 after taking away 256 again and again?
    """
    return {"wraps": (127, 128, 255)}


@exercise.wrong("how-it-breaks")
def it_fits():
    """That is the product as it should be. A signed byte goes from -128 to 127.

    What is left of 10,000 after taking away 256 again and again?
    """
    return {"wraps": 10_000}


@exercise.wrong("how-it-breaks")
def another_remainder():
    """That is a remainder of another division. A byte has 256 values, and everything wraps around after that many.

    39 times 256 is 9,984. What is left of 10,000?
    """
    return {"wraps": (78, 16 - 256, 94, 10_000 % 255, -16, 0)}


@exercise.wrong("why-it-works")
def four_bytes_a_weight():
    """That is the number for fp32, or for two bytes a weight. In int8 each weight is one byte.

    How many bytes are 100,000,000 weights in int8?
    """
    return {"tokens_a_second": (50, 100)}


@exercise.wrong("why-it-works")
def bits_taken_for_bytes():
    """That takes bits for bytes, in the weights or in the 20 GB.

    int8 has 8 bits, which is one byte. How many bytes does a token need?
    """
    return {"tokens_a_second": (25, 1600, 800)}


@exercise.wrong("why-it-works")
def fewer_bits_must_be_worse():
    """That goes by the number of bits. What counts is the step, and a shared scale makes it as large as its largest
    weight.

    How many of the weights share a scale with the outlier, in each of the three?
    """
    return {"worst": 3}


@exercise.wrong("why-it-works")
def a_row_is_the_worst():
    """With one scale a row the outlier spoils one row: all others are as exact as 8 bits can be.

    How many weights share a scale with the outlier when there is one scale a matrix?
    """
    return {"worst": 1}
