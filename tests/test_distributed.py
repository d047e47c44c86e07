"""Training shared by processes is the training of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from babygpt_course import distributed
from babygpt_course.bigram import Bigram
from babygpt_course.errors import ConfigError
from babygpt_course.trainer import TrainConfig, train

# A learner's file: the same with python and with torchrun.
SCRIPT = """
import json
import sys
from dataclasses import asdict
import torch
from babygpt_course import distributed
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.trainer import TrainConfig, train

torch.set_num_threads(1)
ids = torch.randint(11, (1200,), generator=torch.Generator().manual_seed(0))
config = TrainConfig(
    steps=12, batch_size=8, block_size=8, lr=0.01, warmup=3, eval_every=4, clip=1.0,
    accumulate=2, optimizer=sys.argv[2], progress=False,
)
with distributed.team() as rank:
    torch.manual_seed(rank)  # the weights of rank 0 must win
    model = GPT(GPTConfig(11, 8, 2, 2, 16)).double()
    seen = []
    stop = int(sys.argv[3])

    def on_eval(step, model):
        seen.append(step)
        if step == stop:
            raise SystemExit(f"stopped at {step}")

    history = train(model, (ids[:1000], ids[1000:]), config, on_eval, sys.argv[1])
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = dict(rows=history.rows, weights=weights.tolist(), seen=seen)
    found["size"] = distributed.size()
    with open(f"{sys.argv[1]}.rank{rank}", "w") as f:
        json.dump(found, f)
"""


def run(tmp_path: Path, name: str, n: int, optimizer: str, stop: int = -1):
    """Each rank's findings; None for a run that did not end well."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable]
    if n > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(n)]
    folder = tmp_path / name
    command += [str(script), str(folder), optimizer, str(stop)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300
    )
    if stop >= 0:
        assert done.returncode and f"stopped at {stop}" in done.stderr, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return [json.loads(Path(f"{folder}.rank{r}").read_text()) for r in range(n)]


def losses(found):
    rows = found["rows"]
    values = [[r["step"], r["tokens"], r["train_loss"], r["val_loss"]] for r in rows]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path, optimizer):
    (one,) = run(tmp_path, "one", 1, optimizer)
    pair = run(tmp_path, "two", 2, optimizer)
    assert one["size"] == 1 and pair[0]["size"] == pair[1]["size"] == 2
    for found in pair:
        torch.testing.assert_close(losses(found), losses(one), atol=1e-9, rtol=0)
        a, b = (torch.tensor(x["weights"], dtype=torch.float64) for x in (found, one))
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    assert pair[0]["weights"] == pair[1]["weights"]
    assert (losses(pair[0]) == losses(pair[1])).all()
    assert pair[0]["seen"] == [0, 4, 8, 12] and pair[1]["seen"] == []


@pytest.mark.slow
def test_two_processes_go_on_where_they_stopped(tmp_path):
    whole = run(tmp_path, "whole", 2, "adamw")
    run(tmp_path, "parts", 2, "adamw", stop=8)
    parts = run(tmp_path, "parts", 2, "adamw")
    assert parts[0]["weights"] == whole[0]["weights"] == parts[1]["weights"]
    assert (losses(parts[0]) == losses(whole[0])).all()
    assert parts[0]["seen"] == [
        8,
        12,
    ]  # the last evaluation that was written is of step 4


def test_a_team_of_one_changes_nothing():
    with distributed.team() as rank:
        assert rank == 0 and distributed.size() == 1
        model = Bigram(3)
        assert distributed.wrap(model) is model
        assert distributed.mean(0.1) == 0.1
        x = torch.arange(6).view(3, 2)
        assert torch.equal(distributed.rows(x), x)
        distributed.wait()
        with distributed.no_sync(model):
            pass


def test_processes_that_have_not_joined_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    ids = torch.zeros(100, dtype=torch.int64)
    config = TrainConfig(steps=1, block_size=8, progress=False)
    with pytest.raises(ConfigError, match=r"2 processes .* distributed\.team"):
        train(Bigram(3), (ids, ids), config)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    ids = torch.zeros(100, dtype=torch.int64)
    config = TrainConfig(steps=1, batch_size=32, block_size=8, progress=False)
    with pytest.raises(ConfigError, match=r"batch_size = 32 .* 3 processes"):
        train(Bigram(3), (ids, ids), config)
