"""Words as tokens: nothing is lost, unknown words are spelled, what has no id is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babygpt_course import probes, tinytales
from babygpt_course.errors import VocabularyError
from babygpt_course.tokenizer import WordTokenizer

TEXT = "".join(tinytales.sample(300, seed=0))
WORDS = WordTokenizer(TEXT)


def test_a_word_carries_the_space_before_it():
    tokens = [WORDS.tokens[i] for i in WORDS.encode("Tom saw the kite.\n")]
    assert tokens == ["Tom", " saw", " the", " kite", ".", "\n"]


def test_an_ending_is_a_token_of_its_own():
    small = WordTokenizer("Tom's. don't 'Tom'")
    tokens = [small.tokens[i] for i in small.encode("Tom's don't 'Tom'")]
    assert tokens == ["Tom", "'s", " don", "'t", " ", "'", "Tom", "'"]


def test_an_unknown_word_is_spelled_and_comes_back():
    ids = WORDS.encode("Tom saw a motmot.")
    assert [WORDS.tokens[i] for i in ids[3:]] == [*" motmot."]
    assert WORDS.decode(ids) == "Tom saw a motmot."


@given(st.text(alphabet=sorted(set(TEXT)), max_size=60))
def test_any_text_of_known_characters_comes_back(text):
    assert WORDS.decode(WORDS.encode(text)) == text


def test_new_stories_come_back():
    assert probes.is_lossless(WORDS, "".join(tinytales.sample(50, seed=1)))


def test_ids_are_dense_and_in_the_same_order_every_time():
    assert WORDS.vocab_size == len(set(WORDS.tokens)) == len(WordTokenizer(TEXT).tokens)
    assert WORDS.tokens == sorted(WORDS.tokens) == WordTokenizer(TEXT).tokens
    assert set(TEXT) <= set(WORDS.tokens)
    assert repr(WORDS) == f"WordTokenizer({WORDS.vocab_size} words and characters)"


def test_faults_are_named():
    with pytest.raises(VocabularyError, match="empty"):
        WordTokenizer("")
    with pytest.raises(VocabularyError, match=r"'é'.*vocabulary of"):
        WORDS.encode("a café")
    with pytest.raises(VocabularyError, match="outside"):
        WORDS.decode([WORDS.vocab_size])
    with pytest.raises(VocabularyError, match="outside"):
        WORDS.decode([-1])
