"""02.5: windows for a neural n-gram that never see the newest token."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="02_ngram",
    id="02.5",
    title="Bug hunt: the n-gram that skips one",
    kind="bug hunt",
    points=3,
    minutes=11,
    anchor="how-it-breaks",
    equivalent={
        "x = ids.unfold(-1, context, 1)": "A text has one dimension: it is the first "
        "and the last one.",
    },
    hints="""
    Call it on torch.arange(8) with a context of 3. Each number is its own position, so
    the rows can be read. Which number should be predicted from 0, 1, 2?

    Row i of x is ids[i], ..., ids[i + context - 1]. The id right behind them is
    ids[i + context], so y starts with ids[context].

    x and y must be equally long, so the last window has no target and is dropped. Look
    at the line that makes y: how far apart are the last id of a window and its target?
    """,
)


@exercise.oracle
def windows(ids, context):
    rows = range(len(ids) - context)
    x = torch.tensor([ids[i : i + context].tolist() for i in rows])
    y = torch.tensor([ids[i + context].item() for i in rows])
    return x, y


@exercise.given
def newest_token_skipped(ids, context):
    x = ids.unfold(0, context, 1)
    y = ids[context + 1 :]
    return x[: len(y)], y


@exercise.cases
def cases():
    for n, context in [(5, 2), (3, 1), (4, 2), (7, 3), (9, 4)]:
        yield Case((torch.arange(5, 5 + n), context))
    yield Case((torch.tensor([3, 3, 3, 1, 3, 3]), 2))
    for seed, (n, context) in enumerate([(12, 3), (40, 5), (61, 8)]):
        generator = torch.Generator().manual_seed(seed)
        yield Case((torch.randint(11, (n,), generator=generator), context))
    yield Case((torch.arange(3), 2), "one window")
    yield Case((torch.arange(30)[::3], 3), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def without_the_last_id(ids, context):
    return ids[:-1].unfold(0, context, 1), ids[context:]


@exercise.right
def a_table_of_positions(ids, context):
    start = torch.arange(len(ids) - context)[:, None]
    return ids[start + torch.arange(context)], ids[context:].clone()


@exercise.right
def one_window_at_a_time(ids, context):
    x, y = [], []
    for t in range(context, len(ids)):
        x.append(ids[t - context : t])
        y.append(ids[t])
    return [torch.stack(x), torch.stack(y)]


@exercise.right
def input_and_target_cut_from_one(ids, context):
    both = ids.unfold(0, context + 1, 1)
    return both[:, :-1], both[:, -1]


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("how-it-breaks")
def target_is_the_newest_input(ids, context):
    """Now the target is the last id of its own window: the model has only to copy it, and
    the loss falls to nothing.

    The shift went one step too far. In a window 0, 1, 2, which id is not in it yet and
    comes next?
    """
    y = ids[context - 1 :]
    return ids.unfold(0, context, 1)[: len(y)], y


@exercise.wrong("how-it-breaks")
def two_tokens_skipped(ids, context):
    """The gap has grown: now two ids are skipped between a window and its target.

    The shift went the wrong way. What comes right behind the window 0, 1, 2?
    """
    y = ids[context + 2 :]
    return ids.unfold(0, context, 1)[: len(y)], y


@exercise.wrong("how-it-breaks")
def first_example_missing(ids, context):
    """Every window now has its own next id, and the first window of the text is missing.

    You moved the windows instead of the targets. Which id follows ids[0], ...,
    ids[context - 1], and where in y is it?
    """
    y = ids[context + 1 :]
    return ids[1:].unfold(0, context, 1)[: len(y)], y


@exercise.wrong("how-it-breaks")
def last_example_missing(ids, context):
    """Every window now has its own next id, and the last id of the text is never a
    target.

    ids[-1] follows a full window. Where does your y end?
    """
    y = ids[context:-1]
    return ids.unfold(0, context, 1)[: len(y)], y


@exercise.wrong("how-it-breaks")
def window_grew_by_one(ids, context):
    """The newest id is in the window now, but the window has become one id longer.

    The model reads `context` ids, and its first layer is built for that. The window was
    right; which of the two should move?
    """
    y = ids[context + 1 :]
    return ids.unfold(0, context + 1, 1)[: len(y)], y


@exercise.wrong("how-it-breaks")
def first_window_dropped(ids, context):
    """x and y are equally long, but the surplus window was dropped at the wrong end: each
    window now ends with its own target.

    There is one window more than there are targets, because nothing follows the last
    one. Which one has to go?
    """
    y = ids[context:]
    return ids.unfold(0, context, 1)[-len(y) :], y


@exercise.wrong("by-hand")
def newest_id_first(ids, context):
    """Targets and windows fit, but each window stands back to front.

    A window is a piece of the text, in reading order. A model that was trained on this
    order would have to be asked in it too. Who turns it around?
    """
    x, y = windows(ids, context)
    return x.flip(1), y


@exercise.wrong("how-it-breaks")
def windows_that_do_not_overlap(ids, context):
    """The text is cut into blocks, so most examples are missing: each id should be a
    target once.

    `unfold(dim, size, step)`: how far is it from one window to the next one?
    """
    x, y = windows(ids, context)
    return x[::context], y[::context]


@exercise.wrong("how-it-breaks")
def end_joined_to_start(ids, context):
    """There are examples too many: the end of the text is followed by its start again, as
    on a ring.

    `torch.roll` puts the first ids behind the last one. In the text nothing follows it.
    """
    return windows(torch.cat([ids, ids[:context]]), context)


@exercise.wrong("the-module")
def a_target_for_every_position(ids, context):
    """y has a target for every id of a window. This model makes one prediction for each
    window, about the id behind it.

    Models that predict at every position come later in the book. What is the shape of y
    here, and which column of yours is it?
    """
    every = ids.unfold(0, context, 1)
    return every[:-1], every[1:]


@exercise.wrong("by-hand")
def returned_in_the_other_order(ids, context):
    """Both results are right and come back in the wrong order: y, x.

    The line `x, y = windows(ids, context)` puts the first one into x. Which is first
    after your `return`?
    """
    x, y = windows(ids, context)
    return y, x


@exercise.wrong("how-it-breaks")
def lengths_that_differ(ids, context):
    """y is right, and x has one window more than y: the cut to equal length is gone.

    Nothing follows the last window of the text, so it has no target. Which line of the
    given code took care of that?
    """
    return ids.unfold(0, context, 1), ids[context:]


@exercise.caught_as("wrong-dtype")
def windows_in_floats(ids, context):
    x, y = windows(ids, context)
    return x.float(), y


@exercise.caught_as("wrong-shape")
def targets_in_a_column(ids, context):
    x, y = windows(ids, context)
    return x, y[:, None]


@exercise.caught_as("wrong-type")
def only_the_windows(ids, context):
    return windows(ids, context)[0]


@exercise.caught_as("wrong-type")
def windows_in_lists(ids, context):
    x, y = windows(ids, context)
    return x.tolist(), y.tolist()


@exercise.caught_as("modified-input")
def start_put_to_zero(ids, context):
    out = windows(ids.clone(), context)
    ids[:context] = 0
    return out


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(ids, context):
    return windows(torch.as_strided(ids, (len(ids),), (1,)), context)


@exercise.caught_as("raised")
def one_index_too_far(ids, context):
    rows = range(len(ids) - context + 1)
    return torch.stack([ids[i : i + context] for i in rows]), ids[
        torch.tensor([i + context for i in rows])
    ]
