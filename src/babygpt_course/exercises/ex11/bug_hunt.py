"""11.4: a benchmark whose clock stops before the work is done."""

import statistics
import time

from babygpt_course.exercises.ex11.accelerator import Accelerator
from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import Fault
from babygpt_course.exercises.result import Outcome
from babygpt_course.exercises.rules import used

REAL_CLOCKS = "time time_ns perf_counter perf_counter_ns monotonic process_time timeit"


class OnItsOwnClock(Exercise):
    """An exercise in which the clock of the computer says nothing."""

    def grade(self, answer):
        """First of all: whose clock is read? The rest never gives the same value twice."""
        if callable(answer) and not isinstance(answer, type):
            for name, line in used(answer):
                if name in REAL_CLOCKS.split():
                    says = (
                        f"`{name}` reads the clock of your computer. The device is a "
                        "simulation, and its seconds pass on its own clock alone."
                    )
                    think = "Which method of the device tells the time?"
                    rows = (("your line", line),)
                    fault = Fault("another-clock", says, think)
                    return self.result(Outcome.RULE_BROKEN, fault, self.anchor, rows)
        return super().grade(answer)


exercise = OnItsOwnClock(
    chapter="11_flops_mfu",
    id="11.4",
    title="Bug hunt: the model that costs nothing",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="train-it",
    hints="""
    Give the device a hundred times the work. What must happen to the time of a step, and what
    does happen? Whose time is measured, then?

    `device.step()` gives an order and comes back at once. When the second reading of the clock
    is made, how many of the n steps have been carried out?

    Before a clock is read, all orders must have been carried out: `device.synchronize()`. The
    first reading has it. The second one needs it too, once, after the last step.
    """,
)


@exercise.oracle
def seconds_per_step(device, warmup, n):
    def step(now, done, number):
        now = now + device.launch
        extra = device.first if number == 0 else 0.0
        return now, max(now, done) + device.work + extra

    now = done = 0.0
    for i in range(warmup):
        now, done = step(now, done, i)
    began = max(now, done)
    now = began
    for i in range(n):
        now, done = step(now, done, warmup + i)
    return (max(now, done) - began) / n


def timed(device, warmup, n, before=True, between=False, after=True, count=None):
    """The code of the exercise, with a wait before, in and after the timed steps."""
    for _ in range(warmup):
        device.step()
    if before:
        device.synchronize()
    began = device.clock()
    for _ in range(n):
        device.step()
        if between:
            device.synchronize()
    if after:
        device.synchronize()
    return (device.clock() - began) / (count or n)


@exercise.given
def clock_stopped_too_early(device, warmup, n):
    return timed(device, warmup, n, after=False)


@exercise.cases
def cases():
    yield Case((Accelerator(launch=1.0, work=4.0), 1, 1))
    yield Case((Accelerator(launch=1.0, work=4.0), 2, 3))
    yield Case((Accelerator(launch=1.0, work=4.0, first=20.0), 1, 2))
    yield Case((Accelerator(launch=1.0, work=4.0), 0, 4), "no warm-up")
    yield Case((Accelerator(launch=1.0, work=4.0, first=20.0), 0, 2), "no warm-up")
    yield Case((Accelerator(launch=3.0, work=1.0), 2, 4), "slow to order")
    yield Case((Accelerator(launch=2.0, work=0.0), 2, 5), "like a CPU")
    yield Case((Accelerator(launch=0.0, work=0.5, first=9.0), 3, 4))
    yield Case((Accelerator(launch=0.001, work=0.14, first=2.5), 5, 20))
    yield Case((Accelerator(launch=0.002, work=0.03), 7, 11))
    yield Case((Accelerator(launch=0.02, work=0.03, first=0.4), 1, 50))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def waits_before_both_readings(device, warmup, n):
    return timed(device, warmup, n)


@exercise.right
def a_clock_that_waits(device, warmup, n):
    def now():
        device.synchronize()
        return device.clock()

    for _ in range(warmup):
        device.step()
    began = now()
    for _ in range(n):
        device.step()
    return (now() - began) / n


@exercise.right
def waits_twice_to_be_sure(device, warmup, n):
    for i in range(warmup + n):
        if i == warmup:
            device.synchronize()
            device.synchronize()
            began = device.clock()
        device.step()
    device.synchronize()
    device.synchronize()
    return (device.clock() - began) / n


@exercise.right
def waits_in_the_warm_up_too(device, warmup, n):
    for _ in range(warmup):
        device.step()
        device.synchronize()
    return timed(device, 0, n)


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("train-it")
def wait_moved_to_the_end(device, warmup, n):
    """The wait was moved: it is before the second reading now, and no longer before the first.
    When the clock starts, the orders of the warm-up are still in the queue, and their work is
    counted.

    Before which of the two readings must nothing be left to do?
    """
    return timed(device, warmup, n, before=False)


@exercise.wrong("train-it")
def wait_after_every_step(device, warmup, n):
    """The work is measured now, and something else with it: after each step the program waits
    before it gives the next order, and the device then waits for the order. In a training run it
    never does.

    How often must the program wait in n steps to know when the last one is done?
    """
    return timed(device, warmup, n, between=True)


@exercise.also(wait_after_every_step)
def each_step_by_itself(device, warmup, n):
    times = [timed(device, warmup if i == 0 else 0, 1) for i in range(n)]
    return sum(times) / n


@exercise.also(wait_after_every_step)
def median_of_single_steps(device, warmup, n):
    times = [timed(device, warmup if i == 0 else 0, 1) for i in range(n)]
    return statistics.median(times)


@exercise.wrong("train-it")
def warm_up_dropped(device, warmup, n):
    """The warm-up is gone. The first step takes longer than all others, and now it is among those
    that are measured.

    The fault was at the second reading of the clock. What is `warmup` for?
    """
    return timed(device, 0, n)


@exercise.wrong("train-it")
def warm_up_measured(device, warmup, n):
    """The clock starts before the warm-up, so the warm-up's time is shared out among the n steps.

    The clock should start when the machine is warm and has nothing to do. Which line comes
    before `began`?
    """
    device.synchronize()
    return timed(device, 0, warmup + n, count=n)


@exercise.wrong("train-it")
def warm_up_counted_as_steps(device, warmup, n):
    """The time is divided by all steps, those of the warm-up included. They were not in the time.

    How many steps lie between the two readings?
    """
    return timed(device, warmup, n, count=warmup + n)


@exercise.also(warm_up_counted_as_steps)
def everything_measured_and_counted(device, warmup, n):
    return timed(device, 0, warmup + n)


@exercise.wrong("train-it")
def time_of_all_steps(device, warmup, n):
    """That is the time of all n steps together. One step was asked for.

    What does the given code divide by?
    """
    return timed(device, warmup, n, count=1)


@exercise.wrong("train-it")
def only_one_step(device, warmup, n):
    """Only one step is measured. Alone it has an order and its work one after the other; in a row
    the next orders are given while the device still works.

    How many steps belong between the two readings?
    """
    return timed(device, warmup, 1)


@exercise.also(only_one_step)
def last_step_alone(device, warmup, n):
    return timed(device, warmup + n - 1, 1)


@exercise.wrong("train-it")
def one_step_too_many(device, warmup, n):
    """The device gets another number of steps than the time is divided by.

    Count the calls of `device.step()` between the two readings. Is it n?
    """
    return timed(device, warmup, n + 1, count=n)


@exercise.wrong("train-it")
def wait_before_the_last_step(device, warmup, n):
    """The program waits once more, and then orders another step before it reads the clock: the work
    of that last one is not in the time.

    What must be the very last thing before the clock is read?
    """
    for _ in range(warmup):
        device.step()
    device.synchronize()
    began = device.clock()
    for _ in range(n):
        device.synchronize()
        device.step()
    return (device.clock() - began) / n


@exercise.wrong("train-it")
def orders_taken_away(device, warmup, n):
    """The time for the orders is taken away from the result. In a run the orders are given while
    the device works, so the time of a step has hardly any of it, and sometimes it is all there
    is.

    The clock is read twice. Is there anything else to correct?
    """
    return timed(device, warmup, n) - device.launch


@exercise.wrong("train-it")
def work_read_off(device, warmup, n):
    """That is the work as the simulation was told it, and nothing was measured. A real device has no
    such number to read off.

    What would a clock say, at the start of the first of n steps and at the end of the last?
    """
    return device.work


@exercise.caught_as("another-clock")
def clock_of_the_computer(device, warmup, n):
    began = time.perf_counter()
    for _ in range(n):
        device.step()
    device.synchronize()
    return (time.perf_counter() - began) / n


@exercise.caught_as("returned-none")
def printed(device, warmup, n):
    print(timed(device, warmup, n))


@exercise.caught_as("raised")
def waits_for_a_step(device, warmup, n):
    device.step().wait()


@exercise.caught_as("raised")
def never_ends(device, warmup, n):
    while device.clock() >= 0:
        device.step()


@exercise.caught_as("wrong-type")
def both_readings(device, warmup, n):
    return device.clock(), timed(device, warmup, n)
