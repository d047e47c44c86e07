"""The folders of Hugging Face: GPT-2 and LLaMA under transformers' names and layouts.

At the end is what every format needs to make a model of named tensors, and the reverse.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from babygpt_course import files
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig, rotary_table

MAX_LAYERS = 1000
MAX_ROTARY = 2**24  # entries of a table that no file size vouches for: 64 MB

Config = GPTConfig | LlamaConfig
Model = GPT | Llama
AnyModel = TypeVar("AnyModel", bound=Model)

# --- names and layouts ----------------------------------------------------------------

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
        ConfigError: the head has a bias, for which GPT-2 has no place, or the model's
            layers have been replaced.
    """
    if model.config.head_bias:
        raise ConfigError(
            "GPT-2 has no bias in its head: use GPTConfig(head_bias=False)."
        )
    state = plain_state(model)
    out = {}
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
    """The inverse of `gpt_to_gpt2`: a state for `GPT(config).load_state_dict`.

    Raises:
        KeyError: a tensor is missing.
    """
    out = {}
    for ours, theirs in gpt2_names(config).items():
        x = tensors["transformer.wte.weight" if is_tied(ours, config) else theirs]
        out[ours] = x.T if theirs.endswith(GPT2_MATRICES) else x
    return out


def llama_to_hf(model: Llama) -> dict[str, Tensor]:
    """The weights under the names and in the layout of LlamaForCausalLM.

    Raises:
        ConfigError: the model's layers have been replaced.
    """
    state = plain_state(model)
    out = {}
    for ours, theirs in llama_names(model.config).items():
        if ours in state:
            out[theirs] = _halves(state[ours], model.config, ours)
    return out


def hf_llama_to_ours(
    tensors: dict[str, Tensor], config: LlamaConfig
) -> dict[str, Tensor]:
    """The inverse of `llama_to_hf`: a state for `Llama(config).load_state_dict`.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: the rows of a tensor do not divide into heads.
    """
    out = {}
    for ours, theirs in llama_names(config).items():
        x = tensors["model.embed_tokens.weight" if is_tied(ours, config) else theirs]
        out[ours] = _pairs(x, config, ours)
    return out


def _halves(x: Tensor, config: LlamaConfig, name: str) -> Tensor:
    """The rows (H D, C) of wq and wk, others as they are, for their order of pairs.

    A head's pairs (0 1)(2 3)... become its halves (0 2 ...)(1 3 ...).
    """
    if not name.endswith(("wq.weight", "wk.weight")):
        return x
    x = torch.unflatten(x, 0, (-1, config.head_dim // 2, 2))  # (H, D / 2, 2, C)
    return x.transpose(1, 2).flatten(0, 2)  # (H, 2, D / 2, C) -> (H D, C)


def _pairs(x: Tensor, config: LlamaConfig, name: str) -> Tensor:
    """The inverse of `_halves`."""
    if not name.endswith(("wq.weight", "wk.weight")):
        return x
    x = torch.unflatten(x, 0, (-1, 2, config.head_dim // 2))  # (H, 2, D / 2, C)
    return x.transpose(1, 2).flatten(0, 2)  # (H, D / 2, 2, C) -> (H D, C)


# --- folders --------------------------------------------------------------------------


def to_huggingface(model: Model, folder: str | Path) -> None:
    """Write config.json and model.safetensors for transformers' from_pretrained.

    Raises:
        ConfigError: a model for which GPT-2 and LLaMA have no place.
        CheckpointError: the folder cannot be written.
    """
    if type(model) is GPT:
        tensors = gpt_to_gpt2(model)
    elif type(model) is Llama:
        tensors = llama_to_hf(model)
    else:
        raise ConfigError(
            f"to_huggingface writes a GPT or a Llama; got a {type(model).__name__}."
        )
    about = _their_config(model.config)
    about["torch_dtype"] = str(model.head.weight.dtype).removeprefix("torch.")
    folder = Path(folder)
    with files.replacing(folder / "config.json") as part:
        part.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    files.write_safetensors(tensors, folder / "model.safetensors", {"format": "pt"})


def from_huggingface(folder: str | Path) -> Model:
    """The GPT-2 or LLaMA in a folder with config.json and model.safetensors.

    Raises:
        CheckpointError: a file is missing or damaged, or the model is of another kind.
    """
    folder = Path(folder)
    file = folder / "config.json"
    try:
        about = json.loads(files.read_start(file, 2**20).decode("utf-8"))
        config = _our_config(about)
    except files.UNUSABLE as error:
        raise CheckpointError(
            f"{file} is not the config of a GPT-2 or LLaMA that this course can hold: "
            f"{error!r}."
        ) from None
    path = folder / "model.safetensors"
    check_plausible(config, path)
    with files.open_safetensors(path) as f:
        tensors = files.read_tensors(f, path, config.n_params)
    try:
        if isinstance(config, LlamaConfig):
            tensors = hf_llama_to_ours(tensors, config)
        else:
            if "wte.weight" in tensors:  # as OpenAI's own file names them
                tensors = {f"transformer.{name}": x for name, x in tensors.items()}
            tensors = gpt2_to_ours(tensors, config)
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the tensor {error}.") from None
    except RuntimeError as error:  # a shape that does not divide into heads
        raise CheckpointError(
            f"{path} holds a tensor of a wrong shape: {error}."
        ) from None
    if config.tie:
        del tensors["head.weight"]
    return model_of(config, tensors, path)


def _their_config(config: Config) -> dict[str, Any]:
    """What transformers calls the numbers of our config."""
    about: dict[str, Any]
    if isinstance(config, GPTConfig):
        about = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": config.vocab_size,
            "n_positions": config.block_size,
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_eps,
            "embd_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "attn_pdrop": 0.0,
        }
    else:
        theta = config.rope_theta
        about = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": config.vocab_size,
            "hidden_size": config.dim,
            "intermediate_size": config.hidden_dim,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.n_kv_heads,
            "max_position_embeddings": config.max_seq_len,
            "rms_norm_eps": config.norm_eps,
            "rope_theta": theta,  # transformers 4
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            "hidden_act": "silu",
        }
    return {**about, "tie_word_embeddings": config.tie}


def _our_config(about: dict[str, Any]) -> Config:
    """Our config for theirs.

    Raises:
        ConfigError: a variant that would compute other numbers.
    """

    def require(name: str, *allowed: object) -> None:
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
    heads = about["num_attention_heads"]
    require("head_dim", about["hidden_size"] // heads, None)
    rope = about.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(f"rope_type = {rope['rope_type']!r}, expected 'default'")
    return LlamaConfig(
        dim=about["hidden_size"],
        n_layers=about["num_hidden_layers"],
        n_heads=heads,
        n_kv_heads=about.get("num_key_value_heads", heads),
        vocab_size=about["vocab_size"],
        hidden_dim=about["intermediate_size"],
        max_seq_len=about["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta", about.get("rope_theta", 10_000.0))),
        norm_eps=about.get("rms_norm_eps", 1e-6),
        tie=False if tie is None else tie,
    )


# --- a model and its tensors ----------------------------------------------------------


def is_tied(name: str, config: Config) -> bool:
    """Does this name the head, and is the head the token embedding?"""
    return name == "head.weight" and config.tie


class _Shapes(TorchFunctionMode):
    """On the device "meta", where only shapes count: draw no weights.

    Torch would import its compiler to find out the shape: 75 MB and a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs.get("tensor", args[0] if args else None)
        if func is torch.arange:
            return torch.arange(*args, device="cpu", **kwargs)
        return func(*args, **kwargs)


def empty(config: Config) -> Model:
    """A model of shapes without memory."""
    with torch.device("meta"), _Shapes():
        return GPT(config) if isinstance(config, GPTConfig) else Llama(config)


def check_plausible(config: Config, path: Path) -> None:
    """Refuse sizes that would take memory or time that the file does not vouch for.

    Raises:
        CheckpointError: too many layers, or a rotary table larger than the model.
    """
    layers = config.n_layer if isinstance(config, GPTConfig) else config.n_layers
    if layers > MAX_LAYERS:
        raise CheckpointError(
            f"{path} claims {layers} layers; more than {MAX_LAYERS} are never loaded."
        )
    if isinstance(config, LlamaConfig):
        rotary = config.max_seq_len * config.head_dim
        if rotary > max(MAX_ROTARY, config.n_params):
            raise CheckpointError(
                f"{path} claims max_seq_len = {config.max_seq_len}, which would need "
                "rotary tables larger than the model. The file is damaged."
            )


def plain_state(model: Model) -> dict[str, Tensor]:
    """The parameters by name, a tied head once.

    Raises:
        ConfigError: layers were added or replaced (adapters, quantized layers).
    """
    expected = empty(model.config).state_dict()
    state: dict[str, Tensor] = model.state_dict()
    if {k: x.shape for k, x in state.items()} != {
        k: x.shape for k, x in expected.items()
    }:
        odd = sorted(state.keys() ^ expected.keys()) or ["of another shape"]
        raise ConfigError(
            f"This model is no longer a plain {type(model).__name__}: {odd[0]}, for "
            "example. Merge adapters and undo quantization first."
        )
    return {name: x for name, x in state.items() if not is_tied(name, model.config)}


def model_of(config: Config, tensors: dict[str, Tensor], path: Path) -> Model:
    """The model with these tensors from `path`, but for a tied head, as parameters.

    Raises:
        CheckpointError: a name or a shape is not one of the config's.
    """
    model = empty(config)
    expected = {
        k: x.shape for k, x in model.state_dict().items() if not is_tied(k, config)
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
    return filled(model, tensors)


def filled(
    model: AnyModel,
    tensors: dict[str, Tensor],
    rotary: tuple[Tensor, Tensor] | None = None,
) -> AnyModel:
    """The model with these tensors as its parameters, not copies of them.

    The `rotary` tables of a Llama are (max_seq_len, D / 2) each, computed if not given.
    """
    if model.config.tie:
        tensors = {**tensors, "head.weight": tensors["token_embedding.weight"]}
    model.load_state_dict(tensors, assign=True)
    model.tie_weights()
    if isinstance(model, Llama):
        c = model.config
        rotary = rotary or rotary_table(c.head_dim, c.max_seq_len, c.rope_theta)
        model.cos, model.sin = (x.to(model.head.weight.dtype) for x in rotary)
    return model
