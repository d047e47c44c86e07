"""14.5: a bf16 sum that keeps, in a second bf16 number, what rounding has lost."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="14_mixed_precision",
    id="14.5",
    title="Keep what rounding loses",
    kind="stretch",
    points=3,
    minutes=9,
    anchor="why-it-works",
    hints="""
    After a step the weight has not moved by what it should, but by some other amount,
    perhaps 0. Both are known. What is still owed to it?

    u = update + lost is what should be added this time. The weight really moves by new
    - w, where new is w + u rounded to bf16. What is lost is the difference of the two.

    lost = zeros like the weight; for each update: u = update + lost.float(); new =
    (w.float() + u) as bf16; lost = (u - (new.float() - w.float())) as bf16; w = new.
    Give back w and lost.
    """,
)


BF16 = torch.bfloat16


def bf16(number):
    return torch.tensor(number, dtype=torch.float64).to(BF16).double().item()


@exercise.oracle
def compensated(weight, updates):
    w, lost = weight.double().flatten().tolist(), [0.0] * weight.numel()
    for row in updates.double().reshape(len(updates), -1).tolist():
        for i, update in enumerate(row):
            u = update + lost[i]
            new = bf16(w[i] + u)
            lost[i] = bf16(u - (new - w[i]))
            w[i] = new
    return tuple(torch.tensor(x, dtype=BF16).view(weight.shape) for x in (w, lost))


def random_case(n, shape, seed, size=0.01):
    """Weights from 1 to 5 on either side; updates drift one way, and differ.

    All numbers are multiples of 2^-17, so that sums in float32 are exact in any order.
    """
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator)

    w = numbers(*shape)
    updates = size * (numbers(n, *shape) + 0.5)
    return (w + 2 * w.sign()).to(BF16), (updates * 2**17).round() / 2**17


@exercise.cases
def cases():
    def case(weight, *updates, trait=""):
        rows = torch.tensor(updates).view(len(updates), *torch.tensor(weight).shape)
        return Case((torch.tensor(weight, dtype=BF16), rows), trait)

    yield case([256.0], [0.75])
    yield case([256.0], [0.75], [0.75])
    yield case([256.0], [0.75], [0.75], [0.75])
    yield case([256.0], [-0.25], [-0.25], [-0.25], [-0.25], [-0.375])
    yield case([-1.0, 2.0], [0.25, 0.5], [0.5, -0.25], trait="nothing is lost")
    yield case([64.0, -3.0], *[[0.109375, 57 / 2**16]] * 7)
    yield case([1.0], *[[115 / 2**17]] * 5)
    yield case([3.0], [0.0], [0.0], trait="updates of 0")
    yield case(1.0, *[391 / 2**17] * 3, trait="a single number")
    yield case(
        [1.0, 100.0], [0.3125, 0.328125], [-0.3125, -0.3125], [0.109375, 0.171875]
    )
    for seed, (n, shape) in enumerate([(9, (3,)), (20, (2, 3)), (40, (3, 1, 2))]):
        yield Case(random_case(n, shape, seed))
        yield Case(random_case(n, shape, seed + 10, 0.002))
    w, updates = random_case(12, (4, 6), 3)
    yield Case((w[::2, ::2], updates[::2, ::2, 1::2]), NON_CONTIGUOUS)
    yield Case((w.T, updates.transpose(1, 2)), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def remainder_of_the_sum(weight, updates):
    w, lost = weight.clone(), torch.zeros_like(weight)
    for update in updates:
        exact = w.double() + (update.double() + lost.double())
        w = exact.bfloat16()
        lost = (exact - w.double()).bfloat16()
    return w, lost


@exercise.right
def debt_with_the_other_sign(weight, updates):
    w, c = weight, torch.zeros(weight.shape)
    for update in updates:
        y = update - c
        t = (w + y).to(torch.bfloat16)
        c = ((t.float() - w.float()) - y).to(torch.bfloat16).float()
        w = t
    return w, (-c).to(torch.bfloat16) + 0


@exercise.right
def number_by_number(weight, updates):
    w, lost = weight.clone().contiguous(), torch.zeros(weight.shape, dtype=BF16)
    flat, owed = w.view(-1), lost.view(-1)
    for row in updates.reshape(len(updates), -1).unbind():
        for i in range(len(flat)):
            u = row[i] + owed[i].float()
            before = flat[i].float()
            flat[i] = before + u  # rounded by the tensor that it goes into
            owed[i] = u - (flat[i].float() - before)
    return [w, lost]


# --- wrong, each with the misconception behind it -------------------------------------


def summed(
    weight,
    updates,
    add=lambda update, lost: update + lost.float(),
    owe=lambda u, new, w, lost, update: u - (new.float() - w.float()),
    rounded=lambda x: x.to(BF16),
    sum=lambda w, u: w.float() + u,
):
    """The right answer, of which one part at a time is replaced."""
    w, lost = weight.clone(), torch.zeros_like(weight)
    for update in updates:
        u = add(update, lost)
        new = rounded(sum(w, u))
        w, lost = new, owe(u, new, w, lost, update).to(BF16)
    return w, lost


@exercise.wrong("why-it-works")
def nothing_kept(weight, updates):
    """This is the plain bf16 sum: what rounding takes away is gone, and small updates
    never move the weight.

    256 plus 0.75 is 256 again. How much is owed after that?
    """
    return summed(weight, updates, owe=lambda u, *_: torch.zeros_like(u))


@exercise.wrong("why-it-works")
def kept_and_never_used(weight, updates):
    """What was lost is computed, and the next step does not use it.

    256 plus 0.75 is 256, and 0.75 is owed. The next update is 0.75 again: how much
    should be added this time?
    """
    return summed(weight, updates, add=lambda update, lost: update)


@exercise.wrong("why-it-works")
def debts_added_up_and_never_used(weight, updates):
    """All losses are added up, and nothing of it ever comes back into the weight.

    After two updates of 0.75, 1.5 is owed, which is more than half of the gap of 2. Who
    pays it back, and when?
    """
    return summed(
        weight,
        updates,
        add=lambda update, lost: update,
        owe=lambda u, new, w, lost, update: (
            lost.float() + u - (new.float() - w.float())
        ),
    )


@exercise.also(debts_added_up_and_never_used)
def debts_added_up_in_bf16_and_never_used(weight, updates):
    w, lost = weight, torch.zeros_like(weight)
    for update in updates:
        new = (w.float() + update).to(BF16)
        w, lost = new, lost + (update - (new.float() - w.float())).to(BF16)
    return w, lost


@exercise.wrong("why-it-works")
def debt_counted_twice(weight, updates):
    """The old debt is added to the new one, though it is already in what was to be
    added this time. So it is counted twice.

    u = update + lost holds the old debt. What is left of u when the weight has moved by
    new - w?
    """
    return summed(
        weight,
        updates,
        owe=lambda u, new, w, lost, update: (
            lost.float() + u - (new.float() - w.float())
        ),
    )


@exercise.wrong("why-it-works")
def old_debt_forgiven(weight, updates):
    """The debt is computed from this update alone; what was owed from before is
    forgotten, whether it was paid or not.

    Two numbers were to be added: the update and the old debt. From which sum is new - w
    taken away?
    """
    return summed(
        weight,
        updates,
        owe=lambda u, new, w, lost, update: update - (new.float() - w.float()),
    )


@exercise.wrong("why-it-works")
def debt_has_the_wrong_sign(weight, updates):
    """The debt is subtracted where it should be added, so every loss happens twice.

    0.75 was lost. Should the next step add more than its update, or less?
    """
    return summed(weight, updates, add=lambda update, lost: update - lost.float())


@exercise.wrong("why-it-works")
def remainder_with_the_other_sign(weight, updates):
    """The weights are right, and the second result has the other sign: it says what
    there is too much. Asked for is what is still *missing*, so that weight + lost is
    the true sum.

    256 stands for 256.75. Is 0.75 or -0.75 missing?
    """
    w, lost = summed(weight, updates)
    return w, -lost


@exercise.wrong("why-it-works")
def weight_overwritten_too_early(weight, updates):
    """The weight is already the new one when the loss is computed, so new - w is 0 and
    all of u counts as lost.

    Where was the weight before this step? Which line still needs that number?
    """
    return summed(weight, updates, owe=lambda u, *_: u)


@exercise.wrong("why-it-works")
def move_added(weight, updates):
    """The move of the weight is added to what was due, and not taken away from it. So
    the debt grows with every payment.

    1.5 is due, and the weight moves by 2. How much is still due?
    """
    return summed(
        weight,
        updates,
        owe=lambda u, new, w, *_: u + (new.float() - w.float()),
    )


@exercise.wrong("why-it-works")
def weight_for_its_move(weight, updates):
    """The new weight itself is taken away from what was due, and not its move: the debt
    becomes as large as the weight.

    The weight goes from 256 to 258. How far has it moved?
    """
    return summed(weight, updates, owe=lambda u, new, *_: u - new.float())


@exercise.wrong("why-it-works")
def update_rounded_first(weight, updates):
    """The sum of update and debt is rounded to bf16 before it is added. What is cut off
    there is lost for good.

    Two roundings are allowed in a step: that of the new weight and that of the new
    debt. Which third one does your code make?
    """
    return summed(
        weight,
        updates,
        add=lambda update, lost: (update + lost.float()).to(BF16).float(),
    )


@exercise.also(update_rounded_first)
def update_rounded_before_the_debt(weight, updates):
    return summed(
        weight, updates, add=lambda update, lost: update.to(BF16).float() + lost.float()
    )


@exercise.also(update_rounded_first)
def all_in_bf16(weight, updates):
    w, lost = weight.clone(), torch.zeros_like(weight)
    for update in updates:
        u = update.to(BF16) + lost
        new = w + u
        lost = u - (new - w)
        w = new
    return w, lost


@exercise.wrong("why-it-works")
def kept_in_float32(weight, updates):
    """Between the steps you keep a float32 number: the sum itself, or the debt. That is
    a master weight, a good way too, but it needs twice the memory of a second bf16
    number, and its debts come out a little different.

    Two bf16 numbers are all that may live on to the next step. Which of yours is wider?
    """
    exact = weight.float()
    for update in updates:
        exact = exact + update
    return exact.to(BF16), (exact - exact.to(BF16).float()).to(BF16)


@exercise.also(kept_in_float32)
def debt_kept_in_float32(weight, updates):
    w, lost = weight.clone(), torch.zeros(weight.shape)
    for update in updates:
        u = update + lost
        new = (w.float() + u).to(BF16)
        w, lost = new, u - (new.float() - w.float())
    return w, lost.to(BF16)


@exercise.also(kept_in_float32)
def updates_added_up_first(weight, updates):
    exact = weight.float() + updates.sum(0)
    return exact.to(BF16), (exact - exact.to(BF16).float()).to(BF16)


@exercise.wrong("why-it-works")
def debt_paid_at_the_end(weight, updates):
    """The debt is added to the weight once more after the last step. It is less than
    half of the gap, so it is rounded away, or it counts twice.

    After the last step two numbers are handed on. What does the next training run start
    from?
    """
    w, lost = summed(weight, updates)
    w = (w.float() + 2 * lost.float()).to(BF16)
    return w, lost


@exercise.wrong("why-it-works")
def no_debt_given_back(weight, updates):
    """The weights are right, and the second result is 0 everywhere: whoever goes on
    from here has lost what they still lack.

    256.75 is 256 in bf16. What is the second number then?
    """
    w, lost = summed(weight, updates)
    return w, torch.zeros_like(lost)


@exercise.also(no_debt_given_back)
def master_rounded_at_the_end(weight, updates):
    exact = weight.float() + updates.sum(0)
    return exact.to(BF16), torch.zeros_like(weight)


@exercise.wrong("why-it-works")
def only_the_first_update(weight, updates):
    """Only the first update is used.

    Is the `return` inside the loop? How many rows has `updates`?
    """
    return summed(weight, updates[:1])


@exercise.wrong("why-it-works")
def only_the_last_update(weight, updates):
    """Every step begins at the weight that was handed in, so all but the last are lost.

    Which weight does the second step start from? Which line says so?
    """
    return summed(weight, updates[-1:])


@exercise.also(only_the_last_update)
def weight_never_moved_on(weight, updates):
    lost = torch.zeros_like(weight)
    for update in updates:
        u = update + lost.float()
        new = (weight.float() + u).to(BF16)
        lost = (u - (new.float() - weight.float())).to(BF16)
    return new, lost


@exercise.wrong("why-it-works")
def last_update_left_out(weight, updates):
    """The last update is not used.

    How many rows has `updates`, and how many times does your loop run?
    """
    return summed(weight, updates[:-1])


@exercise.wrong("why-it-works")
def updates_taken_away(weight, updates):
    """The updates are subtracted. Here they are what is *added*; the minus of gradient
    descent is already in them.

    256 and an update of 0.75: where should the sum go?
    """
    return summed(weight, -updates)


@exercise.also(updates_taken_away)
def due_taken_away(weight, updates):
    return summed(weight, updates, sum=lambda w, u: w.float() - u)


@exercise.wrong("why-it-works")
def results_swapped(weight, updates):
    """The two results are right and stand in another order.

    The weight comes first, then what it still lacks. What is your `return`?
    """
    return summed(weight, updates)[::-1]


@exercise.wrong("why-it-works")
def cut_off_and_not_rounded(weight, updates):
    """The new weight is cut off toward 0 instead of rounded, perhaps by dropping its
    last bits. The debts then pile up on one side.

    `.to(torch.bfloat16)` rounds to the nearest. What does your line do?
    """

    def cut(x):
        bits = x.contiguous().view(torch.int32)
        return (bits & -65536).view(torch.float32).to(BF16)

    return summed(weight, updates, rounded=cut)


@exercise.caught_as("modified-input")
def added_in_place(weight, updates):
    w, lost = summed(weight, updates)
    return weight.copy_(w), lost


@exercise.caught_as("wrong-dtype")
def always_float32(weight, updates):
    return tuple(x.float() for x in summed(weight, updates))


@exercise.caught_as("wrong-type")
def only_the_weight(weight, updates):
    return summed(weight, updates)[0]


@exercise.caught_as("wrong-shape")
def flattened(weight, updates):
    return tuple(x.reshape(-1, 1) for x in summed(weight, updates))


@exercise.caught_as("returned-none")
def nothing_returned(weight, updates):
    summed(weight, updates)


@exercise.caught_as("raised")
def no_debt_before_the_loop(weight, updates):
    w = weight
    for update in updates:
        u = update + lost if w is not weight else update  # noqa: F821
        w = (w.float() + u).to(BF16)
    return w, lost  # noqa: F821


@exercise.caught_as("non-contiguous")
def view_of_the_updates(weight, updates):
    rows = updates.view(len(updates), -1)
    return summed(weight, rows.view(updates.shape))
