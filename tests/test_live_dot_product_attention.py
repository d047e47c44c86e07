"""The two live figures of chapter 04: what Python makes of them, and what a reader can do with them in a browser."""

import json
import math
import re

import pytest
import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.live import attention_reader_figure, dot_product_attention_figure
from babygpt_course.live.dot_product_attention import SIZES, _without_root, meters
from babygpt_course.tokenizer import WordTokenizer
from tests.figures.lookup import Reader
from tests.live_page import axe_findings, said, served, small_text, visiting

TALES = tinytales.sample(30, seed=3)
WORDS = WordTokenizer("".join(TALES))


def reader() -> Reader:
    """Random weights, as the page gets them: rounded to float16."""
    torch.manual_seed(5)
    model = Reader(WORDS.vocab_size, 16).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((3 * p).half())
    return model


def reading(**options):
    ends = [
        (s, len(WORDS.encode(s.strip())) - 3, re.findall(r"[A-Z]\w+", s)[-1])
        for s in TALES[:3]
    ]
    return attention_reader_figure(
        reader(), WORDS, ends, code_href="#code", card="A small model", **options
    )


FIGURES = {
    "root": dot_product_attention_figure(code_href="#code"),
    "reader": reading(),
}


# --- what Python makes


def test_the_finding_is_in_the_numbers():
    fig = FIGURES["root"]
    scores = fig.tensors["scores"]
    variance = scores.flatten(1).var(dim=1)
    assert (variance / torch.tensor(SIZES) - 1).abs().max() < 0.15
    (with_root, _), (without, gradient) = (
        meters(scores[-1] / math.sqrt(SIZES[-1])),
        meters(scores[-1]),
    )
    assert with_root > 2.3 and without < 0.4 and gradient < 0.12
    assert f"{without:.2f} bits and {gradient:.2f}" in fig.alt
    assert fig.html.count("<tr>") == 1 + len(SIZES)


@pytest.mark.parametrize("fig", FIGURES.values(), ids=FIGURES)
def test_the_page_has_a_still_picture_and_small_numbers(fig):
    assert f'aria-label="{fig.alt.replace(chr(34), "&quot;")}"' in fig.picture
    assert "<table" in fig.picture
    json.dumps(fig.props, allow_nan=False)
    assert len(fig.weights) < 900 * 1024


def test_without_the_root_is_what_it_says():
    model, ids = reader(), torch.tensor([WORDS.encode(TALES[0])])
    with torch.no_grad():
        model(ids)
        with_root = model.attention.weights
        other = _without_root(model)
        other(ids)
    again = (with_root.double().log() * 4).softmax(-1)  # sqrt(16) times the scores
    torch.testing.assert_close(again.float(), other.attention.weights)


def test_faults_are_named():
    with pytest.raises(ConfigError, match="at least one story"):
        attention_reader_figure(reader(), WORDS, [])
    with pytest.raises(ConfigError, match="999"):
        attention_reader_figure(reader(), WORDS, [(TALES[0], 999, "Tom")])
    with pytest.raises(ConfigError, match="rows"):
        attention_reader_figure(Reader(7, 4), WORDS, [(TALES[0], 3, "Tom")])


# --- what a reader can do


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), **FIGURES) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


@pytest.mark.browser
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced colors"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, name, width, look):
    page = visit(f"/{name}.html", width=width)
    theme = "dark" if look == "dark" else "light"
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    page.click("text=Just show me")
    if look == "print":
        page.emulate_media(media="print")
    if look == "forced colors":
        page.emulate_media(forced_colors="active")
    page.wait_for_timeout(250)
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(over) <= 0
    assert page.locator("figure.lf").get_attribute("data-theme") == theme
    assert page.locator(".lf-bars tbody tr").first.is_visible()
    assert not small_text(page)


@pytest.mark.browser
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, name, theme):
    page = visit(f"/{name}.html", reduced_motion="reduce")
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    for step in ("", "text=Just show me", "text=Show as table"):
        if step:
            page.click(step)
        assert not axe_findings(page)


@pytest.mark.browser
@pytest.mark.parametrize("name", FIGURES)
def test_readable_without_scripts(visit, name):
    page = visit(f"/{name}.html", java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=FIGURES[name].alt).first.is_visible()
    assert page.locator("tbody tr").count() >= 7
    assert page.locator(".lf-readout").text_content() == FIGURES[name].alt


@pytest.mark.browser
@pytest.mark.parametrize("name", FIGURES)
def test_the_first_slider_is_moved_by_keys(visit, name):
    page = visit(f"/{name}.html")
    page.click("text=Just show me")
    slider = page.locator("input[type=range]").first
    slider.focus()
    texts = set()
    for key in ("Home", "End", "ArrowLeft"):
        page.keyboard.press(key)
        texts.add(page.locator(".lf-readout").text_content())
    assert len(texts) == 3
    assert said(page)


@pytest.mark.browser
def test_the_meters_are_those_of_python(visit):
    page = visit("/root.html")
    assert f"{meters(FIGURES['root'].tensors['scores'][-1] / 16)[0]:.2f} bits" in (
        page.locator(".lf-readout").text_content()
    )
    page.get_by_label("Your guess").select_option("1")
    page.click("text=Check")
    for i, D in enumerate(SIZES):
        page.get_by_label("D, numbers in a query").fill(str(i))
        raw = FIGURES["root"].tensors["scores"][i]
        for on, scores in (("On", raw / math.sqrt(D)), ("Off", raw)):
            page.get_by_role("button", name=on, exact=True).click()
            entropy, gradient = meters(scores)
            shown = page.locator(".lf-readout b").all_text_contents()
            assert float(shown[0].split()[0]) == pytest.approx(entropy, abs=0.006)
            assert float(shown[1]) == pytest.approx(gradient, abs=0.006)
    assert "Chose" not in said(page) and "bits" in said(page)


@pytest.mark.browser
def test_predict_first(visit):
    page = visit("/root.html")
    assert not page.locator(".lf-bars").first.is_visible()
    page.click("text=Check")
    assert said(page) == "Choose a number first."
    page.get_by_label("Your guess").select_option("2")
    page.click("text=Check")
    assert page.locator(".lf-verdict").text_content().startswith("You chose 2: 0.1")
    assert page.locator(".lf-readout").evaluate(
        "e => e.getRootNode().activeElement === e"
    )


@pytest.mark.browser
def test_a_query_far_along_a_key_reads_that_word(visit):
    page = visit("/root.html")
    page.get_by_label("Query, first number").fill("20")  # 2.5
    page.get_by_label("Query, second number").fill("10")  # 0
    assert "reads Leo with" in said(page)
    q, keys = (
        torch.tensor([2.5, 0.0]),
        torch.tensor([m["key"] for m in FIGURES["root"].props["memory"]]),
    )
    weight = (keys @ q / math.sqrt(2)).softmax(0)[0]
    assert f"{weight:.2f}" in said(page)


@pytest.mark.browser
def test_what_it_reads_and_expects_is_what_torch_says(visit):
    fig, model = FIGURES["reader"], reader()
    page = visit("/reader.html")
    page.click("text=Just show me")
    for root, judge in (("On", model), ("Off", _without_root(model))):
        page.get_by_role("button", name=root, exact=True).click()
        for number, story in enumerate(fig.props["stories"]):
            page.get_by_label("Story").select_option(str(number))
            ids = WORDS.encode("\n" + story["text"])
            with torch.no_grad():
                logits = judge.double()(torch.tensor([ids[: story["at"] + 1]]))[0, -1]
            row = judge.attention.weights[0, 0, -1]
            bars = page.locator(".lf-bars")
            first = bars.nth(1).locator("tbody tr").first
            best = int(logits.argmax())
            assert first.locator("th").text_content() == WORDS.tokens[best].strip()
            percent = float(first.locator("td").nth(1).text_content().split("\xa0")[0])
            assert percent == pytest.approx(
                100 * float(logits.softmax(-1)[best]), abs=0.06
            )
            totals: dict[str, float] = {}
            for i, w in zip(ids, row.tolist()):
                totals[WORDS.tokens[i]] = totals.get(WORDS.tokens[i], 0) + w
            shown = bars.nth(0).locator("tbody tr").first.locator("td").nth(1)
            percent = float(shown.text_content().split("\xa0")[0])
            assert percent == pytest.approx(100 * max(totals.values()), abs=0.06)


@pytest.mark.browser
def test_the_story_can_be_edited(visit):
    page = visit("/reader.html")
    page.click("text=Just show me")
    line = page.get_by_label("Its text, to edit")
    line.fill("Tom saw a motmot")
    assert line.input_value() == "Tom saw a motmot"
    page.get_by_label("Token that reads").press("Home")
    n = len(WORDS.encode("\nTom saw a motmot"))
    assert f"1 of {n}" in page.locator(".lf-slider-head output").first.text_content()
    line.fill("Tom ß saw")
    assert line.input_value() == "Tom  saw"
