"""TinyTales: tiny children's stories whose probabilities are known exactly.

Their grammar is data, `tinytales.toml`, read by `grammar`. The entropy of the source is
known, so no model of these stories has an expected loss below `floor_nats_per_char()`.
"""

import math
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources

from babygpt_course.errors import ConfigError
from babygpt_course.grammar import WORD, Derivation, Uniform, check_whole, not_a_story
from babygpt_course.grammar import Choice as Choice  # offered here too
from babygpt_course.grammar import Grammar as Grammar

PROBES = ("spelling", "word order", "agreement", "name", "wish", "count")


@cache
def grammar() -> Grammar:
    """The grammar of the course's corpus, from tinytales.toml."""
    file = resources.files("babygpt_course").joinpath("tinytales.toml")
    return Grammar.from_toml(file.read_text("utf-8"))


def sample(n: int, seed: int = 0) -> list[str]:
    """`n` stories, each ending in a line break; see `Grammar.sample`.

    Raises:
        ConfigError: `n` or `seed` is not an integer >= 0.
    """
    return grammar().sample(n, seed)


def log_prob(story: str) -> float:
    """Exact log-probability of a story in nats; -inf for a text that is not one."""
    return grammar().log_prob(story)


def entropy() -> float:
    """Exact entropy of a story in nats."""
    return grammar().entropy()


def expected_chars() -> float:
    """Exact expected length of a story in characters."""
    return grammar().expected_chars()


def expected_pair_counts() -> dict[tuple[str, str], float]:
    """Expected number of times that character b follows a in a story, by (a, b)."""
    return grammar().expected_pair_counts()


def floor_nats_per_char(stories: list[str] | str | None = None) -> float:
    """The lowest honest loss, in nats per character: on stories, or in expectation.

    Raises:
        ConfigError: no stories, or a text that is not one.
    """
    return grammar().floor_nats_per_char(stories)


def bigram_floor_nats_per_char() -> float:
    """The lowest expected loss that a bigram model can have, in nats per character."""
    return grammar().bigram_floor_nats_per_char()


def alphabet() -> str:
    """The characters that can occur, sorted."""
    return grammar().alphabet()


def lexicon() -> frozenset[str]:
    """Every word that can occur."""
    return grammar().words


def real_words(text: str) -> float:
    """The share of the words of a text that TinyTales has; 0 if it has no words."""
    words = WORD.findall(text)
    return sum(word in lexicon() for word in words) / max(1, len(words))


# --- structure probes, by minimal pairs ---------------------------------------------

Edit = tuple[int, int, str]  # (start, end, new text)
TIE = 1e-3  # nats: sums over a story in float32 are no truer than that


def minimal_pairs(
    stories: list[str], kind: str, seed: int = 0, n: int | None = None
) -> list[tuple[str, str]]:
    """The first `n` pairs (good, bad): a story, and itself with one structure broken.

    `bad` differs in one place and has log-probability -inf. A story without that
    structure gives no pair.

    Raises:
        ConfigError: an unknown kind, or a text that is not a story.
    """
    if kind not in PROBES:
        raise ConfigError(
            f"Unknown kind of minimal pair {kind!r}. Known: {', '.join(PROBES)}."
        )
    check_whole("seed", seed)
    uniform = random.Random(seed).random
    pairs = []
    for good in stories if n is None or n > 0 else []:
        for start, end, text in _edits(good, kind, uniform):
            bad = good[:start] + text + good[end:]
            if log_prob(bad) == -math.inf:
                pairs.append((good, bad))
                break
        if len(pairs) == n:
            break
    return pairs


def structure_probes(
    score: Callable[[str], float], stories: list[str], seed: int = 0, n: int = 200
) -> dict[str, float]:
    """For each kind, the share of up to `n` pairs in which the good side scores higher.

    `score` is any model's log-probability of a text, in nats. A tie, up to what float32
    rounds away, counts half, so chance is 0.5; `log_prob` gets 1.0. A kind that none of
    the stories has is left out. It is the method of BLiMP (Warstadt et al. 2020).

    Raises:
        ConfigError: a text that is not a story.
    """
    shares = {}
    for kind in PROBES:
        wins = []
        for good, bad in minimal_pairs(stories, kind, seed, n):
            a, b = score(good), score(bad)
            wins.append(0.5 if abs(a - b) < TIE else float(a > b))
        if wins:
            shares[kind] = sum(wins) / len(wins)
    return shares


def _edits(story: str, kind: str, uniform: Uniform) -> Iterator[Edit]:
    """Replacements that should break one structure, the fairest first."""
    derivation = next(iter(grammar().parse(story)), None) or not_a_story(story)
    if kind == "spelling":  # two neighboring letters inside a word change places
        edits = []
        for word in WORD.finditer(story):
            w = word[0]
            for i in range(1, len(w) - 2):
                bad = w[:i] + w[i + 1] + w[i] + w[i + 2 :]
                if bad.isalpha() and bad not in lexicon():
                    edits.append((word.start(), word.end(), bad))
    elif kind == "word order":  # two neighboring words change places
        pairs = re.finditer(r"(?<![A-Za-z'])([a-z]+) (?=([a-z]+)\b)", story)
        edits = [(pair.start(), pair.end(2), f"{pair[2]} {pair[1]}") for pair in pairs]
    elif kind == "agreement":
        edits = _disagreements(story, derivation)
    else:
        yield from _other_mentions(story, derivation, kind, uniform)
        return
    yield from sorted(edits, key=lambda _: uniform())


def _disagreements(story: str, derivation: Derivation) -> list[Edit]:
    """he for she, apple for apples, a for an, was for were."""
    forms: dict[str, str] = grammar().probes["agreement"]
    swap: dict[str, str] = {}
    edits: list[Edit] = []
    for start, end, var, form in derivation.mentions:
        if form in forms:  # {he = "he", one = "many"}: another's, or its own other form
            rows = grammar().kinds[derivation.plot.variables[var].kind]
            others = rows if forms[form] == form else [derivation.env[var]]
            for text in dict.fromkeys(rows[other][forms[form]] for other in others):
                edits.append((start, end, _like(story[start], text)))
    for a, b in grammar().probes["swap"]:
        swap |= {a: b, b: a}
    words = [word for word in WORD.finditer(story) if word[0] in swap]
    return edits + [(word.start(), word.end(), swap[word[0]]) for word in words]


def _other_mentions(
    story: str, derivation: Derivation, kind: str, uniform: Uniform
) -> list[Edit]:
    """The last mention of a name, wish or count becomes another, of the same length."""
    for start, end, var, form in reversed(derivation.mentions):
        if f"{var}.{form}".rstrip(".") in grammar().probes[kind]:
            rows = grammar().kinds[derivation.plot.variables[var].kind]
            own, ranked = rows[derivation.env[var]], []
            for row in rows.values():
                unlike = row.get("is") != own.get("is")
                longer = abs(len(row[form]) - len(own[form]))
                text = _like(story[start], row[form])
                ranked.append((unlike, longer, uniform(), (start, end, text)))
            return [edit for *_, edit in sorted(ranked)]
    return []


def _like(first: str, text: str) -> str:
    """`text`, with a capital where `first` is one."""
    return text[:1].upper() + text[1:] if first.isupper() else text
