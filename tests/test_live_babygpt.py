"""The live figure of chapter 09: what Python makes of it, and what a reader can do with it in a browser."""

import json
import re

import pytest
import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, babygpt_figure
from babygpt_course.live.babygpt import promises, written
from babygpt_course.tokenizer import WordTokenizer
from tests.live_page import readout, served, visiting

BEGINNING = "In the window of the toy shop, Nora saw a robot."
REST = (
    " But it cost nine coins, and Nora had only four. Mom had an idea. She gave Nora five coins. Now"
    " there were {} coins, and at last the robot belonged to Nora, and she made it march around the table.\n"
)
TALE = BEGINNING + REST.format("eight")
TOKENIZER = WordTokenizer("\n" + TALE + REST.format("nine") + "Tom kite Mia drum")


def reciter(gain: float = 12.0, doubt: float = 0.5) -> GPT:
    """A GPT that recites one tale: the place alone says what comes next. Only one number is in doubt."""
    ids = TOKENIZER.encode("\n" + TALE)
    T = len(ids)
    shape = GPTConfig(TOKENIZER.vocab_size, T, 1, 1, T, tie=False)
    model = GPT(shape)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        model.norm.weight.fill_(1)
        model.position_embedding.weight.copy_(torch.eye(T))
        for t, new in enumerate(ids[1:]):
            model.head.weight[new, t] = gain / (T - 1) ** 0.5
            if TOKENIZER.tokens[new] == " eight":
                other = TOKENIZER.tokens.index(" nine")
                model.head.weight[other, t] = (gain + doubt) / (T - 1) ** 0.5
    return model.eval()


def figure(model: GPT | None = None, **options) -> LiveFigure:
    options = {
        "prompts": (BEGINNING, ""),
        "code_href": "#code",
        "card": "A card",
    } | options
    return babygpt_figure(model or reciter(), TOKENIZER, **options)


def spoken_by(seed: int | None, prompt: str = BEGINNING) -> list[tuple[str, float]]:
    model = reciter().half().double()
    return [
        (TOKENIZER.tokens[i], p) for i, p in written(model, TOKENIZER, prompt, seed)
    ]


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- the rules


def test_no_true_tale_breaks_a_promise():
    for tale in tinytales.sample(300, seed=3):
        found = promises(tale, ended=True)
        assert all(p.state != "broken" for p in found), tale
        assert found[0].state == "kept"


def test_half_a_tale_breaks_none_and_keeps_none():
    for i, tale in enumerate(tinytales.sample(60, seed=4)):
        states = {p.state for p in promises(tale[: 5 * i], ended=False)}
        assert states <= {"none", "open"}


@pytest.mark.parametrize("kind, most", [("count", 1.0), ("name", 0.7)])
def test_broken_tales_are_noticed(kind, most):
    pairs = tinytales.minimal_pairs(tinytales.sample(400, seed=5), kind, n=80)
    at = ["name", "wish", "count"].index(kind)
    caught = [promises(bad, ended=True)[at].state == "broken" for _, bad in pairs]
    assert sum(caught) >= most * len(caught) > 0


def test_a_toy_is_used_as_it_is_used():
    tale = "Tom had a kite. At last the kite was his, and he {}.\n"
    wishes = [
        promises(tale.format(x), True)[1].state
        for x in ("flew it high above the roofs", "rocked it and sang to it")
    ]
    assert wishes == ["kept", "broken"]


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["tokens"] == TOKENIZER.tokens and props["prompts"] == [BEGINNING, ""]


def test_the_finding_is_the_tale_that_is_drawn(fig):
    tale = spoken_by(fig.props["seed"])
    text = BEGINNING + "".join(word for word, _ in tale)
    assert text == TALE
    assert (
        "count (nine four five eight) broken" in fig.alt
        and "name (Nora) kept" in fig.alt
    )
    assert f"“eight”, {min(p for _, p in tale):.1%}" in fig.alt
    assert TALE.strip()[-40:] in fig.picture


def test_a_tied_head_is_sent_once():
    torch.manual_seed(0)
    tied = GPT(GPTConfig(TOKENIZER.vocab_size, 90, 1, 1, 8))
    with pytest.raises(ConfigError, match="None of 3 tales"):
        figure(tied, seeds=3)
    model = reciter()
    assert set(figure(model).tensors) == set(model.state_dict())


def test_a_model_that_does_not_show_it_is_refused():
    with pytest.raises(ConfigError, match="None of"):
        figure(reciter(doubt=100), seeds=3)  # always nine: nothing is broken
    with pytest.raises(ConfigError, match="tokens"):
        babygpt_figure(reciter(), WordTokenizer("another text"))


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def page_text(page) -> str:
    return page.locator(".lf-story").text_content()


def verdicts(page) -> list[str]:
    return page.locator(
        "table[aria-label='The promises of the tale'] td:last-child"
    ).all_text_contents()


def chance(p: float) -> str:
    return f"{100 * p:.1f}\u00a0%" if p < 0.9995 else "100\u00a0%"


def opened(page):
    page.click("text=Just show me")
    return page


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
    side = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(side) <= 0
    assert page.locator(".lf-story").is_visible()
    small = page.evaluate(
        """[...document.querySelectorAll('.lf *')].filter(n => [...n.childNodes].some(c => c.nodeType === 3 &&
        c.data.trim()) && n.tagName !== 'STYLE' && parseFloat(getComputedStyle(n).fontSize) < 14).map(n => n.outerHTML)"""
    )
    tiny = page.evaluate(
        """[...document.querySelectorAll('.lf :is(button, select, input, a, summary)')].filter(n => {
        const b = n.getBoundingClientRect(); return b.width && b.height < 24 }).map(n => n.outerHTML)"""
    )
    assert not small and not tiny


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == 3
    assert readout(page) == fig.alt


@pytest.mark.browser
def test_predict_before_the_tale_goes_on(visit):
    page = visit()
    assert page_text(page) == f"{BEGINNING} …"
    assert page.get_by_role("button", name="One word").is_disabled()
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible()
    page.get_by_label("It breaks").select_option("count")
    page.click("text=Check")
    assert (
        page.locator(".lf-verdict").text_content()
        == "Right: name kept, wish kept, count broken."
    )
    assert not page.get_by_text("Predict first").is_visible()
    assert [v[2:] for v in verdicts(page)] == ["kept", "kept", "broken"]
    assert "“eight”: " in readout(page) and "likelier was “nine”" in readout(page)


@pytest.mark.browser
def test_the_tale_and_its_chances_are_those_of_torch(visit, fig):
    page = opened(visit())
    page.click("text=Show as table")
    rows = page.locator("[role=region] tbody tr")
    tale = spoken_by(fig.props["seed"])
    assert rows.count() == len(tale)
    for i, (word, p) in enumerate(tale):
        cells = rows.nth(i).locator("td").all_text_contents()
        assert cells[0] == {"\n": "end of the tale"}.get(word, word.strip() or "space")
        assert cells[1] == chance(p), word


@pytest.mark.browser
def test_word_by_word(visit):
    page = opened(visit())
    page.click("text=Back to the beginning")
    assert readout(page) == "Nothing is written yet."
    assert [v[2:] for v in verdicts(page)] == ["not due yet", "not made", "not made"]
    for word in ("But", "it", "cost", "nine"):
        page.click("text=One word")
        assert f", “{word}”: " in readout(page)
    page.click("text=To the end")
    assert page_text(page).startswith(TALE.strip())
    page.click("text=Likeliest")
    assert "there were nine coins" in page_text(page)
    assert [v[2:] for v in verdicts(page)] == ["kept"] * 3
    assert page.get_by_role("button", name="One word").is_disabled()


@pytest.mark.browser
def test_another_tale_is_the_one_that_python_draws(visit, fig):
    page = opened(visit())
    for i in range(1, 7):
        page.click("text=Another tale")
        text = "".join(word for word, _ in spoken_by(fig.props["seed"] + i))
        assert text.strip() in page_text(page)


@pytest.mark.browser
def test_play_and_pause(visit):
    page = opened(visit())
    page.click("text=Play")
    page.wait_for_timeout(900)
    page.click("text=Pause")
    first = page_text(page)
    assert len(BEGINNING) < len(first) < len(TALE)
    page.wait_for_timeout(500)
    assert page_text(page) == first


@pytest.mark.browser
def test_keys_move_through_the_words(visit):
    page = opened(visit())
    slider = page.locator("input[type=range]")
    slider.press("Home")
    assert readout(page).startswith("Word 1, “But”: ")
    slider.press("ArrowRight")
    assert readout(page).startswith("Word 2, “it”: ")
    assert "it" in slider.get_attribute("aria-valuetext")
    slider.press("End")
    assert readout(page).startswith("Word ") and "newline" in readout(page)
    page.get_by_role("button", name="Back to the beginning").press("Enter")
    page.get_by_role("button", name="One word").press("Space")
    assert readout(page).startswith("Word 1, “But”: ")


@pytest.mark.browser
def test_a_beginning_of_ones_own(visit):
    page = opened(visit())
    page.get_by_label("The beginning, to edit").fill("Tom saw a kite.")
    assert page_text(page).startswith("Tom saw a kite.")
    page.get_by_label("Beginning", exact=True).select_option("1")
    assert TALE.strip()[:40] in page_text(page) or REST[:12] in page_text(page)


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = opened(visit())
    page.click("text=Likeliest")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert "there were nine coins" in page_text(again)
    odd = visit("/#live-babygpt-1?prompt=%3Cb%3E&n=x&at=-4&seed=1e9&how=no&open=true")
    assert odd.get_by_label("The beginning, to edit").input_value() in ("b", "")
    assert readout(odd) == "Nothing is written yet."
    odd.click("text=Reset")
    assert TALE.strip() in page_text(odd)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("show", [False, True])
def test_axe_finds_nothing(visit, theme, show):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if show:
        opened(page)
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
