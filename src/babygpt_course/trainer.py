"""Fit a model to a text by gradient descent, and keep a history that plots itself.

Any model of the course fits: `model(idx, targets)` takes ids (B, T) and returns
(logits, loss in nats). With a folder, a run that was killed goes on where it was;
inside `distributed.team()` it is shared by several processes.
"""

import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from babygpt_course import distributed, resume
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.muon import Muon
from babygpt_course.precision import (
    LossScaler,
    Policy,
    check_precision,
    policy_for,
)

if TYPE_CHECKING:
    from babygpt_course.plots import Picture


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    `lr` warms up linearly over `warmup` steps, then falls linearly to zero at the last
    step. `optimizer` is "adamw", or "muon": Muon at `muon_lr` for the matrices of
    hidden layers, AdamW at `lr` for the rest. Only matrices decay.

    A step sees `batch_size` windows, in `accumulate` parts one after the other if
    memory is short. `clip` is the largest length of the gradient. With `patience`,
    training stops after that many evaluations without a new best.

    `precision` is the format of the matrix products: "fp32", "bf16", "fp16", or "auto",
    the best that the device has (see `precision.policy_for`). Weights, optimizers and
    evaluation stay in fp32. fp16 comes with a loss scaler: a step whose gradients
    overflow is skipped and the factor halved. Micikevicius et al. 2018.

    Raises:
        ConfigError: a setting outside its range, named with the range.
    """

    steps: int = 1000
    batch_size: int = 32  # B
    block_size: int = 64  # T
    lr: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.0
    eval_every: int = 100
    seed: int = 0
    progress: bool = True
    optimizer: str = "adamw"
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    accumulate: int = 1
    clip: float | None = None
    patience: int | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name, least in [
            ("steps", 1),
            ("batch_size", 1),
            ("block_size", 1),
            ("warmup", 0),
            ("eval_every", 1),
            ("accumulate", 1),
            ("patience", 1),
        ]:
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    f"{name} must be a whole number of at least {least}; got {value!r}."
                )
        for name in ("lr", "muon_lr", "weight_decay", "clip"):
            value = getattr(self, name)
            if name == "clip" and value is None:
                continue
            number = isinstance(value, (int, float)) and math.isfinite(value)
            if not (number and value >= 0):
                raise ConfigError(
                    f"{name} must be a finite number of at least 0; got {value!r}."
                )
        if self.clip == 0:
            raise ConfigError(
                "clip = 0 would erase every gradient; None is no clipping."
            )
        if self.optimizer not in ("adamw", "muon"):
            raise ConfigError(
                f'optimizer must be "adamw" or "muon"; got {self.optimizer!r}.'
            )
        check_precision(self.precision)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas must be two numbers from 0 to below 1; got {self.betas!r}."
            )
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"accumulate = {self.accumulate} must divide batch_size = "
                f"{self.batch_size}: all parts of a batch are of one size."
            )


@dataclass
class History:
    """What a run did, one row per evaluation.

    Losses are in nats per token; seconds and tokens are those of training only.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """The row of the last evaluation."""
        return self.rows[-1]

    @property
    def best(self) -> dict[str, float]:
        """The row with the lowest validation loss: the one to report."""
        return min(self.rows, key=lambda row: row["val_loss"])

    @property
    def tokens_per_second(self) -> float:
        """Tokens of training a second: the median of the intervals between evaluations.

        The first, a warm-up, is left out if there are more. Two rows at least.
        """
        rates = [
            (b["tokens"] - a["tokens"]) / (b["seconds"] - a["seconds"])
            for a, b in zip(self.rows, self.rows[1:])
        ]
        return statistics.median(rates[1:] or rates)

    def stalled(self, patience: int | None) -> bool:
        """Have the last `patience` evaluations brought no new best?"""
        if patience is None:
            return False
        return len(self.rows) - 1 - self.rows.index(self.best) >= patience

    def plot(
        self, *, lines: dict[str, float] | None = None, title: str | None = None
    ) -> "Picture":
        """Loss against step: training solid, validation dashed.

        `lines` are named levels in nats.
        """
        from babygpt_course import plots

        return plots.loss_curve(self.rows, lines=lines or {}, title=title)


def as_ids(ids: Tensor | list[int], block_size: int, what: str) -> Tensor:
    """A sequence of ids (N,) as int64, long enough for one window and its target.

    Raises:
        ConfigError: it is shorter, or not one sequence.
    """
    ids = torch.as_tensor(ids, dtype=torch.int64)
    if ids.ndim != 1 or len(ids) < block_size + 1:
        raise ConfigError(
            f"The {what} data must be one sequence of at least block_size + 1 = "
            f"{block_size + 1} ids; got shape {tuple(ids.shape)}. Use a longer text "
            "or a smaller block_size."
        )
    return ids


def get_batch(
    ids: Tensor, batch_size: int, block_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random windows of ids (N,): inputs (B, T) and targets (B, T), one step later."""
    start = torch.randint(
        len(ids) - block_size, (batch_size, 1), generator=generator
    )  # (B, 1)
    at = start + torch.arange(block_size)  # (B, T)
    return ids[at], ids[at + 1]


@torch.no_grad()
def evaluate(
    model: nn.Module, ids: Tensor | list[int], block_size: int, batch_size: int = 256
) -> float:
    """Mean loss in nats per token over all of ids (N,), in windows side by side.

    Every target but a last partial window is scored once, so the number has no sampling
    noise.

    Raises:
        ConfigError: fewer than block_size + 1 ids.
    """
    ids = as_ids(ids, block_size, "evaluation")
    n = (len(ids) - 1) // block_size  # windows
    x = ids[: n * block_size].view(n, block_size)  # (n, T)
    y = ids[1 : n * block_size + 1].view(n, block_size)  # (n, T)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = sum(
        len(xb) * float(model(xb.to(device), yb.to(device))[1])
        for xb, yb in zip(torch.split(x, batch_size), torch.split(y, batch_size))
    )
    model.train(was_training)
    return total / n


def learning_rate(step: int, config: TrainConfig, peak: float | None = None) -> float:
    """The rate at a step: up over `warmup` steps, then down to zero at `steps`.

    `peak` is the highest rate; without it, config.lr.
    """
    peak = config.lr if peak is None else peak
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    return peak * (config.steps - step) / (config.steps - config.warmup)


def make_optimizers(
    model: nn.Module, config: TrainConfig
) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov and Hutter 2019) and, if asked for, Muon before it.

    Each group of parameters carries the `peak` of its rate.

    Raises:
        ConfigError: Muon, and a model that has no matrix for it.
    """
    left = [p for p in model.parameters() if p.requires_grad]
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        matrices = hidden_matrices(model)
        if not matrices:
            raise ConfigError(
                'optimizer = "muon" needs linear layers between embedding and head; '
                f'this {type(model).__name__} has none. Use "adamw".'
            )
        group = {"params": matrices, "peak": config.muon_lr}
        optimizers.append(
            Muon([group], config.muon_lr, weight_decay=config.weight_decay)
        )
        taken = {id(p) for p in matrices}
        left = [p for p in left if id(p) not in taken]
    groups = [
        {
            "params": [p for p in left if (p.ndim >= 2) is decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "peak": config.lr,
        }
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    return [*optimizers, torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)]


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """The weights of linear layers, without a head and what is tied to an embedding.

    An embedding and a head hold a row for each token: a list of vectors, not a map.
    """
    modules = dict(model.named_modules())
    rows = {id(m.weight) for m in modules.values() if isinstance(m, nn.Embedding)}
    weights = [
        m.weight
        for name, m in modules.items()
        if isinstance(m, nn.Linear) and name.split(".")[-1] != "head"
    ]
    return [w for w in weights if w.requires_grad and id(w) not in rows]


def train(
    model: nn.Module,
    data: tuple[Tensor | list[int], Tensor | list[int]],
    config: TrainConfig | None = None,
    on_eval: Callable[[int, nn.Module], None] | None = None,
    folder: str | Path | None = None,
) -> History:
    """Train in place on `data` = (train ids, validation ids); returns the history.

    `on_eval(step, model)` is called at every evaluation, step 0 included. Evaluation
    does not count in the seconds of the history.

    With a folder, every evaluation leaves the whole state there, and a new best its
    weights (see `resume`). A run started again with the same folder goes on from the
    last evaluation; on one CPU thread it ends with the same bits as one that was never
    stopped. `resume.load_weights(model, folder / resume.BEST)` brings back the best.

    Raises:
        ConfigError: data too short for one window, a precision that this machine does
            not have, a loss that is no longer finite, or a folder with a run of another
            model, config or data.
        CheckpointError: the folder cannot be used, or a file in it is damaged.
    """
    config = config or TrainConfig()
    distributed.check_joined()
    parts = config.accumulate * distributed.size()
    if config.batch_size % parts:
        raise ConfigError(
            f"batch_size = {config.batch_size} does not divide into "
            f"{distributed.size()} processes times accumulate = {config.accumulate}."
        )
    train_ids = as_ids(data[0], config.block_size, "training")
    val_ids = as_ids(data[1], config.block_size, "validation")
    device = next(model.parameters()).device
    policy = policy_for(config.precision, device)
    scaler = policy.scaler()
    generator = torch.Generator().manual_seed(config.seed)
    optimizers = make_optimizers(model, config)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    history, step, seconds = History(), 0, 0.0
    recent: list[float] = []
    leads = distributed.rank() == 0
    folder = None if folder is None else Path(folder)
    if folder is not None:
        run = _describe(model, config, policy, train_ids, val_ids)
        if leads:
            resume.sweep(folder)
        if (folder / resume.LAST).exists():
            history.rows = _resume(folder, model, optimizers, generator, scaler, run)
            step, seconds = int(history.last["step"]), history.last["seconds"]
        distributed.wait()  # until all have read, before one writes

    def record() -> None:
        """Evaluate, keep the row, and leave everything in the folder."""
        row = {"step": step, "seconds": seconds}
        row["tokens"] = step * config.batch_size * config.block_size
        if recent:
            row["train_loss"] = sum(recent) / len(recent)
        else:  # as much of the training text as there is of the other
            row["train_loss"] = evaluate(
                model, train_ids[: len(val_ids)], config.block_size
            )
        val_loss = evaluate(model, val_ids, config.block_size)
        row["val_loss"] = distributed.mean(val_loss)  # all must agree on when to stop
        history.rows.append(row)
        recent.clear()
        if on_eval is not None and leads:
            on_eval(step, model)
        if folder is not None and leads:
            if history.best is row:
                resume.save_weights(model, folder / resume.BEST)
            about = {**run, "history": history.rows}
            if scaler is not None:
                about["scaler"] = scaler.state_dict()
            resume.save_state(folder / resume.LAST, model, optimizers, generator, about)

    devices = [device] if device.type == "cuda" else []
    # Dropout draws from the global generator. It is seeded anew at every step, so that
    # it depends on nothing but the step; afterwards the user has their own back.
    with torch.random.fork_rng(devices), _progress_bar(config, step) as bar:
        model.train()
        wrapped = distributed.wrap(model)
        if not history.rows:
            record()
        while step < config.steps and not history.stalled(config.patience):
            began = time.perf_counter()
            torch.manual_seed(_dropout_seed(step, config.seed))
            for group in groups:
                group["lr"] = learning_rate(step, config, group["peak"])
            x, y = get_batch(train_ids, config.batch_size, config.block_size, generator)
            x, y = distributed.rows(x).to(device), distributed.rows(y).to(device)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss = _backward(wrapped, x, y, config.accumulate, policy, scaler)
            finite = scaler is None or scaler.unscale(*optimizers)
            if finite and not math.isfinite(loss):
                raise ConfigError(
                    f"The training loss became {loss} at step {step}. A smaller lr "
                    f"than {config.lr} usually cures this; if not, look for a "
                    "division by zero or a log of zero in the model."
                )
            if config.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if scaler is None:
                for optimizer in optimizers:
                    optimizer.step()
            else:
                scaler.step(*optimizers)  # or skip it, and halve the factor
            seconds += time.perf_counter() - began
            if finite:
                recent.append(loss)
            step += 1
            bar.update()
            if step % config.eval_every == 0 or step == config.steps:
                record()
                bar.set_postfix_str(f"val loss {history.last['val_loss']:.3f}")
    return history


def _backward(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    parts: int,
    policy: Policy,
    scaler: LossScaler | None,
) -> float:
    """Add the gradient of the mean loss of a batch x, y (B, T); returns that loss.

    The gradients of the parts of a batch add up to that of the whole. A scaler leaves
    them scaled.
    """
    total = 0.0
    for i, (x_part, y_part) in enumerate(zip(x.chunk(parts), y.chunk(parts))):
        with nullcontext() if i + 1 == parts else distributed.no_sync(model):
            with policy.autocast():
                _, loss = model(x_part, y_part)
            share = loss / parts
            (share if scaler is None else scaler.scale(share)).backward()
        total += float(loss.detach()) / parts
    return distributed.mean(total)


def _dropout_seed(step: int, seed: int) -> int:
    """A seed of its own for every step and process."""
    text = f"{seed} {step} {distributed.rank()}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _describe(
    model: nn.Module, config: TrainConfig, policy: Policy, *data: Tensor
) -> dict[str, Any]:
    """What must be the same for a run to go on; of the data, a hash."""
    settings = {k: v for k, v in asdict(config).items() if k != "progress"}
    settings["precision"] = policy.format.name  # what "auto" is here
    digest = hashlib.sha256()
    for ids in data:
        digest.update(ids.cpu().contiguous().numpy().data)
    run = {
        "model": f"{type(model).__name__} {getattr(model, 'config', '')}".strip(),
        "data": digest.hexdigest(),
        "processes": distributed.size(),
        "config": settings,
    }
    plain: dict[str, Any] = json.loads(
        json.dumps(run)
    )  # lists for tuples, as in the file
    return plain


def _resume(
    folder: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    scaler: LossScaler | None,
    run: dict[str, Any],
) -> list[dict[str, float]]:
    """Bring back the state in the folder; the rows of its history."""
    path = folder / resume.LAST
    about = resume.load_about(path)
    for kind, new in run.items():
        old = about.get(kind)
        if old == new:
            continue
        if kind == "config" and isinstance(old, dict):
            keys = [k for k in new if old.get(k) != new[k]]
            old = ", ".join(f"{k} = {old.get(k)}" for k in keys)
            new = ", ".join(f"{k} = {new[k]}" for k in keys)
        raise ConfigError(
            f"{folder} holds a run with another {kind}: {old}; this one has {new}. A "
            "run goes on only as it began. Choose another folder, or delete this one."
        )
    rows = about.get("history")
    names = ("step", "seconds", "tokens", "train_loss", "val_loss")
    if not (
        isinstance(rows, list)
        and rows
        and all(isinstance(r, dict) for r in rows)
        and all(isinstance(r.get(n), (int, float)) for r in rows for n in names)
    ):
        raise CheckpointError(f"{path} has no history. Delete it to start anew.")
    if scaler is not None:
        try:
            scaler.load_state_dict(about["scaler"])
        except (KeyError, AttributeError, ConfigError):
            raise CheckpointError(
                f"{path} has no usable state of the loss scaler. Delete it to start anew."
            ) from None
    resume.load_state(path, model, optimizers, generator)
    return rows


def _progress_bar(config: TrainConfig, step: int) -> Any:
    """A bar that goes away when it is done; none on the pages of the built book."""
    from tqdm.auto import tqdm

    hidden = not config.progress or "BABYGPT_COURSE_STATIC" in os.environ
    hidden = hidden or distributed.rank() > 0
    return tqdm(
        total=config.steps, initial=step, desc="train", disable=hidden, leave=False
    )
