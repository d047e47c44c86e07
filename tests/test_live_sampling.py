"""The sampling figure of chapter 10: what Python makes of it, and what a reader can do with it in a browser."""

import copy
import functools
import json
import re

import pytest
import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.generate import filter_logits, generate
from babygpt_course.gpt import GPT, GPTConfig
from babygpt_course.live import LiveFigure, sampling_figure
from babygpt_course.live.sampling import continuation
from babygpt_course.tokenizer import CharTokenizer
from babygpt_course.trainer import TrainConfig, train
from tests.live_page import readout, served, visiting

TALES = "".join(tinytales.sample(60, seed=3))
TOKENIZER = CharTokenizer(TALES)
CHARS = TOKENIZER.chars
V = TOKENIZER.vocab_size
BLOCK, LENGTH = 48, 30  # of the model, and of the texts that the page writes


@functools.cache
def trained() -> GPT:
    """A model that knows a little: enough to be sure at some places."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(GPTConfig(V, BLOCK, 1, 2, 32))
    ids = torch.tensor(TOKENIZER.encode(TALES))
    config = TrainConfig(steps=200, batch_size=16, block_size=32, lr=1e-2, eval_every=200, progress=False)  # fmt: skip
    train(model, (ids, ids[:2000]), config)
    torch.set_num_threads(threads)
    return model.eval()


@functools.cache
def rounded() -> GPT:
    """The model that the page runs."""
    return copy.deepcopy(trained()).half().double()


@torch.no_grad()
def logits_after(text: str) -> torch.Tensor:
    return rounded()(torch.tensor([TOKENIZER.encode(text)]))[0][:, -1]  # (1, V)


def kept(text: str, k=None, p=None, temperature=1.0) -> int:
    return int(filter_logits(logits_after(text), temperature, k, p).isfinite().sum())


@functools.cache
def contexts() -> tuple[str, str, str]:
    """After the first the model is sure, after the second it is not; the third begins with a line break."""
    pieces = [TALES[i : i + 9] for i in range(500, 900, 7)]
    pieces = [t for t in pieces if "\n" not in t and t == t.strip()]
    sizes = [kept(text, p=0.9) for text in pieces]
    sure, unsure = (pieces[sizes.index(f(sizes))] for f in (min, max))
    third = next(t for t in ("\n" + text for text in pieces) if min(sizes) < kept(t, p=0.9) < max(sizes))  # fmt: skip
    return sure, unsure, third


def figure(**options) -> LiveFigure:
    options = {"code_href": "#code", "card": "A small model"} | options
    return sampling_figure(trained(), CHARS, contexts(), **options)


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
    assert (props["sure"], props["unsure"], props["length"]) == (0, 1, LENGTH)
    assert len(fig.weights) < 2.1 * trained().config.n_params + 3000, "tied once"


def test_the_finding_has_the_numbers_of_the_package(fig):
    sure, unsure, _ = contexts()
    few, many, k = kept(sure, p=0.9), kept(unsure, p=0.9), fig.props["k"]
    assert few < k < many and fig.props["kept"] == [kept(t, p=0.9) for t in contexts()]
    assert f"keeps {few} character" in fig.alt and f"and {many} after" in fig.alt
    p = torch.softmax(logits_after(unsure)[0], 0).sort(descending=True).values
    assert f"{100 * float(p[k:many].sum()):.1f} % together" in fig.alt
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + 3


def test_the_models_own_copy_is_not_touched(fig):
    assert next(trained().parameters()).dtype == torch.float32


def test_greedy_texts_are_those_of_generate():
    text = TOKENIZER.encode(contexts()[1])
    made = generate(rounded(), torch.tensor([text]), 20, temperature=0)[0]
    assert continuation(rounded(), text, 20, 3, temperature=0) == made[len(text) :].tolist()  # fmt: skip


def test_texts_follow_the_probabilities():
    text = TOKENIZER.encode(contexts()[1])
    probs = torch.softmax(filter_logits(logits_after(contexts()[1]), 0.8, 6, 0.9), -1)
    first = [continuation(rounded(), text, 1, s, 0.8, 6, 0.9)[0] for s in range(800)]
    shares = torch.bincount(torch.tensor(first), minlength=V) / 800
    assert (shares - probs[0]).abs().max() < 0.06
    assert not shares[probs[0] == 0].any()


@pytest.mark.parametrize("texts", [["One "], ["One ", "One "], ["One ", "§"], ["One ", ""], ["One ", "a" * 40]])  # fmt: skip
def test_contexts_that_do_not_do_are_refused(texts):
    with pytest.raises(ConfigError, match="context"):
        sampling_figure(trained(), CHARS, texts)


def test_what_shows_nothing_is_refused():
    with pytest.raises(ConfigError, match="would not show"):
        sampling_figure(GPT(GPTConfig(V, BLOCK, 1, 2, 32)), CHARS, contexts())
    with pytest.raises(ConfigError, match="at most"):
        sampling_figure(GPT(GPTConfig(V, BLOCK, 2, 2, 128)), CHARS, contexts())
    with pytest.raises(ConfigError, match="ids for"):
        sampling_figure(trained(), CHARS[1:], contexts())


# --- what a reader can do


@pytest.fixture(scope="module")
def site(fig, tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), index=fig) as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with visiting(browser, site) as open_page:
        yield open_page


def fits(page, look: str) -> None:
    """In this look nothing is wider than the screen, smaller than 14 px, or too small to hit."""
    if look == "print":
        page.emulate_media(media="print")
    elif look == "forced":
        page.emulate_media(forced_colors="active")
    else:
        page.evaluate("t => document.documentElement.dataset.theme = t", look)
    page.wait_for_timeout(250)
    side = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
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


def lines(page) -> list[str]:
    """The texts, once they are all written for the state that is shown."""
    page.wait_for_timeout(150)
    page.wait_for_selector(".lf-text[data-done]")
    return page.locator("pre.lf-page").all_text_contents()


def expected(text: str, seed: int, temperature=1.0, k=None, p=None) -> list[str]:
    """What Python writes, as the page shows it: a line break is drawn, and has no text."""
    ids = TOKENIZER.encode(text)
    made = [continuation(rounded(), ids, LENGTH, 5 * seed + i, temperature, k, p) for i in range(5)]  # fmt: skip
    return [(text + TOKENIZER.decode(ids)).replace("\n", "") for ids in made]


def bars(page) -> list[list[str]]:
    """The rows of the sorted bars: name, before the cuts, drawn with; and the lines between them."""
    rows = page.locator(".lf-bars tbody tr").all()
    return [[t for t in row.locator("th, td").all_text_contents() if t] for row in rows]


def put(slider, to: int) -> None:
    slider.fill(str(to))


@pytest.mark.browser
@pytest.mark.parametrize("look", ["light", "dark", "print", "forced"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    fits(page, look)
    if look == "print":
        assert page.get_by_text("The same settings after each context").is_visible()
        page.emulate_media(media="screen")
    page.click("text=Just show me")
    fits(page, look)


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert page.get_by_role("img", name=fig.alt).is_visible()
    assert readout(page) == fig.alt
    assert page.locator("tbody tr").count() == 3


@pytest.mark.browser
def test_predict_before_the_numbers(visit):
    page = visit()
    sure, unsure, _ = contexts()
    table = page.get_by_text("The same settings after each context")
    assert not table.is_visible() and "All " in readout(page)
    page.click("text=Check")
    assert page.get_by_text("Predict first").is_visible(), "nothing was chosen"
    for text in (sure, unsure):
        page.get_by_label(f"after “{text}”").select_option("3")  # 9 or more
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    right = [kept(t, p=0.9) >= 9 for t in (sure, unsure)].count(True)
    assert verdict.startswith(["Neither", "One", "Both"][right])
    assert f"keeps {kept(sure, p=0.9)} character" in verdict
    assert f"and {kept(unsure, p=0.9)} after" in verdict
    assert table.is_visible() and not page.get_by_text("Predict first").is_visible()
    page.click("text=Reset")
    assert f"{kept(unsure, p=0.9)} characters of {V} stay" in readout(page)


@pytest.mark.browser
def test_bars_and_cuts_are_those_of_the_package(visit):
    page = visit()
    page.click("text=Just show me")
    sure, unsure, third = contexts()
    k, p, t = (page.get_by_role("slider", name=n) for n in ("Top-k", "Top-p", "Temperature"))  # fmt: skip
    put(k, 3)  # the fourth place
    put(p, 9)  # 0.85
    put(t, 15)
    row = logits_after(unsure)
    full = torch.softmax(row / 1.5, -1)[0]
    drawn = torch.softmax(filter_logits(row, 1.5, 4, 0.85), -1)[0]
    n = int((drawn > 0).sum())
    names = {" ": "space", "\n": "newline"}
    shown = [r for r in bars(page) if "others" not in r[0] and "keeps" not in r[0]]
    for rank, i in enumerate(full.argsort(descending=True)[: len(shown)].tolist()):
        name, before, after = shown[rank]
        assert name == names.get(CHARS[i], CHARS[i])
        assert float(before[:-2].replace("<", "")) == pytest.approx(100 * float(full[i]), abs=0.06)  # fmt: skip
        if rank < n:
            assert float(after[:-2]) == pytest.approx(100 * float(drawn[i]), abs=0.06)
        assert (after == "cut") is (rank >= n)
    cuts = [r[0] for r in bars(page) if "keeps" in r[0]]
    assert cuts == ([f"top-p = 0.85 keeps {n}"] if n < 4 else []) + ["top-k = 4 keeps 4"]  # fmt: skip
    assert f"with {100 * float(full[drawn > 0].sum()):.1f}\u00a0%" in readout(page)
    # The table beside it: each cut alone after each context, and both.
    rows = [r.locator("th, td").all_text_contents() for r in page.locator("tbody").nth(1).locator("tr").all()]  # fmt: skip
    wanted = [[kept(x, k, p, 1.5) for k, p in ((4, None), (None, 0.85), (4, 0.85))] for x in contexts()]  # fmt: skip
    assert [[int(n) for n in r[1:]] for r in rows] == wanted
    assert [r[0] for r in rows] == [sure, unsure, third.strip()]
    page.click("text=Show as table")
    region = page.get_by_role("region", name="All probabilities in numbers")
    assert region.locator("tbody tr").count() == V


@pytest.mark.browser
def test_the_texts_are_those_of_python(visit, fig):
    page = visit()
    _, unsure, third = contexts()
    assert lines(page) == expected(unsure, 1)
    page.get_by_role("slider", name="Seed").press("ArrowRight")
    put(page.get_by_role("slider", name="Temperature"), 7)
    put(page.get_by_role("slider", name="Top-k"), 5)
    put(page.get_by_role("slider", name="Top-p"), 10)
    assert lines(page) == expected(unsure, 2, 0.7, 6, 0.9)
    page.get_by_label("Context", exact=True).select_option("2")
    line = page.get_by_label("What the model has read")
    assert line.input_value() == "¶" + third[1:], "a line break can be seen"
    assert lines(page) == expected(third, 2, 0.7, 6, 0.9)
    line.fill("¶The cat")
    assert lines(page) == expected("\nThe cat", 2, 0.7, 6, 0.9)
    put(page.get_by_role("slider", name="Temperature"), 0)
    made = lines(page)
    assert made == expected("\nThe cat", 0, 0) and len(set(made)) == 1
    assert page.get_by_text("All 5 are the same.").is_visible()


@pytest.mark.browser
def test_a_link_carries_the_state_and_odd_ones_do_no_harm(visit):
    page = visit()
    page.click("text=Just show me")
    page.get_by_label("What the model has read").fill("¶The")
    put(page.get_by_role("slider", name="Top-k"), 1)
    put(page.get_by_role("slider", name="Temperature"), 12)
    page.click("text=Copy link")
    again = visit("/" + page.evaluate("location.hash"))
    assert readout(again) == readout(page) and "temperature 1.2" in readout(again)
    assert lines(again) == expected("\nThe", 1, 1.2, 2, 0.9)
    odd = visit("/#live-sampling-1?context=%3Cb%C2%A7&temperature=hot&k=-5&p=&seed=9e9")
    assert odd.get_by_label("What the model has read").input_value() == "b"
    assert "After “b” at temperature 1.0" in readout(odd)
    assert len(lines(odd)) == 5


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        put(page.get_by_role("slider", name="Top-k"), 4)
        page.click("text=Show as table")
        page.click("summary")
    lines(page)
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
