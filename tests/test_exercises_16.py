"""The oracles of set 16 are what the package and PyTorch compute."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from babygpt_course import checkpoint
from babygpt_course.attention import KVCache, attention_weights, causal_mask
from babygpt_course.exercises import find
from babygpt_course.exercises.ex16.read_tensor import LAYERED, NAMES, example_file
from babygpt_course.llama import (
    GroupedQueryAttention,
    Llama,
    LlamaConfig,
    apply_rotary,
    rotary_table,
)


def cases(id):
    return [case.args for case in find(id).make_cases()]


def test_oracle_of_grouped_attention_is_pytorch():
    for q, k, v in cases("16.1"):
        mask = causal_mask(q.shape[1], k.shape[1])
        truth = F.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=mask, enable_gqa=True
        )[0]
        torch.testing.assert_close(find("16.1").loop(q, k, v), truth, rtol=1e-4, atol=1e-5)  # fmt: skip


def test_oracle_of_a_cached_step_is_the_packages_cache():
    for q, k, v, keys, values in cases("16.2"):
        (G, S, D), E = keys.shape, values.shape[2]
        if D != E:
            continue
        cache = KVCache(1, G, S + 1, D, q.dtype)
        cache.append(keys[None], values[None])
        all_k, all_v = cache.append(k[None, :, None], v[None, :, None])
        wide = all_k[0].repeat_interleave(len(q) // G, 0)
        y = attention_weights(q[:, None], wide) @ all_v[0].repeat_interleave(len(q) // G, 0)  # fmt: skip
        for mine, theirs in zip(
            find("16.2").loop(q, k, v, keys, values), (y[:, 0], all_k[0], all_v[0])
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_steps_with_a_cache_are_a_layer_of_the_package():
    layer = GroupedQueryAttention(LlamaConfig(12, 1, 6, 2), fused=False)
    x = torch.randn(1, 5, 12)
    still = torch.ones(5, 1), torch.zeros(5, 1)  # no rotation
    q = layer.wq(x).view(5, 6, 2).transpose(0, 1)
    k, v = (w(x).view(5, 2, 2).transpose(0, 1) for w in (layer.wk, layer.wv))
    keys, values, rows = k[:, :0], v[:, :0], []
    for t in range(5):
        y, keys, values = find("16.2").loop(q[:, t], k[:, t], v[:, t], keys, values)
        rows.append(layer.wo(y.flatten()))
    torch.testing.assert_close(torch.stack(rows)[None], layer(x, *still))


@pytest.mark.parametrize("parts", [[7], [3, 4], [1] * 7])
def test_oracle_of_reading_in_parts_is_the_packages_rotation(parts):
    for x, wq, wk, wv, _ in cases("16.4"):
        x = torch.cat([x] * 7)[:7].double()
        wq, wk, wv = wq.double(), wk.double(), wv.double()
        cos, sin = (t.double() for t in rotary_table(wq.shape[1], 7))
        q, k = (apply_rotary((x @ w)[None, None], cos, sin) for w in (wq, wk))
        truth = F.scaled_dot_product_attention(q, k, (x @ wv)[None, None], is_causal=True)  # fmt: skip
        mine = find("16.4").loop(x, wq, wk, wv, parts)
        torch.testing.assert_close(mine, truth[0, 0], rtol=1e-5, atol=1e-5)


def test_a_shift_of_all_positions_is_no_fault_and_the_given_code_is_right_in_one_part():
    hunt = find("16.4")
    for x, wq, wk, wv, parts in cases("16.4"):
        whole = hunt.planted(x, wq, wk, wv, [sum(parts)])
        truth = hunt.loop(x, wq, wk, wv, parts)
        torch.testing.assert_close(whole, truth, rtol=1e-4, atol=1e-5)
        given = hunt.planted(x, wq, wk, wv, parts)
        if len(parts) > 1:
            assert (given - truth).abs().max() > 5e-3, "the fault is plain to see"


@pytest.mark.parametrize("tie", [True, False])
def test_oracle_of_reading_a_file_reads_the_packages_files(tmp_path, tie):
    config = LlamaConfig(12, 3, 6, 2, 11, 7, 5, tie=tie)
    model = Llama(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    checkpoint.save_llama2c(model, tmp_path / "m.bin")
    data = (tmp_path / "m.bin").read_bytes()
    names = {
        "embedding": "token_embedding", "norm": "norm", "head": "head", "norm1": "norm1", "norm2": "norm2",
        **{n: f"attention.{n}" for n in "wq wk wv wo".split()}, **{n: f"mlp.{n}" for n in "w1 w2 w3".split()},
    }  # fmt: skip
    state = model.state_dict()
    for name in NAMES:
        for layer in range(3) if name in LAYERED else [0]:
            theirs = f"blocks.{layer}." * (name in LAYERED) + names[name] + ".weight"
            assert find("16.5").loop(data, name, layer).equal(state[theirs]), name
    sizes = [getattr(config, f.name) for f in dataclasses.fields(config)]
    assert len(sizes) == 10, "a new field of the config needs a place in the file"
    mine = example_file(12, 7, 3, 6, 2, 11, 5, tied=tie)
    assert len(mine) == len(data) and mine[:28] == data[:28]


def test_numbers_of_the_predictions_are_those_of_the_formulas():
    truth = find("16.3").truth()
    assert truth["bytes_a_token"] == 2 * 5 * 4 * 8 * 4
    assert truth["outgrows"] == math.floor(4 * 260_032 / 1280) + 1
    assert truth["scores_of_a_step"] == 2400
    assert truth["positions_without"] == 5050 and truth["positions_with"] == 100
