"""Text in, integers out: characters, byte pairs, and SentencePiece.

All tokenizers share `vocab_size`, `encode(text) -> ids` and `decode(ids) -> text`, and lose
nothing: `decode(encode(text)) == text`. Only the characters need a text that they know.
"""

import io
import json
import math
import os
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, SupportsInt

from babygpt_course.errors import CheckpointError, ConfigError, VocabularyError

MAX_FILE = 2**26  # bytes: no tokenizer is near 64 MB, so a larger file is not read


class CharTokenizer:
    """One id per distinct character, in code-point order.

    The vocabulary comes from `text`: build it from the whole corpus, so that validation
    text never holds a character without an id.

    Raises:
        VocabularyError: `text` is empty.
    """

    def __init__(self, text: str):
        _not_empty(text, "characters to number")
        self.chars = "".join(sorted(set(text)))
        self._ids = {c: i for i, c in enumerate(self.chars)}

    @property
    def vocab_size(self) -> int:
        """V, the number of distinct characters."""
        return len(self.chars)

    def encode(self, text: str) -> list[int]:
        """One id in 0..V-1 per character.

        Raises:
            VocabularyError: `text` holds a character that the vocabulary lacks.
        """
        try:
            return [self._ids[c] for c in text]
        except KeyError:
            at = next(i for i, c in enumerate(text) if c not in self._ids)
            raise VocabularyError(
                f"The character {text[at]!r} at position {at} is not in this vocabulary of "
                f"{self.vocab_size}: {self.chars!r}. Replace it, or build the tokenizer "
                "from a text that has it."
            ) from None

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; the inverse of `encode`.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        return "".join(self.chars[i] for i in _known(ids, self.vocab_size))

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.chars!r})"


# --- byte-pair encoding ------------------------------------------------------------------

# Merges stay inside such a piece: a word, a number or punctuation, each with the space
# before it, or white space. Every character is in some piece, so nothing is lost.
PIECE = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


class BPETokenizer:
    """Byte-pair encoding by hand. Ids 0..255 are the bytes; id 256 + i is merge i.

    As there is an id for every byte, any text has ids (Sennrich, Haddow & Birch 2016, on
    the bytes of UTF-8 as in GPT-2, Radford et al. 2019). `BPETokenizer.train` learns the
    merges; `merges[i]` is the pair of ids that id 256 + i stands for, `pieces[id]` its bytes.

    Raises:
        ConfigError: a merge is not a pair of earlier ids, comes twice, or grows too long.
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
            # Pieces can double with every merge, so sizes are checked before they are built.
            size += sum(len(self.pieces[i]) for i in pair)
            if size > MAX_FILE:
                raise ConfigError(
                    f"The pieces up to merge {new - 256} take {size:,} bytes; "
                    f"expected at most {MAX_FILE:,}. Use fewer merges or a shorter text."
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
        """Merge the most frequent pair of `text`, again and again, up to `vocab_size` ids.

        Of equally frequent pairs the one with the smaller ids goes first. If no pair is
        left, the vocabulary stays smaller.

        Raises:
            ConfigError: vocab_size is not a whole number of at least 256.
            VocabularyError: `text` is empty, or not Unicode that UTF-8 can write.
        """
        _whole("vocab_size", vocab_size, 256)
        _not_empty(text, "pairs to merge")
        _utf8(text)
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
                continue  # counted before a later merge; its new count is in the heap too
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
        """The ids of a text: in every piece the earliest merge first, until none applies.

        Raises:
            VocabularyError: `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        _utf8(text)
        known: dict[str, list[int]] = {}
        ids: list[int] = []
        for piece in PIECE.findall(text):
            if piece not in known:
                known[piece] = _merge(list(piece.encode()), self._rule)
            ids += known[piece]
        return ids

    def _rule(self, a: int, b: int) -> tuple[float, int] | None:
        new = self._ids.get((a, b))
        return None if new is None else (new, new)  # learned earlier, merged earlier

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        data = b"".join(self.pieces[i] for i in _known(ids, self.vocab_size))
        return data.decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write the merges as JSON.

        Raises:
            CheckpointError: the file cannot be written.
        """
        about = {"kind": "BPETokenizer", "merges": self.merges}
        _write(path, (json.dumps(about) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or of another kind.
        """
        try:
            about = json.loads(_read(path).decode("utf-8"))
            if about["kind"] != "BPETokenizer" or not isinstance(about["merges"], list):
                raise KeyError("kind")
            return cls(about["merges"])
        except (KeyError, TypeError, ValueError, RecursionError, ConfigError) as error:
            raise CheckpointError(
                f"{path} is not a BPETokenizer: {type(error).__name__}, {error}. Expected "
                'JSON as BPETokenizer.save writes it: {"kind": "BPETokenizer", "merges": '
                "[[a, b], ...]}. Save it again, or train anew."
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


def _merge(
    ids: list[int], rule: Callable[[int, int], tuple[float, int] | None]
) -> list[int]:
    """Merge neighbors until no rule applies: lowest rank first, then the leftmost.

    `rule(a, b)` is (rank, id that the pair becomes), or None. A heap of candidates and a
    linked list of neighbors take n log n steps, where a search for each merge takes n^2.
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


# --- SentencePiece -----------------------------------------------------------------------

SPACE = "▁"  # how SentencePiece writes a space


class SentencePieceTokenizer:
    """A SentencePiece model (Kudo & Richardson 2018) that loses nothing.

    Characters without a piece are written as bytes. Ids 0, 1, 2 are <unk>, <s>, </s>, none
    of which `encode` uses; 3..258 are the bytes. Ids equal the library's own, but for a "▁"
    in the text: the library takes it for a space, here it is three bytes.

    Args:
        model: the bytes of a model file. Use `train` or `load`.

    Raises:
        CheckpointError: the bytes are no such model, or it would change a text.
    """

    def __init__(self, model: bytes):
        from sentencepiece import SentencePieceProcessor

        probe = " a  bc\n\n\té中😀\0 "
        try:
            self._model = model
            self._sp: Any = SentencePieceProcessor(model_proto=model)
            self.pieces = [
                self._sp.id_to_piece(i) for i in range(self._sp.vocab_size())
            ]
            self._space = [self._sp.piece_to_id(f"<0x{b:02X}>") for b in SPACE.encode()]
            if not all(map(self._sp.is_byte, self._space)):
                raise ValueError("it has no ids for single bytes")
            if self.decode(self.encode(probe)) != probe:
                raise ValueError("it changes the white space of a text")
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"This is no lossless SentencePiece model: {error}. Expected one made by "
                "SentencePieceTokenizer.train, or with byte_fallback and identity."
            ) from None

    @property
    def vocab_size(self) -> int:
        """V: the marks, the bytes and the pieces."""
        return len(self.pieces)

    @classmethod
    def train(
        cls, text: str, vocab_size: int, model_type: str = "bpe"
    ) -> "SentencePieceTokenizer":
        """Learn `vocab_size` ids from `text`, by "bpe" or "unigram" (Kudo 2018).

        Raises:
            ConfigError: another model_type, or a vocab_size that does not fit the text.
            VocabularyError: `text` is empty, or not Unicode that UTF-8 can write.
        """
        if model_type not in ("bpe", "unigram"):
            raise ConfigError(
                f'model_type must be "bpe" or "unigram"; got {model_type!r}.'
            )
        _whole("vocab_size", vocab_size, 260)  # 3 marks, 256 bytes, and a piece
        _not_empty(text, "pieces to learn")
        _utf8(text)
        from sentencepiece import SentencePieceTrainer

        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                # Line breaks lead: the library cuts those at the end of a "sentence".
                sentence_iterator=iter(re.findall(r"\n*[^\n]{1,1000}", text)),
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                allow_whitespace_only_pieces=True,
                split_digits=True,
                num_threads=1,  # the same text gives the same model
                minloglevel=2,
            )
        except RuntimeError as error:
            why = str(error).split("] ")[-1].rstrip(".")  # without the line of C++
            raise ConfigError(
                f"SentencePiece cannot learn {vocab_size} ids from this text of {len(text):,}"
                f" characters: {why}. Change vocab_size, or use a longer text."
            ) from None
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            VocabularyError: `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        _utf8(text)
        ids: list[int] = []
        for n, part in enumerate(text.split(SPACE)):
            ids += self._space * (n > 0) + self._sp.encode(part)
        return ids

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        text: str = self._sp.decode(_known(ids, self.vocab_size))
        return text

    def save(self, path: str | Path) -> None:
        """Write the model file, which the library reads too.

        Raises:
            CheckpointError: the file cannot be written.
        """
        _write(path, self._model)

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieceTokenizer":
        """Read a model file.

        Raises:
            CheckpointError: the file is missing, damaged, or a model that loses something.
        """
        model = _read(path)
        try:
            return cls(model)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None

    def export_llama2c(self, path: str | Path) -> None:
        """Write a tokenizer.bin for llama2.c, which puts a space before every text.

        Raises:
            ConfigError: the model is not BPE, or orders its ids otherwise than `train`.
            CheckpointError: the file cannot be written.
        """
        ids = range(self.vocab_size)
        scores = [self._sp.get_score(i) for i in ids]
        marks = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        if self.pieces[:259] != marks or any(s != int(s) for s in scores):
            raise ConfigError(
                "llama2.c merges the pair with the best score, which is BPE, and wants ids "
                "0, 1, 2 for <unk>, <s>, </s> and 3..258 for the bytes. This model is "
                'another one. Train it with model_type="bpe".'
            )
        pieces = [piece.replace(SPACE, " ").encode() for piece in self.pieces]
        pieces[1], pieces[2] = b"\n<s>\n", b"\n</s>\n"  # as llama2.c's own tokenizer.py
        Llama2cTokenizer(pieces, scores).export_llama2c(path)

    def __repr__(self) -> str:
        return f"SentencePieceTokenizer({self.vocab_size} ids)"


# --- tokenizer.bin of llama2.c -------------------------------------------------------------

LONGEST = struct.Struct("<i")  # bytes of the longest piece
RECORD = struct.Struct("<fi")  # score, bytes of the piece; the piece follows
BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
NEVER = -1e10  # run.c merges only into a piece with a better score than this


class Llama2cTokenizer:
    """Encodes and decodes as run.c of llama2.c does, from the `pieces` and their `scores`.

    Raises:
        ConfigError: the two lists do not fit together, or hold what run.c cannot use.
    """

    bos_id = 1
    eos_id = 2

    def __init__(self, pieces: list[bytes], scores: list[float]):
        if len(pieces) != len(scores) or len(pieces) < 3:
            raise ConfigError(
                f"There are {len(pieces)} pieces and {len(scores)} scores; expected as many "
                "of both, and at least the three of <unk>, <s> and </s>."
            )
        for i, (piece, score) in enumerate(zip(pieces, scores)):
            if not piece or b"\0" in piece or not math.isfinite(score):
                raise ConfigError(
                    f"Token {i} is {piece[:40]!r} with score {score}; expected one or more "
                    "bytes other than zero, and a finite score."
                )
        self.pieces, self.scores = list(pieces), list(scores)
        self._ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
        self._bytes = [BYTE.fullmatch(piece) for piece in pieces]

    @property
    def vocab_size(self) -> int:
        """V, the number of pieces."""
        return len(self.pieces)

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """The ids of a text, after `bos_id` unless `bos` is false, and a space.

        Characters without a piece become bytes; then the pair whose piece has the best
        score is merged, until there is none. No text, no space.

        Raises:
            VocabularyError: a character has no piece, and the file has none for bytes, or
                `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        _utf8(text)
        ids: list[int] = []
        for char in " " + text if text else "":
            data = char.encode()
            if data in self._ids:
                ids.append(self._ids[data])
                continue
            for b in data:
                if self.pieces[b + 3 : b + 4] != [b"<0x%02X>" % b]:
                    raise VocabularyError(
                        f"The character {char!r} is not in this vocabulary, and it has no "
                        "ids for single bytes. Replace the character."
                    )
                ids.append(b + 3)
        return [self.bos_id] * bos + _merge(ids, self._rule)

    def _rule(self, a: int, b: int) -> tuple[float, int] | None:
        new = self._ids.get(self.pieces[a] + self.pieces[b])
        if new is None or self.scores[new] <= NEVER:
            return None
        return -self.scores[new], new

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; bytes that are not UTF-8 become U+FFFD.

        `bos_id` has no text, and takes away a space at the start of the next piece.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        data, last = bytearray(), None
        for i in _known(ids, self.vocab_size):
            piece = self.pieces[i]
            if last == self.bos_id:
                piece = piece.removeprefix(b" ")
            if i != self.bos_id:
                byte = self._bytes[i]
                data += bytes([int(byte[1], 16)]) if byte else piece
            last = i
        return data.decode("utf-8", errors="replace")

    def export_llama2c(self, path: str | Path) -> None:
        """Write a tokenizer.bin; one that `load_llama2c` read comes out byte for byte.

        Raises:
            CheckpointError: the file cannot be written.
        """
        data = bytearray(LONGEST.pack(max(map(len, self.pieces))))
        for piece, score in zip(self.pieces, self.scores):
            data += RECORD.pack(score, len(piece)) + piece
        _write(path, bytes(data))

    def __repr__(self) -> str:
        return f"Llama2cTokenizer({self.vocab_size} ids)"


def load_llama2c(path: str | Path, vocab_size: int | None = None) -> Llama2cTokenizer:
    """Read a tokenizer.bin of llama2.c.

    The file does not say how many ids it has. Give the `vocab_size` of the model to make
    sure that the two belong together.

    Raises:
        CheckpointError: the file is missing or damaged, or has another number of ids.
    """

    def damaged(what: str) -> CheckpointError:
        return CheckpointError(
            f"{path} is not a whole tokenizer.bin of llama2.c: {what}. Expected int32 "
            "max_token_length, then for each token float32 score, int32 length and the "
            "bytes. Download or export it again."
        )

    data = memoryview(_read(path))
    if len(data) < LONGEST.size:
        raise damaged(f"it has {len(data)} bytes")
    (longest,) = LONGEST.unpack_from(data)
    pieces: list[bytes] = []
    scores: list[float] = []
    at = LONGEST.size
    while at < len(data):
        if len(data) - at < RECORD.size:
            raise damaged(f"it ends inside the record of token {len(pieces)}")
        score, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        if not 1 <= length <= len(data) - at:
            raise damaged(
                f"token {len(pieces)} has length {length} with {len(data) - at} bytes left"
            )
        pieces.append(bytes(data[at : at + length]))
        scores.append(score)
        at += length
    try:
        tokenizer = Llama2cTokenizer(pieces, scores)
    except ConfigError as error:
        raise damaged(str(error).removesuffix(".")) from None
    if longest != (found := max(map(len, pieces))):
        raise damaged(
            f"max_token_length is {longest}, the longest token has {found} bytes"
        )
    if vocab_size not in (None, len(pieces)):
        raise CheckpointError(
            f"{path} holds {len(pieces)} tokens, the model has {vocab_size}. "
            "Use the tokenizer that the model was trained with."
        )
    return tokenizer


# --- checks and files ----------------------------------------------------------------------


def _not_empty(text: str, what: str) -> None:
    if not text:
        raise VocabularyError(
            f"The text is empty, so there are no {what}. Pass the text that the model "
            "will read, for example corpus.load('tinytales').text."
        )


def _whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name} must be a whole number of at least {least}; got {value!r}."
        )


def _utf8(text: str) -> None:
    """Raise VocabularyError for half a surrogate pair, the only thing UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = error.start
        raise VocabularyError(
            f"The character {text[at]!r} at position {at} is half of a surrogate pair, no "
            "Unicode character. Decode the text with errors='replace'."
        ) from None


def _known(ids: Iterable[SupportsInt], vocab_size: int) -> list[int]:
    """A list or tensor of ids as whole numbers, all of them in 0..V-1."""
    known = [int(i) for i in ids]
    bad = next((i for i in known if not 0 <= i < vocab_size), None)
    if bad is not None:
        raise VocabularyError(
            f"The id {bad} is outside this vocabulary: ids go from 0 to {vocab_size - 1}. "
            "Was the text encoded with another tokenizer?"
        )
    return known


def _read(path: str | Path) -> bytes:
    try:
        if (size := Path(path).stat().st_size) > MAX_FILE:
            raise CheckpointError(
                f"{path} has {size:,} bytes; a tokenizer has at most {MAX_FILE:,}. "
                "Is it the file of a model?"
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path}: {error.strerror or error}. Check the path."
        ) from None


def _write(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {path}: {error.strerror or error}. Is there such a folder, and "
            "may you write in it?"
        ) from None
    finally:
        part.unlink(missing_ok=True)
