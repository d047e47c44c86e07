"""The ledger: equal to what torch counts, and to what others should have counted."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course import ledger
from babygpt_course.attention import Attention
from babygpt_course.bigram import Bigram
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, Block, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.ngram import NeuralNGram
from babygpt_course.trainer import TrainConfig, train

CONFIGS = [
    GPTConfig(vocab_size=11, block_size=5, n_layer=1, n_head=1, n_embd=8),
    GPTConfig(65, 16, 3, 4, 32, tie=False, bias=False, head_bias=True),
    GPTConfig(109, 33, 2, 2, 48, tie=False),
    LlamaConfig(8, 1, 1, vocab_size=11, max_seq_len=5),
    LlamaConfig(32, 2, 4, 4, vocab_size=65, hidden_dim=40, max_seq_len=16, tie=False),
    LlamaConfig(32, 3, 8, 2, vocab_size=109, hidden_dim=86, max_seq_len=33),
]


def build(config, fused=False):
    torch.manual_seed(0)
    return (GPT if isinstance(config, GPTConfig) else Llama)(config, fused)


def batch(model, B, T):
    x = torch.randint(model.config.vocab_size, (B, T + 1))
    return x[:, :-1].contiguous(), x[:, 1:].contiguous()


def part_of(name):
    for part in ("norm", "attention", "mlp", "head", "position"):
        if part in name:
            return part
    return "embedding"


# --- equal to torch


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_by_part_are_the_models(config):
    model = build(config)
    counted = dict.fromkeys(ledger.PARTS, 0)
    for name, p in model.named_parameters():
        counted[part_of(name)] += p.numel()
    assert ledger.parameters(config) == ledger.parameters(model) == counted
    assert sum(counted.values()) == config.n_params


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("config", CONFIGS)
def test_flops_are_exactly_those_that_torch_counts(config, B):
    model = build(config)
    for T in (model.block_size, 4):
        expected = ledger.flops(config, B, T)
        x, y = batch(model, B, T)
        with FlopCounterMode(display=False) as counter:
            _, loss = model(x, y)
        assert counter.get_total_flops() == sum(f.forward for f in expected.values())
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        assert counter.get_total_flops() == sum(f.backward for f in expected.values())
        per_token = sum(f.total for f in expected.values()) / (B * T)
        assert ledger.flops_per_token(model, T) == per_token


@pytest.mark.parametrize("config", CONFIGS)
def test_flops_of_each_part_are_exact(config):
    """torch attributes its counts to modules; the scores are what attention does beyond
    its linear layers."""
    model, B = build(config), 2
    T = model.block_size
    with FlopCounterMode(display=False) as counter:
        model(batch(model, B, T)[0])
    counted = dict.fromkeys(ledger.PARTS, 0)
    for name, counts in counter.get_flop_counts().items():
        if name == "Global" or not name.partition(".")[2]:
            continue
        module = model.get_submodule(name.partition(".")[2])
        n = sum(counts.values())
        if isinstance(module, torch.nn.Linear):
            counted[part_of(name)] += n
            counted["scores"] -= n if part_of(name) == "attention" else 0
        if isinstance(module, Attention):
            counted["scores"] += n
    assert counted == {k: f.forward for k, f in ledger.flops(model, B).items()}


def saved_bytes(model, x, y):
    """Bytes of all storages that autograd keeps, without parameters and buffers."""
    own = [*model.parameters(), *model.buffers(), x, y]
    known = {t.untyped_storage().data_ptr() for t in own}
    found = {}

    def pack(t):
        found[t.untyped_storage().data_ptr()] = (
            t  # held, so that no address comes twice
        )
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(x, y)
    return sum(t.untyped_storage().nbytes() for k, t in found.items() if k not in known)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        GPTConfig(65, 32, 3, 4, 64),
        GPTConfig(109, 64, 2, 2, 48, tie=False, bias=False),
        LlamaConfig(64, 2, 4, 4, vocab_size=65, hidden_dim=170, max_seq_len=32),
        LlamaConfig(64, 2, 8, 2, vocab_size=109, hidden_dim=86, max_seq_len=64),
    ],
)
def test_activation_memory_is_within_one_percent_of_what_torch_keeps(config, fused):
    model = build(config, fused)
    for B, T in [(4, model.block_size), (16, 16)]:
        kept = saved_bytes(model, *batch(model, B, T))
        told = sum(ledger.activation_bytes(config, B, T, fused=fused).values())
        assert told == pytest.approx(kept, rel=0.01)


@pytest.mark.parametrize("config", CONFIGS)
def test_kv_cache_bytes_are_those_of_the_cache(config):
    model = build(config).double()
    cache = model.new_cache(3)
    told = ledger.kv_cache_bytes(config, model.block_size, B=3, width=8)
    assert sum(layer.n_bytes for layer in cache) == told


# --- the numbers of an earlier project, and what they should have been

LLAMA_3M = 3_222_381  # parameters of its LLaMA: d 256, 4 layers, 4 heads, 64 characters
WORDS = 180_194  # in its text, of 22,127 kinds
GPT_3M = GPTConfig(109, 64, 4, 4, 256, tie=False, bias=False, head_bias=True)
GPT_WORDS = GPTConfig(22_127, 64, 4, 4, 256, tie=False, head_bias=True)


@pytest.mark.parametrize(
    "d, T, V, hidden, tie, biased, claimed",
    [
        (256, 64, 109, 682, False, True, LLAMA_3M),
        (16, 4, 109, 42, False, True, 16_221),  # the same as it was shipped
        (256, 64, 109, 682, False, False, 3_218_285),
        (16, 3, 478, 42, False, False, 28_126),
        (256, 64, 109, 768, True, False, 3_454_573),
    ],
)
def test_its_llamas_carry_parts_that_a_llama_has_not(
    d, T, V, hidden, tie, biased, claimed
):
    """A table of positions and a bias in the head, and in one of them in every projection."""
    config = LlamaConfig(d, 4, 4, vocab_size=V, hidden_dim=hidden, tie=tie)
    model = Llama(config)
    assert sum(p.numel() for p in model.parameters()) == config.n_params
    assert config.n_params + T * d + V + biased * 4 * 4 * d == claimed


def test_counts_of_its_block_and_of_its_n_gram():
    block = Block(GPTConfig(125, 32, 1, 8, 128), fused=False)
    assert sum(p.numel() for p in block.parameters()) == 198_272
    ours = NeuralNGram(478, context=2, n_embd=100, n_hidden=128)
    start = 100  # one more row, for the start of a text
    assert sum(p.numel() for p in ours.parameters()) - start == 135_190


def test_flops_per_token_by_the_rule_of_thumb():
    assert ledger.palm_flops_per_token(LLAMA_3M, L=4, H=4, Q=64, T=64) == 20_120_718
    exact = ledger.flops_per_token(GPT_3M)
    rule = ledger.palm_flops_per_token(GPT_3M.n_params, 4, 4, 64, 64)
    tables = sum(ledger.parameters(GPT_3M)[k] for k in ("embedding", "position"))
    vectors = sum(p.numel() for p in build(GPT_3M).parameters() if p.ndim == 1)
    assert rule - exact == 6 * (tables + vectors)  # what multiplies no matrix


def test_its_mfu_divides_by_the_time_of_400_evaluations():
    """The time of the one step measured held an evaluation of 400 forward passes."""
    step = 20_120_718 * 64 * 64
    assert step == pytest.approx(82.41e9, rel=1e-4)
    seconds = step / (0.000527723427 * 8e12)
    assert seconds == pytest.approx(19.52, abs=0.005)
    alone = seconds / (1 + 400 / 3)  # a forward pass is a third of a step
    assert step / alone / 8e12 == pytest.approx(0.07, abs=0.005)


def test_its_petaflops_took_the_whole_text_for_one_sequence():
    blocks = ("attention", "scores", "mlp")

    def train_flops(T):
        counted = ledger.chinchilla_flops(GPT_WORDS, T)
        return 3 * sum(counted[k] for k in blocks)

    assert train_flops(WORDS) / 1e15 == 0.407066566638144
    squared = 3 * ledger.chinchilla_flops(GPT_WORDS, WORDS)["scores"]
    assert squared / train_flops(WORDS) == pytest.approx(0.992, abs=0.001)
    honest = train_flops(64) / 64 * WORDS
    assert honest / 1e15 == pytest.approx(0.00354, abs=5e-6)
    assert train_flops(WORDS) / honest == pytest.approx(115, abs=0.5)
    head = 3 * ledger.chinchilla_flops(GPT_WORDS, 64)["head"] / 64
    assert head == pytest.approx(33.99e6, rel=1e-4)
    assert (honest + head * WORDS) / 1e15 == pytest.approx(0.00967, abs=5e-6)


def test_chinchillas_count_and_ours_differ_by_softmax_and_one_hot_vectors():
    theirs = ledger.chinchilla_flops(GPT_3M, 64)
    ours = {k: f.forward for k, f in ledger.flops(GPT_3M).items()}
    softmax = 3 * 4 * 4 * 64**2
    assert theirs["scores"] - ours["scores"] == softmax
    assert all(theirs[k] == ours[k] for k in ("attention", "mlp", "head"))
    with pytest.raises(ConfigError, match="GPT"):
        ledger.chinchilla_flops(CONFIGS[-1], 64)


def test_keys_and_values_of_a_token():
    assert ledger.kv_flops_per_token(GPT_3M) == 2 * 2 * 4 * 256**2 == 1_048_576
    assert ledger.kv_cache_bytes(GPT_3M, length=1) == 2 * 4 * 256 * 4 == 8192
    llama_7b = LlamaConfig(4096, 32, 32, hidden_dim=11_008)
    assert ledger.kv_flops_per_token(llama_7b) == 2_147_483_648
    grouped = LlamaConfig(4096, 32, 32, 8, hidden_dim=11_008)
    assert 4 * ledger.kv_flops_per_token(grouped) == 2_147_483_648
    assert 4 * ledger.kv_cache_bytes(grouped, 9) == ledger.kv_cache_bytes(llama_7b, 9)


def test_what_low_rank_attention_really_saved():
    """Half of the parameters went, most of them with the output head."""
    before = ledger.parameters(GPT_WORDS)
    assert sum(before.values()) == 14_527_087
    after = before | {
        "head": 0,
        "position": 0,
        "attention": 4 * 4096,
        "mlp": before["mlp"] - 525_312,
        "norm": before["norm"] - 512,
    }
    assert sum(after.values()) == 7_261_952
    share = ledger.attribute(before, after)
    assert list(share) == ["head", "attention", "mlp", "position", "norm"]
    assert share["head"] == pytest.approx(0.783, abs=5e-4)
    assert share["attention"] == pytest.approx(0.143, abs=5e-4)
    assert share["mlp"] == pytest.approx(0.072, abs=5e-4)
    assert sum(share.values()) == pytest.approx(1)
    with pytest.raises(ConfigError, match="no difference"):
        ledger.attribute(before, before)


# --- the roofline


@pytest.mark.parametrize("config", CONFIGS)
def test_work_has_the_flops_of_the_ledger_and_moves_what_the_products_touch(config):
    B, T, L = 3, 4, ledger.shape_of(config).L
    told = ledger.work(config, B, T, width=4)
    for part, w in told.items():
        assert w.flops == ledger.flops(config, B, T)[part].forward
        assert w.intensity == w.flops / w.bytes
    model = build(config)
    counted = dict.fromkeys(told, 0)

    def hook(name):
        def count(module, args, out):
            """A linear layer reads its input and its weights, and writes its output."""
            touched = args[0].nbytes + module.weight.nbytes + out.nbytes
            counted[part_of(name)] += touched

        return count

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(hook(name))
    model(batch(model, B, T)[0])
    shape = ledger.shape_of(config)
    counted["scores"] = L * 4 * B * T * (2 * shape.C + 2 * shape.KV)
    assert {k: w.bytes for k, w in told.items()} == counted


@pytest.mark.parametrize("config", CONFIGS)
def test_decoding_reads_the_cache_and_the_weights_for_one_token(config):
    B, S = 3, 5
    told = ledger.work(config, B, 1, past=S - 1, width=2)
    s = ledger.shape_of(config)
    cache = ledger.kv_cache_bytes(config, S, B, width=2)
    assert told["scores"].bytes == cache + 2 * s.L * 2 * B * s.C
    assert told["scores"].flops == 2 * 2 * s.L * B * S * s.C
    step = [ledger.work(config, 1, 1, past=t)["scores"].flops for t in range(S)]
    whole = ledger.flops(config, 1, S)["scores"].forward
    assert sum(step) < whole, "the whole square holds the half that the mask hides"


def test_the_roof_is_a_slope_and_a_flat():
    assert ledger.attainable(0.5, 100.0, 20.0) == 10
    assert (
        ledger.attainable(5, 100.0, 20.0) == ledger.attainable(50, 100.0, 20.0) == 100
    )
    assert [d.name for d in ledger.DEVICES] == ["T4", "A100", "H200"]
    for device in ledger.DEVICES:
        low, high = device.peaks.values()
        assert 2 * low < high and 5 < low / device.bandwidth < high / device.bandwidth


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("width", [2, 4])
def test_the_batch_that_reaches_the_ridge_is_the_smallest(config, width):
    parts = ("attention", "mlp", "head")

    def intensity(B, parts=parts):
        w = ledger.work(config, B, 1, past=7, width=width)
        return sum(w[k].flops for k in parts) / sum(w[k].bytes for k in parts)

    for ridge in (0.1, 1.0, 1.9, 3.0):
        B = ledger.ridge_batch(config, ridge, past=7, width=width)
        if B is None:
            assert intensity(10**9) < ridge
            continue
        assert intensity(B) >= ridge
        assert B == 1 or intensity(B - 1) < ridge
    assert ledger.ridge_batch(config, 0.1, width=width) == 1
    assert ledger.ridge_batch(config, 1e4, past=7, width=width) is None
    scores = ledger.ridge_batch(config, 3.0, past=7, width=4, parts=("scores",))
    assert scores is None or ledger.shape_of(config).llama, "no batch helps the cache"


# --- this machine


def test_measured_bandwidth_is_the_rate_of_a_copy():
    rate = ledger.measured_bandwidth(n_bytes=2**24)
    a = torch.ones(2**22)
    b = torch.zeros_like(a)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        b.copy_(a)
        seconds.append(time.perf_counter() - began)
    assert 0.1 < rate * sorted(seconds)[4] / 2**25 < 10


def test_measured_peak_is_the_rate_of_a_product():
    peak = ledger.measured_peak(n=512)
    a = torch.randn(512, 512)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    assert 0.2 < peak * sorted(seconds)[10] / (2 * 512**3) < 5
    assert ledger.measured_peak(torch.float64, n=256) > 1e8


def test_mfu_of_a_real_run_is_a_share_and_falls_with_wasted_time():
    config = GPTConfig(11, 32, 2, 2, 64)
    ids = torch.randint(11, (2000,))
    run = TrainConfig(12, batch_size=8, block_size=32, eval_every=3, progress=False)
    history = train(build(config), (ids[:1500], ids[1500:]), run)
    used = ledger.mfu(history.tokens_per_second, config, ledger.measured_peak())
    assert 0.001 < used < 1
    peak = 1e9
    assert ledger.mfu(10, config, peak) == 10 * ledger.flops_per_token(config) / 1e9
    assert ledger.mfu(5, config, peak) == ledger.mfu(10, config, peak) / 2
    assert ledger.mfu(10, config, peak, T=8) < ledger.mfu(10, config, peak)
    with pytest.raises(ConfigError, match="positive"):
        ledger.mfu(10, config, 0)


def test_the_table_adds_up():
    table = ledger.table(CONFIGS[1], B=2, fused=False)
    columns = list(zip(*table.rows))
    assert columns[0] == (*ledger.PARTS, "all")
    for column in columns[1:]:
        numbers = [int(x.replace(",", "")) for x in column]
        assert sum(numbers[:-1]) == numbers[-1] > 0
    assert "position" not in repr(ledger.table(CONFIGS[-1], fused=True))
    with pytest.raises(ConfigError, match="Bigram"):
        ledger.parameters(Bigram(5))
