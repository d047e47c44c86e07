"""The built pages as a reader meets them, in Chromium."""

import re
from pathlib import Path

import axe_playwright_python
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.book]
ROOT = Path(__file__).resolve().parent.parent
PAGES = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
# The theme declares this name twice; nothing of ours depends on it.
THEME_NOISE = ("THEBE_JS_URL",)


@pytest.fixture
def visit(browser, site):
    """Open a page; collects requests and errors."""
    contexts = []

    def open_page(name, width=1280, theme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda r: page.requests.append(r.url))
        page.on(
            "console",
            lambda m: page.errors.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.goto(f"{site}/{name}.html")
        page.wait_for_load_state("networkidle")
        page.errors = [e for e in page.errors if not any(n in e for n in THEME_NOISE)]
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width, theme", [(1280, "light"), (360, "dark")])
def test_page_is_whole(visit, site, name, width, theme):
    page = visit(name, width, theme)
    outside = [u for u in page.requests if not u.startswith((site, "data:", "blob:"))]
    assert outside == []
    assert page.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, (
        "the page scrolls sideways"
    )
    assert page.evaluate("document.documentElement.dataset.theme") == theme


@pytest.mark.parametrize(
    "name",
    [*CHAPTERS, "book/welcome", "book/kill_table", "exercises/01_bigram"],
)
@pytest.mark.parametrize(
    "width, theme", [(1280, "light"), (1280, "dark"), (360, "light")]
)
def test_axe_finds_nothing_in_the_article(visit, name, width, theme):
    page = visit(name, width, theme)
    page.evaluate(AXE)
    found = page.evaluate(
        "axe.run('article', {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})"
    )
    faults = [
        (v["id"], [n["html"][:200] for n in v["nodes"][:3]])
        for v in found["violations"]
    ]
    assert faults == []


def test_mathematics_is_drawn(visit):
    page = visit("chapters/01_bigram")
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() > 5


@pytest.mark.parametrize("name", CHAPTERS)
def test_live_figure_answers_to_the_keyboard(visit, name):
    page = visit(name)
    figure = page.locator(".live-figure").first
    figure.scroll_into_view_if_needed()
    figure.locator("[data-ready]").wait_for()
    asked = figure.get_by_role("button", name="Just show me")
    if asked.count():  # a question that keeps the rest back until it is answered
        asked.first.focus()
        page.keyboard.press("Enter")
    kinds = ("input[type=range]", "[role=radio][tabindex='0']")
    control = figure.locator(", ".join(f"{kind}:visible" for kind in kinds)).first
    control.wait_for()
    before = figure.inner_text()
    control.focus()
    for key in ("End", "Home"):  # it stands at one of the two ends, or at neither
        page.keyboard.press(key)
        page.wait_for_timeout(400)
        if figure.inner_text() != before:
            return
    pytest.fail("Neither End nor Home changed what the figure shows.")


@pytest.mark.parametrize("name", CHAPTERS)
def test_page_reads_without_javascript(visit, name):
    page = visit(name, java_script_enabled=False)
    text = page.locator(".live-figure").first.inner_text()
    assert len(text.split()) > 15 and re.search(r"\d\.\d", text)


@pytest.mark.parametrize("name", CHAPTERS)
def test_print_shows_the_whole_chapter(visit, name):
    page = visit(name)
    page.emulate_media(media="print")
    assert page.locator(".live-figure").first.is_visible()
    assert page.locator("article figure.picture svg").first.is_visible()
