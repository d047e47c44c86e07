"""Lint the prose: no typed result numbers, only plain Markdown in notebooks, an alternative text on every image.

A measured number in prose goes stale the day the code changes. Prose states the claim, a cell prints the
number. A number that somebody else published is allowed on a line that ends with `<!-- published -->`.
"""

import re
import sys
from pathlib import Path

from tools import notebooks
from tools.notebooks import ROOT

UNIT = r"(?:nats?|bits?|bytes?|[kKMG]i?B|ms|s|seconds?|minutes?|h|hours?|%|percent|tokens?/s|FLOPs?|x faster|times faster)"
QUANTITY = (
    r"(?:loss|perplexity|entropy|accuracy|floor|speed|takes)\b[^.|\n]{0,40}?\b\d+\.\d+"
)
TYPED = re.compile(rf"\b\d+(?:\.\d+)?[  -]?{UNIT}(?![\w/])|{QUANTITY}", re.I)
# What is no prose: exercise ids, code, math, links, addresses, tags.
PLAIN = re.compile(
    r"\b\d\d\.\d\b|```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|https?://\S+|<[^>]+>",
    re.S,
)
DIRECTIVE = re.compile(
    r"^\s*(?::{3,}|`{3,})\{[\w-]+\}|\{(?:ref|doc|term|cite|eq|numref|glue)[\w:]*\}`",
    re.M,
)
IMAGE = re.compile(r"!\[(.*?)\]\((.*?)\)")


def faults(text: str, *, notebook: bool) -> list[str]:
    """What is wrong with a piece of Markdown, one line each."""
    found = []
    lines = "\n".join(
        "" if "<!-- published -->" in line else line for line in text.split("\n")
    )
    prose = PLAIN.sub(lambda m: " " if m[0].startswith("]") else "\u00a4", lines)
    for match in TYPED.finditer(prose):
        found.append(
            f"typed result {match[0]!r}: let a cell print it, or mark a published number `<!-- published -->`"
        )
    if notebook:
        for match in DIRECTIVE.finditer(text):
            found.append(
                f"directive {match[0].strip()!r}: notebooks hold plain Markdown only, Colab shows no other"
            )
    for alt, target in IMAGE.findall(text):
        if len(alt.split()) < 3:
            found.append(
                f"image {target}: its alternative text must state what it shows"
            )
        if re.match(r"https?:", target) and "badge" not in target:
            found.append(
                f"image {target}: keep images in the repository, the site makes no outside request"
            )
    return found


def main() -> int:
    bad = 0
    pages: list[tuple[Path, str, bool]] = [
        (p, notebooks.source(cell), True)
        for p in notebooks.paths("chapters", "solutions", "book")
        for cell in notebooks.read(p)["cells"]
        if cell["cell_type"] == "markdown"
        and "launch-strip" not in cell["metadata"].get("tags", [])
    ]
    pages += [
        (p, p.read_text(encoding="utf-8"), False)
        for p in sorted((ROOT / "book").glob("*.md"))
    ]
    for path, text, notebook in pages:
        for fault in faults(text, notebook=notebook):
            print(f"{path.relative_to(ROOT)}: {fault}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
