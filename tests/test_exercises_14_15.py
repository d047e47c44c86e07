"""The oracles of sets 14 and 15 are what the package and PyTorch compute."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course.exercises import exercises
from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.llama import (
    GroupedQueryAttention,
    LlamaConfig,
    RMSNorm,
    SwiGLU,
    apply_rotary,
    rotary_table,
)
from babygpt_course.precision import BF16, FP16, Format, LossScaler, round_to

ALL = {e.id: e for chapter in ("14", "15") for e in exercises(chapter)}


def loop(id):
    return ALL[id].loop


def cases(id):
    return [case.args for case in ALL[id].make_cases()]


def test_oracle_of_rounding_is_the_package_and_the_hardware():
    for x, E, M in cases("14.1"):
        package = round_to(x, Format("mine", E, M, torch.float32))
        torch.testing.assert_close(loop("14.1")(x, E, M), package, rtol=0, atol=0)
    x = torch.randn(500) * torch.exp2(20 * torch.randn(500))
    for f in (FP16, BF16):
        mine = loop("14.1")(x, f.exponent_bits, f.mantissa_bits)
        assert torch.equal(mine, x.to(f.dtype).float())


def test_oracle_of_the_scaler_is_the_package():
    for w, b, w_grad, b_grad, factor, good, lr, interval in cases("14.2"):
        scaler = LossScaler(factor, growth_interval=interval)
        scaler.good_steps = good
        params = [nn.Parameter(p.clone()) for p in (w, b)]
        for p, g in zip(params, (w_grad, b_grad)):
            p.grad = g.to(p.dtype, copy=True)
        scaler.step(torch.optim.SGD(params, lr=lr))
        args = w, b, w_grad, b_grad, factor, good, lr, interval
        *new, own_factor, own_good = loop("14.2")(*args)
        assert (own_factor, own_good) == (scaler.factor, scaler.good_steps)
        for mine, p in zip(new, params):
            torch.testing.assert_close(mine, p.detach(), rtol=1e-5, atol=1e-7)


def test_oracle_of_the_training_step_is_pytorch_with_a_scaler():
    for weight, bias, x, y, factor, lr, clip in cases("14.4"):
        w, b = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        optimizer = torch.optim.SGD([w, b], lr=lr)
        scaler = torch.amp.GradScaler("cpu", init_scale=factor, growth_interval=2)
        loss = F.mse_loss((x.half() @ w.half() + b.half()).float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([w, b], clip)
        scaler.step(optimizer)
        scaler.update()
        *mine, after = loop("14.4")(weight, bias, x, y, factor, lr, clip)
        assert after == scaler.get_scale()
        for p, q in zip((w, b), mine):
            torch.testing.assert_close(p.detach(), q, rtol=1e-5, atol=1e-7)


def test_no_order_of_sums_matters_in_the_training_step():
    """Every product and sum before the step is a number of fp16, or far beyond it."""
    for weight, bias, x, y, factor, _, _ in cases("14.4"):
        w, b, x, y = weight.double(), bias.double(), x.double(), y.double()
        pred = x @ w + b
        slope = factor * 2 * (pred - y) / len(y)
        rounded = slope.half().double()
        for exact in (w, b, x, x * w, pred, rounded[:, None] * x):
            exact = exact[exact.abs() < 65504]
            assert torch.equal(exact.half().double(), exact)
        sums = torch.cat(
            [(rounded[:, None] * x).abs().sum(0), rounded.abs().sum()[None]]
        )
        finite = sums[sums.isfinite()]
        assert ((finite < 60000) | (finite > 70000)).all()


def test_weight_and_debt_hold_the_true_sum():
    for weight, updates in cases("14.5"):
        w, lost = loop("14.5")(weight, updates)
        exact = weight.double() + updates.double().sum(0)
        # Each debt is rounded to 8 binary digits of at most half a gap.
        slack = len(updates) * 2.0**-18 * exact.abs().clamp(min=1)
        assert ((w.double() + lost.double() - exact).abs() <= slack).all()


def test_sums_in_float32_are_exact_where_two_numbers_are_kept():
    for weight, updates in cases("14.5"):
        sums = weight.double() + updates.double().cumsum(0)
        assert torch.equal(sums.float().double(), sums)


def test_oracle_of_the_norm_is_the_package():
    for x, weight, eps in cases("15.1"):
        norm = RMSNorm(x.shape[-1], eps)
        norm.weight.data = weight
        mine = loop("15.1")(x, weight, eps)
        torch.testing.assert_close(mine, norm(x).detach(), rtol=1e-5, atol=1e-6)


def test_oracle_of_the_turn_is_the_package():
    for x, positions, theta in cases("15.2"):
        cos, sin = rotary_table(x.shape[-1], 1 + int(positions.max()), theta)
        package = apply_rotary(x, cos[positions], sin[positions])
        mine = loop("15.2")(x, positions, theta)
        torch.testing.assert_close(mine, package, rtol=2e-5, atol=5e-7)


def test_oracle_of_the_layer_is_the_package_wherever_the_text_stands():
    for x, w, start in cases("15.4"):
        C = x.shape[-1]
        config = LlamaConfig(C, n_layers=1, n_heads=1, vocab_size=2)
        attention = GroupedQueryAttention(config, fused=False).to(x.dtype)
        q, k, v = w["qkv"].T.chunk(3)
        mlp, norm = SwiGLU(C, 8 * C // 3).to(x.dtype), RMSNorm(C).to(x.dtype)
        for module, state in (
            (attention, {"wq": q, "wk": k, "wv": v, "wo": w["out"].T}),
            (mlp, {name: w[name].T for name in ("w1", "w2", "w3")}),
        ):
            module.load_state_dict({f"{n}.weight": t for n, t in state.items()})
        cos, sin = (t[start:] for t in rotary_table(C, start + x.shape[1]))
        y = x + attention(norm(x), cos, sin)
        y = y + mlp(norm(y))
        mine = loop("15.4")(x, w, start)
        torch.testing.assert_close(mine, y.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine, loop("15.4")(x, w, 0), rtol=1e-4, atol=1e-5)


def test_oracle_of_swiglu_is_the_package_and_costs_no_more():
    for x, flat, old, multiple in cases("15.5"):
        C, h = x.shape[-1], 2 * old // 3 // multiple * multiple
        assert h > 0 and 3 * C * h <= 2 * C * old < 3 * C * (h + multiple)
        layer = SwiGLU(C, h).to(x.dtype)
        for part, numbers in zip(
            (layer.w1, layer.w2, layer.w3), flat[: 3 * C * h].reshape(3, -1)
        ):
            part.weight.data = numbers.reshape(part.weight.shape)
        mine = loop("15.5")(x, flat, old, multiple)
        torch.testing.assert_close(mine, layer(x).detach(), rtol=1e-4, atol=1e-5)


def test_an_input_with_nan_counts_as_unchanged():
    made = Exercise(
        "14_mixed_precision", "99.1", "t", "k", 1, 1, "predict", "a\n\nb\n\nc"
    )
    made.oracle(lambda x, listed: float(x.isnan().sum() + listed[0].isnan().sum()))
    both = torch.tensor([math.nan, 1.0, math.inf])
    made.cases(lambda: [Case((both, [both.clone()]))])
    assert made.grade(lambda x, listed: 2.0).passed

    def changes(at):
        def answer(x, listed):
            x[at] = 7.0
            return 2.0

        return answer

    for at in (0, 1, 2):
        assert made.grade(changes(at)).message_id == "modified-input"


@pytest.mark.parametrize("id", ["14.4", "15.4"])
def test_the_planted_fault_is_the_stub(id):
    result = ALL[id].grade(ALL[id].planted)
    assert result.message_id == "not-attempted" and "still in there" in result.says
