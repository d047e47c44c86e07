"""The oracles of sets 10 and 11 are what the package and PyTorch compute."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course import ledger
from babygpt_course.exercises import find
from babygpt_course.exercises.ex11.accelerator import Accelerator, TooManySteps
from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.result import Outcome
from babygpt_course.generate import filter_logits
from babygpt_course.gpt import GPT, GPTConfig


def cases(id):
    return [case.args for case in find(id).make_cases()]


def test_oracle_of_adamw_is_pytorch():
    by_the_library = next(
        w.function for w in find("10.1").wrongs if w.name == "by-the-library"
    )
    for args in cases("10.1"):
        for mine, theirs in zip(find("10.1").loop(*args), by_the_library(*args)):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_oracle_of_what_may_be_drawn_is_the_package():
    for logits, *settings in cases("10.2"):
        package = filter_logits(logits[None], *settings)[0].softmax(-1)
        torch.testing.assert_close(find("10.2").loop(logits, *settings), package)


def test_no_case_asks_what_only_rounding_decides():
    """The sums of top-p keep away from the limit; the best table is clearly the best."""
    for logits, temperature, top_k, top_p in cases("10.2"):
        if top_p is not None and top_p < 1:
            probs = find("10.2").loop(logits, temperature, top_k, None).double()
            sums = probs.sort(descending=True).values.cumsum(0)
            assert (sums - top_p).abs().min() > 1e-3
    for table, train_ids, val_ids, steps, lr in cases("10.4"):
        losses = [
            find("10.4").loop(table, train_ids, val_ids, n, lr)[1]
            for n in range(steps + 1)
        ]
        new = [b - a for a, b in zip(losses[1:], losses) if b > a]
        assert not new or min(new) > 1e-5


def test_oracle_of_accumulation_is_one_large_batch():
    for table, parts in cases("10.5"):
        w = table.detach().clone().requires_grad_()
        x, y = (
            torch.cat([ids[s] for ids in parts]) for s in (slice(-1), slice(1, None))
        )
        F.cross_entropy(w[x], y).backward()
        torch.testing.assert_close(find("10.5").loop(table, parts), w.grad)


def test_oracle_of_a_step_is_the_ledger_and_the_counter():
    for B, T, V, L, H, C in cases("11.1"):
        config = GPTConfig(vocab_size=V, block_size=T, n_layer=L, n_head=H, n_embd=C)
        mine = find("11.1").loop(B, T, V, L, H, C)
        parts = ledger.flops(config, B)
        assert mine == {part: parts[part].total for part in mine}
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            ids = torch.zeros(B, T, dtype=torch.int64)
            GPT(config, fused=False)(ids, ids)[1].backward()
        assert sum(mine.values()) == counter.get_total_flops()


def test_oracle_of_mfu_is_the_package():
    config = GPTConfig(vocab_size=9, block_size=8, n_layer=2, n_head=2, n_embd=8)
    step = sum(f.total for f in ledger.flops(config, 4).values())
    mine = find("11.2").loop([9.0, 0.5, 0.25, 0.3], step, 1, {"fp32": 1e9}, "fp32")
    assert math.isclose(mine, ledger.mfu(4 * 8 / 0.3, config, 1e9))


def test_an_accelerator_works_while_orders_are_given():
    device = Accelerator(launch=1.0, work=4.0, first=10.0)
    device.step()
    assert device.clock() == 1.0
    device.step()
    assert device.clock() == 2.0
    device.synchronize()
    assert device.clock() == 19.0  # 1 + 14 + 4
    device.synchronize()
    assert device.clock() == 19.0
    with pytest.raises(TooManySteps, match="10,000"):
        while True:
            device.step()


def test_the_clock_of_the_computer_is_refused_and_a_stub_is_a_stub():
    import time

    def seconds_per_step(device, warmup, n):
        began = time.monotonic()
        return time.monotonic() - began

    result = find("11.4").check(seconds_per_step)
    assert (result.outcome, result.message_id) == (
        Outcome.RULE_BROKEN,
        "another-clock",
    )

    def stub(device, warmup, n):
        raise NotImplementedError

    assert find("11.4").check(stub).outcome is Outcome.NOT_ATTEMPTED


def test_tensors_in_lists_and_dicts_are_compared_after_the_call():
    made = Exercise("10_training", "99.1", "t", "k", 1, 1, "predict", "a\n\nb\n\nc")
    made.oracle(lambda parts, named: sum(p.sum() for p in parts) + named["w"].sum())
    made.cases(lambda: [Case(([torch.ones(2), torch.ones(3)], {"w": torch.ones(2)}))])

    def right(parts, named):
        return torch.cat([*parts, named["w"]]).sum()

    def writes_in_the_list(parts, named):
        total = right(parts, named)
        parts[1] += 1
        return total

    def writes_in_the_dict(parts, named):
        total = right(parts, named)
        named["w"].zero_()
        return total

    assert made.grade(right).passed
    assert made.grade(writes_in_the_list).message_id == "modified-input"
    assert made.grade(writes_in_the_dict).message_id == "modified-input"
