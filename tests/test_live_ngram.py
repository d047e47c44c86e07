"""The live figure of chapter 02: what Python makes of it, and what a reader can do with it in a browser."""

import json
import math
import re

import pytest
import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, ngram_figure
from babygpt_course.live.ngram import packed
from babygpt_course.ngram import NGram
from babygpt_course.tokenizer import CharTokenizer
from tests.live_page import (
    axe_findings,
    said,
    served,
    sideways,
    small_text,
    tiny_targets,
    visiting,
)

TALES = "".join(tinytales.sample(60, seed=3))
TOKENIZER = CharTokenizer(TALES)
IDS = torch.tensor(TOKENIZER.encode(TALES))
CUT = len(IDS) * 3 // 4


def figure(**options) -> LiveFigure:
    options = {
        "context": "She saw the",
        "code_href": "#code",
        "card": "Counts",
    } | options
    return ngram_figure(TOKENIZER.chars, IDS[:CUT], IDS[CUT:], **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- what Python makes


def test_the_losses_are_those_of_the_package(fig):
    assert fig.props["max_order"] == 6 and fig.props["ks"][fig.props["k"]] == 0.01
    known, held = IDS[: len(IDS) - CUT], IDS[CUT:]
    for method, i, options in (
        ("add_k", 3, {"k": 1.0}),
        ("witten_bell", 0, {}),
        ("kneser_ney", 4, {"discount": 0.9}),
    ):
        row = fig.props["losses"][method][i]
        for order in (1, 4, 6):
            model = NGram(order, method, **options).fit(IDS[:CUT], len(TOKENIZER.chars))
            assert row["held"][order - 1] == pytest.approx(model.nll(held))
            assert row["train"][order - 1] == pytest.approx(model.nll(known))
    assert fig.props["losses"]["mle"][0]["held"][5] is None, "JSON has no infinity"
    json.dumps(fig.props, allow_nan=False)


def test_the_still_picture_says_the_finding(fig):
    best = min(row["held"][-1] for row in fig.props["losses"]["kneser_ney"])
    assert f"{best:.3f}" in fig.alt and "infinite from order" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + 6 and "∞" in fig.html
    assert len(fig.weights) < len(IDS) + 200, "one byte a character"


def test_ids_are_packed_whole():
    for n in (1, 3, 4, 9):
        ids = torch.arange(n) * 28
        assert packed(ids).view(torch.uint8)[:n].tolist() == ids.tolist()


def test_faults_are_named():
    with pytest.raises(ConfigError, match="#"):
        figure(context="#1")
    with pytest.raises(ConfigError, match="max_order"):
        figure(max_order=1)
    with pytest.raises(ConfigError, match="byte"):
        ngram_figure("".join(map(chr, range(300))), IDS, IDS, context="a")


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def shown(page) -> dict[str, float]:
    """The bars: next character -> percent."""
    rows = page.locator(".lf-bars tbody tr").all()
    return {
        row.locator("th").text_content(): float(
            row.locator("td").nth(1).text_content().replace("\xa0%", "").lstrip("<")
        )
        for row in rows[:-1]
    }


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced colors"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    theme = "dark" if look == "dark" else "light"
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    page.click("text=Just show me")
    if look == "print":
        page.emulate_media(media="print")
    if look == "forced colors":
        page.emulate_media(forced_colors="active")
    page.wait_for_timeout(250)
    assert sideways(page) <= 0
    assert page.locator(".lf-bars tbody tr").count() == 9
    assert page.locator(".lf-picture table").first.locator("tbody tr").count() == 7
    assert page.locator("figure.lf").get_attribute("data-theme") == theme


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, theme):
    page = visit(reduced_motion="reduce")
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    for step in ("", "text=Just show me", "text=Show as table"):
        if step:
            page.click(step)
        assert not axe_findings(page)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_text_and_targets_are_large_enough(visit, width):
    page = visit(width=width)
    page.click("text=Just show me")
    page.click("text=Show as table")
    assert not small_text(page)
    assert not tiny_targets(page)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == 6
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_predict_before_the_losses(visit):
    page = visit()
    assert not page.locator(".lf-curve svg").is_visible()
    assert "Loss on" not in page.locator(".lf-readout").text_content()
    page.click("text=Check")
    assert "Choose twice" in said(page)
    page.get_by_label("Plain counts become infinite").select_option("never")
    page.get_by_label("Lowest loss").select_option("kneser_ney")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("One of your two") and "Kneser-Ney is lowest" in verdict
    assert page.locator(".lf-curve svg").is_visible()
    assert "Loss on" in page.locator(".lf-readout").text_content()


@pytest.mark.browser
def test_the_numbers_are_those_of_python(visit):
    page = visit()
    page.click("text=Just show me")
    V, chars = len(TOKENIZER.chars), TOKENIZER.chars
    names = {" ": "space", "\n": "newline"}
    for method, order, context in (
        ("kneser_ney", 6, "She saw the"),
        ("kneser_ney", 3, "zq"),
        ("witten_bell", 5, "a big "),
        ("add_k", 4, "and"),
        ("mle", 4, "the"),
        ("mle", 6, "zqzqz"),
    ):
        page.get_by_label("Context").fill(context)
        page.get_by_label("Method").select_option(method)
        page.get_by_role("slider", name="Order").fill(str(order - 1))
        model = NGram(order, method, k=0.01).fit(IDS[:CUT], V)
        p = model.probs(TOKENIZER.encode(context))
        for name, value in shown(page).items():
            char = next(c for c in chars if names.get(c, c) == name)
            expected = 100 * float(p[chars.index(char)])
            assert value == pytest.approx(expected, abs=0.051), (method, context, name)


@pytest.mark.browser
def test_keys_change_the_order_and_what_is_said(visit):
    page = visit()
    slider = page.locator("input[type=range]").first
    slider.press("Home")
    assert said(page).startswith("Order 1,")
    assert slider.get_attribute("aria-valuetext") == "1: reads nothing"
    assert page.locator(".lf-picture table").first.locator("tbody tr").count() == 2
    slider.press("End")
    assert said(page).startswith("Order 6,")
    page.get_by_label("D, the discount").press("Home")
    assert "D = 0.1" in said(page)


@pytest.mark.browser
def test_the_ladder_as_a_table(visit):
    page = visit()
    page.get_by_label("Context").fill("zq")
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The ladder in numbers")
    rows = region.locator("tbody tr").all()
    assert len(rows) == 4 and rows[0].locator("th").text_content() == "z q"
    cells = rows[0].locator("td").all_text_contents()
    assert cells[0] == "0" and cells[3:5] == ["0\xa0%", "100\xa0%"]
    parts = [float(re.sub(r"[^\d.]", "", row.locator("td").last.text_content())) for row in rows]  # fmt: skip
    assert abs(sum(parts) - 100) < 0.3
    assert "the top rung was never seen" in page.locator(".lf-readout").text_content()


@pytest.mark.browser
def test_state_from_a_link_is_mended(visit):
    page = visit(path="/#live-ngram-1?context=a%C2%A7b&order=99&method=magic&k=-4")
    assert page.get_by_label("Context").input_value() == "ab"
    assert page.get_by_label("Method").input_value() == "kneser_ney"
    assert page.get_by_role("slider", name="Order").input_value() == "5"
    assert math.isclose(sum(shown(page).values()), 100, abs_tol=40)
