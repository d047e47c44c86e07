"""TinyTales: tiny children's stories whose probabilities are known exactly.

The grammar is data, `tinytales.toml`. A story is made in three steps: draw a plot; draw
the plot's variables (hero, place, wish, ...), each given some that stand before it;
write one sentence pattern for every slot of the plot. Every draw has a known
probability, so the probability of a story is a product, the entropy of the source is a
sum, and no model of these stories has an expected loss below `floor_nats_per_char()`.
"""

import math
import random
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from itertools import pairwise

from babygpt_course.errors import ConfigError

PROBES = ("spelling", "word order", "agreement", "name", "wish", "count")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")  # letters, with an ending as in Tom's
PART = re.compile(r"\{(\w+)(?:\.(\w+))?\}|\[([^\[\]]*)\]")  # {hero.he} or [big|huge]


@dataclass(frozen=True)
class Choice:
    """A gap in a sentence: `{hero.he}`, a form of a variable, or `[big|huge]`."""

    var: str | None  # None for [big|huge], whose options are equally likely
    form: str
    texts: dict[str, str]  # value -> text


Pattern = tuple[str | Choice, ...]  # a sentence, cut into texts and choices
Env = dict[str, str]  # what is drawn so far: {"hero": "Tom", "place": "park"}
Uniform = Callable[[], float]  # a source of random numbers in [0, 1)


@dataclass(frozen=True)
class Slot:
    """One place of a plot: weighted patterns, which may depend on the variable `by`."""

    name: str
    by: str | None
    cases: dict[str | None, list[tuple[Pattern, float]]]

    def patterns(self, env: Env) -> list[tuple[Pattern, float]]:
        return self.cases[env[self.by] if self.by else None]


@dataclass(frozen=True)
class Variable:
    """A random variable: the rows of a kind that fit its parents' values, by weight."""

    kind: str
    parents: tuple[str, ...]
    rows: Callable[[tuple[str, ...]], list[tuple[str, float]]]

    def given(self, env: Env) -> list[tuple[str, float]]:
        return self.rows(tuple(env[parent] for parent in self.parents))


@dataclass(frozen=True)
class Derivation:
    """One way to make a story. A mention is (start, end, variable, form)."""

    p: float
    plot: "Plot"
    env: Env
    mentions: tuple[tuple[int, int, str, str], ...]


@dataclass(frozen=True)
class Plot:
    """Variables, in an order in which they can be drawn, and the slots that tell them."""

    name: str
    variables: dict[str, Variable]
    slots: list[Slot]
    marginals: dict = field(default_factory=dict)

    def marginal(self, names: tuple[str, ...]) -> dict[tuple[str, ...], float]:
        """Exact joint distribution of a few variables: sums out all their ancestors."""
        if names in self.marginals:
            return self.marginals[names]
        wanted = set(names)
        for var in reversed(self.variables):
            wanted.update(self.variables[var].parents if var in wanted else ())
        order = [var for var in self.variables if var in wanted]
        joint, kept = {(): 1.0}, []
        for i, var in enumerate(order):
            later = [self.variables[v].parents for v in order[i + 1 :]]
            keep = [v for v in order[: i + 1] if v in set(names).union(*later)]
            summed = defaultdict(float)
            for values, p in joint.items():
                env = dict(zip(kept, values))
                for value, q in self.variables[var].given(env):
                    world = env | {var: value}
                    summed[tuple(world[v] for v in keep)] += p * q
            joint, kept = summed, keep
        at = [kept.index(name) for name in names]
        self.marginals[names] = {tuple(v[i] for i in at): p for v, p in joint.items()}
        return self.marginals[names]

    def draws(self, var: str | None, env: Env) -> Iterator[tuple[Env, float]]:
        """Every way to settle `var` and the ancestors it needs: (what is new, p)."""
        needed = (*self.variables[var].parents, var) if var else ()
        missing = next((v for v in needed if v not in env), None)
        if missing is None:
            yield {}, 1.0
        elif missing == var:
            for value, p in self.variables[var].given(env):
                yield {var: value}, p
        else:
            for first, p in self.draws(missing, env):
                for rest, q in self.draws(var, env | first):
                    yield first | rest, p * q

    def ways(self, part: str | Choice, env: Env) -> Iterator[tuple[str, Env, float]]:
        """Every text that a part of a pattern can show: (text, what is new, p)."""
        if isinstance(part, str):
            yield part, {}, 1.0
        elif part.var is None:
            for text in part.texts:
                yield text, {}, 1 / len(part.texts)
        else:
            for new, p in self.draws(part.var, env):
                yield part.texts[(env | new)[part.var]], new, p


class Grammar:
    """A distribution over stories, read from TOML; see the head of tinytales.toml."""

    def __init__(self, data: dict):
        forms, shared = data.get("forms", {}), data.get("shared", {})
        self.lists: dict[str, list[str]] = data.get("lists", {})
        self.probes: dict = data.get("probes", {})
        self.kinds: dict[str, dict[str, dict]] = {}
        for kind, rows in _need(data, "kind", dict, "the grammar").items():
            self.kinds[kind] = {v: _row(kind, v, row, forms) for v, row in rows.items()}
        plots = _need(data, "plot", dict, "the grammar")
        weights = [_weight(plot.get("w", 1), f"plot {n}") for n, plot in plots.items()]
        built = [self._plot(name, plot, shared) for name, plot in plots.items()]
        self.plots = [(plot, w / sum(weights)) for plot, w in zip(built, weights)]

    @classmethod
    def from_toml(cls, text: str) -> "Grammar":
        """Read a grammar from TOML.

        Raises:
            ConfigError: not TOML, or a fault: an unknown name, a bad weight, an empty
                choice. The message says where.
        """
        try:
            return cls(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            message = f"The grammar is not valid TOML: {error}."
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            message = f"The grammar is malformed ({error}); compare tinytales.toml."
        raise ConfigError(message)

    def _plot(self, name: str, data: dict, shared: dict) -> Plot:
        where = f"plot {name}"
        plot = Plot(name, {}, [])
        for var, spec in _need(data, "vars", dict, where).items():
            plot.variables[var] = variable = self._variable(var, spec, plot)
            for values in plot.marginal(variable.parents):  # now, not in mid-run
                if not variable.rows(values):
                    given = [f"{p} = {v}" for p, v in zip(variable.parents, values)]
                    given = ", ".join(given) or "nothing is given"
                    _fail(f"Variable {var} of {where} has no value when {given}.")
        told = _need(data, "tell", list, where)
        if untold := set(data) - {"w", "vars", "tell", *told}:
            _fail(f"Slot {min(untold)!r} of {where} is not in its tell.")
        for slot in told:
            patterns = _need(shared | data, slot, (list, dict), where)
            after = "\n" if len(plot.slots) == len(told) - 1 else " "
            plot.slots.append(self._slot(slot, patterns, plot, after))
        return plot

    def _variable(self, var: str, spec: str | dict, plot: Plot) -> Variable:
        """`hero = "child"`, or `from` a kind, given parents: `in`, `not` or `sum`."""
        spec = {"from": spec} if isinstance(spec, str) else spec
        where = f"variable {var} of plot {plot.name}"
        if unknown := set(spec) - {"from", "in", "not", "sum"}:
            _fail(f"Unknown key {min(unknown)!r} in {where}. Use from, in, not, sum.")
        kind = _need(spec, "from", str, where)
        rows = _need(self.kinds, kind, dict, f"the kinds, for {where}")
        listed, _, key = spec.get("in", "").partition(".")
        others, addends = spec.get("not", []), spec.get("sum", [])
        parents = tuple(dict.fromkeys([*filter(None, [listed]), *others, *addends]))
        for parent in parents:
            _need(plot.variables, parent, Variable, f"the variables before {where}")

        @cache
        def fitting(values: tuple[str, ...]) -> list[tuple[str, float]]:
            env = dict(zip(parents, values))
            row = {p: self.kinds[plot.variables[p].kind][v] for p, v in env.items()}
            fit = [v for v in rows if all(v != env[other] for other in others)]
            if listed:
                allowed = _need(row[listed], key, list, f"{listed} {env[listed]!r}")
                for value in allowed:
                    _need(rows, value, dict, f"kind {kind}, for {where}")
                fit = [v for v in fit if v in allowed]
            if addends:
                total = sum(row[addend]["value"] for addend in addends)
                fit = [v for v in fit if rows[v]["value"] == total]
            whole = sum(rows[v]["w"] for v in fit)
            return [(v, rows[v]["w"] / whole) for v in fit]

        return Variable(kind, parents, fitting)

    def _slot(self, name: str, data: list | dict, plot: Plot, after: str) -> Slot:
        where, by, lists = f"slot {name} of plot {plot.name}", None, {None: data}
        if isinstance(data, dict):
            by = _need(data, "by", str, where)
            _need(plot.variables, by, Variable, f"the variables, for {where}")
            lists = {}
            for (value,) in plot.marginal((by,)):
                key = value if value in data else "else"
                lists[value] = _need(data, key, list, f"{where} for {value!r}")
        cases = {}
        for case, patterns in lists.items():
            pairs = [p if isinstance(p, list) else [1, p] for p in patterns]
            total = sum(_weight(w, where) for w, _ in pairs)
            cases[case] = [
                (self._pattern(text, plot, where, after), w / total)
                for w, text in pairs
            ] or _fail(f"{where} has no sentence patterns.")
        return Slot(name, by, cases)

    def _pattern(self, text: str, plot: Plot, where: str, after: str) -> Pattern:
        """Cut "{Hero.he} had [one|two] cats." into texts and choices."""
        parts, end, where = [], 0, f"{where}: {text!r}"
        for gap in PART.finditer(text):
            if gap.start() == end and parts:
                _fail(f"Two choices touch in {where}. Put a character between them.")
            parts += [text[end : gap.start()]] if gap.start() > end else []
            name, form, options = gap.groups(default="")
            parts.append(
                self._named(name, form, plot, where)
                if name
                else self._options(options, where)
            )
            if not all(parts[-1].texts.values()):
                _fail(f"Empty text for {gap[0]} in {where}. Give it a character.")
            end = gap.end()
        parts.append(text[end:] + after)
        plain = "".join(
            x if isinstance(x, str) else "".join(x.texts.values()) for x in parts
        )
        if re.search(r"[{}\[\]|]", plain):
            _fail(
                f"A stray bracket in {where}. Use {{name}}, {{name.form}} or [one|two]."
            )
        return tuple(parts)

    def _options(self, options: str, where: str) -> Choice:
        texts = options.split("|")
        if options.startswith("@"):
            texts = _need(self.lists, options[1:], list, f"[lists], for {where}")
        if len(set(texts)) < len(texts):
            _fail(f"An option is repeated in [{options}] of {where}.")
        return Choice(None, "", {text: text for text in texts})

    def _named(self, name: str, form: str, plot: Plot, where: str) -> Choice:
        var = name[0].lower() + name[1:]
        kind = _need(plot.variables, var, Variable, f"the variables, for {where}").kind
        texts = {}
        for (value,) in plot.marginal((var,)):
            row = self.kinds[kind][value]
            text = _need(row, form, str, f"{kind} {value!r}, for {where}")
            texts[value] = text if name == var else text[:1].upper() + text[1:]
        return Choice(var, form, texts)

    # --- making and reading stories -------------------------------------------------

    def sample(self, n: int, seed: int = 0) -> list[str]:
        """`n` stories, the same on every machine; a smaller `n` gives the first of them.

        Raises:
            ConfigError: `n` or `seed` is not an integer >= 0.
        """
        _whole("n", n), _whole("seed", seed)
        uniform = random.Random(seed).random
        return [self._story(uniform) for _ in range(n)]

    def _story(self, uniform: Uniform) -> str:
        plot, env, text = _pick(self.plots, uniform), {}, []
        for var, variable in plot.variables.items():
            env[var] = _pick(variable.given(env), uniform)
        for slot in plot.slots:
            for part in _pick(slot.patterns(env), uniform):
                ways = [(t, p) for t, _, p in plot.ways(part, env)]
                text.append(_pick(ways, uniform) if len(ways) > 1 else ways[0][0])
        return "".join(text)

    def parse(self, story: str) -> list[Derivation]:
        """Every derivation of a story: match slot after slot, and backtrack."""
        found = []

        def slot(plot, i, at, env, p, mentions):
            if i == len(plot.slots):
                if at == len(story):
                    found.append(Derivation(p, plot, env, mentions))
                return
            for new, q in plot.draws(plot.slots[i].by, env):
                for parts, r in plot.slots[i].patterns(env | new):
                    read(plot, i, parts, at, env | new, p * q * r, mentions)

        def read(plot, i, parts, at, env, p, mentions):
            if not parts:
                return slot(plot, i + 1, at, env, p, mentions)
            part, *rest = parts
            for text, new, q in plot.ways(part, env):
                if story.startswith(text, at):
                    end, said = at + len(text), mentions
                    if isinstance(part, Choice) and part.var:
                        said = (*mentions, (at, end, part.var, part.form))
                    read(plot, i, rest, end, env | new, p * q, said)

        for plot, p in self.plots:
            slot(plot, 0, 0, {}, p, ())
        return found

    def log_prob(self, story: str) -> float:
        """Exact log-probability of a story in nats; -inf for a text that is not one.

        The probability is the sum over all derivations, should there be several.
        """
        p = math.fsum(derivation.p for derivation in self.parse(story))
        return math.log(p) if p > 0 else -math.inf

    # --- exact expectations ---------------------------------------------------------

    def _cases(self) -> Iterator[tuple[Plot, Slot, str | None, float]]:
        """Every (plot, slot, value of its `by`) with the probability of its use."""
        for plot, p in self.plots:
            for slot in plot.slots:
                for case in slot.cases:
                    q = plot.marginal((slot.by,))[(case,)] if slot.by else 1.0
                    yield plot, slot, case, p * q

    def patterns(self) -> Iterator[tuple[Plot, Slot, Pattern, list[Counter], float]]:
        """Every pattern, the texts of its parts with probabilities, and that of its use.

        The texts' probabilities are given that the pattern is used.
        """
        for plot, slot, case, p in self._cases():
            for parts, q in slot.cases[case]:
                texts = [_texts(plot, slot.by, case, part) for part in parts]
                yield plot, slot, parts, texts, p * q

    def entropy(self) -> float:
        """Exact entropy of a story in nats, by the chain rule over its choices.

        It is that of the text if every story has one derivation; the tests prove this
        of tinytales.toml.
        """
        total = _entropy(p for _, p in self.plots)
        for plot, p in self.plots:
            for variable in plot.variables.values():
                for values, q in plot.marginal(variable.parents).items():
                    total += p * q * _entropy(r for _, r in variable.rows(values))
        for _, slot, case, p in self._cases():
            total += p * _entropy(q for _, q in slot.cases[case])
        for _, _, parts, _, p in self.patterns():
            free = [x for x in parts if isinstance(x, Choice) and x.var is None]
            total += p * sum(math.log(len(x.texts)) for x in free)
        return total

    def expected_pair_counts(self) -> dict[tuple[str, str], float]:
        """Expected number of times that b follows a in a story; "\\n" stands before it.

        Choices never touch, so the two sides of a seam are independent of each other.
        """
        counts = Counter()
        for plot, slot, _, texts, p in self.patterns():
            left = {"\n" if slot is plot.slots[0] else " ": 1.0}
            for options in texts:
                right = Counter()
                for text, q in options.items():
                    for a, r in left.items():
                        counts[a, text[0]] += p * q * r
                    for pair in pairwise(text):
                        counts[pair] += p * q
                    right[text[-1]] += q
                left = right
        return dict(sorted(counts.items()))

    def expected_chars(self) -> float:
        """Exact expected length in characters: each is the second of one pair."""
        return math.fsum(self.expected_pair_counts().values())

    def floor_nats_per_char(self, stories: list[str] | str | None = None) -> float:
        """The source's own loss in nats per character: on stories, or in expectation.

        Raises:
            ConfigError: no stories, or one that the grammar cannot make.
        """
        if stories is None:
            return self.entropy() / self.expected_chars()
        if isinstance(stories, str):
            stories = stories.splitlines(keepends=True)
        if not stories:
            _fail("No stories. The floor of a split needs at least one.")
        log_probs = [self.log_prob(story) for story in stories]
        if -math.inf in log_probs:
            _not_a_story(stories[log_probs.index(-math.inf)])
        return -math.fsum(log_probs) / sum(map(len, stories))

    def bigram_floor_nats_per_char(self) -> float:
        """Exact H(next character | previous one) in nats.

        No bigram model, however trained, has a lower expected loss.
        """
        counts, rows = self.expected_pair_counts(), Counter()
        for (a, _), count in counts.items():
            rows[a] += count
        log_probs = [c * math.log(c / rows[a]) for (a, _), c in counts.items()]
        return -math.fsum(log_probs) / rows.total()

    def alphabet(self) -> str:
        """The characters that can occur, sorted."""
        return "".join(sorted({b for _, b in self.expected_pair_counts()}))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that can occur."""
        words = set()
        for *_, texts, _ in self.patterns():
            first = [next(iter(options)) for options in texts]
            for i, options in enumerate(texts):
                before, after = "".join(first[:i]), "".join(first[i + 1 :])
                for text in options:
                    words.update(WORD.findall(before + text + after))
        return frozenset(words)


def _texts(plot: Plot, by: str | None, case: str | None, part: str | Choice) -> Counter:
    """The texts that a part can show where the variable `by` is `case`: text -> p."""
    if isinstance(part, str) or part.var is None:
        return Counter({text: p for text, _, p in plot.ways(part, {})})
    names = (by, part.var) if by else (part.var,)
    shown, whole = Counter(), plot.marginal((by,))[(case,)] if by else 1.0
    for values, p in plot.marginal(names).items():
        if not by or values[0] == case:
            shown[part.texts[values[-1]]] += p / whole
    return shown


def _row(kind: str, value: str, row: dict | str, forms: dict) -> dict:
    """A value with its forms: its own, those of the group that it `is` in, itself."""
    row = {"is": row} if isinstance(row, str) else row
    where = f"{kind} {value!r}"
    if "is" in row:
        row = _need(forms, row["is"], dict, f"[forms], for {where}") | row
    return {"": value} | row | {"w": _weight(row.get("w", 1), where)}


def _need(table: dict, key: str, kind: type | tuple, where: str):
    """`table[key]`, or a ConfigError that names what is missing or of the wrong type."""
    if key not in table:
        known = ", ".join(map(str, table)) or "nothing"
        _fail(f"No {key!r} in {where}. Known: {known}.")
    if not isinstance(table[key], kind):
        _fail(f"{key!r} in {where} is of the wrong type: {table[key]!r}.")
    return table[key]


def _fail(message: str):
    raise ConfigError(message)


def _not_a_story(text: str):
    _fail(f"Not a story: {text[:80]!r}. Pass whole stories, each ending in \\n.")


def _weight(w: float, where: str) -> float:
    if isinstance(w, bool) or not isinstance(w, int | float) or not 0 < w < math.inf:
        _fail(f"The weight {w!r} of {where} is not a positive number.")
    return w


def _whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _fail(f"{name} must be an integer >= 0; got {value!r}.")


def _pick(weighted: list, uniform: Uniform):
    """Draw from [(item, probability)] with one uniform number."""
    u = uniform()
    for item, p in weighted:  # noqa: B007
        u -= p
        if u < 0:
            break
    return item


def _entropy(probabilities: Iterable[float]) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities)


# --- the course's own grammar -------------------------------------------------------


@cache
def grammar() -> Grammar:
    """The grammar of the course's corpus, from tinytales.toml."""
    file = resources.files("babygpt_course").joinpath("tinytales.toml")
    return Grammar.from_toml(file.read_text("utf-8"))


def sample(n: int, seed: int = 0) -> list[str]:
    """`n` stories, each ending in a line break; see `Grammar.sample`."""
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
    """The lowest honest loss: exact on the given stories, or in expectation."""
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
        _fail(f"Unknown kind of minimal pair {kind!r}. Known: {', '.join(PROBES)}.")
    _whole("seed", seed)
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

    `score` is any model's log-probability of a text. A tie counts half, so chance is
    0.5; `log_prob` gets 1.0. A kind that none of the stories has is left out.
    """
    shares = {}
    for kind in PROBES:
        wins = []
        for good, bad in minimal_pairs(stories, kind, seed, n):
            a, b = score(good), score(bad)
            wins.append(1.0 if a > b else 0.5 if a == b else 0.0)
        if wins:
            shares[kind] = sum(wins) / len(wins)
    return shares


def _edits(story: str, kind: str, uniform: Uniform) -> Iterator[Edit]:
    """Replacements that should break one structure, the fairest first."""
    derivation = next(iter(grammar().parse(story)), None) or _not_a_story(story)
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
        edits = _other_mentions(story, derivation, kind, uniform)
        uniform = None  # already in order
    yield from sorted(edits, key=lambda _: uniform()) if uniform else edits


def _disagreements(story: str, derivation: Derivation) -> list[Edit]:
    """he for she, apple for apples, a for an, was for were."""
    forms, swap, edits = grammar().probes["agreement"], {}, []
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
