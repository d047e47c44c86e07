"""Training: Muon, parts of a batch, clipping, early stopping, runs that are killed."""

import math
import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from babygpt_course import checkpoint, resume, trainer
from babygpt_course.bigram import Bigram
from babygpt_course.errors import CheckpointError, ConfigError, CourseError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.muon import Muon, orthogonalize
from babygpt_course.precision import LossScaler, Policy
from babygpt_course.trainer import TrainConfig, evaluate, train

V = 11


def random_ids(n=1200, seed=0):
    return torch.randint(V, (n,), generator=torch.Generator().manual_seed(seed))


DATA = random_ids()[:1000], random_ids()[1000:]


def tiny_gpt(seed=0, **options):
    torch.manual_seed(seed)
    sizes = dict(vocab_size=V, block_size=8, n_layer=2, n_head=2, n_embd=16)
    return GPT(GPTConfig(**sizes | options), fused=False)


def tiny_llama(seed=0):
    torch.manual_seed(seed)
    return Llama(LlamaConfig(16, 2, 4, 2, vocab_size=V, max_seq_len=8), fused=False)


def tiny(steps=20, **options):
    sizes = dict(batch_size=4, block_size=8, eval_every=5, progress=False)
    return TrainConfig(steps=steps, **sizes | options)


def losses(history):
    return [(r["step"], r["train_loss"], r["val_loss"]) for r in history.rows]


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


class Overflows(GPT):
    """A GPT whose gradients are infinite at some steps; the count is in its state."""

    def __init__(self, *args, at, by=math.inf, **options):
        super().__init__(*args, **options)
        self.at, self.by = at, by
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, idx, targets=None, **options):
        logits, loss = super().forward(idx, targets, **options)
        if self.training:
            loss = loss * (self.by if int(self.calls) in self.at else 1.0)
            self.calls += 1
        return logits, loss


def overflows(seed=0, at=(3, 12, 13), dropout=0.0, **options):
    torch.manual_seed(seed)
    config = GPTConfig(V, 8, 2, 2, 16, dropout=dropout)
    return Overflows(config, fused=False, at=at, **options)


# --- Muon


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 5, 7)])
def test_orthogonalize_keeps_the_vectors_and_levels_the_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    inside = u.mT @ orthogonalize(x) @ vt.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert s.max() / s.min() > 2 and values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(inside, torch.diag_embed(values), atol=1e-9, rtol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_equals_torchs(weight_decay, monkeypatch):
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("this torch has no Muon")
    monkeypatch.setattr(
        torch.Tensor, "bfloat16", lambda x: x.clone()
    )  # work in float64
    g = torch.Generator().manual_seed(2)
    shapes = [(4, 4), (6, 3), (3, 6), (4, 4)]
    ours = [torch.nn.Parameter(torch.randn(s, generator=g).double()) for s in shapes]
    copies = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    pair = (
        (ours, Muon(ours, lr=0.05, weight_decay=weight_decay)),
        (copies, theirs(copies, lr=0.05, weight_decay=weight_decay)),
    )
    for _ in range(4):
        gradients = [torch.randn(s, generator=g).double() for s in shapes]
        for parameters, optimizer in pair:
            for p, gradient in zip(parameters, gradients):
                p.grad = gradient.clone()
            optimizer.step()
    for a, b in zip(ours, copies):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_muon_calls_a_closure_for_the_gradients_and_returns_its_loss():
    start = torch.eye(3) + torch.arange(3)
    ours, plain = (torch.nn.Parameter(start.clone()) for _ in range(2))
    closed, usual = Muon([ours], lr=0.1), Muon([plain], lr=0.1)

    def loss_of(p, optimizer):
        optimizer.zero_grad()
        loss = p.pow(2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        expected = loss_of(plain, usual)
        assert usual.step() is None
        assert closed.step(lambda: loss_of(ours, closed)) == expected
        assert torch.equal(ours, plain) and not torch.equal(ours, start)


def test_muon_takes_the_hidden_matrices_and_nothing_else():
    for model, n_each in [
        (tiny_gpt(), 4),
        (tiny_gpt(tie=False, head_bias=True), 4),
        (tiny_llama(), 7),
    ]:
        names = {id(p): n for n, p in model.named_parameters()}
        taken = {names[id(p)] for p in trainer.hidden_matrices(model)}
        assert len(taken) == 2 * n_each and all(n.startswith("blocks.") for n in taken)
        muon, adamw = trainer.make_optimizers(model, tiny(optimizer="muon"))
        owned = [p for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
        assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    with pytest.raises(ConfigError, match="adamw"):
        train(Bigram(V), DATA, tiny(optimizer="muon"))
    with pytest.raises(ConfigError, match="matrices"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def test_muon_learns_faster_than_adamw_on_a_pattern():
    """The text counts up; 60 steps of the same batches."""
    ids = torch.arange(1200) * torch.arange(1200) // 7 % V
    final = {}
    for optimizer in ("adamw", "muon"):
        config = tiny(60, optimizer=optimizer, lr=3e-3, batch_size=16, eval_every=60)
        final[optimizer] = train(tiny_gpt(), (ids[:1000], ids[1000:]), config).last
    assert final["muon"]["val_loss"] < final["adamw"]["val_loss"] < math.log(V)


# --- one step


def test_only_matrices_decay():
    (adamw,) = trainer.make_optimizers(tiny_gpt(), tiny(weight_decay=0.1))
    for group in adamw.param_groups:
        decays = {p.ndim >= 2 for p in group["params"]}
        assert decays == {group["weight_decay"] == 0.1}


@pytest.mark.parametrize("make", [tiny_gpt, tiny_llama])
def test_parts_of_a_batch_give_the_step_of_the_whole(make):
    models = [make().double() for _ in range(2)]
    whole, parts = (
        train(model, DATA, tiny(8, batch_size=12, accumulate=n))
        for model, n in zip(models, (1, 3))
    )
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    torch.testing.assert_close(losses(whole)[-1], losses(parts)[-1], atol=1e-9, rtol=0)


def test_clipping_shortens_long_gradients_only(monkeypatch):
    lengths = []
    step = torch.optim.AdamW.step

    def spy(self, *args):
        gradients = [p.grad for g in self.param_groups for p in g["params"]]
        lengths.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    models = {clip: tiny_gpt() for clip in (None, 1e9, 0.05)}
    seen = {}
    for clip, model in models.items():
        lengths.clear()
        train(model, DATA, tiny(10, lr=0.01, clip=clip))
        seen[clip] = list(lengths)
    assert seen[None] == seen[1e9] and same_weights(models[None], models[1e9])
    assert min(seen[None]) > 0.05
    assert all(n == pytest.approx(0.05, rel=1e-3) for n in seen[0.05])


def test_evaluation_does_not_count_as_training_time():
    class SlowToEvaluate(Bigram):
        def forward(self, idx, targets=None):
            if not self.training:
                time.sleep(0.05)
            return super().forward(idx, targets)

    began = time.perf_counter()
    history = train(SlowToEvaluate(V), DATA, tiny(20, eval_every=4))
    assert history.last["seconds"] < 0.2 < 0.3 < time.perf_counter() - began
    assert history.last["tokens"] == 20 * 4 * 8


def test_tokens_per_second_leaves_the_warm_up_out():
    rows = [
        dict(tokens=t, seconds=s) for t, s in [(0, 0), (10, 10), (20, 11), (30, 12)]
    ]
    assert trainer.History(rows).tokens_per_second == 10
    assert trainer.History(rows[:2]).tokens_per_second == 1


def test_dropout_depends_on_the_seed_alone_and_leaves_the_users_generator():
    runs = []
    for global_seed in (1, 2):
        model = tiny_gpt(dropout=0.3)
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        runs.append(losses(train(model, DATA, tiny())))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert runs[0] == runs[1]
    other = losses(train(tiny_gpt(dropout=0.3), DATA, tiny(seed=1)))
    assert other[0][2] == runs[0][0][2] and other[-1] != runs[0][-1]


@pytest.mark.parametrize(
    "setting",
    [
        {"optimizer": "sgd"},
        {"accumulate": 3},
        {"accumulate": 0},
        {"clip": 0},
        {"clip": math.inf},
        {"patience": 0},
        {"betas": (0.9, 1.0)},
        {"muon_lr": -1},
        {"precision": "fp8"},
        {"precision": None},
    ],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        TrainConfig(**setting)


def test_a_loss_that_is_not_finite_leaves_weights_and_files_alone(tmp_path):
    class BreaksAtStep7(Bigram):
        calls = 0

        def forward(self, idx, targets=None):
            logits, loss = super().forward(idx, targets)
            self.calls += self.training
            return logits, loss * (math.nan if self.calls > 7 else 1)

    model = BreaksAtStep7(V)
    with pytest.raises(ConfigError, match="nan at step 7"):
        train(model, DATA, tiny(), folder=tmp_path)
    assert model.logits.isfinite().all()
    assert resume.load_about(tmp_path / resume.LAST)["history"][-1]["step"] == 5


# --- precision

PATTERN = torch.arange(1200) * torch.arange(1200) // 7 % V


@pytest.mark.parametrize("make", [tiny_gpt, tiny_llama])
def test_half_precision_reaches_the_loss_of_fp32(make):
    final, spoilt = {}, {}
    for precision in ("fp32", "bf16", "fp16"):
        config = tiny(150, lr=3e-3, batch_size=16, eval_every=150, precision=precision)
        model = make()
        history = train(model, (PATTERN[:1000], PATTERN[1000:]), config)
        final[precision] = history.last["val_loss"]
        spoilt[precision] = history.last["train_loss"]
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert final["fp32"] < 0.8 * math.log(V)
    assert final["bf16"] == pytest.approx(final["fp32"], rel=0.01)
    assert final["fp16"] == pytest.approx(final["fp32"], rel=0.01)
    assert len(set(spoilt.values())) == 3, "the formats are not used"


def test_fp32_touches_nothing_and_auto_is_the_best_here(monkeypatch):
    def no_autocast(*args, **options):
        raise AssertionError("fp32 autocasts")

    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: False, raising=False)
    plain, auto = tiny_gpt(), tiny_gpt()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", no_autocast)
        train(plain, DATA, tiny())
        train(auto, DATA, tiny(precision="auto"))
    assert same_weights(plain, auto)
    monkeypatch.setattr(
        torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False
    )
    auto, half = tiny_gpt(), tiny_gpt()
    train(auto, DATA, tiny(precision="auto"))
    train(half, DATA, tiny(precision="bf16"))
    assert same_weights(auto, half) and not same_weights(auto, plain)


@pytest.mark.parametrize("by", [math.inf, math.nan])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_overflow_skips_the_step_and_halves_the_scale(optimizer, by, monkeypatch):
    seen = []
    step = LossScaler.step

    def spy(self, *optimizers):
        weights = [p.detach().clone() for p in model.parameters()]
        states = [len(o.state) for o in optimizers]
        factor = self.factor
        done = step(self, *optimizers)
        after = list(model.parameters())
        moved = [not torch.equal(a, b) for a, b in zip(weights, after)]
        grown = [len(o.state) for o in optimizers] != states
        seen.append((done, any(moved), self.factor / factor, grown))
        return done

    monkeypatch.setattr(LossScaler, "step", spy)
    model = overflows(at=(0, 3, 12), by=by)
    config = tiny(precision="fp16", optimizer=optimizer, clip=1.0, warmup=2)
    history = train(model, DATA, config)
    for i, each in enumerate(seen):
        skipped = i in (0, 3, 12)
        assert each[:3] == (not skipped, not skipped, 0.5 if skipped else 1.0)
        assert not (skipped and each[3])
    assert len(seen) == 20 and history.last["step"] == 20
    assert all(math.isfinite(row["train_loss"]) for row in history.rows)


def test_clipping_works_on_unscaled_gradients_of_all_parts(monkeypatch):
    lengths = []
    step = torch.optim.AdamW.step

    def spy(self, *args):
        gradients = [p.grad for g in self.param_groups for p in g["params"]]
        lengths.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    seen = {}
    for settings in [("fp32", None, 1), ("fp16", None, 1), ("fp16", None, 4)]:
        precision, clip, parts = settings
        lengths.clear()
        config = tiny(5, precision=precision, clip=clip, accumulate=parts)
        train(tiny_gpt(), DATA, config)
        seen[settings] = list(lengths)
    plain, *halves = seen.values()
    for half in halves:
        assert half == pytest.approx(plain, rel=0.02)
    lengths.clear()
    train(tiny_gpt(), DATA, tiny(5, precision="fp16", clip=0.05, accumulate=4))
    assert lengths == pytest.approx([0.05] * 5, rel=1e-3)


def test_a_loss_that_is_always_nan_is_reported_in_fp16_too():
    model = overflows(at=range(10_000), by=math.nan)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ConfigError, match="however small"):
        train(model, DATA, tiny(300, precision="fp16", eval_every=300))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


# --- early stopping, best and last


def test_early_stopping_keeps_the_best(tmp_path):
    """Noise can only be learned by heart: validation turns up, training stops."""
    model = tiny_gpt()
    data = DATA[0][:60], DATA[1]
    config = tiny(2000, lr=0.01, batch_size=8, patience=3)
    history = train(model, data, config, folder=tmp_path)
    rows = [r["val_loss"] for r in history.rows]
    assert history.last["step"] < 2000
    assert rows.index(min(rows)) == len(rows) - 1 - 3
    assert evaluate(model, data[1], 8) == history.last["val_loss"] > min(rows)
    best = checkpoint.load_model(tmp_path / resume.BEST)
    best.blocks[0].attention.fused = best.blocks[1].attention.fused = False
    assert evaluate(best, data[1], 8) == history.best["val_loss"]
    other = tiny_gpt(seed=1)
    resume.load_weights(other, tmp_path / resume.BEST)
    assert same_weights(best, other)
    resume.load_weights(other, tmp_path / resume.LAST)
    assert same_weights(model, other)


# --- resume


class Stop(Exception):
    pass


def stop_at(step):
    def on_eval(at, model):
        if at == step:
            raise Stop

    return on_eval


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "make", [lambda s=0: tiny_gpt(s, dropout=0.2), lambda s=0: tiny_llama(s)]
)
def test_a_resumed_run_has_the_same_bits(make, optimizer, tmp_path):
    config = tiny(30, optimizer=optimizer, lr=0.01, warmup=4, clip=1.0, accumulate=2)
    whole = make()
    expected = losses(train(whole, DATA, config))
    for stop in (15, 25):
        with pytest.raises(Stop):
            train(make(stop), DATA, config, stop_at(stop), folder=tmp_path / "run")
        if stop == 15:  # the run began from make(15), and forgets make(25)
            whole = make(15)
            expected = losses(train(whole, DATA, config))
    resumed = make(99)
    history = train(resumed, DATA, config, folder=tmp_path / "run")
    assert losses(history) == expected
    seconds = [row["seconds"] for row in history.rows]
    assert seconds == sorted(seconds) and len(set(seconds)) == len(seconds)
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [5, 10, 15])
def test_a_resumed_fp16_run_has_the_same_bits(optimizer, stop, tmp_path, monkeypatch):
    """With overflows before and after the interruption, and a scale that grows again."""
    monkeypatch.setattr(
        Policy,
        "scaler",
        lambda self: LossScaler(growth_interval=4) if self.scale else None,
    )
    about = dict(precision="fp16", lr=0.01, warmup=4, clip=1.0, accumulate=2)
    config = tiny(30, optimizer=optimizer, **about)
    at = (3, 12, 13, 40, 57)  # two calls are one step
    whole = overflows(at=at, dropout=0.2)
    expected = losses(train(whole, DATA, config, folder=tmp_path / "whole"))
    with pytest.raises(Stop):
        train(
            overflows(0, at, 0.2), DATA, config, stop_at(stop), folder=tmp_path / "run"
        )
    resumed = overflows(9, at, 0.2)
    assert losses(train(resumed, DATA, config, folder=tmp_path / "run")) == expected
    assert same_weights(whole, resumed)
    states = [
        resume.load_about(tmp_path / name / resume.LAST)["scaler"]
        for name in ("whole", "run")
    ]
    assert states[0] == states[1] and states[0]["factor"] != 2.0**16


@pytest.mark.parametrize("state", [None, {}, {"factor": -1.0, "good_steps": 0}])
def test_a_damaged_scaler_is_refused_with_a_clear_error(state, tmp_path, monkeypatch):
    config = tiny(precision="fp16")
    with monkeypatch.context() as patch:
        patch.setattr(LossScaler, "state_dict", lambda self: state)
        train(tiny_gpt(), DATA, config, folder=tmp_path)
    with pytest.raises(CheckpointError, match="loss scaler"):
        train(tiny_gpt(), DATA, config, folder=tmp_path)


def test_another_precision_in_the_folder_is_refused(tmp_path):
    train(tiny_gpt(), DATA, tiny(), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"precision = fp32; .* precision = fp16"):
        train(tiny_gpt(), DATA, tiny(precision="fp16"), folder=tmp_path)


def test_a_finished_run_is_read_not_trained(tmp_path):
    model = Bigram(V)
    first = train(model, DATA, tiny(lr=0.1), folder=tmp_path)
    again = Bigram(V)
    config = tiny(lr=0.1)
    assert train(again, DATA, config, stop_at(20), folder=tmp_path).rows == first.rows
    assert same_weights(model, again)


def test_another_run_in_the_folder_is_refused(tmp_path):
    train(tiny_gpt(), DATA, tiny(), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"config: steps = 20, lr = 0.001; .* 30, lr"):
        train(tiny_gpt(), DATA, tiny(30, lr=1e-4), folder=tmp_path)
    with pytest.raises(ConfigError, match="another data"):
        train(tiny_gpt(), (DATA[0].flip(0), DATA[1]), tiny(), folder=tmp_path)
    for other in (tiny_gpt(n_embd=32), tiny_gpt(n_head=4), tiny_llama()):
        with pytest.raises(ConfigError, match=r"another model: GPT .*n_head=2"):
            train(other, DATA, tiny(), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"another model: .* shape"):
        resume.load_weights(tiny_gpt(n_embd=32), tmp_path / resume.LAST)
    train(tiny_gpt(), DATA, tiny(progress=True), folder=tmp_path)  # only looks differ


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / resume.LAST
    with pytest.raises(Stop):
        train(tiny_gpt(), DATA, tiny(), stop_at(10), folder=tmp_path)
    old = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            train(tiny_gpt(), DATA, tiny(), folder=tmp_path)
    assert path.read_bytes() == old
    model, whole = tiny_gpt(1), tiny_gpt()
    train(model, DATA, tiny(), folder=tmp_path)
    train(whole, DATA, tiny())
    assert same_weights(model, whole)
    assert sorted(f.name for f in tmp_path.iterdir()) == [resume.BEST, resume.LAST]


def test_damaged_files_are_refused_with_a_clear_error(tmp_path):
    """300 files: cut short, or with bytes changed. None crashes, most are noticed."""
    config = tiny()
    train(tiny_gpt(), DATA, config, folder=tmp_path)
    path = tmp_path / resume.LAST
    whole = path.read_bytes()
    rng = random.Random(0)
    header = int.from_bytes(whole[:8], "little")
    refused = 0
    for i in range(300):
        if i % 3 == 0:
            damaged = whole[: rng.randrange(len(whole))]
        else:
            damaged = bytearray(whole)
            for _ in range(rng.choice([1, 4])):
                damaged[rng.randrange(8 + header)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            train(tiny_gpt(), DATA, config, folder=tmp_path)
        except CourseError as error:
            refused += 1
            assert str(tmp_path) in str(error)
    assert refused > 200
    path.write_bytes(b"\x80\x04\x95")  # the start of a pickle
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        train(tiny_gpt(), DATA, config, folder=tmp_path)


# --- kill -9

KILLED = tiny(160, optimizer="muon", lr=0.01, eval_every=2, warmup=10, clip=1.0)


# Imported once for all 20 runs; the last three are what a first run would wait for.
PRELOAD = [__name__, "torch._dynamo", "safetensors.torch", "tqdm.auto"]


def killed_run(folder, say):
    torch.set_num_threads(1)
    model = tiny_gpt(dropout=0.2)
    say.send("begun")
    train(model, DATA, KILLED, folder=folder)


def whole_files(folder):
    """Every checkpoint in the folder can be read to its end."""
    for file in folder.glob("*.safetensors"):
        tensors, _ = resume._read(file)
        assert all(
            x.isfinite().all() for x in tensors.values() if x.is_floating_point()
        )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_twenty_kills_at_random_moments_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    whole = tiny_gpt(dropout=0.2)
    expected = losses(train(whole, DATA, KILLED))
    process = multiprocessing.get_context("forkserver")
    process.set_forkserver_preload(PRELOAD)
    rng = random.Random(4)
    kills, runs, reached = 0, 0, set()

    def check(folder):
        model = tiny_gpt(seed=9, dropout=0.2)
        assert losses(train(model, DATA, KILLED, folder=folder)) == expected
        assert same_weights(whole, model)
        assert sorted(f.name for f in folder.iterdir()) == [resume.BEST, resume.LAST]

    while kills < 20 or len(reached) < 8:  # at eight different places at least
        assert kills < 200
        folder = tmp_path / str(runs)
        hear, say = process.Pipe(duplex=False)
        child = process.Process(target=killed_run, args=(folder, say))
        child.start()
        assert hear.poll(60) and hear.recv() == "begun"
        child.join(rng.uniform(0, 0.25))
        child.kill()  # kill -9, unless it has ended
        child.join()
        whole_files(folder)
        if child.exitcode == 0:
            check(folder)
            runs += 1
            continue
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        if (folder / resume.LAST).exists():
            about = resume.load_about(folder / resume.LAST)
            reached.add((runs, about["history"][-1]["step"]))
    check(tmp_path / str(runs))
