"""11.3: costs, said before they are counted."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course import ledger
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.gpt import GPTConfig

exercise = Prediction(
    chapter="11_flops_mfu",
    id="11.3",
    title="Predict, then count",
    kind="predict",
    points=2,
    minutes=8,
    anchor="why-it-works",
    hints="""
    For each number ask first what it is counted in (FLOPs, bytes, seconds, a share), and on what
    it depends: on the weights, on the tokens, on pairs of tokens, on the machine?

    A product (n, k) @ (k, m) is 2nkm. Backward is two products for each one. Attainable: the smaller
    of peak and intensity times bandwidth. MFU: FLOPs by seconds, by the peak.

    six_n: 6 for each weight and token. scores: a table of T * T. training: weight, gradient, two
    means. cache: keys and values of each layer, C numbers each. interval: a forward pass is a third
    of a step.
    """,
)


@exercise.question
def product():
    """A (50, 40) matrix is multiplied with a (40, 30) matrix. How many FLOPs is that?

    There are 50 times 30 results. How many multiplications and how many additions has each?
    """
    with FlopCounterMode(display=False) as counter:
        torch.zeros(50, 40) @ torch.zeros(40, 30)
    return counter.get_total_flops()


CONFIG = GPTConfig(vocab_size=50, block_size=64, n_layer=2, n_head=4, n_embd=32)


@exercise.question
def backward_share():
    """Which share of the FLOPs of a training step belongs to the backward pass?

    Each product of the forward pass becomes how many backward?
    """
    parts = ledger.flops(CONFIG).values()
    return sum(f.backward for f in parts) / sum(f.total for f in parts)


@exercise.question
def scores_grow():
    """The window T is doubled from 64 to 128, with as many texts in the batch as before. By which
    factor do the FLOPs of the scores grow?

    A table has T rows and T columns. How many cells more has it?
    """
    small, large = (ledger.flops(CONFIG, 1, T)["scores"].total for T in (64, 128))
    return large // small


@exercise.question
def six_n():
    """A model has 2,000,000 weights in matrices. A step reads 500 tokens. How many FLOPs has the step
    by the rule 6N?

    Two FLOPs for each weight and token forward. And the whole step?
    """
    layer = nn.Linear(2_000, 1_000, bias=False, device="meta")
    x = torch.zeros(500, 2_000, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    return counter.get_total_flops()


@exercise.question
def training_bytes():
    """Training in fp32 with AdamW, without the activations: how many bytes of memory has each
    parameter?

    The weight itself, and what else is kept in its shape from step to step?
    """
    w = nn.Parameter(torch.zeros(100))
    optimizer = torch.optim.AdamW([w])
    w.sum().backward()
    optimizer.step()
    kept = [w, w.grad, *optimizer.state[w].values()]
    return sum(x.nbytes for x in kept if x.shape == w.shape) // 100


@exercise.question
def cache_bytes():
    """A GPT with 6 layers and 256 channels writes a text, in fp32. How many bytes has the cache of
    keys and values after 100 tokens?

    What does one layer keep for one token, and how many bytes is a number?
    """
    config = GPTConfig(vocab_size=50, block_size=100, n_layer=6, n_head=8, n_embd=256)
    return ledger.kv_cache_bytes(config, 100)


@exercise.question
def attainable():
    """A core can do 60 GFLOP/s and read 20 GB/s. An operation has an intensity of 0.5 FLOPs a byte.
    How many GFLOP/s does it attain at most?

    How many GFLOPs can be done with the 20 GB that arrive in a second?
    """
    return min(60.0, 0.5 * 20)


@exercise.question
def mfu():
    """A step of 20 GFLOP takes 0.5 seconds, on a machine with a peak of 160 GFLOP/s. What is the
    MFU?

    How many GFLOP/s were done? Which share of the peak is that?
    """
    return 20 / 0.5 / 160


@exercise.question
def interval():
    """A training step takes 0.3 seconds. An interval that somebody timed holds one step and 40
    evaluation batches of the same size. How many seconds is it, if time goes with the FLOPs?

    An evaluation only reads forward. How long does that take, and how often is it done?
    """
    parts = ledger.flops(CONFIG).values()
    forward = sum(f.forward for f in parts) / sum(f.total for f in parts)
    return 0.3 * (1 + 40 * forward)


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
        "product": 50 * 30 * (40 + 40),
        "backward_share": 4 / 6,
        "scores_grow": 128**2 / 64**2,
        "six_n": 6e9,
        "training_bytes": 4 * 4,
        "cache_bytes": 100 * 6 * (256 + 256) * 4,
        "attainable": 20 / 2,
        "mfu": 0.25,
        "interval": 0.3 + 40 * 0.1,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def multiplications_only():
    """That counts the multiplications. There are as many additions, and a FLOP is one of either.

    A result is a sum of 40 products. How many operations does it take?
    """
    return {"product": (50 * 40 * 30, 50 * 30 * 79), "six_n": 3 * 10**9}


@exercise.wrong("by-hand")
def results_counted():
    """That counts numbers (of the result, or of the two matrices) and not operations.

    Each of the 50 times 30 results is a sum. Of how many products?
    """
    return {"product": (1500, 3000, 50 * 40 + 40 * 30, 50 * 40 + 40 * 30 + 1500, 6000)}


@exercise.wrong("by-hand")
def backward_like_forward():
    """That says that backward costs as much as forward. Every product has two inputs, and both need
    a gradient.

    y = x W: which two products give the gradients of x and of W?
    """
    return {"backward_share": 0.5, "six_n": 4 * 10**9}


@exercise.wrong("by-hand")
def share_of_the_forward_pass():
    """That is the forward pass's share, or how many times as much backward is. Asked for is the
    backward pass's share of the whole step.

    One part forward, two parts backward. How many of three?
    """
    return {"backward_share": (1 / 3, 2, 0.75)}


@exercise.wrong("why-it-works")
def forward_only():
    """That is the forward pass alone: two FLOPs for each weight and token. A training step goes
    backward too.

    By what must it be multiplied?
    """
    return {"six_n": 2 * 10**9}


@exercise.wrong("why-it-works")
def one_token():
    """That is the cost for one token. The step reads 500.

    Every weight is used once for each token. How many times in a step?
    """
    return {"six_n": (12 * 10**6, 4 * 10**6, 2 * 10**6, 6 * 500)}


@exercise.wrong("by-hand")
def tokens_instead_of_pairs():
    """That grows with the number of tokens, as the products with weights do. Scores are of pairs.

    Write down a table for T = 2 and one for T = 4. How many cells has each?
    """
    return {"scores_grow": (2, 1, 3)}


@exercise.wrong("by-hand")
def grown_too_much():
    """That grows by more than the square. Twice the rows and twice the columns.

    Into how many tables of the old size can the new one be cut?
    """
    return {"scores_grow": (8, 16)}


@exercise.wrong("why-it-works")
def something_not_kept():
    """That leaves out something that AdamW needs. For each weight there is the weight itself, its
    gradient, and two running means.

    Four numbers of how many bytes each?
    """
    return {"training_bytes": (4, 8, 12)}


@exercise.wrong("why-it-works")
def numbers_for_bytes():
    """That counts numbers, or takes another width for them. In fp32 a number has 32 bits, and a byte
    has 8.

    How many bytes is one number?
    """
    cache = 2 * 6 * 256 * 100
    return {
        "training_bytes": (2, 3, 32, 64, 128),
        "cache_bytes": (cache, 8 * cache, 32 * cache),
    }


@exercise.wrong("why-it-works")
def keys_or_values():
    """That has keys or values, and not both. The one is what a token is found by, the other what it
    hands over.

    How many numbers does a layer keep for each token?
    """
    return {"cache_bytes": 6 * 256 * 4 * 100}


@exercise.wrong("why-it-works")
def one_layer_or_one_token():
    """That is the cache of one layer, or of one token. Each layer keeps the keys and values of all
    100 tokens.

    By what must it still be multiplied?
    """
    return {"cache_bytes": (2 * 256 * 4 * 100, 2 * 6 * 256 * 4, 2 * 256 * 4)}


@exercise.wrong("why-it-works")
def pairs_in_the_cache():
    """That grows with the square of the length. The cache holds a row for each token, and no table of
    pairs.

    What is kept when one token more has been written?
    """
    return {"cache_bytes": (2 * 6 * 256 * 4 * 100**2, 6 * 4 * 8 * 100**2)}


@exercise.wrong("why-it-works")
def peak_always_attained():
    """That is the peak, or half of it. With so few operations for each byte the core waits for the
    memory.

    20 GB arrive in a second. How many FLOPs can be done with them?
    """
    return {"attainable": (60, 30)}


@exercise.wrong("why-it-works")
def intensity_divided():
    """That divides where it should be multiplied. Intensity is FLOPs a *byte*; times bytes a second it
    becomes FLOPs a second.

    Is 0.5 FLOPs a byte more or less than one?
    """
    return {"attainable": (40, 120, 20, 6, 1.5, 3, 1 / 3, 1 / 6)}


@exercise.wrong("train-it")
def percent_instead_of_a_share():
    """That is in percent. A share is a number from 0 to 1, and who mixes the two is off by a factor
    of a hundred.

    By what do you divide a percentage to get a share?
    """
    return {"mfu": 25, "backward_share": (66.7, 67, 66.67)}


@exercise.wrong("train-it")
def time_used_wrongly():
    """That multiplies by the time, or leaves it out. First the speed: FLOPs by seconds; then its share
    of the peak.

    20 GFLOP in half a second: how many in a whole one?
    """
    return {"mfu": (20 * 0.5 / 160, 20 / 160, 40)}


@exercise.wrong("train-it")
def upside_down():
    """That is upside down: a share of the peak above 1 would be faster than the machine.

    What was done, divided by what could have been done. Which of the two is 160?
    """
    return {"mfu": (4, 8, 16)}


@exercise.wrong("how-it-breaks")
def evaluation_like_a_step():
    """That lets an evaluation batch take as long as a training step. It has no backward pass and no
    optimizer.

    Which share of a step is its forward pass?
    """
    return {"interval": (0.3 * 41, 12, 0.3 * 40 * 2 / 3 + 0.3)}


@exercise.wrong("how-it-breaks")
def evaluation_forgotten():
    """That is the step alone, or the evaluations alone. Whatever lies between the two readings of the
    clock is in the interval.

    One step, and 40 forward passes. What do they take together?
    """
    return {"interval": (0.3, 4, 0.1, 0.4)}
