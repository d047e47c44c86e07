"""The runs behind the table of chapter 9: each has a name, and one command repeats it.

`babygpt-course reproduce babygpt-16` trains that model from its seed and prints the row.
The rows that the book shows are recorded in the package, each with where it came from.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from babygpt_course import (
    checkpoint,
    corpus,
    ledger,
    precision,
    results,
    resume,
    trainer,
)
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.plots import bits
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import TrainConfig

HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Run:
    """One model, one text and one recipe.

    `text` is "tinystories", or "hex": a weight file read as if its hex digits were a text.
    `model` makes the config for a vocabulary of V characters.
    """

    name: str
    what: str  # for a person
    text: str
    model: Callable[[int], GPTConfig | LlamaConfig]
    train: TrainConfig


_SMALL = TrainConfig(
    steps=5_000, batch_size=64, lr=3e-3, warmup=100, weight_decay=0.1, eval_every=500
)
_FULL = replace(
    _SMALL, batch_size=8, lr=1e-3, eval_every=1_250, clip=1.0, precision="auto"
)


def _gpt(
    name: str, what: str, text: str, recipe: TrainConfig, T: int, L: int, H: int, C: int
) -> Run:
    """No bias in the blocks, and a head of its own with a bias: 12 C^2 + 4 C a block."""

    def config(V: int) -> GPTConfig:
        return GPTConfig(V, T, L, H, C, bias=False, tie=False, head_bias=True)

    return Run(name, what, text, config, replace(recipe, block_size=T))


def _llama(
    name: str, what: str, text: str, recipe: TrainConfig, T: int, L: int, H: int, C: int
) -> Run:
    def config(V: int) -> LlamaConfig:
        return LlamaConfig(C, L, H, vocab_size=V, max_seq_len=T, tie=False)

    return Run(name, what, text, config, replace(recipe, block_size=T))


_DUMP = "on the hex digits of a weight file"
RUNS = {
    run.name: run
    for run in (
        _gpt("hex-16", f"BabyGPT, 16 channels, {_DUMP}", "hex", _SMALL, 16, 4, 4, 16),
        _gpt("hex-32", f"BabyGPT, 32 channels, {_DUMP}", "hex", _SMALL, 32, 8, 8, 32),
        _gpt("babygpt-16", "BabyGPT, 16 channels", "tinystories", _SMALL, 16, 4, 4, 16),
        _gpt("babygpt-32", "BabyGPT, 32 channels", "tinystories", _SMALL, 32, 8, 8, 32),
        _gpt(
            "babygpt-256", "BabyGPT, 256 channels", "tinystories", _FULL, 64, 8, 8, 256
        ),
        _llama("llama-256", "LLaMA, 256 channels", "tinystories", _FULL, 64, 4, 4, 256),
    )
}
CHECKPOINTS = ("stories260K", "stories15M", "stories42M")
NAMES = (*RUNS, *CHECKPOINTS)
COLUMNS = (
    "model",
    "command",
    "parameters",
    "characters read",
    "bits per character",
    "minutes",
    "MFU",
    "machine",
)


def hex_digits(data: bytes) -> str:
    """Two digits for each byte, as a hex dump prints it: a text of 16 characters."""
    return data.hex()


def texts(name: str) -> tuple[str, str, str]:
    """The training, validation and test text of a run: 80, 10 and 10 % in a row.

    Raises:
        CorpusError, CheckpointError: the text or the weight file is neither in the
            cache nor on the network.
    """
    if RUNS[name].text == "hex":
        checkpoint.load("stories260K")  # downloads and checks the file
        file = corpus.data_folder() / "stories260K.bin"
        digits = hex_digits(file.read_bytes())
        a, b = len(digits) * 8 // 10, len(digits) * 9 // 10
        return digits[:a], digits[a:b], digits[b:]
    text = corpus.load(RUNS[name].text)
    return text.train, text.val, text.test


def prepare(name: str) -> tuple[nn.Module, CharTokenizer]:
    """The untrained model of a run, and the characters it reads.

    Raises:
        ConfigError: no run has this name.
    """
    _check(name)
    run = RUNS[name]
    chars = HEX if run.text == "hex" else "".join(sorted(set("".join(texts(name)))))
    tokenizer = CharTokenizer(chars)
    config = run.model(tokenizer.vocab_size)
    torch.manual_seed(run.train.seed)
    if isinstance(config, LlamaConfig):
        return Llama(config), tokenizer
    return GPT(config, fused=torch.cuda.is_available()), tokenizer


def reproduce(
    name: str,
    steps: int | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Train a run from its seed, or measure a published checkpoint; returns its row.

    The losses are those of the weights that were best on the validation text. The test
    text is read once, for the row. `seconds` are of training alone; characters and
    losses are counted in characters of the text, also where a model reads pieces. With a
    folder, a run that was stopped goes on.

    Raises:
        ConfigError: no run has this name.
        CorpusError, CheckpointError: a file is neither in the cache nor on the network.
    """
    _check(name)
    if name in CHECKPOINTS:
        return _measure(name)
    model, tokenizer = prepare(name)
    run, config = RUNS[name], replace(RUNS[name].train, progress=progress)
    if steps is not None:
        config = replace(config, steps=steps, eval_every=min(steps, config.eval_every))
    model.to(device)
    train_ids, val_ids, test_ids = (
        torch.tensor(tokenizer.encode(text)) for text in texts(name)
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(folder or temporary)
        history = trainer.train(model, (train_ids, val_ids), config, folder=folder)
        resume.load_weights(model, folder / resume.BEST)
    row = {
        "name": name,
        "what": run.what,
        "text": run.text,
        "params": sum(p.numel() for p in model.parameters()),
        "steps": config.steps,
        "best_step": int(history.best["step"]),
        "characters": int(history.last["tokens"]),
        "val_bits_per_char": bits(history.best["val_loss"]),
        "test_bits_per_char": bits(
            trainer.evaluate(model, test_ids, config.block_size)
        ),
        "seconds": history.last["seconds"],
    }
    return row | _speed(model, train_ids, config)


def _check(name: str) -> None:
    if name not in NAMES:
        raise ConfigError(f"No run is called {name!r}. They are: {', '.join(NAMES)}.")


def _measure(name: str) -> dict[str, Any]:
    """The row of a published checkpoint: it is loaded, and reads the two texts."""
    model, tokenizer = checkpoint.load(name)
    _, val, test = texts("babygpt-16")

    def bits_per_char(text: str) -> float:
        ids = torch.tensor(tokenizer.encode(text))
        nats = trainer.evaluate(model, ids, model.block_size, batch_size=16)
        return bits(nats * (len(ids) - 1) / len(text))

    return {
        "name": name,
        "what": f"{name}, published weights",
        "text": "tinystories",
        "params": sum(p.numel() for p in model.parameters()),
        "val_bits_per_char": bits_per_char(val),
        "test_bits_per_char": bits_per_char(test),
    }


def _speed(
    model: nn.Module, ids: torch.Tensor, config: TrainConfig, n: int = 15
) -> dict[str, Any]:
    """Tokens a second of a training step, the machine's peak, and the MFU they make.

    The step (forward, backward, optimizer) and the product of two matrices that is the
    peak take turns, so that other load slows both. Medians, after a warm-up.
    """
    device = next(model.parameters()).device
    policy = precision.policy_for(config.precision, device)
    optimizers = trainer.make_optimizers(model, config)
    generator = torch.Generator().manual_seed(config.seed)
    seconds, peaks = [], []
    for _ in range(n + 3):
        x, y = trainer.get_batch(ids, config.batch_size, config.block_size, generator)
        x, y = x.to(device), y.to(device)
        _wait(device)
        began = time.perf_counter()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        with policy.autocast():
            loss = model(x, y)[1]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        _wait(device)
        seconds.append(time.perf_counter() - began)
        peaks.append(ledger.measured_peak(policy.format.dtype, device, repeats=1))
    rate = config.batch_size * config.block_size / statistics.median(seconds[3:])
    peak = statistics.median(peaks[3:])
    return {
        "precision": policy.format.name,
        "tokens_per_second": rate,
        "peak_flops": peak,  # a second, of a product of matrices in this precision
        "mfu": ledger.mfu(rate, model, peak, config.block_size),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _wait(device: torch.device) -> None:
    """A GPU answers before it has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def command(name: str, steps: int | None = None) -> str:
    """What to type to get a row again; `steps` where they are not those of the run."""
    words = f"babygpt-course reproduce {name}"
    whole = RUNS[name].train.steps if name in RUNS else None
    return words if steps in (None, whole) else f"{words} --steps {steps}"


def record(row: dict[str, Any], path: Path) -> None:
    """Add a row of `reproduce` to a file of results, in place of an older one.

    One row for each name and each processor or GPU.
    """
    row = row | {"device": _device()}
    results.record(
        path,
        [row],
        key=("name", "device"),
        command=command(row["name"], row.get("steps")),
    )


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return results.cpu_name()


def recorded_table(text: str = "tinystories") -> results.Table:
    """The recorded runs on a text, each with the command that repeats it.

    Characters read in training, and bits per character on the test text. A published checkpoint whose file was not there
    when the rows were recorded has only the parameters that its header must have.
    """
    rows = [r for r in results.recorded("runs") if r["text"] == text]
    order = {name: i for i, name in enumerate(NAMES)}
    lines = []
    for r in sorted(rows, key=lambda r: (order[r["name"]], r["device"])):
        trained = "seconds" in r
        lines.append(
            [
                r["what"],
                f"`{r['command']}`",
                f"{r['params']:,}",
                f"{r['characters']:,}" if trained else "trained elsewhere",
                f"{r['test_bits_per_char']:.3f}",
                f"{r['seconds'] / 60:.1f}" if trained else "-",
                f"{100 * r['mfu']:.1f} %" if trained else "-",
                f"{r['device']}, {r['precision']}" if trained else "-",
            ]
        )
    missing = set(CHECKPOINTS) - {r["name"] for r in rows}
    for name in CHECKPOINTS if text == "tinystories" else ():
        if name in missing:
            n = checkpoint.CHECKPOINTS[name].n_params
            dashes = ["-"] * 3
            lines.append(
                [
                    f"{name}, published weights",
                    f"`{command(name)}`",
                    f"{n:,}",
                    "trained elsewhere",
                    "not measured: no file",
                    *dashes,
                ]
            )
    return results.Table(list(COLUMNS), lines)
