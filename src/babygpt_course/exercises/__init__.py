"""Exercises that say what went wrong: `check`, `hint` and `progress`.

check("01.1", count_pairs)    grade an answer
hint("01.1")                  the next of three hints
progress()                    points so far
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from babygpt_course.errors import CourseError

if TYPE_CHECKING:
    from babygpt_course.exercises.exercise import Exercise
    from babygpt_course.exercises.record import Hint, Progress
    from babygpt_course.exercises.result import Result

__all__ = ["UnknownExercise", "check", "hint", "progress"]


class UnknownExercise(CourseError):
    """An exercise id that does not exist. A notebook shows the message without a
    traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def exercises(chapter: str | None = None) -> list[Exercise]:
    """Every exercise, or those of one chapter ("01"): the list EXERCISES of each module
    exNN beside this file.
    """
    found = sorted(
        m.name
        for m in pkgutil.iter_modules(__path__)
        if m.name[:2] == "ex" and m.name[2:].isdigit()
    )
    wanted = [name for name in found if chapter in (None, name[2:])]
    return [
        e
        for name in wanted
        for e in importlib.import_module(f"{__name__}.{name}").EXERCISES
    ]


def find(id: object) -> Exercise:
    """The exercise with this id.

    Raises:
        UnknownExercise: there is none; the message lists those that exist.
    """
    everything = exercises()
    for exercise in everything:
        if isinstance(id, str) and exercise.id == id:
            return exercise
    listed = "\n".join(f"  {e.id}  {e.title}" for e in everything)
    near = str(id).strip().zfill(4) if isinstance(id, (str, float)) else ""
    meant = f" Did you mean {near!r}?" * any(e.id == near for e in everything)
    shown = repr(id) if isinstance(id, (str, int, float)) else "with that id"
    raise UnknownExercise(
        f"There is no exercise {shown}.{meant} The exercises are:\n{listed}"
    )


def check(id: object, answer: object = None) -> Result:
    """Grade an answer, record the outcome, and return the result, which shows itself in a notebook.

    Raises:
        UnknownExercise: there is no such exercise.
    """
    from babygpt_course.exercises import record

    if isinstance(answer, str) and not isinstance(id, str):
        raise UnknownExercise(f"The id comes first: check({answer!r}, your_function).")
    result = find(id).check(answer)
    return record.checked(result)


def hint(id: str) -> Hint:
    """The next of three hints: a question, a formula, pseudocode. After the third, all three.

    Raises:
        UnknownExercise: there is no such exercise.
    """
    from babygpt_course.exercises import record

    return record.hinted(find(id))


def progress() -> Progress:
    """Your points so far, as a table."""
    from babygpt_course.exercises import record

    return record.Progress(exercises())
