"""Grading a folder of submissions: every notebook gets its line, and none stops the rest."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from babygpt_course import grade
from babygpt_course.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PERFECT = ROOT / "solutions" / "01_bigram.ipynb"
STUB = ROOT / "exercises" / "01_bigram.ipynb"
RIGHT = """import torch
from babygpt_course.exercises import check
def bits_per_char(probs, ids):
    return -torch.log2(probs[ids[:-1], ids[1:]]).mean()
"""


def notebook(path, *cells):
    made = [
        {"cell_type": "code", "metadata": {}, "source": c, "outputs": []} for c in cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": made, "nbformat": 4, "nbformat_minor": 5}))


def table(out):
    with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


CHECK = 'check("01.2", bits_per_char)'
WRONG = "def bits_per_char(probs, ids):\n    return 0.5\n"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One class with every kind of trouble, graded once."""
    folder = tmp_path_factory.mktemp("class")
    submissions, out = folder / "submissions", folder / "gradebook"
    ida = submissions / "Ida Müller (late)" / "01_bigram (1).ipynb"
    ida.parent.mkdir(parents=True)
    shutil.copy(PERFECT, ida)
    shutil.copy(STUB, submissions / "stub.ipynb")
    (submissions / "broken.ipynb").write_text('{"cells": [')
    (submissions / "text.ipynb").write_text('"only a string"')
    endless = RIGHT.replace("    return", "    while True: pass\n    return")
    notebook(
        submissions / "endless.ipynb", RIGHT, CHECK, "while True:\n    pass", endless
    )
    hog = "def hog():\n    pile = []\n    while True: pile.append(torch.empty(2**28))"
    notebook(submissions / "hog.ipynb", f"import torch\n{hog}", "hog()", RIGHT, CHECK)
    notebook(submissions / "killer.ipynb", RIGHT, CHECK, "import os\nos._exit(3)")
    patched = """
import babygpt_course.exercises as e
import babygpt_course.exercises.exercise as x
import babygpt_course.exercises.result as r
def always(self, answer):
    return self.result(r.Outcome.PASSED, x.Fault("passed", "well done", ""))
x.Exercise.grade = always
e.find("01.2").cases(lambda: [])
check = lambda *args: "passed"
e.check = check
print(check("01.2", None))
"""
    notebook(submissions / "patched.ipynb", RIGHT + WRONG, patched, CHECK)
    magic = "%matplotlib inline\n!pip install nothing\nimport os\nopen('left behind', 'w').write('x')"
    script = "<script>alert(1)</script>"
    bad = f'def bits_per_char(probs, ids):\n    raise ValueError("{script}")\n'
    notebook(submissions / "=cmd()" / "a.ipynb", magic, "1/0", RIGHT, CHECK)
    notebook(
        submissions / "evil.ipynb", RIGHT + bad, CHECK, f'raise ValueError("{script}")'
    )
    notebook(submissions / ".ipynb_checkpoints" / "stub.ipynb", RIGHT, CHECK)
    before = set(os.listdir())
    rows = grade.grade_folder(submissions, out, cell_seconds=5)
    assert set(os.listdir()) == before
    return rows, table(out), out


def test_points(graded):
    _, rows, _ = graded
    assert {name: row["total"] for name, row in rows.items()} == {
        "Ida Müller (late)": "13",
        "stub": "0",
        "broken": "0",
        "text": "0",
        "endless": "2",
        "hog": "2",
        "killer": "2",
        "patched": "0",
        "'=cmd()": "2",
        "evil": "0",
    }
    assert list(rows["stub"])[:6] == ["student", "01.1", "01.2", "01.3", "01.4", "01.5"]
    assert rows["stub"]["of"] == "13" and rows["Ida Müller (late)"]["01.5"] == "4"


def test_notes_say_what_happened(graded):
    _, rows, _ = graded
    assert rows["Ida Müller (late)"]["notes"] == rows["stub"]["notes"] == ""
    assert "not a readable notebook" in rows["broken"]["notes"]
    assert "not a readable notebook" in rows["text"]["notes"]
    assert "code cell 3 was stopped after 5 seconds" in rows["endless"]["notes"]
    assert (
        "code cell 2" in rows["hog"]["notes"]
        and "out of memory" in rows["hog"]["notes"]
    )
    assert "exit code 3" in rows["killer"]["notes"]
    assert "code cell 2: ZeroDivisionError" in rows["'=cmd()"]["notes"]


def test_the_real_grader_speaks(graded):
    rows, _, _ = graded
    patched = next(r for r in rows if r.student == "patched")
    assert patched.results["01.2"].outcome == "wrong value"
    stub = next(r for r in rows if r.student == "stub")
    assert {r.outcome for r in stub.results.values()} == {"not attempted"}


def test_feedback_is_one_safe_page_a_student(graded):
    rows, _, out = graded
    pages = {
        p.name: p.read_text(encoding="utf-8") for p in (out / "feedback").iterdir()
    }
    assert len(pages) == len(rows) and "Ida_Müller_late.html" in pages
    ida = pages["Ida_Müller_late.html"]
    assert "13 of 13 points" in ida and ida.count('class="course-result"') == 5
    assert "src=" not in ida and "<link" not in ida
    assert "<script>" not in pages["evil.html"]
    assert "&lt;script&gt;alert(1)" in pages["evil.html"]
    assert "ValueError" in pages["evil.html"] and "0 of 13 points" in pages["evil.html"]
    assert "No answer to this was checked" in pages["broken.html"]


@pytest.mark.slow
def test_a_notebook_that_refuses_to_stop_is_stopped(tmp_path):
    stubborn = """
import time
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
    notebook(tmp_path / "in" / "a.ipynb", RIGHT, CHECK, stubborn)
    grade.grade_folder(
        tmp_path / "in", tmp_path / "out", notebook_seconds=8, cell_seconds=1
    )
    row = table(tmp_path / "out")["a"]
    assert row["total"] == "2" and "stopped after 8 seconds" in row["notes"]


def test_progress_of_the_instructor_is_not_touched(graded, tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", str(file))
    notebook(tmp_path / "in" / "a.ipynb", RIGHT, CHECK)
    grade.grade_folder(tmp_path / "in", tmp_path / "out")
    assert table(tmp_path / "out")["a"]["total"] == "2" and not file.exists()


def test_the_best_of_several_notebooks_of_a_student_counts(tmp_path):
    notebook(tmp_path / "in" / "kim" / "1.ipynb", RIGHT, CHECK)
    notebook(tmp_path / "in" / "kim" / "2.ipynb", RIGHT + WRONG, CHECK)
    grade.grade_folder(tmp_path / "in", tmp_path / "out")
    assert table(tmp_path / "out")["kim"]["total"] == "2"


def test_what_is_checked_counts_at_the_time_of_the_check(tmp_path):
    later = "def bits_per_char(probs, ids):\n    return 1"
    attribute = 'import babygpt_course.exercises as ex\nex.check("01.2", lambda p, i: bits_per_char(p, i))'
    notebook(tmp_path / "in" / "a.ipynb", RIGHT, attribute, later)
    grade.grade_folder(tmp_path / "in", tmp_path / "out")
    assert table(tmp_path / "out")["a"]["total"] == "2"


def test_folders_that_hold_nothing_are_named_errors(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        grade.grade_folder(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(ConfigError, match="no notebook"):
        grade.grade_folder(tmp_path, tmp_path / "out")


def test_file_names_are_safe_and_different():
    names = grade.file_names(["../../etc/passwd", "a b", "a_b", "A b", "...", "日本"])
    assert names == [
        "etc_passwd.html",
        "a_b.html",
        "a_b-2.html",
        "A_b-3.html",
        "student.html",
        "日本.html",
    ]


def test_from_the_command_line(tmp_path):
    notebook(tmp_path / "in" / "a.ipynb", RIGHT, CHECK)
    command = [
        sys.executable,
        "-m",
        "babygpt_course.cli",
        "grade",
        "in",
        "--out",
        "out",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (
        "a: a.ipynb: 2 points" in run.stdout
        and (tmp_path / "out" / "grades.csv").exists()
    )
