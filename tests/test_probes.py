"""Every probe catches its planted fault and passes the healthy thing."""

import torch

from babygpt_course import probes
from babygpt_course.bigram import Bigram
from babygpt_course.ngram import NeuralNGram
from babygpt_course.tokenizer import CharTokenizer
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


class Pieces:
    """A tokenizer of characters; `change` is what happens to the text on the way in."""

    def __init__(self, change=lambda text: text):
        self.change = change

    def encode(self, text):
        return [ord(c) for c in self.change(text)]

    def decode(self, ids):
        return "".join(map(chr, ids))


def test_is_lossless():
    text = "One day,\n  Zoë  saw the sea.\n"
    found = probes.is_lossless(Pieces(), text)
    assert found and found.data["ids"] == len(text)
    assert probes.is_lossless(Pieces(), "")
    for change, at, lost in [
        (lambda t: t.replace("\n", " "), 8, {"\n": 2}),  # line breaks to spaces
        (lambda t: " ".join(t.split(" ")).replace("  ", " "), 10, {" ": 2}),
        (lambda t: t.replace("ë", "\ufffd"), 13, {"ë": 1}),  # unknown
        (lambda t: t[:-1], len(text) - 1, {"\n": 1}),
        (lambda t: " " + t, 0, {}),  # a space put before the text
        (str.lower, 0, {"O": 1, "Z": 1}),
    ]:
        found = probes.is_lossless(Pieces(change), text)
        assert not found and found.data["at"] == at and found.data["lost"] == lost
    assert "'\\n' 2 times" in repr(
        probes.is_lossless(Pieces(lambda t: t.replace("\n", " ")), text)
    )


def test_is_lossless_reports_a_text_without_ids():
    found = probes.is_lossless(CharTokenizer("abc"), "abcd")
    assert not found and "VocabularyError" in found.finding and "'d'" in found.finding


class Late(NeuralNGram):
    """The documented fault: the window ends `late` tokens early."""

    late = 1

    def windows(self, idx):
        early = torch.full_like(idx[:, : self.late], self.vocab_size)
        return super().windows(torch.cat([early, idx[:, : -self.late]], dim=1))


class Later(Late):
    late = 2


class Deaf(NeuralNGram):
    """It predicts the same, whatever it reads."""

    def forward(self, idx, targets=None):
        return super().forward(torch.zeros_like(idx), targets)


def test_reads_newest():
    idx = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(0))
    for kind, age in [(NeuralNGram, 0), (Late, 1), (Later, 2), (Deaf, None)]:
        torch.manual_seed(0)
        model = kind(11, 3, 8, 16)
        found = probes.reads_newest(model, idx)
        assert bool(found) is (kind is NeuralNGram), kind
        assert found.data["age"] == age
        assert model.training, "the model is left in its own mode"
    assert probes.reads_newest(Bigram.from_counts(torch.eye(11)), idx)
    late = probes.reads_newest(Late(11, 3, 8, 16), idx)
    assert "moves nothing" in late.finding and "1 before" in late.finding
