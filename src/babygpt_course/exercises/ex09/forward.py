"""09.2: the whole model, from ids to logits, out of a state_dict."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.parts import Weights
from babygpt_course.exercises.rules import forbid
from babygpt_course.gpt import GPT, GPTConfig

exercise = Exercise(
    chapter="09_babygpt",
    id="09.2",
    title="Run a file of weights",
    kind="implement",
    points=4,
    minutes=15,
    anchor="vectorize",
    rules=(
        forbid(
            "GPT Block MLP MultiHeadAttention load_state_dict functional_call "
            "multi_head_attention_forward MultiheadAttention TransformerEncoderLayer",
            think="The names tell the parts, and you have built each of them. A lookup, a "
            "norm, a linear layer, attention: `F` has a function for each.",
        ),
    ),
    equivalent={
        name: "Swapping two axes is the same in either order."
        for name in (
            "heads = (y.unflatten(-1, (n_head, -1)).transpose(2, 1) for y in "
            "qkv.chunk(3, dim=-1))",
            "y = y.transpose(2, 1).flatten(2)",
        )
    },
    hints="""
    Go along the stream: what starts it, what reads it and through which norm, what is added
    to it, and what turns it into logits? Which names belong to each step?

    x = token row + position row. In each block: x + proj(heads(qkv(norm1(x)))), then x +
    proj(gelu(fc(norm2(x)))). At the end head(norm(x)). A linear layer is x times its weight
    transposed, plus its bias if there is one.

    Write two helpers: linear(x, name) with F.linear and weights.get(name + ".bias"), and
    norm(x, name) with F.layer_norm. qkv gives q, k, v side by side: chunk(3). Each of them to
    (B, H, T, D); causal attention; back to (B, T, C). F.gelu with approximate="tanh".
    """,
)


def random_weights(
    seed, V, T, L, C, bias=False, tie=False, head_bias=True, dtype=torch.float32
):
    """A state_dict of a GPT whose weights are all drawn at random, norms and biases too."""
    with torch.device("meta"):
        config = GPTConfig(V, T, L, 1, C, bias=bias, tie=tie, head_bias=head_bias)
        shapes = {name: w.shape for name, w in GPT(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
        made[name] = (numbers + ("norm" in name and name.endswith("weight"))).to(dtype)
    if tie:
        made["head.weight"] = made["token_embedding.weight"].clone()
    code = f"random_weights({seed}, {V}, {T}, {L}, {C}"
    for name, value, usual in (
        ("bias", bias, False), ("tie", tie, False), ("head_bias", head_bias, True),
        ("dtype", dtype, torch.float32),
    ):  # fmt: skip
        code += f", {name}={value}" * (value != usual)
    return Weights(f"{code})", made)


def named_weights(code, C, **parts):
    """A model of one block that adds nothing: its norms pass on what they make, its matrices are
    zero. `parts` are the tensors that are not."""
    V, T = len(parts["token"]), len(parts["position"])
    made = random_weights(0, V, T, 1, C)
    for name, tensor in made.items():
        usual = torch.ones_like if "norm" in name else torch.zeros_like
        made[name] = usual(tensor) if name.endswith("weight") else tensor * 0
    made["token_embedding.weight"] = parts["token"]
    made["position_embedding.weight"] = parts["position"]
    made["head.weight"], made["head.bias"] = parts["head"], parts["head_bias"]
    return Weights(code, made)


def silent_block():
    """The weights of the worked case: V = 2, T = 1, C = 2, and a block that adds nothing."""
    return named_weights(
        "silent_block()",
        2,
        token=torch.tensor([[2.0, 0.0], [0.0, 2.0]]),
        position=torch.tensor([[1.0, 1.0]]),
        head=torch.tensor([[5.0, 1.0], [0.0, 3.0]]),
        head_bias=torch.tensor([10.0, 20.0]),
    )


@exercise.oracle
def gpt_logits(idx, weights, n_layer, n_head):
    w, texts = weights, []

    def linear(x, name):
        y = w[f"{name}.weight"] @ x
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    def norm(x, name):
        d = x - x.mean()
        d = d / (d.pow(2).mean() + 1e-5).sqrt()
        return d * w[f"{name}.weight"] + w[f"{name}.bias"]

    def bent(x):
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + torch.tanh(inner))

    for ids in idx.tolist():
        tokens, positions = w["token_embedding.weight"], w["position_embedding.weight"]
        stream = [tokens[i] + positions[t] for t, i in enumerate(ids)]
        for layer in range(n_layer):
            at = f"blocks.{layer}"
            made = [
                linear(norm(x, f"{at}.norm1"), f"{at}.attention.qkv") for x in stream
            ]
            for t, x in enumerate(stream):
                found = one_position(made, t, n_head)
                stream[t] = x + linear(found, f"{at}.attention.proj")
            for t, x in enumerate(stream):
                wide = linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc")
                stream[t] = x + linear(bent(wide), f"{at}.mlp.proj")
        texts.append(torch.stack([linear(norm(x, "norm"), "head") for x in stream]))
    return torch.stack(texts)


def one_position(made, t, n_head):
    """What all heads find at position t; `made` holds q, k, v side by side, a vector each."""
    C = len(made[0]) // 3
    D = C // n_head
    found = []
    for h in range(n_head):
        own = slice(h * D, (h + 1) * D)
        q = made[t][:C][own]
        k, v = ([m[n * C : (n + 1) * C][own] for m in made[: t + 1]] for n in (1, 2))
        scores = [(q * key).sum() / math.sqrt(D) for key in k]
        top = max(scores).detach()
        exps = [torch.exp(score - top) for score in scores]
        found.append(sum(e / sum(exps) * value for e, value in zip(exps, v)))
    return torch.cat(found)


def random_case(B, T, V, L, H, D, seed, dtype=torch.float64, room=0, **options):
    generator = torch.Generator().manual_seed(100 + seed)
    idx = torch.randint(V, (B, T), generator=generator)
    weights = random_weights(seed, V, T + room, L, H * D, dtype=dtype, **options)
    return idx, weights, L, H


@exercise.cases
def cases():
    yield Case((torch.tensor([[0]]), silent_block(), 1, 1))
    yield Case((torch.tensor([[1]]), random_weights(1, 2, 1, 1, 3), 1, 1))
    yield Case((torch.tensor([[1, 0]]), random_weights(2, 2, 2, 1, 3), 1, 1))
    yield Case((torch.tensor([[1, 0], [1, 1]]), random_weights(3, 2, 2, 1, 3), 1, 1))
    yield Case((torch.tensor([[0, 1, 2]]), random_weights(4, 3, 4, 2, 4), 2, 2))
    f32 = torch.float32
    yield Case(random_case(2, 3, 4, 2, 2, 2, 5, f32, bias=True), "float32")
    yield Case(random_case(2, 3, 5, 1, 3, 2, 6, tie=True, head_bias=False))
    yield Case(random_case(1, 4, 4, 2, 1, 4, 7, bias=True, head_bias=False))
    yield Case(random_case(2, 4, 6, 3, 2, 3, 8, room=2, bias=True))
    yield Case(random_case(2, 3, 4, 2, 2, 2, 9, f32, room=1), "float32")
    yield Case(random_case(1, 2, 3, 1, 2, 2, 10), gradient=True)


# --- correct in other ways ------------------------------------------------------------


def linear(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x, weights, name):
    w = weights[f"{name}.weight"]
    return F.layer_norm(x, w.shape, w, weights[f"{name}.bias"])


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


def start(idx, weights):
    positions = weights["position_embedding.weight"][: idx.shape[1]]
    return weights["token_embedding.weight"][idx] + positions


def heads(qkv, n_head, causal=True):
    q, k, v = qkv.chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).flatten(2)


def attention(x, weights, at, n_head):
    y = heads(linear(x, weights, f"{at}.attention.qkv"), n_head)
    return linear(y, weights, f"{at}.attention.proj")


def mlp(x, weights, at, bend=tanh_gelu):
    return linear(bend(linear(x, weights, f"{at}.mlp.fc")), weights, f"{at}.mlp.proj")


def block(x, weights, at, n_head, attention=attention, mlp=mlp):
    x = x + attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head)
    return x + mlp(norm(x, weights, f"{at}.norm2"), weights, at)


def end(x, weights):
    return linear(norm(x, weights, "norm"), weights, "head")


def run(idx, weights, n_layer, n_head, **parts):
    x = start(idx, weights)
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head, **parts)
    return end(x, weights)


@exercise.right
def with_helpers(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head)


@exercise.right
def attention_written_out(idx, weights, n_layer, n_head):
    def written_out(x, weights, at, n_head):
        B, T, C = x.shape
        w, b = (
            weights.get(f"{at}.attention.qkv.{kind}") for kind in ("weight", "bias")
        )
        qkv = x @ w.T + (0 if b is None else b)
        q, k, v = qkv.view(B, T, 3, n_head, C // n_head).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT / math.sqrt(C // n_head)
        seen = torch.ones(T, T, dtype=torch.bool).tril()
        y = scores.masked_fill(~seen, -math.inf).softmax(-1) @ v
        y = y.permute(0, 2, 1, 3).reshape(B, T, C)
        return linear(y, weights, f"{at}.attention.proj")

    return run(idx, weights, n_layer, n_head, attention=written_out)


@exercise.right
def one_head_at_a_time(idx, weights, n_layer, n_head):
    def heads_in_turn(x, weights, at, n_head):
        q, k, v = linear(x, weights, f"{at}.attention.qkv").split(x.shape[-1], dim=2)
        D = x.shape[-1] // n_head
        parts = [
            F.scaled_dot_product_attention(*each, is_causal=True)
            for each in zip(*(y.split(D, dim=-1) for y in (q, k, v)))
        ]
        return linear(torch.cat(parts, dim=-1), weights, f"{at}.attention.proj")

    return run(idx, weights, n_layer, n_head, attention=heads_in_turn)


@exercise.right
def without_any_library_layer(idx, weights, n_layer, n_head):
    w = dict(weights)

    def lin(x, name):
        return torch.einsum("...i,oi->...o", x, w[name + ".weight"]) + w.get(
            name + ".bias", torch.zeros((), dtype=x.dtype)
        )

    def ln(x, name):
        d = x - x.mean(-1, keepdim=True)
        d = d * torch.rsqrt(d.square().mean(-1, keepdim=True) + 1e-5)
        return d * w[name + ".weight"] + w[name + ".bias"]

    def bend(x):
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))

    T = idx.size(1)
    x = F.embedding(idx, w["token_embedding.weight"])
    x = x + F.embedding(torch.arange(T), w["position_embedding.weight"])
    for i in range(n_layer):
        at = f"blocks.{i}."
        y = heads(lin(ln(x, at + "norm1"), at + "attention.qkv"), n_head)
        x = x + lin(y, at + "attention.proj")
        x = x + lin(bend(lin(ln(x, at + "norm2"), at + "mlp.fc")), at + "mlp.proj")
    return lin(ln(x, "norm"), "head")


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("vectorize")
def positions_forgotten(idx, weights, n_layer, n_head):
    """The position embedding is not used: the model cannot tell where an id stands.

    Which name in the weights has a row for each position, and where is it added?
    """
    x = weights["token_embedding.weight"][idx]
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
def positions_looked_up_by_id(idx, weights, n_layer, n_head):
    """The row of the position embedding is looked up with the id. It belongs to the position: the
    first id of a text gets row 0, whatever it is.

    `torch.arange(T)` counts the positions. What are the rows of that table counted by?
    """
    table = weights["position_embedding.weight"]
    x = weights["token_embedding.weight"][idx] + table[idx % len(table)]
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
def every_position_of_the_table(idx, weights, n_layer, n_head):
    """The whole position embedding is added. That fits only a text which is as long as the model
    can read.

    Of a longer table a text of T ids needs the first T rows. How do you cut them out?
    """
    x = weights["token_embedding.weight"][idx] + weights["position_embedding.weight"]
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
def future_not_hidden(idx, weights, n_layer, n_head):
    """Every position reads the future: the attention is not causal.

    `is_causal=True`, or -inf above the diagonal of the scores. Where does your code say it?
    """

    def open_to_all(x, weights, at, n_head):
        y = heads(linear(x, weights, f"{at}.attention.qkv"), n_head, causal=False)
        return linear(y, weights, f"{at}.attention.proj")

    return run(idx, weights, n_layer, n_head, attention=open_to_all)


def with_heads(made):
    """The model with another way from q, k, v side by side to what the heads find."""

    def other(x, weights, at, n_head):
        y = made(linear(x, weights, f"{at}.attention.qkv"), n_head)
        return linear(y, weights, f"{at}.attention.proj")

    def answer(idx, weights, n_layer, n_head):
        return run(idx, weights, n_layer, n_head, attention=other)

    answer.__name__, answer.__doc__ = made.__name__, made.__doc__
    return answer


def attended(q, k, v, n_head, scale=None):
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return y.transpose(1, 2).flatten(2)


@exercise.wrong("vectorize")
@with_heads
def one_head_for_all_channels(qkv, n_head):
    """There is one head with all C channels: `n_head` has no effect.

    With several heads each has weights of its own, from its own C / H channels. Where is q
    cut into heads?
    """
    return heads(qkv, 1)


@exercise.wrong("vectorize")
@with_heads
def cut_into_heads_before_q_k_v(qkv, n_head):
    """The 3C channels are cut into heads first, and each head into q, k and v. In this file all
    queries come first, then all keys, then all values.

    3C becomes (3, H, D), not (H, 3, D). Cut into q, k, v first, then each into heads.
    """
    q, k, v = qkv.unflatten(-1, (n_head, -1)).transpose(1, 2).chunk(3, dim=-1)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2)


@exercise.wrong("vectorize")
@with_heads
def q_k_v_dealt_out_in_turn(qkv, n_head):
    """q, k and v take the channels in turn: 0, 3, 6 and so on for q. In this file the first C
    channels are the queries, the next C the keys, the last C the values.

    `chunk(3, dim=-1)` cuts into three neighbors. Which cut is yours?
    """
    return attended(*qkv.unflatten(-1, (-1, 3)).unbind(-1), n_head)


@exercise.wrong("vectorize")
@with_heads
def queries_and_keys_swapped(qkv, n_head):
    """Queries, keys and values are taken in another order than q, k, v: they have changed places.

    The first third of the 3C channels asks, the second is asked, the third is handed over.
    In which order do you unpack them?
    """
    q, k, v = qkv.chunk(3, dim=-1)
    return attended(k, q, v, n_head)


@exercise.also(queries_and_keys_swapped)
@with_heads
def keys_and_values_swapped(qkv, n_head):
    q, k, v = qkv.chunk(3, dim=-1)
    return attended(q, v, k, n_head)


@exercise.also(queries_and_keys_swapped)
@with_heads
def queries_and_values_swapped(qkv, n_head):
    q, k, v = qkv.chunk(3, dim=-1)
    return attended(v, k, q, n_head)


@exercise.also(queries_and_keys_swapped)
@with_heads
def values_first(qkv, n_head):
    v, q, k = qkv.chunk(3, dim=-1)
    return attended(q, k, v, n_head)


@exercise.wrong("vectorize")
@with_heads
def heads_cut_without_transposing(qkv, n_head):
    """The heads are cut, or merged, by a bare `view` or `reshape`, with no transpose: a "head"
    then holds a stretch of positions.

    Cut C into (H, D), then let positions and heads change places; and the same back. Which
    of the four steps is missing?
    """
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (x.reshape(B, n_head, T, C // n_head) for x in qkv.chunk(3, dim=-1))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).reshape(B, T, C)


@exercise.also(heads_cut_without_transposing)
@with_heads
def heads_merged_without_transposing(qkv, n_head):
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    parts = qkv.chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in parts)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).reshape(B, T, C)


@exercise.wrong("vectorize")
@with_heads
def root_of_all_channels(qkv, n_head):
    """The scores are divided by the root of C, or by nothing. A score of one head adds up D = C /
    H products, so it is divided by the root of D.

    How many products has a score of one head?
    """
    q, k, v = qkv.chunk(3, dim=-1)
    return attended(q, k, v, n_head, scale=q.shape[-1] ** -0.5)


@exercise.also(root_of_all_channels)
@with_heads
def root_forgotten(qkv, n_head):
    q, k, v = qkv.chunk(3, dim=-1)
    return attended(q, k, v, n_head, scale=1.0)


@exercise.wrong("vectorize")
def output_projection_forgotten(idx, weights, n_layer, n_head):
    """What the heads found goes into the stream as it is: `attention.proj` is not used.

    Which layer mixes what the heads bring?
    """

    def without_proj(x, weights, at, n_head):
        return heads(linear(x, weights, f"{at}.attention.qkv"), n_head)

    return run(idx, weights, n_layer, n_head, attention=without_proj)


def with_mlp(made):
    """The model with another MLP."""

    def answer(idx, weights, n_layer, n_head):
        return run(idx, weights, n_layer, n_head, mlp=made)

    answer.__name__, answer.__doc__ = made.__name__, made.__doc__
    return answer


@exercise.wrong("vectorize")
@with_mlp
def exact_gelu(x, weights, at):
    """The GELU is the exact one. This model was trained with the approximation by tanh, which
    differs in the third or fourth digit.

    Which argument of `F.gelu` asks for it?
    """
    return mlp(x, weights, at, bend=F.gelu)


@exercise.wrong("vectorize")
@with_mlp
def relu_for_gelu(x, weights, at):
    """The MLP bends with ReLU, and this model was trained with a GELU.

    The weights were learned for one function. Which one stands in the task?
    """
    return mlp(x, weights, at, bend=F.relu)


@exercise.wrong("vectorize")
@with_mlp
def nothing_between(x, weights, at):
    """There is no function between the two layers of the MLP. Then they are one layer.

    What makes 4C channels worth more than C?
    """
    return mlp(x, weights, at, bend=lambda hidden: hidden)


@exercise.wrong("vectorize")
@with_mlp
def bent_behind_both(x, weights, at):
    """The GELU stands behind both layers of the MLP. It belongs between them, where the 4C
    channels are.

    What does the MLP never write, if a GELU is the last thing in it?
    """
    return tanh_gelu(mlp(x, weights, at, bend=lambda hidden: hidden))


def with_block(made):
    """The model with another block."""

    def answer(idx, weights, n_layer, n_head):
        x = start(idx, weights)
        for i in range(n_layer):
            x = made(x, weights, f"blocks.{i}", n_head)
        return end(x, weights)

    answer.__name__, answer.__doc__ = made.__name__, made.__doc__
    return answer


@exercise.wrong("vectorize")
@with_block
def residual_forgotten(x, weights, at, n_head):
    """A layer replaces the stream, where it should add to it.

    Two things are added to the stream in each block. Which `x +` is missing?
    """
    x = attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head)
    return mlp(norm(x, weights, f"{at}.norm2"), weights, at)


@exercise.also(residual_forgotten)
@with_block
def residual_of_attention_forgotten(x, weights, at, n_head):
    x = attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head)
    return x + mlp(norm(x, weights, f"{at}.norm2"), weights, at)


@exercise.also(residual_forgotten)
@with_block
def residual_of_the_mlp_forgotten(x, weights, at, n_head):
    x = x + attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head)
    return mlp(norm(x, weights, f"{at}.norm2"), weights, at)


@exercise.wrong("vectorize")
@with_block
def half_of_the_block(x, weights, at, n_head):
    """Only one half of each block writes into the stream: the MLP or attention is missing, or what
    it computes is not used.

    Two things are added to the stream in each block. Which names of the block has your code
    never asked for?
    """
    return x + attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head)


@exercise.also(half_of_the_block)
@with_block
def other_half_of_the_block(x, weights, at, n_head):
    return x + mlp(norm(x, weights, f"{at}.norm2"), weights, at)


@exercise.wrong("vectorize")
@with_block
def normalized_stream_kept(x, weights, at, n_head):
    """The stream is overwritten by its norm, and the sum starts from that.

    A layer reads the norm of the stream, and adds to the stream itself. Which x stands on the
    left of your sum?
    """
    x = norm(x, weights, f"{at}.norm1")
    x = x + attention(x, weights, at, n_head)
    x = norm(x, weights, f"{at}.norm2")
    return x + mlp(x, weights, at)


@exercise.wrong("vectorize")
@with_block
def post_norm(x, weights, at, n_head):
    """The norms stand behind the sums; in this model each stands before the layer that reads.

    What does attention read, the stream or its norm?
    """
    x = norm(x + attention(x, weights, at, n_head), weights, f"{at}.norm1")
    return norm(x + mlp(x, weights, at), weights, f"{at}.norm2")


@exercise.wrong("vectorize")
@with_block
def norms_not_used(x, weights, at, n_head):
    """The norms in the blocks are not used.

    Each block has `norm1` and `norm2`. Who reads through them?
    """
    x = x + attention(x, weights, at, n_head)
    return x + mlp(x, weights, at)


@exercise.wrong("vectorize")
@with_block
def norms_swapped(x, weights, at, n_head):
    """The two norms of a block have changed places.

    Which comes first on the way of the stream, attention or MLP, and which number has its
    norm?
    """
    x = x + attention(norm(x, weights, f"{at}.norm2"), weights, at, n_head)
    return x + mlp(norm(x, weights, f"{at}.norm1"), weights, at)


@exercise.wrong("vectorize")
@with_block
def mlp_reads_the_old_stream(x, weights, at, n_head):
    """The MLP reads the stream as it was before attention added to it.

    Attention first, then the MLP, which sees what attention has brought. Which x does your
    second norm get?
    """
    y = mlp(norm(x, weights, f"{at}.norm2"), weights, at)
    return x + attention(norm(x, weights, f"{at}.norm1"), weights, at, n_head) + y


@exercise.wrong("vectorize")
def last_norm_forgotten(idx, weights, n_layer, n_head):
    """The last norm is left out: the head reads the stream as it is.

    Beside the norms of the blocks there is one more in the weights. What is it called?
    """
    x = start(idx, weights)
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head)
    return linear(x, weights, "head")


@exercise.wrong("vectorize")
def first_block_every_time(idx, weights, n_layer, n_head):
    """Every layer uses the weights of block 0.

    `blocks.0`, `blocks.1`: each has its own. Where does the number of the layer go into the
    name?
    """
    x = start(idx, weights)
    for _ in range(n_layer):
        x = block(x, weights, "blocks.0", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
def one_block_run(idx, weights, n_layer, n_head):
    """Only the first block runs; `n_layer` has no effect, or the loop is left too early.

    How many blocks are in the weights, and how many run in your code?
    """
    return end(block(start(idx, weights), weights, "blocks.0", n_head), weights)


@exercise.wrong("vectorize")
def blocks_backward(idx, weights, n_layer, n_head):
    """The blocks run from the last to the first.

    The stream goes through `blocks.0` first. What does your loop begin with?
    """
    x = start(idx, weights)
    for i in reversed(range(n_layer)):
        x = block(x, weights, f"blocks.{i}", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
def whole_stack_in_each_layer(idx, weights, n_layer, n_head):
    """All blocks run for each layer, so n_layer times n_layer of them in all.

    There is a loop in a loop over the same blocks. How often should each block run?
    """
    x = start(idx, weights)
    for _ in range(n_layer):
        for i in range(n_layer):
            x = block(x, weights, f"blocks.{i}", n_head)
    return end(x, weights)


@exercise.wrong("vectorize")
@with_heads
def first_text_for_all(qkv, n_head):
    """What attention finds in text 0 is added to every text of the batch.

    With one text nothing is wrong. Is there a `[0]` that takes the first of the batch?
    """
    return heads(qkv, n_head)[:1].expand(len(qkv), -1, -1)


@exercise.wrong("vectorize")
def head_is_the_embedding(idx, weights, n_layer, n_head):
    """The logits are made with the token embedding, as in a tied model. This file has a
    `head.weight` of its own; in a tied one it holds the same numbers.

    Which name is right in both?
    """
    x = start(idx, weights)
    for i in range(n_layer):
        x = block(x, weights, f"blocks.{i}", n_head)
    x = norm(x, weights, "norm")
    return F.linear(x, weights["token_embedding.weight"], weights.get("head.bias"))


@exercise.wrong("vectorize")
def head_without_its_bias(idx, weights, n_layer, n_head):
    """The bias of the head is not used, though there is one.

    Which names that end in ".bias" does the file have? Yours should work with and without
    them.
    """
    return run(idx, dropped(weights, "head.bias"), n_layer, n_head)


@exercise.wrong("vectorize")
def biases_not_used(idx, weights, n_layer, n_head):
    """The linear layers are computed without their biases. Some files have them, some do not.

    `weights.get(name)` gives None for a name that is not there, and `F.linear` takes a None.
    Which names could you ask for?
    """
    own = dropped(weights, "qkv.bias", "proj.bias", "fc.bias", "head.bias")
    return run(idx, own, n_layer, n_head)


@exercise.also(biases_not_used)
def biases_of_the_blocks_not_used(idx, weights, n_layer, n_head):
    own = dropped(weights, "qkv.bias", "proj.bias", "fc.bias")
    return run(idx, own, n_layer, n_head)


@exercise.wrong("vectorize")
def norms_without_weight_and_bias(idx, weights, n_layer, n_head):
    """The norms only normalize: their weight and bias are not used.

    After `F.layer_norm(x, (C,))` something is left to do, or two more arguments are left to
    give. Which?
    """
    own = {
        name: torch.full_like(w, float(name.endswith("weight")))
        if "norm" in name
        else w
        for name, w in weights.items()
    }
    return run(idx, own, n_layer, n_head)


def dropped(weights, *names):
    """The weights without those whose name ends like this."""
    return {name: w for name, w in weights.items() if not name.endswith(names)}


@exercise.wrong("vectorize")
def biases_taken_for_granted(idx, weights, n_layer, n_head):
    """A bias is asked for that is not in the file. Some models have biases in their blocks or
    their head, others do not; only the norms always have one.

    `weights.get(name)` gives None for a name that is not there, and `F.linear` takes a None.
    """
    for name in ("blocks.0.attention.qkv", "head"):
        weights[f"{name}.bias"]
    return run(idx, weights, n_layer, n_head)


@exercise.also(biases_taken_for_granted)
def head_bias_taken_for_granted(idx, weights, n_layer, n_head):
    weights["head.bias"]
    return run(idx, weights, n_layer, n_head)


@exercise.wrong("vectorize")
def last_position_alone(idx, weights, n_layer, n_head):
    """This gives the logits of the last position. That is enough to write, and training needs
    all of them.

    (B, T, V): how many predictions does a text of T ids make?
    """
    return run(idx, weights, n_layer, n_head)[:, -1]


@exercise.also(last_position_alone)
def last_position_kept_as_an_axis(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head)[:, -1:]


@exercise.wrong("vectorize")
def probabilities_for_logits(idx, weights, n_layer, n_head):
    """These are probabilities (or their logarithms); asked for are the logits, before the softmax.

    `F.cross_entropy` and sampling with a temperature want logits. What is your last step?
    """
    return run(idx, weights, n_layer, n_head).softmax(-1)


@exercise.also(probabilities_for_logits)
def log_probabilities_for_logits(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head).log_softmax(-1)


@exercise.wrong("vectorize")
def another_eps(idx, weights, n_layer, n_head):
    """All is right but the eps of the norms, which shows in the fifth or sixth digit.

    The task says which eps this model was trained with, and it is also the one that
    `F.layer_norm` takes by itself. Where do you give another?
    """
    return with_eps(idx, weights, n_layer, n_head, 1e-6)


def with_eps(idx, weights, n_layer, n_head, eps):
    def norm(x, name):
        w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, w.shape, w, b, eps)

    x = start(idx, weights)
    for i in range(n_layer):
        at = f"blocks.{i}"
        x = x + attention(norm(x, f"{at}.norm1"), weights, at, n_head)
        x = x + mlp(norm(x, f"{at}.norm2"), weights, at)
    return linear(norm(x, "norm"), weights, "head")


@exercise.also(another_eps)
def no_eps(idx, weights, n_layer, n_head):
    return with_eps(idx, weights, n_layer, n_head, 0.0)


@exercise.also(another_eps)
def tiny_eps(idx, weights, n_layer, n_head):
    return with_eps(idx, weights, n_layer, n_head, 1e-8)


@exercise.caught_as("wrong-type")
def logits_and_a_loss(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head), None


@exercise.caught_as("raised")
def matrices_not_transposed(idx, weights, n_layer, n_head):
    x = start(idx, weights)
    return x @ weights["blocks.0.attention.qkv.weight"]


@exercise.caught_as("raised")
def names_misspelled(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head) + weights["final_norm.weight"]


@exercise.caught_as("modified-input")
def weights_taken_out(idx, weights, n_layer, n_head):
    out = run(idx, weights, n_layer, n_head)
    weights.pop("head.weight")
    return out


@exercise.caught_as("no-gradient")
def gradient_cut(idx, weights, n_layer, n_head):
    with torch.no_grad():
        return run(idx, weights, n_layer, n_head)


@exercise.caught_as("wrong-gradient")
def gradient_of_the_tables_cut(idx, weights, n_layer, n_head):
    own = {n: w.detach() if "embedding" in n else w for n, w in weights.items()}
    return run(idx, own, n_layer, n_head)


@exercise.caught_as("wrong-dtype")
def always_float32(idx, weights, n_layer, n_head):
    return run(idx, weights, n_layer, n_head).float()


@exercise.caught_as("returned-none")
def nothing_returned(idx, weights, n_layer, n_head):
    run(idx, weights, n_layer, n_head)


@exercise.caught_as("forbidden-call")
def loaded_into_the_package(idx, weights, n_layer, n_head):
    V, C = weights["token_embedding.weight"].shape
    T = len(weights["position_embedding.weight"])
    config = GPTConfig(
        V, T, n_layer, n_head, C, bias="blocks.0.mlp.fc.bias" in weights,
        tie=False, head_bias="head.bias" in weights,
    )  # fmt: skip
    model = GPT(config).to(weights["head.weight"].dtype)
    return torch.func.functional_call(model, dict(weights), (idx,))[0]
