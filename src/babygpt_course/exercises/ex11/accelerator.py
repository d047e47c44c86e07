"""An accelerator to practice on: it takes orders at once, and carries them out later.

Its seconds are counted and not waited for, so that everyone measures the same.
"""

from dataclasses import dataclass, field

from babygpt_course.errors import CourseError

ENOUGH = 10_000  # steps; nobody needs that many here


class TooManySteps(CourseError):
    """A benchmark that orders one step after another and does not stop."""


@dataclass
class Accelerator:
    """One device and the program that gives it orders.

    `launch`: seconds until the program has given the order for a training step.
    `work`: seconds that the device then computes on it. Orders wait in a queue.
    `first`: seconds more that the very first step takes.
    """

    launch: float
    work: float
    first: float = 0.0
    _now: float = field(default=0.0, repr=False, compare=False)
    _done: float = field(default=0.0, repr=False, compare=False)  # all orders, by then
    _steps: int = field(default=0, repr=False, compare=False)

    def clock(self) -> float:
        """The time now, in seconds."""
        return self._now

    def step(self) -> None:
        """Order a training step, and go on without waiting for it.

        Raises:
            TooManySteps: after 10,000 of them.
        """
        if self._steps >= ENOUGH:
            raise TooManySteps(f"{ENOUGH:,} steps have been ordered. Where is the end?")
        self._now += self.launch
        begins = max(self._now, self._done)
        self._done = begins + self.work + self.first * (self._steps == 0)
        self._steps += 1

    def synchronize(self) -> None:
        """Wait until all orders have been carried out."""
        self._now = max(self._now, self._done)
