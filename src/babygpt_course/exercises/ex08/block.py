"""08.2: a block that reads the residual stream through a norm and adds to it, twice."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.parts import Part

exercise = Exercise(
    chapter="08_gpt",
    id="08.2",
    title="Read, compute, add",
    kind="implement",
    points=2,
    minutes=7,
    anchor="by-hand",
    hints="""
    The stream runs straight through the block. Who reads from it, through what, and what
    happens with the result? How often?

    x is the stream. First x + attention(norm1(x)). That is the stream that the second half
    reads and adds to, with norm2 and mlp in the same places.

    A line for each half: the new x is the old x plus attention of norm1 of the old x; then
    the same with mlp and norm2, from the x that the first line made. Give back the last x.
    """,
)


@exercise.oracle
def block(x, norm1, attention, norm2, mlp):
    middle, out = x.clone(), x.clone()
    written = attention(norm1(x))
    for b, t, c in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        middle[b, t, c] = x[b, t, c] + written[b, t, c]
    written = mlp(norm2(middle))
    for b, t, c in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        out[b, t, c] = middle[b, t, c] + written[b, t, c]
    return out


def parts(*codes):
    return tuple(Part(f"lambda x: {code}") for code in codes)


CENTER = "x - x.mean(-1, keepdim=True)"
NORM = "torch.nn.functional.layer_norm(x, x.shape[-1:])"
SO_FAR = "x.cumsum(1)"  # like attention: a position reads those before it
REAL = NORM, f"({SO_FAR}).tanh()", f"0.5 * {NORM} + 1", "x.relu() @ x.new_ones(C, C)"


def random_x(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


@exercise.cases
def cases():
    three = torch.tensor([[[3.0]]])
    yield Case((three, *parts("x - 1", "10 * x", "x - 3", "100 * x")))
    yield Case((three, *parts("x + 1", "x * x", "2 * x", "x - 5")))
    yield Case((three, *parts("x", "0 * x", "x", "0 * x")), "nothing is added")
    yield Case((three, *parts("x - 1", "10 * x", "x", "0 * x")))
    yield Case((three, *parts("x", "0 * x", "x - 3", "100 * x")))
    row = torch.tensor([[[1.0, 3.0], [2.0, 8.0]]])
    yield Case((row, *parts(CENTER, SO_FAR, "x / 2", "x.flip(-1)")))
    yield Case((row, *parts("x / 2", "x.flip(-1)", CENTER, "x ** 2")))
    codes = [code.replace("(C, C)", "(x.shape[-1], x.shape[-1])") for code in REAL]
    for seed, shape in enumerate([(1, 2, 3), (2, 3, 4), (3, 2, 5)]):
        yield Case((random_x(*shape, seed=seed), *parts(*codes)))
        x = random_x(*shape, seed=seed, dtype=torch.float32)
        yield Case((x, *parts(*codes)), "float32")
    yield Case((random_x(1, 2, 2, seed=4), *parts(*codes)), gradient=True)
    x = random_x(4, 4, 3, seed=5)
    yield Case((x[::2, ::2], *parts(*codes)), NON_CONTIGUOUS)
    yield Case((x.transpose(0, 1), *parts(*codes)), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_names(x, norm1, attention, norm2, mlp):
    after_attention = x + attention(norm1(x))
    return after_attention + mlp(norm2(after_attention))


@exercise.right
def two_halves_in_a_loop(x, norm1, attention, norm2, mlp):
    for norm, layer in ((norm1, attention), (norm2, mlp)):
        x = x + layer(norm(x))
    return x


@exercise.right
def what_is_written_first(x, norm1, attention, norm2, mlp):
    first = attention(norm1(x))
    second = mlp(norm2(x + first))
    return x + first + second


@exercise.right
def added_to_a_copy(x, norm1, attention, norm2, mlp):
    stream = x.clone()
    stream += attention(norm1(x))
    return torch.add(stream, mlp(norm2(stream.clone())))


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("why-it-works")
def post_norm(x, norm1, attention, norm2, mlp):
    """The norms stand after the sums. That is the block of the first transformer, post-norm:
    the stream itself goes through every norm.

    In a pre-norm block nothing but additions stands on the way of the stream. What does each
    norm stand before?
    """
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


@exercise.wrong("why-it-works")
def norm_of_what_is_written(x, norm1, attention, norm2, mlp):
    """Each norm is applied to the result of its layer; it should be applied to what the layer
    reads.

    Attention gets the stream as it is here, however large it has become. What should it
    get?
    """
    x = x + norm1(attention(x))
    return x + norm2(mlp(x))


@exercise.wrong("why-it-works")
def no_residual(x, norm1, attention, norm2, mlp):
    """The stream is replaced by what the layers compute; they should add to it.

    If both layers put out 0, the block should change nothing. What does yours give back
    then?
    """
    return mlp(norm2(attention(norm1(x))))


@exercise.wrong("why-it-works")
def no_residual_around_attention(x, norm1, attention, norm2, mlp):
    """Attention replaces the stream; it should add to it. Only the second half has its sum.

    What is left of the token itself after the first line?
    """
    x = attention(norm1(x))
    return x + mlp(norm2(x))


@exercise.wrong("why-it-works")
def no_residual_around_the_mlp(x, norm1, attention, norm2, mlp):
    """The MLP replaces the stream; it should add to it. Only the first half has its sum.

    What is left of what attention wrote, if the MLP puts out 0?
    """
    x = x + attention(norm1(x))
    return mlp(norm2(x))


@exercise.wrong("why-it-works")
def normalized_stream_kept(x, norm1, attention, norm2, mlp):
    """x is overwritten by its norm, and the sum then starts from that. So the stream goes
    through every norm, and a block that adds nothing still changes it.

    The norm is what the layer reads. What does the layer add to?
    """
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


@exercise.wrong("why-it-works")
def normalized_stream_kept_once(x, norm1, attention, norm2, mlp):
    """In one of the two halves x is overwritten by its norm, and the sum starts from that.

    The norm is what the layer reads. What does the layer add to?
    """
    x = norm1(x)
    x = x + attention(x)
    return x + mlp(norm2(x))


@exercise.also(normalized_stream_kept_once)
def normalized_stream_kept_for_the_mlp(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    x = norm2(x)
    return x + mlp(x)


@exercise.wrong("by-hand")
def side_by_side(x, norm1, attention, norm2, mlp):
    """Attention and MLP both read the stream as it comes into the block: they work side by
    side. Some models do that; here the MLP comes second.

    What should the MLP know that attention has just found?
    """
    return x + attention(norm1(x)) + mlp(norm2(x))


@exercise.wrong("by-hand")
def second_sum_from_the_start(x, norm1, attention, norm2, mlp):
    """The MLP reads the right stream, and its result is added to the old one: what attention
    wrote is lost at the end.

    The second line adds to the x that the first line made. To which x does yours add?
    """
    return x + mlp(norm2(x + attention(norm1(x))))


@exercise.wrong("by-hand")
def mlp_reads_attention_alone(x, norm1, attention, norm2, mlp):
    """The MLP reads what attention wrote, and nothing else of the stream.

    After the first sum the stream holds the token and what attention found. Which of the two
    does your MLP see?
    """
    written = attention(norm1(x))
    return x + written + mlp(norm2(written))


@exercise.also(mlp_reads_attention_alone)
def mlp_after_attention_in_one_branch(x, norm1, attention, norm2, mlp):
    return x + mlp(norm2(attention(norm1(x))))


@exercise.wrong("by-hand")
def mlp_first(x, norm1, attention, norm2, mlp):
    """The MLP comes first and attention second.

    First read what the others have, then think about it. Which of the two lines comes first?
    """
    x = x + mlp(norm2(x))
    return x + attention(norm1(x))


@exercise.also(mlp_first)
def mlp_first_through_the_first_norm(x, norm1, attention, norm2, mlp):
    x = x + mlp(norm1(x))
    return x + attention(norm2(x))


@exercise.wrong("by-hand")
def norms_swapped(x, norm1, attention, norm2, mlp):
    """The two norms have changed places. Each has a weight and a bias of its own, so it
    matters.

    Which norm does attention read through?
    """
    x = x + attention(norm2(x))
    return x + mlp(norm1(x))


@exercise.wrong("by-hand")
def first_norm_twice(x, norm1, attention, norm2, mlp):
    """One norm is used in both halves, and the other never. Each has a weight and a bias of
    its own.

    Which norm does attention read through, and which one the MLP?
    """
    x = x + attention(norm1(x))
    return x + mlp(norm1(x))


@exercise.also(first_norm_twice)
def second_norm_twice(x, norm1, attention, norm2, mlp):
    x = x + attention(norm2(x))
    return x + mlp(norm2(x))


@exercise.wrong("why-it-works")
def no_norm(x, norm1, attention, norm2, mlp):
    """Both layers read the stream as it is; the norms are not used.

    The stream grows from block to block. What keeps the layers from getting ever larger
    numbers?
    """
    x = x + attention(x)
    return x + mlp(x)


@exercise.wrong("why-it-works")
def no_norm_before_the_mlp(x, norm1, attention, norm2, mlp):
    """One of the two layers reads the stream as it is, without its norm.

    Two layers read from the stream in a block. Through what does each of them read?
    """
    x = x + attention(norm1(x))
    return x + mlp(x)


@exercise.also(no_norm_before_the_mlp)
def no_norm_before_attention(x, norm1, attention, norm2, mlp):
    x = x + attention(x)
    return x + mlp(norm2(x))


@exercise.wrong("by-hand")
def stream_added_twice(x, norm1, attention, norm2, mlp):
    """The stream that came in is added once more at the end.

    If both layers put out 0, the block should give back x, not 2 x. How many sums has a
    block?
    """
    y = x + attention(norm1(x))
    return x + y + mlp(norm2(y))


@exercise.wrong("by-hand")
def second_half_missing(x, norm1, attention, norm2, mlp):
    """The MLP is not there, or what it computes is not used.

    A block has two halves. What does the second one read, and what does it add to?
    """
    return x + attention(norm1(x))


@exercise.wrong("by-hand")
def first_half_missing(x, norm1, attention, norm2, mlp):
    """Attention is not there, or what it computes is not used: no position reads another.

    A block has two halves. What does the first one read, and what does it add to?
    """
    return x + mlp(norm2(x))


@exercise.wrong("by-hand")
def first_half_twice(x, norm1, attention, norm2, mlp):
    """Attention runs in both halves, and the MLP never.

    Which of the four functions has your second line not used?
    """
    x = x + attention(norm1(x))
    return x + attention(norm2(x))


@exercise.caught_as("modified-input")
def added_into_the_stream(x, norm1, attention, norm2, mlp):
    x += attention(norm1(x))
    x += mlp(norm2(x))
    return x


@exercise.caught_as("no-gradient")
def gradient_cut(x, norm1, attention, norm2, mlp):
    return two_names(x.detach(), norm1, attention, norm2, mlp)


@exercise.caught_as("wrong-gradient")
def stream_without_gradient(x, norm1, attention, norm2, mlp):
    y = x.detach() + attention(norm1(x))
    return y + mlp(norm2(y))


@exercise.caught_as("wrong-dtype")
def always_float32(x, norm1, attention, norm2, mlp):
    return two_names(x, norm1, attention, norm2, mlp).float()


@exercise.caught_as("wrong-type")
def stream_and_what_was_written(x, norm1, attention, norm2, mlp):
    written = attention(norm1(x))
    return x + written, mlp(norm2(x + written))


@exercise.caught_as("returned-none")
def nothing_returned(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    x = x + mlp(norm2(x))


@exercise.caught_as("non-contiguous")
def view_of_the_stream(x, norm1, attention, norm2, mlp):
    flat = x.view(-1, x.shape[-1])
    return two_names(flat.view(x.shape), norm1, attention, norm2, mlp)


@exercise.caught_as("raised")
def parts_joined_to_one(x, norm1, attention, norm2, mlp):
    first, second = norm1 @ attention, norm2 @ mlp
    x = x + first(x)
    return x + second(x)
