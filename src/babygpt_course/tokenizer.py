"""Text in, integers out: characters, byte pairs, and SentencePiece.

All tokenizers share `vocab_size`, `encode(text) -> ids` and `decode(ids) -> text`, and
lose nothing: `decode(encode(text)) == text`. Only characters need a text they know.
Byte-pair encoding is in `bpe`, SentencePiece in `sentence_piece`.
"""

import re
from collections.abc import Iterable
from typing import SupportsInt

from babygpt_course.bpe import PIECE, BPETokenizer, Pair, check_not_empty, known_ids
from babygpt_course.errors import VocabularyError
from babygpt_course.files import MAX_FILE
from babygpt_course.sentence_piece import (
    BYTE,
    LONGEST,
    NEVER,
    RECORD,
    SPACE,
    Llama2cTokenizer,
    SentencePieceTokenizer,
    load_llama2c,
)

__all__ = [
    "BYTE",
    "LONGEST",
    "MAX_FILE",
    "NEVER",
    "PIECE",
    "RECORD",
    "SPACE",
    "BPETokenizer",
    "CharTokenizer",
    "Llama2cTokenizer",
    "Pair",
    "SentencePieceTokenizer",
    "WordTokenizer",
    "load_llama2c",
]


class CharTokenizer:
    """One id per distinct character, in code-point order.

    The vocabulary comes from `text`: build it from the whole corpus, so that validation
    text never holds a character without an id.

    Raises:
        VocabularyError: `text` is empty.
    """

    def __init__(self, text: str):
        check_not_empty(text, "characters to number")
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
                f"The character {text[at]!r} at position {at} is not in this "
                f"vocabulary of {self.vocab_size}: {self.chars!r}. Replace it, or "
                "build the tokenizer from a text that has it."
            ) from None

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; the inverse of `encode`.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        return "".join(self.chars[i] for i in known_ids(ids, self.vocab_size))

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.chars!r})"


class WordTokenizer:
    """One id per word, each with the space before it, and one per single character.

    Words come from `text`; a word that is not among them is spelled in characters, so
    nothing is lost. An ending such as 's is a token of its own. `tokens[id]` is the
    text of an id.

    Raises:
        VocabularyError: `text` is empty.
    """

    PIECE = re.compile(r" ?[A-Za-z]+|'[a-z]+|[^A-Za-z]")

    def __init__(self, text: str):
        check_not_empty(text, "words to number")
        self.tokens = sorted({*self.PIECE.findall(text), *text})
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    @property
    def vocab_size(self) -> int:
        """V, the number of distinct words and characters."""
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """One id per word that is known, and one per character of any other.

        Raises:
            VocabularyError: `text` holds a character that the vocabulary lacks.
        """
        ids: list[int] = []
        for piece in self.PIECE.findall(text):
            parts = [piece] if piece in self._ids else piece
            for part in parts:
                if part not in self._ids:
                    raise VocabularyError(
                        f"The character {part!r} in {piece!r} is not in this "
                        f"vocabulary of {self.vocab_size} tokens. Replace it, or build "
                        "the tokenizer from a text that has it."
                    )
                ids.append(self._ids[part])
        return ids

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of a list (or tensor) of ids; the inverse of `encode`.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        return "".join(self.tokens[i] for i in known_ids(ids, self.vocab_size))

    def __repr__(self) -> str:
        return f"WordTokenizer({self.vocab_size} words and characters)"
