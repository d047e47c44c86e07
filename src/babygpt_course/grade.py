"""Grade a folder of submitted exercise notebooks: a gradebook and one feedback page a student.

Each notebook runs in a process of its own, in an empty folder, with limits on time and memory. Answers are
taken at the notebook's own `check("01.1", name)` calls and graded by the graders of the installed package,
loaded afresh from disk each time: what a submission prints, or edits in the loaded graders, does not count.

This is NOT a sandbox. A submission runs as you, can read and write your files and use your network, and
somebody determined can forge a result. It stops mistakes such as endless loops, not attackers. Grade the
work of strangers on a machine that has nothing to lose.
"""

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from babygpt_course.errors import ConfigError

NOTEBOOK_SECONDS = 300.0
CELL_SECONDS = 60.0
MEMORY = 2 * 2**30  # bytes that a submission may take on top of Python and PyTorch


@dataclass
class Graded:
    """What became of one student: results by exercise id, and a line for each notebook that had trouble."""

    student: str
    results: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(r.points for r in self.results.values())


def grade_folder(
    submissions: Path,
    out: Path,
    notebook_seconds: float = NOTEBOOK_SECONDS,
    cell_seconds: float = CELL_SECONDS,
) -> list[Graded]:
    """Grade every notebook below `submissions`, flat or one folder a student, into `out`.

    Writes grades.csv (one row a student, one column an exercise, the total) and feedback/NAME.html.

    Raises:
        ConfigError: there is no such folder, or no notebook in it.
    """
    submissions, out = Path(submissions), Path(out)
    found = notebooks(submissions)
    graded: dict[str, Graded] = {}
    touched: set[str] = set()
    for student, path in found:
        one = graded.setdefault(student, Graded(student))
        results, note = grade_notebook(path, notebook_seconds, cell_seconds)
        touched |= {id[:2] for id in results} | (
            {path.name[:2]} & {e.id[:2] for e in _exercises()}
        )
        for id, result in results.items():
            if id not in one.results or result.points >= one.results[id].points:
                one.results[id] = result
        one.notes += [f"{path.name}: {note}"] if note else []
        print(
            f"{student}: {path.name}: {sum(r.points for r in results.values())} points{'; ' * bool(note)}{note}"
        )
    columns = [e for e in _exercises() if e.id[:2] in touched]
    rows = [graded[s] for s in sorted(graded)]
    for one in rows:
        for e in columns:
            one.results.setdefault(
                e.id, e.not_attempted("No answer was checked in this notebook.", " ")
            )
    out.mkdir(parents=True, exist_ok=True)
    write_gradebook(out / "grades.csv", rows, columns)
    (out / "feedback").mkdir(exist_ok=True)
    for one, name in zip(rows, file_names([one.student for one in rows])):
        (out / "feedback" / name).write_text(feedback(one, columns), encoding="utf-8")
    print(f"{len(rows)} students: {out / 'grades.csv'}, feedback in {out / 'feedback'}")
    return rows


def _exercises() -> list:
    from babygpt_course.exercises import exercises

    return exercises()


def notebooks(folder: Path) -> list[tuple[str, Path]]:
    """(student, notebook) for each notebook: the student is the first folder, or the file's name."""
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder}. Give the folder that holds the submitted notebooks."
        )
    paths = sorted(
        p
        for p in folder.rglob("*.ipynb")
        if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    if not paths:
        raise ConfigError(
            f"{folder} holds no notebook (*.ipynb), neither directly nor in one folder a student."
        )
    return [(p.relative_to(folder).parts[0].removesuffix(".ipynb"), p) for p in paths]


# --- in the instructor's process -------------------------------------------------------------------


def grade_notebook(
    path: Path, notebook_seconds: float, cell_seconds: float
) -> tuple[dict, str]:
    """Run one notebook in a child process: its results by id, and a note if it could not be run to its end."""
    try:
        cells = code_cells(path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return (
            {},
            f"this file is not a readable notebook ({type(error).__name__}); ask for it again",
        )
    with (
        tempfile.TemporaryDirectory() as empty,
        tempfile.TemporaryDirectory() as private,
    ):
        todo, done = Path(private) / "cells.json", Path(private) / "results.jsonl"
        todo.write_text(json.dumps({"cells": cells, "cell_seconds": cell_seconds}))
        done.touch()
        env = {
            **os.environ,
            "BABYGPT_COURSE_PROGRESS": "off",
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
        }
        env |= {"HOME": empty, "PYTHONUSERBASE": site.getuserbase()}
        child = subprocess.Popen(
            [sys.executable, "-m", "babygpt_course.grade", str(todo), str(done)],
            cwd=empty,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        note = ""
        try:
            if child.wait(notebook_seconds):
                note = f"the notebook's process ended early (exit code {child.returncode}): out of memory, or it ended itself"
        except subprocess.TimeoutExpired:
            note = f"stopped after {notebook_seconds:.0f} seconds; what was checked before counts"
        finally:
            end(child)
        return read_results(done, len(cells), note)


def end(child: subprocess.Popen) -> None:
    """End the child and whatever it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        child.kill()
    child.wait()


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def read_results(done: Path, n_cells: int, note: str) -> tuple[dict, str]:
    """The child's lines. It ran a stranger's code, so only known ids, known outcomes and text are taken."""
    from babygpt_course.exercises.result import Outcome, Result

    known, results, troubles = {e.id: e for e in _exercises()}, {}, []
    for line in done.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if "trouble" in row:
                troubles.append(str(row["trouble"])[:200])
                continue
            exercise, outcome = known[row["id"]], Outcome(row["outcome"])
            case = tuple((str(a), str(b)) for a, b in row["case"])
            points = exercise.points if outcome is Outcome.PASSED else 0
            texts = [str(row[k]) for k in ("says", "think", "link")]
            results[exercise.id] = Result(
                exercise.id,
                exercise.title,
                outcome,
                str(row["message_id"]),
                points,
                exercise.points,
                *texts,
                case,
            )
        except (ValueError, KeyError, TypeError):
            continue
    if troubles:
        note = "; ".join(
            filter(
                None,
                [
                    note,
                    f"{len(troubles)} of {n_cells} code cells stopped, the first: {troubles[0]}",
                ],
            )
        )
    return results, note


def write_gradebook(path: Path, rows: list[Graded], columns: list) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        write(["student", *(e.id for e in columns), "total", "of", "notes"])
        for one in rows:
            points = [one.results[e.id].points for e in columns]
            notes = " | ".join(one.notes)
            write(
                [
                    plain(one.student),
                    *points,
                    sum(points),
                    sum(e.points for e in columns),
                    plain(notes),
                ]
            )


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


def feedback(one: Graded, columns: list) -> str:
    """A page that needs nothing else: the points, trouble with files, and every result."""
    total, name = sum(e.points for e in columns), html.escape(one.student)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in one.notes)
    results = "".join(f"<div>{one.results[e.id]._repr_html_()}</div>" for e in columns)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Feedback for {name}</title>'
        '<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}'
        "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}div{margin:1rem 0}</style>"
        f"</head><body><h1>{name}</h1><p><strong>{one.points} of {total} points</strong></p>"
        + f"<h2>Trouble with the file</h2><ul>{notes}</ul>" * bool(notes)
        + f"<h2>Exercises</h2>{results}</body></html>\n"
    )


# --- in the child ----------------------------------------------------------------------------------


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
    """The cell without lines for the notebook itself, such as `%matplotlib inline` and `!pip install`."""
    if cell.lstrip().startswith("%%"):
        return ""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", cell, flags=re.M)


def fresh_graders():
    """The graders as the files on disk have them, whatever happened to the loaded ones."""
    for name in [m for m in sys.modules if m.split(".")[0] == "babygpt_course"]:
        del sys.modules[name]
    return importlib.import_module("babygpt_course.exercises")


def limit_memory(extra: int) -> None:
    """Let this process take so many bytes more than it has now, where the system can do that."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        pass


def child(todo: Path, done: Path) -> None:
    """Run the cells in order; after each, grade what it checks. A cell that fails does not stop the rest."""
    import linecache
    import types

    import torch

    from babygpt_course.exercises.running import Endless, time_limit

    torch.set_num_threads(1)
    task = json.loads(todo.read_text())
    out = done.open("a", buffering=1, encoding="utf-8")

    def tell(row: dict) -> None:
        out.write(json.dumps(row, default=str) + "\n")

    namespace = sys.modules["__main__"] = types.ModuleType("__main__")
    limit_memory(MEMORY)
    for number, cell in enumerate(task["cells"], 1):
        file, code = f"<code cell {number}>", without_magics(cell)
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
        try:
            with time_limit(task["cell_seconds"]):
                exec(compile(code, file, "exec"), namespace.__dict__)
        except Endless:
            tell(
                {
                    "trouble": f"code cell {number} was stopped after {task['cell_seconds']:.0f} seconds"
                }
            )
        except (Exception, SystemExit) as error:
            tell(
                {
                    "trouble": f"code cell {number}: {type(error).__name__}: {str(error)[:100]}"
                }
            )
        try:
            checked = list(answers(code))
        except (SyntaxError, ValueError):
            continue
        for id, expression in checked:
            try:
                answer = eval(
                    compile(ast.Expression(expression), file, "eval"),
                    namespace.__dict__,
                )
                exercise = fresh_graders().find(id)
                with time_limit(2 * task["cell_seconds"]):
                    tell(asdict(exercise.grade(answer)))
            except (Exception, Endless, SystemExit) as error:
                tell(
                    {
                        "trouble": f"{id} could not be graded: {type(error).__name__}: {str(error)[:100]}"
                    }
                )


if __name__ == "__main__":
    child(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # threads that a submission left behind do not hold the child up
