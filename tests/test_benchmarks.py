"""A benchmark must notice when the work it times goes away."""

import torch
from torch import nn

from babygpt_course.bigram import Bigram
from benchmarks.bigram import step
from benchmarks.harness import compare


class Nothing(nn.Module):
    """A model that computes nothing and still has a loss."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x, y):
        return None, self.one.sum()


def test_a_no_op_model_is_seen():
    x = torch.randint(200, (64, 256), generator=torch.Generator().manual_seed(0))
    ways = {"model": step(Bigram(200), x, x), "no-op": step(Nothing(), x, x)}
    rows = {row["way"]: row for row in compare(ways, repeats=3)}
    assert rows["no-op"]["ratio"] < 0.5


def test_ways_take_turns():
    calls = []
    rows = compare(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3
    )
    assert calls == list("ab" * 4)
    assert rows[0]["ratio"] == 1
