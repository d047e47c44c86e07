"""Checkpoints: true to public files, there and back, and safe against damaged ones."""

import hashlib
import json
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from babygpt_course import checkpoint, corpus, huggingface, tokenizer, trainer
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.generate import generate, stream
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.llama import Llama, LlamaConfig
from tests.test_gpt import ids, random_gpt
from tests.test_llama import random_llama

GPTS = [
    GPTConfig(20, 8, 2, 2, 16),
    GPTConfig(20, 8, 2, 2, 16, bias=False, tie=False, dropout=0.1, norm_eps=1e-6),
]
LLAMAS = [
    LlamaConfig(16, 2, 4, 2, 20, 24, 8),
    LlamaConfig(16, 3, 4, 4, 20, 24, 8, tie=False),
]


def random_model(config, dtype=torch.float32):
    make = random_gpt if isinstance(config, GPTConfig) else random_llama
    return make(config).to(dtype)


def public(name):
    file = corpus.data_folder() / name
    if not file.exists():
        pytest.skip(f"{name} is not in the data cache {file.parent}")
    return file


def same(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


# --- true to the public files


@pytest.fixture(scope="module")
def golden():
    return json.loads(public("golden/stories260K_greedy.json").read_text())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kv_cache", [True, False])
def test_stories260k_writes_what_llama2c_writes(golden, kv_cache, fused):
    file = public("stories260K.bin")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == golden["sha256"]
    model = checkpoint.load_llama2c(file)
    for block in model.blocks:
        block.attention.fused = fused
    expected = golden["token_ids"]
    start = torch.tensor([expected[:1]])
    out = generate(model, start, len(expected) - 1, temperature=0, kv_cache=kv_cache)
    assert out[0].tolist() == expected


def test_load_by_name_gives_a_model_and_tokenizer_that_write_the_same_text(golden):
    public("stories260K.bin"), public("tok512.bin")
    model, tokenizer = checkpoint.load("stories260K")
    assert (
        model.config.n_params == sum(p.numel() for p in model.parameters()) == 260_032
    )
    new = len(golden["token_ids"]) - 1
    pieces = list(stream(model, tokenizer, "", new, temperature=0))
    assert "".join(pieces) == golden["text"] and len(pieces) > 200
    prompted = "".join(stream(model, tokenizer, "Once upon a time", 100, temperature=0))
    assert golden["text"].startswith(prompted)


@pytest.mark.parametrize("name", ["stories260K.bin", "babyllama_tok105_model5000.bin"])
def test_a_public_file_is_written_back_byte_for_byte(name, tmp_path):
    file = public(name)
    checkpoint.save_llama2c(checkpoint.load_llama2c(file), tmp_path / name)
    assert (tmp_path / name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_the_loss_of_stories260k_on_stories_cut_as_its_author_does():
    """Each story stripped, after <s> and a space, on 200,000 ids: 1.547 elsewhere."""
    model = checkpoint.load_llama2c(public("stories260K.bin"))
    tok512 = tokenizer.load_llama2c(public("tok512.bin"), 512)
    text = public("tinystories-train-2m.txt").read_bytes().decode("utf-8", "replace")
    ids: list[int] = []
    for story in text.split("<|endoftext|>"):
        if len(ids) < 200_000:
            ids += tok512.encode(story.strip())
    found = trainer.evaluate(model, torch.tensor(ids[:200_000]), 512, batch_size=32)
    assert found == pytest.approx(1.547, abs=0.0005)


@pytest.mark.slow
def test_the_loss_of_a_public_model_is_the_published_one():
    """babyllama_tok105: 0.7366 on its author's own shard, 0.7576 on the slice elsewhere.

    The slice does not say where a story starts, so both obvious streams are measured: one
    text without any start, and a start at each "Once upon a time". They lie around 0.7576.
    """
    model = checkpoint.load_llama2c(public("babyllama_tok105_model5000.bin"))
    vocabulary = public("babyllama_tok105.vocab").read_text(encoding="utf-8")
    pieces = [line.split("\t")[0] for line in vocabulary.split("\n") if line]
    assert len(pieces) == model.config.vocab_size and pieces[:2] == ["<unk>", "<s>"]
    text = public("tinystories-valid-slice.txt").read_text(encoding="utf-8")

    def encode(story: str) -> list[int]:
        """SentencePiece by hand: a space in front, line breaks together are one <unk>."""
        story = re.sub(r"\n+", "\n", " " + story).replace(" ", "\u2581")
        return [pieces.index(c) if c in pieces else 0 for c in story]

    def loss(stories: list[str]) -> float:
        stream = [i for story in stories for i in [1, *encode(story)]][:200_000]
        return trainer.evaluate(model, torch.tensor(stream), 256, batch_size=64)

    starts = re.split(r"\n\n(?=Once upon a time)", text)
    assert loss(starts) < 0.7576 < loss([text])
    assert loss(starts) == pytest.approx(0.7576, abs=0.006)
    assert loss([text]) == pytest.approx(0.7576, abs=0.009)


def test_sizes_of_the_public_files_follow_from_their_configs():
    sizes = {name: checkpoint._size(c) for name, c in checkpoint.CHECKPOINTS.items()}
    assert sizes["stories260K"] == 1_056_540 and sizes["stories15M"] == 60_816_028


# --- there and back


def test_llama2c_holds_float32_of_any_model(tmp_path):
    model = random_model(LLAMAS[0], torch.bfloat16)
    checkpoint.save_llama2c(model, tmp_path / "x.bin")
    assert same(checkpoint.load_llama2c(tmp_path / "x.bin"), model.float())


@pytest.mark.parametrize("config", LLAMAS)
def test_llama2c_there_and_back(config, tmp_path):
    model = random_model(config)
    path = tmp_path / "model.bin"
    checkpoint.save_llama2c(model, path)
    assert path.stat().st_size == checkpoint._size(config)
    vocab = struct.unpack_from("<7i", path.read_bytes())[5]
    assert vocab == (config.vocab_size if config.tie else -config.vocab_size)
    back = checkpoint.load_llama2c(path)
    assert back.config == config and same(model, back)
    assert torch.equal(back(ids(2, 8, 20))[0], model(ids(2, 8, 20))[0])


@pytest.mark.parametrize("tie", [True, False])
def test_llama2c_byte_by_byte(tie, tmp_path):
    """The whole file, put together here from llama2.c's own order of tensors."""
    config = LlamaConfig(16, 2, 4, 2, 20, 24, 8, tie=tie)
    model = random_llama(config).float()
    checkpoint.save_llama2c(model, tmp_path / "model.bin")
    V = 20 if tie else -20  # the sign says whether the head is a tensor of its own
    expected = struct.pack("<7i", 16, 24, 2, 4, 2, V, 8)

    def floats(x):
        return struct.pack(f"<{x.numel()}f", *x.flatten().tolist())

    expected += floats(model.token_embedding.weight)
    for part in (
        lambda block: block.norm1,
        lambda block: block.attention.wq,
        lambda block: block.attention.wk,
        lambda block: block.attention.wv,
        lambda block: block.attention.wo,
        lambda block: block.norm2,
        lambda block: block.mlp.w1,  # the gate
        lambda block: block.mlp.w2,  # down
        lambda block: block.mlp.w3,  # up
    ):
        for block in model.blocks:  # all layers of one tensor, then the next tensor
            expected += floats(part(block).weight)
    expected += floats(model.norm.weight)
    angles = [[t * 10_000 ** (-i / 4) for i in (0, 2)] for t in range(8)]  # D = 4
    found = (tmp_path / "model.bin").read_bytes()
    for turn in (math.cos, math.sin):
        table = struct.unpack_from("<16f", found, len(expected))
        assert table == pytest.approx([turn(a) for row in angles for a in row], 1e-5)
        expected += found[len(expected) :][: 4 * 16]
    expected += b"" if tie else floats(model.head.weight)
    assert found == expected


@pytest.mark.parametrize("config", [*GPTS, *LLAMAS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_safetensors_there_and_back(config, dtype, tmp_path):
    model = random_model(config, dtype)
    path = tmp_path / "new folder" / "model.safetensors"
    checkpoint.save(model, path)
    back = checkpoint.load_model(path)
    assert type(back) is type(model) and back.config == config and same(model, back)
    assert back.head.weight.dtype == dtype
    assert (back.head.weight is back.token_embedding.weight) == config.tie
    x = ids(2, 8, 20)
    assert torch.equal(back.eval()(x)[0], model.eval()(x)[0])


@pytest.mark.parametrize("kind", ["llama2c", "safetensors"])
def test_training_a_loaded_model_leaves_the_file_alone(kind, tmp_path):
    model = random_model(LLAMAS[0])
    path = tmp_path / "model"
    {"llama2c": checkpoint.save_llama2c, "safetensors": checkpoint.save}[kind](
        model, path
    )
    before = path.read_bytes()
    load = {"llama2c": checkpoint.load_llama2c, "safetensors": checkpoint.load_model}[
        kind
    ]
    trained = load(path)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    trained(ids(2, 8, 20), ids(2, 8, 20, seed=1))[1].backward()
    optimizer.step()
    assert not same(trained, model) and path.read_bytes() == before
    if kind == "safetensors":  # the file that is mapped can be replaced
        checkpoint.save(trained, path)
        assert same(load(path), trained)


@pytest.mark.parametrize("config", [*GPTS, *LLAMAS])
def test_transformers_reads_the_folder_and_the_folder_comes_back(config, tmp_path):
    from transformers import AutoModelForCausalLM

    model = random_model(config, torch.float64).eval()
    checkpoint.to_huggingface(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    x = ids(2, 8, 20)
    ours = model(x)[0]
    difference = (theirs(x).logits - ours).abs().max() / ours.abs().max()
    assert float(difference.detach()) < 1e-5
    back = checkpoint.from_huggingface(tmp_path)
    torch.testing.assert_close(back.eval()(x)[0], ours)
    expected = {**vars(config), **({"bias": True} if hasattr(config, "bias") else {})}
    assert vars(back.config) == expected


@pytest.mark.parametrize("config", [GPTS[0], *LLAMAS])
def test_a_folder_that_transformers_wrote_is_read(config, tmp_path):
    from transformers import AutoModelForCausalLM

    checkpoint.to_huggingface(random_model(config, torch.float64), tmp_path / "ours")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype=torch.float64
    )
    theirs.save_pretrained(tmp_path / "theirs")
    back = checkpoint.from_huggingface(tmp_path / "theirs")
    assert back.config == config
    assert same(back, checkpoint.from_huggingface(tmp_path / "ours"))


def test_gpt2_with_openais_own_names_is_read(tmp_path):
    from safetensors.torch import load_file, save_file

    model = random_model(GPTS[0])
    checkpoint.to_huggingface(model, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors = {k.removeprefix("transformer."): v for k, v in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(
        1, 1, 8, 8
    )  # the mask that the old file carries
    save_file(tensors, file)
    assert same(checkpoint.from_huggingface(tmp_path), model)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_a_model_of_110m_writes_within_the_memory_of_its_file(tmp_path):
    """Random weights; beyond what Python and torch take, loading and writing together."""
    path = tmp_path / "large.bin"
    checkpoint.save_llama2c(Llama(checkpoint.CHECKPOINTS["stories110M"]), path)
    code = (
        "import re, sys, torch\n"
        "from babygpt_course import checkpoint, generate\n"
        # Not ru_maxrss, which begins at the peak of the process that starts this one.
        "status = lambda: open('/proc/self/status').read()\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status())[1])\n"
        "before = peak()\n"
        "model = checkpoint.load_llama2c(sys.argv[1])\n"
        "generate.generate(model, torch.ones(1, 1, dtype=torch.int64), 8)\n"
        "print(peak() - before)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert 0.9 < int(out.stdout) / path.stat().st_size < 1.2


# --- writing is whole or not at all


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    model = random_model(GPTS[0])
    checkpoint.save(model, path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for save, file in [(checkpoint.save, path), (checkpoint.to_huggingface, tmp_path)]:
        with pytest.raises(CheckpointError, match="No space left"):
            save(model, file)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Cannot write"):
        checkpoint.save(random_model(GPTS[0]), tmp_path / "file" / "x.safetensors")


def test_what_a_format_cannot_hold_is_named(tmp_path):
    with pytest.raises(ConfigError, match="got a GPT"):
        checkpoint.save_llama2c(random_model(GPTS[0]), tmp_path / "x.bin")
    other = Llama(LlamaConfig(16, 1, 4, vocab_size=20, rope_theta=500_000.0))
    with pytest.raises(ConfigError, match="no place for rope_theta"):
        checkpoint.save_llama2c(other, tmp_path / "x.bin")
    with pytest.raises(ConfigError, match="no bias in its head"):
        checkpoint.to_huggingface(
            GPT(GPTConfig(9, 4, 1, 1, 8, head_bias=True)), tmp_path
        )
    for write in (checkpoint.save, checkpoint.to_huggingface):
        with pytest.raises(ConfigError, match="got a Linear"):
            write(torch.nn.Linear(2, 2), tmp_path / "x")
    adapted = random_model(GPTS[0])
    adapted.blocks[0].mlp.fc = torch.nn.Sequential(adapted.blocks[0].mlp.fc)
    with pytest.raises(ConfigError, match="no longer a plain GPT"):
        checkpoint.save(adapted, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


# --- damaged input

EXECUTED = []


class Bomb:
    def __reduce__(self):
        return (EXECUTED.append, ("the pickle ran",))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small whole file of each format, and the function that reads it."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoint.save_llama2c(random_model(LLAMAS[0]), folder / "tied.bin")
    checkpoint.save_llama2c(random_model(LLAMAS[1]), folder / "untied.bin")
    checkpoint.save(random_model(GPTS[1]), folder / "gpt.safetensors")
    checkpoint.save(random_model(LLAMAS[0]), folder / "llama.safetensors")
    return [(path.read_bytes(), path.suffix) for path in sorted(folder.iterdir())]


def read(path):
    load = checkpoint.load_llama2c if path.suffix == ".bin" else checkpoint.load_model
    return load(path)


SIZES = [0, -1, 1, 3, 2**15, 2**31 - 1, -(2**31), 10**6]


def mutations(data, suffix, n, random):
    """n damaged copies; the flag says whether reading must fail or may succeed."""
    header = 28 if suffix == ".bin" else 8 + struct.unpack_from("<Q", data)[0]
    for i in range(n):
        bad = bytearray(data)
        kind = i % 8
        if kind == 0:  # cut off
            yield data[: random.randrange(len(data))], True
        elif kind == 1:  # too long
            yield data + os.urandom(random.randrange(1, 64)), True
        elif kind == 2:  # one absurd size in the header, or an absurd header length
            if suffix == ".bin":
                at, size = 4 * random.randrange(7), random.choice(SIZES)
                same_value = struct.unpack_from("<i", data, at)[0] == size
                struct.pack_into("<i", bad, at, size)
                yield bytes(bad), not same_value
            else:
                struct.pack_into("<Q", bad, 0, random.choice([0, 1, 2**40, 2**64 - 1]))
                yield bytes(bad), True
        elif kind == 3:  # all sizes absurd
            bad[:28] = struct.pack("<7i", *(random.choice(SIZES) for _ in range(7)))
            yield bytes(bad), True
        elif kind == 4:  # NaN or infinity among the weights
            width = (len(data) - header) // 4
            at = header + 4 * random.randrange(width)
            struct.pack_into("<f", bad, at, random.choice([float("nan"), float("inf")]))
            yield bytes(bad), True
        elif kind == 5:  # another magic number
            bad[:8] = random.choice(
                [b"PK\3\4\0\0\0\0", b"GGUF\3\0\0\0", b"24ka\1\0\0\0", b"\x80\2]q\0.  "]
            )
            yield bytes(bad), True
        elif kind == 6:  # a flipped bit in the header
            bad[random.randrange(header)] ^= 1 << random.randrange(8)
            yield bytes(bad), False
        else:  # random bytes anywhere
            for _ in range(random.randrange(1, 20)):
                bad[random.randrange(len(bad))] = random.randrange(256)
            yield bytes(bad), False


def test_damaged_files_are_refused(files, tmp_path):
    """600 of them: a CheckpointError, or a model that runs; nothing else ever."""
    import random

    rng = random.Random(0)
    refused = 0
    for number, (data, suffix) in enumerate(files):
        path = tmp_path / f"damaged{number}{suffix}"
        for bad, must_fail in mutations(data, suffix, 150, rng):
            path.write_bytes(bad)
            try:
                model = read(path)
            except CheckpointError as error:
                refused += 1
                assert path.name in str(error)
            else:
                assert not must_fail, bad[:64]
                assert model(ids(1, 1, 1))[0].shape[1] == 1
    assert 450 < refused < 600


def metadata_bombs():
    """Configs that a stranger may have written into the metadata."""
    good = {"model": "llama", "config": {**vars(LLAMAS[0])}}
    for name in good["config"]:
        for value in (None, "x", [], {}, -1, 0, 1e400, 10**12, True, 2.5):
            yield json.dumps({**good, "config": {**good["config"], name: value}})
    yield json.dumps({**good, "model": "os.system"})
    yield json.dumps({**good, "config": {**good["config"], "extra": 1}})
    yield json.dumps({**good, "config": []})
    yield "[" * 100_000
    yield "{"
    yield "9" * 10_000
    yield ""


def test_a_config_that_does_not_fit_is_refused(tmp_path):
    from safetensors.torch import save_file

    tensors = huggingface.plain_state(random_model(LLAMAS[0]))
    tensors = {k: v.detach() for k, v in tensors.items()}
    path = tmp_path / "model.safetensors"
    for text in metadata_bombs():
        save_file(tensors, path, {"babygpt_course": text})
        try:
            model = checkpoint.load_model(path)
        except CheckpointError:
            continue
        # The only wrong values that fit are those that mean the same or change no shape.
        changed = set(vars(model.config).items()) ^ set(vars(LLAMAS[0]).items())
        assert {name for name, _ in changed} <= {
            *("max_seq_len", "rope_theta", "norm_eps", "tie")
        }, text
        assert model.config.max_seq_len < 10**6
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="no usable config"):
        checkpoint.load_model(path)
    about = json.dumps({"model": "llama", "config": vars(LLAMAS[0])})
    name = "blocks.1.mlp.w1.weight"
    w = tensors[name]
    for x in (w.T, w.to(torch.int8), w.to(torch.float8_e4m3fn), w * torch.nan):
        damaged = {**tensors, name: x.contiguous()}
        save_file(damaged, path, {"babygpt_course": about})
        with pytest.raises(CheckpointError, match=r"shape|quantized|NaN"):
            checkpoint.load_model(path)
    del damaged[name]
    save_file(damaged, path, {"babygpt_course": about})
    with pytest.raises(CheckpointError, match="numbers, but its config needs"):
        checkpoint.load_model(path)


@pytest.mark.parametrize("name", ["m.bin", "m.pt", "m.safetensors", "m.pkl"])
def test_a_pickle_is_never_opened(name, tmp_path):
    path = tmp_path / name
    for write in (
        lambda: path.write_bytes(pickle.dumps(Bomb())),
        lambda: torch.save({"weight": Bomb()}, path),
        lambda: torch.save(random_model(LLAMAS[0]).state_dict(), path),
    ):
        write()
        for load in (checkpoint.load_llama2c, checkpoint.load_model):
            with pytest.raises(CheckpointError, match="looks like a pickle"):
                load(path)
    folder = tmp_path / "folder"
    checkpoint.to_huggingface(random_model(LLAMAS[0]), folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="looks like a pickle"):
        checkpoint.from_huggingface(folder)
    assert EXECUTED == []


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe") if hasattr(os, "mkfifo") else None
    loads = (
        checkpoint.load_llama2c,
        checkpoint.load_model,
        checkpoint.from_huggingface,
    )
    for load in loads:
        for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", "a\0b"):
            with pytest.raises(CheckpointError):
                load(path)
    (tmp_path / "empty.bin").touch()
    with pytest.raises(CheckpointError, match="has 0 bytes"):
        checkpoint.load_llama2c(tmp_path / "empty.bin")


def test_rotary_tables_of_another_theta_are_refused(tmp_path):
    path = tmp_path / "x.bin"
    checkpoint.save_llama2c(random_model(LLAMAS[0]), path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, len(data) - 4, 0.5)  # the last sine; the head is tied
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="rotary tables"):
        checkpoint.load_llama2c(path)


CONFIG_FAULTS = [
    {"model_type": "mamba"},
    {"model_type": None},
    {"hidden_act": "gelu"},
    {"attention_bias": True},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10_000.0}},
    {"rope_scaling": {"type": "linear"}},
    {"head_dim": 8},
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": -1},
    {"hidden_size": 10**9},
    {"max_position_embeddings": 10**12},
    {"vocab_size": "many"},
    {"num_attention_heads": 0},
    {"rms_norm_eps": None},
    {"rope_parameters": [1]},
]


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_a_hugging_face_folder_of_another_kind_is_refused(fault, tmp_path):
    checkpoint.to_huggingface(random_model(LLAMAS[0]), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fault}))
    with pytest.raises(CheckpointError):
        checkpoint.from_huggingface(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '"llama"', "\xff", "[" * 10_000, "null"]
)
def test_a_config_json_that_is_none_is_refused(text, tmp_path):
    checkpoint.to_huggingface(random_model(LLAMAS[0]), tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        checkpoint.from_huggingface(tmp_path)


# --- downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local stand-in for the public home of a file; it breaks as often as told."""
    monkeypatch.setenv("BABYGPT_COURSE_DATA", str(tmp_path / "cache"))
    state = {"body": os.urandom(3_000_000), "break_at": [], "status": 200, "spans": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if state["status"] != 200:
                return self.send_error(state["status"])
            span = self.headers["Range"].removeprefix("bytes=").split("-")
            if state.get("no_ranges"):
                span = [0, len(state["body"])]
            state["spans"].append(int(span[0]))
            body = state["body"][int(span[0]) : int(span[1]) + 1]
            self.send_response(200 if state.get("no_ranges") else 206)
            if not state.get("no_ranges"):
                whole = len(state["body"])
                self.send_header("Content-Range", f"bytes {span[0]}-{span[1]}/{whole}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(
                body[: state["break_at"].pop() if state["break_at"] else None]
            )

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state["url"] = f"http://127.0.0.1:{http.server_port}/file.bin"
    yield state
    http.shutdown()


def described(state, sha256=None):
    body = state["body"]
    sha256 = hashlib.sha256(body).hexdigest() if sha256 is None else sha256
    return corpus.Download("file.bin", state["url"], len(body), sha256, "", "MIT")


def test_a_download_goes_on_where_it_broke_and_is_kept(server):
    server["break_at"] = [2_500_000 - 1_000_000, 1_000_000]
    path = checkpoint._fetch(described(server))
    assert path.read_bytes() == server["body"]
    assert server["spans"] == [0, 1_000_000, 2_500_000]
    server["status"] = 500
    assert checkpoint._fetch(described(server)) == path  # from the cache
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_server_without_ranges_is_read_from_the_start_again(server):
    server.update(no_ranges=True, break_at=[1_000_000])
    assert checkpoint._fetch(described(server)).read_bytes() == server["body"]


@pytest.mark.parametrize(
    "fault,message",
    [
        ({"status": 404}, "404"),
        ({"break_at": [10] * 5}, "connection"),
        ({"sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_failed_download_keeps_nothing(server, fault, message, tmp_path):
    sha256 = fault.pop("sha256", None)
    d = described(server, sha256)
    server.update(fault)
    with pytest.raises(CheckpointError, match=message):
        checkpoint._fetch(d)
    assert not any((tmp_path / "cache").iterdir())


def test_a_damaged_cache_and_an_unknown_name_are_named(server):
    path = checkpoint._fetch(described(server, sha256=""))  # no hash is known
    path.write_bytes(server["body"][:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint._fetch(described(server, sha256=""))
    with pytest.raises(ConfigError, match="stories260K, stories15M"):
        checkpoint.load("stories7B")
