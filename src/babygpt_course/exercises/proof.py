"""The proof that the graders grade: who must pass passes, who must fail fails with its own message.

For each exercise: the solution (from solutions/NN_name.ipynb) and the correct answers in other styles pass;
each named wrong answer fails with its own message; the stub is "not attempted"; and each mutant of the
solution, changed in one place, fails, or is listed as equivalent with the reason.
"""

import ast
import json
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babygpt_course.errors import CourseError
from babygpt_course.exercises import exercises
from babygpt_course.exercises.exercise import Exercise
from babygpt_course.exercises.mutants import mutants
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.exercises.result import Outcome, Result
from babygpt_course.exercises.running import Endless, quiet, time_limit
from babygpt_course.exercises.split import REGION, source, stub

SOLUTION, STYLE, STUB, WRONG, MUTANT = (
    "solution",
    "other style",
    "stub",
    "wrong answer",
    "mutant",
)


class ProofError(CourseError):
    """A grader that does not grade as it says."""


@dataclass(frozen=True)
class Row:
    """One answer and what became of it. `expected` is a message id, or "any failure"."""

    exercise: str
    kind: str
    name: str
    expected: str
    outcome: str
    message_id: str
    ok: bool
    note: str = ""


def prove(exercise: Exercise, folder: Path | None = None) -> list[Row]:
    """Every answer to an exercise that must pass or fail, graded."""
    code, imports = solution_cell(exercise, folder)

    def row(kind: str, name: str, expected: str, result: Result, note: str = "") -> Row:
        ok = result.message_id == expected
        return Row(
            exercise.id,
            kind,
            name,
            expected,
            str(result.outcome),
            result.message_id,
            ok,
            note,
        )

    rows = [
        row(
            SOLUTION,
            "solution",
            "passed",
            exercise.grade(answer(exercise, code, imports)),
        ),
        row(
            STUB,
            "stub",
            "not-attempted",
            exercise.grade(answer(exercise, stub(code), imports)),
        ),
    ]
    rows += [
        row(STYLE, f.__name__.replace("_", "-"), "passed", exercise.grade(f))
        for f in exercise.rights
    ]
    rows += [
        row(WRONG, name, expected, exercise.grade(a))
        for name, expected, a in wrong_answers(exercise)
    ]
    for label, text in mutants(code):
        result, reason = (
            graded_mutant(exercise, text, imports),
            exercise.equivalent.get(label, ""),
        )
        expected = "passed" if reason else "any failure"
        ok = result.passed == bool(reason)
        rows.append(
            Row(
                exercise.id,
                MUTANT,
                label,
                expected,
                str(result.outcome),
                result.message_id,
                ok,
                reason,
            )
        )
    stale = set(exercise.equivalent) - {r.name for r in rows if r.kind == MUTANT}
    rows += [
        Row(exercise.id, MUTANT, label, "passed", "no such mutant", "", False)
        for label in sorted(stale)
    ]
    return rows


def wrong_answers(exercise: Exercise) -> Iterator[tuple[str, str, object]]:
    """(name, message id, answer) of each wrong answer; for a prediction one for each number it leads to."""
    for wrong in exercise.wrongs:
        if not isinstance(exercise, Prediction):
            yield wrong.name, wrong.message_id, wrong.function
            continue
        for key, values in wrong.function().items():
            for value in values if isinstance(values, tuple) else (values,):
                yield (
                    f"{wrong.name} ({key})",
                    wrong.message_id,
                    {**exercise.truth(), key: value},
                )


def graded_mutant(exercise: Exercise, code: str, imports: str) -> Result:
    try:
        with quiet(), time_limit(5):
            made = answer(exercise, code, imports)
    except (Exception, Endless) as error:
        return exercise.result(
            Outcome.WRONG_TYPE, "raised", f"the cell itself stops: {error!r}"
        )
    return exercise.grade(made)


def answer(exercise: Exercise, code: str, imports: str):
    """What a cell makes: the value of the exercise's name after running it."""
    filename = f"<{exercise.id} {hash(code)}>"
    linecache.cache[filename] = (
        len(code),
        None,
        code.splitlines(keepends=True),
        filename,
    )
    namespace: dict = {}
    exec(imports, namespace)
    exec(compile(code, filename, "exec"), namespace)
    return namespace.get(exercise.name)


def solution_cell(exercise: Exercise, folder: Path | None = None) -> tuple[str, str]:
    """The code of the cell that holds the solution, and the notebook's import lines.

    Raises:
        ProofError: no notebook, or no such cell.
    """
    folder = folder or Path(__file__).resolve().parents[3] / "solutions"
    path = folder / f"{exercise.chapter}.ipynb"
    if not path.exists():
        raise ProofError(
            f"The proof needs the solutions, which are in the repository only; there is no {path}."
        )
    cells = [
        source(c)
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]
    imports = [
        c
        for c in cells
        if all(isinstance(s, (ast.Import, ast.ImportFrom)) for s in ast.parse(c).body)
    ]
    for cell in cells:
        if REGION.search(cell) and exercise.name in defined(cell):
            return cell, "\n".join(imports)
    raise ProofError(
        f"{path.name} has no cell with a solution region that defines `{exercise.name}`."
    )


def defined(code: str) -> set[str]:
    """The names that a cell's top level defines."""
    body = ast.parse(code).body
    assigned = {
        t.id
        for s in body
        if isinstance(s, ast.Assign)
        for t in s.targets
        if isinstance(t, ast.Name)
    }
    return assigned | {s.name for s in body if isinstance(s, ast.FunctionDef)}


# --- the page --------------------------------------------------------------------------------------


def kill_table(folder: Path | None = None) -> "KillTable":
    """Prove every exercise and show the result.

    Raises:
        ProofError: an answer was not graded as it must be; the message lists each.
    """
    everything = exercises()
    rows = [row for exercise in everything for row in prove(exercise, folder)]
    if bad := [r for r in rows if not r.ok]:
        listed = "\n".join(
            f"  {r.exercise} {r.kind} {r.name}: expected {r.expected}, got {r.message_id or r.outcome}"
            for r in bad
        )
        raise ProofError(f"The graders are not proved:\n{listed}")
    return KillTable(everything, rows)


class KillTable:
    """The proof as Markdown: a summary, then for each exercise every answer."""

    def __init__(self, exercises: list[Exercise], rows: list[Row]):
        self.exercises, self.rows = exercises, rows

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        return "\n".join(
            [
                *self._summary(),
                *(line for e in self.exercises for line in self._details(e)),
            ]
        )

    def _of(self, exercise: Exercise, kind: str) -> list[Row]:
        return [r for r in self.rows if r.exercise == exercise.id and r.kind == kind]

    def _summary(self) -> Iterator[str]:
        yield "| exercise | correct answers that pass | wrong answers, each with its own message | mutants caught | mutants that change nothing |"
        yield "|---|---:|---:|---:|---:|"
        for e in self.exercises:
            made = self._of(e, MUTANT)
            equal = sum(bool(r.note) for r in made)
            right = len(self._of(e, STYLE)) + 1
            yield f"| {e.id} {e.title} | {right} | {len(self._of(e, WRONG))} | {len(made) - equal} of {len(made) - equal} | {equal} |"

    def _details(self, e: Exercise) -> Iterator[str]:
        yield f"\n## {e.id} {e.title}\n"
        yield "| answer | kind | outcome | message |"
        yield "|---|---|---|---|"
        for kind in (SOLUTION, STYLE, STUB, WRONG):
            for r in self._of(e, kind):
                yield f"| {r.name} | {kind} | {r.outcome} | `{r.message_id}` |"
        made = self._of(e, MUTANT)
        if equal := [r for r in made if r.note]:
            yield "\nMutants that change nothing, and why:\n"
            yield from (f"- `{r.name}`: {r.note}" for r in equal)
        yield f"\n<details><summary>The {len(made) - len([r for r in made if r.note])} mutants of the solution that were caught</summary>\n"
        yield "| changed line | outcome | message |"
        yield "|---|---|---|"
        for r in made:
            if not r.note:
                yield f"| {cell_code(r.name)} | {r.outcome} | `{r.message_id}` |"
        yield "\n</details>"


def cell_code(code: str) -> str:
    """Code inside a Markdown table."""
    return "`" + code.replace("|", "\\|") + "`"
