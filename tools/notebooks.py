"""Read and write notebooks the same way everywhere: no outputs, stable text."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def paths(*folders: str) -> list[Path]:
    """Every notebook of the given folders, in order."""
    return sorted(p for folder in folders for p in (ROOT / folder).glob("*.ipynb"))


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def text(notebook: dict) -> str:
    """The notebook as the file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def source(cell: dict) -> str:
    return "".join(cell["source"])


def set_source(cell: dict, new: str) -> None:
    cell["source"] = new.splitlines(keepends=True)
