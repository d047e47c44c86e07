"""Run every chapter once and record its rows of the running table and its minutes, with their provenance.

With words, such as `09 10`, only the chapters whose names begin so; the rows of the others stay.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from babygpt_course import results
from tools import notebooks
from tools.notebooks import ROOT

RECORDED = ROOT / "src" / "babygpt_course" / "recorded"


def device() -> str:
    """A short name of what a chapter ran on, as its launch strip says it."""
    import torch

    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"a CPU with {os.cpu_count()} cores"
    )


def others(chapters: list[Path], fresh: Path) -> None:
    """Begin the fresh files with the recorded rows of all other chapters."""
    names = {path.name for path in chapters}
    numbers = {int(name[:2]) for name in names}
    for name, theirs in [
        ("chapters", lambda row: row["notebook"] not in names),
        # The uniform model, chapter 0 of the table, is chapter 1's to record.
        ("running", lambda row: (row["chapter"] or 1) not in numbers),
    ]:
        rows = list(filter(theirs, results.recorded(name)))
        if rows:
            (fresh / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def main(*words: str) -> int:
    chapters = notebooks.paths("chapters")
    if words:
        chapters = [path for path in chapters if path.name.startswith(words)]
    RECORDED.mkdir(exist_ok=True)
    # Into another folder first: the files begin anew, and writing them does not make the commit "dirty".
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        others(chapters, fresh)
        os.environ["BABYGPT_COURSE_RECORD"] = str(fresh / "running.json")
        os.environ["BABYGPT_COURSE_STATIC"] = str(fresh / "live")
        for path in chapters:
            print(f"running {path.name} ...", flush=True)
            began = time.time()
            notebook = nbformat.read(path, as_version=4)
            client = NotebookClient(notebook, timeout=900, kernel_name="python3")
            client.execute(cwd=str(path.parent))
            seconds = round(time.time() - began, 1)
            row = {"notebook": path.name, "device": device(), "seconds": seconds}
            results.record(fresh / "chapters.json", [row], key=("notebook", "device"))
            print(f"  {seconds:.0f} s")
        for file in fresh.glob("*.json"):
            shutil.copy(file, RECORDED)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
