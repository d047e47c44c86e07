"""15.4: a LLaMA layer whose output depends on where the text stands."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.parts import Weights

exercise = Exercise(
    chapter="15_llama_1",
    id="15.4",
    title="Bug hunt: the same text elsewhere",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="the-module",
    equivalent={
        "return torch.stack(y, dim=-2).flatten(-2)": "Queries and keys get their channels "
        "in another order, both the same one, and a product of the two does not see it.",
        "return torch.stack(y, dim=-1).flatten(2)": "In (B, T, D / 2, 2) axis 2 and axis -2 "
        "are the same one.",
    },
    hints="""
    The scores do not change when the text moves, and what attention brings does. It is
    a sum over the earlier positions. What is summed, and what are the scores only
    weights for?

    A turn is there so that q.k depends on the distance alone: the turns of the two meet
    in a product, and their difference is left. Which of the three, q, k and v, never
    meets another turned one?

    Take q, k and v apart first. Then turn q, turn k, and leave v as it is.
    """,
)


SHAPES = {"qkv": "CA", "out": "CC", "w1": "CU", "w2": "UC", "w3": "CU"}


def random_weights(seed, C, dtype=torch.float32):
    """The weights of a LLaMA layer with one head, by name."""
    generator = torch.Generator().manual_seed(seed)
    size = {"C": C, "A": 3 * C, "U": 8 * C // 3}
    code = f"random_weights({seed}, {C}"
    code += ")" if dtype == torch.float32 else f", {dtype})"
    made = {}
    for name, (rows, columns) in SHAPES.items():
        shape = size[rows], size[columns]
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        made[name] = (numbers / math.sqrt(shape[0])).to(dtype)
    return Weights(code, made)


@exercise.oracle
def layer(x, w, start):
    C, texts = x.shape[-1], []

    def norm(v):
        return v / (v.pow(2).mean() + 1e-5).sqrt()

    def turned(v, position):
        out = []
        for i in range(C // 2):
            angle = position * 10_000 ** (-2 * i / C)
            cos, sin = math.cos(angle), math.sin(angle)
            a, b = v[2 * i], v[2 * i + 1]
            out += [a * cos - b * sin, a * sin + b * cos]
        return torch.stack(out)

    for text in x:
        parts = [(norm(v) @ w["qkv"]).split(C) for v in text]
        q = [turned(q, start + t) for t, (q, _, _) in enumerate(parts)]
        k = [turned(k, start + t) for t, (_, k, _) in enumerate(parts)]
        rows = []
        for t, v in enumerate(text):
            exps = [torch.exp(q[t] @ k[s] / math.sqrt(C)) for s in range(t + 1)]
            found = sum(e / sum(exps) * parts[s][2] for s, e in enumerate(exps))
            v = v + found @ w["out"]
            gate, up = norm(v) @ w["w1"], norm(v) @ w["w3"]
            rows.append(v + (gate * torch.sigmoid(gate) * up) @ w["w2"])
        texts.append(torch.stack(rows))
    return torch.stack(texts)


# The code of the exercise, in parts that can be exchanged.


def norm(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def rotate(x, start, way=1):
    T, D = x.shape[-2:]
    rate = 10_000.0 ** (-torch.arange(0, D, 2) / D)
    angle = way * (start + torch.arange(T))[:, None] * rate
    a, b, cos, sin = x[..., ::2], x[..., 1::2], angle.cos(), angle.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


def attend(q, k, v, w):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True) @ w["out"]


def swiglu(x, w):
    return (F.silu(x @ w["w1"]) * (x @ w["w3"])) @ w["w2"]


def with_attention(attention):
    """The layer with another attention, which gets q, k, v, w and start."""

    def made(x, w, start):
        qkv = (norm(x) @ w["qkv"]).unflatten(-1, (3, -1)).movedim(-2, 0)
        x = x + attention(*qkv, w, start)
        return x + swiglu(norm(x), w)

    made.__name__, made.__doc__ = attention.__name__, attention.__doc__
    return made


@exercise.given
def values_turned_too(x, w, start):
    def attention(q, k, v, w, start):
        q, k, v = (rotate(part, start) for part in (q, k, v))
        return attend(q, k, v, w)

    return with_attention(attention)(x, w, start)


def random_case(B, T, C, seed, start, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 + seed)
    x = torch.randn(B, T, C, generator=generator, dtype=torch.float64).to(dtype)
    return x, random_weights(seed, C, dtype), start


@exercise.cases
def cases():
    yield Case((torch.tensor([[[3.0, 1.0]]]), random_weights(0, 2), 0), "position 0")
    yield Case((torch.tensor([[[3.0, 1.0]]]), random_weights(0, 2), 1))
    yield Case((torch.tensor([[[1.0, 0.0], [2.0, -1.0]]]), random_weights(1, 2), 0))
    yield Case((torch.tensor([[[1.0, 0.0], [2.0, -1.0]]]), random_weights(1, 2), 9))
    yield Case(random_case(2, 2, 4, 2, 5, torch.float32))
    for seed, (B, T, C, start) in enumerate(
        [(1, 5, 4, 0), (2, 4, 6, 30), (3, 2, 8, 7)], 3
    ):
        yield Case(random_case(B, T, C, seed, start))
        yield Case(random_case(B, T, C, seed, start, torch.float32), "float32")
    yield Case(random_case(2, 3, 4, 7, 2), gradient=True)
    x, w, start = random_case(3, 8, 4, 8, 11)
    yield Case((x[::2, ::2], w, start), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
@with_attention
def queries_and_keys_turned(q, k, v, w, start):
    return attend(rotate(q, start), rotate(k, start), v, w)


@exercise.right
def turned_together_and_values_apart(x, w, start):
    q, k, v = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    q, k = rotate(torch.stack((q, k)), start)
    x = x + attend(q, k, v, w)
    return x + swiglu(norm(x), w)


@exercise.right
@with_attention
def counted_from_zero_on(q, k, v, w, start):
    return attend(rotate(q, 0), rotate(k, 0), v, w)


@exercise.right
@with_attention
def by_the_scores(q, k, v, w, start):
    T, C = q.shape[-2:]
    scores = rotate(q, start) @ rotate(k, start).mT / C**0.5
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1) @ v @ w["out"]


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("why-it-works")
@with_attention
def nothing_turned(q, k, v, w, start):
    """Nothing is turned any more, or all rows by the same angle, which comes to the
    same. The output does not depend on the place, because no position means anything: a
    word next to this one counts like one far away.

    Scores should depend on the distance. Which two of the three make a score?
    """
    return attend(q, k, v, w)


@exercise.also(nothing_turned)
@with_attention
def all_at_one_position(q, k, v, w, start):
    q, k = (rotate(part[..., None, :], start)[..., 0, :] for part in (q, k))
    return attend(q, k, v, w)


@exercise.wrong("why-it-works")
@with_attention
def only_queries_turned(q, k, v, w, start):
    """Only the queries are turned. Then a score depends on where the query stands, and
    not on the distance.

    Two turns must meet, so that their difference is left. Which two?
    """
    return attend(rotate(q, start), k, v, w)


@exercise.wrong("why-it-works")
@with_attention
def only_keys_turned(q, k, v, w, start):
    """Only the keys are turned. Then a score depends on where the key stands, and not
    on the distance.

    Two turns must meet, so that their difference is left. Which two?
    """
    return attend(q, rotate(k, start), v, w)


@exercise.wrong("the-module")
@with_attention
def only_values_turned(q, k, v, w, start):
    """Now only the values are turned, and the scores know nothing of positions.

    It is the other way round: which two of the three are compared with each other?
    """
    return attend(q, k, rotate(v, start), w)


@exercise.wrong("the-module")
@with_attention
def values_and_queries_turned(q, k, v, w, start):
    """One of the two that are compared is not turned any more, and the values still
    are.

    Which two make a score? These are turned, and nothing else.
    """
    return attend(rotate(q, start), k, rotate(v, start), w)


@exercise.also(values_and_queries_turned)
@with_attention
def values_and_keys_turned(q, k, v, w, start):
    return attend(q, rotate(k, start), rotate(v, start), w)


@exercise.wrong("the-module")
@with_attention
def turned_back_behind(q, k, v, w, start):
    """What attention brings is turned back by the position that reads. Then the output
    does not depend on the place any more, but the values still arrive turned by their
    distance: that is another layer than LLaMA's.

    The shortest way is to leave the values alone. Which line turns them?
    """
    q, k, v = (rotate(part, start) for part in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return rotate(y, start, -1) @ w["out"]


@exercise.wrong("the-module")
@with_attention
def start_ignored(q, k, v, w, start):
    """The text always stands at 0 in your code, so the symptom is gone: the same text
    gives the same output. The fault is still there for the rows *in* it, the second one
    and all after it.

    Take the same two words at the beginning and at the end of one text. What do they
    bring to a word right after them?
    """
    q, k, v = (rotate(part, 0) for part in (q, k, v))
    return attend(q, k, v, w)


@exercise.wrong("why-it-works")
@with_attention
def keys_turned_the_other_way(q, k, v, w, start):
    """Queries and keys are turned in opposite senses. Then a score depends on the *sum*
    of the two positions.

    At positions 8 and 5 the difference should be left, 3. What is left when one of the
    turns has a minus?
    """
    return attend(rotate(q, start), rotate(k, start, -1), v, w)


@exercise.wrong("by-hand")
@with_attention
def both_the_other_way(q, k, v, w, start):
    """The values are left alone now, and queries and keys turn the other way than
    before. The given code turned them right.

    What has become of the sign of the angle?
    """
    return attend(rotate(q, start, -1), rotate(k, start, -1), v, w)


def whole(x, w, start, attention=None, read=norm, mlp=None, add=True):
    """The layer, mended, of which one part at a time is replaced."""
    q, k, v = (read(x) @ w["qkv"]).chunk(3, dim=-1)
    found = (attention or attend)(rotate(q, start), rotate(k, start), v, w)
    x = x + found if add else found
    return x + (mlp or swiglu)(norm(x), w)


@exercise.wrong("the-module")
def turned_before_the_matrix(x, w, start):
    """The stream is turned before q, k and v are made of it. So all three know the
    place, and the scores are no longer relative: the matrix stands between the turns.

    Between the turn of q and that of k nothing may stand but the product. Where is the
    turn to be made?
    """
    q, k, v = (rotate(norm(x), start) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(q, k, v, w)
    return x + swiglu(norm(x), w)


@exercise.wrong("the-module")
def stream_turned(x, w, start):
    """The values are left alone now, and the stream is turned instead, which is worse:
    every layer would turn it again.

    What may stand on the way of the stream? Only additions.
    """
    return whole(rotate(x, start), w, start)


@exercise.wrong("by-hand")
def without_mask(x, w, start):
    """The values are left alone now, and the mask is gone: positions read what comes
    later.

    There was one fault only. What else have you changed?
    """

    def attention(q, k, v, w):
        return F.scaled_dot_product_attention(q, k, v) @ w["out"]

    return whole(x, w, start, attention)


@exercise.wrong("by-hand")
def not_scaled(x, w, start):
    """The values are left alone now, and the scores are no longer divided by the root
    of the head's size.

    `scaled_dot_product_attention` did that by itself. What does your code do?
    """

    def attention(q, k, v, w):
        return attend(q * q.shape[-1] ** 0.5, k, v, w)

    return whole(x, w, start, attention)


@exercise.wrong("by-hand")
def last_matrix_forgotten(x, w, start):
    """The values are left alone now, and what attention brings is not multiplied by
    `out` any more.

    There was one fault only. What else have you changed?
    """

    def attention(q, k, v, w):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return whole(x, w, start, attention)


@exercise.wrong("by-hand")
def stream_replaced(x, w, start):
    """The values are left alone now, and attention replaces the stream: the sum is
    gone.

    The given code added. What is left of x otherwise?
    """
    return whole(x, w, start, add=False)


@exercise.wrong("by-hand")
def mlp_left_out(x, w, start):
    """The values are left alone now, and the MLP is missing.

    There was one fault only. What else have you changed?
    """
    return whole(x, w, start, mlp=lambda x, w: 0)


@exercise.wrong("by-hand")
def read_without_norm(x, w, start):
    """The values are left alone now, and attention reads the stream without a norm.

    The given code had one. What else have you changed?
    """
    return whole(x, w, start, read=lambda x: x)


@exercise.wrong("by-hand")
def parts_in_another_order(x, w, start):
    """The matrix makes q, k and v in this order, and you take them in another one.

    Which third of the columns of `qkv` makes the values?
    """
    v, q, k = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(rotate(q, start), rotate(k, start), v, w)
    return x + swiglu(norm(x), w)


@exercise.also(parts_in_another_order)
def queries_and_keys_swapped(x, w, start):
    k, q, v = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(rotate(q, start), rotate(k, start), v, w)
    return x + swiglu(norm(x), w)


@exercise.also(parts_in_another_order)
def values_second(x, w, start):
    q, v, k = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(rotate(q, start), rotate(k, start), v, w)
    return x + swiglu(norm(x), w)


@exercise.also(parts_in_another_order)
def values_second_and_keys_first(x, w, start):
    k, v, q = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(rotate(q, start), rotate(k, start), v, w)
    return x + swiglu(norm(x), w)


@exercise.also(parts_in_another_order)
def in_reverse(x, w, start):
    v, k, q = (norm(x) @ w["qkv"]).chunk(3, dim=-1)
    x = x + attend(rotate(q, start), rotate(k, start), v, w)
    return x + swiglu(norm(x), w)


@exercise.wrong("why-it-works")
@with_attention
def keys_counted_from_zero_on(q, k, v, w, start):
    """Queries and keys are counted from different places, so every distance is wrong by
    that much.

    Row t stands at position start + t, whether it asks or is asked. How far is a row
    from itself?
    """
    return attend(rotate(q, start), rotate(k, 0), v, w)


@exercise.also(keys_counted_from_zero_on)
@with_attention
def queries_counted_from_zero_on(q, k, v, w, start):
    return attend(rotate(q, 0), rotate(k, start), v, w)


@exercise.also(keys_counted_from_zero_on)
@with_attention
def queries_one_further_on(q, k, v, w, start):
    return attend(rotate(q, start + 1), rotate(k, start), v, w)


@exercise.wrong("the-module")
@with_attention
def result_turned(q, k, v, w, start):
    """The values are left alone, and what attention brings is turned instead. So it
    depends on where the reading row stands.

    What is turned besides q and k? It should be nothing.
    """
    return rotate(attend(rotate(q, start), rotate(k, start), v, w), start)


@exercise.also(result_turned)
@with_attention
def result_turned_before_the_matrix(q, k, v, w, start):
    q, k = rotate(q, start), rotate(k, start)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return rotate(y, start) @ w["out"]


@exercise.wrong("by-hand")
def turned_twice(x, w, start):
    """Queries and keys are turned twice, so that every distance counts double.

    How often does your code call `rotate` for q?
    """

    def attention(q, k, v, w):
        return attend(rotate(q, start), rotate(k, start), v, w)

    return whole(x, w, start, attention)


@exercise.wrong("by-hand")
def attention_alone(x, w, start):
    """You have handed in the attention; the check calls `layer`, which has the norms,
    the sums and the MLP around it.

    `check` gets the function that puts the parts together. Which name stands in the
    cell above?
    """
    q, k, v = (x @ w["qkv"]).chunk(3, dim=-1)
    return attend(rotate(q, start), rotate(k, start), v, w)


@exercise.caught_as("no-gradient")
def gradient_cut(x, w, start):
    return layer(x, w, start).detach()


@exercise.caught_as("wrong-gradient")
def gradient_of_the_values_cut(x, w, start):
    def attention(q, k, v, w):
        return attend(q, k, v.detach(), w)

    return whole(x, w, start, attention)


@exercise.caught_as("modified-input")
def added_in_place(x, w, start):
    x += whole(x, w, start) - x
    return x


@exercise.caught_as("wrong-dtype")
def always_float32(x, w, start):
    return whole(x, w, start).float()


@exercise.caught_as("wrong-shape")
def last_position_alone(x, w, start):
    return whole(x, w, start)[:, -1]


@exercise.caught_as("raised")
def three_from_two(x, w, start):
    q, k, v = (norm(x) @ w["qkv"]).chunk(2, dim=-1)
    return attend(q, k, v, w)


@exercise.caught_as("returned-none")
def nothing_returned(x, w, start):
    whole(x, w, start)
