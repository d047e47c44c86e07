"""13.4: an int8 layer in which a token is rounded by the company it keeps."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="13_quantization",
    id="13.4",
    title="Bug hunt: the token that minds its neighbors",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="the-module",
    hints="""
    A linear layer looks at each token by itself. Change the last token of a text, and compare what
    the layer gives for all others, before and after. What should you see?

    Which number in the function depends on more than one token? What does a single large token do
    to it, and what does it do to the rounding of all others?

    Every token needs a scale of its own: the largest absolute value along the last axis alone,
    with that axis kept (`keepdim=True`), so that the scale is (..., 1).
    """,
)


@exercise.oracle
def int8_linear(x, codes, scale, bias):
    rows = x.reshape(-1, x.shape[-1]).tolist()
    weights, scales, biases = codes.tolist(), scale.flatten().tolist(), bias.tolist()
    out = []
    for row in rows:
        s = max(abs(v) for v in row) / 127 or 1.0
        q = [round(v / s) for v in row]
        out.append(
            [
                sum(a * b for a, b in zip(q, w)) * s * sw + b0
                for w, sw, b0 in zip(weights, scales, biases)
            ]
        )
    return torch.tensor(out, dtype=x.dtype).reshape(*x.shape[:-1], len(weights))


def layer(
    x,
    codes,
    scale,
    bias,
    most=lambda x: x.abs().amax(-1, keepdim=True),
    least=1e-30,
    top=127,
    code=torch.round,
    multiply=lambda q, codes: q.int() @ codes.int().T,
    end=None,
):
    """The code of the exercise, of which one part at a time is replaced."""
    sx = (most(x) / top).clamp(min=least)
    q = code(x / sx).long().to(torch.int8)
    y = multiply(q, codes)
    if end is not None:
        return end(y, sx)
    return y * sx * scale.T + bias


def of_all(x):
    return x.abs().amax()


@exercise.given
def one_scale_for_all(*args):
    return layer(*args, most=of_all)


def random_case(shape, n_out, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * torch.logspace(-1, 1, shape[-2], dtype=torch.float64)[:, None]
    codes = torch.randint(-127, 128, (n_out, shape[-1]), generator=generator)
    scale = torch.rand(n_out, 1, generator=generator, dtype=torch.float64) / 100 + 0.001
    bias = torch.randn(n_out, generator=generator, dtype=torch.float64)
    return x.to(dtype), codes.to(torch.int8), scale.to(dtype), bias.to(dtype)


@exercise.cases
def cases():
    codes = torch.tensor([[127, 1], [-50, 100]], dtype=torch.int8)
    scale, bias = torch.tensor([[0.5], [0.25]]), torch.tensor([0.0, 8.0])
    x = torch.tensor([[127.0, 50.2], [1.3, -2.54], [-12.7, 3.06]])
    yield Case((x[:1], codes, scale, bias), "one token")
    yield Case((x[:2], codes, scale, bias))
    yield Case((x, codes, scale, bias), "a negative one")
    yield Case((torch.zeros(1, 2), codes, scale, bias), "a token of zeros")
    more = torch.tensor([[0.0, 0.0], [2.54, -1.3]])
    yield Case((more, codes, scale, bias), "a token of zeros")
    for seed, (shape, n_out) in enumerate(
        [((4, 3), 5), ((2, 3, 4), 2), ((3, 2, 6), 4), ((2, 5, 5), 5)]
    ):
        yield Case(random_case(shape, n_out, seed))
        yield Case(random_case(shape, n_out, seed, torch.float32), "float32")
    x, codes, scale, bias = random_case((6, 4), 4, 9)
    yield Case((x[::2], codes.T, scale, bias), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def along_the_last_axis(*args):
    return layer(*args)


@exercise.right
def with_max(x, codes, scale, bias):
    sx = x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-8) / 127
    q = torch.round(x / sx)
    return (q @ codes.to(x.dtype).T) * sx * scale.squeeze(1) + bias


@exercise.right
def token_by_token(x, codes, scale, bias):
    flat = x.reshape(-1, x.shape[-1])
    rows = [layer(row, codes, scale, bias, most=of_all) for row in flat[:, None]]
    return torch.cat(rows).view(*x.shape[:-1], -1)


@exercise.right
def in_floats_at_the_end(x, codes, scale, bias):
    sx = x.abs().amax(-1, keepdim=True) / 127
    sx = torch.where(sx == 0, 1, sx)
    return torch.nn.functional.linear((x / sx).round() * sx, codes * scale, bias)


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("the-module")
def one_scale_a_text(*args):
    """Every text has its own scale now, and its tokens still share it: a later token changes how earlier ones are
    rounded.

    How many tokens may a scale belong to? Which axes are left for the maximum?
    """
    return layer(
        *args, most=lambda x: x.abs().amax(tuple(range(x.ndim))[-2:], keepdim=True)
    )


@exercise.wrong("the-module")
def one_scale_a_position(*args):
    """The maximum is taken over the first axis, over all texts of the batch (or over all tokens, when there is only
    one text). A scale that belongs to one number of the input cannot be multiplied in after the sum.

    Which axis does the sum of the layer go along? That one should go into the maximum.
    """
    return layer(*args, most=lambda x: x.abs().amax(0, keepdim=True))


@exercise.wrong("the-module")
def one_scale_a_feature(*args):
    """Every *number* of a token has a scale of its own, shared by all tokens. They are still tied to each other, and
    such scales cannot be multiplied in after the sum.

    Which axis does the sum of the layer go along? That one should go into the maximum.
    """
    return layer(
        *args,
        most=lambda x: x.abs().amax(tuple(range(x.ndim - 1)), keepdim=True),
    )


@exercise.also(one_scale_a_feature)
def one_scale_a_feature_of_each_text(*args):
    return layer(*args, most=lambda x: x.abs().amax(-2, keepdim=True))


@exercise.wrong("the-module")
def same_place_in_all_texts(*args):
    """Tokens at the same place of all texts share a scale: the maximum goes over the first axis as well. What the layer
    says of a text depends on the other texts of the batch.

    How many tokens may a scale belong to? Which one axis is left for the maximum?
    """
    return layer(*args, most=lambda x: x.abs().amax((0, -1), keepdim=True))


@exercise.wrong("the-module")
def axis_one(*args):
    """The maximum is taken along axis 1. For tokens in a list that is the last axis, and in a batch of texts it goes
    over the tokens.

    Which number means the last axis, however many there are?
    """
    return layer(*args, most=lambda x: x.abs().amax(1, keepdim=True))


@exercise.wrong("the-module")
def axis_dropped(*args):
    """The maximum drops its axis, so the scales line up with the wrong axis of x.

    `x / sx` lines the shapes up from the right. Which shape has sx, and which must it have?
    """
    return layer(*args, most=lambda x: x.abs().amax(-1))


@exercise.wrong("the-module")
def scale_of_the_first_token(*args):
    """All tokens are rounded with the scale of the first one. What is larger than the first does not fit into a
    byte.

    How many scales does a text of three tokens need?
    """
    return layer(
        *args,
        most=lambda x: x.reshape(-1, x.shape[-1])[0].abs().amax(),
    )


@exercise.wrong("the-module")
def a_fixed_scale(*args):
    """The scale no longer depends on the input at all. Dynamic means that it is found anew for each token.

    A token of large numbers and one of small ones: which codes do they get with your scale?
    """
    return layer(*args, most=lambda x: x.new_ones(()))


@exercise.also(a_fixed_scale)
def a_fixed_step(*args):
    return layer(*args, most=lambda x: x.new_full((), 127.0))


@exercise.wrong("the-module")
def input_not_rounded(x, codes, scale, bias):
    """The input is not rounded any more. That removes the dependence, and with it the multiplication of whole
    numbers, which is what makes int8 fast.

    q must be whole numbers from -127 to 127. Which scale makes them of a single token?
    """
    return torch.nn.functional.linear(x, codes * scale, bias)


@exercise.wrong("how-it-breaks")
def products_in_a_byte(*args):
    """Every token has its own scale, and the product is computed in int8. 100 times 100 does not fit into a byte: it
    wraps around.

    Which type must the *sum* have? What did the given code multiply?
    """
    return layer(*args, multiply=lambda q, codes: q @ codes.T)


@exercise.also(products_in_a_byte)
def products_in_a_byte_and_a_long_sum(*args):
    return layer(
        *args,
        multiply=lambda q, codes: (q.unsqueeze(-2) * codes).sum(-1),
    )


@exercise.wrong("the-module")
def no_floor_under_the_scale(x, codes, scale, bias):
    """A token of zeros has the scale 0 now, and 0 / 0 is no number. The given code had a line against that.

    What does `clamp(min=...)` do to a scale of 0? Is it still there?
    """
    sx = x.abs().amax(-1, keepdim=True) / 127
    q = (x / sx).round()
    return q @ codes.to(x.dtype).T * sx * scale.T + bias


@exercise.wrong("by-hand")
def sign_ignored(*args):
    """The largest number is taken with its sign. A large negative one is not seen, and its code does not fit into a
    byte.

    Which number of the token 1.3, -2.54 is farthest from zero?
    """
    return layer(*args, most=lambda x: x.amax(-1, keepdim=True))


@exercise.wrong("by-hand")
def cut_off_instead_of_rounded(*args):
    """The tokens have scales of their own, and the digits of x / sx are cut off instead of rounded.

    The given code rounded before it made bytes. Does yours?
    """
    return layer(*args, code=torch.trunc)


@exercise.wrong("by-hand")
def one_code_too_many(*args):
    """The scale is made for a code of 128, and a signed byte ends at 127: the largest number of each token changes its
    sign.

    Which whole numbers can an int8 hold?
    """
    return layer(*args, top=128)


@exercise.wrong("the-module")
def scale_of_the_input_left_out(x, codes, scale, bias):
    """The sums are multiplied by the scale of the weights alone. They are sums of steps of the input, too.

    How large is one step of x? Where does it come back in?
    """
    return layer(x, codes, scale, bias, end=lambda y, sx: y * scale.T + bias)


@exercise.wrong("the-module")
def scale_of_the_weights_left_out(x, codes, scale, bias):
    """The sums are multiplied by the scale of the input alone. Every row of the weights has a scale, too.

    How large is one step of a weight? Where does it come back in?
    """
    return layer(x, codes, scale, bias, end=lambda y, sx: y * sx + bias)


@exercise.wrong("the-module")
def bias_scaled_too(x, codes, scale, bias):
    """The bias is multiplied by the scales. It is in ordinary numbers already.

    For a token of zeros, what should come out?
    """
    return layer(x, codes, scale, bias, end=lambda y, sx: (y + bias) * sx * scale.T)


@exercise.wrong("the-module")
def one_scale_at_the_end(*args):
    """The tokens are rounded with their own scales, and at the end all are multiplied by one: by the largest. Each sum
    must get back the scale that its token was divided by.

    Is the same sx in both lines?
    """
    _, _, scale, bias = args

    def end(y, sx):
        return y * sx.amax() * scale.T + bias

    return layer(*args, end=end)


@exercise.caught_as("raised")
def scales_without_transpose(x, codes, scale, bias):
    return layer(x[..., :1], codes, scale, bias)


@exercise.caught_as("wrong-shape")
def flattened(x, codes, scale, bias):
    return layer(x, codes, scale, bias)[None]


@exercise.caught_as("modified-input")
def divides_in_place(x, codes, scale, bias):
    y = layer(x, codes, scale, bias)
    x /= 127
    return y


@exercise.caught_as("returned-none")
def printed(*args):
    print(layer(*args))


@exercise.caught_as("wrong-type")
def scale_comes_back_too(*args):
    return layer(*args), args[2]


@exercise.caught_as("wrong-dtype")
def in_half(*args):
    return layer(*args).half()
