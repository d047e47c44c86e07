"""The proof that the graders grade.

For each exercise: the solution (from solutions/NN_name.ipynb) and the correct answers
in other styles pass; each named wrong answer fails with its own message; the stub is
"not attempted"; and each mutant of the solution, changed in one place, fails, or is
listed as equivalent with the reason.
"""

import ast
import contextlib
import json
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babygpt_course.errors import CourseError
from babygpt_course.exercises import exercises, running
from babygpt_course.exercises.exercise import Exercise
from babygpt_course.exercises.faults import Fault
from babygpt_course.exercises.mutants import mutants
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.exercises.result import Outcome, Result
from babygpt_course.exercises.running import Endless, quiet, time_limit
from babygpt_course.exercises.show import show
from babygpt_course.exercises.split import REGION, source, stub

SOLUTION, STYLE, STUB = "solution", "other style", "stub"
WRONG, MUTANT = "wrong answer", "mutant"
ANY = "any failure"


class ProofError(CourseError):
    """A grader that does not grade as it says."""


@dataclass(frozen=True)
class Row:
    """One answer and what became of it. `expected` is a message id, or ANY."""

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
    rows: list[Row] = []

    def add(
        kind: str, name: str, expected: str, result: Result, reason: str = ""
    ) -> None:
        found, id = str(result.outcome), result.message_id
        ok = not result.passed if expected == ANY else id == expected
        rows.append(Row(exercise.id, kind, name, expected, found, id, ok, reason))

    solution, untouched = (answer(exercise, c, imports) for c in (code, stub(code)))
    add(SOLUTION, "solution", "passed", exercise.grade(solution))
    add(STUB, "stub", "not-attempted", exercise.grade(untouched))
    for name, style in styles(exercise):
        add(STYLE, name, "passed", exercise.grade(style))
    for name, id, wrong in wrong_answers(exercise):
        add(WRONG, name, id, exercise.grade(wrong))
    unused = dict(exercise.equivalent)
    for name, text in mutants(code):
        reason = unused.pop(name, "")
        result = graded_mutant(exercise, text, imports)
        add(MUTANT, name, "passed" if reason else ANY, result, reason)
    for name in unused:
        nothing = Fault("no-such-mutant", "", "")
        add(MUTANT, name, "passed", exercise.result(Outcome.NOT_ATTEMPTED, nothing))
    return rows


def styles(exercise: Exercise) -> Iterator[tuple[str, object]]:
    """(name, answer) of each correct answer in another style."""
    for f in exercise.rights:
        name = f.__name__.replace("_", "-")
        yield name, f() if isinstance(exercise, Prediction) else f


def wrong_answers(exercise: Exercise) -> Iterator[tuple[str, str, object]]:
    """(name, message id, answer) of each; of a prediction, for each number it leads to."""
    for wrong in exercise.wrongs:
        if not isinstance(exercise, Prediction):
            yield wrong.name, wrong.message_id, wrong.function
            continue
        for key, values in wrong.function().items():
            for value in values if isinstance(values, tuple) else (values,):
                name = f"{wrong.name} ({key} = {show(value)})"
                yield name, wrong.message_id, {**exercise.truth(), key: value}


def graded_mutant(exercise: Exercise, code: str, imports: str) -> Result:
    """The result of a mutant, whose cell may itself stop or never end."""
    try:
        with quiet(), time_limit(5):
            made = answer(exercise, code, imports)
    except (Exception, Endless) as error:
        message = Fault("raised", f"the cell itself stops: {error!r}", "")
        return exercise.result(Outcome.WRONG_TYPE, message)
    with call_seconds(1):  # a learner gets more, but many mutants never end
        return exercise.grade(made)


@contextlib.contextmanager
def call_seconds(seconds: float) -> Iterator[None]:
    """A shorter time limit for calls on small cases, which take a few milliseconds."""
    before, running.CALL_SECONDS = running.CALL_SECONDS, seconds
    try:
        yield
    finally:
        running.CALL_SECONDS = before


def answer(exercise: Exercise, code: str, imports: str) -> Any:
    """What a cell makes: the value of the exercise's name after running it."""
    filename = f"<{exercise.id} {hash(code)}>"
    linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
    namespace: dict[str, Any] = {}
    exec(imports, namespace)
    exec(compile(code, filename, "exec"), namespace)
    return namespace.get(exercise.name)


def solution_cell(exercise: Exercise, folder: Path | None = None) -> tuple[str, str]:
    """The code of the cell that holds the solution, and what it needs: the notebook's
    import lines, and the solutions of other exercises that it calls.

    Raises:
        ProofError: no notebook, or no such cell.
    """
    folder = folder or Path(__file__).resolve().parents[3] / "solutions"
    path = folder / f"{exercise.chapter}.ipynb"
    if not path.exists():
        raise ProofError(f"The proof needs the repository's solutions: no {path}.")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = [source(c) for c in cells if c["cell_type"] == "code"]
    for cell in cells:
        if REGION.search(cell) and exercise.name in defined(cell):
            used = {n.id for n in ast.walk(ast.parse(cell)) if isinstance(n, ast.Name)}
            around = [
                c
                for c in cells
                if only_imports(c)
                or (c != cell and REGION.search(c) and used & defined(c))
            ]
            return cell, "\n".join(around)
    raise ProofError(
        f"{path.name} has no cell with a solution region that defines `{exercise.name}`."
    )


def only_imports(code: str) -> bool:
    """Does a cell hold nothing but imports?"""
    kinds = (ast.Import, ast.ImportFrom)
    return all(isinstance(statement, kinds) for statement in ast.parse(code).body)


def defined(code: str) -> set[str]:
    """The names that a cell's top level defines."""
    names: set[str] = set()
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.FunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {t.id for t in statement.targets if isinstance(t, ast.Name)}
    return names


# --- the page -------------------------------------------------------------------------


def kill_table(folder: Path | None = None) -> "KillTable":
    """Prove every exercise and show the result.

    Raises:
        ProofError: an answer was not graded as it must be; the message lists each.
    """
    everything = exercises()
    rows = [row for exercise in everything for row in prove(exercise, folder)]
    if bad := [r for r in rows if not r.ok]:
        told = "  {0.exercise} {0.kind} {0.name}: expected {0.expected}, got {0.message_id}"
        listed = "\n".join(told.format(row) for row in bad)
        raise ProofError(f"The graders are not proved:\n{listed}")
    return KillTable(everything, rows)


class KillTable:
    """The proof as Markdown: a summary, then for each exercise every answer."""

    def __init__(self, exercises: list[Exercise], rows: list[Row]):
        self.exercises, self.rows = exercises, rows

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        parts = [self._summary(), *map(self._details, self.exercises)]
        return "\n".join(line for part in parts for line in part)

    def _of(self, exercise: Exercise, kind: str) -> list[Row]:
        return [r for r in self.rows if r.exercise == exercise.id and r.kind == kind]

    def _summary(self) -> Iterator[str]:
        yield (
            "| exercise | right answers that pass | wrong answers that get their message "
            "| mutants that fail | mutants that change nothing |"
        )
        yield "|---|---:|---:|---:|---:|"
        for e in self.exercises:
            right, wrong = len(self._of(e, STYLE)) + 1, len(self._of(e, WRONG))
            equal = sum(bool(r.note) for r in self._of(e, MUTANT))
            caught = len(self._of(e, MUTANT)) - equal
            yield f"| {e.id} {e.title} | {right} | {wrong} | {caught} | {equal} |"

    def _details(self, e: Exercise) -> Iterator[str]:
        yield f"\n## {e.id} {e.title}\n"
        yield "| answer | kind | outcome | message |\n|---|---|---|---|"
        for kind in (SOLUTION, STYLE, STUB, WRONG):
            for r in self._of(e, kind):
                yield f"| {r.name} | {kind} | {r.outcome} | `{r.message_id}` |"
        equal = [r for r in self._of(e, MUTANT) if r.note]
        caught = [r for r in self._of(e, MUTANT) if not r.note]
        if equal:
            yield "\nMutants that change nothing, and why:\n"
            yield from (f"- `{r.name}`: {r.note}" for r in equal)
        yield f"\n<details><summary>The {len(caught)} mutants that fail</summary>\n"
        yield "| changed line | outcome | message |\n|---|---|---|"
        for r in caught:
            yield f"| {cell_code(r.name)} | {r.outcome} | `{r.message_id}` |"
        yield "\n</details>"


def cell_code(code: str) -> str:
    """Code inside a Markdown table."""
    return "`" + code.replace("|", "\\|") + "`"
