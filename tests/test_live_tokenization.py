"""The tokenization figure: what the page receives, and what a reader can do with it in a browser."""

import json
import re

import pytest

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, tokenization_figure
from babygpt_course.tokenizer import BPETokenizer, SentencePieceTokenizer
from tests.live_page import said, served, small_text, visiting

TEXT = "There was nothing under the wheelbarrow."
MODELS = [
    ("characters", 58, 1.34, 1.94),
    ("BPE 512", 512, 2.43, 1.52),
    ("BPE 1,024", 1024, 2.88, 1.02),
]


@pytest.fixture(scope="module")
def tokenizers():
    tales = "".join(tinytales.sample(400, seed=1))
    unigrams = [SentencePieceTokenizer.train(tales, V, "unigram") for V in (320, 700)]
    return BPETokenizer.train(tales, 1024), unigrams


def figure(tokenizers, **options) -> LiveFigure:
    options = {"text": TEXT, "word": " nothing", "code_href": "#code", "card": "Three models"} | options  # fmt: skip
    return tokenization_figure(*tokenizers, MODELS, **options)


@pytest.fixture(scope="module")
def fig(tokenizers) -> LiveFigure:
    return figure(tokenizers)


# --- what Python makes


def test_the_still_picture_says_the_finding(fig, tokenizers):
    bpe, _ = tokenizers
    few, all_ = (len(BPETokenizer(bpe.merges[:n]).encode(TEXT)) for n in (256, 768))
    for part in ("40 with 0 merges", f"{few} with 256", f"{all_} with 768 merges"):
        assert part in fig.alt
    assert "1.020 bits per character" in fig.alt and "32,768 embedding" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + len(MODELS)
    cut = "|".join(bpe.pieces[i].decode() for i in bpe.encode(TEXT))
    assert f"<code>{cut}</code>" in fig.picture


def test_the_page_stays_small_and_the_same(fig, tokenizers):
    assert fig.html == figure(tokenizers).html
    assert len(json.dumps(fig.props)) < 3000 and len(fig.weights) < 300_000
    assert "http" not in fig.html.replace("http://www.w3.org/2000/svg", "")


def test_faults_are_named(tokenizers):
    bpe, unigrams = tokenizers
    with pytest.raises(ConfigError, match="at least one unigram"):
        tokenization_figure(bpe, [], MODELS, text=TEXT)
    with pytest.raises(ConfigError, match="one trained model"):
        tokenization_figure(bpe, unigrams, [], text=TEXT)
    with pytest.raises(ConfigError, match="finite"):
        tokenization_figure(bpe, unigrams, [("x", 9, float("inf"), 1.0)], text=TEXT)
    with pytest.raises(ConfigError, match=r"0\.\.768.*769"):
        figure(tokenizers, merges=769)


def test_no_markup_escapes(tokenizers):
    page = figure(tokenizers, text="<script>alert(1)</script>").html
    assert "<script>alert" not in page


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def pieces(page) -> int:
    return page.locator("ol[aria-label^=Pieces] > li").count()


@pytest.mark.browser
def test_the_ids_are_those_of_python(visit, tokenizers):
    bpe, unigrams = tokenizers
    page = visit()
    for text in (TEXT, "Zoë  saw 12 🐱", "γάτα"):
        page.get_by_label("Text", exact=True).fill(text)
        for n in (0, 40, 768):
            page.get_by_role("slider").fill(str(n))
            assert pieces(page) == len(BPETokenizer(bpe.merges[:n]).encode(text))
        page.click("text=Unigram")
        for model in unigrams:
            page.get_by_role("button", name=str(model.vocab_size), exact=True).click()
            assert pieces(page) == len(model.encode(text))
        page.get_by_role("button", name="BPE", exact=True).click()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced"])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    page.click("text=Just show me")
    if look == "dark":
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
    if look == "print":
        page.emulate_media(media="print")
    if look == "forced":
        page.emulate_media(forced_colors="active")
    page.wait_for_timeout(250)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert page.locator("svg[role=img]").first.is_visible()
    assert not small_text(page)
    tiny = page.evaluate(
        """[...document.querySelectorAll('.lf :is(button, select, input, a, summary)')].filter(n => {
        const b = n.getBoundingClientRect(); return b.width && b.height < 24 }).map(n => n.outerHTML)"""
    )
    assert look == "print" or not tiny


@pytest.mark.browser
def test_predict_before_the_answer(visit):
    page = visit()
    caption = page.locator("caption", has_text="What the chapter")
    assert caption.count() == 0
    page.click("text=Check")
    assert "Choose twice" in said(page)
    page.get_by_label("Pieces with all").select_option("1")
    page.get_by_label("Fewest bits").select_option("BPE 1,024")
    page.click("text=Check")
    assert page.locator(".lf-verdict").text_content().startswith("One of your two")
    assert caption.evaluate("n => n === document.activeElement")


@pytest.mark.browser
def test_the_keyboard_walks_through_the_merges(visit):
    page = visit()
    slider = page.get_by_role("slider")
    slider.press("Home")
    assert "BPE with 0 merges: 40 tokens for 40 characters" in said(page)
    assert page.get_by_role("button", name="Undo the last").is_disabled()
    page.get_by_role("button", name="Next merge in this text").press("Enter")
    assert pieces(page) < 40
    page.get_by_role("button", name="Undo the last").press("Enter")
    assert pieces(page) == 40
    slider.press("End")
    assert "768 merges" in said(page)


@pytest.mark.browser
def test_the_lattice_of_a_word(visit, tokenizers):
    _, (_, model) = tokenizers
    page = visit()
    page.click("text=Unigram")
    page.get_by_role("button", name="700", exact=True).click()
    page.get_by_label("One word").select_option(" wheelbarrow")
    best = [model.pieces[i].replace("▁", "_") for i in model.encode(" wheelbarrow")]
    region = page.get_by_role("region", name="Lattice")
    label = region.locator("svg").get_attribute("aria-label")
    assert re.findall(r"(\S+) \(−", label.split("way: ")[1]) == best
    assert page.locator("text=" + " | ".join(best)).count()


@pytest.mark.browser
def test_a_link_carries_the_state(visit):
    page = visit()
    page.get_by_label("Text", exact=True).fill("a cat & 100 %?")
    page.get_by_role("slider").fill("33")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert again.get_by_label("Text", exact=True).input_value() == "a cat & 100 %?"
    assert again.get_by_role("slider").input_value() == "33"
    odd = visit("/#live-tokenization-1?merges=no&size=9&word=%3Cb%3E&text=")
    assert odd.get_by_label("Text", exact=True).input_value() == ""
    assert odd.get_by_role("slider").input_value() == "256"


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == len(MODELS)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        page.click("text=Unigram")
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
