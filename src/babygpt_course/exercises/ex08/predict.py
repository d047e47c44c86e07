"""08.3: numbers of a GPT and its layers, said before they are run."""

import functools

import torch
import torch.nn.functional as F

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.gpt import GPT, Block, GPTConfig

V, C, H = 50, 64, 4
LONGEST, T, B = 32, 16, 8

exercise = Prediction(
    chapter="08_gpt",
    id="08.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    For each number ask first: which row, which position or which channel does this
    depend on? What is never looked at gets no gradient.

    Each position has V logits, and may read what is not later. A tied head uses every row of
    the table for every prediction. A layer norm divides by the size of what it reads.

    logits = B * T * V. Moved: positions 5 to 15. Positions: 32 - 16 rows are never looked
    up. Matrices of a block, in units of C * C: 3 + 1 for attention and 4 + 4 for the MLP; two
    in a row with nothing between are one, from C to C. Independent numbers: the variances add
    up.
    """,
)


@functools.cache
def model(tie=True):
    """A small GPT with weights that are not all alike."""
    with torch.random.fork_rng():  # the notebook's random numbers stay as they are
        torch.manual_seed(0)
        return GPT(GPTConfig(V, LONGEST, 2, H, C, tie=tie))


@functools.cache
def gradients(tie):
    """The gradients of one step, on texts in which only the ids 0 to 19 occur."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(20, (B, T + 1), generator=generator)
    text[0], text[1] = torch.arange(T + 1), torch.arange(3, T + 4)
    parameters = dict(model(tie).named_parameters())
    _, loss = model(tie)(text[:, :-1], text[:, 1:])
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()))))


def dead_rows(tie, name):
    return (gradients(tie)[f"{name}.weight"] == 0).all(dim=1).sum().item()


@exercise.question
def logits():
    """B = 8 texts of T = 16 ids go into a GPT with V = 50 and C = 64. How many logits come
    out?

    Every position of every text says something about every id that may come next. How many
    numbers is that?
    """
    return model()(torch.zeros(B, T, dtype=torch.int64))[0].numel()


@exercise.question
def logits_moved():
    """In one text of T = 16 ids the id at position 5 is exchanged for another one. Positions
    count from 0. At how many positions do the logits change?

    Who may read position 5? Does it read itself?
    """
    ids = torch.arange(T)[None]
    other = ids.clone()
    other[0, 5] = 40
    with torch.no_grad():
        moved = (model()(ids)[0] - model()(other)[0]).abs().amax(dim=-1) > 1e-6
    return moved.sum().item()


@exercise.question
def unused_positions():
    """A GPT could read 32 positions, and is trained on texts of 16 ids alone. How many rows of
    its position embedding never get a gradient?

    Which rows are looked up for a text of 16 ids?
    """
    return dead_rows(True, "position_embedding")


@exercise.question
def unused_rows():
    """V = 50, and only 20 different ids occur in the training text. The head is a layer of its
    own. How many rows of the token embedding never get a gradient?

    A row is looked up when its id is read. Which rows are never looked up?
    """
    return dead_rows(False, "token_embedding")


@exercise.question
def unused_rows_tied():
    """The same text, with 20 of 50 ids, but the head is tied: it is the token embedding. How
    many rows of this one table never get a gradient?

    The softmax pushes down every id that was not the right one. With what are the logits
    made?
    """
    return dead_rows(True, "token_embedding")


@exercise.question
def mlp_share():
    """The matrices of a block, without biases and norms: C to 3C and C to C in attention, C to
    4C and 4C to C in the MLP. Which share of their weights is in the MLP?

    Count each matrix in units of C * C. How many are there in all?
    """
    with torch.device("meta"):
        block = Block(GPTConfig(V, LONGEST, 2, H, C, bias=False), fused=True)
    parts = block.mlp, block.attention
    mlp, attention = (sum(p.numel() for p in part.parameters()) for part in parts)
    return mlp / (mlp + attention)


@exercise.question
def collapsed_weights():
    """An MLP from 64 to 256 to 64 channels has lost the function between its two layers, and
    neither has a bias. How many weights has the one matrix that does the same?

    What goes into the first layer, and what comes out of the second?
    """
    up, down = torch.ones(4 * C, C), torch.ones(C, 4 * C)
    return (down @ up).numel()


@exercise.question
def written_by_attention():
    """All numbers of the residual stream are multiplied by 10 before a pre-norm block. By which
    factor does what its attention adds to the stream grow?

    Attention does not read the stream itself. What does it read, and how large is that?
    """
    block = model().blocks[0].double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, T, C, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        small, large = (block.attention(block.norm1(s * x)) for s in (1, 10))
    return (large.norm() / small.norm()).item()


@exercise.question
def sum_of_16():
    """A model of 8 blocks adds 16 things to its stream. They are independent, and each has mean
    0 and deviation 1. What is the deviation of their sum?

    Variances of independent numbers add up. What is the variance of the sum, and its root?
    """
    return torch.eye(16).sum(dim=0).norm().item()  # 16 directions at right angles


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def as_floats():
    return {key: float(value) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {key: torch.tensor(value) for key, value in exercise.truth().items()}


@exercise.right
def worked_out_in_other_words():
    x = torch.arange(1.0, 9)
    return {
        "logits": 128 * 50,
        "logits_moved": len(range(5, 16)),
        "unused_positions": 16.0,
        "unused_rows": 50 - 20,
        "unused_rows_tied": 0,
        "mlp_share": 0.67,
        "collapsed_weights": 64**2,
        "written_by_attention": (F.layer_norm(10 * x, (8,)) / F.layer_norm(x, (8,)))[0],
        "sum_of_16": 16**0.5,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("vectorize")
def channels_for_logits():
    """That counts the channels of the stream. The head turns them into one number for each id
    of the vocabulary.

    After the head the C is gone. What stands in its place?
    """
    return {"logits": (B * T * C, B * T * C * V, T * C)}


@exercise.wrong("vectorize")
def one_prediction_a_text():
    """That is one prediction for each text, or for one text only. Every position predicts what
    comes after it.

    How many positions have all texts together?
    """
    return {"logits": (B * V, V, T * V)}


@exercise.wrong("vectorize")
def one_number_a_position():
    """That is one number for each position. A prediction has a number for every id.

    How many ids can come next?
    """
    return {"logits": (B * T, T)}


@exercise.wrong("by-hand")
def only_the_position_itself():
    """That says that position 5 is read by itself alone. Attention lets later positions read it
    too.

    Position 15 reads positions 0 to 15. Does position 5 belong to them?
    """
    return {"logits_moved": 1}


@exercise.wrong("by-hand")
def earlier_positions_too():
    """That says that earlier positions see the change. Behind a causal mask none of them may:
    they predict what comes before it.

    Who may read position 5, and who may not?
    """
    return {"logits_moved": (16, 5, 6)}


@exercise.wrong("by-hand")
def counted_one_off():
    """That leaves out position 5 itself, or counts one too many. Positions 5 to 15 may read
    position 5.

    Position 5 reads itself too. How many numbers are there from 5 to 15?
    """
    return {"logits_moved": (10, 12)}


@exercise.wrong("by-hand")
def positions_can_be_carried_over():
    """That says that every row learns. A row is changed when it was looked up, and texts of 16
    ids look up the first rows alone.

    Which row is looked up for the id at position 20 of a text of 16 ids?
    """
    return {"unused_positions": (0, 32)}


@exercise.wrong("by-hand")
def positions_counted_one_off():
    """Count again: positions 0 to 15 are looked up, and the table has the rows 0 to 31.

    Which row does the last of 16 ids look up?
    """
    return {"unused_positions": (15, 17)}


@exercise.wrong("by-hand")
def rows_that_are_used():
    """That is the number of rows that do get a gradient. Asked for are the others.

    How many of 50 ids are never read?
    """
    return {"unused_rows": 20}


@exercise.wrong("by-hand")
def the_embedding_predicts():
    """That says that every row learns. It would, if this table made the logits. With a head of
    its own the model only *reads* with it.

    What happens to the row of an id that never occurs?
    """
    return {"unused_rows": 0}


@exercise.wrong("by-hand")
def tied_rows_stay_as_they_are():
    """That is right for a table which is only read. Tied, it also makes the logits: the row of
    each id is multiplied with what the last norm puts out.

    A softmax has a number for each of 50 ids. Is there one which the loss does not want to
    push, up or down?
    """
    return {"unused_rows_tied": (30, 20, 50)}


@exercise.wrong("the-module")
def half_of_the_block():
    """That says that attention and MLP are equally large. Attention has four matrices of C by C,
    counting queries, keys and values one by one.

    The MLP has two, each from or to 4C. How many times C * C are those?
    """
    return {"mlp_share": 0.5}


@exercise.wrong("the-module")
def output_of_attention_forgotten():
    """That leaves out a matrix of attention: beside queries, keys and values there is the output
    from C to C.

    3 + 1 in attention. How many in the MLP, and how many in all?
    """
    return {"mlp_share": 8 / 11}


@exercise.wrong("the-module")
def one_layer_of_the_mlp():
    """That counts one layer of the MLP. There are two: up from C to 4C, and down again.

    How many times C * C are both together?
    """
    return {"mlp_share": (4 / 7, 2 / 10)}


@exercise.wrong("the-module")
def share_of_attention_or_ratio():
    """That is the share of attention, or how many times as large the MLP is. Asked for is the
    share of the MLP in all of it, a number between 0 and 1.

    In units of C * C: eight of how many are in the MLP?
    """
    return {"mlp_share": (4 / 12, 2, 8, 66.67, 67)}


@exercise.wrong("why-it-works")
def both_matrices_counted():
    """That is how many weights the two matrices have. Multiplied with each other they are one
    matrix, and the 256 channels between are gone.

    A product of (64, 256) and (256, 64): which shape has it?
    """
    return {"collapsed_weights": (2 * 4 * C * C, 4 * C * C)}


@exercise.wrong("why-it-works")
def inner_size_kept():
    """That keeps the 256 channels. They are between the two layers, and nobody sees them from
    outside.

    64 numbers go in and 64 come out. Which shape has a matrix that does this?
    """
    return {"collapsed_weights": (16 * C * C, 4 * C, C, 2 * C)}


@exercise.wrong("why-it-works")
def stream_read_directly():
    """That says that attention reads the stream itself. It reads it through a layer norm, which
    divides by its deviation.

    What does a layer norm make of numbers that are all ten times as large?
    """
    return {"written_by_attention": (10, 100, 10**0.5)}


@exercise.wrong("why-it-works")
def divided_by_the_scale():
    """That says that attention adds less. What it reads is exactly as large as before, so what it
    adds is too. Only beside a stream that is ten times as large it *looks* small.

    Ten times the stream, divided by ten times the deviation: what comes out of the norm?
    """
    return {"written_by_attention": (0.1, 0.01, 0)}


@exercise.wrong("why-it-works")
def deviations_added_up():
    """That adds up the deviations. They only add up if all 16 always point the same way.
    Independent numbers partly cancel.

    It is the variances that add up. What is the variance of the sum?
    """
    return {"sum_of_16": 16}


@exercise.wrong("why-it-works")
def blocks_counted_instead_of_sums():
    """That counts the blocks. Each of them adds to the stream twice: attention, then the MLP.

    How many independent things are added up?
    """
    return {"sum_of_16": (8, 8**0.5)}


@exercise.wrong("why-it-works")
def deviation_of_a_mean():
    """That is the deviation of one of them, or of their mean. A stream adds up, it does not
    average.

    The variance of a sum of 16 is 16 times as large. And its root?
    """
    return {"sum_of_16": (1, 0.25, 0.0625, 0)}
