"""12.1: a frozen linear layer with a correction of low rank, and the two in one."""

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS, Fault
from babygpt_course.exercises.result import Outcome
from babygpt_course.exercises.rules import forbid
from babygpt_course.exercises.running import run

NAMES = ("x", "W", "b", "A", "B")
NOTHING = Fault(
    "nothing-learns",
    "The values are right, but no gradient flows at all: nothing here can be trained.",
    "`detach()`, `.data`, `torch.no_grad()` and `torch.tensor(...)` cut the way back. Only "
    "the way to W and b may be cut.",
)
CUT = Fault(
    "adapter-cut",
    "The values are right, but the gradient of {names} is not. A and B are what is trained: "
    "the loss must reach both.",
    "Follow the sum backward: scale, B, A, x. At which of them does your function leave "
    "the graph?",
)
BELOW = Fault(
    "base-cuts-the-way-back",
    "The values and the gradients of A and B are right, but x gets too little gradient: what "
    "comes through the frozen layer is missing. Layers below would learn the wrong thing.",
    "`torch.no_grad()` around the frozen layer cuts the way to x too, and so does x.detach(). "
    "Frozen means only that W and b get no gradient. Which of the tensors may be detached?",
)
BASE = Fault(
    "base-not-frozen",
    "The values are right, but {names} gets a gradient. The base is frozen: the first step "
    "of an optimizer would move it.",
    "In a module you would write `requires_grad_(False)`. In a function, what makes a tensor "
    "out of W that has the same numbers and takes no gradient?",
)


class Frozen(Exercise):
    """An exercise in which the values are not all: who gets a gradient, and who none."""

    def grade(self, answer):
        """The values first; then, if all are right, the gradients of y."""
        result = super().grade(answer)
        if result.passed:
            for case in self.make_cases():
                if fault := gradients_of(answer, case):
                    rows = self.drawn_gradients(case)
                    return self.result(Outcome.WRONG_VALUE, fault, self.anchor, rows)
        return result

    def drawn_gradients(self, case):
        """The case, without values: all of them are right."""
        asked = (
            "\n".join(
                f"{name} of shape {tuple(t.shape)}" for name, t in zip(NAMES, case.args)
            )
            + f"\nalpha = {case.args[5]}"
        )
        return (
            ("input", asked),
            ("expected", "gradients of y for x, A and B; none for W and b"),
        )


def gradients_of(answer, case):
    """What is wrong with the gradients of y in one case, or None."""

    def grads(function):
        def called(*args):
            *tensors, alpha = args
            leaves = [t.requires_grad_() for t in tensors]
            y = function(*leaves, alpha)[0]
            mix = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).sin().view(y.shape)
            (y * mix).sum().backward()
            return [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]

        return called

    mine, truth = run(grads(answer), case.args), run(grads(two_paths), case.args)
    if mine.error:
        return NOTHING
    odd = [
        name
        for name, m, t in zip(NAMES, mine.value, truth.value)
        if not torch.allclose(m, t, 1e-4, 1e-6)
    ]
    for names, fault in (("AB", CUT), ("x", BELOW), ("Wb", BASE)):
        if found := [name for name in odd if name in names]:
            return fault._replace(says=fault.says.format(names=" and ".join(found)))
    return None


exercise = Frozen(
    chapter="12_lora",
    id="12.1",
    title="A frozen layer and its adapter",
    kind="implement",
    points=3,
    minutes=9,
    anchor="by-hand",
    rules=(
        forbid(
            "LoRALinear apply_lora merge",
            "The package's adapter is what you are building. `F.linear` or `@` is all that "
            "it takes.",
        ),
    ),
    hints="""
    x has n_in numbers and y has n_out. Which of W, A and B can read an x? What comes out of A,
    and which of them can read that?

    y = W x + b + (alpha / r) B (A x), with r the number of rows of A. One sum of two paths: the
    left one is the frozen layer. For the merged weight take x out of the bracket.

    W, b = W.detach(), b.detach(); scale = alpha / len(A); y = F.linear(x, W, b) + scale *
    F.linear(F.linear(x, A), B); merged = W + scale * B @ A. Both are returned.
    """,
)


@exercise.oracle
def lora_linear(x, W, b, A, B, alpha):
    rows = [x.tolist()] if x.ndim == 1 else x.reshape(-1, x.shape[-1]).tolist()
    w, a, up, bias = W.tolist(), A.tolist(), B.tolist(), b.tolist()
    n_out, n_in, r = len(w), len(w[0]), len(a)
    merged = [list(row) for row in w]
    for o in range(n_out):
        for i in range(n_in):
            for k in range(r):
                merged[o][i] += alpha / r * up[o][k] * a[k][i]
    y = [
        [
            bias[o] + sum(merged[o][i] * row[i] for i in range(n_in))
            for o in range(n_out)
        ]
        for row in rows
    ]
    y = torch.tensor(y, dtype=x.dtype).reshape(*x.shape[:-1], n_out)
    return y, torch.tensor(merged, dtype=x.dtype)


def random_case(shape, n_out, r, alpha, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes):
        return torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)

    n_in = shape[-1]
    A, B = normal(r, n_in), normal(n_out, r)
    return normal(*shape), normal(n_out, n_in), normal(n_out), A, B, alpha


@exercise.cases
def cases():
    x, b = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    W = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    A, B = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1, 1]])
    yield Case((x, W, b, A, B, 4))
    yield Case((x[None], W, b, torch.tensor([[1.0, -1.0]]), B[:, :1], 3), "rank 1")
    yield Case((torch.eye(2), W, b, A, torch.zeros(2, 2), 4), "B is still zero")
    yield Case((torch.eye(2), W, torch.zeros(2), A, B, 1), "without a bias")
    for seed, (shape, n_out, r, alpha) in enumerate(
        [
            ((4, 3), 5, 2, 6),
            ((2, 3, 4), 2, 3, 1.5),
            ((2, 5), 3, 1, 8.0),
            ((2,), 4, 3, 2),
        ]
    ):
        yield Case(random_case(shape, n_out, r, alpha, seed))
        yield Case(random_case(shape, n_out, r, alpha, seed, torch.float32), "float32")
    x, W, b, A, B, _ = random_case((6, 4), 4, 4, 1, 9)
    yield Case((x[::2], W.T, b, A.T, B[:, ::2].repeat(1, 2).T, 3), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_paths(x, W, b, A, B, alpha):
    W, b, scale = W.detach(), b.detach(), alpha / A.shape[0]
    return F.linear(x, W, b) + scale * F.linear(F.linear(x, A), B), W + scale * B @ A


@exercise.right
def merged_first(x, W, b, A, B, alpha):
    merged = W.detach() + B @ A * (alpha / B.shape[1])
    return x @ merged.T + b.detach(), merged


@exercise.right
def with_einsum(x, W, b, A, B, alpha):
    scale = alpha / len(A)
    W = W.data
    low = torch.einsum("...i,ri->...r", x, A)
    y = torch.einsum("...i,oi->...o", x, W) + b.data
    delta = torch.einsum("or,ri->oi", B, A)
    return y + scale * torch.einsum("...r,or->...o", low, B), W + scale * delta


@exercise.right
def as_modules(x, W, b, A, B, alpha):
    base = torch.nn.Linear(W.shape[1], W.shape[0], dtype=W.dtype)
    base.weight, base.bias = torch.nn.Parameter(W.detach()), torch.nn.Parameter(b.data)
    base.requires_grad_(False)
    delta = torch.addmm(torch.zeros_like(base.weight), B, A) * alpha / len(A)
    return base(x) + x @ delta.T, (base.weight + delta).detach()


@exercise.right
def frozen_as_in_a_module(x, W, b, A, B, alpha):
    W.requires_grad_(False)
    b.requires_grad_(False)
    scale = alpha / A.size(0)
    return x @ W.T + b + scale * (x @ A.T) @ B.T, W + scale * (B @ A)


# --- wrong, each with the misconception behind it -------------------------------------


def adapter(x, W, b, A, B, alpha, scale=None, merged_scale=None, base=True):
    """The right answer, of which one number at a time is another."""
    W, b = W.detach(), b.detach()
    scale = alpha / len(A) if scale is None else scale
    y = scale * F.linear(F.linear(x, A), B) + (F.linear(x, W, b) if base else 0)
    return y, W + (scale if merged_scale is None else merged_scale) * B @ A


@exercise.wrong("by-hand")
def alpha_not_divided(x, W, b, A, B, alpha):
    """The correction is multiplied by alpha, and not by alpha / r. Another rank would then need
    another learning rate.

    r is the number of rows of A. Where does it come into your function?
    """
    return adapter(x, W, b, A, B, alpha, scale=alpha)


@exercise.wrong("by-hand")
def no_scale(x, W, b, A, B, alpha):
    """alpha is never used: B A is added as it is.

    Set alpha to 0 by hand. What should be left of the correction, and what is left in your
    function?
    """
    return adapter(x, W, b, A, B, alpha, scale=1)


@exercise.wrong("by-hand")
def divided_by_alpha(x, W, b, A, B, alpha):
    """The scale is upside down: r / alpha.

    With a larger alpha the adapter should weigh more. Does it?
    """
    return adapter(x, W, b, A, B, alpha, scale=len(A) / alpha)


@exercise.wrong("by-hand")
def only_divided_by_the_rank(x, W, b, A, B, alpha):
    """The correction is divided by r, and alpha is left out.

    The scale is alpha / r. Which of the two numbers is missing?
    """
    return adapter(x, W, b, A, B, alpha, scale=1 / len(A))


@exercise.wrong("by-hand")
def alpha_times_rank(x, W, b, A, B, alpha):
    """The correction is multiplied by r instead of divided by it. The more ranks are added up, the
    smaller the factor has to be.

    What is alpha / r when alpha is 4 and r is 2?
    """
    return adapter(x, W, b, A, B, alpha, scale=alpha * len(A))


@exercise.wrong("by-hand")
def divided_by_the_width(x, W, b, A, B, alpha):
    """The scale is divided by the wrong side of a matrix: by the width of the layer, and not by the
    rank.

    A has the shape (r, n_in), and B has (n_out, r). Which entry of which shape is r?
    """
    return adapter(x, W, b, A, B, alpha, scale=alpha / A.shape[1])


@exercise.also(divided_by_the_width)
def divided_by_the_rows_of_b(x, W, b, A, B, alpha):
    return adapter(x, W, b, A, B, alpha, scale=alpha / len(B))


@exercise.wrong("why-it-works")
def root_of_the_rank(x, W, b, A, B, alpha):
    """The scale is alpha divided by the *root* of r. There is a variant of LoRA that does this; here
    it is alpha / r.

    What is the scale for alpha = 4 and r = 2?
    """
    return adapter(x, W, b, A, B, alpha, scale=alpha / len(A) ** 0.5)


@exercise.wrong("by-hand")
def only_the_correction(x, W, b, A, B, alpha):
    """The frozen layer is missing from y: only what A and B say is left.

    When B is zero, LoRA must change nothing at all. What does your y hold then?
    """
    return adapter(x, W, b, A, B, alpha, base=False)


@exercise.also(only_the_correction)
def correction_and_bias(x, W, b, A, B, alpha):
    y, merged = adapter(x, W, b, A, B, alpha, base=False)
    return y + b, merged


@exercise.wrong("by-hand")
def bias_forgotten(x, W, b, A, B, alpha):
    """The bias is missing. The frozen layer is W x + b, with both.

    Give your function an x of zeros. What should come out?
    """
    y, merged = adapter(x, W, b, A, B, alpha)
    return y - b, merged


@exercise.wrong("by-hand")
def bias_counted_twice(x, W, b, A, B, alpha):
    """The bias is added twice, once with each path. It belongs to the frozen layer alone.

    Give your function an x of zeros. What should come out, and how many times b does?
    """
    y, merged = adapter(x, W, b, A, B, alpha)
    return y + b, merged


@exercise.also(bias_counted_twice)
def bias_scaled_too(x, W, b, A, B, alpha):
    y, merged = adapter(x, W, b, A, B, alpha)
    return y + alpha / len(A) * b, merged


@exercise.wrong("by-hand")
def everything_scaled(x, W, b, A, B, alpha):
    """The scale multiplies the frozen layer too. Only the correction is scaled.

    When B is zero, y must be W x + b, whatever alpha is. Where do the brackets stand?
    """
    scale = alpha / len(A)
    y = scale * (F.linear(x, W, b) + F.linear(F.linear(x, A), B))
    return y, scale * (W + B @ A)


@exercise.also(everything_scaled)
def output_scaled_alone(x, W, b, A, B, alpha):
    scale = alpha / len(A)
    y = scale * (F.linear(x, W, b) + F.linear(F.linear(x, A), B))
    return y, W + scale * B @ A


@exercise.also(everything_scaled)
def output_scaled_and_merged_right(x, W, b, A, B, alpha):
    scale = alpha / len(A)
    return scale * (F.linear(x, W, b) + F.linear(F.linear(x, A), B)), W + scale * (
        B @ A
    )


@exercise.wrong("the-module")
def merged_is_the_correction(x, W, b, A, B, alpha):
    """`merged` holds the correction alone. It should be the weight of one plain layer that does the
    work of both: W and the correction.

    F.linear(x, merged, b) must be y. What is missing?
    """
    y, merged = adapter(x, W, b, A, B, alpha)
    return y, merged - W


@exercise.wrong("the-module")
def merged_without_the_scale(x, W, b, A, B, alpha):
    """y is right, and `merged` adds B A without the scale. Merging would then change what the model
    says.

    F.linear(x, merged, b) must be y. Which factor has B A in y?
    """
    return adapter(x, W, b, A, B, alpha, merged_scale=1)


@exercise.also(merged_without_the_scale)
def merged_with_alpha(x, W, b, A, B, alpha):
    return adapter(x, W, b, A, B, alpha, merged_scale=alpha)


@exercise.wrong("the-module")
def merged_is_the_base(x, W, b, A, B, alpha):
    """`merged` is W, unchanged: the adapter is not in it.

    F.linear(x, merged, b) must be y. What does it give for your `merged`?
    """
    return adapter(x, W, b, A, B, alpha, merged_scale=0)


@exercise.wrong("the-module")
def applied_twice(x, W, b, A, B, alpha):
    """The correction is in y twice: once in the merged weight, and once more beside it. That
    happens to models that are merged while their adapter stays on.

    With the merged weight, how many paths are left to add?
    """
    y, merged = adapter(x, W, b, A, B, alpha, scale=2 * alpha / len(A))
    return y, merged - alpha / len(A) * B @ A


@exercise.also(applied_twice)
def added_twice_to_both(x, W, b, A, B, alpha):
    return adapter(x, W, b, A, B, alpha, scale=2 * alpha / len(A))


@exercise.wrong("by-hand")
def weights_not_transposed(x, W, b, A, B, alpha):
    """W has one row for each number that comes *out*, and here its rows are read as its columns: x W
    instead of x times the transpose of W.

    `F.linear(x, W)` is `x @ W.T`. Which shape has W, and which has x?
    """
    scale = alpha / len(A)
    return x @ W + b + scale * x @ A.T @ B.T, W + scale * B @ A


@exercise.wrong("by-hand")
def b_first(x, W, b, A, B, alpha):
    """A and B are in the wrong order: x meets B first. A makes few numbers of x, and B makes many of
    those few.

    The correction of the weight is B A, so x meets A first. Which shape has A x?
    """
    scale = alpha / len(A)
    return x @ W.T + b + scale * x @ B.T @ A.T, W + scale * A @ B


@exercise.also(b_first)
def b_first_and_merged_right(x, W, b, A, B, alpha):
    scale = alpha / len(A)
    return x @ W.T + b + scale * x @ B.T @ A.T, W + scale * B @ A


@exercise.also(b_first)
def merged_with_a_b(x, W, b, A, B, alpha):
    y, _ = adapter(x, W, b, A, B, alpha)
    return y, W + alpha / len(A) * A @ B


@exercise.wrong("by-hand")
def adapter_not_transposed(x, W, b, A, B, alpha):
    """The adapter's matrices are used as they stand, without a transpose: x A B instead of B (A x).

    `x @ A.T` has r numbers for each x. Which shape has `x @ A`?
    """
    scale = alpha / len(A)
    return x @ W.T + b + scale * x @ A @ B, W + scale * B @ A


@exercise.wrong("by-hand")
def elementwise(x, W, b, A, B, alpha):
    """B and A are multiplied number by number, with `*`. B A is a product of matrices: `@`.

    B is (n_out, r) and A is (r, n_in). Which shape has B A, and what makes it?
    """
    W, b = W.detach(), b.detach()
    merged = W + alpha / len(A) * B * A
    return F.linear(x, merged, b), merged


@exercise.wrong("by-hand")
def subtracted(x, W, b, A, B, alpha):
    """The correction is taken away instead of added.

    With B = 1 and A x = 1 the adapter should make y larger. Which sign has it in your function?
    """
    return adapter(x, W, b, A, B, -alpha)


@exercise.also(subtracted)
def merged_subtracted(x, W, b, A, B, alpha):
    return adapter(x, W, b, A, B, alpha, merged_scale=-alpha / len(A))


@exercise.wrong("by-hand")
def nonlinear_between(x, W, b, A, B, alpha):
    """Something bends the numbers between A and B, such as a ReLU. Then no single weight could do the work of
    both paths, and nothing could be merged.

    What happens to A x on its way to B in the formula?
    """
    W, b, scale = W.detach(), b.detach(), alpha / len(A)
    y = F.linear(x, W, b) + scale * F.linear(F.linear(x, A).relu(), B)
    return y, W + scale * B @ A


@exercise.wrong("the-module")
def merged_transposed(x, W, b, A, B, alpha):
    """y is right, and `merged` is transposed. Its rows should belong to what comes out, as those of W do.

    F.linear(x, merged, b) must be y. Which shape does it need?
    """
    y, merged = adapter(x, W, b, A, B, alpha)
    return y, merged.T


@exercise.wrong("by-hand")
def results_swapped(x, W, b, A, B, alpha):
    """Both results are right, in the wrong order: y comes first.

    Which of the two stands first after your `return`?
    """
    return adapter(x, W, b, A, B, alpha)[::-1]


@exercise.caught_as("base-not-frozen")
def base_learns_too(x, W, b, A, B, alpha):
    scale = alpha / len(A)
    return F.linear(x, W, b) + scale * F.linear(F.linear(x, A), B), W + scale * B @ A


@exercise.caught_as("base-not-frozen")
def bias_learns_too(x, W, b, A, B, alpha):
    y, merged = adapter(x, W, b, A, B, alpha)
    return y + b - b.detach(), merged


@exercise.caught_as("base-cuts-the-way-back")
def base_without_a_graph(x, W, b, A, B, alpha):
    with torch.no_grad():
        y = F.linear(x, W, b)
    scale = alpha / len(A)
    return y + scale * F.linear(F.linear(x, A), B), W + scale * B @ A


@exercise.caught_as("base-cuts-the-way-back")
def x_detached(x, W, b, A, B, alpha):
    return adapter(x.detach(), W, b, A, B, alpha)


@exercise.caught_as("adapter-cut")
def correction_of_numbers(x, W, b, A, B, alpha):
    return adapter(x, W, b, A.detach(), B, alpha)


@exercise.caught_as("adapter-cut")
def merged_of_numbers(x, W, b, A, B, alpha):
    merged = (W + alpha / len(A) * B @ A).detach()
    return F.linear(x, merged, b.detach()), merged


@exercise.caught_as("nothing-learns")
def all_without_a_graph(x, W, b, A, B, alpha):
    with torch.no_grad():
        return adapter(x, W, b, A, B, alpha)


@exercise.caught_as("modified-input")
def merged_in_place(x, W, b, A, B, alpha):
    y, _ = adapter(x, W, b, A, B, alpha)
    W += alpha / len(A) * B @ A
    return y, W


@exercise.caught_as("wrong-type")
def output_alone(x, W, b, A, B, alpha):
    return adapter(x, W, b, A, B, alpha)[0]


@exercise.caught_as("wrong-shape")
def merged_with_another_axis(x, W, b, A, B, alpha):
    y, merged = adapter(x, W, b, A, B, alpha)
    return y, merged[None]


@exercise.caught_as("returned-none")
def printed(x, W, b, A, B, alpha):
    print(adapter(x, W, b, A, B, alpha))


@exercise.caught_as("raised")
def shapes_do_not_fit(x, W, b, A, B, alpha):
    return F.linear(x[..., :1], W, b), W


@exercise.caught_as("forbidden-call")
def by_the_package(x, W, b, A, B, alpha):
    from babygpt_course.lora import LoRALinear

    base = torch.nn.Linear(W.shape[1], W.shape[0], dtype=W.dtype)
    base.weight, base.bias = torch.nn.Parameter(W.data), torch.nn.Parameter(b.data)
    base.requires_grad_(False)
    layer = LoRALinear(base, len(A), alpha)
    del layer.A, layer.B
    layer.A, layer.B = A, B
    return layer(x), base.weight + layer.delta
