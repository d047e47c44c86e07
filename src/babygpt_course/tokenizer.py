"""Text in, integers out."""

from babygpt_course.errors import VocabularyError


class CharTokenizer:
    """One id per distinct character, in code-point order.

    The vocabulary comes from `text`: build it from the whole corpus, so that validation text never
    holds a character without an id.

    Raises:
        VocabularyError: `text` is empty.
    """

    def __init__(self, text: str):
        if not text:
            raise VocabularyError(
                "The text is empty, so there are no characters to number. "
                "Pass the text that the model will read, for example corpus.load('tinytales').text."
            )
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
                f"{self.vocab_size}: {self.chars!r}. Replace it, or build the tokenizer from a text that has it."
            ) from None

    def decode(self, ids) -> str:
        """The text of a list (or tensor) of ids; the inverse of `encode`.

        Raises:
            VocabularyError: an id is outside 0..V-1.
        """
        ids = [int(i) for i in ids]
        bad = next((i for i in ids if not 0 <= i < self.vocab_size), None)
        if bad is not None:
            raise VocabularyError(
                f"The id {bad} is outside this vocabulary: ids go from 0 to {self.vocab_size - 1}. "
                "Was the text encoded with another tokenizer?"
            )
        return "".join(self.chars[i] for i in ids)

    def __repr__(self) -> str:
        return f"CharTokenizer({self.vocab_size} characters: {self.chars!r})"
