"""Models in files: llama2.c's format, safetensors, and the folders of Hugging Face.

A file is never trusted. Its sizes are compared with its length before memory is taken,
nothing in it is ever executed (no pickles), and what is wrong is a CheckpointError.
Weights are memory-mapped: they are read when first used, and the file is never changed.
"""

import hashlib
import json
import math
import os
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from babygpt_course import corpus
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig, rotary_table

MODELS = {"gpt": (GPTConfig, GPT), "llama": (LlamaConfig, Llama)}
HEADER = struct.Struct(
    "<7i"
)  # dim, hidden_dim, layers, heads, kv heads, +-V, max_seq_len
KEY = "babygpt_course"  # of the config in the metadata of a safetensors file
MAX_LAYERS = 1000
MAX_ROTARY = 2**24  # entries of a table that no file size vouches for: 64 MB

# What a config that a stranger wrote can raise while it is read.
UNUSABLE = (
    *(AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError),
    ConfigError,
)

# --- public checkpoints by name --------------------------------------------------------


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


def load(name: str = "stories260K") -> tuple[Llama, Any]:
    """A trained LLaMA and its tokenizer, by name, from the cache or the network.

    "stories260K" (1 MB), "stories15M" (61 MB), "stories42M" (167 MB) and "stories110M"
    (438 MB) write stories for children: karpathy/tinyllamas, MIT licence.

    Raises:
        ConfigError: an unknown name.
        CheckpointError: a file is damaged, or cannot be downloaded or kept.
    """
    if name not in CHECKPOINTS:
        raise ConfigError(
            f"Unknown checkpoint {name!r}. They are: {', '.join(CHECKPOINTS)}. For a file "
            "of your own use load_llama2c(path), load_model(path) or from_huggingface(...)."
        )
    from babygpt_course import tokenizer

    config = CHECKPOINTS[name]
    folder = "stories260K/" if name == "stories260K" else ""
    url = f"{TINYLLAMAS}{folder}{name}.bin"
    file = f"{name}.bin"
    weights = corpus.Download(file, url, _size(config), HASHES.get(name, ""), "", "MIT")
    model = load_llama2c(_fetch(weights))
    if model.config != config:
        raise CheckpointError(
            f"The file of {name} holds another model, {model.config}. Expected {config}. "
            f"Delete {corpus.data_folder() / file} and load {name!r} again."
        )
    V = config.vocab_size
    return model, tokenizer.load_llama2c(_fetch(TOKENIZERS[V]), vocab_size=V)


def _fetch(d: corpus.Download) -> Path:
    """The path of a public file in the cache, downloaded first if it is not there."""
    file = corpus.data_folder() / d.filename
    if not file.exists():
        with _replacing(file) as part:
            _download(d, part, file)
    n_bytes = file.stat().st_size
    if n_bytes != d.n_bytes or (d.sha256 and _sha256(file) != d.sha256):
        raise CheckpointError(
            f"The cached file {file} is damaged: {n_bytes:,} bytes where {d.n_bytes:,} are "
            "expected, or another SHA-256. Delete it and load it again."
        )
    return file


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _download(d: corpus.Download, part: Path, file: Path) -> None:
    """Stream a file into `part`; a broken connection goes on where it broke."""
    from tqdm.auto import tqdm

    part.unlink(missing_ok=True)
    reason = "the connection ended early"
    with tqdm(
        total=d.n_bytes, unit="B", unit_scale=True, desc=d.filename, leave=False
    ) as bar:
        for _ in range(corpus.TRIES):
            try:
                _download_rest(d, part, bar)
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason = str(error)
                time.sleep(0.2)
            if part.exists() and part.stat().st_size == d.n_bytes:
                if not d.sha256 or _sha256(part) == d.sha256:
                    return
                reason = "what arrived has another SHA-256 than expected"
                part.unlink()
    raise CheckpointError(
        f"Cannot download {d.url}: {reason}. Nothing was kept. Try again with a connection, "
        f"or put the file at {file} yourself."
    )


def _download_rest(d: corpus.Download, part: Path, bar) -> None:
    import http.client

    have = part.stat().st_size if part.exists() else 0
    span = f"bytes={have}-{d.n_bytes - 1}"
    headers = {"User-Agent": "babygpt-course", "Range": span}
    request = urllib.request.Request(d.url, headers=headers)
    with urllib.request.urlopen(request, timeout=corpus.TIMEOUT) as answer:
        if answer.status != 206:  # the server starts at the beginning
            have = 0
        bar.n = have
        with open(part, "ab" if have else "wb") as out:
            try:
                while chunk := answer.read(min(2**20, d.n_bytes - have)):
                    out.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
            except http.client.HTTPException as error:
                raise ConnectionError(f"the connection broke: {error}") from None


# --- llama2.c --------------------------------------------------------------------------

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

    Seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len; a
    negative vocab_size says that the head is not tied), the weights, and the rotary
    tables, of which the file's own are used. karpathy/llama2.c, export.py.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    path = Path(path)
    start = _read_start(path)
    if len(start) < HEADER.size:
        raise CheckpointError(
            f"{path} has {len(start)} bytes; a llama2.c file starts with {HEADER.size} bytes "
            "of sizes. Download or export it again."
        )
    dim, hidden, layers, heads, kv_heads, vocab, length = HEADER.unpack_from(start)
    try:
        config = LlamaConfig(
            dim, layers, heads, kv_heads, abs(vocab), hidden, length, tie=vocab > 0
        )
    except ConfigError as error:
        raise CheckpointError(
            f"{path} is not a llama2.c file of version 0: {_guess(start)}{error}"
        ) from None
    n_bytes = path.stat().st_size
    if n_bytes != _size(config):
        raise CheckpointError(
            f"{path} has {n_bytes:,} bytes, but the sizes at its start ({config}) need "
            f"{_size(config):,}. {_guess(start)}It is cut off, damaged or not a llama2.c "
            "file of version 0. Download or export it again."
        )
    _check_plausible(config, path)
    # "c" is copy-on-write: training changes private pages, never the file.
    floats = np.memmap(path, dtype="<f4", mode="c", offset=HEADER.size)
    with torch.device("meta"):
        model = Llama(config)  # shapes without memory
    shapes = {name: x.shape for name, x in model.state_dict().items()}
    shapes["cos"] = shapes["sin"] = model.cos.shape
    tensors, at = {}, 0
    for name in _llama2c_order(config):
        n = math.prod(shapes[name])
        tensors[name] = torch.from_numpy(floats[at : at + n].reshape(shapes[name]))
        at += n
    _check_finite(tensors, path)
    rotary = tensors.pop("cos"), tensors.pop("sin")
    if not _same_rotary(rotary, config):
        raise CheckpointError(
            f"The rotary tables of {path} are not those of theta = {config.rope_theta}, "
            "which the format fixes. The file is damaged. Download or export it again."
        )
    return _filled(model, tensors, rotary)


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
            f"10000 and 1e-05; got {c.rope_theta} and {c.norm_eps}. Use save(model, path)."
        )
    rotary = model.cos.cpu().float(), model.sin.cpu().float()
    if not _same_rotary(rotary, c):  # the model was rounded to 16 bits on its way here
        rotary = rotary_table(c.head_dim, c.max_seq_len, c.rope_theta)
    tensors = {**_plain_state(model), "cos": rotary[0], "sin": rotary[1]}
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
    with _replacing(path) as part, open(part, "wb") as f:
        f.write(HEADER.pack(*sizes))
        for name in _llama2c_order(c):
            f.write(tensors[name].detach().cpu().float().numpy().astype("<f4").data)


# --- safetensors -----------------------------------------------------------------------


def save(model: nn.Module, path: str | Path) -> None:
    """Write a GPT or a Llama as safetensors with its config inside, whole or not at all.

    Raises:
        ConfigError: the model is neither, or its layers have been replaced.
        CheckpointError: the file cannot be written.
    """
    kind = next((k for k, (_, cls) in MODELS.items() if type(model) is cls), None)
    if kind is None:
        raise ConfigError(
            f"save writes a GPT or a Llama; got a {type(model).__name__}."
        )
    about = json.dumps({"model": kind, "config": asdict(model.config)})
    _write_safetensors(_plain_state(model), path, {KEY: about})


def load_model(path: str | Path) -> GPT | Llama:
    """The model that `save` wrote, memory-mapped.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    path = Path(path)
    with _open_safetensors(path) as f:
        try:
            about = json.loads((f.metadata() or {})[KEY])
            config_class, model_class = MODELS[about["model"]]
            config = config_class(**about["config"])
        except UNUSABLE as error:
            raise CheckpointError(
                f"{path} holds no usable config of this course ({error!r}). Was it written "
                "by checkpoint.save? For a Hugging Face folder use from_huggingface."
            ) from None
        _check_plausible(config, path)
        tensors = _read_tensors(f, path, config.n_params)
    return _filled(_empty(model_class, config, tensors, path), tensors)


# --- Hugging Face ----------------------------------------------------------------------

# Ours -> theirs. Their GPT-2 keeps a weight as (in, out): MATRICES are transposed.
GPT2_LAYER = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.proj": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.fc": "mlp.c_fc",
    "mlp.proj": "mlp.c_proj",
}
GPT2_MATRICES = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
LLAMA_LAYER = {
    "norm1": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.down_proj",
    "mlp.w3": "mlp.up_proj",
}


def gpt2_names(config: GPTConfig) -> dict[str, str]:
    """Our parameter names -> those of transformers' GPT2LMHeadModel."""
    names = {
        "token_embedding.weight": "transformer.wte.weight",
        "position_embedding.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
        "head.weight": "lm_head.weight",
    }
    for i in range(config.n_layer):
        for ours, theirs in GPT2_LAYER.items():
            for kind in ("weight", "bias"):
                names[f"blocks.{i}.{ours}.{kind}"] = (
                    f"transformer.h.{i}.{theirs}.{kind}"
                )
    return names


def llama_names(config: LlamaConfig) -> dict[str, str]:
    """Our parameter names -> those of transformers' LlamaForCausalLM."""
    names = {
        "token_embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    }
    for i in range(config.n_layers):
        for ours, theirs in LLAMA_LAYER.items():
            names[f"blocks.{i}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    return names


def gpt_to_gpt2(model: GPT) -> dict[str, Tensor]:
    """The weights under the names and in the layout of GPT2LMHeadModel.

    GPT-2 always has biases: a model without them gets zeros, which change nothing.

    Raises:
        ConfigError: the head has a bias, for which GPT-2 has no place.
    """
    if model.config.head_bias:
        raise ConfigError(
            "GPT-2 has no bias in its head: use GPTConfig(head_bias=False)."
        )
    state, out = _plain_state(model), {}
    for ours, theirs in gpt2_names(model.config).items():
        if ours == "head.weight" and model.config.tie:
            continue
        if ours in state:
            x = state[ours]
            out[theirs] = x.T.contiguous() if theirs.endswith(GPT2_MATRICES) else x
        else:
            weight = state[ours.removesuffix("bias") + "weight"]  # (out, in)
            out[theirs] = weight.new_zeros(weight.shape[0])
    return out


def gpt2_to_ours(tensors: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The inverse of `gpt_to_gpt2`: a state for `GPT(config).load_state_dict`."""
    out = {}
    for ours, theirs in gpt2_names(config).items():
        x = tensors["transformer.wte.weight" if _tied(ours, config) else theirs]
        out[ours] = x.T if theirs.endswith(GPT2_MATRICES) else x
    return out


def llama_to_hf(model: Llama) -> dict[str, Tensor]:
    """The weights under the names and in the layout of LlamaForCausalLM."""
    state, out = _plain_state(model), {}
    for ours, theirs in llama_names(model.config).items():
        if ours in state:
            out[theirs] = _halves(state[ours], model.config, ours)
    return out


def hf_llama_to_ours(
    tensors: dict[str, Tensor], config: LlamaConfig
) -> dict[str, Tensor]:
    """The inverse of `llama_to_hf`: a state for `Llama(config).load_state_dict`."""
    out = {}
    for ours, theirs in llama_names(config).items():
        x = tensors["model.embed_tokens.weight" if _tied(ours, config) else theirs]
        out[ours] = _pairs(x, config, ours)
    return out


def _tied(name: str, config: GPTConfig | LlamaConfig) -> bool:
    return name == "head.weight" and config.tie


def _halves(x: Tensor, config: LlamaConfig, name: str) -> Tensor:
    """Rows of wq and wk: a head's pairs (0 1)(2 3)... become its halves (0 2 ...)(1 3 ...)."""
    if not name.endswith(("wq.weight", "wk.weight")):
        return x
    x = x.unflatten(0, (-1, config.head_dim // 2, 2))  # (H D, C) -> (H, D / 2, 2, C)
    return x.transpose(1, 2).flatten(0, 2)  # (H, 2, D / 2, C) -> (H D, C)


def _pairs(x: Tensor, config: LlamaConfig, name: str) -> Tensor:
    """The inverse of `_halves`."""
    if not name.endswith(("wq.weight", "wk.weight")):
        return x
    x = x.unflatten(0, (-1, 2, config.head_dim // 2))  # (H D, C) -> (H, 2, D / 2, C)
    return x.transpose(1, 2).flatten(0, 2)  # (H, D / 2, 2, C) -> (H D, C)


def to_huggingface(model: GPT | Llama, folder: str | Path) -> None:
    """Write config.json and model.safetensors, as transformers' from_pretrained reads them.

    Raises:
        ConfigError: a model for which GPT-2 and LLaMA have no place.
        CheckpointError: the folder cannot be written.
    """
    c = getattr(model, "config", None)
    if type(model) is GPT:
        tensors = gpt_to_gpt2(model)
        about = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": c.vocab_size,
            "n_positions": c.block_size,
            "n_embd": c.n_embd,
            "n_layer": c.n_layer,
            "n_head": c.n_head,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": c.norm_eps,
            "embd_pdrop": c.dropout,
            "resid_pdrop": c.dropout,
            "attn_pdrop": 0.0,
        }
    elif type(model) is Llama:
        tensors = llama_to_hf(model)
        about = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": c.vocab_size,
            "hidden_size": c.dim,
            "intermediate_size": c.hidden_dim,
            "num_hidden_layers": c.n_layers,
            "num_attention_heads": c.n_heads,
            "num_key_value_heads": c.n_kv_heads,
            "max_position_embeddings": c.max_seq_len,
            "rms_norm_eps": c.norm_eps,
            "rope_theta": c.rope_theta,  # transformers 4
            "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
            "hidden_act": "silu",
        }
    else:
        raise ConfigError(
            f"to_huggingface writes a GPT or a Llama; got a {type(model).__name__}."
        )
    about["tie_word_embeddings"] = c.tie
    about["torch_dtype"] = str(model.head.weight.dtype).removeprefix("torch.")
    folder = Path(folder)
    with _replacing(folder / "config.json") as part:
        part.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    _write_safetensors(tensors, folder / "model.safetensors", {"format": "pt"})


def from_huggingface(folder: str | Path) -> GPT | Llama:
    """The GPT-2 or LLaMA in a folder with config.json and model.safetensors.

    Raises:
        CheckpointError: a file is missing or damaged, or the model is of another kind.
    """
    folder = Path(folder)
    file = folder / "config.json"
    try:
        about = json.loads(_read_start(file, 2**20).decode("utf-8"))
        config = _hf_config(about)
    except UNUSABLE as error:
        raise CheckpointError(
            f"{file} is not the config of a GPT-2 or LLaMA that this course can hold: "
            f"{error!r}."
        ) from None
    path = folder / "model.safetensors"
    _check_plausible(config, path)
    with _open_safetensors(path) as f:
        tensors = _read_tensors(f, path, config.n_params)
    try:
        if isinstance(config, GPTConfig):
            if "wte.weight" in tensors:  # as OpenAI's own file names them
                tensors = {f"transformer.{name}": x for name, x in tensors.items()}
            model_class, tensors = GPT, gpt2_to_ours(tensors, config)
        else:
            model_class, tensors = Llama, hf_llama_to_ours(tensors, config)
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the tensor {error}.") from None
    except RuntimeError as error:  # a shape that does not divide into heads
        raise CheckpointError(
            f"{path} holds a tensor of a wrong shape: {error}."
        ) from None
    if config.tie:
        del tensors["head.weight"]
    return _filled(_empty(model_class, config, tensors, path), tensors)


def _hf_config(about: dict) -> GPTConfig | LlamaConfig:
    """Our config for theirs; a ConfigError for a variant that would compute other numbers."""

    def require(name: str, *allowed) -> None:
        if about.get(name, allowed[0]) not in allowed:
            raise ConfigError(f"{name} = {about[name]!r}, expected {allowed[0]!r}")

    tie = about.get("tie_word_embeddings")
    if about["model_type"] == "gpt2":
        require("activation_function", "gelu_new", "gelu_pytorch_tanh")
        require("n_inner", None, 4 * about["n_embd"])
        require("scale_attn_weights", True)
        require("scale_attn_by_inverse_layer_idx", False)
        require("add_cross_attention", False)
        return GPTConfig(
            vocab_size=about["vocab_size"],
            block_size=about["n_positions"],
            n_layer=about["n_layer"],
            n_head=about["n_head"],
            n_embd=about["n_embd"],
            dropout=about.get("resid_pdrop", 0.1),
            tie=True if tie is None else tie,
            norm_eps=about.get("layer_norm_epsilon", 1e-5),
        )
    require("model_type", "llama")
    require("hidden_act", "silu")
    require("attention_bias", False)
    require("mlp_bias", False)
    require("rope_scaling", None)
    require("head_dim", about["hidden_size"] // about["num_attention_heads"], None)
    rope = about.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(f"rope_type = {rope['rope_type']!r}, expected 'default'")
    return LlamaConfig(
        dim=about["hidden_size"],
        n_layers=about["num_hidden_layers"],
        n_heads=about["num_attention_heads"],
        n_kv_heads=about.get("num_key_value_heads"),
        vocab_size=about["vocab_size"],
        hidden_dim=about["intermediate_size"],
        max_seq_len=about["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta", about.get("rope_theta", 10_000.0))),
        norm_eps=about.get("rms_norm_eps", 1e-6),
        tie=False if tie is None else tie,
    )


# --- shared ----------------------------------------------------------------------------


@contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` only when all is on the disk."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(part, path)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {path}: {error.strerror or error}. Is the folder writable, the "
            "disk full, or the old file still open (Windows)?"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _read_start(path: Path, n: int = 64) -> bytes:
    """The first n bytes of a regular file, or fewer."""
    try:
        if not path.is_file():
            raise CheckpointError(
                f"{path} is not there, or not a file. Check the path."
            )
        with open(path, "rb") as f:
            return f.read(n)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from None


def _guess(start: bytes) -> str:
    """What a file of another format looks like, for the message."""
    if start[:4] == b"ak42"[::-1]:
        return "it is a llama2.c file of version 1 or 2; export it as version 0. "
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return (
            "it looks like a pickle of torch.save, which can run code when it is read, so "
            "it is never opened here. "
        )
    if start[:4] == b"GGUF":
        return "it is a GGUF file. "
    return ""


def _check_plausible(config: GPTConfig | LlamaConfig, path: Path) -> None:
    """Refuse sizes that would take memory or time that the file does not vouch for."""
    layers = config.n_layer if isinstance(config, GPTConfig) else config.n_layers
    if layers > MAX_LAYERS:
        raise CheckpointError(
            f"{path} claims {layers} layers; more than {MAX_LAYERS} are never loaded."
        )
    if isinstance(config, LlamaConfig):
        rotary = config.max_seq_len * config.head_dim
        if rotary > max(MAX_ROTARY, config.n_params):
            raise CheckpointError(
                f"{path} claims max_seq_len = {config.max_seq_len}, which would need rotary "
                "tables larger than the model. The file is damaged."
            )


def _check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    for name, x in tensors.items():
        # In chunks, since isfinite takes as much memory as what it looks at.
        if not all(chunk.isfinite().all() for chunk in x.flatten().split(2**20)):
            raise CheckpointError(
                f"{path} is damaged: {name} holds a NaN or an infinity. Download or export "
                "it again, or take an earlier checkpoint."
            )


@contextmanager
def _open_safetensors(path: Path):
    """A safetensors file, memory-mapped, for reading."""
    import safetensors

    start = _read_start(path)
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            yield f
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {_guess(start)}{error}. Download or "
            "save it again."
        ) from None


def _read_tensors(f, path: Path, n_params: int) -> dict[str, Tensor]:
    """All tensors of an open file: floating point, finite, and not fewer than needed."""
    tensors = {}
    for name in f.keys():  # noqa: SIM118 (it is no dictionary)
        if name.endswith((".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")):
            continue  # masks and tables that some files carry; they are no parameters
        tensors[name] = f.get_tensor(name)
    known = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    if odd := {x.dtype for x in tensors.values()} - {*known}:
        raise CheckpointError(
            f"{path} holds weights of type {odd.pop()}: a quantized model? Expected floating "
            "point of 16, 32 or 64 bits."
        )
    n = sum(x.numel() for x in tensors.values())
    if n < n_params:
        raise CheckpointError(
            f"{path} holds {n:,} numbers, but its config needs {n_params:,} parameters. "
            "The config belongs to another file, or one of the two is damaged."
        )
    _check_finite(tensors, path)
    return tensors


def _write_safetensors(
    tensors: dict[str, Tensor], path, metadata: dict[str, str]
) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    with _replacing(path) as part:
        try:
            save_file(tensors, part, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def _plain_state(model: GPT | Llama) -> dict[str, Tensor]:
    """The parameters by name, a tied head once.

    Raises:
        ConfigError: layers were added or replaced (adapters, quantized layers).
    """
    with torch.device("meta"):
        expected = type(model)(model.config).state_dict()
    state = model.state_dict()
    if {k: x.shape for k, x in state.items()} != {
        k: x.shape for k, x in expected.items()
    }:
        odd = sorted(state.keys() ^ expected.keys()) or ["of another shape"]
        raise ConfigError(
            f"This model is no longer a plain {type(model).__name__}: {odd[0]}, for "
            "example. Merge adapters and undo quantization first."
        )
    return {name: x for name, x in state.items() if not _tied(name, model.config)}


def _empty(model_class, config, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """A model without memory, after comparing names and shapes with what will fill it."""
    with torch.device("meta"):
        model = model_class(config)
    expected = {
        k: x.shape for k, x in model.state_dict().items() if not _tied(k, config)
    }
    found = {k: x.shape for k, x in tensors.items()}
    wrong = [k for k in expected.keys() | found if expected.get(k) != found.get(k)]
    if wrong:
        name = min(wrong)
        raise CheckpointError(
            f"{path} does not fit its config: {name} has shape "
            f"{tuple(found.get(name, ())) or 'none'}, expected "
            f"{tuple(expected.get(name, ())) or 'none'} ({len(wrong)} such tensors)."
        )
    return model


def _filled(
    model: nn.Module,
    tensors: dict[str, Tensor],
    rotary: tuple[Tensor, Tensor] | None = None,
):
    """The model with these tensors as its parameters, not copies of them."""
    if model.config.tie:
        tensors = {**tensors, "head.weight": tensors["token_embedding.weight"]}
    model.load_state_dict(tensors, assign=True)
    model.tie_weights()
    if isinstance(model, Llama):
        c = model.config
        rotary = rotary or rotary_table(c.head_dim, c.max_seq_len, c.rope_theta)
        model.cos, model.sin = (x.to(model.head.weight.dtype) for x in rotary)
    return model
