"""Tokenizers: nothing is lost, ids are those of other people's code, damage is reported."""

import hashlib
import json
import math
import random
import struct
import tracemalloc
from collections import Counter

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from babygpt_course import corpus, tinytales
from babygpt_course.errors import CheckpointError, ConfigError, VocabularyError
from babygpt_course.tokenizer import (
    PIECE,
    BPETokenizer,
    Llama2cTokenizer,
    SentencePieceTokenizer,
    load_llama2c,
)

TEXT = "".join(tinytales.sample(1000, seed=0))
HARD = [
    *(
        "",
        " ",
        "  ",
        " a",
        "a ",
        "  a  b  ",
        "\n",
        "\n\n",
        " \n \n ",
        "\r\n",
        "\t\t x\t",
    ),
    *(
        "\0",
        "a\0b",
        "\x1c\x85\u2028",
        "é",
        "e\u0301",
        "中文",
        "😀👩‍👩‍👧",
        "\ufeff",
        "\ufffd",
    ),
    *(
        "▁",
        " ▁ ▁▁\n▁",
        "<s>",
        "</s><unk>",
        "<0x0A>",
        "_a_1",
        "12345",
        "\U0010ffff\uffff",
    ),
    *("\u00a0\u3000", "ﬁ", "Ａ", "\u2047", "\u2585"),
]


def public(name):
    file = corpus.data_folder() / name
    if not file.exists():
        pytest.skip(f"{name} is not in the data cache {file.parent}")
    return file


def tok512():
    return load_llama2c(public("tok512.bin"), vocab_size=512)


BPE = BPETokenizer.train(TEXT, 400)
PIECES = {
    kind: SentencePieceTokenizer.train(TEXT, 400, kind) for kind in ("bpe", "unigram")
}
LOSSLESS = [BPE, *PIECES.values()]


# --- nothing is lost


@pytest.mark.parametrize("tokenizer", LOSSLESS, ids=str)
@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(st.sampled_from(" \n\t▁aT<>0x_é中😀")))
@example(text="".join(HARD))
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_come_back(text):
    exported = [tok512()] if (corpus.data_folder() / "tok512.bin").exists() else []
    for tokenizer in LOSSLESS + exported:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tokenizer", LOSSLESS, ids=str)
def test_ids_may_be_a_tensor_and_must_be_known(tokenizer):
    torch = pytest.importorskip("torch")
    assert tokenizer.decode(torch.tensor(tokenizer.encode("Tom ran."))) == "Tom ran."
    for bad in (-1, tokenizer.vocab_size, 2**70):
        with pytest.raises(VocabularyError, match="outside this vocabulary"):
            tokenizer.decode([65, bad])


@pytest.mark.parametrize("tokenizer", LOSSLESS, ids=str)
def test_half_a_surrogate_pair_is_no_text(tokenizer):
    with pytest.raises(VocabularyError, match="position 1"):
        tokenizer.encode("a\ud800")


def test_unfinished_characters_decode_to_the_replacement_mark():
    first, *_ = "中".encode()
    assert BPE.decode([65, first]) == "A\ufffd"
    assert PIECES["bpe"].decode([3 + 65, 3 + first]) == "A\ufffd"


@pytest.mark.parametrize("tokenizer", LOSSLESS, ids=str)
def test_ids_are_fewer_than_characters(tokenizer):
    assert len(tokenizer.encode(TEXT)) < len(TEXT) / 1.5


# --- byte-pair encoding, against two other ways to compute it


def naive_pieces(text):
    """Independent of the pattern's form: the pieces only have to join to the text."""
    pieces = PIECE.findall(text)
    assert "".join(pieces) == text
    return pieces


def naive_replace(ids, pair, new):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new, *naive_replace(ids[i + 2 :], pair, new)]
    return ids


def naive_train(text, vocab_size):
    """Count all pairs afresh for every merge."""
    words = [list(piece.encode()) for piece in naive_pieces(text)]
    merges = []
    while len(merges) < vocab_size - 256:
        counts = Counter(pair for ids in words for pair in zip(ids, ids[1:]))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        words = [naive_replace(ids, best, 256 + len(merges)) for ids in words]
        merges.append(best)
    return merges, [i for ids in words for i in ids]


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("aaab \n1é_"), min_size=1, max_size=60))
@example(text="aaaa aaa aaaaaaa baaab")
@example(text="abab abab cdcd cdcd")  # equally frequent pairs
def test_bpe_equals_counting_afresh(text):
    merges, ids = naive_train(text, 276)
    tokenizer = BPETokenizer.train(text, 276)
    assert tokenizer.merges == merges
    assert tokenizer.encode(text) == ids


def test_bpe_equals_counting_afresh_on_stories():
    text = TEXT[:5000]
    merges, ids = naive_train(text, 356)
    assert BPETokenizer.train(text, 356).merges == merges
    assert BPETokenizer(merges).encode(text) == ids


def byte_letters():
    """The letter that the tokenizers library writes for each byte."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(rest)}


def library(model):
    tokenizers = pytest.importorskip("tokenizers")
    its = tokenizers.Tokenizer(model)
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PIECE.pattern), "isolated")
    as_bytes = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    its.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, as_bytes])
    return its


def written(tokenizer):
    letters = byte_letters()
    return ["".join(letters[b] for b in piece) for piece in tokenizer.pieces]


@pytest.mark.parametrize("source", ["tinytales", "tinyshakespeare"])
def test_bpe_training_equals_the_tokenizers_library(source):
    """On text without white space, where both order the bytes alike for ties."""
    models = pytest.importorskip("tokenizers").models
    trainers = pytest.importorskip("tokenizers").trainers
    text = TEXT if source == "tinytales" else public("tinyshakespeare.txt").read_text()
    text = text.replace(" ", "-").replace("\n", "|")
    vocab_size = 500 if source == "tinytales" else 2256
    ours = BPETokenizer.train(text, vocab_size)
    its = library(models.BPE())
    alphabet = list(byte_letters().values())
    its.train_from_iterator(
        [text],
        trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        ),
    )
    its_merges = [tuple(m) for m in json.loads(its.to_str())["model"]["merges"]]
    names = written(ours)
    assert [(names[a], names[b]) for a, b in ours.merges] == its_merges
    assert len(ours.merges) == vocab_size - 256


def test_bpe_ids_equal_the_tokenizers_library():
    models = pytest.importorskip("tokenizers").models
    names = written(BPE)
    merges = [(names[a], names[b]) for a, b in BPE.merges]
    its = library(models.BPE({name: i for i, name in enumerate(names)}, merges))
    file = corpus.data_folder() / "tinyshakespeare.txt"
    other = file.read_text()[:100_000] if file.exists() else ""
    for text in (TEXT, other, " a  b\n\n c\td 12é中_x' 's", "a" * 3001):
        assert BPE.encode(text) == its.encode(text).ids


def test_bpe_is_the_same_every_time_and_shows_its_merges():
    assert BPETokenizer.train(TEXT, 400).merges == BPE.merges
    assert BPE.vocab_size == 400 and len(BPE.merges) == 144
    for i, (a, b) in enumerate(BPE.merges):
        assert BPE.pieces[256 + i] == BPE.pieces[a] + BPE.pieces[b]
    assert BPETokenizer().encode("é") == [0xC3, 0xA9]


def test_bpe_stops_when_no_pair_is_left():
    assert BPETokenizer.train("ab", 300).merges == [(97, 98)]


def test_bpe_takes_a_long_word_in_its_stride():
    text = "a" * 300_000  # a search for every merge would take minutes
    assert len(BPETokenizer([(97, 97), (256, 256)]).encode(text)) == 75_000


@pytest.mark.parametrize("vocab_size", [255, -1, 300.0, "300", True])
def test_bpe_wants_room_for_the_bytes(vocab_size):
    with pytest.raises(ConfigError, match="at least 256"):
        BPETokenizer.train("ab", vocab_size)


@pytest.mark.parametrize("train", [BPETokenizer.train, SentencePieceTokenizer.train])
def test_training_wants_text(train):
    with pytest.raises(VocabularyError, match="empty"):
        train("", 300)
    with pytest.raises(VocabularyError, match="surrogate"):
        train("ab\ud800", 300)


# --- SentencePiece


@pytest.mark.parametrize("kind", PIECES)
def test_sentencepiece_ids_equal_the_library(kind, tmp_path):
    from sentencepiece import SentencePieceProcessor

    PIECES[kind].save(tmp_path / "it.model")
    its = SentencePieceProcessor(model_file=str(tmp_path / "it.model"))
    assert its.vocab_size() == PIECES[kind].vocab_size == 400
    for text in (TEXT, "  Tom\n\n\tran é中😀 12345  "):
        assert PIECES[kind].encode(text) == its.encode(text)
        assert its.decode(PIECES[kind].encode(text)) == text


@pytest.mark.parametrize("kind", PIECES)
def test_sentencepiece_scores(kind):
    """Marks and bytes have none; BPE numbers its merges, unigram has log-probabilities."""
    scores = PIECES[kind].scores
    assert len(scores) == PIECES[kind].vocab_size and set(scores[:259]) == {0}
    if kind == "bpe":
        assert scores[259:] == [-i for i in range(400 - 259)]
    else:
        assert 0.5 < sum(map(math.exp, scores[259:])) <= 1


@pytest.mark.parametrize("kind", PIECES)
def test_sentencepiece_reads_and_writes(kind, tmp_path):
    PIECES[kind].save(tmp_path / "it.model")
    again = SentencePieceTokenizer.load(tmp_path / "it.model")
    assert again.pieces == PIECES[kind].pieces
    assert again.encode(TEXT) == PIECES[kind].encode(TEXT)


@pytest.mark.parametrize("kind", PIECES)
def test_a_line_break_is_learned_as_one_id(kind):
    assert "\n" in PIECES[kind].pieces
    assert len(PIECES[kind].encode("\n")) == 1


def test_runs_of_spaces_are_learned():
    code = "if x:\n    return y\n\n" * 300
    tokenizer = SentencePieceTokenizer.train(TEXT[:20_000] + code, 330)
    assert "▁▁" in tokenizer.pieces
    assert tokenizer.decode(tokenizer.encode(code)) == code


@pytest.mark.parametrize("vocab_size", [0, 259, 100_000, 300.0])
def test_sentencepiece_says_which_sizes_fit(vocab_size):
    with pytest.raises(ConfigError, match="vocab_size"):
        SentencePieceTokenizer.train("ab ab", vocab_size)
    with pytest.raises(ConfigError, match="unigram"):
        SentencePieceTokenizer.train("ab ab", 262, "wordpiece")


@pytest.mark.parametrize(
    "fault",
    [
        dict(normalization_rule_name="nmt_nfkc"),
        dict(remove_extra_whitespaces=True),
        dict(byte_fallback=False),
    ],
    ids=str,
)
def test_a_model_that_loses_something_is_refused(fault, tmp_path):
    """The earlier system had all three: <unk> in its own text, and line breaks lost."""
    from sentencepiece import SentencePieceTrainer

    options = dict(
        vocab_size=400 if fault.get("byte_fallback", True) else 100,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with open(tmp_path / "it.model", "wb") as model:
        SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.splitlines()),
            model_writer=model,
            **options | fault,
        )
    with pytest.raises(CheckpointError, match="lossless"):
        SentencePieceTokenizer.load(tmp_path / "it.model")


# --- tokenizer.bin of llama2.c


def test_tok512_is_written_as_it_was_read(tmp_path):
    tok512().export_llama2c(tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == public("tok512.bin").read_bytes()


# Ids that run.c of llama2.c (350e04f) prints, with BOS, for tok512.bin.
RUN_C = {
    "Once upon a time, there was a little girl.": [
        *(1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 426)
    ],
    " two  spaces\n\nand lines\t": [
        *(1, 410, 259, 424, 414, 410, 262, 427, 412, 331, 419, 13, 13, 412, 264, 278),
        *(271, 406, 12),
    ],
    "naïve café 中 😀": [
        *(1, 297, 412, 198, 178, 360, 280, 412, 431, 485, 410, 231, 187, 176, 410, 243),
        *(162, 155, 131),
    ],
    "<s></s><0x0A>": [
        *(1, 410, 504, 419, 505, 504, 492, 419, 505, 504, 477, 444, 477, 447, 505)
    ],
    "a": [1, 261],
    " ": [1, 410, 410],
    "": [1],
}


@pytest.mark.parametrize("text", RUN_C)
def test_tok512_encodes_as_run_c(text):
    assert tok512().encode(text) == RUN_C[text]
    assert tok512().encode(text, bos=False) == RUN_C[text][1:]


def test_tok512_encodes_as_run_c_on_a_long_text():
    text = public("tinyshakespeare.txt").read_text()[:8000]
    ids = tok512().encode(text)
    digest = hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()
    assert (
        len(ids) == 4861 and digest[:16] == "eb49637e95b6de1a"
    )  # of what run.c prints
    assert tok512().decode(ids) == text


def run_c(tokenizer, text):
    """What run.c does, step by step: look for the best pair in the whole text, again."""
    pieces = tokenizer.pieces
    ids = []
    for char in " " + text if text else "":
        data = char.encode()
        ids += [pieces.index(data)] if data in pieces else [b + 3 for b in data]
    while True:
        best, at, new = -1e10, None, None
        for i in range(len(ids) - 1):
            both = pieces[ids[i]] + pieces[ids[i + 1]]
            if both in pieces and tokenizer.scores[pieces.index(both)] > best:
                at, new = i, pieces.index(both)
                best = tokenizer.scores[new]
        if at is None:
            return ids
        ids[at : at + 2] = [new]


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(st.sampled_from("aab é"), max_size=12),
    scores=st.lists(st.integers(-3, 0), min_size=9, max_size=9),
)
def test_any_scores_encode_as_run_c(text, scores):
    """Equal scores too, where the leftmost pair goes first, and a score never merged."""
    marks = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % b for b in range(256))]
    merged = [b"aa", b"ab", b"ba", b"aab", b"aba", b" a", b"  ", b"aaa", b"b "]
    scores = [-1e10 if s == -3 else float(s) for s in scores]
    tokenizer = Llama2cTokenizer(
        [*marks, b"a", b"b", b" ", *merged], [0.0] * 259 + [-9.0] * 3 + scores
    )
    ids = tokenizer.encode(text, bos=False)
    assert ids == run_c(tokenizer, text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decoding_agrees_with_run_c():
    golden = json.loads(public("golden/stories260K_greedy.json").read_text())
    text = tok512().decode(golden["token_ids"])
    assert text == golden["text"]
    assert tok512().decode(golden["token_ids"][1:]) == " " + text  # no BOS, so a space
    assert tok512().decode([1, 403, 13, 1, 407]) == "Once\nupon"


def test_a_vocabulary_of_characters_alone():
    lines = public("babyllama_tok105.vocab").read_text().removesuffix("\n").split("\n")
    pairs = [line.rsplit("\t", 1) for line in lines]
    pieces = [piece.replace("▁", " ").encode() for piece, _ in pairs]
    tokenizer = Llama2cTokenizer(pieces, [float(score) for _, score in pairs])
    assert tokenizer.vocab_size == 105
    ids = tokenizer.encode("Once upon a time")
    assert len(ids) == 2 + len("Once upon a time")
    assert tokenizer.decode(ids) == "Once upon a time"
    with pytest.raises(VocabularyError, match="'中'"):
        tokenizer.encode("中")


def test_our_own_model_reads_the_same_in_llama2c(tmp_path):
    PIECES["bpe"].export_llama2c(tmp_path / "tokenizer.bin")
    exported = load_llama2c(tmp_path / "tokenizer.bin", 400)
    text = TEXT[:20_000] + " é中😀\n\n  12"
    assert exported.encode(text, bos=False) == PIECES["bpe"].encode(" " + text)
    assert exported.decode(exported.encode(text)) == text
    assert exported.pieces[:5] == [
        b"<unk>",
        b"\n<s>\n",
        b"\n</s>\n",
        b"<0x00>",
        b"<0x01>",
    ]


def test_tokenizer_bin_byte_by_byte(tmp_path):
    """The whole file, put together here from what SentencePiece itself says."""
    PIECES["bpe"].save(tmp_path / "bpe.model")
    PIECES["bpe"].export_llama2c(tmp_path / "tokenizer.bin")
    theirs = sentencepiece.SentencePieceProcessor(str(tmp_path / "bpe.model"))
    pieces = [theirs.id_to_piece(i) for i in range(len(theirs))]
    pieces[1], pieces[2] = "\n<s>\n", "\n</s>\n"  # as llama2.c's own export writes them
    records = [p.replace("\u2581", " ").encode() for p in pieces]
    expected = struct.pack("<I", max(map(len, records)))
    for i, piece in enumerate(records):
        expected += struct.pack("<fI", theirs.get_score(i), len(piece)) + piece
    assert (tmp_path / "tokenizer.bin").read_bytes() == expected


def test_a_unigram_model_is_not_exported(tmp_path):
    with pytest.raises(ConfigError, match="BPE"):
        PIECES["unigram"].export_llama2c(tmp_path / "tokenizer.bin")
    assert not list(tmp_path.iterdir())


# --- files


def test_bpe_reads_and_writes(tmp_path):
    BPE.save(tmp_path / "bpe.json")
    again = BPETokenizer.load(tmp_path / "bpe.json")
    assert again.merges == BPE.merges and again.encode(TEXT) == BPE.encode(TEXT)
    assert [f.name for f in tmp_path.iterdir()] == ["bpe.json"]


LOADERS = [BPETokenizer.load, SentencePieceTokenizer.load, load_llama2c]


@pytest.mark.parametrize("load", LOADERS, ids=lambda f: f.__qualname__)
def test_a_file_that_cannot_be_read_or_is_huge(load, tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(CheckpointError, match="Cannot read"):
            load(path)
    with open(tmp_path / "huge", "wb") as f:
        f.truncate(2**40)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="model"):
        load(tmp_path / "huge")
    for data in (b"", b"\0", b"\xff" * 100, b"PK\x03\x04", b"{}", b"[]", b"null"):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(CheckpointError):
            load(tmp_path / "bad")


@pytest.mark.parametrize("folder", ["absent", "a file"])
def test_a_folder_that_is_not_there(folder, tmp_path):
    (tmp_path / "a file").touch()
    for save in (BPE.save, PIECES["bpe"].save, PIECES["bpe"].export_llama2c):
        with pytest.raises(CheckpointError, match="Cannot write"):
            save(tmp_path / folder / "file")


DOUBLING = [[97, 97], *([i, i] for i in range(256, 356))]  # 2^100 bytes


@pytest.mark.parametrize(
    "merges",
    [
        *(
            [[97]],
            [[97, 98, 99]],
            [97],
            [[97, "b"]],
            [[97, 98.0]],
            [[97, True]],
            [None],
        ),
        *([[-1, 97]], [[97, 256]], [[97, 98], [97, 98]], [[97, 10**400]], {}, "ab", 7),
        *([[float("nan"), 1]], [[97, None]], DOUBLING),
    ],
    ids=lambda m: str(m)[:30],
)
def test_bpe_merges_are_checked(merges, tmp_path):
    file = tmp_path / "bpe.json"
    file.write_text(json.dumps({"kind": "BPETokenizer", "merges": merges}))
    with pytest.raises(CheckpointError, match="BPETokenizer"):
        BPETokenizer.load(file)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"kind": "GPT"}', '{"merges": 1}', "1" * 9999]
)
def test_other_json_is_no_bpe(text, tmp_path):
    (tmp_path / "bpe.json").write_text(text)
    with pytest.raises(CheckpointError, match="BPETokenizer"):
        BPETokenizer.load(tmp_path / "bpe.json")


def record(score=0.0, length=1, data=b"a"):
    return struct.pack("<fi", score, length) + data


GOOD = b"".join(record(data=c) for c in (b"a", b"b", b"c"))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<i", 2**31 - 1) + GOOD,
        struct.pack("<i", -1) + GOOD,
        struct.pack("<i", 0) + GOOD,
        struct.pack("<i", 1) + GOOD[:-1],
        struct.pack("<i", 1) + GOOD[: -len(record()) // 2],
        struct.pack("<i", 1) + GOOD + b"\0",
        struct.pack("<i", 1) + GOOD + record(length=2**31 - 1),
        struct.pack("<i", 1) + GOOD + record(length=-1),
        struct.pack("<i", 1) + GOOD + record(length=0, data=b""),
        struct.pack("<i", 1) + GOOD + record(score=float("nan")),
        struct.pack("<i", 1) + GOOD + record(score=float("-inf")),
        struct.pack("<i", 1) + GOOD + record(data=b"\0"),
        struct.pack("<i", 1) + record(),
        struct.pack("<i", 1),
    ],
)
def test_a_damaged_tokenizer_bin(data, tmp_path):
    (tmp_path / "whole.bin").write_bytes(struct.pack("<i", 1) + GOOD)
    assert load_llama2c(tmp_path / "whole.bin").pieces == [b"a", b"b", b"c"]
    (tmp_path / "bad.bin").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"not a whole tokenizer\.bin"):
        load_llama2c(tmp_path / "bad.bin")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_tokenizer_bin_of_another_size():
    with pytest.raises(CheckpointError, match="512 tokens, the model has 32000"):
        load_llama2c(public("tok512.bin"), vocab_size=32_000)


def test_pieces_and_scores_must_fit():
    for pieces, scores in (([b"a"], [0.0]), ([b"a", b"b", b"c"], [0.0, 0.0])):
        with pytest.raises(ConfigError, match="pieces"):
            Llama2cTokenizer(pieces, scores)


def mutate(data, chance):
    """A copy of a file with bytes changed, lost, doubled or cut off."""
    data = bytearray(data)
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            del data[at:]
        case 1:
            del data[at : at + chance.randrange(1, 9)]
        case 2:
            data[at:at] = data[at : at + chance.randrange(1, 40)]
        case 3:
            data[at : at + 4] = chance.choice(
                [b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\0\0"]
            )
        case 4:
            for _ in range(chance.choice([1, 1, 3, 30])):
                data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


@pytest.mark.parametrize(
    "kind", ["bpe.json", "bpe.model", "unigram.model", "tokenizer.bin"]
)
def test_mutated_files_load_or_say_so(kind, tmp_path):
    file = tmp_path / kind
    load = {"json": BPETokenizer.load, "model": SentencePieceTokenizer.load}.get(
        kind.split(".")[1], load_llama2c
    )
    {
        "bpe.json": BPE.save,
        "bpe.model": PIECES["bpe"].save,
        "unigram.model": PIECES["unigram"].save,
        "tokenizer.bin": PIECES["bpe"].export_llama2c,
    }[kind](file)
    whole = file.read_bytes()
    chance = random.Random(kind)
    refused = 0
    for _ in range(300):
        file.write_bytes(mutate(whole, chance))
        try:
            tokenizer = load(file)
        except CheckpointError as error:
            assert str(file) in str(error)
            refused += 1
            continue
        try:  # whole, but other pieces: it still works
            tokenizer.decode(tokenizer.encode("Tom\n ran é."))
            tokenizer.decode(range(tokenizer.vocab_size))
        except VocabularyError:
            assert load is load_llama2c  # the ids for bytes are gone
    assert refused > 100
