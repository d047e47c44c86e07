"""The learner's progress: one JSON file on this machine, no account.

The file is in the user's data folder. The environment variable BABYGPT_COURSE_PROGRESS
names another file, or is "off" to record nothing. A file that cannot be read is set
aside, never overwritten.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from babygpt_course.exercises.exercise import Exercise, split
from babygpt_course.exercises.result import Outcome, Result, card, rich

Entry = dict[str, Any]  # of one exercise, with the keys of _EMPTY
_memory: dict[str, Entry] = {}  # what could not, or should not, be saved
_EMPTY: Entry = {
    "outcome": str(Outcome.NOT_ATTEMPTED),
    "points": 0,
    "tries": 0,
    "hints": 0,
    "passed": "",
}


def path() -> Path | None:
    """Where progress is kept; None when recording is off."""
    if named := os.environ.get("BABYGPT_COURSE_PROGRESS"):
        return None if named == "off" else Path(named).expanduser()
    import platformdirs

    return (
        Path(platformdirs.user_data_dir("babygpt-course", appauthor=False))
        / "progress.json"
    )


def load() -> tuple[dict[str, Entry], str]:
    """What is recorded, by exercise id; and a note for the learner if there is trouble."""
    file = path()
    if file is None:
        return dict(_memory), ""
    try:
        return _read(file) | _memory, ""
    except (FileNotFoundError, NotADirectoryError):
        return dict(_memory), ""
    except OSError as error:  # a folder, no permission, a name too long: leave it alone
        reason = error.strerror
        return dict(_memory), f"Your progress in {file} cannot be read ({reason})."
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return dict(_memory), _set_aside(file)


def _read(file: Path) -> dict[str, Entry]:
    rows = json.loads(file.read_text(encoding="utf-8"))["exercises"]
    rows = {str(id): {**_EMPTY, **row} for id, row in rows.items()}
    if any(
        type(row[k]) is not type(v) for row in rows.values() for k, v in _EMPTY.items()
    ):
        raise ValueError("an entry has another type")
    return rows


def _set_aside(file: Path) -> str:
    """Move a damaged file out of the way under a new name; nothing in it is lost."""
    n = 1
    while (aside := file.with_name(f"{file.stem}.damaged-{n}{file.suffix}")).exists():
        n += 1
    try:
        file.replace(aside)
    except OSError as error:
        reason = error.strerror
        return f"Your progress file {file} cannot be read or set aside ({reason})."
    return (
        f"Your progress file was damaged. It is kept as {aside}; a new one was started."
    )


def save(rows: dict[str, Entry]) -> str:
    """Write the whole file or nothing of it; a note for the learner if that fails."""
    file = path()
    if file is None:
        _memory.update(rows)
        return ""
    part = file.parent / f"{file.name}.{os.getpid()}.part"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(
            json.dumps({"version": 1, "exercises": rows}, indent=1) + "\n",
            encoding="utf-8",
        )
        part.replace(file)
    except OSError as error:
        _memory.update(rows)
        with contextlib.suppress(OSError):
            part.unlink()
        return (
            f"This result counts, but could not be saved in {file} ({error.strerror}). "
            "The environment variable BABYGPT_COURSE_PROGRESS can name another file."
        )
    _memory.clear()
    return ""


def checked(result: Result) -> Result:
    """Record a result. What was passed once stays passed."""
    rows, note = load()
    row = dict(rows.get(result.id, _EMPTY))
    if result.outcome is not Outcome.NOT_ATTEMPTED:
        row["tries"] += not row["passed"]
        if not row["passed"]:
            row |= {"outcome": str(result.outcome), "points": result.points}
        if result.passed and not row["passed"]:
            row["passed"] = time.strftime("%Y-%m-%d")
        note = " ".join(filter(None, [note, save(rows | {result.id: row})]))
    return replace(result, note=note) if note else result


@dataclass(frozen=True)
class Hint:
    """One hint, or all of them."""

    id: str
    steps: tuple[tuple[str, str], ...]
    note: str = ""

    def __repr__(self) -> str:
        lines = [f"{name}: {text}" for name, text in self.steps]
        return "\n".join(lines + [f"Note: {self.note}"] * bool(self.note))

    def _repr_html_(self) -> str:
        body = "".join(
            f"<p style='margin:4px 0'><strong>{name}:</strong> {rich(text)}</p>"
            for name, text in self.steps
        )
        return card(
            body + f"<p>{html.escape(self.note)}</p>" * bool(self.note),
            f"Hints for exercise {self.id}",
        )


def hinted(exercise: Exercise) -> Hint:
    """The next hint, and record that it was shown."""
    rows, note = load()
    row = dict(rows.get(exercise.id, _EMPTY))
    names = ("a question", "a formula", "pseudocode")
    steps = tuple(
        (f"Hint {i} of 3, {name}", text)
        for i, (name, text) in enumerate(zip(names, split(exercise.hints)), 1)
    )
    shown = row["hints"]
    row["hints"] = min(shown + 1, 3)
    note = " ".join(filter(None, [note, save(rows | {exercise.id: row})]))
    return Hint(exercise.id, steps if shown >= 3 else steps[shown : shown + 1], note)


class Progress:
    """A table of all exercises with points, tries and hints."""

    def __init__(self, exercises: list[Exercise]):
        rows, self.note = load()
        self.rows = [(e, rows.get(e.id, _EMPTY)) for e in exercises]
        self.points = sum(min(max(row["points"], 0), e.points) for e, row in self.rows)
        self.max_points = sum(e.points for e, _ in self.rows)

    @property
    def total(self) -> str:
        """Points and passed exercises, in words."""
        done = sum(bool(row["passed"]) for _, row in self.rows)
        points = f"{self.points} of {self.max_points} points"
        return f"{points}, {done} of {len(self.rows)} exercises passed"

    def _cells(self, exercise: Exercise, row: Entry) -> tuple[str, ...]:
        known = row["outcome"] in list(Outcome)
        outcome = Outcome(row["outcome"]) if known else Outcome.NOT_ATTEMPTED
        points = f"{row['points']} of {exercise.points}"
        tries, hints = str(row["tries"]), str(row["hints"])
        state = f"{outcome.mark} {outcome}"
        return exercise.id, exercise.title, state, points, tries, hints

    HEADER = ("", "exercise", "state", "points", "tries", "hints")

    def __repr__(self) -> str:
        lines = [self.HEADER, *(self._cells(*r) for r in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.HEADER))]
        text = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip()
            for line in lines
        ]
        filled = round(30 * self.points / max(self.max_points, 1))
        text += [f"[{'#' * filled}{'.' * (30 - filled)}] {self.total}"]
        return "\n".join(text + [f"Note: {self.note}"] * bool(self.note))

    def _repr_html_(self) -> str:
        style = "style='text-align:left;padding:2px 10px 2px 0'"
        head = "".join(
            f'<th scope="col" {style}>{name or "id"}</th>' for name in self.HEADER
        )
        rows = (
            "".join(
                f"<td {style}>{html.escape(cell)}</td>" for cell in self._cells(*row)
            )
            for row in self.rows
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        scrolls = (
            'tabindex="0" role="region" aria-label="Progress" style="overflow-x:auto"'
        )
        return card(
            f"<div {scrolls}><table style='border-collapse:collapse'>"
            f"<caption style='text-align:left'><strong>{self.total}</strong></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f'<progress value="{self.points}" max="{self.max_points}" '
            f'aria-label="{self.total}" style="width:100%"></progress>'
            + f"<p>{html.escape(self.note)}</p>"
            * bool(self.note),
            "Your progress",
        )
