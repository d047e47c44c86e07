"""Attention equals torch's own, values and gradients; a query that sees nothing gets zeros."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course.attention import (
    CrossAttention,
    KVCache,
    MultiHeadAttention,
    SpatialAttention,
    SpatialTransformer,
    attention_weights,
    causal_mask,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from babygpt_course.errors import ConfigError

SHAPES = [(1, 1, 1, 1, 1), (2, 3, 5, 5, 4), (2, 1, 4, 7, 8), (3, 2, 7, 4, 2)]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def masks(B, H, T, S):
    """No mask, and bool and additive ones of several shapes; each query sees a key."""
    seen = normal(B, 1, T, S, seed=9) > 0
    seen[..., 0] = True
    bias = normal(T, S, seed=8)
    hides = torch.where(seen, 0.0, -math.inf).double()
    return [None, seen, seen[0, 0], bias, hides, hides + bias]


def gradients(f, *inputs):
    """f of copies of the inputs, and the gradients of a fixed random projection of it."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = f(*inputs)
    (y * normal(*y.shape, seed=7)).sum().backward()
    return [y.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("shape", SHAPES)
def test_written_out_equals_torch(shape):
    B, H, T, S, D = shape
    q, k, v = normal(B, H, T, D), normal(B, H, S, D, seed=1), normal(B, H, S, 3, seed=2)
    cases = [(mask, False) for mask in masks(B, H, T, S)] + [(None, True)]
    for mask, causal in cases:
        ours = partial(scaled_dot_product_attention, mask=mask, is_causal=causal)
        theirs = partial(
            F.scaled_dot_product_attention, attn_mask=mask, is_causal=causal
        )
        ours, theirs = gradients(ours, q, k, v), gradients(theirs, q, k, v)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_mask_and_causal_together_hide_both():
    q, k, v = normal(2, 1, 4, 3), normal(2, 1, 4, 3, seed=1), normal(2, 1, 4, 3, seed=2)
    mask = masks(2, 1, 4, 4)[1]
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v, mask, is_causal=True),
        scaled_dot_product_attention(q, k, v, mask & causal_mask(4, 4)),
    )


def test_weights_are_distributions():
    q, k = normal(2, 3, 5, 4), normal(2, 3, 6, 4, seed=1)
    for mask in masks(2, 3, 5, 6):
        weights = attention_weights(q, k, mask)
        assert weights.shape == (2, 3, 5, 6) and (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5).double())


@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_a_query_that_sees_nothing_gets_zeros_and_no_nan(kind):
    q, k, v = normal(2, 1, 3, 4), normal(2, 1, 5, 4, seed=1), normal(2, 1, 5, 4, seed=2)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    if kind == "additive":
        mask = torch.where(mask, 0.0, -math.inf).double()
    ours = gradients(lambda *qkv: scaled_dot_product_attention(*qkv, mask), q, k, v)
    theirs = gradients(
        lambda *qkv: F.scaled_dot_product_attention(*qkv, attn_mask=mask), q, k, v
    )
    assert (ours[0][:, :, 1] == 0).all() and (ours[1][:, :, 1] == 0).all()
    assert (ours[0][:, :, 0] != 0).all()
    assert all(x.isfinite().all() for x in ours)
    torch.testing.assert_close(ours, theirs)


def test_a_mask_of_plus_infinity_is_visible_as_nan():
    """The sign error that hides everything but the future: it must not look like a result."""
    q = normal(1, 1, 3, 4)
    wrong = torch.where(causal_mask(3, 3), 0.0, math.inf).double()
    assert scaled_dot_product_attention(q, q, q, wrong).isnan().any()


def test_a_mask_of_integers_is_refused():
    q = normal(1, 1, 3, 4)
    with pytest.raises(ConfigError, match=r"mask\.bool\(\)"):
        scaled_dot_product_attention(q, q, q, torch.ones(3, 3, dtype=torch.int64))


def test_heads_split_and_merge():
    x = normal(2, 5, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    torch.testing.assert_close(heads[1, 2, 4], x[1, 4, 8:12])
    torch.testing.assert_close(merge_heads(heads), x)


def same_weights(ours: MultiHeadAttention, theirs: nn.MultiheadAttention):
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.out_proj.weight.copy_(ours.proj.weight)
        if ours.qkv.bias is not None:
            theirs.in_proj_bias.copy_(ours.qkv.bias.normal_())
            theirs.out_proj.bias.copy_(ours.proj.bias.normal_())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("B,T,C,H", [(1, 1, 4, 1), (2, 5, 12, 3), (3, 8, 16, 4)])
def test_multi_head_equals_torchs_module(B, T, C, H, bias, fused):
    torch.manual_seed(0)
    ours = MultiHeadAttention(C, H, bias=bias, fused=fused).double()
    theirs = nn.MultiheadAttention(C, H, bias=bias, batch_first=True).double()
    same_weights(ours, theirs)
    x = normal(B, T, C)
    for causal in (False, True):
        ours.causal = causal
        hidden = ~causal_mask(T, T) if causal else None  # torch's module: True = hidden

        def reference(x, hidden=hidden):
            return theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]

        torch.testing.assert_close(gradients(ours, x), gradients(reference, x))
        for name, other in [("qkv.weight", "in_proj_weight"), ("proj.weight",) * 2]:
            other = theirs.out_proj.weight if other == name else theirs.in_proj_weight
            torch.testing.assert_close(ours.get_parameter(name).grad, other.grad)
        ours.zero_grad(), theirs.zero_grad()


def test_manual_and_fused_agree_under_every_mask_and_weights_can_be_seen():
    torch.manual_seed(0)
    manual = MultiHeadAttention(12, 3, causal=True).double()
    fused = MultiHeadAttention(12, 3, causal=True, fused=True).double()
    fused.load_state_dict(manual.state_dict())
    x = normal(2, 6, 12)
    for mask in masks(2, 3, 6, 6):
        torch.testing.assert_close(manual(x, mask), fused(x, mask))
    manual(x)
    assert manual.weights.shape == (2, 3, 6, 6) and fused.weights is None
    assert (manual.weights.triu(1) == 0).all()


def test_known_parameter_counts():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(MultiHeadAttention(128, 8)) == 66_048 == 4 * (128**2 + 128)
    assert count(SpatialAttention(32)) == 4_288 == 4 * (32**2 + 32) + 2 * 32


@pytest.mark.parametrize("fused", [False, True])
def test_causal_attention_does_not_see_the_future(fused):
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4, causal=True, fused=fused).double()
    x = normal(1, 6, 16)
    y = attention(x)
    for t in range(6):
        changed = x.clone()
        changed[:, t] += 1
        moved = (attention(changed) - y).abs().amax((0, 2)) > 1e-9
        assert not moved[:t].any() and moved[t:].all()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cuts", [(1,) * 6, (4, 1, 1), (2, 4), (6,)])
def test_cache_gives_the_rows_of_the_whole(cuts, fused):
    torch.manual_seed(0)
    attention = MultiHeadAttention(12, 3, causal=True, fused=fused).double()
    x = normal(2, 6, 12)
    cache = KVCache(2, 3, 6, 4, torch.float64)
    with torch.no_grad():
        parts = [attention(part, cache=cache) for part in x.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), attention(x))
        assert cache.length == 6 and cache.n_bytes == 2 * 2 * 3 * 6 * 4 * 8
        with pytest.raises(ConfigError, match="holds 6 positions and 6 are filled"):
            attention(x[:, :1], cache=cache)


@pytest.mark.parametrize("fused", [False, True])
def test_cross_attention_equals_torchs_module(fused):
    torch.manual_seed(0)
    ours = CrossAttention(12, 3, context_dim=10, fused=fused).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, kdim=10, vdim=10).double()
    with torch.no_grad():
        k, v = ours.kv.weight.chunk(2)
        theirs.q_proj_weight.copy_(ours.q.weight)
        theirs.k_proj_weight.copy_(k)
        theirs.v_proj_weight.copy_(v)
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.kv.bias]))
        theirs.out_proj.weight.copy_(ours.proj.weight)
        theirs.out_proj.bias.copy_(ours.proj.bias)
    x, context = normal(3, 5, 12), normal(3, 7, 10, seed=1)
    text = torch.arange(7) < torch.tensor([[7], [4], [1]])  # (B, S)

    def reference(x, context):
        return theirs(x, context, context, key_padding_mask=~text, need_weights=False)[
            0
        ]

    torch.testing.assert_close(
        gradients(lambda x, c: ours(x, c, text[:, None, None, :]), x, context),
        gradients(reference, x, context),
    )


def test_batch_rows_do_not_mix_when_sizes_differ():
    """A layer that remembers a batch size from elsewhere cuts or mixes sequences."""
    torch.manual_seed(0)
    attention = CrossAttention(8, 2).double()
    x, context = normal(5, 4, 8), normal(5, 6, 8, seed=1)
    whole = attention(x, context)
    for i in range(5):
        torch.testing.assert_close(
            attention(x[i : i + 1], context[i : i + 1])[0], whole[i]
        )


@pytest.mark.parametrize("fused", [False, True])
def test_spatial_attention_equals_one_head_over_positions(fused):
    torch.manual_seed(0)
    ours = SpatialAttention(8, n_groups=4, fused=fused).double()
    theirs = nn.MultiheadAttention(8, 1, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight[:, :, 0, 0])
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.proj.weight[:, :, 0, 0])
        theirs.out_proj.bias.copy_(ours.proj.bias)

    def reference(x):
        y = F.group_norm(x, 4, ours.norm.weight, ours.norm.bias, eps=1e-6)
        y = y.permute(0, 2, 3, 1).flatten(1, 2)
        y = theirs(y, y, y)[0].unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return x + y

    x = normal(2, 8, 3, 5)
    torch.testing.assert_close(gradients(ours, x), gradients(reference, x))


def test_spatial_transformer_equals_its_parts_in_torch():
    torch.manual_seed(0)
    block = SpatialTransformer(8, 2, context_dim=6, n_groups=4).double()
    x, context = normal(2, 8, 3, 5), normal(2, 4, 6, seed=1)
    torch.testing.assert_close(
        block(x, context), x
    )  # the last convolution starts at zero
    nn.init.normal_(block.proj_out.weight, std=0.3)
    nn.init.normal_(block.proj_out.bias, std=0.3)

    self_attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    same_weights(block.self_attention, self_attention)

    def reference(x, context):
        y = block.proj_in(block.norm(x)).permute(0, 2, 3, 1).flatten(1, 2)
        n = block.norm1(y)
        y = y + self_attention(n, n, n)[0]
        y = y + block.cross_attention(block.norm2(y), context)
        n = block.norm3(y) @ block.mlp.fc.weight.T + block.mlp.fc.bias
        y = y + (n[..., :32] * F.gelu(n[..., 32:])) @ block.mlp.proj.weight.T
        y = y + block.mlp.proj.bias
        return x + block.proj_out(y.unflatten(1, (3, 5)).permute(0, 3, 1, 2))

    torch.testing.assert_close(
        gradients(block, x, context), gradients(reference, x, context)
    )
    mask = torch.tensor([True, True, False, True])
    other = context.clone()
    other[:, 2] += 1
    torch.testing.assert_close(block(x, context, mask), block(x, other, mask))
    assert not torch.allclose(block(x, context), block(x, other))


def test_bad_sizes_are_named():
    with pytest.raises(
        ConfigError, match="n_embd = 10 does not divide into n_head = 3"
    ):
        MultiHeadAttention(10, 3)
    with pytest.raises(ConfigError, match="n_head must be a whole number"):
        CrossAttention(10, 0)
    with pytest.raises(ConfigError, match="channels = 20"):
        SpatialAttention(20)
