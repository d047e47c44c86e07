"""10.5: the gradient of a large batch from parts that are not equally large."""

import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import Rule

exercise = Exercise(
    chapter="10_training",
    id="10.5",
    title="Accumulate unequal parts",
    kind="stretch",
    points=3,
    minutes=9,
    anchor="why-it-works",
    rules=(
        Rule(
            "whole-batch",
            frozenset(
                "cat concat concatenate hstack vstack pad_sequence nested_tensor "
                "from_iterable chain".split()
            ),
            "The values are right, but `{name}` puts all parts into one batch, and the "
            "memory for that is what is missing.",
            "Take the parts one after the other. What has to be known about all of them "
            "before the first?",
        ),
    ),
    hints="""
    One part has 2 targets and another one 6. In a batch of all 8 every target counts the same.
    How much does each part count, then?

    The loss of the whole batch is the sum over all targets of all parts, divided by the number
    N of all targets. A sum may be taken in pieces, and so may its gradient. A part with n ids
    has n - 1 targets.

    N = the sum of len(ids) - 1; table = a copy that requires a gradient; for ids in parts:
    loss = cross_entropy(table[ids[:-1]], ids[1:], reduction="sum") / N; loss.backward(). The
    gradients add up in table.grad.
    """,
)


@exercise.oracle
def accumulated_grad(table, parts):
    V, rows = len(table), table.tolist()
    n = sum(len(ids) - 1 for ids in parts)
    grad = [[0.0] * V for _ in range(V)]
    for ids in parts:
        ids = ids.tolist()
        for a, b in zip(ids, ids[1:]):
            exps = [math.exp(x - max(rows[a])) for x in rows[a]]
            for i, e in enumerate(exps):
                grad[a][i] += (e / sum(exps) - (i == b)) / n
    return torch.tensor(grad, dtype=table.dtype)


def random_case(V, lengths, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(V, V, generator=generator, dtype=torch.float64).to(dtype)
    return table, [torch.randint(V, (n,), generator=generator) for n in lengths]


@exercise.cases
def cases():
    flat = torch.zeros(2, 2)

    def parts(*texts):
        return [torch.tensor(text) for text in texts]

    yield Case((flat, parts([0, 1])))
    yield Case((flat, parts([0, 1, 0, 1, 1], [0, 0])))
    yield Case((flat, parts([0, 0], [0, 1, 0, 1, 1])))
    yield Case((flat, parts([0, 1, 0], [1, 1, 1])), "equal parts")
    table = torch.tensor([[0.0, 1, 0], [2, 0, 0], [0, 0, 1]])
    yield Case((table, parts([2, 2, 2], [0, 1], [1])), "a part without a target")
    yield Case((table, parts([0], [1, 2, 1], [2, 0])), "a part without a target")
    yield Case((table.double(), parts([1, 1, 0], [0, 2, 2, 2, 1, 0])))
    for seed, (V, lengths) in enumerate(
        [(5, (2, 9, 4)), (7, (30, 3, 2, 2)), (4, (6, 6, 6, 1))]
    ):
        yield Case(random_case(V, lengths, seed))
        yield Case(random_case(V, lengths, seed, torch.float32), "float32")
    table, (a, b) = random_case(4, (9, 12), 9)
    yield Case((table.T, [a[::3], b[::2]]), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def sums_and_one_division(table, parts):
    w = table.detach().clone().requires_grad_()
    for ids in parts:
        F.cross_entropy(w[ids[:-1]], ids[1:], reduction="sum").backward()
    return w.grad / sum(len(ids) - 1 for ids in parts)


@exercise.right
def means_weighted_by_their_targets(table, parts):
    w = table.clone().requires_grad_()
    sizes = [len(ids) - 1 for ids in parts]
    total = torch.zeros_like(table)
    for ids, n in zip(parts, sizes):
        if n:
            loss = F.cross_entropy(w[ids[:-1]], ids[1:])
            total += torch.autograd.grad(loss, w)[0] * n / sum(sizes)
    return total


@exercise.right
def without_autograd(table, parts):
    V = len(table)
    counts = torch.zeros(V, V, dtype=table.dtype)
    for ids in parts:
        one = torch.ones(len(ids) - 1, dtype=table.dtype)
        counts.index_put_((ids[:-1], ids[1:]), one, accumulate=True)
    expected = counts.sum(1, keepdim=True) * table.softmax(1)
    return (expected - counts) / counts.sum()


@exercise.right
def with_log_softmax(table, parts):
    w = table.detach().clone().requires_grad_(True)
    n, loss = 0, 0.0
    for ids in parts:
        loss = (
            loss
            - torch.log_softmax(w[ids[:-1]], -1)[range(len(ids) - 1), ids[1:]].sum()
        )
        n += len(ids) - 1
    (loss / n).backward()
    return w.grad


# --- wrong, each with the misconception behind it -------------------------------------


def sum_grad(table, ids):
    """The gradient of the summed loss of one part."""
    return accumulated_grad(table, [ids]) * (len(ids) - 1)


def sum_grads(table, parts, share):
    """The parts' gradients of a sum, each times its share."""
    full = [ids for ids in parts if len(ids) > 1]
    return sum(sum_grad(table, ids) * share(ids) for ids in full)


def means(table, parts):
    """The gradient of the mean loss of each part that has a target."""
    return [accumulated_grad(table, [ids]) for ids in parts if len(ids) > 1]


def adds(answer, of=None):
    """A wrong answer; and the same where a part without a target gives nan."""

    def with_nan(table, parts):
        bad = any(len(ids) < 2 for ids in parts)
        return answer(table, parts) * (math.nan if bad else 1.0)

    first = (exercise.also(of) if of else exercise.wrong("why-it-works"))(answer)
    with_nan.__name__ = answer.__name__ + "_and_nan"
    exercise.also(of or first)(with_nan)
    return first


@adds
def mean_of_the_means(table, parts):
    """Every part counts the same here, whether it has 2 targets or 200. A target in a small part
    then counts for more than one in a large part.

    In one large batch every target counts the same. By what must a part's mean be weighted?
    """
    return sum(means(table, parts)) / len(parts)


def mean_over_parts_with_targets(table, parts):
    return sum(means(table, parts)) / len(means(table, parts))


adds(mean_over_parts_with_targets, of=mean_of_the_means)


@adds
def means_added_up(table, parts):
    """The gradients of the parts' means are added up and not divided: with four parts the step
    would be four times as large.

    `backward` adds to what is there. What must each loss be divided by first?
    """
    return sum(means(table, parts))


@adds
def sums_not_divided(table, parts):
    """The gradients of all targets are added up and never divided: the more targets, the larger
    the gradient.

    The loss of a batch is a mean. Over how many targets?
    """
    return sum_grads(table, parts, lambda ids: 1.0)


@exercise.wrong("why-it-works")
def only_the_last_part(table, parts):
    """Only the last part is left. What came before was thrown away, perhaps by a `zero_grad` or
    an `=` inside the loop.

    `backward` adds to `.grad`. When may it be emptied: between the parts, or before the first of
    them?
    """
    n = sum(len(ids) - 1 for ids in parts)
    last = parts[-1]
    return sum_grad(table, last) / n if len(last) > 1 else torch.zeros_like(table)


@exercise.also(only_the_last_part)
def only_the_last_mean(table, parts):
    last = parts[-1]
    return (
        accumulated_grad(table, [last])
        if len(last) > 1
        else torch.full_like(table, math.nan) * 0
    )


@exercise.also(only_the_last_part)
def only_the_last_mean_or_zero(table, parts):
    last = parts[-1]
    return accumulated_grad(table, [last]) if len(last) > 1 else torch.zeros_like(table)


@exercise.also(only_the_last_part)
def only_the_last_mean_of_several(table, parts):
    last = parts[-1]
    return (
        accumulated_grad(table, [last]) / len(parts)
        if len(last) > 1
        else torch.zeros_like(table)
    )


@exercise.wrong("why-it-works")
def only_the_first_part(table, parts):
    """Only the first part is used.

    Is the `return` inside the loop? How many parts are there?
    """
    n = sum(len(ids) - 1 for ids in parts)
    first = parts[0]
    return sum_grad(table, first) / n if len(first) > 1 else torch.zeros_like(table)


@exercise.also(only_the_first_part)
def only_the_first_mean(table, parts):
    first = parts[0]
    return (
        accumulated_grad(table, [first])
        if len(first) > 1
        else torch.full_like(table, math.nan)
    )


@adds
def ids_counted_for_targets(table, parts):
    """The number of ids is used for the number of targets. A text of n ids has one target less:
    nothing comes before the first.

    How many pairs are in 0, 1, 0, 1, 1? And in a text with one id?
    """
    n = sum(len(ids) for ids in parts)
    return sum_grads(table, parts, lambda ids: 1 / n)


def means_weighted_by_their_ids(table, parts):
    n = sum(len(ids) for ids in parts)
    return sum_grads(table, parts, lambda ids: len(ids) / (len(ids) - 1) / n)


adds(means_weighted_by_their_ids, of=ids_counted_for_targets)


@exercise.wrong("why-it-works")
def parts_joined(table, parts):
    """The parts are joined to one text, and the first id of a part becomes the target of the last
    id of the part before. They are separate texts.

    Two texts of 5 and 2 ids have 4 and 1 targets. How many has a text of 7?
    """
    return accumulated_grad(table, [torch.cat(parts)])


@adds
def sums_divided_by_the_parts(table, parts):
    """The sums of the parts are divided by the number of parts. A mean over targets has the number of
    *targets* below the line.

    Part 0 has 4 targets and part 1 has 1. By what is the sum of all five losses divided?
    """
    return sum_grads(table, parts, lambda ids: 1 / len(parts))


@adds
def all_as_long_as_the_first(table, parts):
    """The first part's number of targets is used for all of them. That is right only as long as
    all parts are equally long.

    The last part of an epoch is nearly always shorter. What is added up to get N?
    """
    n = max(len(parts[0]) - 1, 1) * len(parts)
    return sum_grads(table, parts, lambda ids: 1 / n)


@adds
def divided_twice(table, parts):
    """The gradient is divided by the number of targets and then once more by the number of
    parts.

    The shares of all parts must add up to 1. What do yours add up to?
    """
    n = sum(len(ids) - 1 for ids in parts)
    return sum_grads(table, parts, lambda ids: 1 / n / len(parts))


@exercise.wrong("why-it-works")
def empty_part_is_nan(table, parts):
    """A part with one id has no target. Its mean is 0 / 0, which is nan, and one nan spoils the
    gradient of all the others.

    A sum over no targets is 0, without any special case. Where do you take a mean?
    """
    bad = any(len(ids) < 2 for ids in parts)
    return accumulated_grad(table, parts) * (math.nan if bad else 1.0)


@adds
def a_step_between_the_parts(table, parts):
    """The table is changed between the parts, so that the later ones are judged by another table.
    All parts of one batch belong to one and the same table.

    When is the step made: after each part, or after the last one?
    """
    n = sum(len(ids) - 1 for ids in parts)
    model, total = table, torch.zeros_like(table)
    for ids in parts:
        grad = sum_grads(model, [ids], lambda ids: 1 / n)
        total, model = total + grad, model - grad
    return total


@adds
def uphill(table, parts):
    """The gradient has the wrong sign: it is that of the log-probability, and not of the loss.

    The loss is minus a logarithm. Where did the minus go?
    """
    n = sum(len(ids) - 1 for ids in parts)
    return sum_grads(table, parts, lambda ids: -1 / n)


@adds
def in_bits(table, parts):
    """This is the gradient of the loss in bits. The course trains on nats.

    By which factor do the two differ, and which logarithm has your loss?
    """
    n = sum(len(ids) - 1 for ids in parts)
    return sum_grads(table, parts, lambda ids: 1 / n / math.log(2))


@adds
def mean_of_rows_seen(table, parts):
    """Each row of the table is divided by how often its own token occurred, so that every row
    counts the same. A token that is seen often should move its row more.

    All targets have one common number below the line. Which?
    """
    rows = torch.zeros(len(table), dtype=table.dtype)
    for ids in parts:
        rows += torch.bincount(ids[:-1], minlength=len(table))
    total = sum_grads(table, parts, lambda ids: 1.0)
    return total / rows.clamp(min=1)[:, None]


@exercise.caught_as("modified-input")
def step_in_place(table, parts):
    grad = accumulated_grad(table, parts)
    table -= grad
    return grad


@exercise.caught_as("whole-batch")
def one_large_batch(table, parts):
    w = table.detach().clone().requires_grad_()
    x = torch.cat([ids[:-1] for ids in parts])
    y = torch.cat([ids[1:] for ids in parts])
    F.cross_entropy(w[x], y).backward()
    return w.grad


@exercise.caught_as("returned-none")
def gradient_of_a_copy(table, parts):
    w = table.detach().clone().requires_grad_()
    accumulated_grad(table, parts)
    return w.grad


@exercise.caught_as("wrong-dtype")
def in_float32(table, parts):
    return accumulated_grad(table, parts).float()


@exercise.caught_as("wrong-shape")
def row_sums(table, parts):
    return accumulated_grad(table, parts).sum(1)


@exercise.caught_as("raised")
def no_gradient_asked_for(table, parts):
    n = sum(len(ids) - 1 for ids in parts)
    for ids in parts:
        loss = F.cross_entropy(table[ids[:-1]], ids[1:], reduction="sum") / n
        loss.backward()
    return table.grad


@exercise.caught_as("wrong-type")
def the_loss(table, parts):
    n = sum(len(ids) - 1 for ids in parts)
    losses = [
        F.cross_entropy(table[ids[:-1]], ids[1:], reduction="sum") for ids in parts
    ]
    return sum(losses).item() / n
