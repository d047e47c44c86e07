"""LLaMA: equal to transformers' LlamaForCausalLM, with fewer and with equal key-value heads."""

import math

import pytest
import torch

from babygpt_course import checkpoint, llama
from babygpt_course.errors import ConfigError
from babygpt_course.llama import (
    Llama,
    LlamaConfig,
    RMSNorm,
    SwiGLU,
    apply_rotary,
    rotary_table,
)
from tests.test_gpt import ids, relative


def random_llama(config: LlamaConfig, seed=0, **options) -> Llama:
    """A float64 LLaMA whose every parameter is random, norms too."""
    torch.manual_seed(seed)
    model = Llama(config, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


# --- equal to an independent LLaMA

SHAPES = [
    LlamaConfig(dim=8, n_layers=1, n_heads=1, vocab_size=11, max_seq_len=4),
    LlamaConfig(32, 3, 4, 4, vocab_size=65, hidden_dim=40, max_seq_len=16, tie=False),
    LlamaConfig(32, 2, 8, 4, vocab_size=65, hidden_dim=86, max_seq_len=16),
    LlamaConfig(48, 2, 6, 1, vocab_size=105, max_seq_len=40, rope_theta=500_000.0),
]


@pytest.mark.parametrize("config", SHAPES)
def test_equals_transformers(config):
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    torch.manual_seed(1)
    theirs = LlamaForCausalLM(
        TheirConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.dim,
            intermediate_size=config.hidden_dim,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie,
        )
    ).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for fused in (False, True):
        ours = Llama(config, fused).double()
        ours.load_state_dict(checkpoint.hf_llama_to_ours(theirs.state_dict(), config))
        x = ids(3, config.max_seq_len, config.vocab_size)
        _, loss = ours(x[:, :-1], x[:, 1:])
        out = theirs(x, labels=x)
        assert relative(ours(x)[0], out.logits) < 1e-5
        assert loss.item() == pytest.approx(out.loss.item(), rel=1e-6)
        loss.backward()
        theirs.zero_grad()
        out.loss.backward()
        grads = {k: p.grad for k, p in theirs.named_parameters()}
        expected = checkpoint.hf_llama_to_ours(grads, config)
        for name, parameter in ours.named_parameters():
            assert relative(parameter.grad, expected[name]) < 1e-5, name


@pytest.mark.parametrize("config", SHAPES)
def test_names_convert_there_and_back(config):
    model = random_llama(config)
    state = model.state_dict()
    back = checkpoint.hf_llama_to_ours(checkpoint.llama_to_hf(model), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


# --- parameter counts

COUNTS = [  # the config, the published count
    (LlamaConfig(256, 4, 4, vocab_size=109, hidden_dim=682, tie=False), 3_201_792),
    (LlamaConfig(64, 5, 8, 4, 512, 172, 512), 260_032),  # stories260K
    (LlamaConfig(288, 6, 6, 6, 32_000, 768, 256), 15_191_712),  # stories15M
    (LlamaConfig(512, 8, 8, 8, 32_000, 1376, 1024), 41_689_600),  # stories42M
    (LlamaConfig(4096, 32, 32, 32, 32_000, 11_008, 2048, tie=False), 6_738_415_616),
]


@pytest.mark.parametrize("config,published", COUNTS)
def test_parameter_counts(config, published):
    with torch.device("meta"):
        model = Llama(config)
    C, V, hidden = config.dim, config.vocab_size, config.hidden_dim
    kv = C // config.n_heads * config.n_kv_heads
    block = 2 * C * C + 2 * C * kv + 3 * C * hidden + 2 * C
    by_hand = (1 if config.tie else 2) * V * C + config.n_layers * block + C
    counted = sum(p.numel() for p in model.parameters())
    assert counted == config.n_params == by_hand == published


def test_hidden_dim_costs_as_much_as_two_matrices_of_4_dim():
    assert LlamaConfig(256, 4, 4).hidden_dim == 682 == int(2 / 3 * 4 * 256)


# --- the parts


def test_rms_norm_equals_torchs():
    norm = RMSNorm(16, eps=1e-5).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 16).double()
    expected = torch.nn.functional.rms_norm(x, (16,), norm.weight, 1e-5)
    torch.testing.assert_close(norm(x), expected)
    half = RMSNorm(16).bfloat16()
    large = torch.full((1, 16), 3e20, dtype=torch.bfloat16)
    assert half(large).isfinite().all() and half(large).dtype == torch.bfloat16


def test_swiglu_equals_its_formula():
    mlp = SwiGLU(6, 10).double()
    x = torch.randn(2, 3, 6).double()
    a = x @ mlp.w1.weight.T
    expected = (a / (1 + (-a).exp()) * (x @ mlp.w3.weight.T)) @ mlp.w2.weight.T
    torch.testing.assert_close(mlp(x), expected)


def test_rotary_is_multiplication_by_a_complex_number():
    cos, sin = rotary_table(8, 10, 10_000.0)
    x = torch.randn(2, 3, 10, 8, dtype=torch.float64)
    t, i = torch.arange(10).double(), torch.arange(4).double()
    turn = torch.polar(
        torch.ones(10, 4).double(), torch.outer(t, 10_000 ** (-2 * i / 8))
    )
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (4, 2))) * turn)
    ours = apply_rotary(x, cos.double(), sin.double())
    torch.testing.assert_close(ours, expected.flatten(-2), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.norm(dim=-1), x.norm(dim=-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(ours[:, :, 0], x[:, :, 0])  # position 0 is not turned


def test_scores_depend_on_the_difference_of_positions_only():
    cos, sin = (table.double() for table in rotary_table(16, 64))
    q, k = torch.randn(2, 16, dtype=torch.float64)

    def score(i, j):
        turned = [
            apply_rotary(x[None, None, None], cos[p : p + 1], sin[p : p + 1])
            for x, p in ((q, i), (k, j))
        ]
        return float((turned[0] * turned[1]).sum())

    for shift in (1, 7, 50):
        assert score(9 + shift, 3 + shift) == pytest.approx(score(9, 3), abs=1e-5)
    assert abs(score(9, 3) - score(9, 4)) > 1e-3


def test_new_weights_reset_the_norms():
    model = random_llama(LlamaConfig(16, 2, 4, 2, vocab_size=13))
    model.init_weights()
    norms = {n: p for n, p in model.named_parameters() if "norm" in n}
    assert len(norms) == 5
    assert all(torch.equal(p, torch.ones(16)) for p in norms.values())


def test_rotary_acts_on_every_forward():
    model = random_llama(LlamaConfig(16, 2, 2, vocab_size=20, max_seq_len=8))
    x = ids(1, 8, 20)
    first, second = model(x)[0], model(x)[0]
    assert torch.equal(first, second)
    model.cos.fill_(1), model.sin.zero_()  # no rotation
    assert not torch.allclose(model(x)[0], first)


# --- behavior


def test_starts_near_the_uniform_loss():
    torch.manual_seed(0)
    model = Llama(LlamaConfig(64, 4, 4, 2, vocab_size=50, max_seq_len=16))
    x = ids(8, 17, 50)
    loss = model(x[:, :-1], x[:, 1:])[1].item()
    assert loss == pytest.approx(math.log(50), abs=0.05)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_is_causal_and_batch_independent(n_kv_heads):
    model = random_llama(
        LlamaConfig(16, 3, 4, n_kv_heads, vocab_size=20, max_seq_len=8)
    )
    x = ids(3, 8, 20)
    y = model(x)[0]
    for t in range(8):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % 20
        moved = (model(changed)[0] - y).abs().amax(-1) > 1e-9  # (B, T)
        assert not moved[1:].any() and not moved[0, :t].any() and moved[0, t:].all()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cuts", [(1,) * 8, (5, 1, 1, 1), (3, 5)])
def test_cache_gives_the_logits_of_the_whole(cuts, fused):
    config = LlamaConfig(32, 3, 4, 2, vocab_size=20, max_seq_len=8)
    model = random_llama(config, fused=fused)
    x = ids(2, 8, 20)
    cache = model.new_cache(2)
    with torch.no_grad():
        parts = [model(part, cache=cache)[0] for part in x.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(x)[0])
        with pytest.raises(ConfigError, match="9 positions are more than"):
            model(x[:, :1], cache=cache)
    assert (
        sum(c.n_bytes for c in cache) == 3 * 2 * 2 * (2 * 8) * 8 * 8
    )  # L k,v B KV*D T


@pytest.mark.parametrize(
    "setting",
    [
        {"n_heads": 3},
        {"n_kv_heads": 3},
        {"dim": 20},
        {"hidden_dim": 0},
        {"n_layers": -1},
        {"rope_theta": 0.0},
        {"norm_eps": float("nan")},
    ],
)
def test_bad_settings_are_named(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        LlamaConfig(**{**dict(dim=16, n_layers=1, n_heads=4, n_kv_heads=2), **setting})


def test_a_text_that_is_too_long_is_named():
    model = Llama(LlamaConfig(8, 1, 1, vocab_size=9, max_seq_len=4))
    with pytest.raises(ConfigError, match="5 positions are more than max_seq_len = 4"):
        model(ids(1, 5, 9))


def test_public_names():
    assert set(llama.__all__) > {"RMSNorm", "apply_rotary", "SwiGLU", "KVCache"}
