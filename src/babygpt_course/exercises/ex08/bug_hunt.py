"""08.4: a GPT whose MLP can only add, and whose wide layer buys nothing."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.parts import Weights

exercise = Exercise(
    chapter="08_gpt",
    id="08.4",
    title="Bug hunt: the layer that only adds",
    kind="bug hunt",
    points=3,
    minutes=10,
    anchor="why-it-works",
    hints="""
    Two parts write into the stream. Which of them never writes a number below about -0.17,
    whatever the weights are? Which function in the code has such a smallest value?

    Two matrices with nothing between them are one: (x A) B = x (A B). What must stand
    between the two, so that 4C channels are worth more than C?

    In the MLP: widen x with w["up"], then bend each of the 4C numbers with `gelu`, then
    come back with w["down"]. Nothing is bent after that.
    """,
)

SHAPES = {
    "token": "VC",
    "position": "TC",
    "q": "CC",
    "k": "CC",
    "v": "CC",
    "proj": "CC",
    "up": "CU",
    "down": "UC",
    "head": "CV",
}


def random_weights(seed, V, T, C, dtype=torch.float32):
    """The weights of a GPT with one block and one head, by name."""
    generator = torch.Generator().manual_seed(seed)
    size = {"V": V, "T": T, "C": C, "U": 4 * C}
    code = f"random_weights({seed}, {V}, {T}, {C}"
    code += ")" if dtype == torch.float32 else f", {dtype})"
    made = {}
    for name, (rows, columns) in SHAPES.items():
        shape = size[rows], size[columns]
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        made[name] = numbers.to(dtype)
    return Weights(code, made)


@exercise.oracle
def gpt(idx, w):
    C = w["token"].shape[1]
    texts = []
    for ids in idx.tolist():
        stream = [w["token"][i] + w["position"][t] for t, i in enumerate(ids)]
        reads = [normed(x) for x in stream]
        q, k, v = ([x @ w[name] for x in reads] for name in "qkv")
        for t in range(len(ids)):
            scores = [(q[t] * k[s]).sum() / math.sqrt(C) for s in range(t + 1)]
            top = max(scores).detach()
            exps = [torch.exp(score - top) for score in scores]
            found = sum(e / sum(exps) * v[s] for s, e in enumerate(exps))
            stream[t] = stream[t] + found @ w["proj"]
        for t, x in enumerate(stream):
            hidden = normed(x) @ w["up"]
            inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
            bent = 0.5 * hidden * (1 + torch.tanh(inner))
            stream[t] = x + bent @ w["down"]
        texts.append(torch.stack([normed(x) @ w["head"] for x in stream]))
    return torch.stack(texts)


def normed(x):
    d = x - x.mean()
    return d / (d.pow(2).mean() + 1e-5).sqrt()


# The code of the exercise, in parts that can be exchanged.


def norm(x):
    return F.layer_norm(x, x.shape[-1:])


def gelu(x):
    return F.gelu(x, approximate="tanh")


def attention(x, w):
    q, k, v = (x @ w[name] for name in ("q", "k", "v"))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True) @ w["proj"]


def with_mlp(mlp):
    """The GPT with another MLP: `mlp` gets x and the matrices up and down."""

    def made(idx, w):
        x = w["token"][idx] + w["position"][: idx.shape[1]]
        x = x + attention(norm(x), w)
        x = x + mlp(norm(x), w["up"], w["down"])
        return norm(x) @ w["head"]

    made.__name__, made.__doc__ = mlp.__name__, mlp.__doc__
    return made


@exercise.given
def bent_behind_both(idx, w):
    return with_mlp(lambda x, up, down: gelu(x @ up @ down))(idx, w)


def random_case(B, T, V, C, seed, dtype=torch.float64, room=0):
    generator = torch.Generator().manual_seed(100 + seed)
    idx = torch.randint(V, (B, T), generator=generator)
    return idx, random_weights(seed, V, T + room, C, dtype)


@exercise.cases
def cases():
    yield Case((torch.tensor([[0]]), random_weights(0, 2, 1, 3)))
    yield Case((torch.tensor([[1, 0]]), random_weights(1, 2, 2, 3)))
    yield Case((torch.tensor([[0, 1], [2, 1]]), random_weights(2, 3, 2, 3)))
    for seed, (B, T, V, C) in enumerate([(1, 3, 4, 3), (2, 4, 3, 5), (3, 2, 6, 4)], 3):
        yield Case(random_case(B, T, V, C, seed))
        yield Case(random_case(B, T, V, C, seed, torch.float32), "float32")
    yield Case(random_case(2, 3, 5, 4, 6, room=3), "shorter than it could be")
    yield Case(random_case(1, 2, 3, 3, 7), gradient=True)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
@with_mlp
def bent_between(x, up, down):
    return gelu(x @ up) @ down


@exercise.right
@with_mlp
def with_a_name_for_the_wide_channels(x, up, down):
    hidden = torch.matmul(x, up)
    return torch.einsum("...u,uc->...c", torch.nn.GELU("tanh")(hidden), down)


@exercise.right
@with_mlp
def with_linear_layers(x, up, down):
    return F.linear(gelu(F.linear(x, up.T)), down.T)


@exercise.right
@with_mlp
def channel_by_channel(x, up, down):
    return sum(gelu(x @ up[:, u])[..., None] * down[u] for u in range(len(down)))


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("why-it-works")
@with_mlp
def bend_taken_away(x, up, down):
    """The GELU is gone, so the MLP can write negative numbers too. And it is one matrix now,
    from C to C, whatever stands between the two.

    What can 4C channels do that C cannot, if nothing happens to them? Where does a function
    have to stand so that the two matrices do not become one?
    """
    return x @ up @ down


@exercise.wrong("why-it-works")
@with_mlp
def bent_twice(x, up, down):
    """There is a GELU between the two matrices now, and the one behind them is still there: what
    the MLP writes never goes below -0.17.

    The stream must be able to go down as well as up. Which of the two functions is in the
    way?
    """
    return gelu(gelu(x @ up) @ down)


@exercise.wrong("why-it-works")
@with_mlp
def bent_before_both(x, up, down):
    """The GELU stands before the two matrices. They still follow each other with nothing between,
    so they are one.

    (gelu(x) A) B = gelu(x) (A B): the 4C channels buy nothing. What must be bent: the C
    numbers that come in, or the 4C in the middle?
    """
    return gelu(x) @ up @ down


@exercise.wrong("why-it-works")
@with_mlp
def bent_before_and_behind(x, up, down):
    """Now there is a GELU before and one behind, and still none between the two matrices.

    How many numbers are there between `up` and `down`? These should be bent, and nothing
    else.
    """
    return gelu(gelu(x) @ up @ down)


@exercise.wrong("why-it-works")
@with_mlp
def bent_before_and_between(x, up, down):
    """The GELU between is right, and another one bends what comes in: the MLP can hardly see
    negative numbers any more.

    What does the norm hand over, and why should half of it be lost?
    """
    return gelu(gelu(x) @ up) @ down


@exercise.wrong("by-hand")
@with_mlp
def relu_for_gelu(x, up, down):
    """The function stands in the right place, and it is another one: ReLU.

    It was the place that was wrong, not the function. What did the given code bend with?
    """
    return F.relu(x @ up) @ down


@exercise.wrong("by-hand")
@with_mlp
def exact_gelu(x, up, down):
    """The function stands in the right place, and it is the exact GELU. The given code had the
    approximation by tanh, which the package uses too.

    The two are nearly alike. Which arguments did the given code call it with?
    """
    return F.gelu(x @ up) @ down


@exercise.wrong("by-hand")
@with_mlp
def another_bend(x, up, down):
    """The function stands in the right place, and it is another one: SiLU.

    It was the place that was wrong, not the function. What did the given code bend with?
    """
    return F.silu(x @ up) @ down


@exercise.wrong("why-it-works")
@with_mlp
def painted_over(x, up, down):
    """The result is shifted, scaled or turned so that it can be negative. The two matrices are
    still one: what was wrong inside has only been painted over.

    -0.17 was the symptom. What can 4C channels do, as long as nothing happens to them?
    """
    return F.elu(x @ up @ down)


@exercise.also(painted_over)
@with_mlp
def tanh_behind_both(x, up, down):
    return torch.tanh(x @ up @ down)


@exercise.also(painted_over)
@with_mlp
def twice_as_large(x, up, down):
    return 2 * gelu(x @ up @ down)


@exercise.also(painted_over)
@with_mlp
def normalized_behind_both(x, up, down):
    return norm(gelu(x @ up @ down))


@exercise.also(painted_over)
@with_mlp
def leaky_behind_both(x, up, down):
    return F.leaky_relu(x @ up @ down)


@exercise.also(painted_over)
@with_mlp
def matrices_bent(x, up, down):
    return x @ gelu(up) @ down


@exercise.wrong("why-it-works")
def stream_bent(idx, w):
    """The GELU has moved out of the MLP onto the stream: now the whole stream is bent, and with it
    everything that was in it.

    Nothing but additions stands on the way of the stream. Inside the MLP, where is there
    something to bend?
    """
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    x = x + attention(norm(x), w)
    x = gelu(x + norm(x) @ w["up"] @ w["down"])
    return norm(x) @ w["head"]


@exercise.wrong("why-it-works")
def stream_replaced(idx, w):
    """The MLP is right now, and it replaces the stream: the sum is gone.

    The given code had `x = x + mlp(...)`, and that was no fault. What is left of the token
    otherwise?
    """
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    x = x + attention(norm(x), w)
    x = gelu(norm(x) @ w["up"]) @ w["down"]
    return norm(x) @ w["head"]


@exercise.wrong("why-it-works")
def read_without_norm(idx, w):
    """The MLP is right now, and it reads the stream without a norm. The given code had one, and
    that was no fault.

    What did `gpt` hand to the MLP?
    """
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    x = x + attention(norm(x), w)
    x = x + gelu(x @ w["up"]) @ w["down"]
    return norm(x) @ w["head"]


@exercise.wrong("by-hand")
def mlp_left_out(idx, w):
    """The MLP does not write into the stream any more. The fault is gone, and two thirds of the
    block with it.

    It has something to do: widen, bend, come back. Which of the three stood in the wrong
    place?
    """
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    return norm(x + attention(norm(x), w)) @ w["head"]


@exercise.wrong("by-hand")
def attention_bent(idx, w):
    """The MLP is right now, and attention has changed as well: what it brings is bent, or it reads
    what comes later.

    Attention writes numbers on both sides of 0, and no position reads the future. There was
    one fault only. What else have you changed?
    """
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    x = x + gelu(attention(norm(x), w))
    x = x + gelu(norm(x) @ w["up"]) @ w["down"]
    return norm(x) @ w["head"]


@exercise.also(attention_bent)
def attention_without_mask(idx, w):
    x = w["token"][idx] + w["position"][: idx.shape[1]]
    q, k, v = (norm(x) @ w[name] for name in ("q", "k", "v"))
    x = x + F.scaled_dot_product_attention(q, k, v) @ w["proj"]
    x = x + gelu(norm(x) @ w["up"]) @ w["down"]
    return norm(x) @ w["head"]


@exercise.wrong("by-hand")
def mlp_alone(idx, w):
    """You have handed in the MLP; the check calls `gpt` with ids, which is the whole model.

    `check` gets the function that puts the parts together. Which name stands in the cell
    above?
    """
    return gelu(idx @ w["up"]) @ w["down"]


@exercise.caught_as("no-gradient")
def gradient_cut(idx, w):
    return gpt(idx, w).detach()


@exercise.caught_as("wrong-gradient")
def gradient_of_the_wide_layer_cut(idx, w):
    return with_mlp(lambda x, up, down: gelu(x @ up.detach()) @ down)(idx, w)


@exercise.caught_as("modified-input")
def weights_scaled_in_place(idx, w):
    w["up"] *= 2
    return gpt(idx, w)


@exercise.caught_as("wrong-dtype")
def always_float32(idx, w):
    return gpt(idx, w).float()


@exercise.caught_as("wrong-shape")
def last_position_alone(idx, w):
    return gpt(idx, w)[:, -1]


@exercise.caught_as("raised")
def narrow_layer_forgotten(idx, w):
    return with_mlp(lambda x, up, down: gelu(x @ up))(idx, w)


@exercise.caught_as("returned-none")
def nothing_returned(idx, w):
    gpt(idx, w)
