"""06.4: write one id after another, always the likeliest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.show import kind

exercise = Exercise(
    chapter="06_cross_attention",
    id="06.4",
    title="Write until the end",
    kind="implement",
    points=3,
    minutes=10,
    anchor="the-module",
    hints="""
    What does the model need to be shown before it has written anything? And for the second
    id: what is different from the first call?

    ids begins as [start]. new = argmax of step(ids); ids grows by new. It ends when new is
    the end, or when there are max_len new ids.

    ids = [start]; up to max_len times: take the argmax of step(ids) as a plain number; if
    it is the end, leave the loop; else append it. Give back ids without the first one.
    """,
)

FAR = 60  # ids; every case ends long before


@dataclass(frozen=True)
class Step:
    """A model to decode from, written as the code of a function, so that it can be pasted.

    It stops whoever writes on and on.
    """

    code: str
    function: Callable[[list[int]], Any] = field(init=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "function", eval(self.code, {"torch": torch}))

    def __call__(self, ids):
        if not isinstance(ids, (list, tuple)):
            raise TypeError(f"step wants a list of ids; this is {kind(ids)}")
        if len(ids) > FAR:
            raise RuntimeError(
                f"step was called with {len(ids)} ids, far beyond max_len"
            )
        return self.function(ids)

    def __repr__(self):
        return self.code


@exercise.oracle
def greedy_decode(step, start, end, max_len):
    ids = [start]
    for _ in range(max_len):
        logits = step(list(ids)).tolist()
        best = 0
        for i, logit in enumerate(logits):
            if logit > logits[best]:
                best = i
        if best == end:
            break
        ids.append(best)
    return ids[1:]


def by_last(table, start, end, max_len):
    """The logits depend on the newest id."""
    return Step(f"lambda ids: torch.tensor({table})[ids[-1]]"), start, end, max_len


def by_length(table, start, end, max_len):
    """The logits depend on how many ids there are."""
    code = f"lambda ids: torch.tensor({table})[(len(ids) - 1) % {len(table)}]"
    return Step(code), start, end, max_len


def by_all(seed, V, start, end, max_len, dtype="float32"):
    """The logits depend on every id, and on its place."""
    code = (
        f"lambda ids: torch.randn({V}, 16, dtype=torch.{dtype}, generator="
        f"torch.Generator().manual_seed({seed} + sum((i + 1) * (n + 3) for i, n in "
        f"enumerate(ids)))).sum(1)"
    )
    return Step(code), start, end, max_len


@exercise.cases
def cases():
    chain = [[0.0, 0, 50], [0, 0, 0], [0, 50, 0]]  # 0 -> 2 -> 1
    yield Case(by_last(chain, 0, 1, 5))
    circle = [[0.0, 0, 50], [0, 0, 0], [50, 0, 0]]  # 0 -> 2 -> 0 -> 2 ...
    yield Case(by_last(circle, 0, 1, 3), "no end")
    yield Case(by_last(chain, 0, 1, 1), "end just out of reach")
    yield Case(by_last(chain, 0, 1, 2))
    yield Case(by_last(chain, 2, 1, 4), "the end at once")
    yield Case(by_last(chain, 0, 1, 0), "nothing to write")
    table = [[0.0, 9, 0, 0], [0, 0, 0, 9], [9, 0, 0, 0], [0, 0, 9, 0]]  # 1 3 2 0
    yield Case(by_length(table, 0, 2, 9))
    yield Case(by_length(table, 3, 0, 9), "the start again")
    yield Case(by_length(table, 1, 0, 3), "no end")
    again = [[0.0, 0, 9], [9, 0, 0], [0, 9, 0], [0, 0, 9]]  # 2 0 1 2
    yield Case(by_length(again, 1, 1, 4), "start and end are one id")
    yield Case(by_length([[-3.0, -2, -1], [-1, -2, -3], [-2, -1, -3]], 2, 1, 6))
    yield Case(by_length([[2.0, 5, 5, 1], [4, 1, 4, 4], [1, 2, 3, 3]], 3, 2, 3), "ties")
    yield Case(by_length([[7.0, 7, 7]] * 4, 1, 2, 3), "ties")
    yield Case(by_length([[-float("1e30"), 0.5, 0.25], [3e30, 0, 1]], 0, 2, 2))
    yield Case((Step("lambda ids: -torch.arange(4.0).sub(len(ids)).abs()"), 0, 3, 9))
    for seed, (V, start, end, n) in enumerate(
        [(5, 1, 4, 12), (9, 0, 3, 20), (6, 5, 2, 7)]
    ):
        yield Case(by_all(seed, V, start, end, n))
        yield Case(by_all(seed + 9, V, start, end, n, "float64"), "float64")
    yield Case(
        by_last([[100.0, 200, 0], [0, 0, 0], [0, 0, 0]], 0, 2, 2), "large logits"
    )
    near = [[1.0, 1.0001, 0.5], [1, 1.0001, 1.0002]]
    yield Case(by_length(near, 2, 0, 2), "nearly a tie")
    code = "lambda ids: torch.eye(5, requires_grad=True)[:, (ids[-1] + 2) % 5]"
    yield Case((Step(code), 0, 3, 8), "logits with a gradient")


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def while_there_is_room(step, start, end, max_len):
    new = []
    while len(new) < max_len:
        following = int(step([start, *new]).argmax())
        if following == end:
            return new
        new.append(following)
    return new


@exercise.right
def by_max_over_the_ids(step, start, end, max_len):
    ids = [start]
    while len(ids) <= max_len:
        logits = step(ids)
        ids = [*ids, max(range(len(logits)), key=lambda i: logits[i].item())]
        if ids[-1] == end:
            return ids[1:-1]
    return ids[1:]


@exercise.right
def cut_afterward(step, start, end, max_len):
    """The same ids, though it writes on behind the end."""
    ids = [start]
    for _ in range(max_len):
        ids.append(torch.argmax(step(ids), dim=-1).item())
    new = ids[1:]
    return new[: new.index(end)] if end in new else new


@exercise.right
def by_recursion(step, start, end, max_len):
    def rest(ids):
        if len(ids) > max_len:
            return []
        new = torch.softmax(step(ids).detach(), dim=0).argmax().item()
        return [] if new == end else [new, *rest([*ids, new])]

    return rest([start])


# --- wrong, each with the misconception behind it -------------------------------------


def decoded(step, start, end, max_len, choose=lambda logits: logits.argmax().item()):
    """All ids, with start, and with end if it was reached."""
    ids = [start]
    while len(ids) <= max_len:
        ids.append(choose(step(list(ids))))
        if ids[-1] == end:
            break
    return ids


def ended(ids, end):
    return len(ids) > 1 and ids[-1] == end


@exercise.wrong("the-module")
def start_kept(step, start, end, max_len):
    """The start id stands in front of the result. It is shown to the model, and it is no
    part of what the model wrote.

    Which slice of `ids` leaves out the first one?
    """
    return [start, *greedy_decode(step, start, end, max_len)]


@exercise.wrong("the-module")
def end_kept(step, start, end, max_len):
    """The end id stands at the end of the result. It says that the text is over, and is no
    part of it.

    Do you look at the new id before you append it, or after?
    """
    return decoded(step, start, end, max_len)[1:]


@exercise.wrong("the-module")
def start_and_end_kept(step, start, end, max_len):
    """Both the start id and the end id are still in the result.

    The result is what a reader should see. Which of the ids were only there for the model
    and for the loop?
    """
    return decoded(step, start, end, max_len)


@exercise.wrong("the-module")
def last_id_lost(step, start, end, max_len):
    """When the end does not come, the last id is missing: it is cut off as if it were the end,
    or the start was counted as one of the max_len.

    How many new ids are there after max_len rounds, and how long is your list then? And
    what can the last one be when the loop is over? There are two answers.
    """
    return decoded(step, start, end, max_len)[1:-1]


@exercise.also(last_id_lost)
def max_len_counts_the_start(step, start, end, max_len):
    return greedy_decode(step, start, end, max_len - 1)


@exercise.wrong("the-module")
def one_id_too_many(step, start, end, max_len):
    """One id too many is written when the end does not come.

    How many times does your loop run at most, and how many new ids are there after the
    first round?
    """
    return greedy_decode(step, start, end, max_len + 1)


@exercise.wrong("the-module")
def at_least_one_id(step, start, end, max_len):
    """With max_len = 0 an id is written all the same: the loop asks whether there is room
    only after it has written.

    What should stand first in the loop, the question or the call?
    """
    return greedy_decode(step, start, end, max(max_len, 1))


@exercise.wrong("the-module")
def max_len_ignored(step, start, end, max_len):
    """The loop waits for the end, and `max_len` is not used. A model that never says the end
    writes forever.

    What else may end the loop?
    """
    return greedy_decode(step, start, end, 10**6)


@exercise.wrong("the-module")
def end_ignored(step, start, end, max_len):
    """The text goes on behind the end, up to max_len.

    The model has said that it is done; what it says after that means nothing. What does
    your loop do when the new id is `end`?
    """
    return decoded(step, start, None, max_len)[1:]


@exercise.wrong("the-module")
def end_skipped(step, start, end, max_len):
    """The end id is left out, and then the text goes on behind it.

    The end is not only to be hidden: it ends the loop. What is the difference between
    `continue` and `break`?
    """
    return [i for i in decoded(step, start, None, max_len)[1:] if i != end]


@exercise.wrong("the-module")
def end_looked_for_too_early(step, start, end, max_len):
    """When start and end are the same id, nothing is written at all: the loop finds the end
    in the start.

    Many models use one id for both. Only a *new* id can end the text. What does your loop
    compare with `end` in its first round?
    """
    return [] if start == end else greedy_decode(step, start, end, max_len)


@exercise.wrong("the-module")
def start_removed_everywhere(step, start, end, max_len):
    """Every id equal to the start is removed, also one that the model wrote itself.

    Only the first entry is the start. Is it known by its number, or by its place?
    """
    return [i for i in greedy_decode(step, start, end, max_len) if i != start]


@exercise.wrong("the-module")
def larger_id_on_a_tie(step, start, end, max_len):
    """When several logits are the largest, another id than the smallest is taken.

    Does your comparison say `>` or `>=`? Or who promises that a sort, or `topk`, puts the
    smallest id first? `argmax` does.
    """

    def last(logits):
        return len(logits) - 1 - logits.flip(0).argmax().item()

    ids = decoded(step, start, end, max_len, last)
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.wrong("the-module")
def start_taken_for_an_end(step, start, end, max_len):
    """The text stops when the model writes the start id. That id is like any other, once the
    text has begun.

    Only one id ends a text. Which one does your loop compare with?
    """
    new = greedy_decode(step, start, end, max_len)
    return new[: new.index(start)] if start in new else new


@exercise.wrong("the-module")
def zero_taken_for_an_end(step, start, end, max_len):
    """The text stops at the id 0, though 0 is not the end here. In Python 0 counts as false.

    `if new` and `while new` ask whether a number is other than 0. What do you want to know?
    """
    new = greedy_decode(step, start, end, max_len)
    return new[: new.index(0)] if 0 in new else new


@exercise.wrong("the-module")
def exponential_that_overflows(step, start, end, max_len):
    """`exp` of a large logit is inf, and then two ids look alike.

    The largest logit has the largest probability, so is an exponential needed at all?
    """
    ids = decoded(
        step, start, end, max_len, lambda logits: logits.exp().argmax().item()
    )
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.wrong("the-module")
def least_likely_id(step, start, end, max_len):
    """The id with the smallest logit is taken: that is the least likely one.

    A larger logit means a larger probability. Which end do you take?
    """
    ids = decoded(step, start, end, max_len, lambda logits: logits.argmin().item())
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.wrong("the-module")
def size_instead_of_sign(step, start, end, max_len):
    """The id is chosen without the sign of its logit (by its square, or by its absolute
    value). With negative logits that picks the least likely one.

    Logits may all be negative. Which is larger, -1 or -3?
    """
    ids = decoded(
        step, start, end, max_len, lambda logits: logits.abs().argmax().item()
    )
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.wrong("the-module")
def negative_logits_passed_over(step, start, end, max_len):
    """If all logits are negative, none of them is found: the search for the largest begins
    at 0.

    What is a largest number so far, before any has been looked at?
    """

    def first_above_zero(logits):
        best, top = 0, 0.0
        for i, logit in enumerate(logits.tolist()):
            if logit > top:
                best, top = i, logit
        return best

    ids = decoded(step, start, end, max_len, first_above_zero)
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.wrong("the-module")
def only_the_newest_id_shown(step, start, end, max_len):
    """`step` is shown only the newest id. It needs all ids so far: the model may look at any
    of them, and counts positions from the start.

    What does step get in the third round, and what should it get?
    """
    ids = [start]
    for _ in range(max_len):
        new = step(ids[-1:]).argmax().item()
        if new == end:
            break
        ids.append(new)
    return ids[1:]


@exercise.wrong("the-module")
def what_is_written_not_shown(step, start, end, max_len):
    """`step` is called with the start alone each time, so it never learns what has been
    written and says the same again.

    What must be in the list in the second round that was not there in the first?
    """
    new = step([start]).argmax().item()
    return [] if new == end else [new] * max_len


@exercise.wrong("the-module")
def start_not_shown(step, start, end, max_len):
    """`step` gets the new ids without the start, so its first call gets an empty list.

    The start is the only thing there is to read in the first round, and it stays in front
    in all the others. Where is it in what you hand to `step`?
    """
    ids = []
    for _ in range(max_len):
        new = step(list(ids)).argmax().item()
        if new == end:
            break
        ids.append(new)
    return ids


@exercise.wrong("the-module")
def newest_id_first(step, start, end, max_len):
    """The ids stand in the wrong order: the newest comes first.

    `append` puts an id behind the others. Where do you put it, or who turns the list
    around?
    """
    return greedy_decode(step, start, end, max_len)[::-1]


@exercise.wrong("the-module")
def largest_logit_instead_of_its_id(step, start, end, max_len):
    """What is appended is the largest logit, a score. Asked for is its place: the id that
    has this score.

    `max` says how large, `argmax` says where. Which of them is an id?
    """
    ids = [start]
    for _ in range(max_len):
        new = step(list(ids)).max().item()
        if new == end:
            break
        ids.append(new)
    return ids[1:]


@exercise.also(largest_logit_instead_of_its_id)
def largest_logit_as_a_whole_number(step, start, end, max_len):
    ids = decoded(step, start, end, max_len, lambda logits: int(logits.max()))
    return ids[1:-1] if ended(ids, end) else ids[1:]


@exercise.caught_as("wrong-type")
def ids_left_in_tensors(step, start, end, max_len):
    ids = [start]
    for _ in range(max_len):
        new = step([int(i) for i in ids]).argmax()
        if new == end:
            break
        ids.append(new)
    return ids[1:]


@exercise.caught_as("wrong-type")
def one_tensor_of_ids(step, start, end, max_len):
    return torch.tensor(greedy_decode(step, start, end, max_len))


@exercise.caught_as("returned-none")
def no_return_at_max_len(step, start, end, max_len):
    ids = [start]
    for _ in range(max_len):
        new = step(list(ids)).argmax().item()
        if new == end:
            return ids[1:]
        ids.append(new)


@exercise.caught_as("raised")
def probabilities_over_a_second_axis(step, start, end, max_len):
    return decoded(step, start, end, max_len, lambda x: x.softmax(1).argmax().item())


@exercise.caught_as("remembers")
def list_that_lives_on(step, start, end, max_len, ids=[]):  # noqa: B006
    ids += greedy_decode(step, start, end, max_len)
    return list(ids)
