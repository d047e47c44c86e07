"""Files, read with suspicion, written whole or not at all, and downloaded.

A file is never trusted. Its sizes are compared with its length before memory is taken,
nothing in it is ever executed (no pickles), and what is wrong is a CheckpointError.
Texts and tokenizers use this too, so it is quick to import: no torch.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from babygpt_course.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT = 10.0  # seconds without a byte before a download counts as stalled
TRIES = 3
MAX_FILE = 2**26  # bytes: no tokenizer is near 64 MB, so a larger file is not read

# What a config that a stranger wrote can raise while it is read.
UNUSABLE = (
    *(AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError),
    ConfigError,
)

# --- writing --------------------------------------------------------------------------


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` only when all is on the disk.

    Raises:
        OSError: what the system says; `path` is then as it was.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """As `whole`, in a folder that is made if it is not there.

    Raises:
        CheckpointError: the file cannot be written; `path` is then as it was.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            yield part
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {path}: {error.strerror or error}. Is the folder writable, "
            "the disk full, or the old file still open (Windows)?"
        ) from None


def write_tokenizer(path: str | Path, data: bytes) -> None:
    """Write a small file, whole or not at all, into a folder that is there.

    Raises:
        CheckpointError: the file cannot be written; `path` is then as it was.
    """
    try:
        with whole(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {path}: {error.strerror or error}. Is there such a folder, "
            "and may you write in it?"
        ) from None


# --- reading --------------------------------------------------------------------------


def read_tokenizer(path: str | Path) -> bytes:
    """All bytes of a file that is no larger than a tokenizer can be.

    Raises:
        CheckpointError: the file is missing, or larger than MAX_FILE bytes.
    """
    try:
        if (size := Path(path).stat().st_size) > MAX_FILE:
            raise CheckpointError(
                f"{path} has {size:,} bytes; a tokenizer has at most {MAX_FILE:,}. "
                "Is it the file of a model?"
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path}: {error.strerror or error}. Check the path."
        ) from None


def read_start(path: Path, n: int = 64) -> bytes:
    """The first n bytes of a regular file, or fewer.

    Raises:
        CheckpointError: the file is missing, a folder or a pipe, or cannot be read.
    """
    try:
        if not path.is_file():
            raise CheckpointError(
                f"{path} is not there, or not a file. Check the path."
            )
        with open(path, "rb") as f:
            return f.read(n)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from None


def guess(start: bytes) -> str:
    """A sentence for a message, if a file that starts like this is of a known kind."""
    if start[:4] == b"24ka":  # the integer "ak42", lowest byte first
        return "it is a llama2.c file of version 1 or 2; export it as version 0. "
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return (
            "it looks like a pickle of torch.save, which can run code when it is read, "
            "so it is never opened here. "
        )
    if start[:4] == b"GGUF":
        return "it is a GGUF file. "
    return ""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# --- safetensors ----------------------------------------------------------------------


class OpenTensors(Protocol):
    """What is used of an open safetensors file; the library gives no types."""

    def keys(self) -> list[str]:
        """The names of the tensors."""

    def get_tensor(self, name: str) -> Tensor:
        """One of them, in the shape and type of the file."""

    def metadata(self) -> dict[str, str] | None:
        """The texts of the header, if it has any."""


@contextmanager
def open_safetensors(path: Path) -> Iterator[OpenTensors]:
    """A safetensors file, memory-mapped, for reading.

    Raises:
        CheckpointError: the file is missing, cut off, or of another format.
    """
    import safetensors

    start = read_start(path)
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            yield f
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {guess(start)}{error}. Download "
            "or save it again."
        ) from None


def read_tensors(f: OpenTensors, path: Path, n_params: int) -> dict[str, Tensor]:
    """All tensors of an open file by name, in the shapes and types that it says.

    Raises:
        CheckpointError: they are not floating point of 16 to 64 bits, not finite, or
            fewer than n_params numbers.
    """
    tensors = {}
    for name in f.keys():  # noqa: SIM118 (it is no dictionary)
        if name.endswith((".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")):
            continue  # masks and tables that some files carry; they are no parameters
        tensors[name] = f.get_tensor(name)
    for x in tensors.values():
        if not x.is_floating_point() or x.element_size() < 2:
            raise CheckpointError(
                f"{path} holds weights of type {x.dtype}: a quantized model? Expected "
                "floating point of 16, 32 or 64 bits."
            )
    n = sum(x.numel() for x in tensors.values())
    if n < n_params:
        raise CheckpointError(
            f"{path} holds {n:,} numbers, but its config needs {n_params:,} "
            "parameters. The config belongs to another file, or one of the two is "
            "damaged."
        )
    check_finite(tensors, path)
    return tensors


def write_safetensors(
    tensors: dict[str, Tensor], path: str | Path, metadata: dict[str, str]
) -> None:
    """Write tensors of any shape by name, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; `path` is then as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    with replacing(path) as part:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Look for NaN and infinity in tensors that came from `path`.

    Raises:
        CheckpointError: there is one; the message names the tensor.
    """
    step = (
        2**20
    )  # numbers at a time, since isfinite takes as much memory as it looks at
    for name, x in tensors.items():
        flat = x.flatten()
        parts = (flat[i : i + step] for i in range(0, len(flat), step))
        if not all(part.isfinite().all() for part in parts):
            raise CheckpointError(
                f"{path} is damaged: {name} holds a NaN or an infinity. Download or "
                "export it again, or take an earlier checkpoint."
            )


# --- downloads ------------------------------------------------------------------------


class Broken(Exception):
    """A download that did not give the file, for a reason that may pass."""


class Refused(Broken):
    """One that another try would not give either, such as a page that is not there."""


def download(url: str, part: Path, n_bytes: int, sha256: str, label: str) -> None:
    """The first n_bytes of `url` into `part`, going on where a connection broke.

    Without a known `sha256` (an empty one) only the number of bytes is checked.

    Raises:
        Broken: the file did not arrive; the message is the reason of the last try.
        OSError: `part` cannot be written.
    """
    from tqdm.auto import tqdm

    with (
        open(part, "w+b") as out,
        tqdm(total=n_bytes, unit="B", unit_scale=True, desc=label, leave=False) as bar,
    ):
        for left in reversed(range(TRIES)):
            try:
                for at, chunk in _receive(url, out.tell(), n_bytes):
                    out.seek(at)
                    out.write(chunk)
                    bar.update(out.tell() - bar.n)
                if (n := out.tell()) < n_bytes:
                    raise Broken(
                        f"the connection ended after {n:,} of {n_bytes:,} bytes"
                    )
                out.seek(0)
                found = hashlib.file_digest(out, "sha256").hexdigest()
                if sha256 in ("", found):
                    return
                out.seek(0)  # nothing of it can be trusted
                raise Broken(
                    f"what arrived has SHA-256 {found[:12]}..., "
                    f"expected {sha256[:12]}..."
                )
            except Broken as error:
                if not left or isinstance(error, Refused):
                    raise
            time.sleep(0.2)


def _receive(url: str, start: int, n_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Offsets and bytes from `start` on, or from 0 if the server has no ranges."""
    span = f"bytes={start}-{n_bytes - 1}"
    headers = {"User-Agent": "babygpt-course", "Range": span}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            given = answer.headers.get("Content-Range", "")
            at = start if given.startswith(f"bytes {start}-") else 0
            while chunk := answer.read(min(2**16, n_bytes - at)):
                yield at, chunk
                at += len(chunk)
    except urllib.error.HTTPError as error:
        kind = Broken if error.code >= 500 else Refused
        raise kind(f"the server answered {error.code} {error.reason}") from None
    except OSError as error:  # no network, no such host, refused, stalled
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise Broken(f"{reason}") from None
    except http.client.HTTPException as error:
        raise Broken(f"the connection broke: {error}") from None
