"""10.4: a training loop that keeps the best weights, and gives back others."""

import copy
import math

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="10_training",
    id="10.4",
    title="Bug hunt: the best weights that were not",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="how-it-breaks",
    hints="""
    The loop says which loss the best table has. Measure the loss of the table that it gives
    back. Is it the same number? At which step was the table last like that?

    `b = a` makes no copy, and `a.detach()` makes none either: both names lead to the same
    numbers in memory. The optimizer writes into that memory in every step. What does `best`
    hold after the next step?

    A copy of the numbers, made at the moment when the loss is the lowest: one more method call
    on the line that sets `best`.
    """,
)


@exercise.oracle
def fit(table, train_ids, val_ids, steps, lr):
    V, rows = len(table), table.tolist()

    def softmax(row):
        exps = [math.exp(x - max(row)) for x in row]
        return [e / sum(exps) for e in exps]

    def pairs(ids):
        ids = ids.tolist()
        return list(zip(ids, ids[1:]))

    def nats(rows):
        each = [-math.log(softmax(rows[a])[b]) for a, b in pairs(val_ids)]
        return sum(each) / len(each)

    best, lowest = rows, nats(rows)
    for _ in range(steps):
        slope = [[0.0] * V for _ in range(V)]
        for a, b in pairs(train_ids):
            for i, p in enumerate(softmax(rows[a])):
                slope[a][i] += (p - (i == b)) / (len(train_ids) - 1)
        rows = [[x - lr * s for x, s in zip(row, own)] for row, own in zip(rows, slope)]
        loss = nats(rows)
        if loss < lowest:
            best, lowest = rows, loss
    return torch.tensor(best, dtype=table.dtype), lowest


def mean_nats(model, ids):
    return F.cross_entropy(model[ids[:-1]], ids[1:])


def fitted(
    table,
    train_ids,
    val_ids,
    steps,
    lr,
    keep=lambda model: model.detach().clone(),
    better=lambda loss, lowest: loss < lowest,
    judge=None,
    first=0,
    last=0,
    clears=True,
    stops=False,
    late=False,
):
    """The code of the exercise, of which one part at a time is replaced."""
    model = table.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([model], lr=lr)
    best, lowest, before = keep(model), math.inf, model
    for step in range(steps + 1 - last):
        if step > 0:
            before = keep(model) if late else model
            if clears:
                optimizer.zero_grad()
            mean_nats(model, train_ids).backward()
            optimizer.step()
        loss = mean_nats(model, val_ids if judge is None else judge).item()
        if step >= first and better(loss, lowest):
            best, lowest = before if late else keep(model), loss
        elif stops and step >= first:
            break
    return best, lowest


@exercise.given
def best_is_another_name(table, train_ids, val_ids, steps, lr):
    return fitted(
        table, train_ids, val_ids, steps, lr, keep=lambda model: model.detach()
    )


def ids(*numbers):
    return torch.tensor(numbers)


# (seed, (V, n, steps, lr)): the best is clearly better than its neighbors.
CASES = [(1, (5, 20, 12, 8.0)), (5, (4, 14, 9, 14.0)), (0, (4, 12, 6, 20.0))]


def random_case(V, n, steps, lr, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(V, V, generator=generator, dtype=torch.float64).to(dtype)
    # Both texts come from one table of chances, so that training helps at first.
    chances = (2 * torch.randn(V, V, generator=generator)).softmax(-1)
    texts = []
    for length in (n, 2 * n):
        text = [0]
        while len(text) < length:
            below = chances[text[-1]].cumsum(0)[:-1]
            text.append(int((torch.rand(1, generator=generator) > below).sum()))
        texts.append(torch.tensor(text))
    return table, *texts, steps, lr


@exercise.cases
def cases():
    flat = torch.zeros(2, 2)
    yield Case((flat, ids(0, 0, 0, 1), ids(0, 0, 1), 1, 1.0), "the start is the best")
    yield Case((flat, ids(0, 1), ids(0, 1, 0), 2, 1.0), "the last is the best")
    yield Case((flat, ids(0, 1), ids(0, 1, 0, 1, 0, 0), 2, 1.0))
    yield Case((flat, ids(0, 1), ids(0, 1, 0, 1, 0, 0), 1, 1.0))
    yield Case((flat, ids(0, 1), ids(0, 1, 0, 1, 0, 0), 5, 0.6))
    yield Case((flat, ids(0, 1), ids(0, 1), 0, 1.0), "no step at all")
    yield Case((flat, ids(0, 1, 0), ids(0, 1), 1, 0.5))
    three = torch.tensor([[0.0, 1, 0], [2, 0, 0], [0, 0, 1]], dtype=torch.float64)
    yield Case((three, ids(0, 1, 0, 1), ids(2, 2, 2), 3, 1.0), "equally good")
    yield Case((three, ids(1, 0, 2, 1), ids(1, 1, 0, 2, 0, 1), 7, 3.0))
    for seed, (V, n, steps, lr) in CASES:
        yield Case(random_case(V, n, steps, lr, seed))
        yield Case(random_case(V, n, steps, lr, seed, torch.float32), "float32")
    table, train_ids, val_ids, steps, lr = random_case(3, 8, 12, 5.0, 25)
    yield Case(
        (table.T, train_ids.repeat_interleave(2)[::2], val_ids, steps, lr),
        NON_CONTIGUOUS,
    )


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def cloned_in_time(table, train_ids, val_ids, steps, lr):
    return fitted(table, train_ids, val_ids, steps, lr)


@exercise.right
def deep_copy_of_the_state(table, train_ids, val_ids, steps, lr):
    model = torch.nn.Module()
    model.table = torch.nn.Parameter(table.clone())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    best, lowest = copy.deepcopy(model.state_dict()), math.inf
    for step in range(steps + 1):
        loss = mean_nats(model.table, val_ids).item()
        if loss < lowest:
            best, lowest = copy.deepcopy(model.state_dict()), loss
        if step < steps:
            optimizer.zero_grad()
            mean_nats(model.table, train_ids).backward()
            optimizer.step()
    return best["table"], lowest


@exercise.right
def a_new_table_in_each_step(table, train_ids, val_ids, steps, lr):
    history = [table]
    for _ in range(steps):
        model = history[-1].detach().requires_grad_()
        (grad,) = torch.autograd.grad(mean_nats(model, train_ids), model)
        history.append(model.detach() - lr * grad)
    losses = [mean_nats(model, val_ids).item() for model in history]
    at = losses.index(min(losses))
    return history[at], losses[at]


@exercise.right
def copied_into_memory_of_its_own(table, train_ids, val_ids, steps, lr):
    best = torch.empty_like(table)
    _, lowest = fitted(
        table, train_ids, val_ids, steps, lr, keep=lambda model: best.copy_(model.data)
    )
    return best, torch.tensor(lowest, dtype=torch.float64)


@exercise.right
def by_arithmetic(table, train_ids, val_ids, steps, lr):
    return fitted(table, train_ids, val_ids, steps, lr, keep=lambda model: model + 0)


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("how-it-breaks")
def loss_of_the_last(table, train_ids, val_ids, steps, lr):
    """Table and loss agree now, and both are those of the last step. The best was some steps
    earlier.

    The loss that was reported was right; the table was not. Which of the two should change?
    """
    model, _ = fitted(
        table, train_ids, val_ids, steps, lr, better=lambda loss, lowest: True
    )
    return model, mean_nats(model, val_ids).item()


@exercise.wrong("how-it-breaks")
def contiguous_is_taken_for_a_copy(table, train_ids, val_ids, steps, lr):
    """`contiguous()` copies only what is not yet in one block of memory. The table nearly always is,
    and then it gives back the very same numbers, which the next step writes over.

    Which method makes a copy in every case?
    """
    return fitted(
        table,
        train_ids,
        val_ids,
        steps,
        lr,
        keep=lambda model: model.detach().contiguous(),
    )


@exercise.wrong("how-it-breaks")
def copied_once_before_the_loop(table, train_ids, val_ids, steps, lr):
    """The copy is made once, before the loop, so the table that comes back is the one that it
    began with.

    A copy is needed at the moment when the loss is the lowest. Is that line inside the
    `if`?
    """
    _, lowest = fitted(table, train_ids, val_ids, steps, lr)
    return table.clone(), lowest


@exercise.wrong("how-it-breaks")
def copied_a_step_too_early(table, train_ids, val_ids, steps, lr):
    """The table that comes back is the one from a step before the best: it was copied before
    the step, and its loss was measured after it.

    Which numbers did the model have when that loss was measured?
    """
    return fitted(table, train_ids, val_ids, steps, lr, late=True)


@exercise.wrong("how-it-breaks")
def chosen_on_the_training_text(table, train_ids, val_ids, steps, lr):
    """The table is chosen on the training text. There more steps nearly always look better, so
    this is the table that has learned it by heart.

    Which text has the model never trained on? That one should choose.
    """
    return fitted(table, train_ids, val_ids, steps, lr, judge=train_ids)


@exercise.also(chosen_on_the_training_text)
def chosen_on_one_and_measured_on_the_other(table, train_ids, val_ids, steps, lr):
    best, _ = fitted(table, train_ids, val_ids, steps, lr, judge=train_ids)
    return best, mean_nats(best, val_ids).item()


@exercise.wrong("how-it-breaks")
def trained_on_the_validation_text(table, train_ids, val_ids, steps, lr):
    """The model is trained on the validation text. Its loss there is no measure of anything any
    more.

    Which text may a training step see, and which one is only for choosing?
    """
    return fitted(table, val_ids, val_ids, steps, lr)


@exercise.wrong("how-it-breaks")
def stops_at_the_first_rise(table, train_ids, val_ids, steps, lr):
    """The loop ends as soon as the validation loss is not the lowest so far. With a high rate
    it goes up for a step and then lower than before, and that is never seen.

    The given loop made all its steps. What did the fault have to do with when to stop?
    """
    return fitted(table, train_ids, val_ids, steps, lr, stops=True)


@exercise.wrong("how-it-breaks")
def gradients_never_cleared(table, train_ids, val_ids, steps, lr):
    """The table is a copy now, and `zero_grad` is gone: every step adds its gradient to those of
    all steps before.

    `backward` adds to `.grad`. Who empties it?
    """
    return fitted(table, train_ids, val_ids, steps, lr, clears=False)


@exercise.wrong("how-it-breaks")
def last_of_equals(table, train_ids, val_ids, steps, lr):
    """When several tables are equally good this gives back the last of them. The task asks for
    the first.

    `<` and `<=` differ in just this. Which did the given code use?
    """
    return fitted(
        table,
        train_ids,
        val_ids,
        steps,
        lr,
        better=lambda loss, lowest: loss <= lowest,
    )


@exercise.wrong("how-it-breaks")
def worst_for_best(table, train_ids, val_ids, steps, lr):
    """The table with the *highest* validation loss comes back.

    A loss is better the lower it is. Which way does your comparison point?
    """
    return fitted(
        table,
        train_ids,
        val_ids,
        steps,
        lr,
        better=lambda loss, lowest: lowest == math.inf or loss > lowest,
    )


@exercise.wrong("how-it-breaks")
def start_never_measured(table, train_ids, val_ids, steps, lr):
    """The table that the training begins with is never looked at. When it is better than all
    that come after, it should be kept.

    The given loop measured before the first step. Does yours?
    """
    if steps == 0:
        return table.clone(), mean_nats(table, val_ids).item()
    return fitted(table, train_ids, val_ids, steps, lr, first=1)


@exercise.also(start_never_measured)
def start_never_measured_and_nothing_without_steps(
    table, train_ids, val_ids, steps, lr
):
    return fitted(table, train_ids, val_ids, steps, lr, first=1)


@exercise.wrong("how-it-breaks")
def end_never_measured(table, train_ids, val_ids, steps, lr):
    """The table after the last step is never looked at (or the loop makes one step too few).

    With `steps` steps there are `steps + 1` tables, the first one included. How many losses does
    your loop measure?
    """
    if steps == 0:
        return table.clone(), mean_nats(table, val_ids).item()
    return fitted(table, train_ids, val_ids, steps, lr, last=1)


@exercise.also(end_never_measured)
def end_never_measured_and_nothing_without_steps(table, train_ids, val_ids, steps, lr):
    return fitted(table, train_ids, val_ids, steps, lr, last=1)


@exercise.wrong("how-it-breaks")
def tables_averaged(table, train_ids, val_ids, steps, lr):
    """The table that comes back is a mean of all the best tables so far. Each of them had a loss;
    their mean has another.

    The loss that is reported was measured on one table. On which?
    """
    kept = []

    def keep(model):
        kept.append(model.detach().clone())
        return kept[-1]

    _, lowest = fitted(table, train_ids, val_ids, steps, lr, keep=keep)
    best, seen = [], math.inf
    for model in [kept[0], *kept[1:]]:
        loss = mean_nats(model, val_ids).item()
        if loss < seen:
            best, seen = [*best, model], loss
    return torch.stack(best).mean(0), lowest


@exercise.caught_as("modified-input")
def trains_the_table_it_was_given(table, train_ids, val_ids, steps, lr):
    table.requires_grad_()
    for _ in range(steps):
        (grad,) = torch.autograd.grad(mean_nats(table, train_ids), table)
        table.data -= lr * grad
    return table.detach().clone(), mean_nats(table, val_ids).item()


@exercise.caught_as("wrong-type")
def only_the_table(table, train_ids, val_ids, steps, lr):
    return fitted(table, train_ids, val_ids, steps, lr)[0]


@exercise.caught_as("wrong-type")
def table_of_lists(table, train_ids, val_ids, steps, lr):
    best, lowest = fitted(table, train_ids, val_ids, steps, lr)
    return best.tolist(), lowest


@exercise.caught_as("raised")
def no_name_for_the_best(table, train_ids, val_ids, steps, lr):
    lowest = -math.inf
    for _ in range(steps + 1):
        loss = mean_nats(table, val_ids).item()
        if loss < lowest:
            best, lowest = table.clone(), loss
    return best, lowest


@exercise.caught_as("wrong-dtype")
def copied_in_half(table, train_ids, val_ids, steps, lr):
    best, lowest = fitted(table, train_ids, val_ids, steps, lr)
    return best.half(), lowest
