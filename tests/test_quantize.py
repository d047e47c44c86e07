"""Quantization: real sizes, known losses, and torch's own dynamic int8 beside ours."""

import copy
import io
import math
import re
import struct
import warnings

import pytest
import torch
from torch import nn

from babygpt_course import checkpoint, corpus
from babygpt_course import quantize as quantization
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.lora import adapters, apply_lora
from babygpt_course.quantize import (
    DynamicInt8Linear,
    QuantizedLinear,
    gptq,
    int8_product,
    linear_layers,
    nearest,
    pack,
    quantize,
    quantize_embeddings,
    round_with_feedback,
    scale_and_zero,
    size_in_bytes,
    unpack,
)
from tests.test_gpt import ids, random_gpt, relative

CONFIG = GPTConfig(20, 8, 2, 2, 16)
# The char-level BabyGPT of 3,222,637 parameters.
BABYGPT = GPTConfig(109, 64, 4, 4, 256, bias=False, tie=False, head_bias=True)
WAYS = [
    (8, "dynamic_int8", True),
    *(
        (b, s, True)
        for b in (2, 3, 4, 8)
        for s in ("per_tensor", "per_channel", "group")
    ),
    *((b, s, False) for b in (3, 4, 8) for s in ("per_tensor", "per_channel", "group")),
]


def weights(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_layer(W, bits, scheme, group_size=5, symmetric=True):
    layer = nn.Linear(W.shape[1], W.shape[0])
    layer.weight.data = W.clone()
    return quantize(nn.Sequential(layer), bits, scheme, group_size, symmetric)[0]


# --- codes


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("n", [1, 7, 8, 13])
def test_pack_and_unpack(bits, n):
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(2**bits, (3, n), generator=generator)
    codes[0, 0], codes[1, -1] = 0, 2**bits - 1
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (3, bits * math.ceil(n / 8))
    assert torch.equal(unpack(packed, bits, n), codes)


def test_pack_puts_the_first_code_into_the_lowest_bits():
    assert pack(torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]]), 4).tolist() == [
        [0x21, 0x43, 0x65, 0x87]
    ]


@pytest.mark.parametrize("bits, scheme, symmetric", WAYS)
def test_each_weight_is_the_nearest_that_its_group_can_hold(bits, scheme, symmetric):
    W = weights(6, 17) * torch.logspace(-2, 1, 6)[:, None]  # rows of unlike size
    W[2] = 0
    W[3] = W[3].abs()
    layer = one_layer(W, bits, scheme, 7, symmetric)
    groups = {"group": [(r, s) for r in range(6) for s in ([0, 7], [7, 14], [14, 17])]}
    rows = [(r, [0, 17]) for r in range(6)]
    for row, (start, end) in groups.get(scheme, rows):
        group = W if scheme == "per_tensor" else W[row, start:end]
        low, high = group.min().clamp(max=0), group.max().clamp(min=0)
        step = (high - low) / (2**bits - 1)
        if symmetric:
            step = group.abs().max() / (2 ** (bits - 1) - 1)
        error = (layer.weight[row, start:end] - W[row, start:end]).abs().max()
        # Half a step; where 0 itself had to be rounded, the ends may be out by one more.
        assert error <= step * (0.5001 if symmetric else 1.0001)
    assert not layer.weight[2].any()  # zero stays zero
    if scheme == "per_tensor":
        assert layer.scale.shape == (1, 1)


def test_codes_equal_torchs_fake_quantization():
    W = weights(7, 12)
    for bits, symmetric in ((8, True), (4, True), (8, False), (3, False)):
        scale, zero = scale_and_zero(W, bits, symmetric)
        expected = torch.fake_quantize_per_channel_affine(
            W, scale[:, 0], zero[:, 0].int(), 0, 0, 2**bits - 1
        )
        layer = one_layer(W, bits, "per_channel", symmetric=symmetric)
        assert torch.allclose(layer.weight, expected, atol=1e-6)


def test_finer_scales_and_more_bits_are_closer():
    W = weights(32, 64) * weights(32, 64, seed=1).exp()

    def error(bits, scheme, size=8):
        return (one_layer(W, bits, scheme, size).weight - W).square().mean().item()

    errors = [error(4, s) for s in ("per_tensor", "per_channel", "group")]
    assert errors == sorted(errors, reverse=True)
    errors = [error(bits, "per_channel") for bits in range(2, 9)]
    assert errors == sorted(errors, reverse=True)
    assert error(4, "group", 64) == error(4, "group", 999) == error(4, "per_channel")


# --- models


@pytest.mark.parametrize("bits, scheme, symmetric", WAYS)
def test_a_quantized_model_is_its_weights_and_survives_a_state_dict(
    bits, scheme, symmetric
):
    model = random_gpt(CONFIG).float()
    quantized = quantize(copy.deepcopy(model), bits, scheme, 5, symmetric)
    assert len([m for m in quantized.modules() if isinstance(m, QuantizedLinear)]) == 8
    assert quantized.head.weight is quantized.token_embedding.weight
    x = ids(2, 8, 20)
    logits = quantized(x)[0]
    if scheme != "dynamic_int8":  # the same numbers with the weights in plain layers
        for name, layer in linear_layers(model).items():
            layer.weight.data = quantized.get_submodule(name).weight
        assert torch.equal(model(x)[0], logits)
    other = quantize(random_gpt(CONFIG, seed=1).float(), bits, scheme, 5, symmetric)
    assert not torch.equal(other(x)[0], logits)
    other.load_state_dict(quantized.state_dict())
    assert torch.equal(other(x)[0], logits)


def test_a_bad_call_says_what_would_be_a_good_one():
    model = GPT(CONFIG)
    for bits, scheme in (
        (9, "group"),
        (1, "group"),
        (4, "dynamic_int8"),
        (4.0, "group"),
    ):
        with pytest.raises(ConfigError, match="bits"):
            quantize(model, bits, scheme)
    with pytest.raises(ConfigError, match="per_channel"):
        quantize(model, 8, "int8")
    with pytest.raises(ConfigError, match="group_size"):
        quantize(model, 8, "group", 0)
    assert len(linear_layers(model)) == 8
    with pytest.raises(ConfigError, match="already"):
        quantize(quantize(model, 8), 8)
    broken = random_gpt(CONFIG)
    broken.blocks[0].mlp.fc.weight.data[0, 0] = math.nan
    with pytest.raises(ConfigError, match="NaN"):
        quantize(broken, 8)


# --- size


def test_sizes_of_babygpt():
    model = GPT(BABYGPT)
    before = size_in_bytes(model)
    assert before["total"] == 4 * 3_222_637 and before["codes"] == 0
    after = size_in_bytes(quantize(model, 8, "dynamic_int8"))
    matrices = 12 * 256**2 * 4 + 109 * 256
    norms_and_bias = 4 * (4 * 4 * 256 + 2 * 256 + 109)
    rows = (3 + 1 + 4 + 1) * 256 * 4 + 109
    assert after["codes"] == matrices and after["scales"] == 4 * rows
    assert after["embeddings"] == before["embeddings"] == 4 * (109 + 64) * 256
    assert after["linear"] == after["adapters"] == 0 and after["rest"] == norms_and_bias
    # With causal masks as buffers, 4 of 64 x 64, as older models keep them.
    masks = 4 * 4 * 64**2
    assert before["total"] + masks == 12_956_084
    assert after["total"] - after["scales"] + masks == 3_435_188


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_codes_take_their_bits_and_the_file_is_as_small_as_promised(bits):
    model = quantize(GPT(BABYGPT), bits, "group", 64)
    size = size_in_bytes(model)
    matrices = 12 * 256**2 * 4 + 109 * 256
    assert size["codes"] == matrices * bits / 8 and size["scales"] == matrices / 64 * 4
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    assert 0 < len(file.getvalue()) - size["total"] < 50_000  # names and headers


def test_a_tied_head_counts_once_and_adapters_apart():
    model = GPT(CONFIG)
    assert size_in_bytes(model)["total"] == 4 * CONFIG.n_params
    apply_lora(quantize(model, 4), 2, 4, "qkv")
    size = size_in_bytes(model)
    assert size["adapters"] == 2 * 2 * (16 + 48) * 4 and size["linear"] == 0
    assert size["total"] == sum(x.nbytes for x in set(model.state_dict().values())) - (
        model.head.weight.nbytes
    )


@pytest.mark.parametrize(
    "bits, scheme", [(8, "dynamic_int8"), (4, "group"), (8, "per_tensor")]
)
@pytest.mark.parametrize("tie", [True, False])
def test_embeddings_in_codes(bits, scheme, tie):
    config = GPTConfig(20, 8, 2, 2, 16, tie=tie, head_bias=True)
    model = random_gpt(config).float()
    expected = copy.deepcopy(model)
    quantize_embeddings(quantize(model, bits, scheme, 5), bits, scheme, 5)
    size = size_in_bytes(model)
    assert size["embeddings"] == size["linear"] == 0
    # Each table once, though a tied head is the same one.
    tables = 20 + 8 + (0 if tie else 20)
    assert size["codes"] == (tables + 2 * 12 * 16) * 16 * bits / 8
    assert (model.head is model.token_embedding.table) == tie
    # The same numbers from plain layers that hold the rounded weights.
    expected.tie_weights()
    for name, layer in expected.named_modules():
        if isinstance(layer, nn.Embedding):
            layer.weight.data = model.get_submodule(name).table.weight
        elif isinstance(layer, nn.Linear):
            layer.weight.data = model.get_submodule(name).weight
    x = ids(2, 8, 20)
    tolerance = 0.1 if scheme == "dynamic_int8" else 1e-5
    assert relative(model(x)[0], expected(x)[0]) < tolerance
    other = quantize(random_gpt(config, seed=1).float(), bits, scheme, 5)
    quantize_embeddings(other, bits, scheme, 5).load_state_dict(model.state_dict())
    assert other(x)[0].equal(model(x)[0])
    with pytest.raises(ConfigError, match="no embedding"):
        quantize_embeddings(model)


# --- beside torch


@pytest.fixture(scope="module")
def babygpts():
    """BabyGPT in fp32, in our dynamic int8 and in torch's."""
    import torch.ao.quantization as theirs

    torch.manual_seed(0)
    model = GPT(BABYGPT).eval()
    for block in model.blocks:  # the buffers that the known file sizes include
        block.attention.register_buffer("tril", torch.ones(64, 64).tril())
    ours = quantize(copy.deepcopy(model), 8, "dynamic_int8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs = theirs.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
    return model, ours, torchs


def file_size(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return len(file.getvalue())


def test_dynamic_int8_is_as_close_as_torchs(babygpts):
    model, ours, torchs = babygpts
    x = ids(4, 64, 109)
    with torch.no_grad():
        logits, a, b = (m(x)[0] for m in (model, ours, torchs))
    error, theirs = (a - logits).std().item(), (b - logits).std().item()
    assert 0 < error < 1.2 * theirs and theirs < 0.2 * logits.std().item()


def test_dynamic_int8_is_as_close_as_torchaos(babygpts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchao.quantization as torchao

        model, ours, _ = babygpts
        theirs = copy.deepcopy(model)
        way = torchao.Int8DynamicActivationInt8WeightConfig(
            act_mapping_type=torchao.MappingType.SYMMETRIC
        )
        torchao.quantize_(theirs, way)
    # The weights have the same codes; a scale in another precision moves a few by one.
    for name, layer in linear_layers(model).items():
        a, b = (m.get_submodule(name).weight for m in (ours, theirs))
        step = layer.weight.abs().amax(1, keepdim=True) / 127
        assert ((a - b.dequantize()).abs() < 1.02 * step).all()
    x = ids(4, 64, 109)
    with torch.no_grad():
        logits, a, b = (m(x)[0] for m in (model, ours, theirs))
    assert 0 < (a - logits).std() < 1.1 * (b - logits).std()


def test_dynamic_int8_is_as_small_as_torchs(babygpts):
    model, ours, torchs = babygpts
    assert file_size(model) / file_size(torchs) == pytest.approx(3.7486, rel=2e-3)
    # Ours has a scale for each row, not one for the whole weight.
    assert file_size(ours) == pytest.approx(file_size(torchs), rel=0.02)
    assert file_size(model) / file_size(ours) > 3.7


def test_dynamic_int8_weights_and_inputs_are_integers():
    layer = one_layer(weights(4, 6), 8, "dynamic_int8")
    assert isinstance(layer, DynamicInt8Linear)
    codes = layer.codes
    assert torch.equal(codes, codes.round()) and codes.abs().max() == 127
    # Whole numbers up to 127 are codes themselves: the result has no rounding of inputs.
    x = torch.randint(-127, 128, (5, 6), generator=torch.Generator().manual_seed(0))
    x = x.float()
    x[:, 0] = torch.tensor([127, -127, 127, -127, 127])
    expected = x @ layer.weight.T + layer.bias
    assert torch.allclose(layer(x), expected, rtol=1e-5, atol=1e-4)
    fine = x + 0.3
    fine[:, 0] = x[:, 0]
    fine = fine.clamp(-127, 127)  # each rounds to the whole number that it came from
    assert torch.allclose(layer(fine), layer(x), rtol=1e-5, atol=1e-4)
    assert layer(torch.zeros(3, 6)).equal(layer.bias.expand(3, 4))
    assert layer(x.view(5, 1, 1, 6)).shape == (5, 1, 1, 4) and layer(x[0]).shape == (4,)
    assert layer(x.mul(math.nan)).isnan().all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("n", [1, 64, 500])
def test_the_product_of_integers_is_exact_at_the_largest_numbers(exact, n, monkeypatch):
    """Without VNNI, torch's product adds in 16 bits; then it must not be used."""
    if not exact:
        monkeypatch.setattr(quantization, "_multiplies_int8", lambda: False)
    a = torch.full((n, 1000), 127, dtype=torch.int8)
    b = torch.full((7, 1000), -127, dtype=torch.int8)
    b[3] = 127
    product = int8_product(a, b)
    assert product.equal((a.long() @ b.long().T).to(product.dtype))


def test_a_product_that_overflows_is_noticed(monkeypatch):
    quantization._multiplies_int8.cache_clear()
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b).clamp(max=32767))
    try:
        assert not quantization._multiplies_int8()
    finally:
        quantization._multiplies_int8.cache_clear()


def test_dynamic_int8_leaks_nothing_between_tokens_as_one_scale_for_all_does(babygpts):
    _, ours, torchs = babygpts
    x = ids(2, 64, 109)
    others = [x.clone() for _ in range(20)]
    for shift, other in enumerate(others, 1):
        other[:, -1] = (x[:, -1] + shift) % 109

    def same(model):  # the logits of all but the changed last token
        before = model(x)[0][:, :-1]
        return [model(other)[0][:, :-1].equal(before) for other in others]

    with torch.no_grad():
        assert all(same(ours)) and not all(same(torchs))
        assert ours(x[:1])[0].equal(ours(x)[0][:1])


def test_gradients_pass_through_dynamic_int8():
    gradients = []
    for scheme in (
        "dynamic_int8",
        "per_channel",
    ):  # the same weights; inputs not rounded
        model = quantize(random_gpt(CONFIG).float(), 8, scheme)
        torch.manual_seed(0)
        apply_lora(model, 2, 4, "qkv")
        with torch.no_grad():
            for layer in adapters(model).values():
                layer.B.normal_()
        x = ids(2, 8, 20)
        model(x, x)[1].backward()
        gradients.append(next(iter(adapters(model).values())).A.grad)
    assert 0 < relative(*gradients) < 0.1


# --- rounding with feedback


def by_definition(W, H, scale, zero, bits):
    """The same greedy rounding, with each step's best correction found by least squares."""
    W, codes = W.clone(), torch.empty_like(W)
    for i in range(W.shape[1]):
        codes[:, i] = nearest(W[:, i], scale[:, 0], zero[:, 0], bits)
        error = scale[:, 0] * (codes[:, i] - zero[:, 0]) - W[:, i]
        if i + 1 < W.shape[1]:  # minimize |error x_i + change x_rest|^2 over the change
            rest = H[i + 1 :, i + 1 :]
            W[:, i + 1 :] -= error[:, None] * torch.linalg.solve(rest, H[i + 1 :, i])
    return codes


def test_feedback_is_the_best_correction_of_each_step():
    W = weights(9, 12).double()
    x = weights(200, 12, seed=1).double() @ weights(12, 12, seed=2).double()
    H = x.T @ x / 200
    for bits in (2, 3, 4):
        scale, zero = scale_and_zero(W, bits, symmetric=True)
        ours = round_with_feedback(W, H, scale, zero, bits, damp=0.0)
        assert torch.equal(ours, by_definition(W, H, scale, zero, bits))
        plain = nearest(W, scale, zero, bits)
        mse = [((scale * (c - zero) - W) @ x.T).square().mean() for c in (ours, plain)]
        assert mse[0] < 0.9 * mse[1]


def test_feedback_without_correlation_is_rounding_to_nearest():
    W = weights(9, 12).double()
    scale, zero = scale_and_zero(W, 3, symmetric=False)
    H = torch.diag(torch.rand(12).double() + 0.1)
    ours = round_with_feedback(W, H, scale, zero, 3)
    assert torch.equal(ours, nearest(W, scale, zero, 3))


@pytest.mark.parametrize("scheme", ["per_tensor", "per_channel", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_on_a_batch_beats_rounding_on_that_batch(scheme, symmetric):
    model = random_gpt(GPTConfig(20, 16, 2, 2, 32)).float().train()
    x = ids(16, 16, 20)
    with torch.no_grad():
        logits = model(x)[0]
        near = quantize(copy.deepcopy(model), 3, scheme, 8, symmetric)(x)[0]
        fed = gptq(copy.deepcopy(model), x, 3, scheme, 8, symmetric)
        assert fed.training and not any(m._forward_pre_hooks for m in fed.modules())
        assert (fed(x)[0] - logits).norm() < (near - logits).norm()


def test_gptq_has_no_dynamic_int8_and_needs_numbers():
    with pytest.raises(ConfigError, match="dynamic_int8"):
        gptq(GPT(CONFIG), ids(2, 8, 20), 8, "dynamic_int8")
    model = GPT(CONFIG)
    model.norm.weight.data.fill_(math.nan)  # after the last layer: harmless
    gptq(copy.deepcopy(model), ids(2, 8, 20))
    model.blocks[0].norm1.weight.data.fill_(math.nan)
    with pytest.raises(ConfigError, match="NaN"):
        gptq(model, ids(2, 8, 20))


def test_inputs_that_are_always_zero_do_no_harm():
    model = GPT(CONFIG)
    with torch.no_grad():
        model.blocks[0].mlp.fc.weight.zero_()
        model.blocks[0].mlp.fc.bias.zero_()  # gelu(0) = 0, so mlp.proj reads only zeros
    gptq(model, ids(2, 8, 20))
    assert model(ids(2, 8, 20))[0].isfinite().all()


def test_a_model_with_adapters_keeps_them():
    model = apply_lora(random_gpt(CONFIG).float(), 2, 4, "qkv")
    with torch.no_grad():
        for layer in adapters(model).values():
            layer.B.normal_()
    x = ids(2, 8, 20)
    logits = model(x)[0]
    for way in (lambda m: quantize(m, 8), lambda m: gptq(m, x, 8)):
        new = way(copy.deepcopy(model))
        assert len(adapters(new)) == 2
        assert relative(new(x)[0], logits) < 0.05
        assert all(layer.A.requires_grad for layer in adapters(new).values())


# --- a trained model


def public(name):
    file = corpus.data_folder() / name
    if not file.exists():
        pytest.skip(f"{name} is not in the data cache {file.parent}")
    return file


def encode(stories):
    """llama2.c's encoding with tok512.bin, written out here: 1 starts a story."""
    data, vocab, at = public("tok512.bin").read_bytes(), [], 4
    while at < len(data):
        score, n = struct.unpack_from("<fi", data, at)
        vocab.append((data[at + 8 : at + 8 + n], score))
        at += 8 + n
    index = {piece: i for i, (piece, _) in enumerate(vocab) if i >= 259}
    words = {}

    def merged(word):
        ids = [
            i
            for c in word
            for i in ([index[c.encode()]] if c.encode() in index else bytes_of(c))
        ]
        while len(ids) > 1:
            pairs = [index.get(vocab[a][0] + vocab[b][0]) for a, b in zip(ids, ids[1:])]
            known = [k for k, pair in enumerate(pairs) if pair is not None]
            if not known:
                break
            k = max(known, key=lambda k: vocab[pairs[k]][1])
            ids[k : k + 2] = [pairs[k]]
        return ids

    def bytes_of(c):
        return [3 + b for b in c.encode()]

    out = []
    for story in stories:
        out.append(1)
        for word in re.findall(" ?[^ ]+| ", " " + story):
            if word not in words:
                words[word] = merged(word)
            out += words[word]
    return out


@pytest.fixture(scope="module")
def stories260k():
    """The model, and 199,680 ids of the validation slice with their targets.

    The slice does not say where its stories start, so it is read as one text. Paragraphs
    are one newline apart, as in the training data; its misread quotation marks are left out.
    """
    model = checkpoint.load_llama2c(public("stories260K.bin")).eval()
    text = re.sub(r"\n+", "\n", public("tinystories-valid-slice.txt").read_text())
    text = text.encode("ascii", "ignore").decode()
    stream = torch.tensor(encode([text[:560_000]]))[: 390 * 512 + 1]
    assert len(stream) == 390 * 512 + 1
    return model, stream[:-1].view(390, 512), stream[1:].view(390, 512)


@torch.no_grad()
def loss(model, x, y):
    parts = zip(x.split(30), y.split(30))
    return sum(len(a) * model(a, b)[1].item() for a, b in parts) / len(x)


def test_losses_of_a_trained_model(stories260k):
    model, x, y = stories260k
    x, y = x[:20], y[:20]
    full = loss(model, x, y)
    near = {b: loss(quantize(copy.deepcopy(model), b), x, y) for b in (8, 4, 3)}
    assert (
        abs(near[8] - full) < 0.002 and 0.1 < near[4] - full < 0.25 < 1 < near[3] - full
    )
    dynamic = loss(quantize(copy.deepcopy(model), 8, "dynamic_int8"), x, y)
    assert abs(dynamic - full) < 0.02
    # Calibrated on other text than it is judged on.
    fed = loss(gptq(copy.deepcopy(model), stories260k[1][200:208], 4), x, y)
    assert fed - full < 0.75 * (near[4] - full)
    group = loss(quantize(copy.deepcopy(model), 4, "group", 32), x, y)
    assert group - full < 0.9 * (near[4] - full)  # a scale for each 32 numbers helps


def test_what_is_promised_of_a_trained_model(stories260k):
    """int8: a file 3.7 times smaller, within 0.01 nats. int4: within 0.05 nats."""
    model, x, y = stories260k
    calibration, x, y = x[200:216], x[:20], y[:20]
    full, size = loss(model, x, y), size_in_bytes(model)["total"]
    int8 = quantize(copy.deepcopy(model), 8, "dynamic_int8")
    quantize_embeddings(int8, 8, "dynamic_int8")
    assert size / size_in_bytes(int8)["total"] > 3.7
    assert abs(loss(int8, x, y) - full) < 0.01
    int4 = gptq(copy.deepcopy(model), calibration, 4, "group", 16, symmetric=False)
    assert loss(int4, x, y) - full < 0.05


@pytest.mark.slow
def test_losses_on_all_of_the_stream(stories260k):
    model, x, y = stories260k
    full = loss(model, x, y)
    near = {b: loss(quantize(copy.deepcopy(model), b), x, y) for b in (8, 4, 3)}
    # Measured elsewhere on another cut of the same slice: 1.3926, and in 8, 4 and 3 bits
    # 1.3931, 1.560 and 3.257.
    assert full == pytest.approx(1.3926, abs=0.0005)
    assert near[8] == pytest.approx(1.3931, abs=0.001)
    assert near[4] == pytest.approx(1.560, abs=0.01)
    assert near[3] == pytest.approx(3.257, abs=0.01)
