"""Text in, integers out: characters, byte pairs, and SentencePiece.

All tokenizers share `vocab_size`, `encode(text) -> ids` and `decode(ids) -> text`, and
lose nothing: `decode(encode(text)) == text`. Only characters need a text they know.
Byte-pair encoding is in `bpe`, SentencePiece in `sentence_piece`.
"""

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
