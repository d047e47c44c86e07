"""Generation: the same ids with the cache and without, the right filters, whole characters."""

import pytest
import torch

from babygpt_course.bigram import Bigram
from babygpt_course.errors import ConfigError, VocabularyError
from babygpt_course.generate import filter_logits, generate, stream
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.ngram import NeuralNGram
from babygpt_course.tokenizer import CharTokenizer
from tests.test_gpt import ids, random_gpt
from tests.test_llama import random_llama


def models():
    return [
        random_gpt(GPTConfig(20, 12, 2, 2, 16)),
        random_llama(LlamaConfig(16, 2, 4, 2, vocab_size=20, max_seq_len=12)),
    ]


@pytest.mark.parametrize("model", models(), ids=["gpt", "llama"])
@pytest.mark.parametrize("T,new", [(1, 11), (5, 7), (12, 1), (5, 20), (15, 4)])
def test_the_cache_changes_no_id_within_the_window_and_beyond(model, T, new):
    idx = ids(3, T, 20)
    expected = idx
    for _ in range(
        new
    ):  # the definition: read the last 12 ids, take the likeliest next
        logits = model(expected[:, -12:])[0][:, -1]
        expected = torch.cat([expected, logits.argmax(-1, keepdim=True)], dim=1)
    for kv_cache in (True, False):
        out = generate(model, idx, new, temperature=0, kv_cache=kv_cache)
        assert torch.equal(out, expected)
    draws = [
        generate(
            model, idx, new, top_k=5, kv_cache=c, generator=torch.manual_seed(3)
        ).tolist()
        for c in (True, False)
    ]
    assert draws[0] == draws[1] and draws[0] != expected.tolist()


@pytest.mark.parametrize("model", models(), ids=["gpt", "llama"])
def test_the_cache_reads_each_token_once(model):
    read = []
    hook = model.token_embedding.register_forward_hook(
        lambda _, args, __: read.append(args[0].shape[1])
    )
    generate(model, ids(2, 4, 20), 5, temperature=0)
    assert read == [4, 1, 1, 1, 1]
    read.clear()
    generate(model, ids(2, 4, 20), 5, temperature=0, kv_cache=False)
    assert read == [4, 5, 6, 7, 8]
    hook.remove()


def test_rows_of_a_batch_do_not_touch():
    for model in models():
        idx = ids(3, 4, 20)
        together = generate(model, idx, 6, temperature=0)
        alone = [generate(model, row[None], 6, temperature=0) for row in idx]
        assert torch.equal(together, torch.cat(alone))


def test_dropout_is_off_and_the_mode_is_given_back():
    model = GPT(GPTConfig(20, 12, 2, 2, 16, dropout=0.5))
    first, second = (
        generate(model, ids(1, 3, 20), 8, generator=torch.manual_seed(0)) for _ in "ab"
    )
    assert torch.equal(first, second) and model.training
    with pytest.raises(ConfigError):
        generate(model, ids(1, 3, 20), 8, temperature=-1)
    assert model.training
    model.eval()
    generate(model, ids(1, 3, 20), 1)
    assert not model.training


# --- filters


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 7, 500])
@pytest.mark.parametrize("top_p", [None, 0.01, 0.5, 0.95, 1.0])
def test_filters_equal_transformers(temperature, top_k, top_p):
    from transformers import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = 3 * torch.randn(6, 50, generator=torch.manual_seed(0), dtype=torch.float64)
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = TopPLogitsWarper(top_p)(None, expected)
    ours = filter_logits(logits, temperature, top_k, top_p)
    torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1))
    assert torch.equal(ours.isinf(), expected.isinf())


def test_the_order_is_temperature_then_top_k_then_top_p():
    """Probabilities 1/2, 1/4, 1/8, 1/8: among the two likeliest, the first has 2/3."""
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    assert (filter_logits(logits, 1, 2, 0.6) > -1e9).tolist() == [[1, 0, 0, 0]]
    assert (filter_logits(logits, 1, None, 0.6) > -1e9).tolist() == [[1, 1, 0, 0]]
    # Squared (temperature 1/2) the first has 8/11 of all.
    assert (filter_logits(logits, 0.5, None, 0.7) > -1e9).tolist() == [[1, 0, 0, 0]]
    assert (filter_logits(logits, 1, 3, None) > -1e9).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1e3}, {"top_k": 2}, {"top_p": 0.9}]
)
def test_infinite_logits_share_all_the_probability(options):
    inf = float("inf")
    logits = torch.tensor([[1.0, inf, -inf, 2.0], [inf, 3.0, inf, 1e38], [0.0] * 4])
    probs = filter_logits(logits, **options).softmax(-1)
    assert probs[:2].tolist() == [[0, 1, 0, 0], [0.5, 0, 0.5, 0]]
    assert probs[2].tolist() == [0.25] * 4
    # Where nothing may be drawn there is still no distribution.
    assert filter_logits(torch.full((1, 3), -inf), **options).softmax(-1).isnan().all()


def test_draws_stay_inside_the_filter_and_follow_it():
    model = Bigram(5)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.4, 0.3, 0.2, 0.07, 0.03]).log())
    idx = torch.zeros(1, 1, dtype=torch.int64)
    g = torch.Generator().manual_seed(0)
    out = generate(model, idx, 4000, top_k=3, generator=g)[0, 1:]
    share = out.bincount(minlength=5) / 4000
    torch.testing.assert_close(
        share, torch.tensor([4, 3, 2, 0, 0]) / 9, atol=0.03, rtol=0
    )
    out = generate(model, idx, 500, top_p=0.5, generator=g)
    assert set(out[0, 1:].tolist()) == {0, 1}
    cold = generate(model, idx, 20, temperature=1e-40, generator=g)
    assert set(cold[0].tolist()) == {0}


def test_every_id_of_the_vocabulary_can_be_drawn():
    out = generate(Bigram(500), torch.zeros(5000, 1, dtype=torch.int64), 1)
    assert len(out[:, 1].unique()) == 500


# --- streaming


class Bytes:
    """A tokenizer of single bytes, with two marks beyond them."""

    bos_id, eos_id = 256, 257

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class Recites(torch.nn.Module):
    """A model that says one text, byte by byte, then ends."""

    def __init__(self, said):
        super().__init__()
        self.said = [Bytes.bos_id, *said, Bytes.eos_id, 0]
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, idx, targets=None):
        logits = torch.zeros(*idx.shape, 258)
        logits[:, -1, self.said[idx.shape[1]]] = 100
        return logits, None


@pytest.mark.parametrize("text", ["plain", "née ‘ß’ 日本 🙂🙃!", "🙂", ""])
@pytest.mark.parametrize("cut", [0, 3])
def test_a_stream_is_the_text_in_whole_characters(text, cut):
    prompt = text[:cut]
    pieces = list(stream(Recites(text.encode()), Bytes(), prompt, 100, temperature=0))
    assert "".join(pieces) == text
    assert all(piece and "\ufffd" not in piece for piece in pieces)
    if len(text) > cut > 0:
        assert pieces[0] == prompt and len(pieces) == len(text) - cut + 1


def test_a_stream_that_stops_inside_a_character_says_so_once():
    said = "ab🙂".encode()[:-1]
    pieces = list(stream(Recites(said), Bytes(), "a", 100, temperature=0))
    assert "".join(pieces) == "ab\ufffd"
    assert "".join(stream(Recites(b"a\xffb"), Bytes(), "a")) == "a\ufffdb"


def test_a_stream_comes_piece_by_piece_and_stops_where_told():
    model = Recites(b"one two three")
    pieces = stream(model, Bytes(), "one", temperature=0, stop=[ord("h")])
    assert next(pieces) == "one" and next(pieces) == " "
    assert not model.training  # it is in the middle of writing
    assert "".join(pieces) == "two t"
    assert model.training
    assert "".join(stream(model, Bytes(), "one", 2, temperature=0)) == "one t"


def test_a_stream_equals_generate():
    tokenizer = CharTokenizer("abcdefghij")
    torch.manual_seed(0)
    model = Llama(LlamaConfig(16, 2, 4, 2, vocab_size=10, max_seq_len=12))
    g = torch.Generator().manual_seed(1)
    said = "".join(stream(model, tokenizer, "abc", 30, generator=g))
    g = torch.Generator().manual_seed(1)
    idx = torch.tensor([tokenizer.encode("abc")])
    assert tokenizer.encode(said) == generate(model, idx, 30, generator=g)[0].tolist()


# --- errors


@pytest.mark.parametrize(
    "setting",
    [
        {"max_new_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
)
def test_bad_settings_are_named(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        generate(models()[0], ids(1, 3, 20), **{"max_new_tokens": 1, **setting})


def test_ids_of_another_vocabulary_and_empty_prompts_are_named():
    for model in models():
        for bad in (-1, 20):
            with pytest.raises(VocabularyError, match=r"0\.\.19"):
                generate(model, torch.tensor([[1, bad]]), 1)
    for model in (Bigram(5), NeuralNGram(5, 3, 4, 4)):  # 5 is the start of the n-gram
        for bad in (-1, 5):
            with pytest.raises(VocabularyError, match=r"0\.\.4 for this model"):
                generate(model, torch.tensor([[1, bad]]), 1)
    with pytest.raises(ConfigError, match=r"\(B, T\)"):
        list(stream(models()[0], CharTokenizer("ab"), ""))
