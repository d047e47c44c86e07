"""09.1: how many parameters a configuration has, without building the model."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.rules import forbid
from babygpt_course.gpt import GPT, GPTConfig

exercise = Exercise(
    chapter="09_babygpt",
    id="09.1",
    title="Count before you build",
    kind="implement",
    points=2,
    minutes=9,
    anchor="the-module",
    rules=(
        forbid(
            "GPT GPTConfig n_params numel parameters named_parameters state_dict "
            "count_params Linear Embedding LayerNorm",
            think="Every number that you need is an argument. Multiply and add.",
        ),
    ),
    hints="""
    Go through the model from the ids to the logits. What has parameters on this way, what has
    none, and what is there once, and what once a block?

    Once: V C and T C for the tables, 2 C for the last norm, the head. A block: 3 C C and C C
    for attention, 4 C C and 4 C C for the MLP, 2 C for each of two norms; with biases one
    more for each output of its four layers.

    block = 12 C C + 4 C, and with bias 3 C + C + 4 C + C more. head = 0 if tied, else V C;
    and V more with a bias of its own. Tables + n_layer times block + 2 C + head.
    """,
)

NAMES = "vocab_size block_size n_layer n_head n_embd bias tie head_bias".split()


@exercise.oracle
def count_parameters(
    vocab_size, block_size, n_layer, n_head, n_embd, bias, tie, head_bias
):
    C = n_embd
    shapes = [(vocab_size, C), (block_size, C)]
    for _ in range(n_layer):
        for inputs, outputs in (C, 3 * C), (C, C), (C, 4 * C), (4 * C, C):
            shapes += [(inputs, outputs)] + [(outputs,)] * bias
        shapes += [(C,)] * 4  # a weight and a bias for each of two norms
    shapes += [(C,)] * 2
    shapes += [(vocab_size, C)] * (not tie) + [(vocab_size,)] * head_bias
    total = 0
    for shape in shapes:
        product = 1
        for size in shape:
            product *= size
        total += product
    return total


@exercise.cases
def cases():
    yield Case((2, 3, 1, 1, 1, False, True, False))
    yield Case((2, 3, 1, 1, 1, False, False, False))
    yield Case((2, 3, 1, 1, 1, False, True, True))
    yield Case((2, 3, 1, 1, 1, True, True, False))
    yield Case((2, 3, 1, 1, 2, False, False, True))
    yield Case((2, 3, 2, 1, 2, False, True, False))
    yield Case((2, 3, 2, 2, 2, True, True, False))
    yield Case((5, 3, 2, 2, 4, False, False, True))
    yield Case((16, 16, 4, 4, 16, False, False, True))
    yield Case((16, 32, 8, 8, 32, False, False, True))
    yield Case((109, 64, 8, 8, 256, False, False, True))
    yield Case((50257, 1024, 12, 12, 768, True, True, False))
    yield Case((7, 11, 3, 2, 6, True, False, True))
    yield Case((7, 11, 3, 6, 6, True, True, True))
    yield Case((13, 5, 2, 3, 9, True, False, False))
    yield Case((13, 5, 5, 1, 9, False, True, True))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def one_formula(vocab_size, block_size, n_layer, n_head, n_embd, bias, tie, head_bias):
    V, T, L, C = vocab_size, block_size, n_layer, n_embd
    block = 12 * C**2 + (13 if bias else 4) * C
    return (V + T + 2) * C + L * block + V * C * (1 - tie) + V * head_bias


@exercise.right
def layer_by_layer(*config):
    V, T, L, _, C, bias, tie, head_bias = config

    def linear(inputs, outputs, bias=bias):
        return inputs * outputs + (outputs if bias else 0)

    total = V * C + T * C
    for _ in range(L):
        total += 2 * C + linear(C, 3 * C) + linear(C, C)
        total += 2 * C + linear(C, 4 * C) + linear(4 * C, C)
    total += 2 * C
    if not tie:
        total += linear(C, V, bias=False)
    if head_bias:
        total += V
    return total


@exercise.right
def head_by_head(vocab_size, block_size, n_layer, n_head, n_embd, bias, tie, head_bias):
    C, D = n_embd, n_embd // n_head
    attention = n_head * 3 * (C * D + bias * D) + C * C + bias * C
    mlp = 4 * C * (C + bias) + C * (4 * C + bias)
    head = (vocab_size * C if not tie else 0) + (vocab_size if head_bias else 0)
    tables = C * (vocab_size + block_size)
    return tables + n_layer * (attention + mlp + 4 * C) + 2 * C + head


# --- wrong, each with the misconception behind it -------------------------------------


def counted(config, **change):
    """The right count, with one of its parts changed."""
    V, T, L, H, C, bias, tie, head_bias = config
    p = dict(
        tokens=V * C, positions=T * C, qkv=3 * C * C, proj=C * C, mlp=8 * C * C,
        norms=4 * C, biases=9 * C * bias, last_norm=2 * C,
        head=0 if tie else V * C, head_bias=V * head_bias, blocks=L,
    )  # fmt: skip
    p.update({k: v(V, T, L, H, C, bias, tie, head_bias) for k, v in change.items()})
    block = p["qkv"] + p["proj"] + p["mlp"] + p["norms"] + p["biases"]
    once = p["tokens"] + p["positions"] + p["last_norm"] + p["head"] + p["head_bias"]
    return once + p["blocks"] * block


def nothing(*_):
    return 0


@exercise.wrong("the-module")
def tied_head_counted(*config):
    """The head is counted although it is tied: then it is the token embedding, and that is
    counted already.

    How many tensors of shape (V, C) does a tied model hold?
    """
    return counted(config, head=lambda V, T, L, H, C, *_: V * C)


@exercise.wrong("the-module")
def head_never_counted(*config):
    """The head is left out also when it is not tied. Then it is a table of its own.

    What does `tie = False` mean for the number of tensors of shape (V, C)?
    """
    return counted(config, head=nothing)


@exercise.wrong("the-module")
def tie_turned_around(*config):
    """`tie` is read the wrong way around: the head is counted when it is tied, and left out when
    it is not.

    With `tie = True`, how many tensors of shape (V, C) does the model hold?
    """
    return counted(config, head=lambda V, T, L, H, C, bias, tie, _: V * C * tie)


@exercise.wrong("the-module")
def head_bias_forgotten(*config):
    """The bias of the head is left out: `head_bias` has no effect. It has one number for each id.

    A tied head may have one too, since the embedding has none. What does it add to the
    logits?
    """
    return counted(config, head_bias=nothing)


@exercise.also(head_bias_forgotten)
def head_bias_of_an_untied_head_alone(*config):
    return counted(
        config,
        head_bias=lambda V, T, L, H, C, bias, tie, b: V * (b and not tie),
    )


@exercise.wrong("the-module")
def head_bias_with_bias(*config):
    """The bias of the head follows `bias`. It has a switch of its own, `head_bias`.

    `bias` is about the layers in the blocks. Which argument is about the head?
    """
    return counted(config, head_bias=lambda V, T, L, H, C, bias, *_: V * bias)


@exercise.wrong("the-module")
def head_bias_as_wide_as_the_stream(*config):
    """The bias of the head is counted with C numbers. A bias has one number for each *output* of
    its layer.

    C numbers go into the head. How many come out?
    """
    return counted(config, head_bias=lambda V, T, L, H, C, bias, tie, b: C * b)


@exercise.wrong("the-module")
def biases_forgotten(*config):
    """`bias` has no effect: the layers of the blocks are counted without their biases.

    Four layers in a block, and a bias has one number for each output. How many outputs have
    they together, in units of C?
    """
    return counted(config, biases=nothing)


@exercise.wrong("the-module")
def biases_always_counted(*config):
    """The biases of the blocks' layers are counted whatever `bias` says.

    What does `bias = False` leave out?
    """
    return counted(config, biases=lambda V, T, L, H, C, *_: 9 * C)


@exercise.wrong("the-module")
def one_c_of_biases_a_layer(*config):
    """Every layer is counted with C biases. A layer has one for each output, and two of the four
    have more than C outputs.

    C to 3C, C to C, C to 4C, 4C to C: what are the outputs?
    """
    return counted(config, biases=lambda V, T, L, H, C, bias, *_: 4 * C * bias)


@exercise.wrong("the-module")
def biases_of_the_inputs(*config):
    """The biases are counted by what goes into a layer. They are added to what comes out.

    4C numbers go into the last layer of the MLP. How many numbers does its bias have?
    """
    return counted(config, biases=lambda V, T, L, H, C, bias, *_: 7 * C * bias)


@exercise.wrong("the-module")
def norms_forgotten(*config):
    """The norms of the blocks are left out. Each has a weight and a bias for every channel.

    Two norms in a block: how many numbers is that, in units of C?
    """
    return counted(config, norms=nothing)


@exercise.also(norms_forgotten)
def all_norms_forgotten(*config):
    return counted(config, norms=nothing, last_norm=nothing)


@exercise.wrong("the-module")
def norms_lose_their_bias(*config):
    """The biases of the norms go away with `bias = False`. That switch is about the linear layers
    of the blocks; a norm keeps its weight and its bias.

    How many numbers has a norm of C channels, whatever `bias` says?
    """
    return counted(
        config,
        norms=lambda V, T, L, H, C, bias, *_: (2 + 2 * bias) * C,
        last_norm=lambda V, T, L, H, C, bias, *_: (1 + bias) * C,
    )


@exercise.also(norms_lose_their_bias)
def norms_have_a_weight_alone(*config):
    return counted(
        config,
        norms=lambda V, T, L, H, C, *_: 2 * C,
        last_norm=lambda V, T, L, H, C, *_: C,
    )


@exercise.wrong("the-module")
def one_norm_a_block(*config):
    """Each block is counted with one norm. Attention and MLP have one each.

    Through what does each of the two read the stream?
    """
    return counted(config, norms=lambda V, T, L, H, C, *_: 2 * C)


@exercise.wrong("the-module")
def last_norm_forgotten(*config):
    """The last norm is left out, the one between the last block and the head.

    Through what does the stream go before it becomes logits, and how many numbers has it?
    """
    return counted(config, last_norm=nothing)


@exercise.wrong("the-module")
def positions_forgotten(*config):
    """The position embedding is left out: `block_size` has no effect.

    It is a table with a row for each position that the model can read. How large is it?
    """
    return counted(config, positions=nothing)


@exercise.wrong("the-module")
def positions_added_to_the_vocabulary(*config):
    """The tables of tokens and positions are multiplied into one, as if each id had a row at each
    position.

    They are two tables, and a row of each is looked up and added. How many rows has each?
    """
    return counted(
        config, tokens=lambda V, T, L, H, C, *_: V * T * C, positions=nothing
    )


@exercise.wrong("the-module")
def heads_multiply(*config):
    """The projections are multiplied by the number of heads. Each head has only C / H channels of
    its own, so together they cost the same, however many there are.

    H heads times C / H channels: what is that?
    """
    return counted(config, qkv=lambda V, T, L, H, C, *_: 3 * H * C * C)


@exercise.also(heads_multiply)
def heads_multiply_attention(*config):
    return counted(
        config,
        qkv=lambda V, T, L, H, C, *_: 3 * H * C * C,
        proj=lambda V, T, L, H, C, *_: H * C * C,
    )


@exercise.wrong("the-module")
def one_head_counted(*config):
    """The projections of one head are counted. There are H of them, and each has its own.

    One head makes C / H channels. How many do all heads make together?
    """
    return counted(config, qkv=lambda V, T, L, H, C, *_: 3 * C * (C // H))


@exercise.wrong("the-module")
def output_projection_forgotten(*config):
    """Attention is counted with queries, keys and values alone. There is a fourth layer, from C
    to C, that mixes what the heads bring.

    What does it cost, with and without a bias?
    """
    return counted(
        config,
        proj=nothing,
        biases=lambda V, T, L, H, C, bias, *_: 8 * C * bias,
    )


@exercise.also(output_projection_forgotten)
def output_projection_without_its_weights(*config):
    return counted(config, proj=nothing)


@exercise.wrong("the-module")
def keys_and_values_forgotten(*config):
    """Attention is counted with two layers from C to C. There are queries, keys, values and the
    output.

    How many matrices of C by C are that?
    """
    return counted(config, qkv=lambda V, T, L, H, C, *_: C * C)


@exercise.wrong("the-module")
def one_layer_of_the_mlp(*config):
    """The MLP is counted with one layer. It goes up from C to 4C and down again.

    How many weights has the way up, and how many the way down?
    """
    return counted(config, mlp=lambda V, T, L, H, C, *_: 4 * C * C)


@exercise.wrong("the-module")
def mlp_without_its_width(*config):
    """The MLP is counted as two layers from C to C. Between them it is four times as wide.

    What is the shape of the first matrix, if C numbers go in and 4C come out?
    """
    return counted(config, mlp=lambda V, T, L, H, C, *_: 2 * C * C)


@exercise.also(mlp_without_its_width)
def mlp_with_a_wide_square(*config):
    return counted(config, mlp=lambda V, T, L, H, C, *_: 16 * C * C)


@exercise.wrong("the-module")
def one_block_counted(*config):
    """One block is counted, whatever `n_layer` says.

    Each block has parameters of its own. How many blocks are there?
    """
    return counted(config, blocks=lambda *_: 1)


@exercise.wrong("the-module")
def everything_once_a_layer(*config):
    """The whole model is multiplied by the number of layers: the tables, the last norm and the
    head too.

    What is there once in the model, and what once in each block?
    """
    return config[2] * counted(config, blocks=lambda *_: 1)


@exercise.also(everything_once_a_layer)
def last_norm_once_a_layer(*config):
    return counted(config, last_norm=lambda V, T, L, H, C, *_: 2 * C * L)


@exercise.caught_as("wrong-type")
def a_float(*config):
    return counted(config) * 1.0


@exercise.caught_as("wrong-type")
def in_thousands(*config):
    return f"{counted(config) / 1000:.1f}k"


@exercise.caught_as("returned-none")
def printed_not_returned(*config):
    print(counted(config))


@exercise.caught_as("wrong-arguments")
def config_in_one_argument(config):
    return counted(config)


@exercise.caught_as("forbidden-call")
def built_and_counted(V, T, L, H, C, bias, tie, head_bias):
    with torch.device("meta"):
        config = GPTConfig(V, T, L, H, C, bias=bias, tie=tie, head_bias=head_bias)
        return sum(p.numel() for p in GPT(config).parameters())


@exercise.caught_as("wrong-value")
def two_parts_forgotten(*config):
    return counted(config, positions=nothing, last_norm=nothing)
