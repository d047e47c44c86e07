"""The exercises: the graders are proved, messages help, progress is never lost."""

import functools
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from babygpt_course.exercises import (
    UnknownExercise,
    check,
    exercises,
    find,
    hint,
    progress,
    proof,
    record,
    split,
)
from babygpt_course.exercises.exercise import Case, Exercise, Speed, paragraphs
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.mutants import mutants
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.exercises.result import Outcome
from babygpt_course.exercises.rules import forbid, no_loops

ROOT = Path(__file__).resolve().parent.parent
ALL = exercises()
IDS = [e.id for e in ALL]
CHAPTERS = sorted({e.chapter for e in ALL})
POINTS = sum(e.points for e in ALL)


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", str(file))
    record._memory.clear()
    yield file
    record._memory.clear()


@functools.cache
def proved(id):
    return proof.prove(find(id))


def by_name(id, name):
    """A wrong answer of an exercise, by its name."""
    return next(a for n, _, a in proof.wrong_answers(find(id)) if n == name)


# --- the proof ------------------------------------------------------------------------


@pytest.mark.parametrize("id", IDS)
def test_graders_are_proved(id):
    bad = [r for r in proved(id) if not r.ok]
    assert not bad, "\n".join(map(str, bad))


@pytest.mark.parametrize("exercise", ALL, ids=IDS)
def test_the_proof_is_not_thin(exercise):
    named = {w.message_id for w in exercise.wrongs if not w.expects}
    assert len(named) >= 6
    own = [w for w in exercise.wrongs if not w.expects and not w.of]
    assert len(own) == len(named)
    assert len(exercise.rights) >= 2
    assert sum(r.kind == proof.MUTANT for r in proved(exercise.id)) >= 10


@pytest.mark.parametrize("exercise", ALL, ids=IDS)
def test_every_wrong_answer_says_what_and_what_to_think(exercise):
    for wrong in exercise.wrongs:
        if not wrong.expects:
            assert len(wrong.message.says.split()) >= 6, wrong.name
            assert len(wrong.message.think.split()) >= 6, wrong.name
    assert len(exercise.hints.strip().split("\n\n")) == 3


@pytest.mark.parametrize("exercise", ALL, ids=IDS)
def test_links_lead_to_a_section_of_the_chapter(exercise):
    path = ROOT / "chapters" / f"{exercise.chapter}.ipynb"
    text = "\n".join(
        "".join(c["source"]) for c in json.loads(path.read_text())["cells"]
    )
    heads = re.findall(r"^##+ (.+)$", text, re.M)
    there = {re.sub(r"[^\w]+", "-", head.lower()).strip("-") for head in heads}
    assert {exercise.anchor, *(w.anchor for w in exercise.wrongs)} - {""} <= there


def test_a_grader_that_is_too_kind_is_found():
    """A case too few lets a wrong answer pass, or be taken for another one."""
    toy = Exercise("01_bigram", "01.1", "t", "k", 1, 1, "predict", "a\n\nb\n\nc")
    toy.oracle(find("01.1").loop)
    toy.wrongs, toy.rights = find("01.1").wrongs, []
    toy.cases(lambda: [Case((torch.tensor([0, 1]), 2))])
    rows = {r.name: r for r in proof.prove(toy)}
    assert rows["repeated-pairs-counted-once"].message_id == "passed"
    assert not rows["repeated-pairs-counted-once"].ok
    assert not rows["order-ignored"].ok, "on this case it is like end-joined-to-start"
    assert any(r.kind == proof.MUTANT and not r.ok for r in rows.values())


def test_an_equivalent_mutant_that_does_not_exist_is_an_error():
    exercise = find("01.2")
    exercise.equivalent["p = no such line"] = "because"
    try:
        assert any(
            r.message_id == "no-such-mutant" for r in proof.prove(exercise) if not r.ok
        )
    finally:
        exercise.equivalent.clear()


def test_kill_table_shows_every_answer(monkeypatch):
    """Of the first set; the page of the book has the proof of all."""
    some = [e for e in ALL if e.chapter == ALL[0].chapter]
    rows = {e.id: proved(e.id) for e in some}
    monkeypatch.setattr(proof, "exercises", lambda: some)
    monkeypatch.setattr(proof, "prove", lambda exercise, folder: rows[exercise.id])
    table = proof.kill_table()
    text = table._repr_markdown_()
    for e in some:
        assert f"## {e.id} {e.title}" in text
        assert all(w.name in text for w in e.wrongs)
    assert str(table) == text and "FAILED" not in text
    for line in text.splitlines():
        if line.startswith("| ") and "`" in line:
            assert len(re.findall(r"(?<!\\)\|", line)) == len(line.split(" | ")) + 1


def test_oracle_of_the_gradient_is_autograd():
    logits = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(6, (50,))
    torch.nn.functional.cross_entropy(logits[ids[:-1]], ids[1:]).backward()
    torch.testing.assert_close(find("01.5").loop(logits.detach(), ids), logits.grad)


def test_oracle_of_witten_bell_is_the_package(seed=0):
    from babygpt_course.ngram import NGram

    ids = torch.randint(5, (200,), generator=torch.Generator().manual_seed(seed))
    counts = find("02.1").loop(ids.tolist(), 3)
    bigram, trigram = (NGram(n, "witten_bell").fit(ids, 5) for n in (2, 3))
    for context, row in counts.items():
        seen = torch.tensor([row.get(i, 0) for i in range(5)])
        want = find("02.2").loop(seen, bigram.probs(list(context)))
        torch.testing.assert_close(want, trigram.probs(list(context)))


def test_oracle_of_kneser_ney_is_the_package():
    """With a discount of 1 a bigram seen once after a context hands all of it down."""
    from babygpt_course.ngram import NGram

    ids = torch.tensor([0, 1, 0, 2, 3, 1, 3, 3, 0, 4])
    counts = find("01.1").loop(ids, 5)
    model = NGram(2, "kneser_ney", discount=1.0).fit(ids, 5)
    once = [a for a in range(5) if counts[a].max() == 1]
    assert len(once) >= 2
    kinds = find("02.4").loop(counts)
    kept = (counts > 0).sum(0).double() - 1
    lower = kept.clamp(min=0) / (counts > 0).sum()
    lower = lower + (counts > 0).any(0).sum() / (counts > 0).sum() / 5
    assert kinds.sum() == 1
    for a in once:
        torch.testing.assert_close(model.probs([a]), lower)


def test_oracle_of_byte_pairs_is_the_package():
    from babygpt_course.bpe import BPETokenizer

    words = "abracadabra", "mississippi", "aaaaaaaaaaa", "éèéèéé"
    for word in words:
        mine = find("03.2").loop(list(word.encode()), 9)
        assert mine == BPETokenizer.train(word, 256 + 9).merges


def test_best_segmentation_is_unique_in_every_case():
    exercise = find("03.4")
    tried = by_name("03.4", "every-segmentation-tried").__globals__["all_ways"]
    for case in exercise.make_cases():
        text, log_probs = case.args
        sums = sorted(sum(log_probs[p] for p in way) for way in tried(text, log_probs))
        assert len(sums) == 1 or sums[-1] - sums[-2] > 0.01, text
        assert all(c in log_probs for c in text)


def test_ids_without_a_loss_decode_to_the_text():
    for case in find("03.5").make_cases():
        text, vocab = case.args
        piece = {i: p.encode() for p, i in vocab.items()}
        ids = find("03.5").loop(text, vocab)
        assert b"".join(piece.get(i) or bytes([i]) for i in ids).decode() == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = b + 1", {"a = b - 1", "a = b + 2", "a = b + 0", "(dropped) a = b + 1"}),
        ("x = y[i, j]", {"x = y[j, i]", "(dropped) x = y[i, j]"}),
        ("f(x, dim=-1)", {"f(x)", "f(x, dim=1)", "f(x, dim=-2)", "f(x, dim=-0)"}),
        ("if a < b:\n    c = 1", {"if a <= b:", "if a > b:", "c = 2", "c = 0"}),
        ("a += 1", {"a -= 1", "a += 2", "a += 0"}),
        ("x.mean()", {"x.sum()"}),
    ],
)
def test_mutants_change_one_thing(before, after):
    made = dict(mutants(before))
    assert after <= made.keys()
    assert len(set(made.values())) == len(made) and before not in made.values()


# --- what a learner reads -------------------------------------------------------------


def test_a_failure_shows_the_case_names_the_misconception_and_links():
    result = check("01.1", by_name("01.1", "rows-and-columns-swapped"))
    assert (result.outcome, result.points) == (Outcome.WRONG_VALUE, 0)
    assert result.message_id == "rows-and-columns-swapped"
    text = repr(result)
    assert "✗ 01.1 Count the pairs: wrong value   [0 of 2 points]" in text
    assert "input     count_pairs(torch.tensor([0, 1]), 2)" in text
    assert "expected  tensor([[0, 1],\n                    [0, 0]])" in text
    assert "yours     tensor([[0, 0],\n                    [1, 0]])" in text
    assert (
        "Rows and columns are swapped" in text and "Think about this: You stand" in text
    )
    assert "chapters/01_bigram.html#by-hand" in text


def test_results_are_accessible_html():
    html = check("01.1", by_name("01.1", "rows-and-columns-swapped"))._repr_html_()
    assert 'class="course-result"' in html and "aria-label=" in html
    assert "wrong value" in html and "<th scope='row'" in html and "<caption" in html
    assert "color:" not in html, "the words say it, in the colors of the page"

    def evil(ids, vocab_size):
        raise ValueError("<script>alert(1)</script>")

    html = check("01.1", evil)._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def answer_error(ids, vocab_size):
    counts = torch.zeros(vocab_size, vocab_size)
    return counts[vocab_size]


def answer_reason(ids, vocab_size):
    return torch.bincount(ids / 2)


def answer_one_argument(ids):
    return ids


def answer_long(ids, vocab_size):
    return torch.zeros(vocab_size, vocab_size, dtype=torch.int64)


def answer_sparse(ids, vocab_size):
    return torch.eye(vocab_size, dtype=torch.int64).to_sparse()


@pytest.mark.parametrize(
    ("answer", "message_id", "said"),
    [
        (
            answer_error,
            "raised",
            "on your line `return counts[vocab_size]`: IndexError",
        ),
        (
            answer_reason,
            "raised",
            "NotImplementedError",
        ),  # PyTorch's own, not the stub's
        (answer_one_argument, "wrong-arguments", "count_pairs(ids, vocab_size)"),
        (answer_long, "wrong-value", "on paper"),
        (answer_sparse, "wrong-type", "to_dense"),
        (lambda ids, v: exit(), "raised", "SystemExit"),
        (torch.zeros(2), "not-a-function", "needs the function itself"),
        (torch.nn.Linear, "not-a-function", "needs the function itself"),
        (None, "not-attempted", "Nothing to check yet"),
    ],
)
def test_general_messages_help(answer, message_id, said):
    result = check("01.1", answer)
    assert result.message_id == message_id and said in repr(result)
    assert "Traceback" not in repr(result) and "tolerance" not in repr(result)


def test_input_that_was_written_into_is_shown():
    text = repr(check("01.1", by_name("01.1", "writes-into-the-ids")))
    assert (
        "ids is the same after the call" in text
        and "ids is torch.tensor([1]" not in text
    )
    assert "yours     ids is torch.tensor(" in text


def test_large_cases_show_the_first_difference():
    exercise = Exercise("01_bigram", "99.1", "t", "k", 1, 1, "predict", "a\n\nb\n\nc")
    exercise.oracle(lambda x: x * 2.0)
    exercise.cases(lambda: [Case((torch.ones(9, 9),))])
    text = repr(exercise.grade(lambda x: torch.where(torch.eye(9) > 0, x, 2 * x)))
    assert "a tensor of shape (9, 9), float32" in text
    assert "at [0, 0]: 2.0" in text and "at [0, 0]: 1.0" in text


def test_the_input_can_be_pasted():
    shown = dict(check("01.5", lambda logits, ids: logits * 0 + 1).case)["input"]
    made = eval(shown, {"torch": torch, "bigram_grad": lambda *args: args})
    assert made[0].dtype == torch.float32 and made[1].dtype == torch.int64


def test_endless_answers_are_stopped(monkeypatch):
    from babygpt_course.exercises import running

    monkeypatch.setattr(running, "CALL_SECONDS", 0.2)

    def endless(ids, vocab_size):
        while True:
            try:
                pass
            except Exception:
                pass

    result = check("01.1", endless)
    assert (result.outcome, result.message_id) == (Outcome.TOO_SLOW, "endless")


def test_printing_and_warnings_of_an_answer_are_not_repeated(capsys):
    def chatty(probs, ids):
        print("hello")
        return -probs[ids[:-1], ids[1:]].log2().mean()

    assert check("01.2", chatty).passed
    assert capsys.readouterr().out == ""


def test_answers_need_not_be_functions():
    class Bits(torch.nn.Module):
        def forward(self, probs, ids):
            return -probs[ids[:-1], ids[1:]].log2().mean()

    assert check("01.2", Bits()).passed
    assert check("01.2", lambda p, i: -p[i[:-1], i[1:]].log2().mean().item()).passed


def test_predictions():
    right = find("01.3").truth()
    assert check("01.3", right).passed
    assert check(
        "01.3", right | {"untrained_nats": round(right["untrained_nats"], 2)}
    ).passed
    assert check("01.3", right | {"parameters": 3364.0, "best_rate": 10}).passed
    open_ = check("01.3", right | {"best_rate": None, "abab_nats": ...})
    assert open_.outcome is Outcome.NOT_ATTEMPTED
    assert "Still open: abab_nats, best_rate" in open_.says
    assert check("01.3", right | {"unasked": 3}).message_id == "unknown-question"
    assert check("01.3", right | {"parameters": "many"}).message_id == "not-a-number"
    assert check("01.3", [1, 2, 3]).message_id == "not-a-dict"
    text = repr(check("01.3", right | {"abab_nats": 7, "two_way_bits": 3}))
    assert "question  two_way_bits: After every" in text and "expected  1.0" in text
    assert "yours     3" in text and "4 of 6 predictions hold" in text
    assert "How many yes-or-no questions" in text


def test_bug_hunt_unchanged_is_not_attempted_and_says_so():
    result = check("01.4", find("01.4").planted)
    assert result.outcome is Outcome.NOT_ATTEMPTED
    assert "still in there" in result.says and "experiment" in result.think


def test_unknown_exercise_lists_what_exists():
    for ask in (lambda: check("1.1", None), lambda: hint("01.9")):
        with pytest.raises(
            UnknownExercise, match=r"01\.2  Bits per character"
        ) as error:
            ask()
        assert error.value._render_traceback_() == [str(error.value)]


# --- the engine on other shapes of exercise -------------------------------------------


def toy(**kwargs):
    made = Exercise(
        "01_bigram", "99.1", "t", "k", 1, 1, "predict", "a\n\nb\n\nc", **kwargs
    )

    @made.oracle
    def scaled_softmax(x, dim):
        return (x / 2).softmax(dim)

    @made.cases
    def cases():
        yield Case((torch.tensor([[0.0, 1.0]]), 0))
        yield Case((torch.randn(3, 5), 1), gradient=True)
        yield Case((torch.randn(10, 4)[::2], 1), NON_CONTIGUOUS)

    return made


def test_gradients_must_flow():
    good = toy().grade(
        lambda x, dim: (x / 2).exp() / (x / 2).exp().sum(dim, keepdim=True)
    )
    assert good.passed and NON_CONTIGUOUS in good.says
    cut = toy().grade(lambda x, dim: (x.detach() / 2).softmax(dim))
    assert (cut.message_id, cut.outcome) == ("no-gradient", Outcome.WRONG_VALUE)
    half = toy().grade(
        lambda x, dim: (x / 2).exp() / (x / 2).exp().sum(dim, keepdim=True).detach()
    )
    assert half.message_id == "wrong-gradient"
    strided = toy().grade(lambda x, dim: (x.view(-1).view(x.shape) / 2).softmax(dim))
    assert strided.message_id == "non-contiguous" and "RuntimeError" in strided.says


def helper(x):
    return [v for v in x]


def test_rules_see_helpers_aliases_and_code_without_source():
    from torch import softmax as other_name

    loops, calls = no_loops("think"), forbid("softmax grad", "think")
    assert loops.broken(lambda x: helper(x))[0] == "a comprehension"
    assert calls.broken(lambda x: other_name(x, 0))[0] == "softmax"
    assert calls.broken(lambda x: x.grad)[0] == "grad"
    made = {}
    code = """
def loop(x):
    for v in x: pass
def repeat(x):
    while x: x -= 1
def call(x):
    return x.softmax(0)
def fine(x):
    grad = x + 1
    with open(x): pass
    return grad
"""
    exec(code, made)
    assert loops.broken(made["loop"])[0] == "a for loop"
    assert loops.broken(made["repeat"])[0] == "a while loop"
    assert calls.broken(made["call"])[0] == "softmax"
    assert not loops.broken(made["fine"]) and not calls.broken(made["fine"])

    def local_names(x):
        grad, map = x + 1, 2
        return grad * map

    assert not calls.broken(local_names) and not loops.broken(local_names)


def test_too_slow_is_measured_against_the_loop():
    speed = Speed(lambda n: (torch.zeros(n, 1), 1), sizes=(100, 1000), ratio=200)
    assert toy(speed=speed).grade(lambda x, dim: (x / 2).softmax(dim)).passed

    def slow(x, dim):
        import time

        time.sleep(len(x) / 2000 if len(x) >= 100 else 0)
        return (x / 2).softmax(dim)

    result = toy(speed=speed).grade(slow)
    assert (result.outcome, result.message_id) == (Outcome.TOO_SLOW, "too-slow")
    assert "1,000 numbers would take" in result.says

    def too_large(x, dim):
        if len(x) > 100:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return (x / 2).softmax(dim)

    result = toy(speed=speed).grade(too_large)
    assert (result.outcome, result.message_id) == (Outcome.TOO_SLOW, "out-of-memory")
    assert "With 1,000 numbers" in result.says and "largest tensor" in result.think


def test_too_slow_can_count_other_things_than_numbers():
    speed = Speed(
        lambda n: (torch.zeros(n, 1), 1), (100, 1000), 2, "characters", "Keep it."
    )

    def slow(x, dim):
        import time

        time.sleep(len(x) / 2000 if len(x) >= 100 else 0)
        return (x / 2).softmax(dim)

    result = toy(speed=speed).grade(slow)
    assert "1,000 characters would take" in result.says and result.think == "Keep it."


def of(value, name="made"):
    """An exercise whose right answer is `value`, whatever the argument."""
    exercise = Exercise("01_bigram", "99.2", "t", "k", 1, 1, "predict", "a\n\nb\n\nc")

    def made(x):
        return value

    exercise.oracle(made)
    exercise.cases(lambda: [Case((["x"],)), Case((["x"],))])
    return exercise


COUNTS = {(0, 1): {2: 3}, (1, 1): {0: 1, 2: 1}}


@pytest.mark.parametrize(
    ("right", "got", "message_id", "said"),
    [
        (COUNTS, {k: Counter(v) for k, v in COUNTS.items()}, "passed", ""),
        (COUNTS, defaultdict(dict, COUNTS), "passed", ""),
        (COUNTS, {**COUNTS, (1, 1): {0: 1}}, "wrong-value", "(1, 1): {0: 1}"),
        (COUNTS, {**COUNTS, (0, 1): [2]}, "wrong-type", "a dict at [(0, 1)]; yours"),
        (COUNTS, {**COUNTS, (0, 1): {2: 3.0}}, "wrong-type", "an int at [(0, 1)][2]"),
        (COUNTS, {**COUNTS, (0, 1): {2: "3"}}, "wrong-type", "yours holds a str"),
        (COUNTS, [*COUNTS.items()], "wrong-type", "should be a dict; this is a list"),
        (
            COUNTS,
            {**COUNTS, 3: {}},
            "wrong-type",
            "a tuple among the keys; yours holds an",
        ),
        (
            COUNTS,
            {**COUNTS, (0, "1"): {}},
            "wrong-type",
            "an int among the keys; yours",
        ),
        (
            COUNTS,
            {**COUNTS, (0, 1): {"2": 3}},
            "wrong-type",
            "among the keys at [(0, 1)]",
        ),
        (COUNTS, {**COUNTS, (3, 1): {2: 1}}, "wrong-value", "(3, 1): {2: 1}}"),
        ({}, {"a": 1}, "wrong-value", "yours     {'a': 1}"),
        (torch.ones(2), torch.tensor([1, math.nan]), "wrong-value", "There is nan"),
        (COUNTS, None, "returned-none", "returns None"),
        ([1, 2], (1, 2), "wrong-type", "should be a list; this is a tuple"),
        ([1, 2], [1], "wrong-value", "yours     [1]"),
        ([1, 2], [1, torch.tensor(2)], "wrong-type", "an int at [1]"),
        ([1, 2], torch.tensor([1, 2]), "wrong-type", "should be a list"),
        ([1, 2], [True, 2], "passed", ""),
        ([(1, 2)], [[1, 2]], "wrong-type", "a tuple at [0]; yours holds a list"),
        (["a"], "a", "wrong-type", "this is a str"),
        (list(range(900)), [*range(899), 5], "wrong-value", "at [899]: 899"),
        (list(range(900)), [*range(899)], "wrong-value", "at [899]: nothing"),
        ({1: list(range(200))}, {1: [0]}, "wrong-value", "at [1][1]: 1"),
        ({i: i for i in range(200)}, {7: 7}, "wrong-value", "at [0]: nothing"),
        ((torch.ones(2), torch.ones(1)), [torch.ones(2), torch.ones(1)], "passed", ""),
        ((torch.ones(2), torch.ones(1)), torch.ones(2), "wrong-type", "back 2 results"),
        (
            (torch.ones(2), torch.ones(1)),
            (torch.ones(2), torch.zeros(1)),
            "wrong-value",
            "Result 2 of 2: The numbers",
        ),
    ],
)
def test_lists_and_dicts_are_compared_to_the_last_item(right, got, message_id, said):
    result = of(right).grade(lambda x: got)
    assert result.message_id == message_id and said in repr(result), result


def test_what_a_function_keeps_between_calls_is_seen_in_lists_too():
    kept = []

    def made(x):
        kept.append(1)
        return kept

    result = of([1]).grade(made)
    assert result.message_id == "remembers"
    assert "yours     [1, 1]" in repr(result)


def test_a_list_that_was_written_into_is_shown():
    def made(x):
        x.append(2)
        return [1]

    result = of([1]).grade(made)
    assert result.message_id == "modified-input" and "copy of your own" in result.think
    assert "x is ['x', 2] after the call" in repr(result)


def test_a_helper_that_is_still_a_stub_is_named():
    def merge_pair(ids, pair, new):
        raise NotImplementedError

    def train_bpe(ids, n_merges):
        return [merge_pair(ids, (1, 2), 256)]

    result = check("03.2", train_bpe)
    assert result.outcome is Outcome.NOT_ATTEMPTED
    assert "calls `merge_pair`, which is still a stub" in result.says
    assert "still the stub" in check("03.1", merge_pair).says


# --- hints and progress ---------------------------------------------------------------


def test_hints_come_one_at_a_time_then_all(own_progress):
    said = [repr(hint("01.1")) for _ in range(4)]
    assert [s.count("Hint") for s in said] == [1, 1, 1, 3]
    assert "Hint 1 of 3, a question" in said[0] and "pseudocode" in said[2]
    assert json.loads(own_progress.read_text())["exercises"]["01.1"]["hints"] == 3
    assert "<section" in hint("01.1")._repr_html_()


def test_progress_is_recorded_and_a_pass_stays_a_pass(own_progress):
    right, wrong = find("01.2").rights[0], by_name("01.2", "nats-instead-of-bits")
    for answer in (None, wrong, right, wrong):
        check("01.2", answer)
    row = json.loads(own_progress.read_text())["exercises"]["01.2"]
    assert row["outcome"] == "passed" and row["points"] == 2 and row["tries"] == 2
    shown = progress()
    assert f"2 of {POINTS} points, 1 of {len(ALL)} exercises passed" in repr(shown)
    assert "✓ passed" in repr(shown) and "○ not attempted" in repr(shown)
    html = shown._repr_html_()
    assert "<caption" in html and '<th scope="col"' in html and "<progress" in html


def test_nothing_attempted_writes_nothing(own_progress):
    check("01.1", None)
    assert not own_progress.exists()
    assert f"0 of {POINTS} points" in repr(progress())


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        "",
        '{"exercises": {"01.1": 3}}',
        '{"exercises": {"01.1": {"points": "2"}}}',
        "\x00",
    ],
)
def test_a_damaged_file_is_set_aside(own_progress, damage):
    own_progress.write_text(damage)
    (own_progress.parent / "progress.damaged-1.json").write_text("an older one")
    result = check("01.2", find("01.2").rights[0])
    assert result.passed and "was damaged" in result.note and "Note:" in repr(result)
    assert (own_progress.parent / "progress.damaged-2.json").read_text() == damage
    assert (
        own_progress.parent / "progress.damaged-1.json"
    ).read_text() == "an older one"
    assert json.loads(own_progress.read_text())["exercises"]["01.2"]["points"] == 2


def test_an_interrupted_write_leaves_the_old_file(own_progress, monkeypatch):
    check("01.2", find("01.2").rights[0])
    before = own_progress.read_text()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    result = check("01.4", find("01.4").rights[0])
    assert result.passed and "could not be saved" in result.note
    assert own_progress.read_text() == before
    assert [p.name for p in own_progress.parent.iterdir()] == ["progress.json"]
    assert f"5 of {POINTS} points" in repr(progress()), (
        "what could not be saved still counts here"
    )


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", str(tmp_path / "file" / "p.json"))
    result = check("01.2", find("01.2").rights[0])
    assert result.passed and "BABYGPT_COURSE_PROGRESS" in result.note
    assert [repr(hint("01.1"))[:6] for _ in range(2)] == ["Hint 1", "Hint 2"]


def test_unknown_exercises_in_the_file_are_kept(own_progress):
    own_progress.write_text('{"version": 1, "exercises": {"77.1": {"points": 5}}}')
    check("01.2", find("01.2").rights[0])
    assert json.loads(own_progress.read_text())["exercises"]["77.1"]["points"] == 5


def test_off_records_nothing(own_progress, monkeypatch):
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", "off")
    assert check("01.2", find("01.2").rights[0]).passed
    assert not own_progress.exists()


# --- one source -----------------------------------------------------------------------


def test_exercises_are_in_step_with_solutions():
    assert split.main(["--check"], ROOT) == 0


def test_split_notices_and_mends_an_edit(tmp_path, capsys):
    for folder in ("solutions", "exercises"):
        (tmp_path / folder).mkdir()
    source = (ROOT / "solutions" / "01_bigram.ipynb").read_text()
    (tmp_path / "solutions" / "01_bigram.ipynb").write_text(source)
    assert split.main(["--check"], tmp_path) == 1
    assert split.main([], tmp_path) == 0
    made = (tmp_path / "exercises" / "01_bigram.ipynb").read_text()
    (tmp_path / "solutions" / "01_bigram.ipynb").write_text(
        source.replace("Commit to", "x")
    )
    assert split.main(["--check"], tmp_path) == 1
    assert "out of step" in capsys.readouterr().out
    assert "BEGIN SOLUTION" not in made and "bincount" not in made
    assert "# Exercises 01" in made and "solution-only" not in made
    assert split.main([], tmp_path / "empty") == 2


def test_a_region_that_is_not_closed_is_an_error():
    with pytest.raises(split.SplitError, match="no partner"):
        split.stub("def f():\n    # BEGIN SOLUTION\n    pass\n")
    code = "x = {\n    # BEGIN SOLUTION\n    # STUB 'a': None,\n    'a': 1,\n    # END SOLUTION\n}"
    assert split.stub(code) == "x = {\n    'a': None,\n}"


def cells_of(folder, chapter):
    return json.loads((ROOT / folder / f"{chapter}.ipynb").read_text())["cells"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_set_is_four_to_six_exercises_of_about_45_minutes(chapter):
    own = [e for e in ALL if e.chapter == chapter]
    assert [e.id for e in own] == [f"{chapter[:2]}.{k + 1}" for k in range(len(own))]
    assert 4 <= len(own) <= 6 and 40 <= sum(e.minutes for e in own) <= 50
    assert {"predict", "bug hunt"} <= {e.kind for e in own}


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("folder", ["exercises", "solutions"])
def test_notebooks_run_and_their_text_agrees_with_the_graders(folder, chapter):
    cells = cells_of(folder, chapter)
    own = [e for e in ALL if e.chapter == chapter]
    assert len({c["id"] for c in cells}) == len(cells)
    text = "\n".join(
        "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
    )
    for e in own:
        about = f"## {e.id} {e.title}\n\n*{e.kind} · {e.points} points · about {e.minutes} min*"
        assert about in text
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    script = "\n".join(
        re.sub(r"^(check\(.*\))$", r"print(\1.outcome)", c, flags=re.M) for c in code
    )
    env = os.environ | {"OMP_NUM_THREADS": "1", "BABYGPT_COURSE_PROGRESS": "off"}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env
    )
    assert run.returncode == 0, run.stderr
    word = "passed" if folder == "solutions" else "not attempted"
    assert run.stdout.count(f"{word}\n") == len(own)


@pytest.mark.parametrize("exercise", ALL, ids=IDS)
def test_the_text_has_what_an_exercise_needs(exercise):
    """A goal in one sentence, a stub with a docstring, and its check in the next cell."""
    cells = cells_of("exercises", exercise.chapter)
    sources = ["".join(c["source"]) for c in cells]
    start = next(i for i, s in enumerate(sources) if f"## {exercise.id} " in s)
    goal = re.search(r"\*\*Goal\.\*\* (.+?)\n\n", sources[start], re.S)
    assert goal and len(goal[1].split()) <= 40
    if isinstance(exercise, Prediction):
        asked = re.findall(r"^\| `(\w+)` \| .", sources[start], re.M)
        assert asked == list(exercise.questions)
    else:
        assert "**By hand.**" in sources[start] and "| out |" in sources[start]
    end = next(i for i, s in enumerate(sources) if f'check("{exercise.id}"' in s)
    at = next(
        i
        for i in range(start, end)
        if re.search(rf"^(def )?{exercise.name}\b", sources[i], re.M)
    )
    if exercise.kind != "bug hunt":
        assert end == at + 1, "the check stands in the next cell"
    if not isinstance(exercise, Prediction):
        stub = re.search(r"^def .*?:\n    (\"\"\".+)", sources[at], re.M | re.S)
        assert stub and "->" in stub[0], "typed, with a docstring"


@pytest.mark.parametrize("exercise", ALL, ids=IDS)
def test_a_question_in_the_notebook_is_the_one_that_is_graded(exercise):
    """The words that carry numbers are the same in the notebook and in the message."""
    if isinstance(exercise, Prediction):
        cells = cells_of("exercises", exercise.chapter)
        text = "\n".join("".join(c["source"]) for c in cells)
        for key, question in exercise.questions.items():
            row = re.search(rf"^\| `{key}` \| (.+) \|$", text, re.M)[1]
            asked = paragraphs(question)[0]
            in_row, in_asked = (
                set(re.findall(r"\d[\d.]*(?<!\.)", s)) for s in (row, asked)
            )
            assert in_row <= in_asked, (row, asked)


# --- what an adversary tried -----------------------------------------------------------


def bits(p, ids):
    return -p[ids[:-1], ids[1:]].log2()


class Raises:
    def __float__(self):
        raise RuntimeError("no")

    __repr__ = __str__ = __float__


def nested(depth=100_000):
    out = []
    for _ in range(depth):
        out = [out]
    return out


@pytest.mark.parametrize(
    "gives, id",
    [
        (lambda p, i: bits(p, i).mean().reshape(1).numpy(), "passed"),
        (lambda p, i: torch.cat([bits(p, i)] * 2).numpy(), "wrong-shape"),
        (lambda p, i: "1.5", "wrong-type"),
        (lambda p, i: complex(1), "wrong-type"),
        (lambda p, i: Raises(), "wrong-type"),
        (lambda p, i: 10**5000, "wrong-type"),
        (lambda p, i: nested(), "wrong-type"),
        (lambda p, i: torch.zeros(1, device="meta"), "wrong-type"),
        (lambda p, i: (0 * bits(p, i) / 0).mean(), "wrong-value"),
    ],
)
def test_strange_results_get_a_message(gives, id):
    result = check("01.2", gives)
    assert result.message_id == id, result
    assert result._repr_html_()


def test_strange_errors_get_a_message():
    def raises(error):
        def count_pairs(ids, vocab_size):
            raise error

        return check("01.1", count_pairs)

    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    for error in (Odd(), GeneratorExit(), SystemExit(), RecursionError("deep")):
        assert raises(error).message_id == "raised"


def test_an_endless_loop_with_a_bare_except_is_stopped(monkeypatch):
    import time

    from babygpt_course.exercises import running

    monkeypatch.setattr(running, "CALL_SECONDS", 0.3)
    began = time.monotonic()

    def count_pairs(ids, vocab_size):
        while True:
            try:
                time.sleep(0.01)
                if time.monotonic() - began > 20:
                    return None
            except Exception:
                pass

    assert check("01.1", count_pairs).message_id == "endless"
    assert time.monotonic() - began < 5


def test_rules_see_through_objects_partials_and_libraries():
    def loop(ids, vocab_size, extra=0):
        counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
        for a, b in zip(ids[:-1], ids[1:]):
            counts[a, b] += 1
        return counts

    class Counter:
        def __call__(self, ids, vocab_size):
            return loop(ids, vocab_size)

    for answer in (functools.partial(loop, extra=1), Counter()):
        assert check("01.1", answer).message_id == "python-loop"

    loss_fn = torch.nn.NLLLoss()
    assert (
        check(
            "01.2", lambda p, i: loss_fn(p[i[:-1]].log(), i[1:]) / math.log(2)
        ).message_id
        == "forbidden-call"
    )


def test_names_of_the_learners_own_are_no_fault():
    def cross_entropy(p, i):
        return bits(p, i).mean()

    def bits_per_char(probs, ids):
        def nll_loss(q):
            return q

        return nll_loss(cross_entropy(probs, ids))

    assert check("01.2", bits_per_char).passed

    def bigram_grad(logits, ids):
        assert not logits.requires_grad
        error = torch.softmax(logits[ids[:-1]], dim=1)
        error[torch.arange(len(error)), ids[1:]] -= 1
        return torch.zeros_like(logits).index_add(0, ids[:-1], error / len(error))

    assert check("01.5", bigram_grad).passed
    counted = [lambda ids, V: count_by_bins(ids, V) for _ in range(2)]
    assert check("01.1", counted[1]).passed


def count_by_bins(ids, V):
    return torch.bincount(ids[:-1] * V + ids[1:], minlength=V * V).view(V, V)


def bincount(x):
    """Of the same name as torch's: an attribute is not this."""
    for _ in x:
        pass


def test_settings_of_the_notebook_do_not_matter_and_do_not_leak():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    try:
        assert check("01.5", lambda x, i: x * 0).message_id != "grader-stopped"
        assert check("01.1", count_by_bins).passed
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)

    def leaks(ids, V):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return count_by_bins(ids, V)

    assert check("01.1", leaks).passed
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_small_integers_and_memory_between_calls_are_seen():
    def small(ids, V):
        ids = ids.to(torch.uint8)
        return (
            torch.bincount(ids[:-1] * V + ids[1:], minlength=V * V)
            .view(-1)[: V * V]
            .view(V, V)
        )

    assert not check("01.1", small).passed
    total = []

    def remembers(probs, ids):
        total.append(float(bits(probs, ids).sum()))
        return sum(total) / (len(ids) - 1)

    assert check("01.2", remembers).message_id == "remembers"


def test_swapped_and_near_ids():
    with pytest.raises(UnknownExercise, match="id comes first"):
        check(count_by_bins, "01.1")
    with pytest.raises(UnknownExercise, match=r"Did you mean '01\.1'"):
        check("1.1", count_by_bins)
    with pytest.raises(UnknownExercise, match="with that id"):
        check(torch.ones(2), count_by_bins)
    assert "without calling" in check("01.1").think


def test_a_folder_named_as_progress_is_left_alone(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    for named in (str(folder), ".", "/", str(tmp_path / ("x" * 300))):
        monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", named)
        assert check("01.1", count_by_bins).passed
        assert progress().points >= 2
    assert (folder / "thesis.txt").read_text() == "years"
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", str(deep))
    assert "damaged" in check("01.1", count_by_bins).note
