"""The live figure of chapter 05: what Python makes of it, and what a reader can do with it in a browser."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from babygpt_course.attention import MultiHeadAttention
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, multi_head_attention_figure
from tests.live_page import readout, served, visiting

CHARS = "abcdefghijklmnopqrstuvwxyz "
SIZE = 32  # of a head, and of each of the four parts of the stream


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(4 * SIZE, 4, causal=True)

    def forward(self, x):
        return x + self.attention(x)


class Copier(nn.Module):
    """A model that copies, written by hand: the stream is token | place | letter before | answer.

    Layer 1 head 2 reads one place back and writes that letter; all heads of layer 2 look for it and
    hand on what follows, a quarter of the answer each. Nothing was trained, so every number is known.
    """

    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(len(CHARS), 4 * SIZE)
        self.position_embedding = nn.Embedding(SIZE, 4 * SIZE)
        self.blocks = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(4 * SIZE, len(CHARS))
        token, place, before, answer = (
            slice(i * SIZE, (i + 1) * SIZE) for i in range(4)
        )
        eye = torch.eye(SIZE)
        with torch.no_grad():
            for p in self.parameters():
                p.zero_()
            self.token_embedding.weight[:, token] = eye[: len(CHARS)]
            self.position_embedding.weight[:, place] = eye
            first, second = (block.attention for block in self.blocks)
            self.wire(first, 1, (place, 60 * eye.roll(-1, 0)), place, token, before, 1)
            for h in range(4):
                self.wire(second, h, (token, 60 * eye), before, token, answer, 0.25)
            # The first place has nobody before it and reads itself: no key for that.
            second.qkv.weight[4 * SIZE : 8 * SIZE, place.start] = -1
            self.head.weight[:, answer] = 16 * eye[: len(CHARS)]

    @staticmethod
    def wire(attention, h, asks, key, value, to, share):
        source, matrix = asks
        part = slice(h * SIZE, (h + 1) * SIZE)
        q, k, v = attention.qkv.weight.chunk(3)
        q[part, source] = matrix
        k[part, key] = torch.eye(SIZE)
        v[part, value] = torch.eye(SIZE)
        attention.proj.weight[to, part] = share * torch.eye(SIZE)

    def forward(self, idx):
        x = self.token_embedding(idx) + self.position_embedding(
            torch.arange(idx.shape[1])
        )
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def losses(text: str, *off: tuple[int, int]) -> list[float]:
    """What each letter but the first costs in float64, with some heads off."""
    model = Copier().double()
    for layer, h in off:
        part = slice(h * SIZE, (h + 1) * SIZE)
        model.blocks[layer].attention.proj.weight.data[:, part] = 0
    ids = torch.tensor([CHARS.index(c) for c in text])
    with torch.no_grad():
        logits = model(ids[None])[0]
    return F.cross_entropy(logits[:-1], ids[1:], reduction="none").tolist()


def figure(**options) -> LiveFigure:
    options = {"code_href": "#code", "card": "A model made by hand"} | options
    return multi_head_attention_figure(Copier(), CHARS, **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["helper"] == [0, 1] and props["induction"][0] == 1
    assert (props["place"], props["read"], props["most"]) == (5, 1, SIZE)
    assert len(fig.weights) < 900_000


def test_the_finding_has_the_numbers_of_torch(fig):
    whole = losses("xqz xqz")
    rise = [a - b for a, b in zip(losses("xqz xqz", (0, 1)), whole)][-2:]
    assert f"{sum(rise) / 2:+.2f}." in fig.alt and "layer 1 head 2" in fig.alt
    rows = re.findall(
        r'<th scope="row">(layer . head .)</th><td>([\d.]+)</td><td>([-+.\d]+)</td>',
        fig.picture,
    )
    assert len(rows) == 8 and fig.picture.count("<image") == 8
    assert [name for name, _, cost in rows if float(cost) > 1] == ["layer 1 head 2"]
    assert all(float(score) > 0.9 for name, score, _ in rows if "layer 2" in name)


@pytest.mark.parametrize("text", ["abc", "aab aab", "abca", "", "xqz-xqz"])
def test_a_text_that_shows_nothing_is_refused(text):
    with pytest.raises(ConfigError):
        figure(text=text)


@pytest.mark.parametrize("what", ["no helper", "no induction head", "one is needed"])
def test_a_model_that_does_not_show_it_is_refused(what):
    model = Copier()
    first, second = (block.attention for block in model.blocks)
    with torch.no_grad():
        if what == "no helper":
            first.proj.weight.zero_()
        elif what == "no induction head":
            second.qkv.weight[: 4 * SIZE] = 0
        else:
            second.proj.weight[:, SIZE:] = 0
            model.head.weight *= 4
    with pytest.raises(ConfigError):
        multi_head_attention_figure(model, CHARS)


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def costs(page) -> list[str]:
    """What the row of letters says under each."""
    return page.locator(".lf-token-number").all_text_contents()


def switch(page, name):
    page.get_by_role("switch", name=name).click()


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    page.click("text=Just show me")
    if look == "print":
        page.emulate_media(media="print")
    else:
        page.evaluate("t => document.documentElement.dataset.theme = t", look)
    page.wait_for_timeout(250)
    side = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(side) <= 0
    assert page.locator("canvas").count() == 9
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
    assert page.locator("tbody tr").count() == 8
    assert readout(page) == fig.alt


@pytest.mark.browser
def test_predict_before_the_numbers(visit):
    page = visit()
    card = page.get_by_role("button", name="Enlarge layer 1 head 2")
    assert "alone" not in card.get_attribute("aria-label")
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible()
    page.click("text=Hardly at all")
    page.click("text=Check")
    assert page.locator(".lf-verdict").text_content().startswith("Right. Without layer")
    assert not page.get_by_text("Predict first").is_visible()
    assert "alone" in card.get_attribute("aria-label")


@pytest.mark.browser
def test_heads_off_give_the_numbers_of_torch(visit):
    page = visit()
    page.click("text=Just show me")

    def agree(text, *off):
        assert costs(page) == ["–", *(f"{x:.1f}" for x in losses(text, *off))]

    agree("xqz xqz")
    switch(page, "layer 1 head 2")
    agree("xqz xqz", (0, 1))
    assert "Off: layer 1 head 2." in readout(page)
    page.click("text=All heads on")
    for h in range(4):
        switch(page, f"layer 2 head {h + 1}")
    agree("xqz xqz", *((1, h) for h in range(4)))
    page.get_by_label("Letters and spaces").fill("Hello! hello")
    agree("hello hello", *((1, h) for h in range(4)))
    page.click("text=All heads on")
    agree("hello hello")


@pytest.mark.browser
def test_the_cards_say_what_removal_costs(visit):
    page = visit()
    page.click("text=Just show me")
    whole = losses("xqz xqz")[-2:]
    for layer, h in [(0, 0), (0, 1), (1, 3)]:
        rise = (sum(losses("xqz xqz", (layer, h))[-2:]) - sum(whole)) / 2
        label = page.get_by_role(
            "button", name=f"Enlarge layer {layer + 1} head {h + 1};"
        ).get_attribute("aria-label")
        assert f"{abs(rise):.2f} nats" in label


@pytest.mark.browser
def test_keys_move_through_the_letters(visit):
    page = visit()
    page.click("text=Just show me")
    slider = page.locator("input[type=range]").first
    slider.press("End")
    assert readout(page).startswith("After q at 6, z costs 0.00 nats")
    slider.press("Home")
    assert readout(page).startswith("After x at 1, q costs")
    page.get_by_role("button", name="Enlarge layer 1 head 2").press("Enter")
    assert "Enlarged: layer 1 head 2" in page.locator("figure.lf").text_content()
    heat = page.get_by_role("application")
    heat.press("ArrowDown")
    heat.press("Home")
    assert page.locator(".lf-cell").text_content().startswith("q at 2 reads x at 1")
    page.click("text=Show as table")
    region = page.get_by_role(
        "region", name="Attention of the chosen head in numbers", exact=True
    )
    assert region.locator("tbody tr").count() == 7 and "hidden" in region.text_content()


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = visit()
    page.click("text=Just show me")
    page.get_by_label("Letters and spaces").fill("abcabc")
    switch(page, "layer 2 head 3")
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert again.get_by_label("Letters and spaces").input_value() == "abcabc"
    assert "Off: layer 2 head 3." in readout(again)
    odd = visit(
        "/#live-multi_head_attention-1?text=%3Cb%3E&p=no&off=9&layer=7&open=true"
    )
    assert odd.get_by_label("Letters and spaces").input_value() == "b"
    assert "at least two" in readout(odd)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        switch(page, "layer 1 head 2")
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
