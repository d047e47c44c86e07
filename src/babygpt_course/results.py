"""The running table of the book: one row for each model, and where each number came from.

A chapter computes its own row. The rows of other chapters come from a recorded file inside the package,
which `make record` writes together with the command, commit, date and hardware of the run.
"""

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from babygpt_course import files
from babygpt_course.errors import ConfigError


@dataclass(frozen=True)
class Row:
    """One model on the validation text of TinyTales.

    Raises:
        ConfigError: bits_per_char that is negative or NaN.
    """

    chapter: int
    model: str
    params: int
    bits_per_char: float
    seconds: float  # of training, on one CPU thread

    def __post_init__(self) -> None:
        if not self.bits_per_char >= 0:
            raise ConfigError(
                f"bits_per_char must be a number of at least 0; got {self.bits_per_char!r}."
            )


class Table:
    """Rows for people: Markdown in a notebook and on the page, plain text elsewhere."""

    def __init__(self, header: list[str], rows: list[list[str]]):
        self.header, self.rows = header, rows

    def _repr_markdown_(self) -> str:
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        return "\n".join(
            "| " + " | ".join(line) + " |" for line in [self.header, rule, *self.rows]
        )

    def __repr__(self) -> str:
        return self._repr_markdown_()


def recorded(name: str) -> list[dict[str, Any]]:
    """The recorded results called `name`: a list of rows, each with its provenance; empty if there are none."""
    file = resources.files("babygpt_course") / "recorded" / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else []


def running(before: int | None = None) -> list[Row]:
    """The recorded rows of the running table in order, or only those of the chapters before one."""
    rows = [
        Row(**{k: r[k] for k in Row.__dataclass_fields__}) for r in recorded("running")
    ]
    return sorted(
        (r for r in rows if before is None or r.chapter < before),
        key=lambda r: r.chapter,
    )


def running_table(rows: list[Row], floor: float) -> Table:
    """Model, parameters, bits per character, distance to the floor (bits per character), seconds.

    When the environment variable BABYGPT_COURSE_RECORD names a file, the rows are recorded there too.
    """
    if path := os.environ.get("BABYGPT_COURSE_RECORD"):
        _record_new(Path(path), rows)
    return Table(
        [
            "model",
            "parameters",
            "bits per character",
            "above the floor",
            "seconds to train",
        ],
        [
            [
                r.model,
                f"{r.params:,}",
                f"{r.bits_per_char:.3f}",
                f"{r.bits_per_char - floor:.3f}",
                f"{r.seconds:.1f}",
            ]
            for r in rows
        ],
    )


def _record_new(path: Path, rows: list[Row]) -> None:
    """Record the rows that are not there yet.

    A chapter comes first with its own row; in the tables of later chapters the same row is the
    one that was recorded long ago, and must not take its place.
    """
    old = json.loads(path.read_text()) if path.exists() else []
    there = {(o["chapter"], o["model"]) for o in old}
    new = [asdict(r) for r in rows if (r.chapter, r.model) not in there]
    record(path, new, key=("chapter", "model"))


def record(
    path: Path,
    rows: list[dict[str, Any]],
    key: tuple[str, ...],
    command: str = "make record",
) -> None:
    """Write rows into a JSON file, replacing those with the same key, each with its provenance."""
    old = json.loads(path.read_text()) if path.exists() else []
    keep = [
        o
        for o in old
        if all(tuple(o[k] for k in key) != tuple(r[k] for k in key) for r in rows)
    ]
    merged = keep + [r | provenance(command) for r in rows]
    with files.whole(path) as part:
        part.write_text(json.dumps(merged, indent=1) + "\n")


def provenance(command: str = "make record") -> dict[str, str]:
    """The command, commit, date, versions and hardware of this run."""
    import torch

    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(
            git, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "command": command,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}",
        "hardware": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread",
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
