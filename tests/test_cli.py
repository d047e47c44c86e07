"""The command line: each command does its work, and a mistake is one line that says what to do."""

from importlib import metadata

import pytest
import torch

from babygpt_course import cli, corpus, results, resume, trainer
from babygpt_course.cli import main
from babygpt_course.precision import policy_for

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
        ("train --out run --corpus nothing.txt", "Cannot read nothing.txt"),
        ("train --out run --steps 0", "steps must be"),
        ("train --out run --lr nan", "lr must be"),
        ("train --out run --heads 3", "does not divide"),
        ("train --out run --block-size 100000000000000", "memory"),
        ("train --out taken --corpus mine.txt", "taken: File exists"),
        ("train --out run --device cuda", "no GPU"),
        ("tokenize cat --with damaged", "chars.json is damaged"),
        ("grade nothing", "no folder nothing"),
        ("grade handed --out taken", "taken: File exists"),
    ],
)
def test_a_mistake_is_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "taken").write_text("a file, no folder")
    (tmp_path / "mine.txt").write_text("a line of my own\n" * 200)
    for folder, file in [("damaged", "chars.json"), ("handed", "01_bigram.ipynb")]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("[")
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("babygpt-course: ") and says in error
    assert error.count("\n") == 1


def test_doctor_data_and_sample(capsys):
    assert main(["doctor"]) == 0 and main(["data"]) == 0
    assert main(["sample", "tinytales", "-n", "2"]) == 0
    said = capsys.readouterr().out
    assert "torch" in said and "tinyshakespeare" in said and "CDLA" in said


def test_doctor_says_what_this_machine_can_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_DATA", str(tmp_path / "not" / "there"))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for what in ("cores", "GFLOP/s in fp32", "bf16", "fp16", "GPU", "Free disk", "GB"):
        assert what in said
    for package in ("torch", "numpy", "safetensors"):
        assert f"{package:15} {metadata.version(package)}" in said
    assert str(tmp_path / "not" / "there") in said
    assert "Chapter 01" in said and "an estimate" in said


def test_doctor_scales_by_the_speed_of_this_machine(capsys, monkeypatch):
    row = {"notebook": "01_a.ipynb", "seconds": 20.0, "hardware": "X"}
    rows = [row | {"device": "a CPU"}, row | {"device": "a T4"}]
    monkeypatch.setattr(results, "recorded", lambda name: rows)
    monkeypatch.setattr(cli, "_speed", lambda: cli.RECORDED_SPEED / 2)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "about 40 s here, an estimate from 20 s on a CPU, X" in said
    assert "20 s on a T4, X" in said and said.count("here, an") == 1


@pytest.mark.parametrize("command", ["", *cli.EXAMPLES])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and "examples:" in said
    assert f"  babygpt-course {command}" in said


@pytest.mark.parametrize(
    "words", ["--precision fp8", "--seed -1", "--seed x", "--steps x"]
)
def test_a_word_out_of_its_range_is_refused(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--out", "run", *words.split()])
    assert stop.value.code == 2
    assert f"error: argument {words.split()[0]}: " in capsys.readouterr().err


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The words that train a small model on a text of letters, into a folder run."""
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("a line of my own\n" * 200)
    return ["train", "--corpus", "mine.txt", "--out", "run", *SMALL.split()]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "auto"])
def test_train_takes_a_precision(precision, mine, tmp_path):
    assert main([*mine, "--precision", precision]) == 0
    about = resume.load_about(tmp_path / "run" / resume.LAST)
    used = policy_for(precision, "cpu").format.name
    assert about["config"]["precision"] == used


def test_another_text_leaves_the_alphabet_of_a_run_alone(mine, tmp_path, capsys):
    assert main(mine) == 0
    chars = (tmp_path / "run" / "chars.json").read_text()
    (tmp_path / "mine.txt").write_text("ANOTHER ALPHABET\n" * 200)
    assert main(mine) == 1
    assert "another alphabet" in capsys.readouterr().err
    assert (tmp_path / "run" / "chars.json").read_text() == chars


def test_ctrl_c_is_no_traceback(mine, capsys, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", stop)
    assert main(mine) == 130 and "stopped" in capsys.readouterr().err
