"""Counting pairs and one training step of the bigram, beside what a reader would otherwise write.

python -m benchmarks.bigram
"""

from collections import Counter

import numpy as np
import torch
from torch import nn

from babygpt_course import corpus
from babygpt_course.bigram import Bigram, count_pairs
from babygpt_course.tokenizer import CharTokenizer
from benchmarks.harness import compare, report


def counting(ids: list[int], V: int) -> list[dict]:
    as_tensor, as_array = torch.tensor(ids), np.array(ids)

    def add_at():
        counts = np.zeros((V, V), dtype=np.int64)
        np.add.at(counts, (as_array[:-1], as_array[1:]), 1)
        return counts

    ways = {
        "ours: count_pairs": lambda: count_pairs(as_tensor, V),
        "collections.Counter of zip": lambda: Counter(zip(ids, ids[1:])),
        "numpy.add.at": add_at,
    }
    expected = ways["numpy.add.at"]()
    assert (ways["ours: count_pairs"]().numpy() == expected).all()
    return compare(ways)


def step(model: nn.Module, x: torch.Tensor, y: torch.Tensor):
    """One training step of any model that returns (logits, loss)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def run():
        loss = model(x, y)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


class Embedding(nn.Module):
    """The usual way to write a bigram: an nn.Embedding as the table."""

    def __init__(self, V: int):
        super().__init__()
        self.table = nn.Embedding(V, V)

    def forward(self, x, y):
        logits = self.table(x)
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def main() -> None:
    torch.set_num_threads(1)
    text = corpus.load("tinytales").train
    tokenizer = CharTokenizer(text)
    ids, V = tokenizer.encode(text), tokenizer.vocab_size
    report(
        "bigram_counting",
        counting(ids, V),
        f"count the pairs of {len(ids):,} characters, one thread",
    )
    x, y = torch.tensor(ids[:2048]).view(32, 64), torch.tensor(ids[1:2049]).view(32, 64)
    ways = {
        "ours: Bigram": step(Bigram(V), x, y),
        "nn.Embedding": step(Embedding(V), x, y),
    }
    report(
        "bigram_step",
        compare(ways, 51),
        "one training step, B = 32, T = 64, AdamW, one thread",
    )


if __name__ == "__main__":
    main()
