"""The figure of chapter 06: what Python makes, and what a reader can do with it in a browser."""

import json
import re

import pytest
import torch

from babygpt_course import seq2seq
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, cross_attention_figure
from babygpt_course.seq2seq import Seq2Seq, Seq2SeqConfig
from tests.live_page import readout, said, served, small_text, visiting

TEXT = "7 March 1994"


@pytest.fixture(scope="module")
def model() -> Seq2Seq:
    """A small model that has seen the figure's date among few others, in one style."""
    torch.manual_seed(2)
    model = Seq2Seq(Seq2SeqConfig(n_embd=32, n_head=2, attention_only=True))
    styles = [
        (text.lower(), iso)
        for text, iso in seq2seq.make_dates(4000, seed=0)
        if re.fullmatch(r"\d+ [a-z]+ \d+", text.lower())
    ]
    seq2seq.fit(
        model, [*styles, (TEXT, "1994-03-07")], steps=500, batch_size=32, lr=8e-3
    )
    return model


@pytest.fixture(scope="module")
def fig(model) -> LiveFigure:
    return cross_attention_figure(model, code_href="#code", card="A small model")


# --- what Python makes


def test_the_still_picture_says_the_finding(fig):
    assert fig.html.count("<tr>") == 1 + seq2seq.ISO_LENGTH
    assert "the model writes 1994-03-07" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.picture.count("<rect") == 10 * len(TEXT)
    assert len(fig.weights) < 900 * 1024


def test_a_model_that_does_not_show_it_is_refused(model):
    with pytest.raises(ConfigError, match="not '1994-03-07'"):
        cross_attention_figure(Seq2Seq(model.config))
    with pytest.raises(ConfigError, match="must have the most"):
        cross_attention_figure(model, answer="March")
    with pytest.raises(ConfigError, match="no word of"):
        cross_attention_figure(model, answer="1995")


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == 10
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_predict_before_the_weights(visit):
    page = visit()
    assert not page.get_by_role("application").is_visible()
    assert "reads" not in readout(page)
    page.click("text=Check")
    assert "Choose a word" in said(page)
    page.get_by_label("Your guess").select_option("7")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("You chose 7.") and "to 1994" in verdict
    assert page.get_by_role("application").is_visible()
    page.click("text=Reset")
    assert not page.locator(".lf-verdict").is_visible()


@pytest.mark.browser
def test_the_numbers_are_those_of_python(visit, fig, model):
    page = visit()
    page.click("text=Just show me")
    page.click("text=Show as table")
    cells = page.get_by_role("region", name="Cross-attention in numbers")
    shown = [
        [float(x) for x in row.locator("td").all_text_contents()]
        for row in cells.locator("tbody tr").all()
    ]
    source = seq2seq.encode([TEXT])
    with torch.no_grad():
        model(source, seq2seq.encode(["1994-03-07"]))
    weights = model.decoder[-1].cross_attention.weights[0]  # (H, T, S)
    torch.testing.assert_close(torch.tensor(shown), weights.mean(0), atol=6e-3, rtol=0)
    page.get_by_role("button", name="2", exact=True).click()
    first = cells.locator("tbody tr").first.locator("td").all_text_contents()
    assert float(first[8]) == pytest.approx(float(weights[1, 0, 8]), abs=6e-3)


@pytest.mark.browser
def test_a_typed_date_is_written(visit, model):
    page = visit()
    page.click("text=Just show me")
    line = page.get_by_label("A date in words")
    line.fill("15 Ju#ly 2022é")
    assert line.input_value() == "15 July 2022"
    want = seq2seq.decode(model.translate(seq2seq.encode(["15 July 2022"])))[0]
    assert f"Written: {want}" in readout(page)
    line.fill("")
    assert "Step 1" in readout(page)


@pytest.mark.browser
def test_hiding_a_word_breaks_its_digits(visit, model):
    page = visit()
    page.click("text=Just show me")
    page.click("text=Its word")
    source = seq2seq.encode([TEXT])
    seen = torch.arange(len(TEXT))[None] < 8
    want = seq2seq.decode(model.translate(source, seen))[0]
    assert f"With “1994” hidden it writes {want}" in readout(page)
    assert (
        "hidden by the mask"
        in page.locator(".lf-picture, .lf-map").first.text_content()
    )
    page.get_by_role("radio", name="1: 7").click()
    page.click("text=This one")
    assert "With “7” hidden" in readout(page)
    page.get_by_role("button", name="Nothing").click()
    assert "Written: 1994-03-07" in readout(page)


@pytest.mark.browser
def test_by_keyboard(visit):
    page = visit()
    slider = page.locator("input[type=range]").first
    before = readout(page)
    slider.press("End")
    assert readout(page) != before and "Step 10" in readout(page)
    page.click("text=Just show me")
    slider.press("ArrowRight")
    assert "Step 2 writes 9 and reads" in said(page)
    heat = page.get_by_role("application")
    heat.focus()
    heat.press("Home")
    heat.press("ArrowDown")
    assert "reads 7 at 1: weight" in said(page) and "Step 3" in readout(page)


@pytest.mark.browser
def test_a_link_carries_the_state(visit):
    page = visit("/#live-cross_attention-1?text=5%20May%202001&step=9&open=true&s=99")
    assert page.get_by_label("A date in words").input_value() == "5 May 2001"
    assert "Step 10" in readout(page)
    odd = visit("/#live-cross_attention-1?step=no&head=77&text=%3Cb%3E&hide=x")
    assert odd.get_by_label("A date in words").input_value() == "b"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_it_fits_and_axe_finds_nothing(visit, width, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(width=width)
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        page.get_by_label("A date in words").fill("Wednesday, 27 September 2073")
        page.click("text=Its word")
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert not small_text(page)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    for media in ({"media": "print"}, {"media": "screen", "forced_colors": "active"}):
        page.emulate_media(**media)
        page.wait_for_timeout(100)
        assert page.evaluate(wide) <= 0


def test_the_page_names_no_other_place(fig):
    props = json.loads(re.search(r"data-props>(.*?)</script>", fig.html, re.S)[1])
    assert props["answer"] == "1994" and props["steps"] == 10
    assert "http" not in fig.html.replace("http://www.w3.org/2000/svg", "")
