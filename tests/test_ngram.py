"""n-gram models: equal to published and to naive counting, and every distribution sums to 1."""

import json
import math
import random
import re
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from babygpt_course import corpus, trainer
from babygpt_course.bigram import count_pairs, count_probs
from babygpt_course.errors import ConfigError, VocabularyError
from babygpt_course.generate import generate
from babygpt_course.ngram import SMOOTHING, NeuralNGram, NGram
from babygpt_course.tokenizer import CharTokenizer

COLUMNS = {"add_k": "add1", "witten_bell": "witten_bell", "kneser_ney": "kn_D0.75"}


def public(name):
    file = corpus.data_folder() / name
    if not file.exists():
        pytest.skip(f"{name} is not in the data cache {file.parent}")
    return file.read_text(encoding="utf-8", errors="ignore")


def golden():
    return json.loads(public("golden/ngram_baselines.json"))


def as_ids(*texts):
    tokenizer = CharTokenizer("".join(texts))
    return tokenizer.vocab_size, *(torch.tensor(tokenizer.encode(t)) for t in texts)


# --- equal to other people's numbers


def equals_baselines(train, val, recorded):
    assert (len(train), len(val)) == (recorded["train_chars"], recorded["val_chars"])
    V, train, val = as_ids(train, val)
    assert recorded["V"] == V
    assert [row["n"] for row in recorded["rows"]] == list(range(1, 9))
    for row in recorded["rows"]:
        for smoothing, column in COLUMNS.items():
            model = NGram(row["n"], smoothing, k=1.0, discount=0.75).fit(train, V)
            # The table's add-1 leaves out the first positions, which lack a full context.
            skip = row["n"] - 1 if smoothing == "add_k" else 0
            nll = -float(model.log_prob(val)[skip:].mean())
            assert nll == pytest.approx(row[column], abs=1e-5), (row["n"], smoothing)
            assert model.nll(val) == pytest.approx(row[column], abs=1e-4)


def test_all_orders_equal_the_baselines_on_tinyshakespeare():
    text = public("tinyshakespeare.txt")
    recorded = golden()["tinyshakespeare_90_10"]
    n = recorded["train_chars"]
    equals_baselines(text[:n], text[n:], recorded)


@pytest.mark.slow
def test_all_orders_equal_the_baselines_on_tinystories():
    """The table's texts: no end marks, and one line break wherever there are several."""
    recorded = golden()["tinystories_2MiB_to_valid_slice"]
    train, val = (
        re.sub(r"\n+", "\n", public(name).replace("<|endoftext|>", ""))
        for name in ("tinystories-train-2m.txt", "tinystories-valid-slice.txt")
    )
    equals_baselines(train, val[: recorded["val_chars"]], recorded)


def test_the_bigram_of_names_equals_makemore():
    names = public("names.txt").splitlines()
    V, ids = as_ids("." + "".join(name + "." for name in names))
    assert V == 27
    for smoothing, column in (("mle", "add0"), ("add_k", "add1")):
        log_probs = NGram(2, smoothing).fit(ids, V).log_prob(ids)
        expected = golden()[f"names_bigram_train_nll_{column}"]
        assert -float(log_probs[1:].mean()) == pytest.approx(expected, abs=1e-9)


# --- equal to naive counting


def naive(ids, V, order, smoothing, k, D, context, w):
    """p(w | context) straight from the formula, with counts taken anew by a scan."""

    def grams(n):
        return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]

    def p(h, full):
        n = len(h) + 1
        if smoothing == "kneser_ney" and not full:  # different tokens before the n-gram
            seen = [g[1:] for g in set(grams(n + 1))]
        else:
            seen = grams(n)
        after = Counter(g[-1] for g in seen if g[:-1] == h)
        c, total, kinds = after[w], sum(after.values()), len(after)
        if smoothing == "add_k":
            return (c + k) / (total + k * V)
        if smoothing == "mle":
            return c / total if total else 1 / V
        lower = p(h[1:], False) if h else 1 / V
        if not total:
            return lower
        if smoothing == "witten_bell":
            return (c + kinds * lower) / (total + kinds)
        return max(c - D, 0) / total + D * kinds / total * lower

    h = tuple(context[max(0, len(context) - order + 1) :])
    return p(h, len(h) == order - 1)


@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_position_equals_naive_counting(smoothing, order):
    chance = random.Random(order)
    for n, V in ((1, 1), (2, 3), (5, 2), (40, 3), (60, 4)):
        ids = [chance.randrange(V) for _ in range(n)]
        text = [chance.randrange(V) for _ in range(20)]
        model = NGram(order, smoothing, k=0.3, discount=0.6).fit(ids, V)
        p = model.log_prob(text).exp()
        for i, w in enumerate(text):
            expected = naive(ids, V, order, smoothing, 0.3, 0.6, text[:i], w)
            assert float(p[i]) == pytest.approx(expected, abs=1e-12)
            assert float(model.probs(text[:i])[w]) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    smoothing=st.sampled_from(SMOOTHING),
    order=st.integers(1, 8),
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    context=st.lists(st.integers(0, 6), max_size=10),
    k=st.floats(1e-6, 1e3),
    discount=st.floats(0, 1),
)
def test_every_distribution_sums_to_one(smoothing, order, ids, context, k, discount):
    probs = NGram(order, smoothing, k, discount).fit(ids, 7).probs(context)
    assert probs.shape == (7,) and bool((probs >= 0).all())
    assert float(probs.sum()) == pytest.approx(1, abs=1e-9)


def test_the_bigram_is_the_table_of_chapter_one():
    V, ids = as_ids("tom saw a cat\nthe cat saw tom\n" * 3)
    for smoothing, k in (("mle", 0.0), ("add_k", 0.5)):
        table = count_probs(count_pairs(ids, V), k)
        model = NGram(2, smoothing, k=k or 1.0).fit(ids, V)
        for a in range(V):
            assert torch.allclose(model.probs([a]), table[a])


# --- large vocabularies and long contexts


def test_long_contexts_of_a_large_vocabulary_do_not_collide():
    """4096**8 is 2**96: a key made of eight ids at once would overflow 64 bits."""
    few = torch.randint(5, (20_000,), generator=torch.Generator().manual_seed(0))
    many = few * 819 + 7  # the same text, its ids spread over 0..4095
    for order in (6, 8):
        a = NGram(order).fit(few, 5).log_prob(few)
        b = NGram(order).fit(many, 4096).log_prob(many)
        assert torch.equal(a, b)
    for smoothing in ("witten_bell", "kneser_ney"):
        probs = NGram(8, smoothing).fit(many, 4096).probs(many[:7])
        assert float(probs.sum()) == pytest.approx(1, abs=1e-9)


def test_a_vocabulary_beyond_64_bits_is_refused():
    with pytest.raises(ConfigError, match="64 bits"):
        NGram(2).fit([0, 1], 2**62)


# --- what a user meets


def test_maximum_likelihood_is_infinite_on_the_unseen():
    model = NGram(2, "mle").fit([0, 1, 0, 1, 0], 3)
    assert model.log_prob([0, 1, 1]).tolist()[2] == -math.inf
    assert model.nll([0, 1, 1]) == math.inf
    assert torch.allclose(model.probs([2]), torch.full((3,), 1 / 3).double())


def test_kneser_ney_asks_after_how_many_tokens_one_came():
    """ "Francisco" is frequent, but only after "San": alone it is no good guess."""
    san, francisco, the, a, dog, never = range(6)
    ids = [san, francisco] * 20 + [the, dog, a, dog, san, dog]
    after = {s: NGram(2, s).fit(ids, 6).probs([never]) for s in SMOOTHING}
    assert after["witten_bell"][francisco] > after["witten_bell"][dog]
    assert after["kneser_ney"][francisco] < after["kneser_ney"][dog]


def test_longer_contexts_help_only_with_smoothing():
    text = "".join(
        f"{a} saw {b}.\n" for a in ("tom", "ann", "sue") for b in ("a cat", "it")
    )
    V, train, val = as_ids(text * 2, "sue saw a cat.\nann saw it.\n")
    assert NGram(5, "kneser_ney").fit(train, V).nll(val) < NGram(1).fit(train, V).nll(
        val
    )
    assert NGram(5, "kneser_ney").fit(train, V).nll(val) < NGram(5, "add_k").fit(
        train, V
    ).nll(val)


@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_it_stores_one_count_for_each_different_ngram(smoothing):
    ids = [0, 1, 0, 1, 1, 2]
    grams = {tuple(ids[i:j]) for j in range(7) for i in range(max(0, j - 3), j)}
    assert NGram(3, smoothing).fit(ids, 4).n_counts == len(grams) == 3 + 4 + 4
    with pytest.raises(ConfigError, match="fit"):
        _ = NGram(3, smoothing).n_counts


def test_fit_forgets_what_it_counted_before():
    model = NGram(3, "kneser_ney").fit([0, 1, 2, 1, 0], 3).fit([1, 1, 0, 1], 2)
    assert torch.equal(
        model.probs([1]), NGram(3, "kneser_ney").fit([1, 1, 0, 1], 2).probs([1])
    )


def test_samples_follow_the_model():
    cycle = [0, 1, 2] * 10
    model = NGram(2).fit(cycle, 3)
    assert model.sample(7, context=[1]) == [2, 0, 1, 2, 0, 1, 2]
    model = NGram(1).fit([0, 0, 0, 1], 2)
    ids = model.sample(2000, 0)
    assert ids == model.sample(2000, torch.Generator().manual_seed(0))
    assert ids != model.sample(2000, 1)
    assert abs(ids.count(1) / 2000 - 0.25) < 0.04  # four standard deviations
    assert model.sample(0) == []


@pytest.mark.parametrize("order", [0, -1, 2.0, "3", True])
def test_orders_are_checked(order):
    with pytest.raises(ConfigError, match="order"):
        NGram(order)


@pytest.mark.parametrize(
    "setting",
    [
        *(dict(smoothing="laplace"), dict(k=0), dict(k=-1), dict(k=math.inf)),
        *(
            dict(k=math.nan),
            dict(discount=-0.1),
            dict(discount=1.1),
            dict(discount=math.nan),
        ),
    ],
    ids=str,
)
def test_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        NGram(2, **setting)


def test_ids_are_checked():
    model = NGram(2)
    for use in (lambda: model.nll([0]), model.probs, lambda: model.sample(1)):
        with pytest.raises(ConfigError, match="fit"):
            use()
    for bad in ([0, 3], [-1]):
        with pytest.raises(VocabularyError, match=r"0\.\.2"):
            model.fit(bad, 3)
    model.fit([0, 1, 2], 3)
    for use in (model.nll, model.probs, lambda ids: model.sample(1, context=ids)):
        with pytest.raises(VocabularyError, match=r"0\.\.2"):
            use([3])
        with pytest.raises(VocabularyError, match=r"0\.\.2"):
            use([-1, 0, 1, 2])  # however little of it counts
    for use in (lambda: model.fit([], 3), lambda: model.nll([])):
        with pytest.raises(ConfigError, match="no ids"):
            use()
    with pytest.raises(ConfigError, match="one sequence"):
        model.fit(torch.zeros(2, 2), 3)
    with pytest.raises(ConfigError, match="n must"):
        model.sample(-1)


# --- the neural n-gram


def reads(model, T=9):
    """Which earlier positions (0: the newest token itself) move the last logits at t."""
    moved = set()
    idx = torch.randint(
        model.vocab_size, (1, T), generator=torch.Generator().manual_seed(0)
    )
    for i in range(T):
        other = idx.clone()
        other[0, i] = (other[0, i] + 1) % model.vocab_size
        change = (model(idx)[0] - model(other)[0]).abs().amax(-1)[0]  # (T,)
        moved |= {t - i for t in range(T) if change[t] > 0}
    return moved


class OffByOne(NeuralNGram):
    """The documented fault: the window ends one token too early."""

    def windows(self, idx):
        early = torch.full_like(idx[:, :1], self.vocab_size)
        return super().windows(torch.cat([early, idx[:, :-1]], dim=1))


class LooksAhead(NeuralNGram):
    def windows(self, idx):
        return super().windows(torch.cat([idx[:, 1:], idx[:, :1]], dim=1))


@pytest.mark.parametrize("context", [1, 2, 4])
def test_it_reads_exactly_the_last_tokens(context):
    torch.manual_seed(0)
    sizes = (11, context, 8, 16)
    right = set(range(context))
    assert reads(NeuralNGram(*sizes)) == right
    assert reads(OffByOne(*sizes)) == {i + 1 for i in right}
    assert min(reads(LooksAhead(*sizes))) < 0


def test_the_newest_token_is_worth_having():
    """Each id is the one before it plus one or two: what OffByOne cannot know."""
    g = torch.Generator().manual_seed(0)
    ids = (torch.randint(1, 3, (4000,), generator=g)).cumsum(0) % 10
    losses = {}
    for kind in (NeuralNGram, OffByOne):
        torch.manual_seed(0)
        config = trainer.TrainConfig(steps=300, lr=1e-2, block_size=8, progress=False)
        history = trainer.train(kind(10, 1, 8, 32), (ids[:3000], ids[3000:]), config)
        losses[kind] = history.last["val_loss"]
    assert (
        losses[NeuralNGram] < math.log(2) + 0.3
    )  # the first of a window lacks context
    assert losses[OffByOne] > losses[NeuralNGram] + 0.2


def test_a_short_history_is_filled_with_the_start():
    torch.manual_seed(0)
    model = NeuralNGram(7, 3, 4, 8)
    idx = torch.tensor([[5, 2, 6, 0]])
    start = model.vocab_size
    for t, window in enumerate(
        [[start, start, 5], [start, 5, 2], [5, 2, 6], [2, 6, 0]]
    ):
        x = model.embedding(torch.tensor(window)).flatten()
        logits = model.head(torch.tanh(model.hidden(x)))
        assert torch.allclose(model(idx)[0][0, t], logits, atol=1e-6)


def test_its_loss_is_the_cross_entropy_and_its_size_the_formula():
    torch.manual_seed(0)
    V, n, C, H = 7, 3, 4, 8
    model = NeuralNGram(V, n, C, H)
    idx = torch.randint(V, (2, 6))
    logits, none = model(idx[:, :-1])
    assert logits.shape == (2, 5, V) and none is None
    loss = model(idx[:, :-1], idx[:, 1:])[1]
    by_hand = -logits.log_softmax(-1).gather(-1, idx[:, 1:, None]).mean()
    assert torch.allclose(loss, by_hand)
    size = (V + 1) * C + (n * C + 1) * H + (H + 1) * V
    assert sum(p.numel() for p in model.parameters()) == size


def test_it_generates_from_a_window():
    torch.manual_seed(0)
    model = NeuralNGram(5, 2, 4, 8)
    out = generate(model, torch.tensor([[1, 2]]), 12, temperature=1e-6)[0]
    for t in range(2, 14):
        assert out[t] == model(out[None, :t])[0][0, -1].argmax()


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_sizes_are_checked(bad):
    for i, name in enumerate(("vocab_size", "context", "n_embd", "n_hidden")):
        sizes = [3, 3, 3, 3]
        sizes[i] = bad
        with pytest.raises(ConfigError, match=name):
            NeuralNGram(*sizes)
