"""Shared by all tests: nothing is written to the user's own folders, and pages can be looked at."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
CHROMIUM = os.environ.get("BABYGPT_COURSE_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)


def pytest_collection_modifyitems(items):
    """With several workers the tests of a figure stay together, since they share its training."""
    for item in items:
        if item.get_closest_marker("browser") and item.path.name != "test_browser.py":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """A test never touches the progress of whoever runs it."""
    monkeypatch.setenv("BABYGPT_COURSE_PROGRESS", str(tmp_path / "progress.json"))


@pytest.fixture(scope="session")
def html() -> Path:
    """The built book."""
    if not (HTML / "index.html").exists():
        pytest.skip("The book is not built: run `make book` first.")
    return HTML


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site(html):
    """The address of the built book on this machine."""
    handler = functools.partial(Quiet, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip(
            "NO CHROMIUM: browser tests did not run. Debian: apt-get install chromium"
        )
    from playwright.sync_api import sync_playwright

    quiet = "--disable-background-networking --disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *quiet.split()]
        )
