"""Models in files: published ones by name, llama2.c's format, and safetensors.

Weights are memory-mapped: they are read when first used, and the file is never changed.
`files` reads and writes safely; `huggingface` has the folders of Hugging Face.
"""

import json
import math
import struct
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from babygpt_course import corpus, files, sentence_piece
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.files import UNUSABLE
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.huggingface import (
    GPT2_LAYER,
    GPT2_MATRICES,
    LLAMA_LAYER,
    MAX_LAYERS,
    MAX_ROTARY,
    Config,
    Model,
    check_plausible,
    empty,
    filled,
    from_huggingface,
    gpt2_names,
    gpt2_to_ours,
    gpt_to_gpt2,
    hf_llama_to_ours,
    llama_names,
    llama_to_hf,
    model_of,
    plain_state,
    to_huggingface,
)
from babygpt_course.llama import Llama, LlamaConfig, rotary_table

__all__ = [
    "CHECKPOINTS",
    "GPT2_LAYER",
    "GPT2_MATRICES",
    "HASHES",
    "HEADER",
    "KEY",
    "LAYERED",
    "LLAMA_LAYER",
    "MAX_LAYERS",
    "MAX_ROTARY",
    "MODELS",
    "TINYLLAMAS",
    "TOKENIZERS",
    "UNUSABLE",
    "from_huggingface",
    "gpt2_names",
    "gpt2_to_ours",
    "gpt_to_gpt2",
    "hf_llama_to_ours",
    "llama_names",
    "llama_to_hf",
    "load",
    "load_llama2c",
    "load_model",
    "save",
    "save_llama2c",
    "to_huggingface",
]

MODELS: dict[str, tuple[type[Config], type[Model]]] = {
    "gpt": (GPTConfig, GPT),
    "llama": (LlamaConfig, Llama),
}
# dim, hidden_dim, layers, heads, kv heads, +-V, max_seq_len
HEADER = struct.Struct("<7i")
KEY = "babygpt_course"  # of the config in the metadata of a safetensors file

# --- public checkpoints by name -------------------------------------------------------


def _size(config: LlamaConfig) -> int:
    """The bytes of a llama2.c file: header, weights, and the two rotary tables."""
    rotary = config.max_seq_len * config.head_dim
    return HEADER.size + 4 * (config.n_params + rotary)


CHECKPOINTS = {
    "stories260K": LlamaConfig(64, 5, 8, 4, 512, 172, 512),
    "stories15M": LlamaConfig(288, 6, 6, 6, 32_000, 768, 256),
    "stories42M": LlamaConfig(512, 8, 8, 8, 32_000, 1376, 1024),
    "stories110M": LlamaConfig(768, 12, 12, 12, 32_000, 2048, 1024),
}
HASHES = {  # SHA-256; of the two larger ones only the size and the header are known
    "stories260K": "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696",
    "stories15M": "cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a",
}
TINYLLAMAS = "https://huggingface.co/karpathy/tinyllamas/resolve/main/"
TOKENIZERS = {
    512: corpus.Download(
        "tok512.bin",
        TINYLLAMAS + "stories260K/tok512.bin",
        6_227,
        "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312",
        "",
        "MIT",
    ),
    32_000: corpus.Download(
        "tok32000.bin",
        "https://raw.githubusercontent.com/karpathy/llama2.c/master/tokenizer.bin",
        433_869,
        "50a52ef822ee9e83de5ce9d0be0a025a773d019437f58b5ff9dcafb063ece361",
        "",
        "MIT",
    ),
}


def load(name: str = "stories260K") -> tuple[Llama, sentence_piece.Llama2cTokenizer]:
    """A trained LLaMA and its tokenizer, by name, from the cache or the network.

    "stories260K" (1 MB), "stories15M" (61 MB), "stories42M" (167 MB) and "stories110M"
    (438 MB) write stories for children: karpathy/tinyllamas, MIT licence.

    Raises:
        ConfigError: an unknown name.
        CheckpointError: a file is damaged, or cannot be downloaded or kept.
    """
    if name not in CHECKPOINTS:
        raise ConfigError(
            f"Unknown checkpoint {name!r}. They are: {', '.join(CHECKPOINTS)}. For a "
            "file of your own use load_llama2c(path), load_model(path) or "
            "from_huggingface(...)."
        )
    config = CHECKPOINTS[name]
    folder = "stories260K/" if name == "stories260K" else ""
    url = f"{TINYLLAMAS}{folder}{name}.bin"
    file = f"{name}.bin"
    weights = corpus.Download(file, url, _size(config), HASHES.get(name, ""), "", "MIT")
    model = load_llama2c(_fetch(weights))
    if model.config != config:
        raise CheckpointError(
            f"The file of {name} holds another model, {model.config}. Expected "
            f"{config}. Delete {corpus.data_folder() / file} and load {name!r} again."
        )
    V = config.vocab_size
    return model, sentence_piece.load_llama2c(_fetch(TOKENIZERS[V]), vocab_size=V)


def _fetch(d: corpus.Download) -> Path:
    """The path of a public file in the cache, downloaded first if it is not there."""
    file = corpus.data_folder() / d.filename
    if not file.exists():
        try:
            with files.replacing(file) as part:
                files.download(d.url, part, d.n_bytes, d.sha256, d.filename)
        except files.Broken as error:
            raise CheckpointError(
                f"Cannot download {d.url}: {error}. Nothing was kept. Try again with a "
                f"connection, or put the file at {file} yourself."
            ) from None
    n_bytes = file.stat().st_size
    if n_bytes != d.n_bytes or (d.sha256 and files.sha256(file) != d.sha256):
        raise CheckpointError(
            f"The cached file {file} is damaged: {n_bytes:,} bytes where {d.n_bytes:,} "
            "are expected, or another SHA-256. Delete it and load it again."
        )
    return file


# --- llama2.c -------------------------------------------------------------------------

LAYERED = [  # in the file, all layers of the first stand before any of the second
    "norm1.weight",
    "attention.wq.weight",
    "attention.wk.weight",
    "attention.wv.weight",
    "attention.wo.weight",
    "norm2.weight",
    "mlp.w1.weight",
    "mlp.w2.weight",
    "mlp.w3.weight",
]


def _llama2c_order(config: LlamaConfig) -> list[str]:
    """The names of the tensors, in the order of the file."""
    layers = [f"blocks.{i}.{name}" for name in LAYERED for i in range(config.n_layers)]
    names = ["token_embedding.weight", *layers, "norm.weight", "cos", "sin"]
    return names if config.tie else [*names, "head.weight"]


def load_llama2c(path: str | Path) -> Llama:
    """The model in a llama2.c file of version 0, float32, memory-mapped.

    Seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size,
    max_seq_len; a negative vocab_size says that the head is not tied), the weights, and
    the rotary tables, of which the file's own are used. karpathy/llama2.c, export.py.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    path = Path(path)
    start = files.read_start(path)
    if len(start) < HEADER.size:
        raise CheckpointError(
            f"{path} has {len(start)} bytes; a llama2.c file starts with {HEADER.size} "
            "bytes of sizes. Download or export it again."
        )
    dim, hidden, layers, heads, kv_heads, vocab, length = HEADER.unpack_from(start)
    try:
        config = LlamaConfig(
            dim, layers, heads, kv_heads, abs(vocab), hidden, length, tie=vocab > 0
        )
    except ConfigError as error:
        raise CheckpointError(
            f"{path} is not a llama2.c file of version 0: {files.guess(start)}{error}"
        ) from None
    n_bytes = path.stat().st_size
    if n_bytes != _size(config):
        raise CheckpointError(
            f"{path} has {n_bytes:,} bytes, but the sizes at its start ({config}) need "
            f"{_size(config):,}. {files.guess(start)}It is cut off, damaged or not a "
            "llama2.c file of version 0. Download or export it again."
        )
    check_plausible(config, path)
    # "c" is copy-on-write: training changes private pages, never the file.
    floats = np.memmap(path, dtype="<f4", mode="c", offset=HEADER.size)
    model = cast(Llama, empty(config))
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    shapes["cos"] = shapes["sin"] = model.cos.shape
    tensors, at = {}, 0
    for name in _llama2c_order(config):
        n = math.prod(shapes[name])
        tensors[name] = torch.from_numpy(floats[at : at + n].reshape(shapes[name]))
        at += n
    files.check_finite(tensors, path)
    rotary = tensors.pop("cos"), tensors.pop("sin")
    if not _same_rotary(rotary, config):
        raise CheckpointError(
            f"The rotary tables of {path} are not those of theta = "
            f"{config.rope_theta}, which the format fixes. The file is damaged. "
            "Download or export it again."
        )
    return filled(model, tensors, rotary)


def _same_rotary(rotary: tuple[Tensor, Tensor], config: LlamaConfig) -> bool:
    """Are these the tables of the config, but for the last bits of another machine?"""
    expected = rotary_table(config.head_dim, config.max_seq_len, config.rope_theta)
    return all((a - b).abs().max() < 1e-3 for a, b in zip(rotary, expected))


def save_llama2c(model: Llama, path: str | Path) -> None:
    """Write a LLaMA as a llama2.c file of version 0, in float32, whole or not at all.

    A model that came from such a file gives the same bytes again.

    Raises:
        ConfigError: the model is not a plain LLaMA, or has a theta or eps of its own.
        CheckpointError: the file cannot be written.
    """
    if not isinstance(model, Llama):
        raise ConfigError(
            f"llama2.c's format holds a Llama; got a {type(model).__name__}."
        )
    c = model.config
    if (c.rope_theta, c.norm_eps) != (10_000.0, 1e-5):
        raise ConfigError(
            "llama2.c's format has no place for rope_theta and norm_eps, which must be "
            f"10000 and 1e-05; got {c.rope_theta} and {c.norm_eps}. Use "
            "save(model, path)."
        )
    rotary = model.cos.cpu().float(), model.sin.cpu().float()
    if not _same_rotary(rotary, c):  # the model was rounded to 16 bits on its way here
        rotary = rotary_table(c.head_dim, c.max_seq_len, c.rope_theta)
    tensors = {**plain_state(model), "cos": rotary[0], "sin": rotary[1]}
    vocab = c.vocab_size if c.tie else -c.vocab_size
    sizes = (
        c.dim,
        c.hidden_dim,
        c.n_layers,
        c.n_heads,
        c.n_kv_heads,
        vocab,
        c.max_seq_len,
    )
    with files.replacing(path) as part, open(part, "wb") as f:
        f.write(HEADER.pack(*sizes))
        for name in _llama2c_order(c):
            f.write(tensors[name].detach().cpu().float().numpy().astype("<f4").data)


# --- safetensors ----------------------------------------------------------------------


def save(model: nn.Module, path: str | Path) -> None:
    """Write a GPT or a Llama as safetensors with its config, whole or not at all.

    Raises:
        ConfigError: the model is neither, or its layers have been replaced.
        CheckpointError: the file cannot be written.
    """
    kind = next((k for k, (_, cls) in MODELS.items() if type(model) is cls), None)
    # A class made from one of them may compute other numbers.
    if kind is None or not isinstance(model, GPT | Llama):
        raise ConfigError(
            f"save writes a GPT or a Llama; got a {type(model).__name__}."
        )
    about = json.dumps({"model": kind, "config": asdict(model.config)})
    files.write_safetensors(plain_state(model), path, {KEY: about})


def load_model(path: str | Path) -> Model:
    """The model that `save` wrote, memory-mapped.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    path = Path(path)
    with files.open_safetensors(path) as f:
        try:
            about = json.loads((f.metadata() or {})[KEY])
            config_class, _ = MODELS[about["model"]]
            config = config_class(**about["config"])
        except UNUSABLE as error:
            raise CheckpointError(
                f"{path} holds no usable config of this course ({error!r}). Was it "
                "written by checkpoint.save? For a Hugging Face folder use "
                "from_huggingface."
            ) from None
        check_plausible(config, path)
        tensors = files.read_tensors(f, path, config.n_params)
    return model_of(config, tensors, path)
