"""03.5: a tokenizer with byte fallback that loses white space before it begins."""

import re
import unicodedata

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="03_tokenization",
    id="03.5",
    title="Bug hunt: the text that does not come back",
    kind="bug hunt",
    points=2,
    minutes=8,
    anchor="how-it-breaks",
    equivalent={
        "fits = [n for n in range(0, longest + 1) if rest[:n] in vocab]": "The empty "
        "string is no piece of any vocabulary.",
        "fits = [n for n in range(1, longest + 2) if rest[:n] in vocab]": "No piece is "
        "longer than the longest, and at the end of the text a longer slice is the same.",
    },
    hints="""
    Which texts come back from `decode(encode(text))` as they were, and which do not? Try
    one line, two lines, one space, two spaces, a space at the end.

    The ids must hold every character of the text. Compare the text that goes in with the
    text that the loop walks through.

    Print `rest` before the loop for two letters with two spaces between them, and for two
    letters with a line break between them. What does `split()` without an argument do to
    white space, and does anything have to be done to it?
    """,
)


def encoded(rest, vocab, pick=max, unknown=lambda c: list(c.encode("utf-8"))):
    """Piece by piece: of those that fit the one that `pick` says, else `unknown`."""
    ids = []
    while rest:
        fits = [n for n in range(1, len(rest) + 1) if rest[:n] in vocab]
        n = pick(fits, default=0)
        ids += [vocab[rest[:n]]] if n else unknown(rest[0])
        rest = rest[n or 1 :]
    return ids


@exercise.oracle
def encode(text, vocab):
    ids, i = [], 0
    while i < len(text):
        fits = [p for p in vocab if text.startswith(p, i)]
        if fits:
            piece = max(fits, key=len)
            ids.append(vocab[piece])
            i += len(piece)
        else:
            ids.extend(text[i].encode("utf-8"))
            i += 1
    return ids


@exercise.given
def white_space_tidied_up(text, vocab):
    return encoded(" ".join(text.split()), vocab)


@exercise.cases
def cases():
    pieces = ["a", "b", "c", " ", "ab", "abc", "ca", " a", "the", " the", "th", "e"]
    vocab = {piece: 256 + i for i, piece in enumerate(pieces)}
    lines = {**vocab, "\n": 300, "\n\n": 301, "  ": 302}
    for text in [
        "ab",
        "a b",
        "a\nb",
        "a  b",
        " a",
        "b ",
        "a\n",
        "\n",
        "a\tb",
        "a\r\nb",
    ]:
        yield Case((text, {"a": 256, "b": 257}))
    yield Case((" a the", vocab))
    yield Case(("a\n\nb  c", lines))
    yield Case(("", vocab), "empty")
    yield Case(("abcab", vocab))
    yield Case(("abca the", vocab))
    yield Case(("aé", {"a": 256}), "not in the vocabulary")
    yield Case(("é", {"é": 256}))
    yield Case(("żb\u00a0ﬁ", vocab), "not in the vocabulary")
    yield Case(("🙂a", vocab), "not in the vocabulary")
    yield Case(("the  cab\n\n  the abc\n", lines))
    yield Case(("THE", vocab), "not in the vocabulary")
    yield Case(("a  \n\n\n b\u2028c \u3000", lines), "not in the vocabulary")


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def split_at_every_space(text, vocab):
    return encoded(" ".join(text.split(" ")), vocab)


@exercise.right
def nothing_before_the_loop(text, vocab):
    return encoded(text, vocab)


@exercise.right
def one_regular_expression(text, vocab):
    pieces = sorted(vocab, key=len, reverse=True)
    tokens = re.findall("|".join([*map(re.escape, pieces), "(?s:.)"]), text)
    return [i for t in tokens for i in ([vocab[t]] if t in vocab else t.encode())]


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("how-it-breaks")
def line_breaks_still_lost(text, vocab):
    """Runs of spaces come back now, and line breaks still become spaces.

    A line break is a character like any other; a story has many. Which line of yours
    replaces it?
    """
    return encoded(re.sub(r"\s", " ", text), vocab)


@exercise.also(line_breaks_still_lost)
def line_breaks_replaced(text, vocab):
    return encoded(text.replace("\n", " "), vocab)


@exercise.also(line_breaks_still_lost)
def lines_joined_by_spaces(text, vocab):
    return encoded(" ".join(text.split("\n")), vocab)


@exercise.wrong("how-it-breaks")
def runs_of_spaces_still_lost(text, vocab):
    """Line breaks come back now, and two spaces are still one.

    In a poem or in code two spaces are not one. What does `split()` do to each line?
    """
    return encoded("\n".join(" ".join(s.split()) for s in text.split("\n")), vocab)


@exercise.also(runs_of_spaces_still_lost)
def runs_of_spaces_squeezed(text, vocab):
    return encoded(re.sub(" +", " ", text), vocab)


@exercise.also(runs_of_spaces_still_lost)
def runs_of_spaces_squeezed_once(text, vocab):
    return encoded(text.replace("  ", " "), vocab)


@exercise.wrong("how-it-breaks")
def ends_still_lost(text, vocab):
    """White space inside the text comes back now, and at its ends it is still cut off.

    A text may begin with a space and end with a line break; the next text follows it. What
    does `strip()` take away?
    """
    return encoded(text.strip(), vocab)


@exercise.also(ends_still_lost)
def end_still_lost(text, vocab):
    return encoded(text.rstrip(), vocab)


@exercise.wrong("how-it-breaks")
def line_ends_made_equal(text, vocab):
    """Nearly all comes back, but different kinds of line ends become the same one, or the
    last one is lost.

    `splitlines()` cuts at a carriage return too, and does not say at which character it cut.
    Does the text have to be cut into lines at all?
    """
    return encoded("\n".join(text.splitlines()), vocab)


@exercise.also(line_ends_made_equal)
def carriage_returns_dropped(text, vocab):
    return encoded(text.replace("\r\n", "\n"), vocab)


@exercise.wrong("how-it-breaks")
def no_space_left(text, vocab):
    """Now there is no white space at all in the text that is encoded.

    "a b" and "ab" must get different ids. What stands between the quotes before `.join`?
    """
    return encoded("".join(text.split()), vocab)


@exercise.wrong("how-it-breaks")
def tabs_become_spaces(text, vocab):
    """Spaces and line breaks come back, and a tab becomes spaces.

    Nothing has to be made equal: each character of the text must be in the ids. Which line
    still changes the text?
    """
    return encoded(text.expandtabs(4), vocab)


@exercise.also(tabs_become_spaces)
def a_tab_becomes_a_space(text, vocab):
    return encoded(text.replace("\t", " "), vocab)


@exercise.also(tabs_become_spaces)
def a_tab_becomes_eight_spaces(text, vocab):
    return encoded(text.expandtabs(), vocab)


@exercise.wrong("how-it-breaks")
def space_put_in_front(text, vocab):
    """White space comes back now, and there is one space more: one is put before the text.

    Some tokenizers do that, so that a word at the start looks like a word inside, and they
    take it away again when they decode. This `decode` does not. Which line adds it?
    """
    return encoded(" " + text, vocab)


@exercise.wrong("how-it-breaks")
def line_break_spelled_out(text, vocab):
    r"""A line break becomes two characters, a backslash and an n.

    In code `"\\n"` is two characters and `"\n"` is one. A text that holds those two
    characters would come back as a line break. Why not leave the text as it is?
    """
    return encoded(text.replace("\n", "\\n"), vocab)


@exercise.wrong("how-it-breaks")
def characters_normalized(text, vocab):
    """White space comes back, and some characters become others that look alike: the single
    sign for "fi" becomes two letters.

    That is Unicode normalization. It can be useful and cannot be undone, so the text does
    not come back. Which line changes the text before the loop?
    """
    return encoded(unicodedata.normalize("NFKC", text), vocab)


@exercise.wrong("how-it-breaks")
def capitals_lost(text, vocab):
    """White space comes back, and capital letters become small ones.

    Fewer different pieces, but the text does not come back. Which line changes the text
    before the loop?
    """
    return encoded(text.lower(), vocab)


@exercise.wrong("how-it-breaks")
def unknown_characters_dropped(text, vocab):
    """White space is whole now, but characters that are no piece are dropped.

    The given code wrote their UTF-8 bytes, ids below 256, and that was right: from them the
    character can be put together again. What happened to that branch?
    """
    return encoded(text, vocab, unknown=lambda c: [])


@exercise.wrong("how-it-breaks")
def unknown_characters_as_code_points(text, vocab):
    """A character that is no piece becomes its code point, `ord(c)`; beyond 255 that number
    belongs to a piece.

    There are 256 bytes, and any character can be written with them. What does
    `list("é".encode())` give?
    """
    return encoded(text, vocab, unknown=lambda c: [ord(c)])


@exercise.wrong("how-it-breaks")
def one_id_for_all_unknown(text, vocab):
    """All characters that are no piece get the same id, as with an <unk>. Which one it was
    cannot be said any more.

    The given code wrote their UTF-8 bytes, ids below 256, and that was right. What happened
    to that branch?
    """
    return encoded(text, vocab, unknown=lambda c: [0])


@exercise.also(one_id_for_all_unknown)
def question_marks_for_all_unknown(text, vocab):
    return encoded(text, vocab, unknown=lambda c: list(c.encode("ascii", "replace")))


@exercise.wrong("by-hand")
def shortest_piece_first(text, vocab):
    """Nothing is lost, but the shortest piece that fits is taken; it should be the longest.

    The given code takes the largest of the lengths that fit. Which of them does yours
    take?
    """
    return encoded(text, vocab, pick=min)


@exercise.wrong("how-it-breaks")
def bytes_only(text, vocab):
    """Nothing is lost, but no piece of the vocabulary is used: these are the bytes of the
    text.

    That is a tokenizer too, with long sequences. Where do you look into `vocab`?
    """
    return list(text.encode())


@exercise.caught_as("wrong-type")
def pieces_instead_of_ids(text, vocab):
    return b"".join(i.to_bytes(2, "big") for i in encoded(text, vocab))


@exercise.caught_as("wrong-type")
def bytes_left_in_one_lump(text, vocab):
    return encoded(text, vocab, unknown=lambda c: [c.encode()])


@exercise.caught_as("returned-none")
def printed_not_returned(text, vocab):
    print(encoded(text, vocab))


@exercise.caught_as("modified-input")
def unknown_characters_learned(text, vocab):
    for c in text:
        vocab.setdefault(c, len(vocab) + 256)
    return encoded(text, vocab)


@exercise.caught_as("raised")
def every_character_looked_up(text, vocab):
    return [vocab[c] for c in text]
