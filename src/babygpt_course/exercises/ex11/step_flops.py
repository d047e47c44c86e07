"""11.1: the FLOPs of a training step, part by part."""

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.rules import forbid

exercise = Exercise(
    chapter="11_flops_mfu",
    id="11.1",
    title="What a step costs",
    kind="implement",
    points=3,
    minutes=10,
    anchor="by-hand",
    rules=(
        forbid(
            "flops flops_per_token table FlopCounterMode parameters work",
            "The package's ledger is what you are building. Write down the products, and "
            "multiply.",
        ),
    ),
    hints="""
    Nearly all work is products of matrices. Which products does one layer have, and which sizes?
    Which of them belong to each position, and which to each pair of positions?

    A product (n, k) @ (k, m) is 2 * n * k * m FLOPs. With n = B * T: four of C to C, one from C
    to 4C and one back, once C to V at the end. Two products for the scores, in each head of
    each text: (T, D) @ (D, T) and (T, T) @ (T, D). Backward costs twice the forward pass.

    n = B * T. attention: L * 4 * 2 * n * C * C. scores: L * 2 * 2 * B * T * T * C, because H heads
    of C / H channels have C together. mlp: L * 2 * 2 * n * C * 4C. head: 2 * n * C * V. Each of
    the four times 3.
    """,
)


@exercise.oracle
def step_flops(B, T, V, L, H, C):
    total = {"attention": 0, "scores": 0, "mlp": 0, "head": 0}

    def product(part, n, k, m):
        forward = 2 * n * k * m
        backward = (
            2 * n * m * k + 2 * k * n * m
        )  # for what came in, and for the weights
        total[part] += forward + backward

    for _ in range(L):
        for _ in range(4):  # queries, keys, values, output
            product("attention", B * T, C, C)
        for _ in range(B * H):
            product("scores", T, C // H, T)  # queries with keys
            product("scores", T, T, C // H)  # weights with values
        product("mlp", B * T, C, 4 * C)
        product("mlp", B * T, 4 * C, C)
    product("head", B * T, C, V)
    return total


@exercise.cases
def cases():
    yield Case((1, 1, 1, 1, 1, 1))
    yield Case((1, 2, 3, 1, 1, 2))
    yield Case((1, 2, 3, 2, 1, 2))
    yield Case((1, 2, 3, 1, 2, 2), "two heads")
    yield Case((5, 2, 3, 1, 1, 2), "five texts")
    yield Case((1, 7, 2, 1, 1, 3), "a longer window")
    yield Case((2, 3, 5, 4, 6, 12))
    yield Case((32, 64, 52, 4, 4, 64))
    yield Case((8, 64, 109, 8, 8, 256), "BabyGPT")
    yield Case((1, 1024, 50257, 12, 12, 768), "GPT-2")


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def six_for_each_weight(B, T, V, L, H, C):
    n = B * T
    return {
        "attention": 6 * n * L * 4 * C**2,
        "scores": 12 * L * C * T * n,
        "mlp": 6 * n * L * 8 * C**2,
        "head": 6 * n * C * V,
    }


@exercise.right
def one_token_at_a_time(B, T, V, L, H, C):
    layer = {"attention": 24 * C * C, "scores": 12 * T * C, "mlp": 48 * C * C}
    each = {part: L * n for part, n in layer.items()} | {"head": 6 * C * V}
    return {part: B * T * n for part, n in each.items()}


@exercise.right
def forward_and_then_times_three(B, T, V, L, H, C):
    D = C // H
    forward = {
        "head": 2 * B * T * V * C,
        "mlp": 2 * L * (2 * B * T * C * 4 * C),
        "scores": B * L * H * (2 * T * D * T + 2 * T * T * D),
        "attention": L * (2 * B * T * C * 3 * C + 2 * B * T * C * C),
    }
    return {part: 3 * forward[part] for part in forward}


# --- wrong, each with the misconception behind it -------------------------------------


def scaled(args, **factors):
    """The right answer with some parts multiplied by a fraction (above, below)."""
    right = step_flops(*args)
    pairs = {part: factors.get(part, factors.get("all", (1, 1))) for part in right}
    return {part: right[part] * a // b for part, (a, b) in pairs.items()}


@exercise.wrong("by-hand")
def multiplications_only(B, T, V, L, H, C):
    """Multiplications are counted and additions are not: each of the products is half of what it
    should be.

    A sum of k products takes k multiplications and k additions. How many operations are
    in n times m such sums?
    """
    return scaled((B, T, V, L, H, C), all=(1, 2))


@exercise.wrong("by-hand")
def forward_only(B, T, V, L, H, C):
    """That is the forward pass alone. A training step goes backward too.

    Backward, each product becomes two: one for the gradient of its weights, and one for
    the gradient of what came in. How many times the forward pass is the whole step?
    """
    return scaled((B, T, V, L, H, C), all=(1, 3))


@exercise.wrong("by-hand")
def multiplications_of_the_forward_pass(B, T, V, L, H, C):
    """That is a sixth: the multiplications of the forward pass. Two things are missing, the additions
    and the way back.

    A multiply-add is two operations, and a step is how many times its forward pass?
    """
    return scaled((B, T, V, L, H, C), all=(1, 6))


@exercise.wrong("by-hand")
def backward_like_forward(B, T, V, L, H, C):
    """The backward pass is counted once, as if it cost what the forward pass costs. Each product
    has two inputs, and both need a gradient.

    y = x W: which two products give the gradients of x and of W?
    """
    return scaled((B, T, V, L, H, C), all=(2, 3))


@exercise.wrong("by-hand")
def backward_counted_for_three(B, T, V, L, H, C):
    """The backward pass is counted as three forward passes, so the step is four of them. Each
    product becomes *two* backward, one for each of its inputs.

    y = x W: which two products give the gradients of x and of W?
    """
    return scaled((B, T, V, L, H, C), all=(4, 3))


@exercise.wrong("by-hand")
def forward_only_for_scores(B, T, V, L, H, C):
    """The scores are counted forward and not backward. They have no weights, and still two inputs:
    queries and keys both need a gradient, to reach the projections behind them.

    What would the weights of the queries learn from, if nothing came back through the scores?
    """
    return scaled((B, T, V, L, H, C), scores=(1, 3))


@exercise.wrong("by-hand")
def one_product_of_attention(B, T, V, L, H, C):
    """One of the two products of attention is missing in `scores`: queries with keys make the
    scores, and then the weights are multiplied with the values.

    (T, D) @ (D, T), and then (T, T) @ what?
    """
    return scaled((B, T, V, L, H, C), scores=(1, 2))


@exercise.wrong("by-hand")
def all_channels_in_every_head(B, T, V, L, H, C):
    """Every head is counted with all C channels. They share them: a head has C / H.

    With H heads there are H tables, each made of products of D numbers. What is H times D?
    """
    return scaled((B, T, V, L, H, C), scores=(H, 1))


@exercise.wrong("by-hand")
def one_head_of_several(B, T, V, L, H, C):
    """The scores of one head are counted, with its C / H channels, and the other heads are left
    out.

    How many tables of scores does a layer have for each text?
    """
    return scaled((B, T, V, L, H, C), scores=(1, H))


@exercise.wrong("by-hand")
def projections_inside_the_heads(B, T, V, L, H, C):
    """Each head is given projections from its own C / H channels. A head's query is made of *all* C
    channels of the position, so the projections of all heads together are C by C.

    In chapter 5, what did the projection of one head read, and what did it put out?
    """
    return scaled((B, T, V, L, H, C), attention=(1, H))


@exercise.wrong("by-hand")
def masked_half_left_out(B, T, V, L, H, C):
    """Only the half of the scores counts that the causal mask leaves. The product makes the whole
    table, and then the mask hides half of it; the convention here counts what is computed.

    How many numbers has the table before the mask?
    """
    right = step_flops(B, T, V, L, H, C)
    return right | {"scores": right["scores"] * (T + 1) // (2 * T)}


@exercise.wrong("by-hand")
def scores_not_of_pairs(B, T, V, L, H, C):
    """The scores grow with T here, and they must grow with its square: there is one for each
    *pair* of positions.

    Double the window. How many times as many cells has the table?
    """
    return scaled((B, T, V, L, H, C), scores=(1, T))


@exercise.wrong("by-hand")
def batch_read_as_one_text(B, T, V, L, H, C):
    """The scores are counted as if the batch were one long text, B * T squared. A position looks at
    the positions of its own text only.

    How many tables are there, and how large is each?
    """
    return scaled((B, T, V, L, H, C), scores=(B, 1))


@exercise.wrong("by-hand")
def batch_forgotten(B, T, V, L, H, C):
    """The number of texts has no effect: that is a step on one window.

    Every text of the batch goes through all products. What is n in a product of n rows?
    """
    return step_flops(1, T, V, L, H, C)


@exercise.wrong("by-hand")
def one_token_only(B, T, V, L, H, C):
    """That is the cost of one token. The step reads B windows of T tokens.

    Which of your numbers must be multiplied by all tokens of the batch?
    """
    return scaled((B, T, V, L, H, C), all=(1, B * T))


@exercise.wrong("by-hand")
def layers_forgotten(B, T, V, L, H, C):
    """That is one layer. There are L of them, each with weights and work of its own.

    Which parts are there once in each layer, and which is there once for all?
    """
    return scaled((B, T, V, L, H, C), attention=(1, L), scores=(1, L), mlp=(1, L))


@exercise.wrong("by-hand")
def head_in_every_layer(B, T, V, L, H, C):
    """The head is counted once in each layer. It stands behind the last one only.

    How often does the model make logits in one pass?
    """
    return scaled((B, T, V, L, H, C), head=(L, 1))


@exercise.wrong("by-hand")
def output_projection_forgotten(B, T, V, L, H, C):
    """Attention is counted with three projections: queries, keys and values. When the heads have
    been put side by side, a fourth one mixes them.

    How many matrices of C by C has a layer?
    """
    return scaled((B, T, V, L, H, C), attention=(3, 4))


@exercise.wrong("by-hand")
def one_projection(B, T, V, L, H, C):
    """Attention is counted with one projection. Queries, keys, values and output have a matrix
    each.

    How many matrices of C by C has a layer?
    """
    return scaled((B, T, V, L, H, C), attention=(1, 4))


@exercise.wrong("by-hand")
def mlp_with_one_matrix(B, T, V, L, H, C):
    """Half of the MLP is missing: it goes from C to 4C, and back again.

    How many matrices does that take, and how large is each?
    """
    return scaled((B, T, V, L, H, C), mlp=(1, 2))


@exercise.wrong("by-hand")
def mlp_not_wider(B, T, V, L, H, C):
    """The MLP is counted with C channels inside. It is four times as wide there.

    From C to what, and back?
    """
    return scaled((B, T, V, L, H, C), mlp=(1, 4))


@exercise.wrong("by-hand")
def mlp_wide_on_both_sides(B, T, V, L, H, C):
    """The MLP is counted with 4C channels on both sides. Only its inside is that wide: it reads C
    channels and puts C channels out.

    How many weights has the matrix from C to 4C?
    """
    return scaled((B, T, V, L, H, C), mlp=(4, 1))


@exercise.wrong("by-hand")
def embedding_as_a_product(B, T, V, L, H, C):
    """The table of embeddings is counted as a product. Looking up a row multiplies nothing.

    How many multiplications does `table[ids]` make?
    """
    right = step_flops(B, T, V, L, H, C)
    return right | {"head": 2 * right["head"]}


@exercise.also(embedding_as_a_product)
def embedding_as_a_part(B, T, V, L, H, C):
    right = step_flops(B, T, V, L, H, C)
    return {"embedding": right["head"]} | right


@exercise.caught_as("wrong-type")
def one_total(B, T, V, L, H, C):
    return sum(step_flops(B, T, V, L, H, C).values())


@exercise.caught_as("wrong-type")
def decimal_numbers(B, T, V, L, H, C):
    return {part: float(n) for part, n in step_flops(B, T, V, L, H, C).items()}


@exercise.caught_as("returned-none")
def printed(B, T, V, L, H, C):
    print(step_flops(B, T, V, L, H, C))


@exercise.caught_as("raised")
def part_not_begun(B, T, V, L, H, C):
    total = {}
    total["mlp"] += 48 * B * T * L * C * C
    return total


@exercise.caught_as("forbidden-call")
def by_the_ledger(B, T, V, L, H, C):
    from babygpt_course import ledger
    from babygpt_course.gpt import GPTConfig

    config = GPTConfig(vocab_size=V, block_size=T, n_layer=L, n_head=H, n_embd=C)
    parts = ledger.flops(config, B, T)
    return {p: parts[p].total for p in ("attention", "scores", "mlp", "head")}
