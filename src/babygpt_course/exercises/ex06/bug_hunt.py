"""06.5: attention that takes the batch size from the training script."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="06_cross_attention",
    id="06.5",
    title="Bug hunt: the sentence that was cut in half",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="how-it-breaks",
    equivalent={
        name: "Once the number of texts comes from the input, nobody uses the constant."
        for name in (
            "(dropped) BATCH_SIZE = 4",
            "BATCH_SIZE = 5",
            "BATCH_SIZE = 3",
        )
    }
    | {
        name: "Swapping two axes is the same in either order."
        for name in (
            "q, k, v = (x.reshape(B, -1, n_head, D).transpose(2, 1) for x in (q, k, v))",
            "return y.transpose(2, 1).reshape(B, -1, n_head * D)",
        )
    },
    hints="""
    Read two texts together with two others, and then the two alone. Should the company that
    a text is in change what it reads? What are the shapes?

    `reshape(B, -1, ...)` obeys: it deals the numbers out into B parts, whether there were B
    texts or not, and -1 becomes whatever is left. Where does B come from?

    q is (B, T, C), so the number of texts is in its shape. Take B from there, and nothing
    else has to change.
    """,
)

BATCH_SIZE = 4


@exercise.oracle
def attend(q, k, v, n_head):
    B, T, C = q.shape
    D = C // n_head
    out = []
    for b in range(B):
        for t in range(T):
            for h in range(n_head):
                own = slice(h * D, (h + 1) * D)
                scores = [
                    (q[b, t, own] * key[own]).sum() / math.sqrt(D) for key in k[b]
                ]
                top = max(scores).detach()
                exps = [torch.exp(score - top) for score in scores]
                parts = [e / sum(exps) * value[own] for e, value in zip(exps, v[b])]
                out.append(sum(parts))
    return torch.stack(out).view(B, T, C)


def attended(q, k, v, n_head, B, rows=None):
    """The code of the exercise with B texts, whatever the input holds."""
    D = q.shape[-1] // n_head
    q, k, v = (x.reshape(B, -1, n_head, D).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v)
    return y.transpose(1, 2).reshape(rows or B, -1, n_head * D)


@exercise.given
def constant_batch_size(q, k, v, n_head):
    return attended(q, k, v, n_head, BATCH_SIZE)


def random_case(B, T, S, H, D, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, T, H * D), (B, S, H * D), (B, S, H * D)
    made = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    )
    q, k, v = (m.to(dtype) for m in made)
    return q, k, v, H


@exercise.cases
def cases():
    def flat(B, T, v):  # all scores are equal
        return torch.zeros(B, T, 1), torch.zeros_like(v), v, 1

    two = torch.tensor([[[2.0], [6.0]], [[10.0], [30.0]]])
    yield Case(flat(2, 2, two))
    yield Case(flat(8, 1, torch.arange(1.0, 9).view(8, 1, 1)))
    yield Case(flat(4, 1, torch.arange(1.0, 9).view(4, 2, 1)))
    yield Case(flat(1, 4, two.view(1, 4, 1)))
    yield Case(flat(1, 1, torch.tensor([[[4.0]]])))
    yield Case(flat(3, 2, torch.tensor([[[1.0]], [[2.0]], [[4.0]]])))
    yield Case(random_case(2, 2, 4, 2, 1, 6, torch.float32))
    for seed, (B, T, S, H, D) in enumerate([(2, 4, 6, 3, 5), (8, 3, 5, 2, 4)]):
        yield Case(random_case(B, T, S, H, D, seed))
        yield Case(random_case(B, T, S, H, D, seed, torch.float32), "float32")
    yield Case(random_case(3, 5, 2, 2, 3, 2))
    yield Case(random_case(4, 2, 3, 3, 2, 3))
    yield Case(random_case(5, 2, 7, 4, 3, 4))
    yield Case(random_case(6, 4, 4, 2, 2, 8))
    yield Case(random_case(2, 4, 2, 2, 1, 5), gradient=True)
    q, k, v, H = random_case(8, 4, 3, 2, 3, 7)
    yield Case((q[::2], k[::2], v[::2], H), NON_CONTIGUOUS)
    yield Case(
        (q[:2].transpose(0, 1).contiguous().transpose(0, 1), k[:2], v[:2], H),
        NON_CONTIGUOUS,
    )


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def batch_size_of_the_input(q, k, v, n_head):
    return attended(q, k, v, n_head, len(q))


@exercise.right
def axes_that_are_named(q, k, v, n_head):
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@exercise.right
def one_text_at_a_time(q, k, v, n_head):
    return torch.cat(
        [attended(*(x[b : b + 1] for x in (q, k, v)), n_head, 1) for b in range(len(q))]
    )


@exercise.right
def lengths_of_the_input_too(q, k, v, n_head):
    B, T, C = q.shape
    S, D = k.size(1), C // n_head
    q = q.reshape(B, T, n_head, D).permute(0, 2, 1, 3)
    k = k.reshape(B, S, n_head, D).permute(0, 2, 1, 3)
    v = v.reshape(B, S, n_head, D).permute(0, 2, 1, 3)
    weights = torch.softmax(q @ k.mT / D**0.5, dim=-1)
    return (weights @ v).permute(0, 2, 1, 3).reshape(B, T, C)


# --- "fixes" that break something else ------------------------------------------------


def with_constant(B):
    def changed(q, k, v, n_head):
        return attended(q, k, v, n_head, B)

    changed.__name__ = f"constant_changed_to_{B}"
    return exercise.also(constant_changed)(changed)


@exercise.wrong("how-it-breaks")
def constant_changed(q, k, v, n_head):
    """The number of texts is another constant now. It fits the batches that you tried, and
    cuts or glues all others.

    The last batch of an epoch is smaller, and a user comes with one text. Who knows how many
    texts there are in this call?
    """
    return attended(q, k, v, n_head, 2)


for size in (3, 5, 6, 8, 10, 16, 32, 64, 128):
    with_constant(size)


@exercise.wrong("how-it-breaks")
def one_long_text(q, k, v, n_head):
    """All texts of the batch become one long text: every query reads the keys of all texts.

    With one text nothing is wrong, with two they read each other. What must the first axis
    be, so that each text stays by itself?
    """
    return attended(q, k, v, n_head, 1)


@exercise.wrong("how-it-breaks")
def shape_mended_and_not_the_cut(q, k, v, n_head):
    """The shape of the result is right, and what is in it is not: on the way the texts are
    still cut or glued, and only the last line puts the numbers back into B rows.

    What does a query of text 0 read in your version? Look at the shapes of q, k and v when
    they meet, not at the end.
    """
    return attended(q, k, v, n_head, BATCH_SIZE, rows=len(q))


@exercise.also(shape_mended_and_not_the_cut)
def one_long_text_with_the_right_shape(q, k, v, n_head):
    return attended(q, k, v, n_head, 1, rows=len(q))


@exercise.wrong("how-it-breaks")
def cut_mended_and_not_the_shape(q, k, v, n_head):
    """Each text reads its own keys now, and the last line still deals the result out into
    the old number of rows.

    The constant stood in two places. Which `reshape` still has it?
    """
    return attended(q, k, v, n_head, len(q), rows=BATCH_SIZE)


@exercise.wrong("how-it-breaks")
def axis_of_the_positions(q, k, v, n_head):
    """B is taken from the shape now, and from the wrong axis: that is a number of
    positions, not of texts.

    q is (B, T, C). Which entry of its shape counts the texts?
    """
    return attended(q, k, v, n_head, q.shape[1])


@exercise.also(axis_of_the_positions)
def axis_of_the_keys(q, k, v, n_head):
    return attended(q, k, v, n_head, k.shape[1])


@exercise.wrong("how-it-breaks")
def length_of_the_queries_for_all(q, k, v, n_head):
    """B is right, and T, the number of queries, is now used for the keys as well. They have
    a length of their own, S.

    In self-attention the two are equal and nothing shows. What did the -1 do for each of q, k
    and v?
    """
    B, T, C = q.shape
    q, k, v = (x.reshape(B, T, n_head, C // n_head).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C)


@exercise.also(length_of_the_queries_for_all)
def length_of_the_queries_decides(q, k, v, n_head):
    B, T, C = q.shape
    q, k, v = (x.reshape(-1, T, n_head, C // n_head).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C)


@exercise.wrong("how-it-breaks")
def filled_up_to_the_constant(q, k, v, n_head):
    """The batch is filled up with empty texts to the constant, and cut back afterward. That
    works for fewer texts than the constant, and loses texts (or stops) when there are more.

    Why should the layer care how many texts there were in training?
    """
    n = len(q)
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, BATCH_SIZE - n)) for x in (q, k, v))
    return attended(q, k, v, n_head, BATCH_SIZE)[:n]


@exercise.wrong("how-it-breaks")
def other_sizes_refused(q, k, v, n_head):
    """Batches of another size are refused. That is better than to cut them silently, and the
    layer still cannot read one text alone.

    Everything that the layer must know about the batch is in the shape of q. What would the
    constant be needed for?
    """
    assert len(q) == BATCH_SIZE
    return attended(q, k, v, n_head, BATCH_SIZE)


@exercise.also(other_sizes_refused)
def other_sizes_refused_by_shape(q, k, v, n_head):
    assert q.shape[0] == k.shape[0] == v.shape[0] == BATCH_SIZE
    return attended(q, k, v, n_head, BATCH_SIZE)


@exercise.wrong("vectorize")
def heads_cut_without_transposing(q, k, v, n_head):
    """The batch is right now, and the heads are not: `reshape` to (B, H, -1, D) gives head 0
    the first positions with all their channels.

    The fault was one name. In the given code the axis of the heads came behind the
    positions, and then a transpose. Why both?
    """
    B, T, C = q.shape
    q, k, v = (x.reshape(B, n_head, -1, C // n_head) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).reshape(B, T, C)


@exercise.wrong("vectorize")
def heads_merged_without_transposing(q, k, v, n_head):
    """The texts are kept apart now, and at the end the heads are put together in the wrong
    order: the transpose before the last `reshape` is gone.

    After attention the axes are (B, H, T, D). In which order must they be before H and D
    become one?
    """
    B, T, C = q.shape
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).reshape(B, T, C)


@exercise.wrong("vectorize")
def one_head_for_all_channels(q, k, v, n_head):
    """The texts are kept apart now, and the heads are gone: one head has all C channels.

    The fault was one name. What else did the given `reshape` do?
    """
    return attended(q, k, v, 1, len(q))


@exercise.wrong("by-hand")
def later_keys_hidden(q, k, v, n_head):
    """The texts are kept apart now, and keys that come later than the query are hidden. The
    given code had no mask.

    Queries and keys come from two sequences. What would "later" mean between them?
    """
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2)


@exercise.caught_as("returned-none")
def nothing_for_other_sizes(q, k, v, n_head):
    if len(q) == BATCH_SIZE:
        return attended(q, k, v, n_head, BATCH_SIZE)


@exercise.caught_as("wrong-dtype")
def always_float32(q, k, v, n_head):
    return attend(q, k, v, n_head).float()


@exercise.caught_as("no-gradient")
def gradient_cut(q, k, v, n_head):
    return attend(q, k, v, n_head).detach()


@exercise.caught_as("modified-input")
def queries_centered_in_place(q, k, v, n_head):
    q -= q.mean() - 1
    return attend(q, k, v, n_head)


@exercise.caught_as("non-contiguous")
def view_instead_of_reshape(q, k, v, n_head):
    B, T, C = q.shape
    q = q.as_strided((B, T, C), (T * C, C, 1))
    return attend(q, k, v, n_head)


@exercise.caught_as("raised")
def two_axes_left_open(q, k, v, n_head):
    return attended(q, k, v, n_head, -1)
