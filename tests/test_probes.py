"""Every probe catches its planted fault and passes the healthy thing."""

import torch

from babygpt_course import probes
from babygpt_course.bigram import Bigram
from babygpt_course.trainer import TrainConfig, train


def test_distinct():
    assert probes.distinct(["the", "cat", "sat"])
    found = probes.distinct("the cat and the dog and the hen".split())
    assert not found and found.data == {
        "repeated": {"the": 3, "and": 2},
        "unreachable": 3,
    }
    assert "'the' alone is listed 3 times" in repr(found)


def test_rows_trained():
    ids = torch.randint(6, (500,), generator=torch.Generator().manual_seed(0))
    for used, healthy in [(ids, True), (ids % 2, False)]:
        model = Bigram(6)
        before = model.logits.detach().clone()
        train(model, (used, used), TrainConfig(steps=5, block_size=16, progress=False))
        found = probes.rows_trained(before, model.logits.detach())
        assert bool(found) is healthy
        assert found.data["moved"] == sorted(set(used.tolist()))


def test_below_floor():
    assert probes.below_floor(1.2, 1.0)
    assert not probes.below_floor(0.9, 1.0)
    assert probes.below_floor(0.99, 1.0, tolerance=0.02)
    assert "leak" in probes.below_floor(0.1, 1.0).finding
