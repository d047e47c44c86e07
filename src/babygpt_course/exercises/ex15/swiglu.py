"""15.5: a SwiGLU that costs no more than the MLP it replaces."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="15_llama_1",
    id="15.5",
    title="SwiGLU at equal parameters",
    kind="stretch",
    points=3,
    minutes=9,
    anchor="by-hand",
    rules=(
        forbid(
            "SwiGLU swiglu_mlp LlamaMLP",
            "The package's layer is what you are building. `F.silu` and three products are "
            "enough.",
        ),
    ),
    hints="""
    The old MLP has two matrices, the new one three. If they may not cost more together,
    which share of the old hidden channels is left?

    hidden = the largest multiple of `multiple` with 3 C hidden <= 2 C old_hidden. Then
    each matrix has C hidden numbers: w1 (hidden, C), w2 (C, hidden), w3 (hidden, C),
    one behind the other. y = w2 (silu(w1 x) * w3 x).

    hidden = 2 * old_hidden // 3 // multiple * multiple; n = hidden * C; w1 = flat[:n],
    w2 = flat[n : 2n], w3 = flat[2n : 3n], each reshaped; give back (silu(x @ w1.T) * (x
    @ w3.T)) @ w2.T.
    """,
)


@exercise.oracle
def swiglu(x, flat, old_hidden, multiple):
    C, hidden = x.shape[-1], 0
    while 3 * C * (hidden + multiple) <= 2 * C * old_hidden:
        hidden += multiple
    w1, w2, w3 = flat[: 3 * C * hidden].reshape(3, -1)
    rows = []
    for v in x.reshape(-1, C):
        y = [0.0] * C
        for h in range(hidden):
            gate = sum(w1[h * C + c] * v[c] for c in range(C))
            up = sum(w3[h * C + c] * v[c] for c in range(C))
            inner = gate * torch.sigmoid(gate) * up
            y = [y[c] + w2[c * hidden + h] * inner for c in range(C)]
        rows.append(torch.stack(y))
    return torch.stack(rows).view(x.shape)


def random_case(shape, old_hidden, multiple, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def numbers(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64).to(dtype)

    room = 3 * shape[-1] * (old_hidden + 2 * multiple)  # more than anybody needs
    return numbers(*shape), numbers(room), old_hidden, multiple


@exercise.cases
def cases():
    one = torch.tensor([1.0])
    row = torch.tensor([1.0, 10.0, 3.0, 5.0, 100.0, 7.0, 4.0, 2.0, 6.0, 9.0, 8.0, 1.0])
    yield Case((one, row, 2, 1))
    yield Case((one, torch.cat((row, row)), 4, 1), "not a whole third")
    yield Case((-one, row, 2, 1))
    long = torch.arange(60.0).sin()
    yield Case((torch.tensor([1.0, 2.0]), long, 3, 1))
    yield Case((torch.tensor([1.0, 2.0]), long, 5, 1), "not a whole third")
    yield Case((torch.tensor([1.0, -2.0]), long, 6, 3), "a multiple of 3")
    yield Case((torch.tensor([[2.0, 1.0]]), long, 8, 4), "a multiple of 4")
    yield Case((torch.tensor([[2.0, 1.0], [0.0, 3.0]]), long, 8, 3), "a multiple of 3")
    yield Case((torch.tensor([[2.0, 1.0]]), long, 9, 2), "a multiple of 2")
    for seed, (shape, old, multiple) in enumerate(
        [((2, 3, 4), 16, 1), ((5, 3), 11, 2), ((2, 1, 3, 5), 20, 8)]
    ):
        yield Case(random_case(shape, old, multiple, seed))
        yield Case(random_case(shape, old, multiple, seed, torch.float32), "float32")
    yield Case(random_case((2, 3), 6, 2, 5), gradient=True)
    x, flat, old, multiple = random_case((4, 6, 8), 12, 4, 6)
    yield Case((x[::2, :, ::2], flat[::2], old, multiple), NON_CONTIGUOUS)
    yield Case((x.transpose(0, 1)[..., :4], flat, old, multiple), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def with_linear(x, flat, old_hidden, multiple):
    C = x.shape[-1]
    hidden = old_hidden * 2 // (3 * multiple) * multiple
    w1, w2, w3, _ = flat.split([C * hidden] * 3 + [len(flat) - 3 * C * hidden])
    gate = F.linear(x, w1.reshape(hidden, C))
    up = F.linear(x, w3.reshape(hidden, C))
    return F.linear(gate * gate.sigmoid() * up, w2.reshape(C, hidden))


@exercise.right
def remainder_taken_off(x, flat, old_hidden, multiple):
    C, hidden = x.shape[-1], math.floor(old_hidden * 2 / 3 + 1e-9)
    hidden -= hidden % multiple
    at, parts = 0, []
    for rows, columns in ((hidden, C), (C, hidden), (hidden, C)):
        parts.append(flat[at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    w1, w2, w3 = parts
    return torch.einsum("...h,ch->...c", F.silu(x @ w1.mT) * (x @ w3.mT), w2)


@exercise.right
def channel_by_channel(x, flat, old_hidden, multiple):
    C, budget = x.shape[-1], 2 * x.shape[-1] * old_hidden
    hidden = max(h for h in range(0, budget + 1, multiple) if 3 * C * h <= budget)
    w1, w2, w3 = (flat[i * C * hidden : (i + 1) * C * hidden] for i in range(3))
    y = torch.zeros_like(x)
    for h in range(hidden):
        gate = (x * w1[h * C : h * C + C]).sum(-1, keepdim=True)
        up = (x * w3[h * C : h * C + C]).sum(-1, keepdim=True)
        y = y + torch.nn.functional.silu(gate) * up * w2[h::hidden]
    return y


# --- wrong, each with the misconception behind it -------------------------------------


def made(
    x,
    flat,
    old,
    multiple,
    hidden=lambda old, m: 2 * old // 3 // m * m,
    parts=lambda w1, w2, w3: (w1, w2, w3),
    inner=lambda gate, up: F.silu(gate) * up,
    read=lambda w, rows, columns: w.reshape(rows, columns),
):
    """The right answer, of which one part at a time is replaced."""
    C, h = x.shape[-1], hidden(old, multiple)
    n = C * h
    w1, w2, w3 = parts(flat[:n], flat[n : 2 * n], flat[2 * n : 3 * n])
    w1, w2, w3 = read(w1, h, C), read(w2, C, h), read(w3, h, C)
    return inner(x @ w1.T, x @ w3.T) @ w2.T


@exercise.wrong("by-hand")
def old_hidden_kept(x, flat, old_hidden, multiple):
    """The hidden size is that of the old MLP (rounded to a multiple). With three
    matrices instead of two that is half as many parameters again.

    Two matrices of C times 6 have 12 C numbers. How many channels have three matrices
    with as many?
    """
    return made(x, flat, old_hidden, multiple, hidden=lambda old, m: old // m * m)


@exercise.also(old_hidden_kept)
def old_hidden_kept_as_it_is(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple, hidden=lambda old, m: old)


@exercise.wrong("by-hand")
def half_the_hidden(x, flat, old_hidden, multiple):
    """The hidden size is half of the old one. That would be right for four matrices.

    There are three. Which share of 6 channels may each have, so that 3 C h is no more
    than 2 C 6?
    """
    return made(x, flat, old_hidden, multiple, hidden=lambda old, m: old // 2 // m * m)


@exercise.wrong("by-hand")
def eight_thirds_of_the_old(x, flat, old_hidden, multiple):
    """The 8/3 in "8/3 C" is counted from C, with an old MLP of 4C. `old_hidden` is that
    4C already.

    Two thirds of the old hidden channels: how many are that for 6?
    """
    C = x.shape[-1]

    def eight_thirds(old, m):
        return 8 * C // 3 // m * m

    return made(x, flat, old_hidden, multiple, hidden=eight_thirds)


@exercise.wrong("by-hand")
def rounded_up(x, flat, old_hidden, multiple):
    """The hidden size is rounded *up* to a multiple, as Meta's code does it. Then the
    new MLP costs more than the old one; here it may not.

    Two thirds of 5 are 3.33. Which whole number keeps three matrices below the price of
    the two?
    """
    return made(
        x, flat, old_hidden, multiple, hidden=lambda old, m: -(-2 * old // (3 * m)) * m
    )


@exercise.also(rounded_up)
def rounded_down_and_then_up(x, flat, old_hidden, multiple):
    return made(
        x,
        flat,
        old_hidden,
        multiple,
        hidden=lambda old, m: -(-(2 * old // 3) // m) * m,
    )


@exercise.wrong("by-hand")
def rounded_to_the_nearest(x, flat, old_hidden, multiple):
    """The hidden size is rounded to the nearest multiple, which may lie above. Then the
    new MLP costs more than the old one.

    "At most as many" leaves only one direction. Which?
    """
    return made(
        x,
        flat,
        old_hidden,
        multiple,
        hidden=lambda old, m: round(2 * old / 3 / m) * m,
    )


@exercise.wrong("by-hand")
def multiple_ignored(x, flat, old_hidden, multiple):
    """`multiple` has no effect: the hidden size is just two thirds of the old one.

    Hardware likes round sizes. Which is the largest multiple of 3 that is no more than
    4?
    """
    return made(x, flat, old_hidden, multiple, hidden=lambda old, m: 2 * old // 3)


@exercise.wrong("by-hand")
def divided_before_multiplied(x, flat, old_hidden, multiple):
    """The hidden size comes out too small, because it is rounded too early: 5 // 3 * 2
    is 2, and 2 * 5 // 3 is 3.

    Which comes first, so that nothing is cut off before the end?
    """
    return made(
        x,
        flat,
        old_hidden,
        multiple,
        hidden=lambda old, m: old // 3 * 2 // m * m,
    )


@exercise.also(divided_before_multiplied)
def old_hidden_rounded_first(x, flat, old_hidden, multiple):
    return made(
        x,
        flat,
        old_hidden,
        multiple,
        hidden=lambda old, m: old // m * m * 2 // 3 // m * m,
    )


@exercise.wrong("by-hand")
def gate_and_value_swapped(x, flat, old_hidden, multiple):
    """w1 and w3 have changed places: silu bends w3 x, and w1 x is multiplied with it.

    Which of the two is the gate?
    """
    return made(x, flat, old_hidden, multiple, parts=lambda a, b, c: (c, b, a))


@exercise.wrong("by-hand")
def way_back_read_last(x, flat, old_hidden, multiple):
    """The matrices are read in another order than they lie there: the second one is w2,
    the way back to C channels, and the third one w3.

    w1, w2, w3. Which numbers does your w2 get?
    """
    return made(x, flat, old_hidden, multiple, parts=lambda a, b, c: (a, c, b))


@exercise.also(way_back_read_last)
def way_back_read_first(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple, parts=lambda a, b, c: (b, a, c))


@exercise.wrong("the-module")
def columns_for_rows(x, flat, old_hidden, multiple):
    """The numbers of a matrix are read column by column. They lie row by row: w1 has a
    row of C numbers for each hidden channel.

    w1 is (hidden, C). Which numbers of the row are its first row?
    """
    return made(
        x,
        flat,
        old_hidden,
        multiple,
        read=lambda w, rows, columns: w.reshape(columns, rows).T,
    )


@exercise.wrong("the-module")
def only_the_first_two_turned(x, flat, old_hidden, multiple):
    """One of the matrices is read as if its sides were swapped: rows become columns.

    w1 and w3 are (hidden, C), and w2 is (C, hidden). Which of them do you read in
    another shape?
    """
    C, h = x.shape[-1], 2 * old_hidden // 3 // multiple * multiple
    n = C * h
    w1, w2, w3 = (flat[i * n : (i + 1) * n] for i in range(3))
    inner = F.silu(x @ w1.reshape(C, h)) * (x @ w3.reshape(C, h))
    return inner @ w2.reshape(C, h).T


@exercise.also(only_the_first_two_turned)
def only_the_way_back_turned(x, flat, old_hidden, multiple):
    C, h = x.shape[-1], 2 * old_hidden // 3 // multiple * multiple
    n = C * h
    w1, w2, w3 = (flat[i * n : (i + 1) * n] for i in range(3))
    inner = F.silu(x @ w1.reshape(h, C).T) * (x @ w3.reshape(h, C).T)
    return inner @ w2.reshape(h, C)


@exercise.wrong("by-hand")
def sigmoid_gate(x, flat, old_hidden, multiple):
    """The gate is a sigmoid alone. silu is more: z times the sigmoid of z.

    Where does w1 x = -5 lead: near 0 from above, or a little below?
    """

    def inner(gate, up):
        return gate.sigmoid() * up

    return made(x, flat, old_hidden, multiple, inner=inner)


@exercise.wrong("by-hand")
def gelu_gate(x, flat, old_hidden, multiple):
    """The bend is another one: GELU, or ReLU. The S in SwiGLU stands for Swish, another
    name of SiLU.

    silu(z) = z times the sigmoid of z. Which function do you call?
    """
    return made(x, flat, old_hidden, multiple, inner=lambda g, up: F.gelu(g) * up)


@exercise.also(gelu_gate)
def gelu_gate_by_tanh(x, flat, old_hidden, multiple):
    def inner(gate, up):
        return F.gelu(gate, approximate="tanh") * up

    return made(x, flat, old_hidden, multiple, inner=inner)


@exercise.also(gelu_gate)
def relu_gate(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple, inner=lambda g, up: F.relu(g) * up)


@exercise.wrong("by-hand")
def no_bend(x, flat, old_hidden, multiple):
    """The two are multiplied, and nothing is bent.

    Which of the two goes through silu first?
    """
    return made(x, flat, old_hidden, multiple, inner=lambda gate, up: gate * up)


@exercise.wrong("by-hand")
def both_bent(x, flat, old_hidden, multiple):
    """Both are bent, or their product is. Only the gate, w1 x, goes through silu; w3 x
    stays as it is.

    What can w3 x hand on that silu could not: large numbers below 0. Where is your
    second silu?
    """

    def inner(gate, up):
        return F.silu(gate) * F.silu(up)

    return made(x, flat, old_hidden, multiple, inner=inner)


@exercise.also(both_bent)
def product_bent(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple, inner=lambda gate, up: F.silu(gate * up))


@exercise.wrong("by-hand")
def added_and_not_multiplied(x, flat, old_hidden, multiple):
    """The two are added. A gate multiplies: where it is 0, nothing passes.

    What passes in your code when silu(w1 x) is 0?
    """
    return made(x, flat, old_hidden, multiple, inner=lambda gate, up: F.silu(gate) + up)


@exercise.wrong("by-hand")
def no_gate(x, flat, old_hidden, multiple):
    """One of the two ways in is missing: this is an MLP of two matrices, with a hidden
    size that is now too small.

    Three matrices: what does w1 make, what w3, and what happens with the two?
    """
    return made(x, flat, old_hidden, multiple, inner=lambda gate, up: F.silu(gate))


@exercise.also(no_gate)
def only_the_value(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple, inner=lambda gate, up: up)


@exercise.wrong("the-module")
def residual_added(x, flat, old_hidden, multiple):
    """x is added to the result. The sum is made by the block around it, and would be
    made twice.

    A layer that puts out 0 changes nothing in the stream. What does yours put out then?
    """
    return x + made(x, flat, old_hidden, multiple)


@exercise.wrong("by-hand")
def taken_from_the_end(x, flat, old_hidden, multiple):
    """The numbers are taken from the end of the row. Yours are the first ones; what
    comes behind them belongs to somebody else.

    At which place of the row does w1 begin?
    """
    hidden = 2 * old_hidden // 3 // multiple * multiple
    return made(x, flat[-3 * x.shape[-1] * hidden :], old_hidden, multiple)


@exercise.wrong("by-hand")
def cut_in_thirds(x, flat, old_hidden, multiple):
    """The whole row is cut in three parts, and each matrix takes the beginning of one.
    The matrices lie one right behind the other, and the row goes on behind them.

    w1 has C times hidden numbers. Where does w2 begin?
    """
    third = len(flat) // 3
    hidden = 2 * old_hidden // 3 // multiple * multiple
    n = x.shape[-1] * hidden
    row = torch.cat([flat[i * third :][:n] for i in range(3)])
    return made(x, row, old_hidden, multiple)


@exercise.wrong("by-hand")
def multiples_counted(x, flat, old_hidden, multiple):
    """The hidden size is how many multiples fit, and not how many channels that makes.

    Two multiples of 4 fit into 10. How many channels are these?
    """
    return made(x, flat, old_hidden, multiple, hidden=lambda old, m: 2 * old // 3 // m)


@exercise.wrong("by-hand")
def result_bent(x, flat, old_hidden, multiple):
    """The result is bent once more, behind w2. What a layer writes into the stream must
    be able to go far below 0.

    How many times does silu stand in the formula, and where?
    """
    return F.silu(made(x, flat, old_hidden, multiple))


@exercise.wrong("by-hand")
def sign_in_silu(x, flat, old_hidden, multiple):
    """Your silu has a wrong sign in its exponent: large numbers become nearly 0, where
    they should stay.

    silu(z) = z / (1 + exp(-z)). What is it at 10?
    """

    def inner(gate, up):
        return gate / (1 + gate.exp()) * up

    return made(x, flat, old_hidden, multiple, inner=inner)


def _without_the_multiple(of, hidden):
    def function(x, flat, old_hidden, multiple):
        C = x.shape[-1]
        return made(x, flat, old_hidden, multiple, hidden=lambda old, m: hidden(old, C))

    function.__name__ = f"{of.__name__}_and_multiple_ignored"
    exercise.also(of)(function)


_without_the_multiple(half_the_hidden, lambda old, C: old // 2)
_without_the_multiple(eight_thirds_of_the_old, lambda old, C: 8 * C // 3)
_without_the_multiple(rounded_up, lambda old, C: math.ceil(2 * old / 3))
_without_the_multiple(rounded_to_the_nearest, lambda old, C: round(2 * old / 3))
_without_the_multiple(divided_before_multiplied, lambda old, C: old // 3 * 2)


@exercise.caught_as("modified-input")
def scaled_in_place(x, flat, old_hidden, multiple):
    y = made(x, flat, old_hidden, multiple)
    flat *= 2
    return y


@exercise.caught_as("wrong-dtype")
def always_float32(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple).float()


@exercise.caught_as("wrong-shape")
def flattened(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple).reshape(-1, 1, x.shape[-1])


@exercise.caught_as("no-gradient")
def gradient_cut(x, flat, old_hidden, multiple):
    return made(x, flat, old_hidden, multiple).detach()


@exercise.caught_as("wrong-gradient")
def gradient_of_the_gate_cut(x, flat, old_hidden, multiple):
    def inner(gate, up):
        return F.silu(gate.detach()) * up

    return made(x, flat, old_hidden, multiple, inner=inner)


@exercise.caught_as("non-contiguous")
def view_of_the_row(x, flat, old_hidden, multiple):
    return made(
        x, flat.view(1, -1).view(-1).as_strided(flat.shape, (1,)), old_hidden, multiple
    )


@exercise.caught_as("raised")
def matrices_not_turned(x, flat, old_hidden, multiple):
    C, h = x.shape[-1], 2 * old_hidden // 3 // multiple * multiple
    w1 = flat[: C * h + 1].reshape(h, C)
    return F.silu(x @ w1.T)


@exercise.caught_as("returned-none")
def nothing_returned(x, flat, old_hidden, multiple):
    made(x, flat, old_hidden, multiple)


@exercise.caught_as("forbidden-call")
def by_the_package(x, flat, old_hidden, multiple):
    from babygpt_course.llama import SwiGLU

    C, h = x.shape[-1], 2 * old_hidden // 3 // multiple * multiple
    layer = SwiGLU(C, h)
    parts = flat[: 3 * C * h].reshape(3, -1)
    own = {
        "w1.weight": parts[0].reshape(h, C),
        "w2.weight": parts[1].reshape(C, h),
        "w3.weight": parts[2].reshape(h, C),
    }
    return torch.func.functional_call(layer, own, x)
