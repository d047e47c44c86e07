"""The live figure of chapter 16: what Python makes of it, and what a reader can do with it in a browser."""

import pytest
import torch

from babygpt_course import checkpoint, corpus
from babygpt_course.errors import ConfigError
from babygpt_course.generate import generate
from babygpt_course.live import LiveFigure, llama_figure
from babygpt_course.live.llama import MOST, multiplies, tale_of
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.sentence_piece import Llama2cTokenizer
from tests.figures import llama as arithmetic
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

WORDS = "Once upon a time there was cat who sat in the sun and".split()
PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{b:02X}>" for b in range(256)), " "]
PIECES += [*map(chr, range(65, 123)), *(f" {w}" for w in WORDS)]
TOKENIZER = Llama2cTokenizer(
    [p.encode() for p in PIECES], [-float(i) for i in range(len(PIECES))]
)


def small(seed: int = 0, length: int = 96) -> Llama:
    """Random weights with two groups of heads, in numbers that float16 holds, which write no end."""
    torch.manual_seed(seed)
    shape = LlamaConfig(32, 2, 4, 2, len(PIECES), 40, length, tie=False)
    model = Llama(shape).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * (1 if p.ndim == 1 else 12)).half().float())
        model.head.weight[:259] = 0
        model.head.weight[259] = 0.01
    return model


def figure(model: Llama | None = None, **options) -> LiveFigure:
    options = {"prompts": ("", "sat"), "code_href": "#code", "card": "A card"} | options
    return llama_figure(model or small(), TOKENIZER, **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- Python


@pytest.mark.parametrize("past, T", [(0, 1), (0, 7), (3, 4), (12, 1)])
def test_multiplications_are_those_that_torch_counts(past, T):
    for c in (LlamaConfig(24, 2, 6, 3, 11, 20, 13), LlamaConfig(16, 3, 4, 1, 7, 10)):
        assert multiplies(c, past, T) == arithmetic.multiplied(c, past, T)


def test_the_claim_is_that_of_the_model(fig):
    model = small().double()
    model.cos, model.sin = small().cos.double(), small().sin.double()
    ids = tale_of(model, TOKENIZER, "")
    assert TOKENIZER.decode(ids) in fig.picture.replace("&#x27;", "'")
    assert f"{len(ids)} tokens" in fig.alt
    c = model.config
    kept = sum(multiplies(c, t, 1) for t in range(len(ids)))
    again = sum(multiplies(c, 0, t + 1) for t in range(len(ids)))
    assert f"{again / kept:.0f} times" in fig.alt and again > 10 * kept
    assert f"{2 * 2 * 2 * 8 * 4 * len(ids):,} bytes" in fig.alt


def test_a_tied_head_is_sent_once_and_the_tables_never():
    assert "head.weight" in figure().tensors
    tied = Llama(LlamaConfig(32, 1, 4, 2, len(PIECES), 40, 96))
    with torch.no_grad():
        tied.token_embedding.weight[1] = 0
    try:
        names = figure(tied).tensors
    except ConfigError:
        pytest.skip("this random model ends its tale at once")
    assert "head.weight" not in names and "cos" not in names


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="tokens, the model"):
        llama_figure(Llama(LlamaConfig(32, 1, 2, 2, 300)), TOKENIZER)
    with pytest.raises(ConfigError, match="longer tale"):
        figure(small(length=12))
    half = Llama2cTokenizer(
        [*TOKENIZER.pieces[:-1], b"\xc3"], [0.0] * len(TOKENIZER.pieces)
    )
    with pytest.raises(ConfigError, match="UTF-8"):
        llama_figure(small(), half)


def test_a_broken_cache_is_refused(monkeypatch):
    from babygpt_course import attention

    whole = attention.KVCache.append

    def forgets(self, k, v):
        k, v = whole(self, k, v)
        return k[:, :, :1].expand_as(k), v

    monkeypatch.setattr(attention.KVCache, "append", forgets)
    with pytest.raises(ConfigError, match="other texts"):
        figure()


# --- in a browser


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site") / "s", index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as visit:
        yield visit


def opened(page):
    page.click("text=Just show me")
    return page


def story(page) -> str:
    return page.locator(".lf-story").text_content()


def expected(prompt: str = "") -> str:
    return TOKENIZER.decode(tale_of(small(), TOKENIZER, prompt))


@pytest.mark.browser
def test_predict_before_the_tale_is_written(visit):
    page = visit()
    assert story(page).strip() == "…"
    assert page.get_by_role("button", name="One token").is_disabled()
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible()
    page.get_by_label("Without, it takes").select_option("1")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert verdict.startswith("Right: for 96 tokens it takes ")
    assert not page.get_by_text("Predict first").is_visible()
    assert said(page) == verdict


@pytest.mark.browser
def test_the_tale_is_that_of_torch_with_the_cache_and_without(visit):
    page = opened(visit())
    assert story(page).removesuffix(" …") == expected()
    assert (
        "96 of 96 places filled: 24,576 bytes, and 49,152 if"
        in page.locator(".lf-body").text_content()
    )
    first = readout(page)
    page.click("text=Off")
    page.get_by_text("This browser read all 96 tokens again").wait_for()
    assert story(page).removesuffix(" …") == expected()
    assert readout(page).startswith(first)
    assert "e-" in readout(page) or "are equal" in readout(page)


@pytest.mark.browser
def test_the_table_counts_as_python_does(visit):
    page = opened(visit())
    page.click("text=Show as table")
    rows = page.locator("[role=region] tbody tr")
    assert rows.count() == 95
    c = small().config
    for i in (0, 40, 94):
        t = i + 2  # the mark of the beginning is token 1
        cells = rows.nth(i).locator("td").all_text_contents()
        assert cells[1:] == [
            f"{multiplies(c, t - 1, 1):,}",
            f"{multiplies(c, 0, t):,}",
            f"{256 * t:,}",
        ]


@pytest.mark.browser
def test_token_by_token_and_back(visit):
    page = opened(visit())
    page.click("text=Back to the beginning")
    assert readout(page) == "Nothing is written yet."
    page.click("text=One token")
    page.click("text=One token")
    assert readout(page).startswith("Token 3, ")
    assert "3 of 96 places filled" in page.locator(".lf-body").text_content()
    page.click("text=To the end")
    assert readout(page).startswith("Token 96, ")
    assert page.get_by_role("button", name="One token").is_disabled()


@pytest.mark.browser
def test_play_and_pause(visit):
    page = opened(visit())
    page.click("text=Play")
    page.wait_for_timeout(700)
    page.click("text=Pause")
    first = story(page)
    assert 2 < len(first) < len(expected())
    page.wait_for_timeout(300)
    assert story(page) == first


@pytest.mark.browser
def test_keys_move_through_the_tale(visit):
    page = opened(visit())
    slider = page.locator("input[type=range]")
    slider.press("Home")
    assert readout(page) == "Nothing is written yet."
    slider.press("ArrowRight")
    assert readout(page).startswith("Token 2, ")
    slider.press("End")
    assert readout(page).startswith("Token 96, ")
    assert slider.get_attribute("aria-valuetext").startswith("95: ")
    page.get_by_role("button", name="Off").press("Enter")
    page.get_by_text("This browser read all").wait_for()


@pytest.mark.browser
def test_a_beginning_of_ones_own_and_another_tale(visit):
    page = opened(visit())
    page.get_by_label("Beginning", exact=True).select_option("1")
    assert story(page).removesuffix(" …") == expected("sat")
    page.get_by_label("The beginning, to edit").fill("the cat é")
    assert story(page).removesuffix(" …") == expected("the cat é")
    page.click("text=Another tale")
    first = story(page)
    assert first.startswith("the cat é") and first != expected("the cat é")
    page.click("text=Another tale")
    assert story(page) != first


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = opened(visit())
    page.click("text=Off")
    page.locator("input[type=range]").press("Home")
    page.locator("input[type=range]").press("ArrowRight")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert readout(again).startswith("Token 2, ")
    assert (
        again.get_by_role("button", name="Off").get_attribute("aria-pressed") == "true"
    )
    odd = visit("/#live-llama-1?prompt=%3Cb%3E&n=-4&seed=1e9&how=no&cache=x&open=true")
    assert odd.get_by_label("The beginning, to edit").input_value() == "<b>"
    assert readout(odd) == "Nothing is written yet."
    odd.click("text=Reset")
    assert story(odd).removesuffix(" …") == expected()


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
    assert page.locator(".lf-story").is_visible()
    assert not small_text(page) and not tiny_targets(page)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert page.locator("tbody tr").count() == 3
    assert readout(page) == fig.alt


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
    assert not axe_findings(page)


# --- the published weights


@pytest.fixture(scope="module")
def published():
    for name in ("stories260K.bin", "tok512.bin"):
        if not (corpus.data_folder() / name).exists():
            pytest.skip(f"{name} is not in the cache")
    return checkpoint.load("stories260K")


def test_the_published_weights_fit_into_the_page(published):
    figure = llama_figure(*published)
    assert len(figure.weights) < 600_000
    assert f"{MOST} tokens" in figure.alt


@pytest.mark.browser
def test_the_browser_writes_the_published_tale(browser, published, tmp_path):
    model, tokenizer = published
    with (
        served(tmp_path / "s", index=llama_figure(model, tokenizer)) as site,
        visiting(browser, site) as visit,
    ):
        ids = generate(model, torch.tensor([[1]]), MOST - 1, temperature=0)
        page = opened(visit())
        assert story(page).removesuffix(" …") == tokenizer.decode(ids[0])
        page.get_by_label("Beginning", exact=True).select_option("2")
        assert story(page).startswith("Lily had a red ball. ")
