"""The two commands: what makes them start afresh, and what they say when something is missing."""

import subprocess
import sys

import pytest

import tasks
from tests.conftest import ROOT


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository of three files whose book is one page with the text of the package."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "model.py").write_text("answer = 1\n")
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(tasks, "BUILD", tmp_path / "_build")
    runs = []

    def run(*command, **options):
        if "tools.execute" not in command:
            return 0
        cached = (tmp_path / "_build" / "executed").exists()
        runs.append("warm" if cached else "cold")
        (tmp_path / "_build" / "executed").touch()
        return 0

    monkeypatch.setattr(tasks, "run", run)
    return tmp_path, runs


def test_one_changed_character_runs_the_book_again(house):
    folder, runs = house
    tasks.build_book()
    tasks.build_book()
    (folder / "src" / "model.py").write_text("answer = 2\n")
    tasks.build_book()
    tasks.build_book()
    (folder / "constraints.txt").write_text("torch==9\n")
    tasks.build_book()
    assert runs == ["cold", "warm", "cold", "warm", "cold"]


def test_compiled_files_do_not_count_as_a_change(house):
    folder, runs = house
    tasks.build_book()
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "model.pyc").write_bytes(b"x")
    tasks.build_book()
    assert runs == ["cold", "warm"]


def test_recording_one_chapter_keeps_the_rows_of_the_others(tmp_path):
    import json

    from babygpt_course import results
    from tools import record
    from tools.notebooks import paths

    [chapter] = [path for path in paths("chapters") if path.name.startswith("02")]
    record.others([chapter], tmp_path)
    kept = json.loads((tmp_path / "running.json").read_text())
    everything = results.recorded("running")
    assert kept == [row for row in everything if row["chapter"] != 2] != everything
    minutes = json.loads((tmp_path / "chapters.json").read_text())
    assert {row["notebook"] for row in minutes} == {
        row["notebook"] for row in results.recorded("chapters")
    } - {chapter.name}


def test_a_notebook_that_fails_is_named_and_the_others_are_kept(
    tmp_path, monkeypatch, capsys
):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    from tools import execute

    paths = [tmp_path / "good.ipynb", tmp_path / "bad.ipynb"]
    for path, code in zip(paths, ["print(6 * 7)", "1 / 0"]):
        nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    monkeypatch.setattr(execute, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(execute.notebooks, "paths", lambda *folders: paths)
    assert execute.main() == 1
    said = capsys.readouterr().out
    assert "FAILED" in said and "bad.ipynb" in said and "ZeroDivisionError" in said
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 1")]), paths[1])
    assert execute.main() == 0
    assert "1 notebooks ran, 2 are in the cache." in capsys.readouterr().out


def test_every_command_and_gate_explains_itself():
    shown = subprocess.run(
        [sys.executable, "tasks.py", "help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for name in [*tasks.COMMANDS, *tasks.GATES]:
        assert name in shown
    assert all(f.__doc__ for f in [*tasks.COMMANDS.values(), *tasks.GATES.values()])


def test_unknown_words_are_named():
    asked = subprocess.run(
        [sys.executable, "tasks.py", "bake"], cwd=ROOT, capture_output=True, text=True
    )
    assert asked.returncode == 2 and "Unknown command 'bake'" in asked.stdout
    asked = subprocess.run(
        [sys.executable, "tasks.py", "test", "bake"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 1 and "The gates are: lint" in asked.stderr


def test_ci_runs_the_readmes_command():
    assert "make test" in (ROOT / "README.md").read_text()
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()
