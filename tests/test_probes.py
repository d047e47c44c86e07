"""Every probe catches its planted fault and passes the healthy thing."""

import pytest
import torch

from babygpt_course import probes
from babygpt_course.attention import SpatialAttention
from babygpt_course.bigram import Bigram
from babygpt_course.errors import ConfigError
from babygpt_course.ngram import NeuralNGram
from babygpt_course.seq2seq import Seq2Seq, Seq2SeqConfig, encode
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import TrainConfig, train
from babygpt_course.vision import ImageModel


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


def test_weights_mix_knows_each_fault():
    x = torch.randn(2, 6, 128, generator=torch.Generator().manual_seed(0))
    scores = x @ x.mT / 128**0.5  # raw embeddings: each is nearest to itself
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    raw = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    assert not (found := probes.weights_mix(raw)) and "output is the input" in str(
        found
    )
    assert not probes.weights_mix(scores.softmax(-1), causal=False)
    mixed = (scores / 20).masked_fill(~seen, -torch.inf).softmax(-1)
    assert probes.weights_mix(mixed) and probes.weights_mix(mixed[:, 3:])
    infinite = scores.masked_fill(~seen, torch.inf).softmax(-1)
    assert not (found := probes.weights_mix(infinite)) and "+inf" in str(found)
    late = (scores / 20).softmax(-1)
    assert probes.weights_mix(late, causal=False)
    assert not (found := probes.weights_mix(late)) and "later position" in str(found)
    after = late.masked_fill(~seen, 0.0)
    assert not (found := probes.weights_mix(after)) and "add up" in str(found)
    assert probes.weights_mix(torch.ones(1, 1)), "one key leaves no choice"


def test_reads_source():
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(n_embd=16, n_head=2))
    source, target = encode(["5 march 1998", "12/11/2050"]), encode(["1998-03-05"] * 2)
    found = probes.reads_source(model, source, target)
    assert found and found.data["read"] == list(range(12)) and model.training
    cross = model.decoder[0].cross_attention
    cross.register_forward_pre_hook(lambda module, args: (args[0], args[0], None))
    found = probes.reads_source(model, source, target)
    assert not found and "does not read" in found.finding
    assert found.data["read"] == [] and len(found.data["by"]) == 12
    with pytest.raises(ConfigError, match="id 7 only"):
        probes.reads_source(model, torch.full((2, 3), 7), target)


def test_ignores_positions():
    torch.manual_seed(0)
    images = torch.randn(3, 1, 4, 5)
    bag = ImageModel(channels=8, stem="pixel")
    found = probes.ignores_positions(bag, images)
    assert not found and "does not move" in found.finding and bag.training
    for knows in (
        ImageModel(channels=8, stem="pixel", positions=(4, 5)),
        ImageModel("convolution", 8, stem="pixel"),
    ):
        assert probes.ignores_positions(knows, images)
    block = SpatialAttention(8, n_groups=4)
    found = probes.ignores_positions(block, torch.randn(2, 8, 4, 5))
    assert not found and "the same way" in found.finding and found.data["per_pixel"]
    with pytest.raises(ConfigError, match="at least 2 pixels"):
        probes.ignores_positions(block, torch.randn(2, 8, 1, 1))
