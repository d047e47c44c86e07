"""Make what a learner opens from the solutions: `python -m
babygpt_course.exercises.split [--check]`.

In solutions/NN_name.ipynb the lines between `# BEGIN SOLUTION` and `# END SOLUTION` are
the solution. In exercises/NN_name.ipynb they become `raise NotImplementedError`, or the
region's own `# STUB ` lines. A cell tagged "solution-only" is left out, and the title's
"Solutions" becomes "Exercises".
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from babygpt_course.errors import CourseError

Json = dict[str, Any]  # a notebook, or a cell of one
REGION = re.compile(
    r"^([ \t]*)# BEGIN SOLUTION\n(.*?)^[ \t]*# END SOLUTION[ \t]*(?:\n|\Z)", re.S | re.M
)
STUB = re.compile(r"^([ \t]*)# STUB ?(.*)$", re.M)


class SplitError(CourseError):
    """A solution notebook that cannot be split."""


def source(cell: Json) -> str:
    """The text of a cell, which the file holds line by line."""
    return "".join(cell["source"])


def stub(code: str) -> str:
    """Code with each solution region replaced by its stub.

    Raises:
        SplitError: a region is not closed or not opened.
    """

    def replaced(region: re.Match[str]) -> str:
        lines = [indent + text for indent, text in STUB.findall(region[2])]
        return "\n".join(lines or [f"{region[1]}raise NotImplementedError"]) + "\n"

    made = REGION.sub(replaced, code)
    if re.search(r"# (BEGIN|END) SOLUTION", made):
        raise SplitError(
            f"A `# BEGIN SOLUTION` or `# END SOLUTION` has no partner in:\n{code}"
        )
    return made.rstrip("\n")


def exercise(notebook: Json) -> Json:
    """The exercise notebook of a solution notebook."""
    cells = []
    for cell in notebook["cells"]:
        if "solution-only" in cell["metadata"].get("tags", []):
            continue
        text = source(cell)
        text = (
            stub(text)
            if cell["cell_type"] == "code"
            else re.sub(r"\A# Solutions\b", "# Exercises", text)
        )
        cells.append({**cell, "source": text.splitlines(keepends=True)})
    return {**notebook, "cells": cells}


def exercise_text(path: Path) -> str:
    """The text of the exercise notebook made from a solution notebook."""
    made = exercise(json.loads(path.read_text(encoding="utf-8")))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def keep_launch_strip(made: str, target: Path) -> str:
    """The links at the head differ between the folders and are written by `make sync`:
    keep those there are.
    """
    if not target.exists():
        return made
    old = {
        c.get("id"): c for c in json.loads(target.read_text(encoding="utf-8"))["cells"]
    }
    notebook = json.loads(made)
    for cell in notebook["cells"]:
        if "launch-strip" in cell["metadata"].get("tags", []) and cell.get("id") in old:
            title = source(cell).split("\n\n")[0]
            links = source(old[cell["id"]]).split("\n\n")[1:]
            cell["source"] = "\n\n".join([title, *links]).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(argv: list[str], root: Path = Path()) -> int:
    """Write exercises/ from solutions/, or with --check say which are out of step."""
    solutions = sorted((root / "solutions").glob("*.ipynb"))
    if not solutions:
        print(
            "There is no solutions/*.ipynb here. Run this in the folder of the repository.",
            file=sys.stderr,
        )
        return 2
    stale = []
    for path in solutions:
        target = root / "exercises" / path.name
        wanted = keep_launch_strip(exercise_text(path), target)
        if not target.exists() or target.read_text(encoding="utf-8") != wanted:
            stale.append(target)
            if "--check" not in argv:
                target.parent.mkdir(exist_ok=True)
                target.write_text(wanted, encoding="utf-8")
    for target in stale:
        print(
            ("out of step with its solution: " if "--check" in argv else "wrote ")
            + str(target)
        )
    if stale and "--check" in argv:
        print(
            "Run `python -m babygpt_course.exercises.split` (or `make sync`) and commit the result."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
