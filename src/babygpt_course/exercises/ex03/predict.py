"""03.3: numbers of tokenizers, said before they are run."""

import itertools
import math

import torch

from babygpt_course.bpe import BPETokenizer
from babygpt_course.exercises.prediction import Prediction

V, C = 4096, 96

exercise = Prediction(
    chapter="03_tokenization",
    id="03.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=7,
    anchor="predict",
    hints="""
    UTF-8 writes the 128 characters of ASCII with one byte, and all others with more. Which of
    these characters are among the 128?

    bits per character = nats per token / characters per token / ln 2. An embedding table has
    V rows of C numbers. Between n letters there are n - 1 places, and each can be cut or not.

    abcd: the earliest merge of the list that is possible anywhere goes first; only then the
    next one. newline: three special ids come before the bytes, and line feed is byte 0x0A, ten.
    """,
)


@exercise.question
def bytes_of_e_acute():
    """How many bytes does UTF-8 need for "é"?

    It is not one of the 128 characters of ASCII. What does `len("é".encode())` say?
    """
    return len("é".encode())


@exercise.question
def bytes_of_emoji():
    """How many bytes does UTF-8 need for "🙂"?

    Its code point is beyond 65,535. What does `len("🙂".encode())` say?
    """
    return len("🙂".encode())


@exercise.question
def tokens_of_abcd():
    """The merges are, in this order: b + c, a + b, c + d. Into how many tokens is "abcd"
    encoded?

    Do the first merge wherever it is possible. Which of the others are possible after that?
    """
    merges = [tuple(pair.encode()) for pair in ("bc", "ab", "cd")]
    return len(BPETokenizer(merges).encode("abcd"))


@exercise.question
def bits_per_character():
    """A model has a loss of 2 nats per token, and a token has 4 characters on average. How many
    bits per character?

    First from a token to its characters: multiply or divide? Then from nats to bits: one bit
    is ln 2 nats.
    """
    n_tokens, log_prob = 1000, -2.0
    text = "x" * (4 * n_tokens)
    return -log_prob * n_tokens / math.log(2) / len(text)


@exercise.question
def embedding_parameters():
    """How many numbers does the embedding table of a model with V = 4096 tokens and C = 96
    channels hold?

    The table has a row for each token. How long is a row?
    """
    return torch.nn.Embedding(V, C).weight.numel()


@exercise.question
def id_of_newline():
    """A SentencePiece model with byte fallback begins with <unk>, <s>, </s>; then comes a
    piece for each byte: <0x00>, <0x01>, ... What is the id of <0x0A>, the line break?

    Write down the ids of <unk>, <s>, </s>, <0x00>, <0x01>. And how much is 0A in hexadecimal?
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    return pieces.index("<0x0A>")


@exercise.question
def segmentations():
    """In how many ways can a word of 4 letters be cut into pieces, if any stretch of letters may
    be a piece?

    Begin with a word of two letters, then three. How many places to cut are there each time?
    """
    cuts = itertools.product([False, True], repeat=4 - 1)
    return len(list(cuts))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def two_decimals():
    return {key: round(value, 2) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {key: torch.tensor(value) for key, value in exercise.truth().items()}


@exercise.right
def worked_out_in_other_words():
    return {
        "bytes_of_e_acute": 2,
        "bytes_of_emoji": 4.0,
        "tokens_of_abcd": 3,
        "bits_per_character": math.log2(math.e) / 2,
        "embedding_parameters": 4096 * 96,
        "id_of_newline": 3 + 0x0A,
        "segmentations": 2**3,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("characters-and-what-they-are-made-of")
def one_character_is_one_byte():
    """That takes a character for a byte. A byte has 256 values, and there are far more
    characters than that.

    Only the 128 characters of ASCII are one byte in UTF-8. Is there an é, or an emoji, on an
    American typewriter?
    """
    return {"bytes_of_e_acute": 1, "bytes_of_emoji": 1}


@exercise.wrong("characters-and-what-they-are-made-of")
def every_character_the_same_width():
    """That is another encoding, one in which every character takes the same number of bytes, or
    an é written as an e with an accent behind it.

    UTF-8 takes as few as possible: 1 for ASCII, 2 for the letters of most of Europe and the Near
    East, 3 for most others. What does Python say for a letter with an accent?
    """
    return {"bytes_of_e_acute": (4, 3)}


@exercise.wrong("characters-and-what-they-are-made-of")
def emoji_like_a_letter():
    """That many bytes reach the letters of all living languages; the emoji lie beyond, above code
    point 65,535.

    UTF-8 uses up to 4 bytes. Which code points need all four?
    """
    return {"bytes_of_emoji": (2, 3)}


@exercise.wrong("characters-and-what-they-are-made-of")
def more_bytes_than_there_are():
    """UTF-8 never needs more than 4 bytes for a code point, and this emoji is one code point.

    Flags and families are several code points and do take more. What does `len("🙂")` say?
    """
    return {"bytes_of_emoji": (5, 6, 8)}


@exercise.wrong("merge-by-merge")
def fewest_tokens():
    """Two tokens, "ab" and "cd", would be fewer, but the merges do not look for the fewest: the
    first merge of the list goes first and takes both b and c.

    After b + c is done, is there still an a beside a b?
    """
    return {"tokens_of_abcd": 2}


@exercise.wrong("merge-by-merge")
def nothing_is_merged():
    """That is one token for each letter: no merge is done.

    The first merge is b + c. Does "abcd" hold a b with a c behind it?
    """
    return {"tokens_of_abcd": 4}


@exercise.wrong("merge-by-merge")
def merges_that_do_not_exist():
    """For one token there would have to be merges of longer pieces, such as a + bc.

    The list holds three merges, and each joins two single letters. After b + c, which two
    neighbors does the list know?
    """
    return {"tokens_of_abcd": 1}


@exercise.wrong("losses-per-token-cannot-be-compared")
def bits_per_token():
    """That is the loss in bits per *token*.

    A token stands for 4 characters, so its cost is shared by four. What is it for one?
    """
    return {"bits_per_character": 2 / math.log(2)}


@exercise.wrong("losses-per-token-cannot-be-compared")
def nats_per_character():
    """That is the loss per character in *nats*.

    The characters are right. One bit is ln 2 nats, and a bit is smaller than a nat. Does the
    number grow or shrink?
    """
    return {"bits_per_character": 0.5}


@exercise.wrong("losses-per-token-cannot-be-compared")
def multiplied_by_ln_2():
    """Nats were multiplied by ln 2; they should be divided by it.

    A bit is smaller than a nat, so the number of bits is larger. Which way round is it?
    """
    return {"bits_per_character": (0.5 * math.log(2), 2 * math.log(2))}


@exercise.wrong("losses-per-token-cannot-be-compared")
def multiplied_by_the_characters():
    """The loss of a token was multiplied by 4; it should be divided.

    The 2 nats pay for all 4 characters of a token together. What does one of them cost?
    """
    return {"bits_per_character": (8 / math.log(2), 8)}


@exercise.wrong("losses-per-token-cannot-be-compared")
def unit_unchanged():
    """That is the loss as it was, in nats per token.

    Two steps are missing: from a token to its 4 characters, and from nats to bits.
    """
    return {"bits_per_character": 2}


@exercise.wrong("what-a-vocabulary-costs")
def one_number_a_token():
    """That counts the tokens, or the channels, or both together; each token has a whole row of
    numbers.

    The table is V rows long and C numbers wide. How many numbers is that?
    """
    return {"embedding_parameters": (V, C, V + C)}


@exercise.wrong("what-a-vocabulary-costs")
def table_of_pairs():
    """That is a square table, one number for each pair. The bigram had such a table; an
    embedding has C numbers for each token.

    How many rows are there, and how long is each?
    """
    return {"embedding_parameters": (V * V, C * C)}


@exercise.wrong("what-a-vocabulary-costs")
def head_counted_too():
    """That counts more than the table: an output layer of the same size, or a bias.

    The question is about the embedding table alone: V rows of C numbers. (The output layer
    costs the same again, unless the two share their numbers.)
    """
    return {"embedding_parameters": (2 * V * C, V * C + C, V * C + V, 2 * V * C + V)}


@exercise.wrong("tokenizer-bin")
def special_ids_forgotten():
    """That is the byte itself. In this vocabulary the bytes do not begin at id 0.

    Three special pieces come first. At which id does <0x00> stand?
    """
    return {"id_of_newline": 10}


@exercise.wrong("tokenizer-bin")
def off_by_one_of_the_specials():
    """That is one off: ids begin at 0 and so do the bytes.

    <unk> is 0, <s> is 1, </s> is 2. Which id has <0x00>, and which one <0x01>?
    """
    return {"id_of_newline": (12, 14, 11)}


@exercise.wrong("tokenizer-bin")
def bytes_after_the_pieces():
    """That puts the bytes elsewhere, or takes the special pieces for all there is.

    They come right after the three special pieces: <0x00> is id 3. Go on from there to <0x0A>.
    """
    return {"id_of_newline": (3, 256 + 10, 256 + 13, 259)}


@exercise.wrong("tokenizer-bin")
def hexadecimal_read_as_decimal():
    """0A is hexadecimal: its digits go from 0 to 9 and on from A to F, and a place counts
    sixteen.

    After <0x09> comes <0x0A>. What number is A?
    """
    return {"id_of_newline": (0xA0 + 3, 0xA0, 0x10 + 3, 0x10)}


@exercise.wrong("the-best-path-instead-of-the-first")
def cuts_counted_at_every_letter():
    """That is 2 to the power of 4, one choice for each letter; between 4 letters there are only
    3 places to cut.

    A word of one letter can be cut in one way only. What does your formula say for it?
    """
    return {"segmentations": 16}


@exercise.wrong("the-best-path-instead-of-the-first")
def number_of_places_to_cut():
    """That is the number of places to cut, or of letters; each place can be cut or left whole,
    independently of the others.

    Write down all ways for "abc": a|b|c, a|bc, ab|c, abc. How many places, how many ways?
    """
    return {"segmentations": (3, 4, 6)}


@exercise.wrong("the-best-path-instead-of-the-first")
def whole_or_single_letters_forgotten():
    """That leaves out the word as a whole, or the word in single letters. They are two of the
    ways.

    Each of the three places can be cut or not. To which choices do these two belong?
    """
    return {"segmentations": 7}


@exercise.wrong("the-best-path-instead-of-the-first")
def stretches_counted():
    """That is the number of stretches of letters, the possible *pieces*. A segmentation is a
    set of them that covers the word.

    How many places to cut are there, and how many choices at each?
    """
    return {"segmentations": 10}


@exercise.wrong("the-best-path-instead-of-the-first")
def orders_of_the_letters():
    """That is in how many orders 4 things can stand. The letters stay where they are; only the
    cuts differ.

    How many places to cut are there, and how many choices at each?
    """
    return {"segmentations": (24, 12)}
