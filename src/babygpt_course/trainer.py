"""Fit a model to a text by gradient descent, and keep a history that plots itself.

Any model of the course fits: `model(idx, targets)` takes ids (B, T) and returns (logits, loss in nats).
"""

import math
import os
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from babygpt_course.errors import ConfigError


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    `lr` warms up linearly over `warmup` steps, then falls linearly to zero at the last step.

    Raises:
        ConfigError: a number outside its range, named with the range.
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

    def __post_init__(self):
        for name, least in [
            ("steps", 1),
            ("batch_size", 1),
            ("block_size", 1),
            ("warmup", 0),
            ("eval_every", 1),
        ]:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}.")
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be a finite number of at least 0; got {value!r}.")


@dataclass
class History:
    """What a run did: one row per evaluation, with losses in nats per token and seconds of training only."""

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        return self.rows[-1]

    @property
    def best(self) -> dict[str, float]:
        """The row with the lowest validation loss: the one to report."""
        return min(self.rows, key=lambda row: row["val_loss"])

    def plot(self, *, lines: dict[str, float] | None = None, title: str | None = None):
        """Loss against step, training solid and validation dashed; `lines` are named levels in nats."""
        from babygpt_course import plots

        return plots.loss_curve(self.rows, lines=lines or {}, title=title)


def as_ids(ids: Tensor | list[int], block_size: int, what: str) -> Tensor:
    """A sequence of ids (N,) as int64, long enough for one window and its target."""
    ids = torch.as_tensor(ids, dtype=torch.int64)
    if ids.ndim != 1 or len(ids) < block_size + 1:
        raise ConfigError(
            f"The {what} data must be one sequence of at least block_size + 1 = {block_size + 1} ids; "
            f"got shape {tuple(ids.shape)}. Use a longer text or a smaller block_size."
        )
    return ids


def get_batch(
    ids: Tensor, batch_size: int, block_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random windows of ids (N,): inputs (B, T), and targets (B, T), the same windows one step later."""
    start = torch.randint(len(ids) - block_size, (batch_size, 1), generator=generator)  # (B, 1)
    at = start + torch.arange(block_size)  # (B, T)
    return ids[at], ids[at + 1]


@torch.no_grad()
def evaluate(model: nn.Module, ids: Tensor | list[int], block_size: int, batch_size: int = 256) -> float:
    """Mean loss in nats per token over the whole of ids (N,), in windows that do not overlap.

    Every target but a last partial window is scored once, so the number has no sampling noise.
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
        for xb, yb in zip(x.split(batch_size), y.split(batch_size))
    )
    model.train(was_training)
    return total / n


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate at a step: up over `warmup` steps, then straight down to zero at `steps`."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return config.lr * (config.steps - step) / (config.steps - config.warmup)


def train(
    model: nn.Module,
    data: tuple[Tensor | list[int], Tensor | list[int]],
    config: TrainConfig | None = None,
    on_eval=None,
) -> History:
    """Train in place with AdamW on `data` = (train ids, validation ids); returns the history.

    `on_eval(step, model)` is called at every evaluation, step 0 included. Evaluation does not count in
    the seconds of the history.

    Raises:
        ConfigError: data too short for one window, or a loss that is no longer finite.
    """
    config = config or TrainConfig()
    train_ids = as_ids(data[0], config.block_size, "training")
    val_ids = as_ids(data[1], config.block_size, "validation")
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    device = next(model.parameters()).device
    history, seconds, recent = History(), 0.0, []

    def record(step: int) -> None:
        train_loss = sum(recent) / len(recent) if recent else evaluate(model, train_ids, config.block_size)
        val_loss = evaluate(model, val_ids, config.block_size)
        history.rows.append(
            {"step": step, "train_loss": train_loss, "val_loss": val_loss, "seconds": seconds}
        )
        recent.clear()
        if on_eval is not None:
            on_eval(step, model)

    record(0)
    bar = _progress_bar(config)
    for step in range(config.steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        x, y = get_batch(train_ids, config.batch_size, config.block_size, generator)
        _, loss = model(x.to(device), y.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(float(loss.detach()))
        seconds += time.perf_counter() - began
        if not math.isfinite(recent[-1]):
            raise ConfigError(
                f"The training loss became {recent[-1]} at step {step}. A smaller lr than {config.lr} "
                "usually cures this; if not, look for a division by zero or a log of zero in the model."
            )
        bar.update()
        if (step + 1) % config.eval_every == 0 or step + 1 == config.steps:
            record(step + 1)
            bar.set_postfix_str(f"val loss {history.last['val_loss']:.3f}")
    bar.close()
    return history


def _progress_bar(config: TrainConfig):
    """A bar that goes away when it is done; none on the pages of the built book."""
    from tqdm.auto import tqdm

    hidden = not config.progress or "BABYGPT_COURSE_STATIC" in os.environ
    return tqdm(total=config.steps, desc="train", disable=hidden, leave=False)
