"""GPT: equal to transformers' GPT-2, with the parameter counts that its formula promises."""

import math

import pytest
import torch

from babygpt_course import checkpoint
from babygpt_course.attention import Attention
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig


def relative(ours, theirs):
    """The largest difference, in units of the largest value."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def random_gpt(config: GPTConfig, seed=0, **options) -> GPT:
    """A float64 GPT whose every parameter is random, norms and biases too."""
    torch.manual_seed(seed)
    model = GPT(config, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def ids(B, T, V, seed=0):
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


# --- equal to an independent GPT-2

SHAPES = [
    GPTConfig(vocab_size=11, block_size=4, n_layer=1, n_head=1, n_embd=8),
    GPTConfig(vocab_size=65, block_size=16, n_layer=3, n_head=4, n_embd=32),
    GPTConfig(vocab_size=109, block_size=33, n_layer=2, n_head=2, n_embd=48, tie=False),
]


@pytest.mark.parametrize("config", SHAPES)
def test_equals_gpt2(config):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            tie_word_embeddings=config.tie,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tensors = {k: v for k, v in theirs.state_dict().items()}
    for fused in (False, True):
        ours = GPT(config, fused).double()
        ours.load_state_dict(checkpoint.gpt2_to_ours(tensors, config))
        x = ids(3, config.block_size, config.vocab_size)
        _, loss = ours(x[:, :-1], x[:, 1:])
        out = theirs(x, labels=x)
        assert relative(ours(x)[0], out.logits) < 1e-5
        assert loss.item() == pytest.approx(out.loss.item(), rel=1e-6)
        loss.backward()
        theirs.zero_grad()
        out.loss.backward()
        grads = {k: p.grad for k, p in theirs.named_parameters()}
        expected = checkpoint.gpt2_to_ours(grads, config)
        for name, parameter in ours.named_parameters():
            assert relative(parameter.grad, expected[name]) < 1e-5, name


@pytest.mark.parametrize("config", SHAPES)
def test_names_convert_there_and_back(config):
    model = random_gpt(config)
    state = model.state_dict()
    back = checkpoint.gpt2_to_ours(checkpoint.gpt_to_gpt2(model), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


# --- parameter counts

SMALL = {"bias": False, "tie": False, "head_bias": True}
COUNTS = [  # V, T, layers, heads, C, options, the published count
    (109, 64, 8, 8, 256, SMALL, 6_372_461),
    (16, 16, 4, 4, 16, SMALL, 13_360),
    (109, 16, 4, 4, 16, SMALL, 16_429),
    (32_000, 16, 4, 4, 16, SMALL, 1_068_832),
    (16, 32, 8, 8, 32, SMALL, 101_456),
    (109, 4, 4, 4, 16, SMALL, 16_237),
    (109, 64, 4, 4, 256, SMALL, 3_222_637),
    (22_127, 4, 4, 4, 16, {**SMALL, "bias": True}, 743_407),
    (22_127, 64, 4, 4, 256, {**SMALL, "bias": True}, 14_527_087),
    (50_257, 1024, 12, 12, 768, {}, 124_439_808),  # GPT-2 small
]


@pytest.mark.parametrize("V,T,L,H,C,options,published", COUNTS)
def test_parameter_counts(V, T, L, H, C, options, published):
    config = GPTConfig(V, T, L, H, C, **options)
    with torch.device("meta"):
        model = GPT(config)
    by_hand = V * C + T * C + L * (12 * C**2 + 4 * C) + 2 * C
    if options:
        by_hand += V * C + V + (9 * C * L if options["bias"] else 0)
    else:
        by_hand += 9 * C * L
    counted = sum(p.numel() for p in model.parameters())
    assert counted == config.n_params == by_hand == published


def test_counts_of_the_two_table_rows_grow_with_the_vocabulary():
    for V in (16, 105, 109):
        assert GPTConfig(V, 16, 4, 4, 16, **SMALL).n_params == 12_832 + 33 * V
        assert GPTConfig(V, 32, 8, 8, 32, **SMALL).n_params == 100_416 + 65 * V


# --- behavior


def test_starts_near_the_uniform_loss():
    torch.manual_seed(0)
    model = GPT(GPTConfig(50, 16, 4, 4, 64))
    x = ids(8, 17, 50)
    loss = model(x[:, :-1], x[:, 1:])[1].item()
    assert loss == pytest.approx(math.log(50), abs=0.05)


def test_is_causal_batch_independent_and_the_same_twice():
    model = random_gpt(GPTConfig(20, 8, 3, 2, 16))
    x = ids(3, 8, 20)
    y = model(x)[0]
    assert torch.equal(model(x)[0], y)
    for t in range(8):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % 20
        moved = (model(changed)[0] - y).abs().amax(-1) > 1e-9  # (B, T)
        assert not moved[1:].any() and not moved[0, :t].any() and moved[0, t:].all()


def test_each_block_runs_once_a_forward():
    model = GPT(GPTConfig(20, 8, 4, 2, 16))
    calls = []
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    model(ids(2, 8, 20))
    assert calls == [0, 1, 2, 3]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cuts", [(1,) * 8, (5, 1, 1, 1), (3, 5)])
def test_cache_gives_the_logits_of_the_whole(cuts, fused):
    model = random_gpt(GPTConfig(20, 8, 3, 2, 16), fused=fused)
    x = ids(2, 8, 20)
    cache = model.new_cache(2)
    with torch.no_grad():
        parts = [model(part, cache=cache)[0] for part in x.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(x)[0])
        with pytest.raises(ConfigError, match="9 positions are more than"):
            model(x[:, :1], cache=cache)


def test_dropout_acts_in_training_only():
    model = random_gpt(GPTConfig(20, 8, 2, 2, 16, dropout=0.5))
    x = ids(2, 8, 20)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


@pytest.mark.parametrize("tie", [True, False])
def test_new_weights_are_those_of_a_new_model(tie):
    config = GPTConfig(13, 8, 2, 2, 16, tie=tie, head_bias=True)
    model = random_gpt(config)
    new = GPT(config).state_dict()
    torch.manual_seed(7)
    model.init_weights()
    used = model.state_dict()
    for name, tensor in new.items():
        if name.endswith("bias") or "norm" in name:
            assert torch.equal(used[name], tensor), name
    drawn = used["token_embedding.weight"]
    expected = torch.empty_like(drawn).normal_(
        std=0.02, generator=torch.Generator().manual_seed(7)
    )
    assert torch.equal(drawn, expected), "norms use up no chance"


def test_a_tied_head_is_one_tensor_and_paths_can_be_switched():
    model = random_gpt(GPTConfig(20, 8, 2, 2, 16))
    assert model.head.weight is model.token_embedding.weight
    x = ids(2, 8, 20)
    y = model(x)[0]
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused = False
    torch.testing.assert_close(model(x)[0], y)
    assert model.blocks[1].attention.weights.shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    "setting",
    [
        {"n_layer": 0},
        {"n_head": 3},
        {"n_embd": 1.5},
        {"dropout": 1.0},
        {"block_size": True},
    ],
)
def test_bad_settings_are_named(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        GPTConfig(
            **{
                **dict(vocab_size=9, block_size=4, n_layer=1, n_head=2, n_embd=8),
                **setting,
            }
        )


def test_a_text_that_is_too_long_is_named():
    model = GPT(GPTConfig(9, 4, 1, 1, 8))
    with pytest.raises(ConfigError, match="5 positions are more than block_size = 4"):
        model(ids(1, 5, 9))
