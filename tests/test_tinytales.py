"""TinyTales is only worth its floor if its probabilities are exact: here they are counted a second way."""

import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise, product

import pytest

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.tinytales import PROBES, Choice, Grammar

SMALL = """
[forms.boy]
he = "he"
[forms.girl]
he = "she"
[lists]
time = ["Now", "Then", "So"]
[kind.child]
Tom = { is = "boy", w = 3 }
Ida = "girl"
Leo = "boy"
[kind.place]
pond = { things = ["boat", "hat"] }
tree = { things = ["kite", "hat"], w = 2 }
[kind.thing]
boat = { a = "a boat" }
hat = { a = "a hat", w = 4 }
kite = { a = "a kite" }
[kind.number]
one = { value = 1 }
two = { value = 2 }
[kind.total]
two = { value = 2 }
three = { value = 3 }
four = { value = 4 }
[shared]
end = ["The end.", [2, "{Hero.he} was [glad|very glad]."]]
[plot.lost]
w = 3
tell = ["go", "fall", "end"]
vars = { hero = "child", place = "place", wish = { from = "thing", in = "place.things" } }
go = ["{hero} had {wish.a}.", [2, "{wish} and {hero}, what a pair!"]]
[plot.lost.fall]
by = "place"
pond = ["Splash!", "Into the pond went the {wish}."]
else = ["It flew into the {place}."]
[plot.sum]
tell = ["count", "end"]
count = ["[@time] {hero} had {n} and {friend} {m}, that is {total}."]
[plot.sum.vars]
hero = "child"
friend = { from = "child", not = ["hero"] }
n = "number"
m = "number"
total = { from = "total", sum = ["n", "m"] }
"""
AMBIGUOUS = """
[kind.x]
a = {}
"a a" = { w = 2 }
[plot.p]
tell = ["s"]
vars = { x = "x", y = "x" }
s = ["{x} {y}."]
"""


def enumerate_stories(grammar: Grammar) -> Counter:
    """Every text of a small grammar with its probability, by going through all choices one by one."""
    texts: Counter = Counter()
    for plot, p in grammar.plots:
        worlds = [({}, p)]
        for name, variable in plot.variables.items():
            worlds = [
                (env | {name: v}, q * r)
                for env, q in worlds
                for v, r in variable.given(env)
            ]
        for env, q in worlds:
            for told in product(*(slot.patterns(env) for slot in plot.slots)):
                weight = q * math.prod(r for _, r in told)
                options = []
                for part in (part for parts, _ in told for part in parts):
                    if isinstance(part, str):
                        options.append([part])
                    else:
                        options.append(
                            list(part.texts.values())
                            if part.var is None
                            else [part.texts[env[part.var]]]
                        )
                all_texts = ["".join(pieces) for pieces in product(*options)]
                for text in all_texts:
                    texts[text] += weight / len(all_texts)
    return texts


def ambiguities(grammar: Grammar) -> list[str]:
    """Reasons why two derivations could give one text; if there are none, no story has two.

    All choices are followed as if they were free, which allows more texts than the grammar, in one automaton
    of characters. Two different paths that spell the same characters and then meet are an ambiguity. Without
    one, a story tells every pattern and text chosen, so it is left to see that these tell every variable.
    """
    edges, label, faults = (
        [],
        [],
        [],
    )  # state -> [(character, next state)], and where the state belongs

    def chain(text: str, tail: list, where: str) -> list:
        for char in reversed(text):
            edges.append(tail)
            label.append(where)
            tail = [(char, len(edges) - 1)]
        return tail

    def free(parts: tuple) -> tuple:
        return tuple(
            (x,) if isinstance(x, str) else tuple(dict.fromkeys(x.texts.values()))
            for x in parts
        )

    def shown_by(parts: tuple) -> set:
        named = [x for x in parts if isinstance(x, Choice) and x.var]
        return {x.var for x in named if len(set(x.texts.values())) == len(x.texts)}

    start = []
    for plot, _ in grammar.plots:
        shown, tail = set(), []
        for slot in reversed(plot.slots):
            where, entries = f"slot {slot.name} of plot {plot.name}", []
            patterns = [parts for case in slot.cases.values() for parts, _ in case]
            distinct = dict.fromkeys(map(free, patterns))
            if slot.by and len(distinct) == len(patterns):
                shown.add(slot.by)
            for case in slot.cases.values():
                if len({free(parts) for parts, _ in case}) < len(case):
                    faults.append(f"the same pattern twice in {where}")
            shown |= set.intersection(*map(shown_by, patterns))
            for parts in distinct:
                entry = tail
                for texts in reversed(parts):
                    entry = [
                        edge for text in texts for edge in chain(text, entry, where)
                    ]
                entries += entry
            tail = entries
        start += tail
        for name, variable in plot.variables.items():
            fixed = all(
                len(variable.rows(values)) == 1
                for values in plot.marginal(variable.parents)
            )
            if name not in shown and not fixed:
                faults.append(
                    f"variable {name} of plot {plot.name} cannot always be read off the text"
                )
    twins = [
        (s, t)
        for out in [start, *edges]
        for i, (a, s) in enumerate(out)
        for b, t in out[:i]
        if a == b
    ]
    done = set(twins)
    while twins:
        s, t = twins.pop()
        if s == t or not (edges[s] or edges[t]):
            faults.append(f"two ways to read the same text, {label[s]} and {label[t]}")
            continue
        new = {
            (min(u, v), max(u, v)) for a, u in edges[s] for b, v in edges[t] if a == b
        } - done
        done |= new
        twins += new
    return sorted(set(faults))


@pytest.fixture(scope="module")
def stories() -> list[str]:
    return tinytales.sample(4000, seed=7)


@pytest.fixture(scope="module")
def log_probs(stories) -> list[float]:
    return [tinytales.log_prob(story) for story in stories]


def within_four_standard_errors(values: list[float], expected: float) -> bool:
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return abs(mean - expected) <= 4 * math.sqrt(variance / len(values))


# --- exactness, on a grammar small enough to write out ----------------------------------------------


def test_small_grammar_is_exact_in_every_number():
    grammar = Grammar.from_toml(SMALL)
    texts = enumerate_stories(grammar)
    assert len(texts) > 100
    assert math.fsum(texts.values()) == pytest.approx(1, abs=1e-12)
    for text, p in texts.items():
        assert grammar.log_prob(text) == pytest.approx(math.log(p), abs=1e-9)
    assert grammar.entropy() == pytest.approx(
        -sum(p * math.log(p) for p in texts.values()), abs=1e-9
    )
    assert grammar.expected_chars() == pytest.approx(
        sum(p * len(t) for t, p in texts.items()), abs=1e-9
    )
    pairs = defaultdict(float)
    for text, p in texts.items():
        for pair in pairwise("\n" + text):
            pairs[pair] += p
    assert grammar.expected_pair_counts() == pytest.approx(pairs, abs=1e-9)
    rows = Counter()
    for (a, _), count in pairs.items():
        rows[a] += count
    conditional = -sum(c * math.log(c / rows[a]) for (a, _), c in pairs.items()) / sum(
        rows.values()
    )
    assert grammar.bigram_floor_nats_per_char() == pytest.approx(conditional, abs=1e-9)
    assert grammar.alphabet() == "".join(sorted(set("".join(texts))))
    assert grammar.words == {
        w for text in texts for w in re.findall(r"[A-Za-z]+", text)
    }
    assert ambiguities(grammar) == []


def test_words_are_those_of_all_choices_that_touch_them():
    grammar = Grammar.from_toml(
        """
        [kind.end]
        "d" = {}
        "'s go" = {}
        [plot.only]
        vars.x = "end"
        tell = ["line"]
        line = ["[a|b]x[c|d]y{x}, {x}-{x}z[.|!]", "It's [a|A]y{x}"]
        """
    )
    assert grammar.words == {
        w
        for text in enumerate_stories(grammar)
        for w in re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)
    }
    assert {"bxdyd", "axcy's", "It's", "Ayd", "go"} <= grammar.words


def test_an_ambiguous_text_has_the_sum_of_its_derivations():
    grammar = Grammar.from_toml(AMBIGUOUS)
    texts = enumerate_stories(grammar)
    assert texts == pytest.approx(
        {"a a.\n": 1 / 9, "a a a.\n": 4 / 9, "a a a a.\n": 4 / 9}
    )
    assert len(grammar.parse("a a a.\n")) == 2
    for text, p in texts.items():
        assert math.exp(grammar.log_prob(text)) == pytest.approx(p)


def test_sampling_follows_the_probabilities_of_the_small_grammar():
    grammar = Grammar.from_toml(SMALL)
    n, counts = 20_000, Counter(grammar.sample(20_000, seed=3))
    texts = enumerate_stories(grammar)
    assert set(counts) <= set(texts)
    for text, p in texts.items():
        assert abs(counts[text] / n - p) < 5 * math.sqrt(p * (1 - p) / n), text


# --- the course's grammar ---------------------------------------------------------------------------


def test_no_story_of_the_course_can_be_made_in_two_ways(stories):
    assert ambiguities(tinytales.grammar()) == []
    for story in stories[:500]:
        assert len(tinytales.grammar().parse(story)) == 1


def test_sampled_surprise_and_length_agree_with_the_exact_ones(stories, log_probs):
    assert within_four_standard_errors([-x for x in log_probs], tinytales.entropy())
    assert within_four_standard_errors(
        [len(s) for s in stories], tinytales.expected_chars()
    )


def test_sampled_pairs_agree_with_the_exact_ones(stories):
    expected = tinytales.expected_pair_counts()
    counted = [Counter(pairwise("\n" + story)) for story in stories]
    assert set().union(*counted) <= set(expected)
    for pair in sorted(expected, key=expected.get)[-300:]:
        assert within_four_standard_errors(
            [c[pair] for c in counted], expected[pair]
        ), pair


def test_floors_are_in_order_and_any_trained_bigram_table_stays_above_its_own(stories):
    assert (
        0
        < tinytales.floor_nats_per_char()
        < tinytales.bigram_floor_nats_per_char()
        < math.log(60)
    )
    expected = tinytales.expected_pair_counts()
    seen = Counter(pairwise("\n" + "".join(stories[:1000])))
    size = len(tinytales.alphabet())
    rows = Counter()
    for (a, _), count in seen.items():
        rows[a] += count
    loss = -sum(
        c * math.log((seen[a, b] + 0.1) / (rows[a] + 0.1 * size))
        for (a, b), c in expected.items()
    )
    gap = loss / tinytales.expected_chars() - tinytales.bigram_floor_nats_per_char()
    assert 0 < gap < 0.02


def test_floor_of_a_split_takes_a_list_or_one_text(stories, log_probs):
    exact = -sum(log_probs[:50]) / sum(map(len, stories[:50]))
    assert tinytales.floor_nats_per_char(stories[:50]) == pytest.approx(
        exact, abs=1e-12
    )
    assert tinytales.floor_nats_per_char("".join(stories[:50])) == pytest.approx(
        exact, abs=1e-12
    )
    assert exact == pytest.approx(tinytales.floor_nats_per_char(), rel=0.1)
    for bad in ([], "", stories[0][:-1], stories[0][:40] + "\n", "Once upon a time.\n"):
        with pytest.raises(ConfigError):
            tinytales.floor_nats_per_char(bad)


def test_damaged_stories_are_impossible(stories):
    for i, story in enumerate(stories[:200]):
        at = (37 * i) % (len(story) - 2)
        damaged = [
            story[:-1],
            story + story,
            story[1:],
            story[:at] + story[at + 1 :],
            story[:at] + "x" + story[at:],
        ]
        assert all(
            tinytales.log_prob(bad) == -math.inf for bad in damaged if bad != story
        ), (story, at)
    assert tinytales.log_prob("") == -math.inf


def test_stories_are_one_line_each_of_a_small_alphabet(stories):
    assert set("".join(stories)) == set(tinytales.alphabet())
    assert re.fullmatch(r"""[\n !"',.?A-Za-z]+""", tinytales.alphabet())
    for story in stories:
        assert story.count("\n") == 1 and story.endswith("\n")
        assert 200 < len(story) < 800
        assert story.count('"') % 2 == 0
        assert not re.search(
            r"  | [.,!?]|[.!?] [a-z]|[.,!?]{2}|[.,!?]\w|\b(\w+) \1\b", story
        ), story


def test_every_sentence_begins_with_a_capital_and_a_follows_the_sound():
    for _, _, parts, _, _ in tinytales.grammar().patterns():
        for text in every_text(parts):
            assert re.match(r'"?[A-Z]', text), text
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", text), text


def every_text(parts: tuple) -> list[str]:
    """A pattern with each option of each choice, the other choices held at their first options."""
    options = [[x] if isinstance(x, str) else list(x.texts.values()) for x in parts]
    first = [o[0] for o in options]
    return [
        "".join([*first[:i], text, *first[i + 1 :]])
        for i, texts in enumerate(options)
        for text in texts
    ]


def test_hero_wish_and_count_come_back_at_the_end():
    for plot, _ in tinytales.grammar().plots:
        wanted = {"hero", "wish", "total"} & set(plot.variables)
        for patterns in plot.slots[-1].cases.values():
            for parts, _ in patterns:
                named = {
                    x.var
                    for x in parts
                    if isinstance(x, Choice) and x.form in ("", "a")
                }
                assert wanted <= named, (plot.name, parts)


def test_variety(stories):
    assert len(set(stories)) == len(stories)
    assert {
        tinytales.grammar().parse(story)[0].plot.name for story in stories[:200]
    } == {plot.name for plot, _ in tinytales.grammar().plots}


# --- determinism ------------------------------------------------------------------------------------


def test_samples_are_prefixes_and_seeds_differ():
    assert tinytales.sample(10, 5) == tinytales.sample(20, 5)[:10]
    assert tinytales.sample(5, 5) != tinytales.sample(5, 6)
    assert tinytales.sample(0, 5) == []


def test_the_same_stories_in_every_process():
    code = (
        "import hashlib; from babygpt_course import tinytales as t; s = t.sample(50, 1);"
        "pairs = [t.minimal_pairs(s, k, 2) for k in t.PROBES];"
        "print(hashlib.sha256(repr((s, pairs, t.entropy(), t.bigram_floor_nats_per_char())).encode()).hexdigest())"
    )
    digests = set()
    for hash_seed in ("0", "4321"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout)
    assert len(digests) == 1


# --- structure probes -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROBES)
def test_minimal_pairs_break_one_place(kind, stories):
    pairs = tinytales.minimal_pairs(stories[:300], kind, seed=1)
    assert len(pairs) > 50
    for good, bad in pairs:
        assert (
            tinytales.log_prob(good) > -math.inf
            and tinytales.log_prob(bad) == -math.inf
        )
        a, b = good.split(" "), bad.split(" ")
        assert abs(len(a) - len(b)) <= 3
        changed = sum(x != y for x, y in zip(a, b)) if len(a) == len(b) else 1
        assert changed <= (2 if kind == "word order" else 3), (good, bad)


def test_each_kind_of_pair_shows_its_structure(stories):
    heroes = tinytales.grammar().kinds["child"]
    for good, bad in tinytales.minimal_pairs(stories[:300], "name"):
        old, new = ((set(re.findall(r"\w+", x)) & set(heroes)) for x in (good, bad))
        assert len(good) == len(bad)
        swapped = [
            (x, y)
            for x, y in zip(re.findall(r"\w+", good), re.findall(r"\w+", bad))
            if x != y
        ]
        assert (
            len(swapped) == 1
            and heroes[swapped[0][0]]["he"] == heroes[swapped[0][1]]["he"]
        )
        assert swapped[0][0] in old and swapped[0][1] in new
    numbers = set(tinytales.grammar().kinds["total"])
    for good, bad in tinytales.minimal_pairs(stories[:300], "count"):
        swapped = [(x, y) for x, y in zip(good.split(), bad.split()) if x != y]
        assert len(swapped) == 1
        assert all(re.sub(r"\W", "", word) in numbers for word in swapped[0])
    for good, bad in tinytales.minimal_pairs(stories[:100], "spelling"):
        assert sorted(good) == sorted(bad)
        assert tinytales.real_words(good) == 1 > tinytales.real_words(bad)
    for good, bad in tinytales.minimal_pairs(stories[:100], "word order"):
        assert (
            sorted(re.findall(r"\w+", good)) == sorted(re.findall(r"\w+", bad))
            and good != bad
        )


def test_what_rounding_decides_is_a_tie():
    """A bigram cannot tell most changes of word order: its sums differ by their order only."""
    stories = tinytales.sample(60, seed=3)
    noise = iter(range(10**6))
    shares = tinytales.structure_probes(
        lambda text: -500.0 + 1e-5 * (next(noise) % 3), stories, n=20
    )
    assert set(shares.values()) == {0.5}


def test_probes_give_the_exact_scorer_one_and_a_blind_one_a_half(stories):
    exact = tinytales.structure_probes(tinytales.log_prob, stories[:400], n=60)
    assert exact == dict.fromkeys(PROBES, 1.0)
    assert tinytales.structure_probes(
        lambda text: 0.0, stories[:400], n=60
    ) == dict.fromkeys(PROBES, 0.5)
    backward = tinytales.structure_probes(
        lambda text: -tinytales.log_prob(text), stories[:400], n=20
    )
    assert backward == dict.fromkeys(PROBES, 0.0)


def test_real_words():
    assert tinytales.real_words("Tom wanted a kite.") == 1
    assert tinytales.real_words("Tom wxnted a kxte.") == 0.5
    assert tinytales.real_words("...") == 0


# --- bad input, and faults planted in a grammar -----------------------------------------------------


@pytest.mark.parametrize(
    "n, seed", [(-1, 0), (1.5, 0), ("3", 0), (True, 0), (3, -1), (3, 1.0), (3, None)]
)
def test_bad_arguments(n, seed):
    with pytest.raises(ConfigError, match="must be an integer >= 0"):
        tinytales.sample(n, seed)


def test_unknown_probe_and_foreign_story():
    with pytest.raises(ConfigError, match="Unknown kind of minimal pair 'rhyme'"):
        tinytales.minimal_pairs([], "rhyme")
    with pytest.raises(ConfigError, match="Not a story"):
        tinytales.minimal_pairs(["Once upon a time.\n"], "name")


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("Tom = { is", "Tom = is", "not valid TOML"),
        ("w = 3 }", "w = 0 }", "weight 0 of child 'Tom'"),
        ("w = 3 }", 'w = "3" }', "weight '3' of child 'Tom'"),
        ("[2, ", "[-2, ", "weight -2 of slot"),
        ('Ida = "girl"', 'Ida = "queen"', "No 'queen' in .forms."),
        (
            "{hero} had {wish.a}.",
            "{heroine} had {wish.a}.",
            "No 'heroine' in the variables",
        ),
        ("{hero} had {wish.a}.", "{hero} had {wish.an}.", "No 'an' in thing 'boat'"),
        ("{hero} had {wish.a}.", "{hero}{wish.a}.", "Two choices touch"),
        ("{hero} had {wish.a}.", "{hero had {wish.a}.", "stray bracket"),
        ("[glad|very glad]", "[glad|]", "Empty text"),
        ("[glad|very glad]", "[glad|glad]", "repeated"),
        ("[@time]", "[@tide]", "No 'tide' in .lists."),
        ('"place.things"', '"place.toys"', "No 'toys' in place 'pond'"),
        ('"place.things"', '"spot.things"', "No 'spot' in the variables before"),
        (
            'things = ["boat", "hat"]',
            "things = []",
            "no value when place = pond",
        ),
        (
            'things = ["boat", "hat"]',
            'things = ["boat", "hut"]',
            "No 'hut' in kind thing",
        ),
        ("four = { value = 4 }", "", "no value when n = two, m = two"),
        (
            'tell = ["go", "fall", "end"]',
            'tell = ["go", "fal", "end"]',
            "Slot 'fall' .* is not in its tell",
        ),
        ('else = ["It', 'pool = ["It', "'else' in slot fall of plot lost for 'tree'"),
        ('by = "place"', 'by = "weather"', "No 'weather' in the variables"),
        ('not = ["hero"]', 'nor = ["hero"]', "Unknown key 'nor'"),
        ('"Splash!", ', "5, ", "malformed"),
    ],
)
def test_planted_faults_are_named(old, new, says):
    assert SMALL.count(old) >= 1
    with pytest.raises(ConfigError, match=says):
        Grammar.from_toml(SMALL.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, says",
    [
        (
            'pond = ["Splash!", ',
            'pond = ["Splash!", "Splash!", ',
            "the same pattern twice in slot fall",
        ),
        (
            '"Splash!", ',
            '"Splash! The end.", "Splash!", ',
            "two ways to read the same text",
        ),
        (
            "{hero} had {wish.a}.",
            "{hero} had one.",
            "variable wish of plot lost cannot always",
        ),
        ("The end.", "She was glad.", "two ways to read the same text, slot end"),
    ],
)
def test_planted_ambiguities_are_found(old, new, says):
    assert SMALL.count(old) == 1
    text = SMALL.replace(old, new)
    if "Splash! The" in new:  # the second sentence may belong to either slot
        text = text.replace(
            'end = ["The end.",', 'end = ["The end.", "The end. The end.",'
        )
    assert any(says in fault for fault in ambiguities(Grammar.from_toml(text)))
    assert ambiguities(Grammar.from_toml(AMBIGUOUS))
