"""The command line: each command does its work, and a mistake is one line that says what to do."""

import pytest

from babygpt_course import corpus
from babygpt_course.cli import main

SMALL = "--steps 5 --batch-size 4 --block-size 16 --layers 1 --heads 2 --channels 16"


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_train_then_generate(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", "1")  # no progress bar
    mine = tmp_path / "mine.txt"
    mine.write_text("".join(f"line {i} of a text of my own\n" for i in range(200)))
    run = str(tmp_path / "run")
    words = [
        "train",
        "--model",
        kind,
        "--corpus",
        str(mine),
        "--out",
        run,
        *SMALL.split(),
    ]
    assert main(words) == 0
    assert "best validation loss" in capsys.readouterr().out
    again = []
    for _ in range(2):
        assert (
            main(["generate", run, "--prompt", "line", "-n", "12", "--seed", "3"]) == 0
        )
        again.append(capsys.readouterr().out)
    assert again[0] == again[1] and again[0].startswith("line") and len(again[0]) == 17


def test_a_published_checkpoint_writes_and_reads(capsys):
    if not (corpus.data_folder() / "stories260K.bin").exists():
        pytest.skip("stories260K.bin is not in the cache")
    assert main(["generate", "stories260K", "--temperature", "0", "-n", "20"]) == 0
    assert capsys.readouterr().out.startswith(
        "Once upon a time, there was a little girl"
    )
    assert main(["tokenize", "a cat"]) == 0
    assert "tokens for 5 characters" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, says",
    [
        ("data nothing", "The texts are"),
        ("generate nothing", "Unknown checkpoint"),
        ("generate .", "is not a run"),
        ("sample tinytales -n -1", "got -1"),
    ],
)
def test_a_mistake_is_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("babygpt-course: ") and says in error
    assert error.count("\n") == 1


def test_doctor_data_and_sample(capsys):
    assert main(["doctor"]) == 0 and main(["data"]) == 0
    assert main(["sample", "tinytales", "-n", "2"]) == 0
    said = capsys.readouterr().out
    assert "torch" in said and "tinyshakespeare" in said and "CDLA" in said


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and "examples:" in capsys.readouterr().out
