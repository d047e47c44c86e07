"""The live figure of chapter 12: what Python makes of it, and what a reader can do with it in a browser."""

import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, lora_figure
from babygpt_course.live.lora import PLACES, WAYS, stops, truncated
from babygpt_course.live.rng import random_numbers
from babygpt_course.lora import adapters, apply_lora
from babygpt_course.plots import bits
from babygpt_course.tokenizer import WordTokenizer
from babygpt_course.trainer import TrainConfig, make_optimizers
from tests.live_page import (
    axe_findings,
    readout,
    said,
    served,
    sideways,
    small_text,
    tiny_targets,
    visiting,
)

NAMES, THINGS = "Anna Ben Lucy Tom Mia".split(), "kite drum ball boat".split()
DAY = [
    f"{n} had a {t}. The sun was warm, and {n} said so.\n"
    for n in NAMES
    for t in THINGS
]
NIGHT = [
    f"The moon was cold. {n} had a {t}, and {n} was quiet.\n"
    for n in NAMES
    for t in THINGS
]
OTHER = [
    f"The {a} was {b}, and {n} had a {t}. {n} said so.\n"
    for n in NAMES
    for t in THINGS
    for a, b in (("sun", "quiet"), ("moon", "warm"))
]
TOKENIZER = WordTokenizer("".join(DAY + NIGHT + OTHER))
ENDS = ("qkv", "attention.proj", "fc", "mlp.proj")


def fit(model: GPT, lines: list[str], steps: int, **recipe) -> GPT:
    ids = [torch.tensor(TOKENIZER.encode("\n" + line)) for line in lines]
    rows = pad_sequence(ids, batch_first=True, padding_value=-100)
    x, y = rows[:, :-1].clamp(min=0), rows[:, 1:]
    optimizers = make_optimizers(model, TrainConfig(steps=steps, **recipe))
    for _ in range(steps):
        model.zero_grad()
        F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten()).backward()
        for optimizer in optimizers:
            optimizer.step()
    return model


@pytest.fixture(scope="module")
def models() -> tuple[GPT, GPT, dict]:
    """A base that knows the day, a fine-tuned model of the night, adapters by rank."""
    torch.manual_seed(0)
    base = GPT(GPTConfig(TOKENIZER.vocab_size, 24, 2, 2, 20, tie=False))
    fit(base, DAY + OTHER, 150, lr=0.01, optimizer="muon", muon_lr=0.05)
    tuned = copy.deepcopy(base.requires_grad_(False))
    for name, p in tuned.named_parameters():
        p.requires_grad_(name.startswith("blocks") and p.ndim == 2)
    fit(tuned, NIGHT, 60, lr=0.003)
    trained = {}
    for r in (1, 4):
        torch.manual_seed(1)
        adapted = apply_lora(copy.deepcopy(base), r, 4.0, ENDS)
        trained[r] = fit(adapted, NIGHT, 60, lr=0.02)
    return base, tuned, trained


def figure(models, **options) -> LiveFigure:
    base, tuned, trained = models
    given = {"night": NIGHT[:2], "day": DAY[:2], "code_href": "#code", "card": "A card"}
    return lora_figure(base, tuned, trained, TOKENIZER, **(given | options))


@pytest.fixture(scope="module")
def fig(models) -> LiveFigure:
    return figure(models)


def approximated(models, way, rank, where="all", scale=1.0) -> GPT:
    """The model that the browser should run, from the numbers that it is sent."""
    base, tuned, trained = models
    work = copy.deepcopy(base).half().double()
    for name in adapters(trained[4]):
        W = base.get_submodule(name).weight
        D = (tuned.get_submodule(name).weight - W).half().double()
        W = W.half().double()
        if not any(f".{part}." in name for part in PLACES[where]):
            new = W if way == "lora" else W + D
        elif way == "change":
            new = W + scale * truncated(D, rank)
        elif way == "whole":
            new = truncated(W + D, rank)
        else:
            layer = adapters(trained[rank])[name]
            B = (layer.scale * layer.B).half().double()
            new = W + scale * B @ layer.A.half().double()
        work.get_submodule(name).weight.data = new
    return work


@torch.no_grad()
def loss(models, way, rank, where="all", scale=1.0, style="night") -> float:
    model, total = approximated(models, way, rank, where, scale), 0.0
    texts = {"night": NIGHT[:2], "day": DAY[:2]}[style]
    for text in texts:
        ids = torch.tensor(TOKENIZER.encode("\n" + text))
        logits = model(ids[None, :-1])[0][0]
        total += float(F.cross_entropy(logits, ids[1:], reduction="sum"))
    return bits(total / sum(map(len, texts)))


@torch.no_grad()
def told(model: GPT, seed: int) -> str:
    """A tale from the empty page, with the random numbers of the browser."""
    ids, most = TOKENIZER.encode("\n"), model.config.block_size
    for u in random_numbers(seed, most).tolist():
        p = (model(torch.tensor([ids]))[0][0, -1] / 0.5).softmax(-1)
        ids.append(int((p.cumsum(0) <= u * float(p.sum())).sum()))
        if TOKENIZER.tokens[ids[-1]] == "\n":
            return TOKENIZER.decode(ids[1:-1]) + " ¶"
    return TOKENIZER.decode(ids[1:]) + " …"


# --- what Python makes


def test_stops():
    assert stops(48) == [0, 1, 2, 4, 8, 16, 32, 48]
    assert stops(16) == [0, 1, 2, 4, 8, 16]


def test_curves_are_those_of_the_models(fig, models):
    ranks, curves = fig.props["ranks"], fig.props["curves"]
    assert ranks == [0, 1, 2, 4, 8, 16, 20] and fig.props["trained"] == [1, 4]
    for where in PLACES:
        assert set(curves[where]) == set(WAYS)
        for way in ("change", "whole"):
            for r in (1, 4, 20):
                got = curves[where][way][ranks.index(r)]
                for style, value in zip(("night", "day"), got):
                    want = loss(models, way, r, where, style=style)
                    assert value == pytest.approx(want, abs=6e-5)
        assert curves[where]["lora"][2][0] == pytest.approx(
            loss(models, "lora", 4, where), abs=6e-5
        )
    every = curves["all"]
    assert every["change"][-1] == pytest.approx(every["whole"][-1], abs=1e-4)
    assert every["lora"][0] == every["change"][0], "rank 0 is the base"


def test_the_finding_has_its_numbers(fig):
    curves = fig.props["curves"]["all"]
    for number in (curves["change"][3], curves["whole"][3], curves["lora"][2]):
        assert f"{number[0]:.2f}" in fig.alt
    assert fig.picture.count("polyline") == 3 and fig.alt.split(".")[0] in fig.picture


def test_the_page_is_small_and_asks_nobody(fig, models, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure(models).html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["matrices"] == list(adapters(models[2][4]))
    assert len(page) < 40_000


def test_what_does_not_belong_together_is_refused(models):
    base, tuned, trained = models
    with pytest.raises(ConfigError, match="tokens"):
        lora_figure(base, tuned, trained, WordTokenizer("x"), night=NIGHT, day=DAY)
    with pytest.raises(ConfigError, match=r"has changed norm\.weight"):
        other = copy.deepcopy(tuned)
        other.norm.weight.data += 1
        figure((base, other, trained))
    with pytest.raises(ConfigError, match="needs the rank 4"):
        figure((base, tuned, {1: trained[1]}))
    with pytest.raises(ConfigError, match="needs an adapter of that rank"):
        figure((base, tuned, {4: trained[1]}))
    with pytest.raises(ConfigError, match="not on the given base"):
        other = copy.deepcopy(trained[4])
        next(iter(adapters(other).values())).base.weight.data += 1
        figure((base, tuned, {4: other}))
    with pytest.raises(ConfigError, match="one shape"):
        tied = GPT(GPTConfig(TOKENIZER.vocab_size, 24, 2, 2, 20))
        figure((tied, tied, trained))


def test_a_model_that_does_not_show_it_is_refused(models):
    base, _, trained = models
    with pytest.raises(ConfigError, match="not true of them"):
        figure((base, copy.deepcopy(base), trained))


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def opened(page):
    page.click("text=Just show me")
    return page


def pair(night: float, day: float) -> str:
    return f"{night:.2f} bits per character by night, {day:.2f} by day"


def rank_to(page, keys: str):
    for key in keys.split():
        page.get_by_label("Rank", exact=True).press(key)


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = opened(visit(width=width))
    if look == "print":
        page.emulate_media(media="print")
    else:
        page.evaluate("t => document.documentElement.dataset.theme = t", look)
    page.wait_for_timeout(250)
    assert sideways(page) <= 0
    assert page.locator(".lf svg[role=img]").first.is_visible()
    assert not small_text(page) and not tiny_targets(page)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == len(fig.props["ranks"])
    assert readout(page) == fig.alt


@pytest.mark.browser
def test_predict_before_the_curves_are_shown(visit, fig):
    page = visit()
    assert page.locator(".lf polyline").count() == 0
    assert page.get_by_label("Rank", exact=True).is_disabled()
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible()
    page.get_by_label("Nearer to the fine-tuned model").select_option("same")
    page.click("text=Check")
    curves = fig.props["curves"]["all"]
    a, b = curves["change"][3][0], curves["whole"][3][0]
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("Not so: at rank 4 of 20")
    assert f"{a:.2f} bits" in verdict and f"{b:.2f} with" in verdict
    assert page.locator(".lf polyline").count() == 3
    assert not page.get_by_text("Predict first").is_visible()


@pytest.mark.browser
def test_losses_are_those_of_torch(visit, models):
    page = opened(visit())
    ways = {"The change, cut": "change", "The weights, cut": "whole"}
    for keys, rank in (("Home ArrowRight", 1), ("End ArrowLeft", 16), ("End", 20)):
        for name, way in ways.items():
            page.click(f"text={name}")
            rank_to(page, keys)
            want = [loss(models, way, rank, style=s) for s in ("night", "day")]
            assert pair(*want) in readout(page)
    page.click("text=LoRA, trained")
    for where in ("All", "Attention", "MLP"):
        page.get_by_role("button", name=where, exact=True).click()
        want = [
            loss(models, "lora", 4, where.lower(), style=s) for s in ("night", "day")
        ]
        assert pair(*want) in readout(page)
    assert "LoRA of rank 4, in the MLP only" in readout(page)


@pytest.mark.browser
def test_loudness(visit, models):
    page = opened(visit())
    loud = page.get_by_label("Loudness of the change")
    loud.press("Home")
    base = [loss(models, "change", 0, style=s) for s in ("night", "day")]
    assert pair(*base) in readout(page)
    page.click("text=LoRA, trained")
    assert pair(*base) in readout(page), "LoRA at 0 is the base"
    loud.press("End")
    want = [loss(models, "lora", 4, scale=2.0, style=s) for s in ("night", "day")]
    assert pair(*want) in readout(page) and "2.00 times as loud" in readout(page)
    page.click("text=The weights, cut")
    assert loud.is_disabled()


@pytest.mark.browser
def test_its_tales_are_those_of_torch(visit, models):
    page = opened(visit())
    rank_to(page, "End")
    story, tuned = page.locator(".lf-story"), approximated(models, "change", 20)
    assert story.text_content() == told(tuned, 0)
    for seed in range(1, 5):
        page.click("text=Another tale")
        assert story.text_content() == told(tuned, seed)
    page.click("text=The weights, cut")
    rank_to(page, "Home ArrowRight ArrowRight")
    assert story.text_content() == told(approximated(models, "whole", 2), 4)


@pytest.mark.browser
def test_a_rank_that_was_not_trained(visit):
    page = opened(visit())
    page.click("text=LoRA, trained")
    rank_to(page, "End")
    assert "LoRA of rank 4" in readout(page)
    text = page.get_by_label("Rank", exact=True).get_attribute("aria-valuetext")
    assert text == "4 (none was trained with 20)"


@pytest.mark.browser
def test_singular_values(visit, models):
    page = opened(visit())
    base, tuned, _ = models
    name = "blocks.1.mlp.fc"
    page.get_by_label("Matrix").select_option(label="block 1, MLP.fc")
    D = (tuned.get_submodule(name).weight - base.get_submodule(name).weight).half()
    s = torch.linalg.svdvals(D.detach().double()).square()
    share = 100 * float(s[:4].sum() / s.sum())
    found = page.get_by_text("Singular values of the change").text_content()
    assert f"the 4 that are kept, {share:.1f}\u00a0%" in found
    assert page.locator(".lf svg rect").count() == 20
    page.click("text=LoRA, trained")
    assert page.get_by_text("No more than 4 can differ from zero").is_visible()


@pytest.mark.browser
def test_every_number_as_text(visit, fig):
    page = opened(visit())
    page.click("text=Show as table")
    rows = page.locator("[role=region] tbody tr")
    assert rows.count() == len(fig.props["ranks"])
    cells = rows.nth(3).locator("td").all_text_contents()
    curves = fig.props["curves"]["all"]
    want = [*curves["change"][3], *curves["whole"][3], *curves["lora"][2]]
    assert cells == [f"{v:.3f}" for v in want]
    assert rows.nth(2).locator("td").last.text_content() == "–"


@pytest.mark.browser
def test_the_finding_is_said(visit):
    page = opened(visit())
    rank_to(page, "ArrowRight")
    assert said(page) == readout(page)


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = opened(visit())
    page.click("text=The weights, cut")
    rank_to(page, "Home ArrowRight")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert "Fine-tuned weights cut to rank 1:" in readout(again)
    odd = visit("/#live-lora-1?way=%3Cb%3E&at=1e9&where=x&scale=-4&matrix=99&open=true")
    assert "Base plus the change cut to rank 20" in readout(odd)
    odd.click("text=Reset")
    assert "cut to rank 4:" in readout(odd)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("show", [False, True])
def test_axe_finds_nothing(visit, theme, show):
    pytest.importorskip("axe_playwright_python")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if show:
        opened(page)
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    assert axe_findings(page) == []
