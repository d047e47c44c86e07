"""Write everything that is derived from something else, or with --check say what is out of step.

- the course's address, from the two `repository` lines of _config.yml, into every tracked text file;
- the launch strip and the setup cell of every notebook;
- exercises/ from solutions/.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from babygpt_course import links
from babygpt_course.exercises import split
from tools import notebooks
from tools.notebooks import ROOT

SETUP = """\
# Set up: in Colab this installs the course; on your own machine it changes nothing. Safe to run twice.
import importlib.util, os, subprocess, sys
if not importlib.util.find_spec("babygpt_course"):
    source = os.environ.get("BABYGPT_COURSE_SOURCE", "git+{repository}@{branch}")
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", source])
import babygpt_course as course; course.setup("{chapter}")"""


def address() -> tuple[str, str]:
    """The repository's URL and branch, from _config.yml."""
    config = (ROOT / "_config.yml").read_text()
    url = re.search(r"^repository:\n(?:\s.*\n)*?\s+url:\s*(\S+)", config, re.M)
    branch = re.search(r"^repository:\n(?:\s.*\n)*?\s+branch:\s*(\S+)", config, re.M)
    if not (
        url and branch and re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url[1])
    ):
        sys.exit(
            "_config.yml: repository needs `url: https://github.com/OWNER/NAME` and `branch: NAME`."
        )
    return url[1], branch[1]


def moved(text: str, repository: str, branch: str) -> str:
    """The text with the address it was last synced to replaced by the present one."""
    old, new = (
        url.removeprefix("https://github.com/")
        for url in (links.REPOSITORY, repository)
    )
    text = re.sub(rf"\b{re.escape(old)}(?![\w-])", new, text)
    return text.replace(
        links.SITE.removeprefix("https://"), site(repository).removeprefix("https://")
    )


def site(repository: str) -> str:
    """The address of the GitHub Pages site of a repository."""
    owner, name = repository.removeprefix("https://github.com/").split("/")
    return f"https://{owner.lower()}.github.io/{name}"


def strip(path: Path, repository: str, branch: str) -> str:
    """The line of links at the head of a notebook."""
    folder, name = path.parent.name, path.name
    owner_name = repository.removeprefix("https://github.com/")
    parts = [
        f"[Open in Colab](https://colab.research.google.com/github/{owner_name}/blob/{branch}/{folder}/{name})",
        f"[Download]({repository}/raw/{branch}/{folder}/{name})",
    ]
    for other in ("chapters", "exercises", "solutions"):
        if other != folder and (ROOT / other / name).exists():
            label = {
                "chapters": "Chapter",
                "exercises": "Exercises",
                "solutions": "Solutions",
            }[other]
            parts.append(f"[{label}](../{other}/{name})")
    return " · ".join(parts + minutes(name) * (folder == "chapters"))


def minutes(name: str) -> list[str]:
    """How long a chapter was measured to run, from the recorded results."""
    file = ROOT / "src" / "babygpt_course" / "recorded" / "chapters.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    said = [
        f"runs in {r['seconds']:.0f} s on {r['device']} (measured {r['date']})"
        for r in rows
        if r["notebook"] == name
    ]
    return said + ["not measured on a T4 yet"] * all(
        r.get("device") != "T4" for r in rows
    )


def synced(text: str, path: Path, repository: str, branch: str) -> str:
    """A notebook's text with its launch strip and setup cell as they should be at `path`."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "launch-strip" in tags:
            title = notebooks.source(cell).split("\n\n")[0]
            notebooks.set_source(cell, f"{title}\n\n{strip(path, repository, branch)}")
        elif "setup" in tags:
            setup = SETUP.format(
                repository=repository, branch=branch, chapter=path.name[:2]
            )
            notebooks.set_source(cell, setup)
    return notebooks.text(notebook)


def derived() -> dict[Path, str]:
    """Every derived file and the text it should have."""
    repository, branch = address()
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    wanted = {}
    for path in (ROOT / name for name in names):
        if (
            path.suffix in {".md", ".py", ".cff", ".toml", ".yml", ".ipynb"}
            and path.exists()
        ):
            wanted[path] = moved(path.read_text(encoding="utf-8"), repository, branch)
    wanted[ROOT / "src/babygpt_course/links.py"] = (
        '"""Where the course lives. Written by `make sync` from the `repository` lines of _config.yml."""\n\n'
        f'REPOSITORY = "{repository}"\nBRANCH = "{branch}"\nSITE = "{site(repository)}"\n'
    )
    for path in notebooks.paths("chapters", "solutions"):
        text = wanted.get(path) or path.read_text(encoding="utf-8")
        wanted[path] = synced(text, path, repository, branch)
    for path in notebooks.paths("solutions"):
        exercise = ROOT / "exercises" / path.name
        text = notebooks.text(split.exercise(json.loads(wanted[path])))
        wanted[exercise] = synced(text, exercise, repository, branch)
    return wanted


def main() -> int:
    check = "--check" in sys.argv
    stale = []
    for path, text in derived().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print("Out of step with what they are made from:", *stale, sep="\n  ")
        print("Run `make sync` and commit the result.")
        return 1
    if stale:
        print("Synced:", *stale, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
