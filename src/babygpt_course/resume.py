"""The files of a training run, so that a run that was killed goes on exactly.

`best.safetensors` holds the weights with the lowest validation loss. `last.safetensors`
holds all that the next step depends on: weights, state of the optimizers, the generator
that draws the batches, and the history. A file is written aside and then renamed, so a
reader sees the old one or the new one, whole. Nothing is pickled.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from babygpt_course.errors import CheckpointError, ConfigError

LAST, BEST = "last.safetensors", "best.safetensors"
KEY = "babygpt_course_run"  # of what is no tensor, in the metadata of the file
GENERATOR = "generator/"  # what is no weight has a slash in its name


def save_state(
    path: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    generator: torch.Generator,
    about: dict[str, Any],
) -> None:
    """Write the whole state of a run; `about` is anything that JSON can hold.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = _weights(model) | {GENERATOR: generator.get_state()}
    for name, p, optimizer in _owned(model, optimizers):
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"{key}/{name}"] = value
    _write(path, tensors, {KEY: json.dumps(about)})


def load_about(path: Path) -> dict[str, Any]:
    """What `save_state` was told about the run.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    _, metadata = _read(path, tensors=False)
    try:
        return dict(json.loads(metadata[KEY]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(
            f"{path} is not the state of a training run. Use another folder."
        ) from None


def load_state(
    path: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    generator: torch.Generator,
) -> None:
    """Put everything back where `save_state` found it.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model or optimizer.
    """
    tensors, _ = _read(path)
    _fill(model, {k: x for k, x in tensors.items() if "/" not in k}, path)
    try:
        generator.set_state(tensors.pop(GENERATOR))
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} holds no usable generator: {error}.") from None
    for name, p, optimizer in _owned(model, optimizers):
        found = {k: x for k, x in tensors.items() if k.endswith(f"/{name}")}
        if any(x.shape not in (p.shape, ()) for x in found.values()):
            raise CheckpointError(
                f"{path}: the optimizer's state of {name} is damaged."
            )
        optimizer.state.pop(p, None)
        for key, x in found.items():
            # A count stays on the CPU. `copy`, since x may point into the file.
            where = p.device if x.shape else "cpu"
            optimizer.state[p][key.split("/")[0]] = x.to(where, copy=True)


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write the weights; a GPT or a Llama is a file that checkpoint.load_model reads.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from babygpt_course import checkpoint

    try:
        checkpoint.save(model, path)
    except ConfigError:  # another kind of model
        _write(Path(path), _weights(model), {})


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of best.safetensors or last.safetensors into the model.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    tensors, _ = _read(Path(path))
    weights = {name: x for name, x in tensors.items() if "/" not in name}
    _fill(model, weights, Path(path))


def sweep(folder: Path) -> None:
    """Make the folder, and remove files that a killed run had begun to write.

    Raises:
        CheckpointError: it cannot be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.part"):
            file.unlink()
    except OSError as error:
        raise CheckpointError(f"Cannot use the folder {folder}: {error}.") from None


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Everything in the state_dict, a tied tensor once, under its first name."""
    unique: dict[object, tuple[str, Tensor]] = {}
    for name, x in model.state_dict().items():
        unique.setdefault((x.data_ptr(), x.shape, x.stride()), (name, x))
    return dict(unique.values())


@torch.no_grad()
def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    into = _weights(model)
    for name in sorted(into.keys() | tensors.keys()):
        shapes = [tuple(d[name].shape) if name in d else None for d in (tensors, into)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{path} belongs to another model: {name} has the shape {shapes[0]} "
                f"in the file and {shapes[1]} in the model. Use the model it was "
                "written from, or another folder."
            )
    for name, x in tensors.items():
        into[name].copy_(x)


def _owned(
    model: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    """(name, parameter, its optimizer), one by one."""
    names = {p: name for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for p in group["params"]:
                yield names[p], p, optimizer


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    data = save(
        {k: x.detach().cpu().contiguous() for k, x in tensors.items()}, metadata
    )
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())  # on the disk before it has the name
        os.replace(part, path)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {path}: {error.strerror or error}. Is the folder writable, "
            "or the disk full?"
        ) from None


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as f:
            found = {k: f.get_tensor(k) for k in f.keys()} if tensors else {}  # noqa: SIM118
            return found, f.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}. Delete it to start anew."
        ) from None
