"""Tokenizer, bigram, training loop, sampling: equal to independent computations, and faults are named."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from babygpt_course import corpus, tinytales, trainer
from babygpt_course.bigram import Bigram, count_nll, count_pairs, count_probs
from babygpt_course.errors import ConfigError, VocabularyError
from babygpt_course.generate import generate
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import TrainConfig, evaluate, get_batch, train

# --- tokenizer


@given(st.text(min_size=1))
def test_decode_inverts_encode(text):
    tokenizer = CharTokenizer(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert sorted(set(tokenizer.encode(text))) == list(range(tokenizer.vocab_size))


def test_tokenizer_errors_name_the_fault():
    with pytest.raises(VocabularyError, match="empty"):
        CharTokenizer("")
    tokenizer = CharTokenizer("abc")
    with pytest.raises(VocabularyError, match="'z' at position 1"):
        tokenizer.encode("az")
    for bad in (3, -1):
        with pytest.raises(VocabularyError, match=f"id {bad} "):
            tokenizer.decode([0, bad])


# --- bigram


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_counts_equal_a_dictionary(ids):
    expected = Counter(zip(ids, ids[1:]))
    counts = count_pairs(ids, 5)
    assert counts.dtype == torch.int64 and counts.sum() == len(ids) - 1
    assert all(counts[a, b] == expected[a, b] for a in range(5) for b in range(5))


@pytest.mark.parametrize("k", [0.0, 0.5, 1.0])
def test_rows_of_probabilities(k):
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 7]])
    probs = count_probs(counts, k)
    torch.testing.assert_close(probs.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(probs[1], torch.full((3,), 1 / 3, dtype=torch.float64))
    assert probs[0, 0] == pytest.approx((3 + k) / (4 + 3 * k))


def test_maximum_likelihood_is_the_best_table():
    """No other table gives the counted text a lower loss: 200 random directions all go up."""
    ids = torch.randint(6, (500,), generator=torch.Generator().manual_seed(0))
    counts = count_pairs(ids, 6)
    best = count_nll(count_probs(counts), ids)
    g = torch.Generator().manual_seed(1)
    for _ in range(200):
        other = torch.softmax(
            count_probs(counts, 1e-9).log() + 0.1 * torch.randn(6, 6, generator=g),
            dim=1,
        )
        assert count_nll(other, ids) > best


def test_impossible_pair_costs_infinity():
    probs = count_probs(count_pairs([0, 1, 0, 1, 0], 2))
    assert count_nll(probs, [0, 1]) == 0
    assert count_nll(probs, [0, 0]) == math.inf


def test_bigram_loss_is_torchs_cross_entropy_and_counts():
    ids = torch.randint(7, (400,), generator=torch.Generator().manual_seed(2))
    counts = count_pairs(ids, 7)
    model = Bigram.from_counts(counts, k=0.3)
    logits, loss = model(ids[None, :-1], ids[None, 1:])
    assert logits.shape == (1, 399, 7)
    assert float(loss) == pytest.approx(
        float(F.cross_entropy(logits[0], ids[1:])), abs=1e-6
    )
    assert float(loss) == pytest.approx(
        count_nll(count_probs(counts, 0.3), ids), abs=1e-6
    )
    untrained = Bigram(7)
    assert float(untrained(ids[None, :-1], ids[None, 1:])[1]) == pytest.approx(
        math.log(7), abs=1e-6
    )
    assert untrained(ids[None])[1] is None


def test_bigram_errors():
    with pytest.raises(ConfigError, match="at least two ids"):
        count_pairs([1], 3)
    probs, model = torch.full((3, 3), 1 / 3), Bigram(3)
    for few in ([], [1], torch.tensor([1]), torch.ones(2, 2)):
        with pytest.raises(ConfigError, match="at least two ids"):
            count_nll(probs, few)
    for bad in ([0, 3], [-1, 0], [0, -3]):
        for use in (
            lambda ids: count_pairs(ids, 3),
            lambda ids: count_nll(probs, ids),
            lambda ids: count_nll(probs, torch.tensor(ids)),
            lambda ids: model(torch.tensor([ids])),
        ):
            with pytest.raises(VocabularyError, match=r"0\.\.2"):
                use(bad)
    with pytest.raises(ConfigError, match="k must be"):
        count_probs(torch.ones(2, 2), -1)
    with pytest.raises(ConfigError, match="vocab_size"):
        Bigram(0)


def test_names_bigram_reproduces_the_published_loss():
    """nn-zero-to-hero, makemore part 1: 2.454 nats on all names, counted, nothing added."""
    if not (corpus.data_folder() / "names.txt").exists():
        pytest.skip("names.txt is not in the cache")
    text = "\n" + corpus.load("names").text.rstrip("\n") + "\n"
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    probs = count_probs(count_pairs(ids, tokenizer.vocab_size))
    assert tokenizer.vocab_size == 27
    assert count_nll(probs, ids) == pytest.approx(2.454014, abs=2e-6)


# --- training


@pytest.fixture(scope="module")
def chain():
    """A Markov chain whose entropy rate, the floor of any bigram, is known exactly."""
    g = torch.Generator().manual_seed(3)
    table = torch.softmax(
        2 * torch.randn(5, 5, generator=g, dtype=torch.float64), dim=1
    )
    stationary = torch.linalg.matrix_power(table, 200)[0]
    rate = float(-(stationary[:, None] * table * table.log()).sum())
    ids = [0]
    draws = torch.rand(40_000, generator=g, dtype=torch.float64)
    edges = table.cumsum(1)
    for u in draws:
        ids.append(min(int((u > edges[ids[-1]]).sum()), 4))
    return torch.tensor(ids[:36_000]), torch.tensor(ids[36_000:]), rate


def test_counting_and_descent_reach_the_same_table_at_the_floor(chain):
    train_ids, val_ids, rate = chain
    counted = count_nll(count_probs(count_pairs(train_ids, 5), 1.0), val_ids)
    model = Bigram(5)
    config = TrainConfig(
        steps=400, batch_size=64, block_size=32, lr=0.3, progress=False
    )
    history = train(model, (train_ids, val_ids), config)
    assert history.last["val_loss"] == pytest.approx(counted, abs=0.01)
    assert counted == pytest.approx(rate, abs=0.03)
    best_possible = count_nll(count_probs(count_pairs(val_ids, 5)), val_ids)
    assert counted > best_possible and history.last["val_loss"] > best_possible
    torch.testing.assert_close(
        torch.softmax(model.logits.detach().double(), 1),
        count_probs(count_pairs(train_ids, 5)),
        atol=0.02,
        rtol=0,
    )


def test_on_tinytales_both_ways_agree_above_the_exact_floor_of_any_bigram():
    tales = corpus.load("tinytales")
    tokenizer = CharTokenizer(tales.text)
    ids, val_ids = (torch.tensor(tokenizer.encode(t)) for t in (tales.train, tales.val))
    V = tokenizer.vocab_size
    counted = count_nll(count_probs(count_pairs(ids, V), 0.01), val_ids)
    config = TrainConfig(
        steps=640, batch_size=64, lr=0.1, eval_every=640, progress=False
    )
    trained = train(Bigram(V), (ids, val_ids), config).last["val_loss"]
    assert trained == pytest.approx(counted, abs=0.01)
    floor = tinytales.bigram_floor_nats_per_char()
    assert floor < counted < floor + 0.01 and floor < trained < floor + 0.02
    assert tinytales.floor_nats_per_char(tales.val) < floor / 10


def test_same_seed_same_run_and_progress_is_recorded(chain):
    train_ids, val_ids, _ = chain
    config = TrainConfig(steps=50, eval_every=20, lr=0.1, progress=False)
    seen = []
    runs = [
        train(
            Bigram(5), (train_ids, val_ids), config, on_eval=lambda s, m: seen.append(s)
        )
        for _ in range(2)
    ]
    losses = [
        [(r["step"], r["train_loss"], r["val_loss"]) for r in run.rows] for run in runs
    ]
    assert losses[0] == losses[1]
    assert seen == [0, 20, 40, 50] * 2
    assert runs[0].rows[0]["seconds"] == 0 < runs[0].last["seconds"]
    other = train(
        Bigram(5),
        (train_ids, val_ids),
        TrainConfig(steps=50, lr=0.1, seed=1, progress=False),
    )
    assert other.last["val_loss"] != runs[0].last["val_loss"]


def test_targets_are_the_inputs_one_step_later():
    x, y = get_batch(torch.arange(100), 8, 5, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (8, 5)
    assert torch.equal(y, x + 1)


def test_every_window_can_be_drawn():
    g = torch.Generator().manual_seed(0)
    starts = {int(get_batch(torch.arange(7), 1, 4, g)[0][0, 0]) for _ in range(200)}
    assert starts == {0, 1, 2}


def test_evaluate_covers_the_text_and_leaves_the_model_as_it_was(chain):
    train_ids, val_ids, _ = chain
    model = Bigram.from_counts(count_pairs(train_ids, 5), 1.0)
    n = (len(val_ids) - 1) // 16 * 16
    expected = count_nll(count_probs(count_pairs(train_ids, 5), 1.0), val_ids[: n + 1])
    assert evaluate(model, val_ids, 16, batch_size=7) == pytest.approx(
        expected, abs=1e-5
    )
    assert model.training


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1},
        {"steps": 0},
        {"steps": 1.5},
        {"batch_size": 0},
        {"lr": float("nan")},
        {"lr": -1},
    ],
)
def test_bad_settings_are_named(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        TrainConfig(**setting)


def test_bad_data_and_divergence_are_named():
    with pytest.raises(ConfigError, match="validation data"):
        train(Bigram(5), (torch.zeros(100, dtype=torch.int64), [1, 2, 3]))

    class Breaks(Bigram):
        def forward(self, idx, targets=None):
            logits, loss = super().forward(idx, targets)
            return logits, loss * math.nan if self.training else loss

    ids = torch.zeros(200, dtype=torch.int64)
    with pytest.raises(ConfigError, match="nan at step 0"):
        train(Breaks(5), (ids, ids), TrainConfig(steps=3, progress=False))


def test_learning_rate_rises_then_falls_to_zero():
    config = TrainConfig(steps=10, warmup=4, lr=1.0)
    rates = [trainer.learning_rate(s, config) for s in range(11)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1.0 and rates[10] == 0
    assert all(a > b for a, b in zip(rates[4:], rates[5:]))


# --- sampling


def test_samples_follow_the_table():
    counts = torch.tensor([[1, 3], [9, 1]])
    g = torch.Generator().manual_seed(0)
    out = generate(
        Bigram.from_counts(counts),
        torch.zeros(4, 1, dtype=torch.int64),
        3000,
        generator=g,
    )
    assert out.shape == (4, 3001)
    seen = sum(count_pairs(row, 2) for row in out)
    torch.testing.assert_close(
        count_probs(seen), count_probs(counts), atol=0.02, rtol=0
    )
    greedy = generate(
        Bigram.from_counts(counts),
        torch.zeros(1, 1, dtype=torch.int64),
        4,
        temperature=0,
    )
    assert greedy.tolist() == [[0, 1, 0, 1, 0]]


def test_sampling_errors():
    start = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        generate(Bigram(2), start, -1)
    with pytest.raises(ConfigError, match="temperature"):
        generate(Bigram(2), start, 1, temperature=-0.1)
    with pytest.raises(ConfigError, match=r"\(B, T\)"):
        generate(Bigram(2), torch.zeros(0, dtype=torch.int64), 1)
