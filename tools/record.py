"""Run every chapter once and record its rows of the running table and its minutes, with their provenance."""

import os
import sys
import time

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


def main() -> int:
    RECORDED.mkdir(exist_ok=True)
    os.environ["BABYGPT_COURSE_RECORD"] = str(RECORDED / "running.json")
    os.environ["BABYGPT_COURSE_STATIC"] = "1"
    for path in notebooks.paths("chapters"):
        print(f"running {path.name} ...", flush=True)
        began = time.time()
        client = NotebookClient(
            nbformat.read(path, as_version=4), timeout=900, kernel_name="python3"
        )
        client.execute(cwd=str(path.parent))
        seconds = round(time.time() - began, 1)
        row = {"notebook": path.name, "device": device(), "seconds": seconds}
        results.record(RECORDED / "chapters.json", [row], key=("notebook", "device"))
        print(f"  {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
