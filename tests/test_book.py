"""The built book: executed outputs, words for every picture, nothing from outside, the same text everywhere."""

import html.parser
import re

import pytest

from tools import notebooks

pytestmark = pytest.mark.book
CHAPTERS = [path.stem for path in notebooks.paths("chapters")]


class Page(html.parser.HTMLParser):
    """What matters of a page: images without words, addresses of what it loads, ids used twice."""

    def __init__(self, text):
        super().__init__()
        self.wordless, self.loads, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if "id" in a:
            self.ids.append(a["id"])
        if tag == "img" and "alt" not in a:
            self.wordless.append(a.get("src"))
        if (
            tag == "svg"
            and a.get("role") == "img"
            and len(a.get("aria-label", "").split()) < 3
        ):
            self.wordless.append("svg")
        if tag in {"script", "img", "iframe", "source"} and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("rel") in (
            "stylesheet",
            "preload",
            "icon",
            "shortcut icon",
        ):
            self.loads.append(a.get("href"))


def pages(html):
    return sorted(p for p in html.rglob("*.html") if "_static" not in p.parts)


def test_pictures_have_words_and_nothing_comes_from_outside(html):
    assert len(pages(html)) >= 9
    for path in pages(html):
        page = Page(path.read_text(encoding="utf-8"))
        assert page.wordless == [], path
        assert [u for u in page.loads if re.match(r"(https?:)?//", u)] == [], path


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_is_executed(html, name):
    text = (html / "chapters" / f"{name}.html").read_text(encoding="utf-8")
    assert "Traceback" not in text and "<stderr>" not in text
    assert text.count("cell_output") >= 18
    assert "application/vnd.jupyter.widget" not in text
    assert 'class="live-figure"' in text
    for file in re.findall(r'data-tensors-file>"([^"]+)"', text):
        assert (html / "_static" / file).stat().st_size < 900 * 1024
    for figure in re.findall(r'data-figure="(\w+)"', text):
        assert (html / "_static" / f"{figure}.js").exists()


def test_a_chapter_shows_its_numbers(html):
    text = (html / "chapters" / "01_bigram.html").read_text(encoding="utf-8")
    assert re.search(r"counted: \d\.\d{3} nats = \d\.\d{3} bits", text)


def test_launch_links_follow_the_setting(html):
    from babygpt_course import links

    text = (html / "chapters" / "01_bigram.html").read_text(encoding="utf-8")
    name = links.REPOSITORY.removeprefix("https://github.com/")
    assert (
        f"colab.research.google.com/github/{name}/blob/{links.BRANCH}/chapters/01_bigram.ipynb"
        in text
    )


def test_kill_table_is_on_its_page(html):
    text = (html / "book" / "kill_table.html").read_text(encoding="utf-8")
    assert text.count("<tr") > 30 and "01.5" in text
