"""The live figure of chapter 08: what Python makes of it, and what a reader can do with it in a browser."""

import functools
import json
import re

import pytest
import torch
import torch.nn.functional as F

from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, gpt_figure
from babygpt_course.live.gpt import _lens
from babygpt_course.tokenizer import WordTokenizer
from tests.live_page import readout, served, visiting

TEXT = "Ann has a red kite and Tom has a blue boat. Ann wants the boat."
WORDS = WordTokenizer("\n" + TEXT)


@functools.cache
def trained() -> GPT:
    """A small GPT that knows the one sentence by heart: seconds, and the same on every machine within rounding."""
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(WORDS.vocab_size, 24, n_layer=2, n_head=2, n_embd=24), fused=False
    )
    ids = torch.tensor([WORDS.encode("\n" + TEXT)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(120):
        loss = F.cross_entropy(model(ids[:, :-1])[0][0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def rounded() -> GPT:
    """What the browser gets, in float64."""
    model = GPT(trained().config, fused=False)
    model.load_state_dict(trained().state_dict())
    return model.half().double().eval()


def position() -> int:
    """A place whose word does not lead before the blocks and does after them."""
    ids = WORDS.encode("\n" + TEXT)
    p = _lens(rounded(), ids)
    right = [p[i, :-1].argmax(-1) == torch.tensor(ids[1:]) for i in (0, -1)]
    return int((~right[0] & right[1]).nonzero()[2])


def figure(model=None, texts=None, **options) -> LiveFigure:
    options = {"code_href": "#code", "card": "A model of one sentence"} | options
    return gpt_figure(
        model or trained(), WORDS, texts or [(TEXT, position())], **options
    )


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- what Python makes


def test_the_page_is_small_and_asks_nobody(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    page = fig._repr_mimebundle_()["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["config"] == {"n_head": 2, "n_layer": 2, "norm_eps": 1e-5}
    assert "head.weight" not in fig.tensors, "a tied table is sent once"


def test_the_finding_has_the_numbers_of_torch(fig):
    ids, at = WORDS.encode("\n" + TEXT), position()
    p = _lens(rounded(), ids)[:, at].softmax(-1)[:, ids[at + 1]]
    for value in p.tolist():
        assert f"{value:.0%}" in fig.alt
    assert fig.picture.count("<tr>") == 1 + 3
    torch.testing.assert_close(
        _lens(rounded(), ids)[-1], rounded()(torch.tensor([ids]))[0][0]
    )


@pytest.mark.parametrize("what", ["none", "long", "no answer", "untrained", "no lead"])
def test_what_shows_nothing_is_refused(what):
    with pytest.raises(ConfigError):
        if what == "none":
            gpt_figure(trained(), WORDS, [])
        elif what == "long":
            figure(texts=[(TEXT * 3, 1)])
        elif what == "no answer":
            figure(texts=[(TEXT, len(WORDS.encode(TEXT)))])
        elif what == "untrained":
            torch.manual_seed(0)
            model = GPT(trained().config)
            for block in model.blocks:
                block.mlp.proj.weight.data.zero_()
                block.attention.proj.weight.data.zero_()
            figure(model)
        else:
            figure(texts=[("boat boat boat boat", 2)])


def test_another_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="tokens"):
        gpt_figure(trained(), WordTokenizer("other words"), [(TEXT, 3)])


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def mean_loss(text: str, *off: tuple[int, str]) -> float:
    """The mean loss of a text in float64, with parts off."""
    model = rounded()
    for block, part in off:
        getattr(model.blocks[block], part).register_forward_hook(
            lambda module, args, out: 0 * out
        )
    ids = torch.tensor([WORDS.encode("\n" + text)])
    with torch.no_grad():
        return float(F.cross_entropy(model(ids)[0][0, :-1], ids[0, 1:]))


def choose(page, name):
    page.get_by_role("radio", name=re.compile(rf"^{name}( .)? ?\[")).first.click()


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    if look == "print":
        page.emulate_media(media="print")
    else:
        page.evaluate("t => document.documentElement.dataset.theme = t", look)
    page.wait_for_timeout(250)
    side = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for part in ("hidden", "scores", "logits"):
        if look != "print":
            choose(page, part)
        assert page.evaluate(side) <= 0
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
    assert readout(page) == fig.alt


@pytest.mark.browser
def test_parts_off_give_the_numbers_of_torch(visit):
    page = visit()

    def agree(text, *off):
        assert f"Mean loss of this text: {mean_loss(text, *off):.2f} nats" in readout(
            page
        )

    agree(TEXT)
    page.get_by_role("switch", name="MLP 1").click()
    agree(TEXT, (0, "mlp"))
    page.get_by_role("switch", name="attention 2").click()
    agree(TEXT, (0, "mlp"), (1, "attention"))
    assert "Off: MLP 1, attention 2." in readout(page)
    page.get_by_label("Its words, to edit").fill("Tom wants a red boat.")
    agree("Tom wants a red boat.", (0, "mlp"), (1, "attention"))
    page.click("text=All parts on")
    agree("Tom wants a red boat.")


@pytest.mark.browser
def test_the_lens_says_what_torch_says(visit):
    page = visit()
    ids, at = WORDS.encode("\n" + TEXT), position()
    p = _lens(rounded(), ids)[:, at].softmax(-1)
    rows = page.get_by_role("listitem")
    assert rows.count() == 3
    for i in range(3):
        best = p[i].topk(2)
        said = rows.nth(i).text_content().replace("\xa0", " ")
        for value, token in zip(best.values, best.indices):
            word = WORDS.tokens[int(token)].strip()
            assert word in said
            if 0.002 < value < 0.999:
                assert f"{100 * value:.1f} %" in said


@pytest.mark.browser
def test_every_number_is_the_sum_of_its_terms(visit):
    """The cell's number is the last line of the terms, for each tensor of the strip."""
    page = visit()
    number = r"(−?\d+\.\d+)"
    for part in "embeddings norm q k v scores weights heads attention stream hidden MLP logits".split():
        choose(page, part)
        cell = page.get_by_text(re.compile(r"at \d+, .*: −?\d+\.\d{3}\.$")).first
        value = re.search(number + r"\.$", cell.text_content())[1]
        last = page.get_by_label("The terms of the number").locator("tr").last
        assert re.search(number + "$", last.text_content())[1] == value, part


@pytest.mark.browser
def test_keys_move_along_the_strip_and_through_the_cells(visit):
    page = visit()
    choose(page, "embeddings")
    page.get_by_role("radio", name=re.compile("^embeddings")).press("ArrowRight")
    assert "Block 1: stream after it" in page.locator("figure.lf").text_content()
    choose(page, "weights")
    heat = page.get_by_role("application")
    heat.press("Home")
    page.get_by_label("Head", exact=True).press("End")
    assert "head 2" in page.locator("figure.lf").text_content()
    heat.press("End")
    assert "may not read" in page.locator("figure.lf").text_content()
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The chosen tensor in numbers")
    assert region.locator("tbody tr").count() == len(WORDS.encode("\n" + TEXT))
    assert "hidden" in region.text_content()


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = visit()
    choose(page, "scores")
    page.get_by_role("switch", name="MLP 2").click()
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert "Off: MLP 2." in readout(again)
    assert "scores, head 1" in again.locator("figure.lf").text_content()
    odd = visit(
        "/#live-gpt_inside-1?text=%3Cb%3E&t=99&part=blocks.9.q&c=no&off=xx&head=7"
    )
    assert "All parts are on." in readout(odd)
    odd.get_by_label("Its words, to edit").fill("")
    assert "the model expects" in readout(odd)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        choose(page, "weights")
        page.get_by_role("switch", name="attention 1").click()
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
