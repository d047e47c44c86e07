"""Byte-pair encoding by hand: the most frequent pair becomes one id, again and again.

At the end are the checks of texts and ids that the other tokenizers use too.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import SupportsInt

from babygpt_course.errors import CheckpointError, ConfigError, VocabularyError
from babygpt_course.files import MAX_FILE, read_tokenizer, write_tokenizer

# Merges stay inside such a piece: a word, a number or punctuation, each with the space
# before it, or white space. Every character is in some piece, so nothing is lost.
PIECE = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


class BPETokenizer:
    """Byte-pair encoding by hand. Ids 0..255 are the bytes; id 256 + i is merge i.

    As there is an id for every byte, any text has ids (Sennrich, Haddow & Birch 2016,
    on the bytes of UTF-8 as in GPT-2, Radford et al. 2019). `BPETokenizer.train` learns
    the merges; `merges[i]` is the pair of ids that id 256 + i stands for, and
    `pieces[id]` are the bytes of an id.

    Raises:
        ConfigError: a merge is no pair of earlier ids, comes twice, or grows too long.
    """

    def __init__(self, merges: Iterable[Pair] = ()):
        self.merges: list[Pair] = []
        self.pieces = [bytes([b]) for b in range(256)]
        self._ids: dict[Pair, int] = {}  # of the piece that a pair becomes
        size = 256
        for pair in map(tuple, merges):
            new = len(self.pieces)
            if len(pair) != 2 or not all(type(i) is int and 0 <= i < new for i in pair):
                raise ConfigError(
                    f"Merge {new - 256} is {pair}; expected a pair of ids below {new}."
                )
            if pair in self._ids:
                raise ConfigError(
                    f"Merge {new - 256}, {pair}, comes twice. It can apply only once."
                )
            # A merge can double a piece: its size is checked before it is built.
            size += sum(len(self.pieces[i]) for i in pair)
            if size > MAX_FILE:
                raise ConfigError(
                    f"The pieces up to merge {new - 256} take {size:,} bytes; "
                    f"expected at most {MAX_FILE:,}. Use fewer merges or a shorter "
                    "text."
                )
            self.merges.append(pair)
            self.pieces.append(self.pieces[pair[0]] + self.pieces[pair[1]])
            self._ids[pair] = new

    @property
    def vocab_size(self) -> int:
        """V: the 256 bytes and the merges."""
        return len(self.pieces)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BPETokenizer":
        """Merge the most frequent pair of `text`, repeatedly, up to `vocab_size` ids.

        Of equally frequent pairs the one with the smaller ids goes first. If no pair is
        left, the vocabulary stays smaller.

        Raises:
            ConfigError: vocab_size is not a whole number of at least 256.
            VocabularyError: `text` is empty, or not Unicode that UTF-8 can write.
        """
        check_whole("vocab_size", vocab_size, 256)
        check_not_empty(text, "pairs to merge")
        check_utf8(text)
        pieces = Counter(PIECE.findall(text))  # equal pieces are counted together
        words = [list(piece.encode()) for piece in pieces]
        times = list(pieces.values())
        counts: Counter[Pair] = Counter()
        where = defaultdict(set)  # the words that a pair is in, or was
        for w, ids in enumerate(words):
            for pair in zip(ids, ids[1:]):
                counts[pair] += times[w]
                where[pair].add(w)
        heap = [(-count, pair) for pair, count in counts.items()]
        heapify(heap)
        merges: list[Pair] = []
        while heap and len(merges) < vocab_size - 256:
            count, best = heappop(heap)
            if counts[best] != -count:
                continue  # counted before a later merge; the new count is there too
            new = 256 + len(merges)
            merges.append(best)
            touched = set()
            for w in where.pop(best):  # only these words change
                old, words[w] = words[w], _replace(words[w], best, new)
                for pair in zip(old, old[1:]):
                    counts[pair] -= times[w]
                    touched.add(pair)
                for pair in zip(words[w], words[w][1:]):
                    counts[pair] += times[w]
                    where[pair].add(w)
                    touched.add(pair)
            for pair in touched:
                if counts[pair]:
                    heappush(heap, (-counts[pair], pair))
                else:
                    del counts[pair]
        return cls(merges)

    def encode(self, text: str) -> list[int]:
        """The ids of a text: in each piece the earliest merge first, to the last one.

        Raises:
            VocabularyError: `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        check_utf8(text)
        known: dict[str, list[int]] = {}
        ids: list[int] = []
        for piece in PIECE.findall(text):
            if piece not in known:
                known[piece] = merge(list(piece.encode()), self._rule)
            ids += known[piece]
        return ids

    def _rule(self, a: int, b: int) -> tuple[float, int] | None:
        new = self._ids.get((a, b))
        return None if new is None else (new, new)  # learned earlier, merged earlier

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of T ids, a list or tensor; bytes that are not UTF-8 become U+FFFD.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        data = b"".join(self.pieces[i] for i in known_ids(ids, self.vocab_size))
        return data.decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write the merges as JSON.

        Raises:
            CheckpointError: the file cannot be written.
        """
        about = {"kind": "BPETokenizer", "merges": self.merges}
        write_tokenizer(path, (json.dumps(about) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or of another kind.
        """
        try:
            about = json.loads(read_tokenizer(path).decode("utf-8"))
            if about["kind"] != "BPETokenizer" or not isinstance(about["merges"], list):
                raise KeyError("kind")
            return cls(about["merges"])
        except (KeyError, TypeError, ValueError, RecursionError, ConfigError) as error:
            raise CheckpointError(
                f"{path} is not a BPETokenizer: {type(error).__name__}, {error}. "
                "Expected JSON as BPETokenizer.save writes it: "
                '{"kind": "BPETokenizer", "merges": [[a, b], ...]}. '
                "Save it again, or train anew."
            ) from None

    def __repr__(self) -> str:
        return (
            f"BPETokenizer({self.vocab_size} ids: 256 bytes, {len(self.merges)} merges)"
        )


def _replace(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with every `pair`, from left to right, as the one id `new`."""
    out: list[int] = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def merge(
    ids: list[int], rule: Callable[[int, int], tuple[float, int] | None]
) -> list[int]:
    """Merge neighbors until no rule applies: lowest rank first, then the leftmost.

    `rule(a, b)` is (rank, id that the pair becomes), or None. A heap of candidates and
    a linked list of neighbors take n log n steps; a search for each merge takes n^2.
    """
    merged = list(ids)  # -1: now part of the neighbor on its left
    end = len(merged)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    heap: list[tuple[float, int, int, int, int]] = []

    def offer(i: int) -> None:
        if i >= 0 and right[i] < end:
            a, b = merged[i], merged[right[i]]
            if (found := rule(a, b)) is not None:
                heappush(heap, (found[0], i, a, b, found[1]))

    for i in range(end):
        offer(i)
    while heap:
        _, i, a, b, new = heappop(heap)
        j = right[i]
        if merged[i] != a or j == end or merged[j] != b:
            continue  # one of the two was merged with its other neighbor
        merged[i], merged[j] = new, -1
        right[i] = right[j]
        if right[j] < end:
            left[right[j]] = i
        offer(left[i])
        offer(i)
    return [i for i in merged if i >= 0]


# --- checks ---------------------------------------------------------------------------


def check_not_empty(text: str, what: str) -> None:
    """Raise VocabularyError for an empty text, which has no `what`."""
    if not text:
        raise VocabularyError(
            f"The text is empty, so there are no {what}. Pass the text that the model "
            "will read, for example corpus.load('tinytales').text."
        )


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ConfigError if a setting is no whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name} must be a whole number of at least {least}; got {value!r}."
        )


def check_utf8(text: str) -> None:
    """Raise VocabularyError for half a surrogate pair, all that UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = error.start
        raise VocabularyError(
            f"The character {text[at]!r} at position {at} is half of a surrogate pair, "
            "no Unicode character. Decode the text with errors='replace'."
        ) from None


def known_ids(ids: Iterable[SupportsInt], vocab_size: int) -> list[int]:
    """A list or tensor (T,) of ids as whole numbers, all of them in 0..V-1.

    Raises:
        VocabularyError: an id is outside that range.
    """
    known = [int(i) for i in ids]
    bad = next((i for i in known if not 0 <= i < vocab_size), None)
    if bad is not None:
        raise VocabularyError(
            f"The id {bad} is outside this vocabulary: ids go from 0 to "
            f"{vocab_size - 1}. Was the text encoded with another tokenizer?"
        )
    return known
