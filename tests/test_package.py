"""The package as a house: what may lean on what, words on everything public, a light door."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import babygpt_course
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "babygpt_course"
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(babygpt_course.__path__, "babygpt_course.")
    if ".exercises." not in m.name
)
MODELS = ["bigram", "ngram", "attention", "gpt", "llama", "seq2seq", "vision"]


def imported(file):
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "babygpt_course":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.removeprefix("babygpt_course.")}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("babygpt_course.") for a in node.names}
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_model_leans_on_attention_at_most(model):
    ours = imported(SOURCE / f"{model}.py") & {f.stem for f in SOURCE.glob("*.py")}
    assert ours <= {"attention", "errors"}


def test_nothing_but_the_command_line_leans_on_the_exercises():
    users = {
        f.stem
        for f in SOURCE.glob("*.py")
        if any("exercises" in m for m in imported(f))
    }
    assert users <= {"cli", "grade"}


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_is(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    wordless = []
    for attribute, thing in vars(module).items():
        ours = getattr(thing, "__module__", "") == name and not attribute.startswith(
            "_"
        )
        if not ours or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        own = thing.__dict__ if inspect.isclass(thing) else {}
        named = {attribute: thing} | {
            f"{attribute}.{k}": v
            for k, v in own.items()
            if inspect.isfunction(v) and not k.startswith("_")
        }
        # A method without words of its own has those of the class that it fills in.
        wordless += [k for k, v in named.items() if not inspect.getdoc(v)]
    assert wordless == []


def test_import_takes_less_than_half_a_second_beyond_torch():
    """By modules, not by the clock: nothing heavy is loaded that torch does not bring."""
    models = ", ".join(
        f"babygpt_course.{m}" for m in [*MODELS, "trainer", "checkpoint"]
    )
    code = (
        f"import torch, sys; before = set(sys.modules); import {models}\n"
        "heavy = ('matplotlib', 'anywidget', 'sentencepiece', 'transformers', 'IPython',\n"
        "         'torch._inductor', 'torch._dynamo', 'sklearn', 'pandas')\n"
        "print([m for m in heavy if m in set(sys.modules) - before])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr
