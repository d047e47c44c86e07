"""09.3: numbers of BabyGPT and of the text it was measured on, said before they are run."""

import functools
import math
import random
import struct

import torch

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.gpt import GPT, GPTConfig

exercise = Prediction(
    chapter="09_babygpt",
    id="09.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    Which tables have a row for each id, and which for each position? What is there once in a
    block? And of a text: what does a model lose that guesses evenly among n symbols?

    Parameters: (V + T) C for the tables, 12 C C + 4 C a block, 2 C for the last norm, V C + V
    for a head of its own with a bias. Even guesses among n symbols cost ln n. A float32 number
    has 4 bytes, a byte two hex digits.

    13,000-odd: V = T = C = 16 and L = 4 in the formula. One more id: a row of the embedding, a
    row of the head, a number of its bias. Least symbols: the smallest whole n with ln n at
    least the loss. Half-known digits: 7 entropies of ln 16 and one of 0, and their mean.
    """,
)


def parameters(V=16, T=16, L=4, H=4, C=16):
    with torch.device("meta"):
        model = GPT(GPTConfig(V, T, L, H, C, bias=False, tie=False, head_bias=True))
    return sum(p.numel() for p in model.parameters())


@exercise.question
def babygpt_16():
    """V = 16 ids, T = 16 positions, L = 4 blocks, H = 4 heads, C = 16 channels. The head is a
    layer of its own, with a bias; no other linear layer has one. The norms do. How many
    parameters?

    Tables, four blocks, the last norm, the head. How much is each?
    """
    return parameters()


@exercise.question
def larger_vocabulary():
    """The same model for 109 ids instead of 16. How many parameters more has it?

    What does one more id cost? Which tensors have a row, or a number, for each id?
    """
    return parameters(V=109) - parameters()


@exercise.question
def longer_context():
    """The first model again (V = 16), for T = 32 positions instead of 16. How many parameters
    more has it?

    Which tensor has a row for each position?
    """
    return parameters(T=32) - parameters()


@exercise.question
def more_heads():
    """The first model again, with H = 8 heads instead of 4. How many parameters more has it?

    Twice as many heads, each half as wide. What changes its size?
    """
    return parameters(H=8) - parameters()


@exercise.question
def megabytes():
    """A larger BabyGPT has 6,372,461 parameters. How many million bytes are they in float32?

    How many bytes has a number of 32 bits?
    """
    one = torch.zeros(1, dtype=torch.float32).element_size()
    return parameters(109, 64, 8, 8, 256) * one / 1e6


@exercise.question
def block_calls():
    """A model has 8 blocks. Its code has a loop over them, and in each round it runs the whole
    stack of blocks. How many times does a block run in one forward pass, all blocks
    together?

    How many rounds are there, and how many blocks run in each?
    """
    calls = []
    blocks = [lambda x: calls.append(1) or x] * 8
    for _ in blocks:
        functools.reduce(lambda x, block: block(x), blocks, 0)
    return len(calls)


@exercise.question
def least_symbols():
    """A page reports a loss of 2.4633 nats per symbol, for a model that is no worse than even
    guesses among all symbols of its text. How many symbols are there at least, as a whole
    number? (Even guesses among n cost ln n.)

    With too few symbols even guessing would cost less than that. What is e to that power, and
    which is the next whole number?
    """
    n = 1
    while math.log(n) < 2.4633:
        n += 1
    return n


@exercise.question
def hex_digits():
    """A file holds 1,000 weights in float32 and nothing else. How many hex digits has its hex
    dump?

    How many bytes has a weight, and how many hex digits has a byte?
    """
    numbers = random.Random(0)
    weights = [numbers.gauss(0, 1) for _ in range(1000)]
    return len(struct.pack("1000f", *weights).hex())


@exercise.question
def half_known():
    """Of the 8 hex digits of each number, 7 take all 16 values equally often, and one is always
    the same. A model knows the position of a digit and nothing else. Which mean loss in
    nats per digit can it reach at best?

    What does a digit cost that takes 16 values equally often? And one that never changes?
    """
    even = torch.full((16,), 1 / 16, dtype=torch.float64)
    entropies = [-(even * even.log()).sum().item()] * 7 + [0.0]
    return sum(entropies) / len(entropies)


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
        "babygpt_16": 12_832 + 33 * 16,
        "larger_vocabulary": 33 * 93,
        "longer_context": 16 * 16,
        "more_heads": 0,
        "megabytes": 25.49,
        "block_calls": 8**2,
        "least_symbols": math.ceil(math.exp(2.4633)),
        "hex_digits": 1000 * 32 // 4,
        "half_known": 3.5 * math.log(2),
    }


# --- misconceptions, and the numbers they lead to -------------------------------------

BLOCK = 12 * 16**2 + 4 * 16


@exercise.wrong("the-module")
def blocks_without_their_norms():
    """That leaves out norms. Each block has two, and one stands before the head; each has a weight
    and a bias for every channel.

    Nine norms of 2 C numbers: how much is that?
    """
    return {"babygpt_16": (13_360 - 9 * 32, 13_360 - 32)}


@exercise.wrong("the-module")
def norms_without_their_bias():
    """That counts norms without their bias. "No other linear layer has one" says nothing about
    norms: they have a weight and a bias.

    How many numbers has a norm of 16 channels?
    """
    return {"babygpt_16": 13_360 - 9 * 16}


@exercise.wrong("the-module")
def biases_everywhere():
    """That has biases in the linear layers of the blocks. Only the head has one here.

    Which part of your sum belongs to biases?
    """
    return {"babygpt_16": (13_360 + 4 * 9 * 16, 13_360 + 4 * 9 * 16 - 16)}


@exercise.wrong("the-module")
def head_tied_or_without_bias():
    """That leaves out the head, or its bias. The head is a layer of its own here: V C weights and
    V biases.

    How many numbers does it add to the two tables and the blocks?
    """
    return {"babygpt_16": (13_360 - 256 - 16, 13_360 - 16)}


@exercise.wrong("the-module")
def a_table_is_missing():
    """Exactly 256 numbers are missing. So many are in the table of the tokens, in that of the
    positions, in the matrix of the head, and in the norms of all four blocks together.

    Which of these four has your sum left out?
    """
    return {"babygpt_16": 13_360 - 256}


@exercise.wrong("the-module")
def one_block():
    """That has one block. There are four, and each has parameters of its own.

    How much is one block, and what is there only once?
    """
    return {"babygpt_16": (13_360 - 3 * BLOCK, 4 * 13_360)}


@exercise.wrong("the-module")
def only_the_blocks():
    """That is the four blocks, or their matrices, without what stands before and behind them.

    Two tables, a norm and a head. How much are these?
    """
    return {"babygpt_16": (4 * BLOCK, 4 * 12 * 256)}


@exercise.wrong("the-module")
def output_projection_forgotten():
    """That leaves out a matrix of each block: beside queries, keys and values attention has an
    output from C to C.

    3 + 1 + 4 + 4: how many times C * C has a block?
    """
    return {"babygpt_16": 13_360 - 4 * 256}


@exercise.wrong("the-module")
def read_and_not_predicted():
    """That counts one of the two tables, or leaves the bias out. An id has a row in the embedding,
    to be read, and one in the head, to be predicted, and there a bias too.

    How many numbers has one more id, all in all?
    """
    return {"larger_vocabulary": (93 * 16, 93 * 17, 93 * 32)}


@exercise.wrong("the-module")
def whole_model_of_109():
    """That is the size of the larger model, or counts all of its 109 ids. Asked for is what it has
    more.

    How many ids more are there, and what does each cost?
    """
    return {"larger_vocabulary": (16_429, 109 * 33, 109 * 16, 109, 93)}


@exercise.wrong("the-module")
def context_costs_in_every_block():
    """That lets the blocks grow with T. Their matrices are applied to each position by itself, and
    attention makes its scores anew for every text.

    What is *learned* for each position, and where?
    """
    return {
        "longer_context": (4 * 256, 5 * 256, 13_360, 32 * 32 - 16 * 16, 4 * 4 * 768)
    }


@exercise.wrong("the-module")
def context_costs_nothing():
    """That says that positions have no parameters, or counts all of the table. BabyGPT has a
    learned row for each position.

    Sixteen rows more, of how many channels?
    """
    return {"longer_context": (0, 512, 16, 32)}


@exercise.wrong("the-module")
def heads_cost_parameters():
    """That lets the model grow with the number of heads. They share the C channels: twice as
    many heads are half as wide.

    How many queries does a position have, counted in numbers, with 4 heads and with 8?
    """
    return {"more_heads": (4 * 3 * 256, 3 * 256, 4 * 4 * 256, 256, 1024, 4, 12_288)}


@exercise.wrong("the-module")
def heads_save_parameters():
    """That lets the model become smaller with more heads. Each is half as wide, and there are
    twice as many.

    Half times twice: what stays the same?
    """
    return {"more_heads": (-1536, -3072, -4096, -2048)}


@exercise.wrong("the-module")
def bits_for_bytes():
    """That is another number of bytes for each parameter. A float32 has 32 bits, and 8 bits are
    one byte.

    How many bytes has each of the 6,372,461 numbers?
    """
    return {
        "megabytes": (6.372461, 6.372461 * 2, 6.372461 * 8, 6.372461 * 32, 6.37, 12.74)
    }


@exercise.wrong("the-module")
def not_in_millions():
    """The number of bytes is right, and the unit is not: asked for are millions of bytes, that is
    bytes divided by 1,000,000. (Divided by 1024 twice it is another unit, MiB.)

    How many millions are in your number?
    """
    n = 4 * 6_372_461
    return {"megabytes": (n, n / 1e3, n / 2**20, n / 1e9)}


@exercise.wrong("the-module")
def once_each():
    """That would be right, and this code is not: in each round of the loop *all* blocks run.

    Write it out for two blocks. How many runs are there?
    """
    return {"block_calls": 8}


@exercise.wrong("the-module")
def rounds_added():
    """That adds where it should multiply, or counts two rounds. There are as many rounds as
    blocks, and each round runs them all.

    With 2 blocks there are 4 runs, with 3 blocks 9. And with 8?
    """
    return {"block_calls": (16, 9, 36, 2**8, 17)}


@exercise.wrong("how-it-breaks")
def rounded_down():
    """With 11 symbols even guesses cost less than 2.4633 nats, and the model would be worse than
    guessing. And a number of symbols is a whole number.

    ln 11 is a little below the loss. Which n is the first whose logarithm reaches it?
    """
    return {"least_symbols": (11, 11.7, math.exp(2.4633))}


@exercise.wrong("how-it-breaks")
def bits_taken_for_nats():
    """That takes 2 to the power of the loss. It is in nats, so the base is e.

    Which number has the natural logarithm 2.4633?
    """
    return {"least_symbols": (5, 6, 2**2.4633)}


@exercise.wrong("how-it-breaks")
def what_the_text_has():
    """That is a number of symbols that some text has, and it would do. Asked for is the least that
    the loss allows, with no other knowledge.

    For which n is ln n just above the loss?
    """
    return {"least_symbols": (16, 109, 256, 3, 2)}


@exercise.wrong("how-it-breaks")
def one_digit_a_byte():
    """That has another number of digits for each weight. A weight has 4 bytes, and a byte, of 8
    bits, is written with two hex digits of 4 bits.

    How many digits has one weight?
    """
    return {"hex_digits": (1000, 2000, 4000, 16_000, 32_000)}


@exercise.wrong("how-it-breaks")
def every_digit_even():
    """That is the loss if all 8 digits were even. One of them costs nothing, since it is known.

    Add up eight losses, of which one is 0. What is their mean?
    """
    return {"half_known": math.log(16)}


@exercise.wrong("how-it-breaks")
def mean_over_seven_or_none():
    """That is a sum over the digits of a number, or a mean of something else. The eight digits
    count the same, and the loss is asked for one digit.

    7 times ln 16 and once 0: by how many do you divide?
    """
    return {
        "half_known": (7 * math.log(16), math.log(14), math.log(15), math.log(16) / 8)
    }


@exercise.wrong("how-it-breaks")
def in_bits():
    """That is in bits. Asked for are nats, with the natural logarithm.

    A digit with 16 even values costs 4 bits. How much is that in nats?
    """
    return {"half_known": (3.5, 4)}


@exercise.wrong("how-it-breaks")
def one_position_not_known():
    """That is the loss of a model which does not know the position, so the fixed digit and the
    others look alike to it.

    A model that knows it may treat each position by itself. What does the fixed digit cost
    then?
    """
    p = torch.tensor([7 / 128 + 1 / 8] + [7 / 128] * 15, dtype=torch.float64)
    return {"half_known": -(p * p.log()).sum().item()}
