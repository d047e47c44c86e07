"""The oracles of sets 12 and 13 are what the package and PyTorch compute."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course import ledger, lora, quantize
from babygpt_course.exercises import find
from babygpt_course.exercises.ex12.models import Model
from babygpt_course.exercises.result import Outcome
from babygpt_course.gpt import GPT, GPTConfig


def cases(id):
    return [case.args for case in find(id).make_cases()]


def linear(W, b=None):
    layer = nn.Linear(W.shape[1], W.shape[0], bias=b is not None, dtype=W.dtype)
    layer.weight = nn.Parameter(W.clone(), requires_grad=False)
    if b is not None:
        layer.bias = nn.Parameter(b.clone(), requires_grad=False)
    return layer


def test_oracle_of_an_adapter_is_the_package():
    for x, W, b, A, B, alpha in cases("12.1"):
        model = nn.Sequential(lora.LoRALinear(linear(W, b), len(A), alpha))
        model[0].A, model[0].B = nn.Parameter(A), nn.Parameter(B)
        y, merged = find("12.1").loop(x, W, b, A, B, alpha)
        torch.testing.assert_close(y, model(x).detach(), rtol=1e-4, atol=1e-6)
        weight = lora.merge(model)[0].weight
        torch.testing.assert_close(merged, weight, rtol=1e-4, atol=1e-6)


def test_the_gradients_of_an_adapter_are_asked_for_one_by_one():
    """Right values with a wrong way back: each gets the message about its own cut."""
    exercise = find("12.1")
    right = next(f for f in exercise.rights if f.__name__ == "two_paths")

    @functools.wraps(right)
    def without_a_gradient_for_b(x, W, b, A, B, alpha):
        return right(x, W, b, A, B.detach(), alpha)

    result = exercise.check(without_a_gradient_for_b)
    assert (result.outcome, result.message_id) == (Outcome.WRONG_VALUE, "adapter-cut")
    assert "gradient of B is not" in result.says and result.link


def test_oracle_of_two_factors_is_the_svd():
    for W, rank in cases("12.2"):
        product, limit = find("12.2").loop(W, rank)
        U, S, Vh = torch.linalg.svd(W)
        best = (U[:, :rank] * S[:rank]) @ Vh[:rank]
        torch.testing.assert_close(product, best, rtol=1e-4, atol=1e-5)
        n_out, n_in = W.shape
        sizes = [r * (n_out + n_in) for r in (limit - 1, limit)]
        assert sizes[0] < n_out * n_in <= sizes[1]


def test_the_package_leaves_a_weight_alone_from_the_limit_on():
    W = torch.randn(9, 14)
    _, limit = find("12.2").loop(W, 1)
    for rank in (limit - 1, limit):
        made = lora.low_rank(nn.Sequential(linear(W)), rank)[0]
        assert isinstance(made, nn.Linear) == (rank == limit)


def test_two_factors_of_the_wrong_shape_are_named():
    def swapped(W, rank):
        up, down, limit = find("12.2").rights[0].__wrapped__(W, rank)
        return down.T @ torch.zeros(rank, 2 * rank, dtype=W.dtype), up, limit

    result = find("12.2").check(swapped)
    assert result.message_id == "wrong-shape" and "`up`" in result.says


def test_oracle_of_tuning_is_adamw_on_the_adapter_alone():
    for W, A, B, x, y, alpha, steps, lr, decay in cases("12.4"):
        a, b, loss = find("12.4").loop(W, A, B, x, y, alpha, steps, lr, decay)
        model = lora.LoRALinear(linear(W), len(A), alpha)
        model.A, model.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())
        optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        close = {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(a, model.A.detach(), **close)
        torch.testing.assert_close(b, model.B.detach(), **close)
        assert abs(loss - F.mse_loss(model(x), y).item()) <= 1e-4 * max(loss, 1)


def test_oracle_of_attribution_is_the_ledger():
    """On real models: a thinner MLP, no tie, and no position table in the end."""
    small = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 2}
    before = GPT(GPTConfig(**small, n_embd=16, tie=False))
    after = GPT(GPTConfig(**small, n_embd=8, tie=True))
    found = find("12.5").loop(before, after, ["head", "attn", "mlp"])
    parts = [ledger.parameters(m.config) for m in (before, after)]
    total = sum(parts[0].values()) - sum(parts[1].values())
    lost = parts[0]["mlp"] - parts[1]["mlp"]
    assert abs(found["mlp"] - 100 * lost / total) <= 0.051
    assert sum(found.values()) == pytest.approx(100, abs=0.3)


def test_no_attribution_is_a_matter_of_rounding():
    """Each percentage keeps away from the middle between two that are written."""
    for before, after, parts in cases("12.5"):
        names = {}
        for sign, model in ((1, before), (-1, after)):
            for name, p in model.named_parameters():
                pieces = name.split(".")
                home = next((part for part in parts if part in pieces), "rest")
                names[home] = names.get(home, 0) + sign * p.numel()
        for n in names.values():
            tenths = 1000 * n / sum(names.values())
            assert abs(tenths % 1 - 0.5) > 1e-6


def test_a_model_of_shapes_is_a_model():
    model = Model({"a.w": (2, 3), "b": ()}, tied={"c.w": "a.w"}, buffers={"a.m": (4,)})
    assert sum(p.numel() for p in model.parameters()) == 7
    assert [n for n, _ in model.named_parameters()] == ["b", "a.w"]
    assert sorted(model.state_dict()) == ["a.m", "a.w", "b", "c.w"]
    again = eval(repr(model))
    assert repr(again) == repr(model) and model.c.w is model.a.w


def test_oracle_of_rows_is_the_package():
    for (W,) in cases("13.1"):
        codes, scale = find("13.1").loop(W)
        s, zero = quantize.scale_and_zero(W, 8, symmetric=True)
        torch.testing.assert_close(scale, s)
        assert torch.equal(
            codes, (quantize.nearest(W, s, zero, 8) - zero).to(torch.int8)
        )


def test_oracle_of_groups_is_the_package():
    for W, size in cases("13.2"):
        packed, scale, zero = find("13.2").loop(W, size)
        parts = [quantize.scale_and_zero(p, 4, False) for p in W.split(size, dim=1)]
        s, z = (torch.cat(x, dim=1) for x in zip(*parts))
        torch.testing.assert_close(scale, s)
        assert torch.equal(zero, z.to(torch.uint8))
        s, z = (x.repeat_interleave(size, dim=1) for x in (s, z))
        bytes_here = quantize.pack(quantize.nearest(W, s, z, 4), 4)
        assert torch.equal(packed, bytes_here[:, : packed.shape[1]])


def test_oracle_of_int8_is_the_package():
    for x, codes, scale, bias in cases("13.4"):
        y = find("13.4").loop(x, codes, scale, bias)
        layer = quantize.DynamicInt8Linear(
            codes.float() + 128, scale, nn.Parameter(bias)
        )
        torch.testing.assert_close(y, layer(x).detach(), rtol=1e-4, atol=1e-4)


def test_oracle_of_feedback_is_the_package():
    for W, H, scale, bits in cases("13.5"):
        half = 2 ** (bits - 1)
        zero = torch.full_like(scale, half)
        theirs = quantize.round_with_feedback(W, H, scale, zero, bits, damp=0.0)
        assert torch.equal(find("13.5").loop(W, H, scale, bits), (theirs - half).char())


def off_the_middle(steps):
    """How near any of these numbers of steps comes to the middle between two."""
    return ((steps.double() % 1) - 0.5).abs().min()


def test_no_code_is_a_matter_of_rounding():
    """Numbers keep away from the middle between two codes, where styles may differ."""
    for (W,) in cases("13.1"):
        assert off_the_middle(W / find("13.1").loop(W)[1]) > 1e-4
    for W, size in cases("13.2"):
        _, scale, _ = find("13.2").loop(W, size)
        low = W.reshape(len(W), -1, size).amin(-1).clamp(max=0)
        steps = torch.cat([W / scale.repeat_interleave(size, 1), low / scale], 1)
        exact = steps.frac().abs() == 0.5  # in binary: the same in every style
        assert off_the_middle(steps.masked_fill(exact, 0)) > 1e-4
    for x, *_ in cases("13.4"):
        scale = x.abs().amax(-1, keepdim=True) / 127
        assert off_the_middle(x / scale.masked_fill(scale == 0, 1)) > 1e-4


def test_no_code_with_feedback_is_a_matter_of_rounding():
    for W, H, scale, bits in cases("13.5"):
        want = find("13.5").loop(W, H, scale, bits)
        for nudge in (-1e-5, 1e-5):
            moved = W + nudge * scale
            assert torch.equal(find("13.5").loop(moved, H, scale, bits), want)
