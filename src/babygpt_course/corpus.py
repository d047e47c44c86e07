"""The texts of the course: TinyTales, made on the spot, and three public texts.

A public text is looked for in this order: the `path` you give, the cache, the network,
once. The cache is the folder in the environment variable BABYGPT_COURSE_DATA, or else
the user's cache folder.
"""

import os
import re
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from babygpt_course import files
from babygpt_course.errors import ConfigError, CorpusError


@dataclass(frozen=True)
class Download:
    """Where a public text lives, and how to know that what arrived is that text."""

    filename: str
    url: str
    n_bytes: int
    sha256: str
    separator: str  # what stands between two stories of the file
    licence: str


DOWNLOADS = {
    "tinystories": Download(
        "tinystories-train-2m.txt",
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStories-train.txt",
        2_097_152,  # the first 2 MiB of a file of 2 GB
        "5352b299dcb1a32898b2d779b145b5a05f3e1265953fd21c264c9f9f9c9ae33d",
        "<|endoftext|>",
        "CDLA-Sharing-1.0",
    ),
    "tinyshakespeare": Download(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        1_115_394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "\n\n",
        "public domain",
    ),
    "names": Download(
        "names.txt",
        "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        228_145,
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        "\n",
        "MIT",
    ),
}
NAMES = ("tinytales", *DOWNLOADS)


@dataclass(frozen=True)
class Corpus:
    """A text and its contiguous split by story: 80 % train, 10 % validation, 10 % test.

    Validation is for choosing; the test tail is for the one number reported at the end.
    `source` says where the text came from, for the page to show.
    """

    name: str
    text: str
    train: str
    val: str
    test: str
    source: str

    @classmethod
    def from_stories(cls, name: str, stories: list[str], source: str) -> "Corpus":
        """Split whole stories, each with its own ending; no story is cut in two.

        Raises:
            CorpusError: there is no text, or fewer than ten stories, too few to split.
        """
        stories = [s for s in stories if s.strip()]
        if not stories:
            raise CorpusError(
                f"The corpus {name!r} ({source}) is empty. Expected a text with at "
                "least ten stories."
            )
        if len(stories) < 10:
            raise CorpusError(
                f"The corpus {name!r} ({source}) holds {len(stories)} stories; a split "
                "into 80 % train, 10 % validation and 10 % test needs at least ten. "
                "Give a longer text."
            )
        text = "".join(stories)
        ends = list(accumulate(len(s) for s in stories))
        # The story that reaches 80 % of the text is the last of the training part.
        a = min(bisect(ends, 0.8 * len(text)) + 1, len(stories) - 2)
        b = min(max(bisect(ends, 0.9 * len(text)), a) + 1, len(stories) - 1)
        train, val, test = (
            "".join(part) for part in (stories[:a], stories[a:b], stories[b:])
        )
        return cls(name, text, train, val, test, source)

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name}: {len(self.text):,} characters, train "
            f"{len(self.train):,} / val {len(self.val):,} / test {len(self.test):,}; "
            f"{self.source})"
        )


def load(
    name: str = "tinytales",
    *,
    path: str | Path | None = None,
    n_stories: int = 4000,
    seed: int = 0,
    fallback: str | None = None,
) -> Corpus:
    """Load a corpus by name: "tinytales", "tinystories", "tinyshakespeare" or "names".

    Args:
        path: read this file instead of the cache or the network; its hash is not
            checked. With a name that is not in the list it is a text of your own, one
            story a line.
        n_stories, seed: for TinyTales only; the text is the same on every machine.
        fallback: the corpus to use when `name` cannot be had; a printed line says so.

    Raises:
        ConfigError: an unknown name, or a number of stories that is not positive.
        CorpusError: the text is missing, damaged or empty, or the cache not writable.
    """
    if name not in NAMES and path is None:
        raise ConfigError(
            f"Unknown corpus {name!r}. The corpora are: {', '.join(NAMES)}. "
            "For a text of your own, give its file: corpus.load('my text', "
            "path='my.txt')."
        )
    if fallback is not None and fallback not in NAMES:
        raise ConfigError(
            f"Unknown fallback corpus {fallback!r}. The corpora are: "
            f"{', '.join(NAMES)}."
        )
    try:
        if name == "tinytales" and path is None:
            return _tinytales(n_stories, seed)
        file = Path(path) if path is not None else fetch(name)
        return _from_file(name, file)
    except CorpusError as error:
        if fallback in (None, name):
            raise
        print(f"Using {fallback} instead of {name}: {error}")
        return load(fallback, n_stories=n_stories, seed=seed)


def _tinytales(n_stories: int, seed: int) -> Corpus:
    from babygpt_course import tinytales

    if n_stories < 10:
        raise ConfigError(
            "n_stories must be at least 10, to be split into three parts; got "
            f"{n_stories}."
        )
    stories = tinytales.sample(n_stories, seed)
    return Corpus.from_stories(
        "tinytales", stories, f"generated, seed {seed}, {n_stories:,} stories"
    )


def _from_file(name: str, file: Path) -> Corpus:
    try:
        text = file.read_bytes().decode(
            "utf-8", errors="strict" if name not in DOWNLOADS else "ignore"
        )
    except OSError as error:
        raise CorpusError(
            f"Cannot read {file}: {error.strerror}. Check the path and its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8 and load "
            "it again."
        ) from None
    if not text.strip():
        raise CorpusError(f"{file} is empty. Expected the text of {name!r}.")
    return Corpus.from_stories(name, _stories(name, text), f"file {file.name}")


def _stories(name: str, text: str) -> list[str]:
    """The stories of a file, each with the separator that a model learns to write."""
    text = text.replace("\r\n", "\n")
    if name == "tinystories":
        # The 2 MiB end inside a story, so the last one is dropped. One line break
        # between paragraphs and a blank line between stories keep the alphabet free of a
        # marker that no story contains.
        whole = text.split("<|endoftext|>")[:-1] or [text]
        return [
            re.sub(r"\n\s*", "\n", story.strip()) + "\n\n"
            for story in whole
            if story.strip()
        ]
    separator = DOWNLOADS[name].separator if name in DOWNLOADS else "\n"
    parts = text.split(separator)
    last = [parts[-1]] if parts[-1] else []
    return [part + separator for part in parts[:-1]] + last


# --- the cache and the network --------------------------------------------------------


def data_folder() -> Path:
    """The cache: $BABYGPT_COURSE_DATA if it is set, else this user's cache folder."""
    if folder := os.environ.get("BABYGPT_COURSE_DATA"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("babygpt-course", appauthor=False))


def fetch(name: str, url: str | None = None) -> Path:
    """The path of a public text in the cache; downloads it first if it is not there.

    Raises:
        CorpusError: the cached file is damaged, the download failed, or the cache is
            not writable.
    """
    d = DOWNLOADS[name]
    file = data_folder() / d.filename
    if not file.exists():
        _download(name, d, url or d.url, file)
    digest = files.sha256(file)
    if digest != d.sha256:
        raise CorpusError(
            f"The cached file {file} is damaged: its SHA-256 starts with "
            f"{digest[:12]}, expected {d.sha256[:12]} ({file.stat().st_size:,} bytes, expected "
            f"{d.n_bytes:,}). Delete it and load {name!r} again."
        )
    return file


def _download(name: str, d: Download, url: str, file: Path) -> None:
    """Download `url` as `file`, which gets its name only once its hash is right."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(file) as part:
            files.download(url, part, d.n_bytes, d.sha256, f"download {name}")
    except files.Broken as error:
        raise CorpusError(
            f"Cannot download {name!r} from {url}: {error}. Nothing was saved. Try "
            f"again with a connection, put the file at {file} yourself, or use "
            "corpus.load('tinytales'), which needs no network."
        ) from None
    except OSError as error:
        raise CorpusError(
            f"Cannot write the data cache {file.parent}: {error.strerror or error}. "
            "Make it writable, or set BABYGPT_COURSE_DATA to a folder that is."
        ) from None
