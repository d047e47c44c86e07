"""Number formats against torch's own, the loss scaler against torch's, policies by device."""

import copy
import math

import pytest
import torch
from torch import nn

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.precision import (
    BF16,
    FORMATS,
    FP8_E4M3,
    FP16,
    FP32,
    LossScaler,
    autocast_policy,
    decode,
    policy_for,
    round_to,
)

SMALL = [f for f in FORMATS.values() if f.bits <= 16]


def all_codes(format):
    return torch.arange(2**format.bits)


def torch_decodes(format):
    kind = torch.uint8 if format.bits == 8 else torch.uint16
    return all_codes(format).to(kind).view(format.dtype).double()


def equal(a, b):
    """Equal bit for bit, with any NaN equal to any other; -0 is not 0."""
    both_nan = a.isnan() & b.isnan()
    return bool((both_nan | ((a == b) & (a.signbit() == b.signbit()))).all())


# --- formats


@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
def test_limits_equal_torchs(format):
    info = torch.finfo(format.dtype)
    assert format.bits == info.bits and format.eps == info.eps
    assert format.largest == info.max
    assert format.smallest_normal == info.tiny
    assert format.smallest == info.smallest_normal * info.eps


@pytest.mark.parametrize("format", SMALL, ids=str)
def test_decode_equals_torch_over_all_codes(format):
    assert equal(decode(all_codes(format), format), torch_decodes(format))


def test_decode_fp32():
    codes = torch.randint(2**32, (100_000,), generator=torch.Generator().manual_seed(0))
    edges = [0, 1, 2**23 - 1, 2**23, 2**31 - 1, 2**31, 255 << 23, 511 << 23, 2**32 - 1]
    codes = torch.cat([codes, torch.tensor(edges)])
    assert equal(
        decode(codes, FP32), codes.to(torch.int32).view(torch.float32).double()
    )


def hard_cases(format):
    """All numbers of a format, the midpoints between neighbors, and what is just beside."""
    x = torch_decodes(format)
    x = x[x.isfinite()].unique()
    x = torch.cat([x, (x[1:] + x[:-1]) / 2]).float()
    beside = [torch.nextafter(x, torch.tensor(s * math.inf)) for s in (1, -1)]
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 3e38, -3e38]
    return torch.cat([x, *beside, torch.tensor(special)])


@pytest.mark.parametrize("format", SMALL, ids=str)
def test_round_to_equals_torch_at_every_number_and_midpoint(format):
    x = hard_cases(format)
    ours, theirs = round_to(x, format), x.to(format.dtype).float()
    if not format.infinite:  # of overflow, versions of torch make NaN or the largest
        over = x.abs() > round_to(x, format, saturate=True).abs()
        over &= x.abs() > format.largest * (1 + format.eps / 4)
        assert ours[over].isnan().all() and over.any()
        ours, theirs = ours[~over], theirs[~over]
    assert equal(ours, theirs)


def test_round_to_fp32():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(2**32, (200_000,), generator=generator)
    x = codes.to(torch.int32).view(torch.float32)
    x = x[x.isfinite()]
    up = torch.nextafter(x, torch.tensor(math.inf))
    middle = (x.double() + up.double()) / 2  # a tie, and what is just beside it
    beside = [
        torch.nextafter(middle, torch.tensor(s * 1e300).double()) for s in (1, -1)
    ]
    wide = torch.cat(
        [x.double(), middle, *beside, torch.tensor([1e300, -1e-320]).double()]
    )
    assert equal(round_to(wide, FP32), wide.float().double())
    assert equal(round_to(x, FP32), x)


def test_overflow_and_saturation():
    x = torch.tensor([1e9, -1e9, 465.0, 463.0])
    assert round_to(x, FP8_E4M3).isnan().tolist() == [True, True, True, False]
    assert round_to(x, FP8_E4M3, saturate=True).tolist() == [448, -448, 448, 448]
    assert round_to(x, FP16)[:2].tolist() == [math.inf, -math.inf]
    assert round_to(x, FP16, saturate=True)[:2].tolist() == [65504, -65504]


# --- the loss scaler


def injected(kind, at):
    """A loss of a small model whose gradients are fine but for the steps in `at`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x = torch.randn(8, 4)

    def loss(step):
        y = model(x).square().mean()
        return y * (kind if step in at else 1.0)

    return model, optimizer, loss


@pytest.mark.parametrize("kind", [math.inf, math.nan])
def test_overflow_skips_the_step_and_halves_the_factor(kind):
    model, optimizer, loss = injected(kind, at={3})
    scaler = LossScaler(factor=1024.0)
    for step in range(6):
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        optimizer.zero_grad()
        scaler.scale(loss(step)).backward()
        stepped = scaler.step(optimizer)
        weights, state = model.state_dict(), optimizer.state_dict()
        untouched = all(torch.equal(weights[k], before[0][k]) for k in weights)
        assert stepped == (step != 3) == (not untouched)
        assert scaler.factor == (1024.0 if step < 3 else 512.0)
        if step == 3:
            for i, slots in before[1]["state"].items():
                for name, x in slots.items():
                    assert torch.equal(state["state"][i][name], x)


def test_one_bad_number_in_one_gradient_is_enough():
    model, optimizer, loss = injected(1.0, at=())
    scaler = LossScaler()
    scaler.scale(loss(0)).backward()
    model[2].weight.grad[0, 1] = math.nan
    before = copy.deepcopy(model.state_dict())
    assert not scaler.step(optimizer)
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("start", [2.0**16, 2.0**126])
def test_factors_and_weights_equal_gradscalers(interval, start):
    bad = {2, 3, 9, 16, 17, 18}
    ours, our_optimizer, our_loss = injected(math.inf, bad)
    theirs, their_optimizer, their_loss = injected(math.inf, bad)
    scaler = LossScaler(start, growth_interval=interval)
    reference = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=interval)
    assert reference.is_enabled()
    factors = []
    for step in range(30):
        our_optimizer.zero_grad()
        scaler.scale(our_loss(step)).backward()
        scaler.step(our_optimizer)
        their_optimizer.zero_grad()
        reference.scale(their_loss(step)).backward()
        reference.step(their_optimizer)
        reference.update()
        factors.append(scaler.factor)
        assert scaler.factor == reference.get_scale()
    assert len(set(factors)) > 3
    for a, b in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(a, b)


def test_unscaled_gradients_are_the_plain_ones_and_can_be_clipped():
    model, optimizer, loss = injected(1.0, at=())
    loss(0).backward()
    plain = [p.grad.clone() for p in model.parameters()]
    optimizer.zero_grad()
    scaler = LossScaler()
    scaler.scale(loss(0)).backward()
    assert scaler.unscale(optimizer)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), plain))
    with pytest.raises(ConfigError, match="unscaled already"):
        scaler.unscale(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    clipped = [p.grad.clone() for p in model.parameters()]
    assert scaler.step(optimizer)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), clipped))


def test_a_resumed_scaler_goes_on_as_if_it_had_not_stopped():
    _, optimizer, loss = injected(1.0, at=())
    one, two = LossScaler(growth_interval=5), LossScaler(growth_interval=5)
    for step in range(12):
        loss(step).backward()
        one.step(optimizer)
        if step == 7:
            two.load_state_dict(one.state_dict())
        if step > 7:
            two.step(optimizer)
    assert two.state_dict() == one.state_dict() == {"factor": 2.0**18, "good_steps": 2}


def test_gradients_that_are_always_nan_are_reported():
    _, optimizer, loss = injected(math.nan, at=range(1000))
    scaler = LossScaler()
    with pytest.raises(ConfigError, match="however small"):
        for step in range(1000):
            optimizer.zero_grad()
            scaler.scale(loss(step)).backward()
            scaler.step(optimizer)


@pytest.mark.parametrize(
    "bad",
    [{"factor": 0}, {"growth": 1.0}, {"backoff": 1.0}, {"growth_interval": 0}],
)
def test_scaler_settings_out_of_range(bad):
    with pytest.raises(ConfigError):
        LossScaler(**bad)


# --- mixed precision


def train(format, scaler, steps=60, shrink=1.0):
    """The last losses of a tiny GPT on a text of letters, and how many steps were skipped.

    The loss is multiplied by `shrink` for the backward pass, to make gradients small.
    """
    torch.manual_seed(0)
    model = GPT(GPTConfig(27, 16, 1, 2, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    text = "the quick brown fox jumps over the lazy dog " * 20
    ids = torch.tensor([0 if c == " " else ord(c) - 96 for c in text])
    generator = torch.Generator().manual_seed(1)
    losses, skipped = [], 0
    for _ in range(steps):
        at = torch.randint(len(ids) - 17, (16, 1), generator=generator) + torch.arange(
            17
        )
        window = ids[at]
        with torch.autocast("cpu", format.dtype, enabled=format != FP32):
            _, loss = model(window[:, :-1], window[:, 1:])
        optimizer.zero_grad()
        if scaler is None:
            (shrink * loss).backward()
            optimizer.step()
        else:
            scaler.scale(shrink * loss).backward()
            skipped += not scaler.step(optimizer)
        losses.append(loss.item())
    return sum(losses[-10:]) / 10, skipped


def test_fp16_with_scaling_reaches_the_loss_of_fp32():
    # Gradients so small that most are 0 in fp16, as those of a large model are.
    shrink = 2.0**-22
    full, _ = train(FP32, None, shrink=shrink)
    scaled, _ = train(FP16, LossScaler(2.0**22), shrink=shrink)
    unscaled, _ = train(FP16, None, shrink=shrink)
    assert scaled == pytest.approx(full, rel=0.01)
    assert unscaled > 1.05 * full, "the test has no power: fp16 trains without scaling"


def test_the_scaler_finds_its_factor_from_far_too_high():
    full, _ = train(FP32, None)
    scaled, skipped = train(FP16, LossScaler(2.0**30), steps=80)
    assert 3 < skipped < 20 and scaled < 1.01 * full


# --- by device


def gpu(monkeypatch, name, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device=None: capability
    )


@pytest.mark.parametrize(
    "name, capability, format, scale",
    [
        ("Tesla T4", (7, 5), FP16, True),
        ("Tesla V100", (7, 0), FP16, True),
        ("NVIDIA A100", (8, 0), BF16, False),
        ("NVIDIA L4", (8, 9), BF16, False),
        ("NVIDIA H100", (9, 0), BF16, False),
    ],
)
def test_policy_of_a_gpu(monkeypatch, name, capability, format, scale):
    gpu(monkeypatch, name, capability)
    policy = autocast_policy()
    assert (policy.device_type, policy.format, policy.scale) == ("cuda", format, scale)
    assert name in policy.reason
    assert (policy.scaler() is not None) == scale


@pytest.mark.parametrize("has", [True, False])
def test_policy_of_a_cpu(monkeypatch, has):
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: has, raising=False)
    policy = autocast_policy(nn.Linear(2, 2))
    assert policy.format == (BF16 if has else FP32) and policy.scaler() is None
    with policy.autocast():
        y = nn.Linear(4, 4)(torch.ones(2, 4))
    assert y.dtype == (torch.bfloat16 if has else torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_policy_by_name_on_a_cpu(precision):
    policy = policy_for(precision, "cpu")
    assert policy.format == FORMATS[precision]
    assert (policy.scaler() is not None) == (precision == "fp16")
    with policy.autocast():
        y = nn.Linear(4, 4)(torch.ones(2, 4))
    assert y.dtype == policy.format.dtype


def test_auto_is_the_best_policy():
    assert policy_for("auto", "cpu") == autocast_policy("cpu")
    assert policy_for("auto", nn.Linear(2, 2)) == autocast_policy("cpu")


@pytest.mark.parametrize("wrong", ["fp64", "fp8_e4m3", "", None, 16])
def test_an_unknown_precision_names_the_choices(wrong):
    with pytest.raises(ConfigError, match='"fp32", "bf16", "fp16", "auto"'):
        policy_for(wrong, "cpu")


def test_what_a_machine_does_not_have_says_what_to_use(monkeypatch):
    gpu(monkeypatch, "Tesla T4", (7, 5))
    assert policy_for("fp16", "cuda").scale and policy_for("auto", "cuda").scale
    assert not policy_for("fp32", "cuda").scale
    with pytest.raises(ConfigError, match=r'T4 .* has no bf16.* Use "fp16"'):
        policy_for("bf16", "cuda")
    with pytest.raises(ConfigError, match=r'not to be had.* Use "fp32"'):
        policy_for("fp16", "xla")


@pytest.mark.parametrize(
    "state",
    [{}, {"factor": math.inf, "good_steps": 0}, {"factor": 1.0, "good_steps": -1}],
)
def test_a_damaged_state_of_a_scaler_is_refused(state):
    scaler = LossScaler()
    with pytest.raises(ConfigError, match="state of a loss scaler"):
        scaler.load_state_dict(state)
    assert scaler.state_dict() == LossScaler().state_dict()


def test_policy_elsewhere_is_fp32():
    assert (
        autocast_policy("mps").format == FP32 and "mps" in autocast_policy("mps").reason
    )
