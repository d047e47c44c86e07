"""Texts: what is loaded is right, and whatever goes wrong is named and leaves nothing behind."""

import hashlib
import http.server
import os
import threading
import time

import pytest

from babygpt_course import corpus
from babygpt_course.errors import ConfigError, CorpusError

BODY = "".join(f"story {i} of a small test\n" for i in range(200)).encode()
PRETEND = corpus.Download(
    "pretend.txt", "", len(BODY), hashlib.sha256(BODY).hexdigest(), "\n", "none"
)


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with a fault for each path."""

    requests: list[tuple[str, str | None]] = []

    def do_GET(self):
        Handler.requests.append((self.path, self.headers["Range"]))
        tries = sum(path == self.path for path, _ in Handler.requests)
        match self.path:
            case "/404" | "/500":
                self.send_error(int(self.path[1:]))
            case "/recovers" if tries == 1:
                self.send_error(503)
            case "/stalls":
                self.answer(206, BODY[:100], len(BODY))
                time.sleep(1.0)
            case "/truncates":
                self.answer(206, BODY[:1000], len(BODY))
            case "/short":
                self.answer(206, BODY[:1000], 1000)
            case "/corrupts":
                self.answer(206, BODY[:-1] + b"?", len(BODY))
            case "/ignores-ranges":
                self.answer(200, BODY * 50, len(BODY) * 50)
            case _:
                self.answer(206, BODY, len(BODY))

    def answer(self, code, body, length):
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            pass  # the client had enough

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("BABYGPT_COURSE_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(corpus.DOWNLOADS, "names", PRETEND)
    monkeypatch.setattr("babygpt_course.files.TIMEOUT", 0.3)
    Handler.requests = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def files(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("path", ["/good", "/ignores-ranges", "/recovers"])
def test_download_arrives_whole(server, tmp_path, path):
    file = corpus.fetch("names", server + path)
    assert file.read_bytes() == BODY
    assert files(tmp_path / "cache") == ["pretend.txt"]
    assert Handler.requests[0][1] == f"bytes=0-{len(BODY) - 1}"


def test_second_fetch_asks_nothing(server):
    corpus.fetch("names", server + "/good")
    asked = len(Handler.requests)
    corpus.fetch("names", server + "/good")
    assert len(Handler.requests) == asked


@pytest.mark.parametrize(
    "path, says",
    [
        ("/404", "404"),
        ("/500", "500"),
        ("/truncates", "1,000 of"),
        ("/short", "1,000 of"),
        ("/corrupts", "SHA-256"),
        ("/stalls", "timed out"),
    ],
)
def test_bad_download_is_named_and_leaves_nothing(server, tmp_path, path, says):
    with pytest.raises(CorpusError) as error:
        corpus.fetch("names", server + path)
    message = str(error.value)
    assert (
        says in message
        and "Nothing was saved" in message
        and "corpus.load('tinytales')" in message
    )
    assert files(tmp_path / "cache") == []


def test_a_missing_page_is_not_asked_for_again(server):
    with pytest.raises(CorpusError):
        corpus.fetch("names", server + "/404")
    assert len(Handler.requests) == 1


def test_no_server_at_all(server, tmp_path):
    with pytest.raises(CorpusError, match="Cannot download"):
        corpus.fetch("names", "http://127.0.0.1:9/names.txt")
    assert files(tmp_path / "cache") == []


def test_damaged_cache_file_is_named_and_kept(server, tmp_path):
    corpus.fetch("names", server + "/good").write_bytes(BODY[:-5])
    with pytest.raises(CorpusError, match=r"pretend\.txt is damaged.*Delete it"):
        corpus.load("names")
    assert files(tmp_path / "cache") == ["pretend.txt"]


def test_unwritable_cache(server, tmp_path, monkeypatch):
    (tmp_path / "a-file").write_text("not a folder")
    monkeypatch.setenv("BABYGPT_COURSE_DATA", str(tmp_path / "a-file" / "cache"))
    with pytest.raises(CorpusError, match="BABYGPT_COURSE_DATA"):
        corpus.fetch("names", server + "/good")


def test_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("babygpt_course.files._receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        corpus.fetch("names", server + "/good")
    assert files(tmp_path / "cache") == []


def test_fallback_says_so(server, monkeypatch, capsys):
    gone = corpus.Download(
        "gone.txt", "http://127.0.0.1:9/gone", 10, "0" * 64, "\n", "none"
    )
    monkeypatch.setitem(corpus.DOWNLOADS, "tinystories", gone)
    text = corpus.load("tinystories", fallback="tinytales", n_stories=20)
    assert text.name == "tinytales"
    assert "Using tinytales instead of tinystories" in capsys.readouterr().out


def test_unknown_names():
    with pytest.raises(
        ConfigError, match="tinytales, tinystories, tinyshakespeare, names"
    ):
        corpus.load("tinytails")
    with pytest.raises(ConfigError, match="fallback"):
        corpus.load("names", fallback="nothing")
    with pytest.raises(ConfigError, match="at least 10"):
        corpus.load("tinytales", n_stories=-3)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty"),
        (b" \n \n", "is empty"),
        (b"one\ntwo\n", "at least ten"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_own_text_that_cannot_be_used(tmp_path, content, says):
    file = tmp_path / "mine.txt"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=says):
        corpus.load("mine", path=file)


def test_own_text(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("".join(f"line {i}\n" for i in range(100)))
    mine = corpus.load("mine", path=file)
    parts = [part.count("\n") for part in (mine.train, mine.val, mine.test)]
    assert sum(parts) == 100 and parts == pytest.approx([80, 10, 10], abs=1)
    with pytest.raises(CorpusError, match="Cannot read"):
        corpus.load("mine", path=tmp_path / "absent.txt")


def test_split_is_contiguous_and_cuts_no_story():
    tales = corpus.load("tinytales", n_stories=100)
    assert tales.train + tales.val + tales.test == tales.text
    for part in (tales.train, tales.val, tales.test):
        assert part.endswith("\n") and part[0].isprintable()
    share = [
        len(part) / len(tales.text) for part in (tales.train, tales.val, tales.test)
    ]
    assert share == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert corpus.load("tinytales", n_stories=100).text == tales.text


@pytest.mark.parametrize("name", list(corpus.DOWNLOADS))
def test_real_texts(name):
    """The files that a download gives, when they are at hand; their hashes are those the downloader demands."""
    if not (corpus.data_folder() / corpus.DOWNLOADS[name].filename).exists():
        pytest.skip(
            f"{name} is not in the cache {os.environ.get('BABYGPT_COURSE_DATA', '')}: no network needed otherwise"
        )
    text = corpus.load(name)
    assert len(text.text) > 0.98 * corpus.DOWNLOADS[name].n_bytes
    assert text.train + text.val + text.test == text.text
    assert "<|endoftext|>" not in text.text
