"""A page with a live figure on it, served on this machine and opened as a reader would."""

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from babygpt_course.live import LiveFigure
from tests.conftest import ROOT, Quiet

STATIC = ROOT / "src" / "babygpt_course" / "static"
HOST = ROOT / "book" / "_static" / "live-figures.js"
READY = ".live-figure [data-ready]"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>body{margin:0 16px} html[data-theme=dark] body{background:#121212;color:#ddd}</style>
<script type="module" src="_static/live-figures.js"></script></head><body><main><h1>A page</h1>%s</main></body></html>"""


@contextmanager
def served(folder: Path, **figures: LiveFigure) -> Iterator[str]:
    """The address of a small site in a folder: a page for each figure, `index` the first."""
    shutil.copytree(STATIC, folder / "_static")
    shutil.copy(HOST, folder / "_static")
    for name, figure in figures.items():
        page = PAGE % figure.html
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def visiting(browser: Any, site: str) -> Iterator[Callable[..., Any]]:
    """Open pages of a site. At the end none may have complained, or asked anybody else."""
    contexts, faults = [], []

    def visit(path="/", width=1280, ready=READY, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        ours = (site, "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(ours) or faults.append(r.url))
        page.on("console", lambda m: m.type == "error" and faults.append(m.text))
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.goto(site + path)
        if ready:
            page.wait_for_selector(ready)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults


def said(page: Any) -> str:
    """What a screen reader has been told last."""
    page.wait_for_timeout(650)
    return page.locator("[role=status]").first.text_content()


def readout(page: Any) -> str:
    """The line under a figure's picture."""
    return page.locator(".lf-readout").text_content()


def sideways(page: Any) -> float:
    """By how many pixels the page is wider than the screen."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def small_text(page: Any) -> list[str]:
    """What a figure writes in letters of less than 14 px."""
    return page.evaluate(
        """[...document.querySelectorAll('.lf *')].filter(n => [...n.childNodes].some(c => c.nodeType === 3 &&
        c.data.trim()) && n.tagName !== 'STYLE' && parseFloat(getComputedStyle(n).fontSize) < 14).map(n => n.outerHTML)"""
    )


def tiny_targets(page: Any) -> list[str]:
    """What is to be pressed in a figure and is less than 24 px high."""
    return page.evaluate(
        """[...document.querySelectorAll('.lf :is(button, select, input, a, summary)')].filter(n => {
        const b = n.getBoundingClientRect(); return b.width && b.height < 24 }).map(n => n.outerHTML)"""
    )


def axe_findings(page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds wrong on the page as it stands now: rule, and where."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    page.evaluate(script)
    found = page.evaluate("axe.run('main')")["violations"]
    return [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found]
