"""An exercise: its oracle, its cases, its wrong answers, and how an answer is graded.

The idea: every named wrong answer is a plain function that has a misconception. Its
docstring is the message. When an answer is wrong, the wrong answers run on the same
cases, and the one that behaves exactly as the learner's function names the
misconception. So a wrong answer is diagnosis and proof at once.
"""

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from babygpt_course.exercises import faults
from babygpt_course.exercises.faults import Fault
from babygpt_course.exercises.result import Outcome, Result, chapter_url
from babygpt_course.exercises.rules import Rule
from babygpt_course.exercises.running import (
    CALL_SECONDS,
    Endless,
    Function,
    Run,
    run,
    usual_settings,
)
from babygpt_course.exercises.show import call, kind, names, show

F = TypeVar("F", bound=Function)
Rows = tuple[tuple[str, str], ...]  # (name, value) of what a result shows


@dataclass(frozen=True)
class Case:
    """One call of the learner's function."""

    args: tuple[Any, ...]
    trait: str = ""  # what is special: "float32", or faults.NON_CONTIGUOUS
    gradient: bool = False  # compare the gradients of floating-point arguments too


@dataclass(frozen=True)
class Wrong:
    """A wrong answer with its message, or one that a general check `expects`."""

    function: Function
    anchor: str = ""
    expects: str = ""
    of: Function | None = None  # another function with the same misconception

    @property
    def name(self) -> str:
        """The function's name, with hyphens."""
        return self.function.__name__.replace("_", "-")

    @property
    def message_id(self) -> str:
        """The id of the message that this answer must get."""
        return self.expects or (self.of or self.function).__name__.replace("_", "-")

    @property
    def message(self) -> Fault:
        """The docstring as a message: what happened; what to think about."""
        says, *think = paragraphs(self.of or self.function)
        return Fault(self.message_id, says, "\n".join(think))


def paragraphs(function: Function) -> list[str]:
    """The docstring's paragraphs, each on one line."""
    return split(inspect.cleandoc(function.__doc__ or ""))


def split(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


@dataclass(frozen=True)
class Speed:
    """The answer must keep up with the oracle's plain loop on ever larger cases."""

    args: Callable[[int], tuple[Any, ...]]
    sizes: tuple[int, ...]
    ratio: float  # so many times the loop's own time is too slow
    unit: str = "numbers"  # what a size counts
    think: str = faults.HOW_LARGE


@dataclass
class Exercise:
    """One exercise on a function. Decorators add the pieces, each of them plain Python."""

    chapter: str  # the file name, such as "01_bigram"
    id: str
    title: str
    kind: str  # implement, predict, ablate, bug hunt, stretch
    points: int
    minutes: int  # about
    anchor: str  # the section of the chapter that helps when nothing is recognized
    hints: str  # three paragraphs: a question, a formula, pseudocode
    rules: tuple[Rule, ...] = ()
    speed: Speed | None = None
    equivalent: dict[str, str] = field(default_factory=dict)  # mutant: why it is one
    loop: Function = None  # type: ignore[assignment]  # `oracle` sets it
    make_cases: Callable[[], Iterable[Case]] = None  # type: ignore[assignment]  # `cases`
    planted: Function | None = None
    rights: list[Function] = field(default_factory=list)
    wrongs: list[Wrong] = field(default_factory=list)

    # --- decorators -------------------------------------------------------------------

    def oracle(self, function: F) -> F:
        """The loop that defines what is right. Its name is the name of the answer."""
        self.loop = function
        return function

    def cases(self, function: F) -> F:
        """A generator of cases, from the smallest to the largest."""
        self.make_cases = function
        return function

    def given(self, function: F) -> F:
        """The faulty code that a bug hunt hands out: to behave like it is no attempt."""
        self.planted = function
        return function

    def right(self, function: F) -> F:
        """A correct answer in another style: it must pass."""
        self.rights.append(function)
        return function

    def wrong(self, anchor: str) -> Callable[[F], F]:
        """A named wrong answer. Docstring: what happened; then what to think about."""
        return self._adds(anchor)

    def also(self, of: Function) -> Callable[[F], F]:
        """The misconception of another wrong answer, written differently."""
        anchor = next(w.anchor for w in self.wrongs if w.function is of)
        return self._adds(anchor, of=of)

    def caught_as(self, id: str) -> Callable[[F], F]:
        """A wrong answer for a general check, such as "modified-input"."""
        return self._adds(expects=id)

    def _adds(
        self, anchor: str = "", expects: str = "", of: Function | None = None
    ) -> Callable[[F], F]:
        def add(function: F) -> F:
            self.wrongs.append(Wrong(function, anchor, expects, of))
            return function

        return add

    # --- grading ----------------------------------------------------------------------

    def check(self, answer: object) -> Result:
        """Grade an answer; whatever it gives back, the learner gets a result."""
        try:
            with usual_settings():
                return self.grade(answer)
        except Exception:  # our own code stumbled over a value that nobody foresaw
            says = (
                "The check could not read what your answer gives back. It is neither "
                "right nor wrong yet."
            )
            think = "Print `type(...)` of the result. Is it what the task asks for?"
            fault = Fault("grader-stopped", says, think)
            return self.result(Outcome.WRONG_TYPE, fault, self.anchor)

    def grade(self, answer: Any) -> Result:
        """Grade an answer."""
        if answer is None or answer is ...:
            return self.not_attempted(
                "Nothing to check yet: there is no function.",
                f'Write `check("{self.id}", {self.name})`, without calling {self.name}.',
            )
        if not callable(answer) or isinstance(answer, type):
            says = f"`check` got {kind(answer)}, and needs the function itself."
            think = (
                f'Write `check("{self.id}", {self.name})`, without calling {self.name}.'
            )
            return self.result(Outcome.WRONG_TYPE, Fault("not-a-function", says, think))
        cases = list(self.make_cases())
        first = None
        for case in cases:
            mine = run(answer, case.args)
            first = first or mine
            if faults.is_stub(mine):
                helper = faults.stub_inside(mine, answer)
                says = f"Your function calls `{helper}`, which is still a stub."
                return self.not_attempted(*[says, DO_IT_FIRST] * bool(helper))
            truth = run(self.loop, case.args)
            if fault := faults.fault(answer, self.loop, case, mine, truth):
                return self.explain(answer, cases, case, mine, truth, fault, first)
        return self.rule_broken(answer) or self.too_slow(answer) or self.passed(cases)

    def explain(
        self,
        answer: Function,
        cases: list[Case],
        case: Case,
        mine: Run,
        truth: Run,
        fault: Fault,
        first: Run,
    ) -> Result:
        """The result of a failing case, with the misconception if one is recognized."""
        message, anchor = fault, self.anchor
        if fault.id not in ("endless", "modified-input"):
            runs = self.runs(answer, cases)
            if fault.id == "wrong-value" and faults.changes(first, runs, cases[0]):
                return self.result(
                    Outcome.WRONG_VALUE,
                    faults.REMEMBERS,
                    anchor,
                    self.drawn(case, mine, truth, fault),
                )
            if self.planted and faults.behaves_like(self.planted, runs, cases):
                return self.not_attempted(UNCHANGED, EXPERIMENT)
            named = (w for w in self.wrongs if not w.expects)
            for wrong in named:
                if faults.behaves_like(wrong.function, runs, cases):
                    message, anchor = wrong.message, wrong.anchor
                    break
        rows = self.drawn(case, mine, truth, fault)
        return self.result(fault.outcome, message, anchor, rows)

    def runs(self, answer: Function, cases: list[Case]) -> list[Run]:
        """The answer on every case; none if that takes as long as one endless call."""
        began, runs = time.monotonic(), []
        for case in cases:
            runs.append(run(answer, case.args))
            if time.monotonic() - began > CALL_SECONDS / 2:
                return []
        return runs

    def drawn(self, case: Case, mine: Run, truth: Run, fault: Fault) -> Rows:
        """The case as rows: input, expected, yours."""
        asked = call(self.name, case.args) + f"   # {case.trait}" * bool(case.trait)
        expected, yours = (
            show(truth.value, columns=True),
            show(mine.value, columns=True),
        )
        if fault.id == "modified-input" and mine.changed is not None:
            name = names(self.loop)[mine.changed]
            expected = f"{name} is the same after the call"
            yours = f"{name} is {show(mine.args[mine.changed])} after the call"
        elif fault.id == "endless":
            yours = "no end"
        elif mine.error:
            yours = type(mine.error).__name__
        elif where := faults.first_difference(truth.value, mine.value):
            expected, yours = f"{expected}\n{where[0]}", f"{yours}\n{where[1]}"
        return ("input", asked), ("expected", expected), ("yours", yours)

    def rule_broken(self, answer: Function) -> Result | None:
        """The result if the code breaks a rule of the exercise."""
        for rule in self.rules:
            if found := rule.broken(answer):
                name, line = found
                message = Fault(rule.id, rule.says.format(name=name), rule.think)
                row = ("your line", line)
                return self.result(Outcome.RULE_BROKEN, message, self.anchor, (row,))
        return None

    def too_slow(self, answer: Function) -> Result | None:
        """Grow the case; stop as soon as the largest one would take too long."""
        if self.speed is None:
            return None
        small, *_, large = self.speed.sizes
        args = self.speed.args(small)
        loop = min(run(self.loop, args).seconds for _ in range(3)) * large / small
        limit = self.speed.ratio * loop
        for size in self.speed.sizes:
            timed = best_run(answer, self.speed.args(size), limit * size / large)
            seconds = timed.seconds
            fault = faults.stopped(timed, self.loop)
            if fault and not isinstance(timed.error, Endless):
                unit = self.speed.unit
                says = f"All small cases are right. With {size:,} {unit}: {fault.says}"
                message = fault._replace(says=says)
                return self.result(fault.outcome, message, self.anchor)
            if (whole := seconds * large / size) > limit:
                says = (
                    f"The values are right, but {large:,} {self.speed.unit} would take "
                    f"about {seconds_of(whole)} or more. A plain Python loop takes about "
                    f"{seconds_of(loop)}."
                )
                message = Fault("too-slow", says, self.speed.think)
                return self.result(Outcome.TOO_SLOW, message, self.anchor)
        return None

    # --- results ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of what the learner writes."""
        return self.loop.__name__

    def result(
        self, outcome: Outcome, message: Fault, anchor: str = "", case: Rows = ()
    ) -> Result:
        """A result of this exercise; all its points if the outcome is PASSED."""
        return Result(
            id=self.id,
            title=self.title,
            outcome=outcome,
            message_id=message.id,
            points=self.points if outcome is Outcome.PASSED else 0,
            max_points=self.points,
            says=message.says,
            think=message.think,
            link=chapter_url(self.chapter, anchor) if anchor else "",
            case=case,
        )

    def not_attempted(self, says: str = "", think: str = "") -> Result:
        """The result of a stub, which is no mistake."""
        says = says or "Nothing to check yet: the function is still the stub."
        think = (
            think or f'Stuck at the start? `hint("{self.id}")` gives a first question.'
        )
        return self.result(Outcome.NOT_ATTEMPTED, Fault("not-attempted", says, think))

    def passed(self, cases: list[Case]) -> Result:
        """The result of a right answer."""
        traits = ", ".join(sorted({c.trait for c in cases if c.trait}))
        also = f" (also: {traits})" if traits else ""
        says = f"Your function agrees with the loop on all {len(cases)} cases{also}."
        return self.result(Outcome.PASSED, Fault("passed", says, ""))


DO_IT_FIRST = "Do the exercise that it belongs to first."
UNCHANGED = "The fault is still in there: on every case the function does what the given one does."
EXPERIMENT = (
    "Start with the small experiment above. What should come out of it, and where does "
    "it differ?"
)


def seconds_of(seconds: float) -> str:
    """A time to read: one decimal, or for less than a second two digits."""
    return f"{seconds:.1f} seconds" if seconds >= 1 else f"{seconds:.2g} seconds"


def best_run(function: Function, args: tuple[Any, ...], good_enough: float) -> Run:
    """The fastest of three runs, or the first that is good enough (seconds) or hopeless.

    Other work on the machine only makes times longer, so the least is the fairest.
    """
    runs = []
    for _ in range(3):
        runs.append(run(function, args))
        if runs[-1].error or not good_enough < runs[-1].seconds <= 20 * good_enough:
            break
    return min(runs, key=lambda each: each.seconds)
