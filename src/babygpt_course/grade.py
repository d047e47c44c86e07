"""Grade a folder of submitted exercise notebooks: a gradebook and feedback pages.

Each notebook runs in a process of its own, in an empty folder, with limits on time and
memory. Answers are taken at the notebook's own `check("01.1", name)` calls and graded by
the graders of the installed package, loaded afresh from disk each time: what a submission
prints, or edits in the loaded graders, does not count.

This is NOT a sandbox. A submission runs as you: it can read and write your files and use
your network, and somebody determined can forge a result. This stops mistakes such as
endless loops, not attackers. Grade strangers on a machine that has nothing to lose.
"""

from __future__ import annotations

import ast
import csv
import html
import importlib
import json
import os
import re
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from babygpt_course.errors import ConfigError

if TYPE_CHECKING:
    from babygpt_course.exercises.exercise import Exercise
    from babygpt_course.exercises.result import Result

NOTEBOOK_SECONDS = 300.0
CELL_SECONDS = 60.0
MEMORY = 2 * 2**30  # bytes that a submission may take on top of Python and PyTorch
AT_ONCE = min(4, os.cpu_count() or 1)  # notebooks


@dataclass
class Graded:
    """One student: results by exercise id, and a note for each notebook with trouble."""

    student: str
    results: dict[str, Result] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def points(self, exercises: list[Exercise]) -> int:
        """What these exercises brought."""
        return sum(self.results[e.id].points for e in exercises)


def grade_folder(
    submissions: Path,
    out: Path,
    notebook_seconds: float = NOTEBOOK_SECONDS,
    cell_seconds: float = CELL_SECONDS,
) -> list[Graded]:
    """Grade every notebook below `submissions`, flat or one folder a student.

    Writes into `out`: grades.csv (a row for each student, a column for each exercise of
    the chapters handed in, the total) and feedback/NAME.html. Of several answers of one
    student to an exercise the best counts.

    Raises:
        ConfigError: there is no such folder, or no notebook in it.
        OSError: `out` cannot be made.
    """
    from babygpt_course.exercises import exercises
    from babygpt_course.exercises.faults import Fault
    from babygpt_course.exercises.result import Outcome

    submissions, out = Path(submissions), Path(out)
    found = notebooks(submissions)
    out.mkdir(parents=True, exist_ok=True)  # fails now, not after an hour of grading
    chapters = {path.name[:2] for _, path in found}
    graded: dict[str, Graded] = {}

    def one(path: Path) -> tuple[dict[str, Result], str]:
        return grade_notebook(path, notebook_seconds, cell_seconds)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (student, path), (results, note) in zip(
            found, pool.map(one, [path for _, path in found])
        ):
            row = graded.setdefault(student, Graded(student))
            for id, result in results.items():
                if id not in row.results or result.points > row.results[id].points:
                    row.results[id] = result
            row.notes += [f"{path.name}: {note}"] * bool(note)
            chapters |= {id[:2] for id in results}
            points = sum(r.points for r in results.values())
            print(f"{student}: {path.name}: {points} points{'; ' * bool(note)}{note}")

    columns = [e for e in exercises() if e.id[:2] in chapters]
    rows = [graded[student] for student in sorted(graded)]
    for row in rows:
        for e in columns:
            nothing = Fault("not-attempted", "No answer to this was checked.", "")
            row.results.setdefault(e.id, e.result(Outcome.NOT_ATTEMPTED, nothing))
    write_gradebook(out, rows, columns)
    print(f"{len(rows)} students: {out / 'grades.csv'}, feedback in {out / 'feedback'}")
    return rows


def notebooks(folder: Path) -> list[tuple[str, Path]]:
    """(student, notebook) each: the student is the first folder, or the file's name.

    Raises:
        ConfigError: there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder}. Give the folder with the submitted notebooks."
        )
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.ipynb"))
    names = [n for n in names if not any(part.startswith(".") for part in n.parts)]
    if not names:
        raise ConfigError(
            f"{folder} holds no notebook (*.ipynb), directly or in a folder for each student."
        )
    return [(n.parts[0].removesuffix(".ipynb"), folder / n) for n in names]


# --- in the instructor's process ------------------------------------------------------


def grade_notebook(
    path: Path, notebook_seconds: float, cell_seconds: float
) -> tuple[dict[str, Result], str]:
    """Run a notebook in a child process: results by id, and a note if there was trouble."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, OSError):
        return {}, "this file is not a readable notebook; ask for it again"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        empty, todo, done = (Path(folder) / n for n in ("empty", "todo", "done"))
        empty.mkdir()
        todo.write_text(json.dumps({"cells": cells, "cell_seconds": cell_seconds}))
        done.touch()
        env = os.environ | {
            "BABYGPT_COURSE_PROGRESS": "off",
            "HOME": str(empty),
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "PYTHONUSERBASE": site.getuserbase(),
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "babygpt_course.grade", str(todo), str(done)],
            cwd=empty,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            child.wait(notebook_seconds)
            ended = f"its process ended early with exit code {child.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {notebook_seconds:.0f} seconds"
        finally:
            end(child)
        return read_results(done.read_text(encoding="utf-8", errors="replace"), ended)


def end(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        child.kill()
    child.wait()


def read_results(lines: str, ended: str) -> tuple[dict[str, Result], str]:
    """The child's lines: results by id, and a note.

    The child ran somebody's code: only known ids, known outcomes and plain text are taken.
    """
    from babygpt_course.exercises import exercises
    from babygpt_course.exercises.result import Outcome, Result

    known = {e.id: e for e in exercises()}
    results: dict[str, Result] = {}
    troubles: list[str] = []
    for line in lines.splitlines():
        try:
            row = json.loads(line)
            if "finished" in row:
                ended = ""
            elif "trouble" in row:
                troubles.append(str(row["trouble"]))
            else:
                exercise, outcome = known[row["id"]], Outcome(row["outcome"])
                results[exercise.id] = Result(
                    id=exercise.id,
                    title=exercise.title,
                    outcome=outcome,
                    message_id=str(row["message_id"]),
                    points=exercise.points if outcome is Outcome.PASSED else 0,
                    max_points=exercise.points,
                    case=tuple((str(a), str(b)) for a, b in row["case"]),
                    **{k: str(row[k]) for k in ("says", "think", "link")},
                )
        except (ValueError, KeyError, TypeError):
            continue
    more = f" (and {len(troubles) - 1} more)" * (len(troubles) > 1)
    ended = f"{ended}; what was checked before counts" if ended else ""
    return results, "; ".join(filter(None, [ended, *troubles[:1]])) + more


def write_gradebook(out: Path, rows: list[Graded], columns: list[Exercise]) -> None:
    """Write grades.csv, and a page of feedback for each student."""
    (out / "feedback").mkdir(parents=True, exist_ok=True)
    with (out / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(["student", *(e.id for e in columns), "total", "of", "notes"])
        for row in rows:
            points = [row.results[e.id].points for e in columns]
            total, of = row.points(columns), sum(e.points for e in columns)
            write(
                [plain(row.student), *points, total, of, plain(" | ".join(row.notes))]
            )
    for row, name in zip(rows, file_names([row.student for row in rows])):
        page = feedback(row, columns)
        (out / "feedback" / name).write_text(page, encoding="utf-8")


def plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def file_names(students: list[str]) -> list[str]:
    """A safe, different file name for each student."""
    names: list[str] = []
    for student in students:
        base = re.sub(r"[^\w.-]+", "_", student).strip("._") or "student"
        name, n = f"{base}.html", 2
        while name.lower() in (other.lower() for other in names):
            name, n = f"{base}-{n}.html", n + 1
        names.append(name)
    return names


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Feedback for {name}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }}
section {{ margin: 1rem 0 }}
</style>
</head>
<body>
<h1>{name}</h1>
<p><strong>{points} of {of} points</strong></p>
{notes}
{results}
</body>
</html>
"""


def feedback(row: Graded, columns: list[Exercise]) -> str:
    """A page that needs nothing else: points, trouble with files, every result."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in row.notes)
    return PAGE.format(
        name=html.escape(row.student),
        points=row.points(columns),
        of=sum(e.points for e in columns),
        notes=f"<h2>Trouble with a file</h2><ul>{notes}</ul>" if notes else "",
        results="\n".join(row.results[e.id]._repr_html_() for e in columns),
    )


# --- in the child ---------------------------------------------------------------------


def answers(cell: str) -> Iterator[tuple[str, ast.expr]]:
    """(exercise id, expression) of each `check("01.1", expression)` in a cell."""
    for node in ast.walk(ast.parse(cell)):
        match node:
            case ast.Call(
                ast.Name("check") | ast.Attribute(_, "check"),
                [ast.Constant(str(id)), answer, *_],
            ):
                yield id, answer


def without_magics(cell: str) -> str:
    """The cell without notebook commands such as `%matplotlib inline` and `!pip`."""
    if cell.lstrip().startswith("%%"):
        return ""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", cell, flags=re.M)


def fresh_graders() -> ModuleType:
    """The graders as on disk, whatever happened to the ones that were loaded."""
    for name in [m for m in sys.modules if m.split(".")[0] == "babygpt_course"]:
        del sys.modules[name]
    return importlib.import_module("babygpt_course.exercises")


def limit_memory(extra: int) -> None:
    """Let this process take so many bytes more than now, where the system can do that."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        pass


def run_notebook(cells: list[str], cell_seconds: float, done: Path) -> None:
    """Run cells in order and grade what each checks, one line of `done` for each result.

    A cell that fails does not stop the rest.
    """
    import linecache
    import types

    import torch

    from babygpt_course.exercises.running import Endless, time_limit

    out = done.open("a", buffering=1, encoding="utf-8")

    def attempt(what: str, seconds: float, action: Callable[[], object]) -> None:
        try:
            with time_limit(seconds):
                action()
        except Endless:
            tell({"trouble": f"{what} was stopped after {seconds:.0f} seconds"})
        except (Exception, SystemExit) as error:
            said = str(error).split("\n")[0][:100]
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                said = f"out of memory, more than {MEMORY // 2**20} MiB"
            tell({"trouble": f"{what}: {type(error).__name__}: {said}"})

    def tell(row: dict[str, Any]) -> None:
        out.write(json.dumps(row, default=str) + "\n")

    def grade(id: str, expression: ast.expr, file: str) -> None:
        answer = eval(compile(ast.Expression(expression), file, "eval"), names)
        tell(asdict(fresh_graders().find(id).check(answer)))

    torch.set_num_threads(1)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    names = main.__dict__
    limit_memory(MEMORY)
    for number, cell in enumerate(map(without_magics, cells), 1):
        what, file = f"code cell {number}", f"<code cell {number}>"
        linecache.cache[file] = (len(cell), None, cell.splitlines(True), file)
        attempt(what, cell_seconds, lambda: exec(compile(cell, file, "exec"), names))  # noqa: B023
        try:
            checked = list(answers(cell))
        except (SyntaxError, ValueError):
            continue  # its trouble is told already
        for id, expression in checked:
            attempt(id, 2 * cell_seconds, lambda: grade(id, expression, file))  # noqa: B023
    tell({"finished": True})


if __name__ == "__main__":
    todo, done = map(Path, sys.argv[1:])
    run_notebook(**json.loads(todo.read_text()), done=done)
    os._exit(0)  # do not wait for threads that a submission left behind
