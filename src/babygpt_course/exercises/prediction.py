"""An exercise in which the learner commits to numbers before the run that shows them."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from torch import Tensor

from babygpt_course.exercises.exercise import Exercise, F, paragraphs
from babygpt_course.exercises.faults import Fault
from babygpt_course.exercises.result import Outcome, Result
from babygpt_course.exercises.show import kind, show

TOLERANCE = 0.006  # two decimals are enough


@dataclass
class Prediction(Exercise):
    """The answer is a dict, one number a question.

    Each question is a function that computes the truth by a run; its docstring is the
    question. A wrong answer is a function too: it gives the numbers that its
    misconception leads to, for the questions that it leads astray.
    """

    questions: dict[str, Callable[[], float]] = field(default_factory=dict)

    def question(self, function: F) -> F:
        """A function that computes the truth."""
        self.questions[function.__name__] = functools.cache(function)
        return function

    @property
    def name(self) -> str:
        """The name of the learner's dict."""
        return "predictions"

    def truth(self) -> dict[str, float]:
        """The right answer to every question."""
        return {name: question() for name, question in self.questions.items()}

    def grade(self, answer: Any) -> Result:
        """Grade a dict: complete, numbers only, and which misconception is the first."""
        if answer is None or answer is ...:
            return self.not_attempted()
        keys = f"Its keys are: {', '.join(self.questions)}."
        if not isinstance(answer, dict):
            says = f"`check` got {kind(answer)}, and needs the dict of predictions."
            return self.result(Outcome.WRONG_TYPE, Fault("not-a-dict", says, keys))
        if unknown := [key for key in answer if key not in self.questions]:
            says = (
                f"The dict has an entry {unknown[0]!r}, and there is no such question."
            )
            return self.result(
                Outcome.WRONG_TYPE, Fault("unknown-question", says, keys)
            )
        given = {k: v for k, v in answer.items() if v is not None and v is not ...}
        if still := [key for key in self.questions if key not in given]:
            return self.not_attempted(f"Still open: {', '.join(still)}.", COMMIT)
        judged = {key: self.judge(key, given[key]) for key in self.questions}
        wrong = [(key, *found) for key, found in judged.items() if found]
        right = f"{len(judged) - len(wrong)} of {len(judged)} predictions hold"
        if not wrong:
            return self.result(Outcome.PASSED, Fault("passed", f"{right}.", ""))
        key, fault, anchor = wrong[0]
        rows = (
            ("question", f"{key}: {paragraphs(self.questions[key])[0]}"),
            ("expected", show(self.questions[key]())),
            ("yours", show(given[key])),
        )
        fault = fault._replace(
            says=f"{fault.says}\n({right}; this is the first to fail.)"
        )
        outcome = fault.outcome if fault.id == "not-a-number" else Outcome.WRONG_VALUE
        return self.result(outcome, fault, anchor, rows)

    def judge(self, key: str, guess: object) -> tuple[Fault, str] | None:
        """None for a right guess, else what is wrong and the anchor that helps."""
        truth = self.questions[key]()
        if isinstance(guess, Tensor) and guess.numel() == 1:
            guess = guess.item()
        if isinstance(guess, bool) or not isinstance(guess, Real):
            says = f"The answer should be a number; this is {kind(guess)}."
            think = "An expression such as `math.log(2)` is fine too."
            return Fault("not-a-number", says, think), ""
        if close(guess, truth):
            return None
        for wrong in self.wrongs:
            values = wrong.function().get(key, ())
            values = values if isinstance(values, tuple) else (values,)
            if any(close(guess, value) for value in values):
                return wrong.message, wrong.anchor
        # The rest of a question's docstring is for guesses nobody has explained yet.
        think = "\n".join(paragraphs(self.questions[key])[1:])
        says = "This guess does not agree with the run."
        return Fault("wrong-value", says, think), self.anchor

    def not_attempted(self, says: str = "", think: str = "") -> Result:
        """The result while predictions are still open."""
        says = says or "Nothing to check yet: the predictions are still open."
        return super().not_attempted(says, think)


COMMIT = (
    "Commit to a number for each, even a wild guess. A wrong guess that you made is worth "
    "more than a right one that you read."
)


def close(a: Any, b: float) -> bool:  # Any: mypy takes no Real for a float
    """The same to two decimals; whole numbers and infinities exactly."""
    if isinstance(b, int) or abs(a) > 1e12 or math.isinf(b):
        return bool(a == b)
    return bool(abs(a - b) <= TOLERANCE)
