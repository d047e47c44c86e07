"""The same training in several processes: each takes its rows of every batch.

The gradients are averaged, so all take the same step, and the run is that of one
process with the whole batch. A file train.py that says

    with distributed.team():
        history = trainer.train(model, data, config, folder="runs/first")

runs as it is, or in two processes with `torchrun --nproc-per-node 2 train.py`.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn

from babygpt_course.errors import ConfigError


@contextmanager
def team() -> Iterator[int]:
    """Join the processes that torchrun started; gives the rank, 0 without torchrun.

    NCCL connects GPUs, gloo CPUs. Li et al. 2020, PyTorch Distributed.
    """
    if not _started() or _joined():
        yield rank()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process in its team, from 0. Rank 0 writes the files."""
    return dist.get_rank() if _joined() else 0


def size() -> int:
    """How many processes the team has."""
    return dist.get_world_size() if _joined() else 1


def device() -> torch.device:
    """Where the model of this process should live: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def check_joined() -> None:
    """Raise a ConfigError in a process of torchrun that is not in the team."""
    if _started() and not _joined():
        raise ConfigError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes that do not know "
            "of each other. Train inside `with distributed.team():`."
        )


def wrap(model: nn.Module) -> nn.Module:
    """The model to call while training: its backward pass averages over the team.

    The weights of rank 0 go to all. In a team of one it is the model itself.
    """
    return nn.parallel.DistributedDataParallel(model) if size() > 1 else model


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, a wrapped model adds up its own gradients and does not average yet."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def rows(x: Tensor) -> Tensor:
    """The rows of a batch x (B, ...) that this process works on: (B / size, ...)."""
    return x.chunk(size())[rank()]


def mean(number: float) -> float:
    """The mean of a number over the team; every process gets the same bits."""
    if size() == 1:
        return number
    total = torch.tensor(number, dtype=torch.float64, device=device())
    dist.all_reduce(total)
    return float(total) / size()


def wait() -> None:
    """Go on when all processes of the team are here."""
    if size() > 1:
        dist.barrier()


def _started() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
