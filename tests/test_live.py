"""Live figures: what the notebook and the page receive, and what a reader can do with them in a browser."""

import base64
import functools
import http.server
import json
import math
import re
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch

from babygpt_course.bigram import count_pairs
from babygpt_course.errors import ConfigError
from babygpt_course.live import LiveFigure, bigram_figure, to_safetensors
from babygpt_course.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "src" / "babygpt_course" / "static"
HOST = ROOT / "book" / "_static" / "live-figures.js"
TEXT = """The queen was quiet. "Quick!" said a quail in the square: it was a quarter to six, and
the frog had quite forgotten the quilt; the squirrel had not. They all sat down, quickly,
by the big tree. Why, they asked, is the sea blue? Nobody knew, but Zoe had a question.
""".replace("\n", " ").strip() + "\n"  # fmt: skip


def figure(steps=(0, 1, 2, 4, 8, 16, 32, 64), **options) -> LiveFigure:
    """A real bigram table, trained on a few sentences by gradient descent on the counts."""
    tokenizer = CharTokenizer(TEXT)
    counts = count_pairs(tokenizer.encode(TEXT * 3), tokenizer.vocab_size)
    logits = torch.zeros(counts.shape, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.3)
    stages = []
    for step in range(steps[-1] + 1):
        loss = -(counts * logits.log_softmax(1)).sum() / counts.sum()
        if step in steps:
            stages.append((step, logits.detach().clone(), loss.item()))
        adam.zero_grad()
        loss.backward()
        adam.step()
    options = {
        "counted": stages[-1][2] - 0.01,
        "floor": 1.0,
        "code_href": "#code",
        "card": "A small table",
    } | options
    return bigram_figure(tokenizer.chars, counts, stages, **options)


@pytest.fixture(scope="module")
def fig() -> LiveFigure:
    return figure()


# --- what Python makes


def test_on_the_page_it_is_html_alone(fig, monkeypatch, tmp_path):
    monkeypatch.setenv("BABYGPT_COURSE_STATIC", str(tmp_path))
    shown = fig._repr_mimebundle_()
    assert set(shown) == {"text/html", "text/plain"}
    assert shown["text/plain"] == repr(figure()), (
        "the plain text must not change from run to run"
    )
    page = shown["text/html"]
    assert page == figure().html, "the same numbers must make the same page"
    props = json.loads(re.search(r"data-props>(.*?)</script>", page, re.S)[1])
    assert props["chars"] == list(CharTokenizer(TEXT).chars) and props["ask"] == "q"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    file = json.loads(re.search(r"data-tensors-file>(.*?)</script>", page)[1])
    assert (tmp_path / file).read_bytes() == fig.weights
    assert [f.name for f in tmp_path.iterdir()] == [file], (
        "nothing half-written is left"
    )
    assert len(page) < 100_000, "the numbers are beside the page, not in it"


def test_without_a_folder_for_them_the_numbers_are_in_the_page(fig, monkeypatch):
    monkeypatch.delenv("BABYGPT_COURSE_STATIC", raising=False)
    data = re.search(r"data-tensors>(.*?)</script>", fig.html)[1]
    assert base64.b64decode(data) == fig.weights


def test_the_still_picture_says_the_finding(fig):
    first, last = fig.props["losses"][0], fig.props["losses"][-1]
    assert (
        f"{first:.3f}" in fig.alt
        and f"{last:.3f}" in fig.alt
        and f"{last / math.log(2):.3f} bits" in fig.alt
    )
    assert f'role="img" aria-label="{fig.alt}"' in fig.html
    assert fig.html.count("<tr>") == 1 + len(fig.props["steps"])


def test_the_distance_falls_towards_the_counted_table(fig):
    gaps = [float(x) for x in re.findall(r"<td>([\d.]+)</td></tr>", fig.picture)]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 1 and gaps[-1] < 0.1


def test_in_a_notebook_it_is_a_widget_whose_numbers_are_not_saved(fig, monkeypatch):
    monkeypatch.delenv("BABYGPT_COURSE_STATIC", raising=False)
    data, _metadata = fig._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    saved = {k: v for k, v in fig.widget.get_state().items() if k in ("props", "state")}
    assert len(json.dumps(saved)) < 3000
    assert fig.widget.get_state()["_esm"] == (STATIC / "bigram.js").read_text(
        encoding="utf-8"
    )


def test_the_kernel_answers_with_the_numbers(fig, monkeypatch):
    sent = []
    monkeypatch.setattr(
        type(fig.widget),
        "send",
        lambda self, content, buffers=None: sent.append((content, buffers)),
    )
    fig.widget._handle_custom_msg({"type": "something else"}, [])
    fig.widget._handle_custom_msg({"type": "tensors"}, [])
    assert sent == [({"type": "tensors"}, [fig.weights])]


def test_without_anywidget_it_is_html(monkeypatch):
    monkeypatch.delenv("BABYGPT_COURSE_STATIC", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert "text/html" in figure()._repr_mimebundle_()


def test_no_markup_escapes_from_the_numbers():
    page = figure(card="</script><script>alert(1)</script>", title="a < b & c").html
    assert "<script>alert" not in page and "a &lt; b &amp; c" in page


def test_faults_are_named(fig):
    counts, logits = torch.ones(3, 3, dtype=torch.int64), torch.zeros(3, 3)
    with pytest.raises(ConfigError, match=r"\(3, 3\).*\(2, 3\)"):
        bigram_figure("abc", counts, [(0, logits[:2], 1.0)])
    with pytest.raises(ConfigError, match="order"):
        bigram_figure("abc", counts, [(5, logits, 1.0), (0, logits, 1.0)])
    with pytest.raises(ConfigError, match="at least one stage"):
        bigram_figure("abc", counts, [])
    with pytest.raises(ConfigError, match="counted must be finite"):
        bigram_figure("abc", counts, [(0, logits, 1.0)], counted=math.inf)
    with pytest.raises(ConfigError, match="'z'"):
        bigram_figure("abc", counts, [(0, logits, 1.0)], ask="z")
    with pytest.raises(ConfigError, match=r"'x'.*float16"):
        to_safetensors({"x": torch.tensor([1e6])})
    with pytest.raises(ConfigError, match="int32"):
        to_safetensors({"n": torch.tensor([2**40])})


# --- what a reader can do

READY = ".live-figure [data-ready]"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>body{margin:0 16px} html[data-theme=dark] body{background:#121212;color:#ddd}</style>
<script type="module" src="_static/live-figures.js"></script></head><body><main><h1>A page</h1>%s</main></body></html>"""
# MyST's contract: a shadow root, and a model half of whose methods throw.
THROWING = """<!doctype html><html lang="en" class="dark"><head><meta charset="utf-8"><title>Another host</title>
<link rel="icon" href="data:,"></head><body><div id="place"></div>%s<script type="module">
import module from "./_static/bigram.js";
const data = (name) => document.querySelector(`script[data-${name}]`).textContent;
const no = () => { throw new Error("not here"); };
const numbers = new URLSearchParams(location.search).has("numbers");
const values = {
  props: JSON.parse(data("props")),
  tensors: numbers ? Uint8Array.from(atob(data("tensors")), (c) => c.charCodeAt(0)) : undefined,
};
const heard = {};
window.model = { get: (n) => values[n], set: (n, v) => { values[n] = v; heard[`change:${n}`]?.(new Event(n)); },
  on: (n, f) => { heard[n] = f; }, off: no, save_changes: no, send: no };
const el = document.createElement("div");
document.querySelector("#place").attachShadow({ mode: "open" }).append(el);
window.stop = await module.render({ model, el });
window.rendered = true;
</script></body></html>"""


@pytest.fixture(scope="module")
def pages(fig, tmp_path_factory):
    """The address of a small site: a figure, two figures, another host."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(STATIC, folder / "_static")
    shutil.copy(HOST, folder / "_static")
    (folder / "index.html").write_text(PAGE % fig.html, encoding="utf-8")
    (folder / "two.html").write_text(PAGE % (fig.html + fig.html), encoding="utf-8")
    (folder / "broken.html").write_text(
        PAGE % fig.html.replace('"bigram"', '"absent"'), encoding="utf-8"
    )
    (folder / "throwing.html").write_text(THROWING % fig.html, encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def visit(browser, pages):
    """Open a page. At the end, no page may have complained or asked anybody else for anything."""
    contexts, faults = [], []

    def open_page(path="/", width=1280, ready=READY, may_complain=False, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "request",
            lambda r: (
                r.url.startswith((pages, "data:", "blob:")) or faults.append(r.url)
            ),
        )
        if not may_complain:
            page.on(
                "console",
                lambda m: m.type == "error" and faults.append(m.text),
            )
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.goto(pages + path)
        if ready:
            page.wait_for_selector(ready)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def overflow(page) -> int:
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def said(page) -> str:
    """What the live region says once the reader rests."""
    page.wait_for_timeout(650)
    return page.locator("[role=status]").first.text_content()


LOOKS = {
    "light": {},
    "dark": {"theme": "dark"},
    "print": {"media": "print"},
    "forced colors": {"forced_colors": "active"},
    "reduced motion": {"reduced_motion": "reduce"},
}


@pytest.mark.browser
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("width", [1280, 360])
def test_every_look_fits_the_screen(visit, width, look):
    page = visit(width=width)
    options = dict(LOOKS[look])
    page.evaluate(
        "t => document.documentElement.dataset.theme = t", options.pop("theme", "light")
    )
    page.click("text=Just show me")
    if options:
        page.emulate_media(**options)
    page.wait_for_timeout(250)
    assert overflow(page) <= 0
    assert page.locator("canvas").bounding_box()["width"] > 200
    assert page.locator(".lf-bars tbody tr").count() == 13
    assert page.get_by_text("Copy link").is_visible() == (look != "print")
    theme = page.locator("figure.lf").get_attribute("data-theme")
    assert theme == ("dark" if look == "dark" else "light")
    moving = page.evaluate(
        "getComputedStyle(document.querySelector('.lf-fill')).transitionDuration"
    )
    assert (moving == "0s") == (look == "reduced motion")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_text_and_targets_are_large_enough(visit, width):
    page = visit(width=width)
    page.click("text=Just show me")
    page.click("text=Show as table")
    small = page.evaluate(
        """[...document.querySelectorAll('.lf *')].filter(n => [...n.childNodes].some(c => c.nodeType === 3 &&
        c.data.trim()) && n.tagName !== 'STYLE' && parseFloat(getComputedStyle(n).fontSize) < 14).map(n => n.outerHTML)"""
    )
    assert not small
    tiny = page.evaluate(
        """[...document.querySelectorAll('.lf :is(button, select, input, a, summary)')].filter(n => {
        const b = n.getBoundingClientRect(); return b.width && b.height < 24 }).map(n => n.outerHTML)"""
    )
    assert not tiny


@pytest.mark.browser
def test_readable_without_scripts(visit, fig):
    page = visit(java_script_enabled=False, ready=None, width=360)
    assert (
        page.locator(".lf-title").is_visible()
        and page.get_by_role("img", name=fig.alt).is_visible()
    )
    assert page.locator("tbody tr").count() == len(fig.props["steps"])
    assert page.locator(".lf-readout").text_content() == fig.alt


@pytest.mark.browser
def test_print_without_scripts_keeps_the_table(visit):
    page = visit(java_script_enabled=False, ready=None)
    page.emulate_media(media="print")
    assert page.locator("tbody").is_visible()


@pytest.mark.browser
def test_a_figure_that_cannot_start_stays_a_picture(visit, fig):
    page = visit("/broken.html", ready="text=could not start", may_complain=True)
    assert page.get_by_role("img", name=fig.alt).is_visible()


@pytest.mark.browser
def test_the_numbers_are_those_of_python(visit, fig):
    page = visit()
    assert (
        f"{fig.props['losses'][-1]:.3f} nats"
        in page.locator(".lf-readout").text_content()
    )
    gaps = re.findall(r"<td>([\d.]+)</td></tr>", fig.picture)
    slider = page.get_by_label("Training step")
    for i in range(len(gaps)):
        slider.fill(str(i))
        shown = page.locator(".lf-readout b").nth(1).text_content()
        assert float(shown.split()[0]) == pytest.approx(float(gaps[i]), abs=0.0011)
    page.click("text=Just show me")
    counts, chars = fig.tensors["counts"], fig.props["chars"]
    for char, name in {"t": "t", " ": "space"}.items():
        page.get_by_label("Previous character").select_option(char)
        row = counts[chars.index(char)]
        cells = (
            page.locator(".lf-bars tbody tr").first.locator("td").all_text_contents()
        )
        assert cells[-1] == f"{100 * row.max() / row.sum():.1f}\u00a0%"
        assert f"After {name}" in page.locator(".lf-bars caption").text_content()


@pytest.mark.browser
def test_the_picture_is_not_turned(visit, fig):
    page = visit()
    chars = fig.props["chars"]
    q, u = chars.index("q"), chars.index("u")
    light = """([row, column, size]) => { const c = document.querySelector("canvas"), cell = c.width / size;
      const at = [column, row].map((i) => Math.floor((i + 0.5) * cell));
      return c.getContext("2d").getImageData(...at, 1, 1).data.slice(0, 3).reduce((a, b) => a + b); }"""
    assert page.evaluate(light, [q, u, len(chars)]) > 2 * page.evaluate(
        light, [u, q, len(chars)]
    )
    page.click("text=Just show me")
    side = page.locator("canvas").bounding_box()["width"] / len(chars)
    page.locator("canvas").click(
        position={"x": (u + 0.5) * side, "y": (chars.index("s") + 0.5) * side}
    )
    assert (
        said(page).startswith("u after s:")
        and page.get_by_label("Previous character").input_value() == "s"
    )


@pytest.mark.browser
def test_predict_before_the_bars(visit):
    page = visit()
    assert not page.locator(".lf-bars").is_visible()
    assert "after q" not in page.locator(".lf-readout").text_content()
    page.click("text=Check")
    assert "Choose two" in said(page) and not page.locator(".lf-bars").is_visible()
    page.get_by_label("First").select_option("u")
    page.get_by_label("Second").select_option("a")
    page.click("text=Check")
    verdict = page.locator(".lf-verdict").text_content()
    assert (
        verdict.startswith("One of your two")
        and "expects after q: u (100\u00a0%) and nothing else." in verdict
    )
    assert page.locator(".lf-bars").is_visible() and page.locator(
        ".lf-bars caption"
    ).evaluate("n => n === document.activeElement")


@pytest.mark.browser
def test_arrow_keys_change_what_is_said(visit):
    page = visit()
    page.click("text=Just show me")
    page.get_by_label("Training step").press("Home")
    assert "Step 0:" in said(page)
    page.get_by_label("Training step").press("ArrowRight")
    assert "Step 1:" in said(page)
    assert "1, loss" in page.get_by_label("Training step").get_attribute(
        "aria-valuetext"
    )
    heat = page.get_by_role("application")
    heat.focus()
    heat.press("Home")
    assert said(page).startswith("newline after q: trained")
    heat.press("ArrowRight")
    heat.press("ArrowDown")
    assert said(page).startswith("space after r: trained")
    assert page.get_by_label("Previous character").input_value() == "r"
    page.keyboard.press("Tab")
    assert page.evaluate("!document.activeElement.closest('.lf-map')"), (
        "the heat map is one tab stop"
    )


@pytest.mark.browser
def test_every_matrix_as_a_table(visit, fig):
    page = visit()
    size = len(fig.props["chars"])
    page.click("text=Show as table")
    region = page.get_by_role("region", name="The table in numbers")
    assert (
        region.locator("tbody tr").count() == size
        and region.locator("tbody td").count() == size**2
    )
    page.click("text=Difference")
    assert "Trained minus counted" in region.text_content()
    page.click("text=Hide table")
    assert not region.is_visible()


@pytest.mark.browser
def test_generation_follows_the_seed_and_the_table(visit, fig):
    page = visit()
    text = page.get_by_label("Text so far")
    page.click("text=Counted")
    page.click("text=Generate 200")
    first = text.text_content()
    # Every pair was seen in the text: counting gives nothing else a chance.
    chars, counts = fig.props["chars"], fig.tensors["counts"]
    assert len(first) > 190 and all(
        counts[chars.index(a), chars.index(b)] > 0
        for a, b in zip(first, first[1:])
        if a in chars and b in chars
    )
    page.click("text=Reset")
    page.click("text=Counted")
    page.click("text=Generate 200")
    assert text.text_content() == first
    page.click("text=Reset")
    page.click("text=Next: sample one")
    assert (
        text.text_content() == "qu"
        and page.get_by_label("Previous character").input_value() == "u"
    )


@pytest.mark.browser
def test_a_link_carries_the_state(visit):
    page = visit()
    page.click("text=Just show me")
    page.click("text=Difference")
    page.get_by_label("Previous character").select_option(" ")
    page.get_by_label("Training step").fill("2")
    page.click("text=Copy link")
    address = page.evaluate("location.hash")
    again = visit("/" + address)
    assert again.get_by_label("Previous character").input_value() == " "
    assert again.get_by_label("Training step").input_value() == "2"
    assert (
        again.get_by_role("button", name="Difference").get_attribute("aria-pressed")
        == "true"
    )
    odd = visit("/#live-bigram-1?step=no&prev=%3Cb%3E&view=x")
    assert odd.get_by_label("Previous character").input_value() == "q"
    assert odd.get_by_label("Training step").input_value() == "7"


@pytest.mark.browser
def test_two_figures_do_not_meet(visit):
    page = visit("/two.html#live-bigram-2?step=0")
    page.wait_for_function("document.querySelectorAll('[data-ready]').length === 2")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(n => n.id)")
    assert len(ids) == len(set(ids))
    sliders = page.get_by_label("Training step")
    assert [sliders.nth(i).input_value() for i in (0, 1)] == ["7", "0"]
    sliders.nth(0).press("ArrowLeft")
    assert [sliders.nth(i).input_value() for i in (0, 1)] == ["6", "0"]


@pytest.mark.browser
def test_a_host_that_throws(visit):
    page = visit("/throwing.html?numbers", ready=None)
    page.wait_for_function("window.rendered")
    assert page.locator("figure.lf").last.get_attribute("data-theme") == "dark"
    slider = page.get_by_label("Training step")
    slider.press("Home")
    assert "Step 0:" in page.locator("#place .lf-readout").text_content()
    page.evaluate("model.set('state', {step: 4})")
    assert "Step 4:" in page.locator("#place .lf-readout").text_content()
    page.evaluate("stop()")
    assert page.locator("#place figure").count() == 0


@pytest.mark.browser
def test_a_host_without_a_kernel_keeps_the_finding(visit, fig):
    page = visit("/throwing.html", ready=None)
    page.wait_for_selector("text=not live here")
    assert page.locator("#place .lf-readout").text_content() == fig.alt


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing(visit, theme, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit()
    page.evaluate("t => document.documentElement.dataset.theme = t", theme)
    if opened:
        page.click("text=Just show me")
        page.click("text=Difference")
        page.click("text=Generate 200")
        page.click("text=Show as table")
        page.click("summary")
    page.wait_for_timeout(300)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
