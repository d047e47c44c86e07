"""An exercise in which the learner commits to numbers before the run that shows them."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from babygpt_course.exercises.exercise import Exercise, paragraphs
from babygpt_course.exercises.result import Outcome, Result
from babygpt_course.exercises.show import kind, show

TOLERANCE = 0.006  # two decimals are enough


@dataclass
class Prediction(Exercise):
    """The answer is a dict, one number a question.

    Each question is a function that computes the truth by a run; its docstring is the question. A wrong
    answer is a function too: it gives the numbers that its misconception leads to, for the questions it
    leads astray.
    """

    questions: dict[str, Callable[[], float]] = field(default_factory=dict)

    def question(self, function):
        """A function that computes the truth."""
        self.questions[function.__name__] = functools.cache(function)
        return function

    @property
    def name(self) -> str:
        return "predictions"

    def truth(self) -> dict[str, float]:
        return {name: question() for name, question in self.questions.items()}

    def grade(self, answer) -> Result:
        if answer is None or answer is ...:
            return self.not_attempted()
        listed = ", ".join(self.questions)
        if not isinstance(answer, dict):
            says = f"`check` got {kind(answer)}, and needs the dict of predictions."
            return self.result(
                Outcome.WRONG_TYPE, "not-a-dict", says, f"Its keys are: {listed}."
            )
        if unknown := [key for key in answer if key not in self.questions]:
            says = f"There is no question {unknown[0]!r}."
            return self.result(
                Outcome.WRONG_TYPE, "unknown-question", says, f"The keys are: {listed}."
            )
        if still := [key for key in self.questions if answer.get(key) in (None, ...)]:
            says = f"Still open: {', '.join(still)}."
            think = "Commit to a number for each, even a wild guess. A wrong guess that you made is worth more than a right one that you read."
            return self.not_attempted(says, think)
        faults = {key: self.judge(key, answer[key]) for key in self.questions}
        wrong = [key for key, fault in faults.items() if fault]
        right = f"{len(faults) - len(wrong)} of {len(faults)} predictions agree with the runs"
        if not wrong:
            return self.result(Outcome.PASSED, "passed", f"{right}.")
        key = wrong[0]
        outcome, message_id, says, think, anchor = faults[key]
        case = (
            ("question", f"{key}: {paragraphs(self.questions[key])[0]}"),
            ("expected", show(self.questions[key]())),
            ("yours", show(answer[key])),
        )
        says = f"{says}\n({right}; this is the first that does not.)"
        return self.result(outcome, message_id, says, think, anchor, case)

    def judge(self, key: str, guess) -> tuple[Outcome, str, str, str, str] | None:
        """None for a right guess, else (outcome, message id, what happened, what to think, anchor)."""
        truth = self.questions[key]()
        if isinstance(guess, Tensor) and guess.numel() == 1:
            guess = guess.item()
        if isinstance(guess, bool) or not isinstance(guess, (int, float)):
            says = f"A number was expected here; this is {kind(guess)}."
            think = "An expression such as `math.log(2)` is fine too."
            return Outcome.WRONG_TYPE, "not-a-number", says, think, ""
        if close(guess, truth):
            return None
        for wrong in self.wrongs:
            values = wrong.function().get(key, ())
            values = values if isinstance(values, tuple) else (values,)
            if any(close(guess, value) for value in values):
                return (
                    Outcome.WRONG_VALUE,
                    wrong.message_id,
                    wrong.says,
                    wrong.think,
                    wrong.anchor,
                )
        # The rest of a question's docstring is for a guess behind which no misconception is known.
        think = "\n".join(paragraphs(self.questions[key])[1:])
        says = "This guess does not agree with the run."
        return Outcome.WRONG_VALUE, "wrong-value", says, think, self.anchor

    def not_attempted(self, says="", think="") -> Result:
        return super().not_attempted(
            says or "Nothing to check yet: the predictions are still open.", think
        )


def close(a: float, b: float) -> bool:
    """The same to two decimals; whole numbers and infinities exactly."""
    if isinstance(b, int) or math.isinf(a) or math.isinf(b):
        return a == b
    return abs(a - b) <= TOLERANCE
