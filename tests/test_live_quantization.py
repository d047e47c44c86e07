"""The live figure of chapter 13: what Python makes of it, and what a reader can do with it in a browser."""

import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F

from babygpt_course import quantize
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, quantization_figure
from babygpt_course.live import quantization as module
from babygpt_course.tokenizer import WordTokenizer
from tests.live_page import readout, said, served, sideways, visiting

PROMPT = "In the window of the toy shop, Nora saw a robot."
TALES = (
    f"{PROMPT} But it cost nine coins, and Nora had only four. Mom had an idea. She gave Nora five coins. Now there"
    " were nine coins, and at last the robot belonged to Nora, and she made it march around the table.\n"
    "Tom had a kite, and Mia had a drum. They played all day in the garden behind the house, and then they sat down"
    " under the old tree. Tom gave Mia the kite, and Mia gave Tom the drum. What a day that was!\n"
    "Lucy went to look for shells on the beach. She found three white shells and put them into her basket, and a crab"
    " walked by and said hello to her before it went back into the sea.\n"
    "Ben wanted a drum more than anything. It cost six coins, and he had two. He helped Grandma in the garden for a"
    " whole week, and she gave him four coins. Now there were six coins. The drum was his, and he beat it until the"
    " cat ran away and hid under the bed.\n"
    "One bright day Mia found a snail in the garden, and she gave it a leaf. The snail ate the leaf and said thank you.\n"
)
TOKENIZER = WordTokenizer("\n" + TALES)


@pytest.fixture(scope="module")
def model() -> GPT:
    """A GPT that has learned a few tales by heart."""
    torch.manual_seed(0)
    rows = [torch.tensor(TOKENIZER.encode("\n" + t)) for t in TALES.splitlines(True)]
    net = GPT(GPTConfig(TOKENIZER.vocab_size, max(map(len, rows)), 2, 2, 32))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(400):
        row = rows[step % len(rows)]
        logits = net(row[None, :-1])[0][0]
        optimizer.zero_grad()
        F.cross_entropy(logits, row[1:]).backward()
        optimizer.step()
    return net.eval()


def figure(model: GPT, **options) -> LiveFigure:
    options = {"prompt": PROMPT, "code_href": "#code", "card": "A card"} | options
    return quantization_figure(model, TOKENIZER, TALES, **options)


@pytest.fixture(scope="module")
def fig(model) -> LiveFigure:
    return figure(model)


def curve(fig, scheme, outlier=False, symmetric=True, embeddings=False):
    key = f"{outlier:d} {symmetric:d} {embeddings:d}"
    return fig.props["curves"][key][scheme]


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, model, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure(model).html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["tokens"] == TOKENIZER.tokens


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("scheme", module.SCHEMES)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("embeddings", [True, False])
def test_the_curves_are_those_of_the_package(fig, model, bits, scheme, symmetric, embeddings):  # fmt: skip
    net = copy.deepcopy(model).half().double()
    unit = fig.props["outlier"]["unit"]
    net.blocks[0].mlp.proj.weight.data[:, unit] = 0
    quantize.quantize(net, bits, scheme, module.GROUP, symmetric)
    if embeddings:
        quantize.quantize_embeddings(net, bits, scheme, module.GROUP)
    total, n = 0.0, 0
    with torch.no_grad():
        for ids in fig.props["tales"]:
            x = torch.tensor([ids])
            logits = net(x[:, :-1])[0][0]
            total += float(F.cross_entropy(logits, x[0, 1:], reduction="sum"))
            n += len(ids) - 1
    told = curve(fig, scheme, False, symmetric, embeddings)[8 - bits]
    assert abs(total / n - told) < 1e-5


def test_the_alternative_text_has_the_numbers(fig):
    base = fig.props["base"]
    assert f"a loss of {base:.3f} nats" in fig.alt
    rise = curve(fig, "per_tensor")[0] - base
    hit = curve(fig, "per_tensor", outlier=True)[0] - base
    assert f"rises by {rise:.3f} at 8 bits" in fig.alt
    assert f"8 bits cost {hit:.2f} with one scale a matrix" in fig.alt


def test_a_tied_head_is_sent_once(fig, model):
    assert "head.weight" not in fig.tensors
    untied = GPT(GPTConfig(TOKENIZER.vocab_size, 70, 1, 2, 8, tie=False))
    with pytest.raises(ConfigError, match="not true of this model: 2 bits are not"):
        figure(untied)


def test_a_model_that_does_not_fit_is_refused(model):
    with pytest.raises(ConfigError, match="tokens"):
        quantization_figure(model, WordTokenizer("another text"), TALES)
    with pytest.raises(ConfigError, match="characters in tales"):
        quantization_figure(model, TOKENIZER, TALES[:200])
    with pytest.raises(ConfigError, match="300,000"):
        figure(GPT(GPTConfig(TOKENIZER.vocab_size, 60, 2, 2, 128)))


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


def loss_shown(page) -> float:
    return float(re.search(r"loss ([\d.]+),", readout(page))[1])


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
    assert page.get_by_role("img", name=re.compile("^Rise of the loss")).is_visible()
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
def test_predict_before_the_weights_are_rounded(visit, fig):
    page = visit()
    assert not page.get_by_role("img", name=re.compile("^Rise")).is_visible()
    assert page.locator("input[type=range]").is_disabled()
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible()
    rises = [v - fig.props["base"] for v in curve(fig, "per_tensor")]
    fewest = min(b for b, rise in zip(module.BITS, rises) if rise < 0.05)
    page.get_by_label("Fewest bits").select_option(str(fewest))
    page.click("text=Check")
    assert page.locator(".lf-verdict").text_content().startswith(f"Right: {fewest}")
    assert page.get_by_role("img", name=re.compile("^Rise")).is_visible()


@pytest.mark.browser
def test_every_setting_gives_the_loss_of_torch(visit, fig):
    page = opened(visit())
    slider = page.locator("input[type=range]")
    for outlier in (False, True):
        page.click("text=Planted" if outlier else "text=None")
        for scheme in module.SCHEMES:
            page.get_by_label("Scales").select_option(scheme)
            slider.press("Home")
            for i, bits in enumerate(module.BITS):
                assert readout(page).startswith(f"{bits} bits, ")
                told = curve(fig, scheme, outlier)[i]
                assert abs(loss_shown(page) - told) < 2e-3
                slider.press("ArrowRight")
    page.click("text=None")
    page.click("text=Zero point")
    page.get_by_role("button", name="Rounded").click()
    slider.press("End")
    told = curve(fig, "group", False, False, True)[-1]
    assert abs(loss_shown(page) - told) < 2e-3


@pytest.mark.browser
def test_the_file_is_as_large_as_the_package_says(visit, model):
    page = opened(visit())
    page.get_by_role("button", name="Rounded").click()
    page.get_by_label("Scales").select_option("group")
    page.locator("input[type=range]").press("Home")
    full = quantize.size_in_bytes(model)["total"]
    net = quantize.quantize(copy.deepcopy(model), 8, "group", module.GROUP)
    quantize.quantize_embeddings(net, 8, "group", module.GROUP)
    size = quantize.size_in_bytes(net)["total"]
    text = readout(page)
    assert f"file {round(size / 1000)} kB, {full / size:.2f} times smaller" in text


@pytest.mark.browser
def test_eight_bits_write_what_floats_write_and_two_do_not(visit):
    page = opened(visit())
    lines = page.locator(".lf-story p")
    assert "But it cost nine coins" in lines.nth(0).text_content()
    assert "But it cost nine coins" in lines.nth(1).text_content()
    page.locator("input[type=range]").press("End")
    assert lines.nth(1).locator("u").count() > 3
    assert "2 bits" in lines.nth(1).text_content()


@pytest.mark.browser
def test_the_table_and_what_is_said(visit, fig):
    page = opened(visit())
    page.click("text=Show as table")
    row = page.locator("[role=region] tbody tr").nth(6).locator("td")
    told = [curve(fig, s)[6] - fig.props["base"] for s in module.SCHEMES]
    assert row.all_text_contents() == [f"+{v:.3f}" for v in told]
    page.locator("input[type=range]").press("End")
    assert said(page).startswith("2 bits, one a matrix: loss ")


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = opened(visit())
    page.click("text=Planted")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert ", outlier: loss" in readout(again)
    odd = visit("/#live-quantization-1?bits=99&scheme=%3Cb%3E&symmetric=x&open=true")
    assert readout(odd).startswith("8 bits, one a matrix")
    odd.click("text=Reset")
    assert readout(odd).startswith("8 bits, one a matrix: loss")


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
