"""SentencePiece by the library, and the tokenizer.bin that llama2.c reads."""

import io
import math
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsInt

from babygpt_course.bpe import (
    check_not_empty,
    check_utf8,
    check_whole,
    known_ids,
    merge,
)
from babygpt_course.errors import CheckpointError, ConfigError, VocabularyError
from babygpt_course.files import read_tokenizer, write_tokenizer

SPACE = "▁"  # how SentencePiece writes a space


class SentencePieceTokenizer:
    """A SentencePiece model (Kudo & Richardson 2018) that loses nothing.

    Characters without a piece are written as bytes. Ids 0, 1, 2 are <unk>, <s>, </s>,
    none of which `encode` uses; 3..258 are the bytes. Ids equal the library's own, but
    for a "▁" in the text: the library takes it for a space, here it is three bytes.

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
                f"This is no lossless SentencePiece model: {error}. Expected one made "
                "by SentencePieceTokenizer.train, or with byte_fallback and identity."
            ) from None

    @property
    def vocab_size(self) -> int:
        """V: the marks, the bytes and the pieces."""
        return len(self.pieces)

    @property
    def scores(self) -> list[float]:
        """Of each id: the log-probability of its piece, or in BPE minus its merge number.

        The marks and the bytes have none; the library says 0 for them.
        """
        return [self._sp.get_score(i) for i in range(self.vocab_size)]

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
        check_whole("vocab_size", vocab_size, 260)  # 3 marks, 256 bytes, and a piece
        check_not_empty(text, "pieces to learn")
        check_utf8(text)
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
                f"SentencePiece cannot learn {vocab_size} ids from this text of "
                f"{len(text):,} characters: {why}. Change vocab_size, or use a "
                "longer text."
            ) from None
        return cls(model.getvalue())

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            VocabularyError: `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        check_utf8(text)
        ids: list[int] = []
        for n, part in enumerate(text.split(SPACE)):
            ids += self._space * (n > 0) + self._sp.encode(part)
        return ids

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of T ids, a list or tensor; bytes that are not UTF-8 become U+FFFD.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        text: str = self._sp.decode(known_ids(ids, self.vocab_size))
        return text

    def save(self, path: str | Path) -> None:
        """Write the model file, which the library reads too.

        Raises:
            CheckpointError: the file cannot be written.
        """
        write_tokenizer(path, self._model)

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieceTokenizer":
        """Read a model file.

        Raises:
            CheckpointError: the file is missing or damaged, or its model is lossy.
        """
        model = read_tokenizer(path)
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
        scores = self.scores
        marks = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        if self.pieces[:259] != marks or any(s != int(s) for s in scores):
            raise ConfigError(
                "llama2.c merges the pair with the best score, which is BPE, and wants "
                "ids 0, 1, 2 for <unk>, <s>, </s> and 3..258 for the bytes. This model "
                'is another one. Train it with model_type="bpe".'
            )
        pieces = [piece.replace(SPACE, " ").encode() for piece in self.pieces]
        pieces[1], pieces[2] = b"\n<s>\n", b"\n</s>\n"  # as llama2.c's own tokenizer.py
        Llama2cTokenizer(pieces, scores).export_llama2c(path)

    def __repr__(self) -> str:
        return f"SentencePieceTokenizer({self.vocab_size} ids)"


# --- tokenizer.bin of llama2.c --------------------------------------------------------

LONGEST = struct.Struct("<i")  # bytes of the longest piece
RECORD = struct.Struct("<fi")  # score, bytes of the piece; the piece follows
BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
NEVER = -1e10  # run.c merges only into a piece with a better score than this


class Llama2cTokenizer:
    """Encodes and decodes as run.c of llama2.c does, from `pieces` and their `scores`.

    Raises:
        ConfigError: the two lists do not fit together, or hold what run.c cannot use.
    """

    bos_id = 1
    eos_id = 2

    def __init__(self, pieces: list[bytes], scores: list[float]):
        if len(pieces) != len(scores) or len(pieces) < 3:
            raise ConfigError(
                f"There are {len(pieces)} pieces and {len(scores)} scores; expected as "
                "many of both, and at least the three of <unk>, <s> and </s>."
            )
        for i, (piece, score) in enumerate(zip(pieces, scores)):
            if not piece or b"\0" in piece or not math.isfinite(score):
                raise ConfigError(
                    f"Token {i} is {piece[:40]!r} with score {score}; expected one or "
                    "more bytes other than zero, and a finite score."
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
            VocabularyError: a character has no piece, and there are none for bytes, or
                `text` holds a lone surrogate, which UTF-8 cannot write.
        """
        check_utf8(text)
        ids: list[int] = []
        for char in " " + text if text else "":
            data = char.encode()
            if data in self._ids:
                ids.append(self._ids[data])
                continue
            for b in data:
                if self.pieces[b + 3 : b + 4] != [b"<0x%02X>" % b]:
                    raise VocabularyError(
                        f"The character {char!r} is not in this vocabulary, and it "
                        "has no ids for single bytes. Replace the character."
                    )
                ids.append(b + 3)
        return [self.bos_id] * bos + merge(ids, self._rule)

    def _rule(self, a: int, b: int) -> tuple[float, int] | None:
        new = self._ids.get(self.pieces[a] + self.pieces[b])
        if new is None or self.scores[new] <= NEVER:
            return None
        return -self.scores[new], new

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of T ids, a list or tensor; bytes that are not UTF-8 become U+FFFD.

        `bos_id` has no text, and takes away a space at the start of the next piece.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        data, last = bytearray(), None
        for i in known_ids(ids, self.vocab_size):
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
        write_tokenizer(path, bytes(data))

    def __repr__(self) -> str:
        return f"Llama2cTokenizer({self.vocab_size} ids)"


def load_llama2c(path: str | Path, vocab_size: int | None = None) -> Llama2cTokenizer:
    """Read a tokenizer.bin of llama2.c.

    The file does not say how many ids it has. Give the `vocab_size` of the model to
    make sure that the two belong together.

    Raises:
        CheckpointError: the file is missing or damaged, or has another number of ids.
    """

    def damaged(what: str) -> CheckpointError:
        return CheckpointError(
            f"{path} is not a whole tokenizer.bin of llama2.c: {what}. Expected int32 "
            "max_token_length, then for each token float32 score, int32 length and the "
            "bytes. Download or export it again."
        )

    data = memoryview(read_tokenizer(path))
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
                f"token {len(pieces)} has length {length} with {len(data) - at} bytes "
                "left"
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
