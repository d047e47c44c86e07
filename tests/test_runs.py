"""The table of chapter 9: its shapes, its texts, and that a row is what its command makes."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from babygpt_course import checkpoint, cli, corpus, ledger, results, runs, trainer
from babygpt_course.errors import ConfigError

HAS_DATA = (corpus.data_folder() / "tinystories-train-2m.txt").exists()
needs_data = pytest.mark.skipif(not HAS_DATA, reason="TinyStories is not in the cache")


@pytest.fixture
def tiny(monkeypatch):
    """The runs on a text that is made here, so that no file is needed."""
    text = "".join(corpus.load("tinytales").train[:6_000])
    pieces = (text[:4_000], text[4_000:5_000], text[5_000:])
    monkeypatch.setattr(runs, "texts", lambda name: pieces)
    quick = ledger.measured_peak  # of a small product: here only the row is looked at
    monkeypatch.setattr(ledger, "measured_peak", lambda *a, **kw: quick(*a, n=64, **kw))
    return pieces


def test_the_published_parameter_counts_come_from_the_shapes():
    count = lambda name, V: runs.RUNS[name].model(V).n_params  # noqa: E731
    assert count("hex-16", 16) == 13_360
    assert count("hex-32", 16) == 101_456
    assert count("babygpt-256", 109) == 6_372_461
    assert count("llama-256", 109) == 3_201_792
    assert checkpoint.CHECKPOINTS["stories15M"].n_params == 15_191_712
    assert checkpoint.CHECKPOINTS["stories42M"].n_params == 41_689_600


@pytest.mark.parametrize("name", runs.RUNS)
def test_the_config_of_a_run_is_the_model_that_is_trained(name, tiny):
    model, tokenizer = runs.prepare(name)
    n = sum(p.numel() for p in model.parameters())
    assert n == runs.RUNS[name].model(tokenizer.vocab_size).n_params
    assert model.block_size == runs.RUNS[name].train.block_size


def test_hex_digits_are_those_of_the_bytes():
    assert runs.hex_digits(b"\x00\x7f\xa9") == "007fa9"
    assert bytes.fromhex(runs.hex_digits(bytes(range(256)))) == bytes(range(256))


def test_a_row_is_the_same_twice_and_says_what_was_measured(tiny):
    first, again = (
        runs.reproduce("babygpt-16", steps=20, progress=False) for _ in range(2)
    )
    for key in ("val_bits_per_char", "test_bits_per_char", "params", "characters"):
        assert first[key] == again[key]
    assert first["characters"] == 20 * 64 * 16 and first["steps"] == 20
    model, tokenizer = runs.prepare("babygpt-16")
    assert first["val_bits_per_char"] < math.log2(tokenizer.vocab_size)
    flops = ledger.flops_per_token(model, 16) * first["tokens_per_second"]
    assert first["mfu"] == pytest.approx(flops / first["peak_flops"])


def test_the_losses_are_those_of_the_best_weights(tiny, monkeypatch):
    """A run that gets worse: the row may not have the last loss."""
    run = runs.RUNS["babygpt-16"]
    config = replace(run.train, eval_every=10, lr=0.3, warmup=0)  # far too fast
    bad = replace(run, train=config)
    monkeypatch.setitem(runs.RUNS, "babygpt-16", bad)
    row = runs.reproduce("babygpt-16", steps=40, progress=False)
    _, tokenizer = runs.prepare("babygpt-16")
    # Step 0 is among the evaluations: no row is worse than the untrained model.
    assert row["val_bits_per_char"] < math.log2(tokenizer.vocab_size) + 0.2


def test_a_run_that_was_stopped_goes_on_to_the_same_row(tiny, tmp_path, monkeypatch):
    run = runs.RUNS["babygpt-16"]
    often = replace(run, train=replace(run.train, eval_every=20))
    monkeypatch.setitem(runs.RUNS, "babygpt-16", often)
    whole = runs.reproduce("babygpt-16", steps=60, progress=False)
    step = trainer.learning_rate

    def stop(at, *rest):
        if at == 50:
            raise KeyboardInterrupt
        return step(at, *rest)

    monkeypatch.setattr(trainer, "learning_rate", stop)
    with pytest.raises(KeyboardInterrupt):
        runs.reproduce("babygpt-16", 60, tmp_path, progress=False)
    monkeypatch.setattr(trainer, "learning_rate", step)
    row = runs.reproduce("babygpt-16", 60, tmp_path, progress=False)
    assert row["test_bits_per_char"] == whole["test_bits_per_char"]


@needs_data
def test_a_checkpoint_is_measured_per_character_of_the_text(monkeypatch):
    _, val, test = runs.texts("babygpt-16")
    short = ("", val[:4_000], test[:4_000])
    monkeypatch.setattr(runs, "texts", lambda name: short)
    row = runs.reproduce("stories260K")
    model, tokenizer = checkpoint.load("stories260K")
    ids = tokenizer.encode(short[1])
    nats = 0.0
    n = (len(ids) - 1) // model.block_size * model.block_size
    for start in range(0, n, model.block_size):
        part = torch.tensor(ids[start : start + model.block_size + 1])
        with torch.no_grad():
            logits = model(part[None, :-1])[0][0].double()
        nats += float(F.cross_entropy(logits, part[1:], reduction="sum"))
    expected = nats / n * (len(ids) - 1) / len(short[1]) / math.log(2)
    assert row["val_bits_per_char"] == pytest.approx(expected, rel=1e-5)
    assert row["params"] == 260_032


def test_every_recorded_row_has_a_whole_run_behind_it():
    rows = results.recorded("runs")
    assert {"babygpt-256", "llama-256", "stories260K"} <= {r["name"] for r in rows}
    [small] = [r["params"] for r in rows if r["name"] == "babygpt-16"]
    V, rest = divmod(small - 12_832, 33)  # its parameters are 12,832 + 33 V
    assert rest == 0
    for r in rows:
        assert r["command"] == f"babygpt-course reproduce {r['name']}"
        assert r["commit"] and "dirty" not in r["commit"] and r["hardware"]
        if r["name"] in runs.RUNS:
            run = runs.RUNS[r["name"]]
            assert r["steps"] == run.train.steps == 5_000
            tokens = run.train.steps * run.train.batch_size * run.train.block_size
            assert r["characters"] == tokens and r["seconds"] > 0
            assert 0 < r["mfu"] < 1
            assert r["params"] == run.model(V if run.text != "hex" else 16).n_params


def test_the_table_prints_the_command_beside_each_row():
    table = runs.recorded_table()
    assert len(table.header) == len(table.rows[0])
    for row in table.rows:
        name = (
            row[table.header.index("command")]
            .strip("`")
            .removeprefix("babygpt-course reproduce ")
        )
        assert name in runs.NAMES
    by_name = {row[0].split(",")[0]: row for row in table.rows}
    if not any(r["name"] == "stories15M" for r in results.recorded("runs")):
        assert by_name["stories15M"][4] == "not measured: no file"
    assert all(len(row) == len(table.header) for row in runs.recorded_table("hex").rows)


def test_a_name_that_is_none_lists_those_there_are(capsys):
    with pytest.raises(ConfigError, match=r"babygpt-16.*llama-256.*stories42M"):
        runs.reproduce("babygpt-17")
    assert cli.main(["reproduce", "babygpt-17"]) == 1
    assert "babygpt-16" in capsys.readouterr().err


def test_the_command_prints_the_row_and_records_it(tiny, tmp_path, capsys):
    file = tmp_path / "runs.json"
    words = ["reproduce", "babygpt-16", "--steps", "3", "--record", str(file)]
    assert cli.main(words) == 0 and cli.main(words) == 0
    assert "test_bits_per_char" in capsys.readouterr().out
    [row] = json.loads(file.read_text())  # the second took the place of the first
    assert row["name"] == "babygpt-16" and row["steps"] == 3
    assert row["command"] == "babygpt-course reproduce babygpt-16 --steps 3"
