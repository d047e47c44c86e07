"""LoRA: equal to peft in forward, merged, gradients and files; exact merge and unmerge."""

import copy
import json

import pytest
import torch
from torch import nn

from babygpt_course import checkpoint
from babygpt_course.errors import CheckpointError, ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.lora import (
    LoRALinear,
    adapters,
    apply_lora,
    load_adapter,
    low_rank,
    merge,
    save_adapter,
    unmerge,
)
from babygpt_course.quantize import quantize
from tests.test_gpt import ids, random_gpt, relative

CONFIG = GPTConfig(20, 8, 2, 2, 16)
TARGETS = ["qkv", "mlp.proj"]


def trained(model):
    """Give every adapter a B that is not zero, as training would."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in adapters(model).values():
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator))
    return model


def adapted(seed=0, dtype=torch.float64, rank=3, alpha=6):
    model = random_gpt(CONFIG, seed).to(dtype)
    return trained(apply_lora(model, rank, alpha, TARGETS))


def same(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# --- the idea


def test_the_adapters_of_a_real_model_are_small_and_start_at_nothing():
    config = GPTConfig(109, 64, 4, 4, 256, bias=False, tie=False, head_bias=True)
    model = GPT(config).eval()
    base = sum(p.numel() for p in model.parameters())
    before = model(ids(2, 64, 109))[0]
    apply_lora(model, 4, 4, ["qkv", "attention.proj"])
    assert trainable(model) == 24_576 == 4 * 4 * (256 + 3 * 256 + 256 + 256)
    assert base == 3_222_637 and round(100 * 24_576 / base, 2) == 0.76
    assert sum(p.numel() for p in model.parameters()) == base + 24_576
    assert torch.equal(model(ids(2, 64, 109))[0], before)


def test_training_moves_only_the_adapters():
    model = random_gpt(CONFIG).float()
    before = {k: x.clone() for k, x in model.state_dict().items()}
    apply_lora(model, 2, 4, TARGETS)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    start = None
    for _ in range(5):
        _, loss = model(ids(4, 8, 20), ids(4, 8, 20, seed=1))
        start = loss.item() if start is None else start
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < start
    after = {k.replace(".base.", "."): x for k, x in model.state_dict().items()}
    assert all(torch.equal(after[k], x) for k, x in before.items())
    assert all(layer.B.abs().max() > 0 for layer in adapters(model).values())


def test_targets_match_whole_parts_of_names_only():
    model = apply_lora(GPT(CONFIG), 2, 4, "proj")
    assert list(adapters(model)) == [
        f"blocks.{i}.{part}.proj" for i in range(2) for part in ("attention", "mlp")
    ]
    assert list(adapters(apply_lora(GPT(CONFIG), 2, 4, "blocks.1.mlp.fc"))) == [
        "blocks.1.mlp.fc"
    ]
    with pytest.raises(
        ConfigError, match="Linear layers of this model end in: fc, head"
    ):
        apply_lora(GPT(CONFIG), 2, 4, ["qkv", "roj"])


@pytest.mark.parametrize(
    "rank, alpha, targets",
    [
        (0, 4, "qkv"),
        (2.0, 4, "qkv"),
        (2, 0, "qkv"),
        (2, float("nan"), "qkv"),
        (2, 4, []),
        (2, 4, "norm1"),
        (2, 4, "head"),  # tied
    ],
)
def test_what_cannot_be_applied_leaves_the_model_alone(rank, alpha, targets):
    model = GPT(CONFIG)
    before = trainable(model), copy.deepcopy(model)
    with pytest.raises(ConfigError):
        apply_lora(model, rank, alpha, targets)
    assert trainable(model) == before[0] and same(model, before[1])


def test_adapters_are_not_stacked():
    model = adapted()
    with pytest.raises(ConfigError, match="already"):
        apply_lora(model, 2, 4, "mlp.fc")
    with pytest.raises(ConfigError, match="already"):
        apply_lora(merge(model), 2, 4, "mlp.fc")


# --- merge and unmerge


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_merge_changes_nothing_but_rounding_and_unmerge_is_exact(dtype):
    model = adapted(dtype=dtype).eval()
    x = ids(2, 8, 20)
    before, logits = copy.deepcopy(model), model(x)[0]
    merge(model)
    assert relative(model(x)[0], logits) < 50 * torch.finfo(dtype).eps
    base = random_gpt(CONFIG).to(dtype)
    assert not torch.equal(model(x)[0], base(x)[0])
    unmerge(model)
    assert same(model, before) and torch.equal(model(x)[0], logits)
    for layer in adapters(model).values():
        assert layer.A.requires_grad and not layer.base.weight.requires_grad


def test_a_merged_model_is_a_plain_one_that_can_be_saved(tmp_path):
    model = adapted(dtype=torch.float32).eval()
    x = ids(2, 8, 20)
    with pytest.raises(ConfigError, match="Merge adapters"):
        checkpoint.save(model, tmp_path / "model.safetensors")
    merge(model)
    assert model.state_dict().keys() == GPT(CONFIG).state_dict().keys()
    checkpoint.save(model, tmp_path / "model.safetensors")
    loaded = checkpoint.load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded(x)[0], model(x)[0])
    with pytest.raises(ConfigError, match="no longer"):
        unmerge(loaded)


def test_merge_and_unmerge_need_something_to_do():
    with pytest.raises(ConfigError, match="apply_lora"):
        merge(GPT(CONFIG))
    with pytest.raises(ConfigError):
        unmerge(adapted())
    with pytest.raises(ConfigError, match="merged"):
        merge(merge(adapted()))


def test_a_merged_copy_can_be_unmerged_and_moved():
    model = merge(adapted())
    twin = copy.deepcopy(model).float()
    unmerge(twin)
    assert same(twin, unmerge(model).float())


# --- equal to peft


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8,
    )
    return LlamaForCausalLM(config)


def plain():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))


MODELS = {
    "gpt": (lambda: GPT(CONFIG), TARGETS, lambda m: m(ids(2, 8, 20))[0]),
    "llama": (
        llama,
        ["q_proj", "v_proj", "down_proj"],
        lambda m: m(ids(2, 8, 20)).logits,
    ),
    "plain": (plain, ["0", "2"], lambda m: m(torch.arange(12.0).view(2, 6).double())),
}


@pytest.fixture(params=MODELS)
def pair(request):
    """Our adapted model and peft's, with the same random numbers, and how to run one."""
    from peft import LoraConfig, get_peft_model

    make, targets, run = MODELS[request.param]
    torch.manual_seed(0)
    base = make().double().eval()
    config = LoraConfig(r=3, lora_alpha=7, target_modules=targets)
    theirs = get_peft_model(copy.deepcopy(base), config).double().eval()
    ours = trained(apply_lora(copy.deepcopy(base), 3, 7, targets))
    numbers = {}
    for name, layer in adapters(ours).items():
        numbers[f"base_model.model.{name}.lora_A.default.weight"] = layer.A
        numbers[f"base_model.model.{name}.lora_B.default.weight"] = layer.B
    learn = {n for n, p in theirs.named_parameters() if p.requires_grad}
    assert learn == numbers.keys()
    theirs.load_state_dict(numbers, strict=False)
    return base, ours, theirs, run


def test_forward_and_gradients_equal_pefts(pair):
    base, ours, theirs, run = pair
    y, z = run(ours), run(theirs)
    assert relative(y, z) < 1e-13 and relative(run(base), z) > 1e-3
    y.square().sum().backward()
    z.square().sum().backward()
    parameters = dict(theirs.named_parameters())
    for name, layer in adapters(ours).items():
        for letter, p in (("A", layer.A), ("B", layer.B)):
            q = parameters[f"base_model.model.{name}.lora_{letter}.default.weight"]
            assert relative(p.grad, q.grad) < 1e-12
    assert not any(p.grad is not None for p in ours.parameters() if not p.requires_grad)


def test_merged_weights_equal_pefts(pair):
    _, ours, theirs, run = pair
    expected, x = theirs.merge_and_unload(), run(ours)
    merge(ours)
    assert ours.state_dict().keys() == expected.state_dict().keys()
    for name, w in expected.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], w, rtol=1e-13, atol=1e-14)
    assert relative(run(ours), x) < 1e-12


def test_initial_values_have_pefts_distribution():
    from peft import LoraConfig, get_peft_model

    base = nn.Sequential(nn.Linear(100, 7))
    theirs = get_peft_model(
        copy.deepcopy(base), LoraConfig(r=1000, target_modules=["0"])
    )
    theirs = dict(theirs.named_parameters())["base_model.model.0.lora_A.default.weight"]
    ours = LoRALinear(base[0], 1000, 1)
    for A in (ours.A, theirs):
        assert A.shape == (1000, 100) and A.abs().max() <= 0.1
        assert A.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert not ours.B.any()


def test_our_files_in_peft_and_pefts_in_ours(pair, tmp_path):
    from peft import PeftModel

    base, ours, theirs, run = pair
    save_adapter(ours, tmp_path / "ours")
    in_peft = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "ours").eval()
    assert relative(run(in_peft), run(ours)) < 1e-13
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_adapter(copy.deepcopy(base), tmp_path / "theirs").eval()
    assert relative(run(back), run(theirs)) < 1e-13
    assert same(back, ours)
    again = load_adapter(copy.deepcopy(base), tmp_path / "ours")
    assert same(again, ours) and trainable(again) == trainable(ours)


# --- damaged files


@pytest.fixture
def folder(tmp_path):
    save_adapter(adapted(dtype=torch.float32), tmp_path / "adapter")
    return tmp_path / "adapter"


def refuses(folder, match=None):
    """load_adapter raises a CheckpointError and leaves the model as it was."""
    model = random_gpt(CONFIG).float()
    before = copy.deepcopy(model)
    with pytest.raises(CheckpointError, match=match):
        load_adapter(model, folder)
    assert same(model, before) and trainable(model) == trainable(before)


def test_the_folder_is_whole(folder):
    load_adapter(random_gpt(CONFIG).float(), folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_every_cut_is_refused(folder, name):
    whole = (folder / name).read_bytes()
    for n in [*range(0, len(whole) - 2, 37), len(whole) - 2]:
        (folder / name).write_bytes(whole[:n])
        refuses(folder)
    (folder / name).unlink()
    refuses(folder, "not there")


def test_random_damage_is_refused_or_harmless(folder):
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: int(torch.randint(n, (1,), generator=generator))  # noqa: E731
    refused = 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        whole = (folder / name).read_bytes()
        header = len(whole) if name.endswith("json") else whole.find(b"}}") + 2
        for _ in range(150):
            bad = bytearray(whole)
            for _ in range(1 + draw(3)):
                bad[draw(header)] = draw(256)
            (folder / name).write_bytes(bad)
            try:
                load_adapter(random_gpt(CONFIG).float(), folder)
            except CheckpointError:
                refused += 1
        (folder / name).write_bytes(whole)
    assert refused > 150


@pytest.mark.parametrize(
    "change",
    [
        {"r": 4},
        {"r": 0},
        {"r": -3},
        {"r": 3.0},
        {"r": True},
        {"r": 10**400},
        {"lora_alpha": "6"},
        {"lora_alpha": None},
        {"lora_alpha": 0},
        {"lora_alpha": 10**400},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"peft_type": "IA3"},
        {"target_modules": ["qkv"]},
        {"target_modules": ["qkv", "proj"]},
        {"target_modules": ["qkv", ["proj"]]},
        {"target_modules": "(a+)+$"},
        {"use_dora": True},
        {"use_rslora": True},
        {"fan_in_fan_out": True},
        {"bias": "all"},
        {"rank_pattern": {"qkv": 7}},
        {"modules_to_save": ["head"]},
    ],
    ids=str,
)
def test_a_config_that_means_something_else_is_refused(folder, change):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    refuses(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "3", '{"r": 3', "[" * 100_000, "\xff"]
)
def test_a_config_that_is_no_config_is_refused(folder, text):
    (folder / "adapter_config.json").write_text(text, encoding="latin-1")
    refuses(folder, "adapter_config.json")


def rewrite(folder, change):
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    tensors = {k: x.clone() for k, x in load_file(file).items()}
    change(tensors, sorted(tensors)[0])
    save_file(tensors, file)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, k: x.pop(k),
        lambda x, k: x.clear(),
        lambda x, k: x.update({k: x[k][:1]}),
        lambda x, k: x.update({k: x[k].T.contiguous()}),
        lambda x, k: x[k].view(-1)[0].fill_(float("nan")),
        lambda x, k: x[k].view(-1)[0].fill_(float("inf")),
        lambda x, k: x.update({k: x[k].to(torch.int8)}),
        lambda x, k: x.update({k + ".more": x[k].clone()}),
        lambda x, k: x.update({k.replace("blocks.0", "blocks.7"): x.pop(k)}),
        lambda x, k: x.update({"base_model.model.norm.lora_A.weight": x[k].clone()}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, change):
    rewrite(folder, change)
    refuses(folder, "adapter_model.safetensors")


def test_an_adapter_of_another_model_is_refused(folder):
    other = GPT(GPTConfig(20, 8, 2, 2, 32))
    with pytest.raises(CheckpointError, match="another model"):
        load_adapter(other, folder)
    with pytest.raises(CheckpointError, match="another model"):
        load_adapter(plain(), folder)


def test_a_pickle_in_the_place_of_the_tensors_is_not_opened(folder):
    torch.save({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    refuses(folder, "pickle")


def test_a_model_with_adapters_takes_no_second_one(folder):
    with pytest.raises(ConfigError, match="already"):
        load_adapter(adapted(), folder)
    with pytest.raises(ConfigError, match="already"):
        load_adapter(merge(adapted()), folder)


def test_a_place_that_cannot_be_written_is_an_error_with_its_name(tmp_path):
    (tmp_path / "adapter_model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        save_adapter(adapted(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # nothing half-written is left


def test_adapters_that_differ_do_not_fit_one_file(tmp_path):
    model = adapted()
    next(iter(adapters(model).values())).alpha = 1
    with pytest.raises(ConfigError, match="one"):
        save_adapter(model, tmp_path)


# --- on a quantized base


def test_adapters_learn_on_a_quantized_base_and_merge_into_it(folder):
    model = quantize(random_gpt(CONFIG).float(), 4)
    before = copy.deepcopy(model)
    trained(apply_lora(model, 3, 6, TARGETS))
    x = ids(2, 8, 20)
    model(x, x)[1].backward()
    assert all(layer.A.grad.abs().max() > 0 for layer in adapters(model).values())
    logits = model(x)[0]
    merge(model)
    assert relative(model(x)[0], logits) < 1e-5
    unmerge(model)
    assert torch.equal(model(x)[0], logits)
    assert len(adapters(load_adapter(before, folder))) == 4


# --- low rank, to compare


def test_low_rank_is_the_best_approximation_and_smaller():
    model = random_gpt(GPTConfig(20, 8, 1, 2, 32, tie=False))
    W = model.blocks[0].mlp.fc.weight.detach().clone()
    bias = model.blocks[0].mlp.fc.bias
    before = sum(p.numel() for p in model.parameters())
    low_rank(model, 5, "mlp.fc")
    down, up = model.blocks[0].mlp.fc
    approximation = up.weight @ down.weight
    left_out = torch.linalg.svdvals(W)[5:]
    error = (W - approximation).norm()
    assert error.item() == pytest.approx(left_out.norm().item(), rel=1e-10)
    assert torch.equal(up.bias, bias)
    after = sum(p.numel() for p in model.parameters())
    assert before - after == 128 * 32 - 5 * (128 + 32)
    assert trainable(model) == after


def test_low_rank_of_a_low_rank_weight_keeps_the_logits():
    model = random_gpt(CONFIG)
    with torch.no_grad():
        for block in model.blocks:
            W = block.mlp.fc.weight
            W.copy_(torch.randn(64, 4).double() @ torch.randn(4, 16).double())
    x = ids(2, 8, 20)
    logits = model(x)[0]
    assert relative(low_rank(copy.deepcopy(model), 4, "fc")(x)[0], logits) < 1e-10
    assert relative(low_rank(copy.deepcopy(model), 3, "fc")(x)[0], logits) > 1e-3


def test_low_rank_leaves_alone_what_would_grow_and_a_tied_head():
    model = random_gpt(CONFIG)
    before = copy.deepcopy(model)
    assert same(low_rank(model, 16), before)
    low_rank(model, 2)
    assert isinstance(model.head, nn.Linear)
    assert model.head.weight is model.token_embedding.weight
    assert isinstance(model.blocks[0].attention.qkv, nn.Sequential)
    with pytest.raises(ConfigError):
        low_rank(model, 0)
