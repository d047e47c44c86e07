"""Every chapter keeps to the template, and every link in a notebook leads to a file."""

import ast
import json
import re
import subprocess
import sys

import pytest

from babygpt_course import links
from tools import notebooks, prose, sync
from tools.notebooks import ROOT

CHAPTERS = notebooks.paths("chapters")
ALL = notebooks.paths("chapters", "exercises", "solutions", "book")
SECTIONS = """The question; You will be able to; Setup; Predict; By hand; Vectorize; The module; Why it works;
Train it; Look inside; How it breaks; Check yourself; What changed"""


def cells(path, kind):
    return [c for c in notebooks.read(path)["cells"] if c["cell_type"] == kind]


def words(path):
    """How many words a reader reads; the launch strip is derived and does not count."""
    prose = [
        notebooks.source(c)
        for c in cells(path, "markdown")
        if "launch-strip" not in c["metadata"].get("tags", [])
    ]
    text = "\n".join(prose)
    return len(re.sub(r"<[^>]+>|\$[^$]*\$|\]\([^)]*\)|`[^`]*`", " ", text).split())


def by_name(path):
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", CHAPTERS, ids=by_name)
def test_sections_in_order(path):
    text = "\n".join(notebooks.source(c) for c in cells(path, "markdown"))
    found = re.findall(r"^## (.+)$", text, re.M)
    assert found == [s.strip() for s in SECTIONS.replace("\n", " ").split(";")]


@pytest.mark.parametrize("path", CHAPTERS, ids=by_name)
def test_size(path):
    code = [notebooks.source(c).strip().split("\n") for c in cells(path, "code")]
    lengths = sorted(len(c) for c in code)
    assert 2000 <= words(path) <= 3500
    assert 20 <= len(code) <= 45
    assert lengths[-1] <= 30 and 3 <= lengths[len(lengths) // 2] <= 8
    wide = [line for c in code[1:] for line in c if len(line) > 84]
    assert not wide, "longer than a code block on the page is wide"


@pytest.mark.parametrize("path", CHAPTERS, ids=by_name)
def test_every_verb_has_its_exercise(path):
    chapter = path.stem[:2]
    text = "\n".join(notebooks.source(c) for c in cells(path, "markdown"))
    promised = set(re.findall(rf"exercise ({chapter}\.\d)", text))
    solution = ROOT / "solutions" / path.name
    checked = set(
        re.findall(r'check\("([\d.]+)"', solution.read_text().replace('\\"', '"'))
    )
    assert promised and promised == checked


@pytest.mark.parametrize("path", ALL, ids=by_name)
def test_links_between_notebooks_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)\s]+)\)", notebooks.source(cell)):
            if target.startswith(("http", "#", "mailto")):
                inside = re.search(
                    rf"{links.BRANCH}/((?:chapters|exercises|solutions)/[\w.]+)$",
                    target,
                )
                assert inside is None or (ROOT / inside[1]).exists(), target
            else:
                assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("path", ALL, ids=by_name)
def test_code_cells_are_python(path):
    for cell in cells(path, "code"):
        ast.parse(notebooks.source(cell))


@pytest.mark.parametrize(
    "path", notebooks.paths("chapters", "exercises", "solutions"), ids=by_name
)
def test_setup_cell_is_short_and_the_same(path):
    tagged = [
        c for c in cells(path, "code") if "setup" in c["metadata"].get("tags", [])
    ]
    assert len(tagged) == 1 and cells(path, "code")[0] is not None
    source = notebooks.source(tagged[0])
    assert len(source.split("\n")) <= 6 and links.REPOSITORY in source


# --- the tools


@pytest.mark.parametrize(
    "text",
    [
        "The loss is 2.31 here.",
        "It takes 40 seconds.",
        "Spelling is right in 81 % of the words.",
        "a file of 3.3 MB",
        "![loss](x.png)",
        "![a curve that falls](https://example.org/x.png)",
        "```{note}\nhello\n```",
        "see {ref}`there`",
    ],
)
def test_prose_lint_finds_what_it_should(text):
    assert prose.faults(text, notebook=True)


@pytest.mark.parametrize(
    "text",
    [
        "Chapter 2 has 4 sections and $p = 0.5$.",
        "`loss 2.31` in code",
        "The published loss is 2.454 nats. <!-- published -->",
        "[arXiv](https://arxiv.org/abs/2305.07759)",
        "![the loss falls to the floor](../x.png)",
    ],
)
def test_prose_lint_leaves_the_rest(text):
    assert not prose.faults(text, notebook=True)


def test_a_fork_changes_one_line(tmp_path):
    """With another address in _config.yml, sync leaves no trace of the old one in any file."""
    copy = tmp_path / "fork"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    config = copy / "_config.yml"
    config.write_text(
        config.read_text().replace(
            links.REPOSITORY, "https://github.com/someone/my.course"
        )
    )
    env = {"PYTHONPATH": f"{copy}:{copy / 'src'}", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-m", "tools.sync"],
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    old = links.REPOSITORY.removeprefix("https://github.com/")
    names = subprocess.run(
        ["git", "ls-files"], cwd=copy, capture_output=True, text=True
    ).stdout.split()
    left = [
        n
        for n in names
        if (copy / n).suffix in {".md", ".py", ".cff", ".ipynb", ".toml"}
        and old in (copy / n).read_text()
    ]
    assert left == []
    assert "someone.github.io/my.course" in (copy / "CITATION.cff").read_text()
    assert (
        "colab.research.google.com/github/someone/my.course/blob"
        in (copy / "README.md").read_text()
    )
    again = subprocess.run(
        [sys.executable, "-m", "tools.sync", "--check"], cwd=copy, env=env
    )
    assert again.returncode == 0


def test_sync_notices_an_edited_exercise(tmp_path):
    path = next(iter(notebooks.paths("solutions")))
    exercise = ROOT / "exercises" / path.name
    assert sync.derived()[exercise] == exercise.read_text(encoding="utf-8")
    assert json.loads(exercise.read_text())["nbformat"] == 4
