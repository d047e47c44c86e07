"""Every probe passes healthy models and catches faults that real code shipped."""

import math
import time

import pytest
import torch
from torch import nn

from babygpt_course import attention, llama, probes
from babygpt_course.bigram import Bigram, count_pairs
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.trainer import TrainConfig, evaluate, train

GPT_CONFIG = GPTConfig(vocab_size=13, block_size=12, n_layer=4, n_head=2, n_embd=16)
LLAMA_CONFIG = LlamaConfig(16, 4, 4, 2, vocab_size=13, max_seq_len=12)


def gpt(fused=False, **options):
    torch.manual_seed(0)
    return GPT(GPT_CONFIG, fused, **options)


def make_llama(fused=False):
    torch.manual_seed(0)
    return Llama(LLAMA_CONFIG, fused)


def peaked(model):
    """Weights ten times as large, as after much training: attention looks hard."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(10)
    return model


HEALTHY = {
    "gpt": gpt,
    "gpt, fused": lambda: gpt(True),
    "gpt, peaked": lambda: peaked(gpt()),
    "llama": make_llama,
    "llama, fused": lambda: make_llama(True),
    "llama, peaked": lambda: peaked(make_llama()),
    "llama, float64": lambda: make_llama().double(),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize(
    "probe",
    [
        probes.is_causal,
        probes.is_batch_independent,
        probes.is_deterministic,
        probes.block_calls,
        probes.collapses_to_affine,
        probes.cache_matches,
        probes.rope_is_relative,
    ],
)
def test_healthy_models_pass(probe, name):
    model = HEALTHY[name]()
    found = probe(model)
    if probe is probes.rope_is_relative and name.startswith("gpt"):
        assert not found and "absolute" in found.finding  # learned positions are that
    else:
        assert found, found
    assert model.training and not any(p.grad is not None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_models_without_a_config_take_ids():
    ids = torch.randint(5, (3, 9), generator=torch.Generator().manual_seed(0))
    counted = Bigram.from_counts(count_pairs(ids.flatten(), 5))
    assert not counted.logits.isfinite().all()  # pairs never seen: log 0
    for model in (counted, Bigram(5)):
        assert probes.is_causal(model, ids)
        assert probes.is_batch_independent(model, ids)
        assert probes.is_deterministic(model, ids)
    with pytest.raises(ConfigError, match="Give ids"):
        probes.is_causal(Bigram(5))
    with pytest.raises(ConfigError, match="at least 2 positions"):
        probes.is_causal(gpt(), ids[:, :1])
    with pytest.raises(ConfigError, match="at least 2 rows"):
        probes.is_batch_independent(gpt(), ids[:1])


# --- causality


def scrambled_heads(x):
    """An extra transpose and view after the heads are merged: time becomes channels."""
    y = x.transpose(1, 2).flatten(2)  # (B, H, T, D) -> (B, T, C)
    return y.transpose(1, 2).contiguous().view(y.shape)


def test_an_extra_transpose_and_view_leaks_the_future(monkeypatch):
    model = gpt()
    assert probes.is_causal(model)
    monkeypatch.setattr(attention, "merge_heads", scrambled_heads)
    found = probes.is_causal(model)
    assert not found and found.data["by"] > 0.01
    assert "changing token" in repr(found) and repr(found).startswith("FAULT")
    last = gpt()(torch.zeros(1, 4, dtype=torch.int64))[0]
    changed = gpt()(torch.tensor([[0, 0, 0, 1]]))[0]
    assert not torch.allclose(last[0, 0], changed[0, 0])  # the first sees the last


def test_a_mask_that_is_one_too_wide_leaks_to_the_neighbor(monkeypatch):
    def attend(self, q, k, v, mask, causal):
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(1)
        return attention.scaled_dot_product_attention(q, k, v, seen)

    monkeypatch.setattr(attention.Attention, "attend", attend)
    one_layer = GPT(GPTConfig(13, block_size=12, n_layer=1, n_head=2, n_embd=16))
    found = probes.is_causal(one_layer)
    assert not found and found.data["moved"] == [found.data["changed"] - 1]


def test_a_leak_late_in_the_window_is_found():
    model = gpt()

    def read_the_next_but_last(module, args, out):
        return torch.cat([out[:, :10], out[:, 11:], out[:, 11:]], dim=1)

    model.token_embedding.register_forward_hook(read_the_next_but_last)
    found = probes.is_causal(model)
    assert not found and (found.data["changed"], found.data["moved"]) == (11, [10])


def test_attention_without_its_mask_leaks():
    model = gpt()
    model.blocks[2].attention.causal = False
    found = probes.is_causal(model)
    assert not found and 0 in found.data["moved"]


def test_a_mask_of_plus_infinity_is_no_number():
    model = gpt()
    model.blocks[0].attention.register_forward_hook(lambda m, a, out: out + math.nan)
    found = probes.is_causal(model)
    assert not found and "NaN" in found.finding


# --- batch


class FirstOfTheBatch(nn.Module):
    """Indexes the output with [0], as if it were a tuple: row 0 is broadcast to all."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, cache=None):
        return self.inner(x, cache=cache)[0]


class GlobalBatchSize(FirstOfTheBatch):
    """Reshapes with a batch size from outside."""

    def forward(self, x, cache=None):
        return self.inner(x, cache=cache).reshape(3, -1, x.shape[-1])


def test_row_0_broadcast_to_the_batch():
    model = gpt()
    model.blocks[1].attention = FirstOfTheBatch(model.blocks[1].attention)
    found = probes.is_batch_independent(model)
    assert not found and found.data["changed"] == 0 and found.data["moved"] == [1, 2]
    assert found.data["by"] > 0.01


def test_a_batch_size_built_into_the_model():
    model = gpt()
    model.blocks[1].attention = GlobalBatchSize(model.blocks[1].attention)
    found = probes.is_batch_independent(model)
    assert not found and "a batch size is built into" in found.finding


# --- depth


class StackInStack(GPT):
    """For each layer, all layers."""

    def forward(self, idx, targets=None, cache=None):
        x = self.token_embedding(idx) + self.position_embedding.weight[: idx.shape[1]]
        for _ in self.blocks:
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x)), None


class LastBlockOnly(StackInStack):
    def forward(self, idx, targets=None, cache=None):
        x = self.token_embedding(idx) + self.position_embedding.weight[: idx.shape[1]]
        return self.head(self.norm(self.blocks[-1](x))), None


def test_the_whole_stack_for_each_layer():
    found = probes.block_calls(gpt())
    assert found and found.data == {"calls": [1, 1, 1, 1], "total": 4}
    found = probes.block_calls(StackInStack(GPT_CONFIG))
    assert not found and found.data["total"] == 16 and "16 calls" in found.finding
    assert not probes.block_calls(LastBlockOnly(GPT_CONFIG))
    chosen = gpt()
    assert probes.block_calls(chosen, blocks=[b.mlp for b in chosen.blocks])


# --- call after call


ROTARY = llama.apply_rotary


def rotate_the_first(n):
    """Rotary positions that are applied in the first n calls of the process only."""
    calls, right = [], ROTARY

    def apply(x, cos, sin):
        calls.append(1)
        return right(x, cos, sin) if len(calls) <= n else x

    return apply


def test_rope_in_the_first_call_only(monkeypatch):
    once = 2 * LLAMA_CONFIG.n_layers  # q and k of each layer
    monkeypatch.setattr(llama, "apply_rotary", rotate_the_first(once))
    found = probes.is_deterministic(make_llama())
    first, second = found.data["by"]
    assert not found and first > 1e-3 and second == 0
    monkeypatch.setattr(llama, "apply_rotary", rotate_the_first(once))
    found = probes.rope_is_relative(make_llama())
    assert not found and found.data["call"] == 2 and "no rotation" in found.finding


def test_a_second_call_that_gives_nothing():
    class Once(GPT):
        calls = 0

        def forward(self, *args, **options):
            self.calls += 1
            return super().forward(*args, **options) if self.calls == 1 else None

    found = probes.is_deterministic(Once(GPT_CONFIG))
    assert not found and found.data["call"] == 2 and "None" in found.finding


class KeepsItsPast(GPT):
    """It reads, and answers, all that it was ever given."""

    past = None

    def forward(self, idx, targets=None):
        self.past = idx if self.past is None else torch.cat([self.past, idx], dim=1)
        return super().forward(self.past, targets)


@pytest.mark.parametrize(
    "probe",
    [probes.is_deterministic, probes.is_causal, probes.is_batch_independent],
)
def test_a_model_that_keeps_its_past(probe):
    found = probe(KeepsItsPast(GPTConfig(13, 20, 2, 2, 16)), torch.ones(2, 4).long())
    assert not found and "shape (2, 8, 13), not (2, 4, 13)" in found.finding


@pytest.mark.parametrize("calls", [1, 0, -2])
def test_one_call_has_nothing_to_compare(calls):
    with pytest.raises(ConfigError, match=f"calls = {calls}. Ask for at least 2"):
        probes.is_deterministic(gpt(), calls=calls)
    assert probes.is_deterministic(gpt(), calls=2)


def test_dropout_that_does_not_listen_to_eval():
    model = gpt()
    model.dropout = nn.Module()
    model.dropout.forward = lambda x: nn.functional.dropout(x, 0.1)
    assert not probes.is_deterministic(model)


# --- positions


def test_positions_that_are_absolute(monkeypatch):
    calls = []

    def only_keys(x, cos, sin):
        calls.append(1)
        return x if len(calls) % 2 else ROTARY(x, cos, sin)

    with monkeypatch.context() as patch:
        patch.setattr(llama, "apply_rotary", only_keys)
        found = probes.rope_is_relative(make_llama())
        assert not found and "absolute" in found.finding
        patch.setattr(llama, "apply_rotary", lambda x, cos, sin: x)
        found = probes.rope_is_relative(make_llama())
        assert not found and "no rotation" in found.finding

    class PositionTable(Llama):
        """Rotary positions, and a learned table besides."""

        def __init__(self, config):
            super().__init__(config, fused=False)
            self.table = nn.Parameter(0.02 * torch.randn(12, config.dim))
            self.token_embedding.register_forward_hook(
                lambda m, a, out: out + self.table[: out.shape[1]]
            )

    torch.manual_seed(0)
    found = probes.rope_is_relative(PositionTable(LLAMA_CONFIG))
    assert not found and found.data["spread"] > 0.1 * found.data["effect"]


def test_evidence_of_rope_says_how_much():
    found = probes.rope_is_relative(make_llama())
    assert found.data["effect"] > 100 * found.data["spread"] > 0


# --- cache


def test_two_positions_do_not_say_what_is_relative():
    for T in (1, 2):
        short = Llama(LlamaConfig(16, 1, 2, vocab_size=13, max_seq_len=T))
        with pytest.raises(ConfigError, match=f"at least 3; this is T = {T}"):
            probes.rope_is_relative(short)
        with pytest.raises(ConfigError, match="at least 3"):
            probes.rope_is_relative(make_llama(), T=T)
    assert probes.rope_is_relative(make_llama(), T=3)


def test_attention_that_keeps_no_weights_is_named(monkeypatch):
    def forgets(self, q, k, v, mask, causal):
        return attention.scaled_dot_product_attention(q, k, v, is_causal=causal)

    monkeypatch.setattr(attention.Attention, "attend", forgets)
    model = make_llama(fused=True)
    with pytest.raises(ConfigError, match="GroupedQueryAttention, has no weights"):
        probes.rope_is_relative(model)
    assert model.blocks[0].attention.fused, "the path is given back"


class AtPositionZero(nn.Module):
    """A cached token is rotated as if it were the first."""

    def __init__(self, block, model):
        super().__init__()
        self.block, self.tables = block, (model.cos, model.sin)

    def forward(self, x, cos, sin, cache=None):
        if cache is not None:
            cos, sin = (table[: x.shape[1]] for table in self.tables)
        return self.block(x, cos, sin, cache)


def test_a_cached_token_rotated_at_position_0():
    model = peaked(make_llama())
    model.blocks[0] = AtPositionZero(model.blocks[0], model)
    found = probes.cache_matches(model)
    assert not found and found.data["prompt"] == 6
    assert found.data["moved"] == list(range(6, 12))  # the prompt itself is right


@pytest.mark.parametrize("make", [gpt, make_llama])
def test_a_cached_token_that_sees_the_first_one_only(make, monkeypatch):
    right = attention.Attention.attend

    def attend(self, q, k, v, mask, causal):
        if q.shape[2] == 1:
            k, v = k[:, :, :1], v[:, :, :1]  # the mask is cut as [:T, :T]
        return right(self, q, k, v, mask, causal)

    monkeypatch.setattr(attention.Attention, "attend", attend)
    found = probes.cache_matches(make())
    assert not found and found.data["by"] > 0.01


def test_a_cache_that_is_read_again_from_the_start():
    """GPT's positions restart at 0 for each piece."""
    model = gpt()
    table = model.position_embedding.forward
    model.position_embedding.forward = lambda at: table(at - at[0])
    found = probes.cache_matches(model)
    assert not found and found.data["moved"][0] == 6


def test_a_cache_that_crashes_or_gives_another_shape():
    model = gpt()
    model.blocks[3].register_forward_pre_hook(
        lambda m, args: args[0].view(2, 6, 16) if args[1] else None
    )
    found = probes.cache_matches(model)
    assert not found and "with 6 positions in the cache, 1 more give" in found.finding
    assert "RuntimeError" in found.finding

    class AllAgain(GPT):
        def forward(self, idx, targets=None, cache=None):
            self.read = torch.cat([getattr(self, "read", idx[:, :0]), idx], dim=1)
            if cache is None:
                self.read = self.read[:, :0]
                return super().forward(idx)
            return super().forward(self.read)

    found = probes.cache_matches(AllAgain(GPT_CONFIG))
    assert not found and "logits of shape (2, 7, 13)" in found.finding


# --- MLP


def test_two_linear_layers_with_nothing_between():
    model = gpt()
    for block in model.blocks:
        block.mlp = nn.Sequential(
            nn.Linear(16, 64), nn.Linear(64, 16), nn.GELU(), nn.Dropout(0.1)
        )
    found = probes.collapses_to_affine(model)
    assert not found and len(found.data["pairs"]) == 4
    assert found.data["pairs"][0] == ("blocks.0.mlp.0", "blocks.0.mlp.1")
    assert (found.data["weights"], found.data["enough"]) == (8 * 16**2, 16**2)
    assert found.data["by"] < 1e-5
    dropout_between = nn.Sequential(nn.Linear(5, 9), nn.Dropout(0.5), nn.Linear(9, 4))
    assert not probes.collapses_to_affine(dropout_between, torch.randn(2, 3, 5))


def test_a_bottleneck_and_an_activation_are_no_collapse():
    x = torch.randn(2, 3, 8)
    low_rank = nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 8))
    assert probes.collapses_to_affine(low_rank, x)
    for between in (nn.GELU(), nn.LayerNorm(16)):
        mlp = nn.Sequential(nn.Linear(8, 16), between, nn.Linear(16, 8))
        assert probes.collapses_to_affine(mlp, x)


# --- losses


@pytest.fixture(scope="module")
def noise():
    """Ids drawn evenly from 8: a loss below log 8 is cheating."""
    ids = torch.randint(8, (6000,), generator=torch.Generator().manual_seed(0))
    return ids[:5000], ids[5000:]


def trained(data):
    torch.manual_seed(0)
    model = GPT(GPTConfig(8, block_size=4, n_layer=2, n_head=2, n_embd=32), fused=False)
    config = TrainConfig(
        250, 32, 4, lr=3e-3, optimizer="muon", eval_every=250, progress=False
    )
    return model, train(model, data, config).last["val_loss"]


def test_loss_by_position_shows_the_leak(noise, monkeypatch):
    floor = math.log(8)
    honest, loss = trained(noise)
    assert probes.below_floor(loss, floor)
    found = probes.per_position_loss(honest, noise[1])
    assert found and len(found.data["loss"]) == 4
    mean = sum(found.data["loss"]) / 4
    assert mean == pytest.approx(evaluate(honest, noise[1], 4), abs=1e-5)

    monkeypatch.setattr(attention, "merge_heads", scrambled_heads)
    leaky, loss = trained(noise)
    assert not probes.below_floor(loss, floor)
    found = probes.per_position_loss(leaky, noise[1])
    *others, last = found.data["loss"]
    assert not found and max(others) < 1.0 < floor - 0.1 < last
    assert "only the last one" in found.finding


def test_loss_by_position_needs_two_windows():
    with pytest.raises(ConfigError, match="too few"):
        probes.per_position_loss(gpt(), torch.zeros(20, dtype=torch.int64))


# --- benchmarks


def test_a_benchmark_that_times_the_name():
    model = gpt()
    idx = torch.zeros(1, 4, dtype=torch.int64)

    def seconds(work):
        began = time.perf_counter()
        for _ in range(3):
            work()
        return time.perf_counter() - began

    honest = probes.times_the_model(lambda m: seconds(lambda: m(idx)), model)
    assert honest and honest.data["calls"] == 3
    found = probes.times_the_model(lambda m: seconds(lambda: m), model)
    assert not found and "never calls" in found.finding

    def warm_up_only(m):
        m(idx)
        return seconds(lambda: GPT(GPT_CONFIG))  # times the construction

    found = probes.times_the_model(warm_up_only, model, delay=0.1)
    assert not found and found.data["calls"] == 1
    assert not model._forward_pre_hooks
