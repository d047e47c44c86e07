"""A grammar of stories: a random source whose probabilities are known exactly.

A story is made in three steps: draw a plot; draw the plot's variables (hero, place,
wish, ...), each given some that stand before it; write one sentence pattern for every
slot of the plot. Every draw has a known probability, so the probability of a story is a
product and the entropy of the source is a sum. The head of tinytales.toml shows how a
grammar is written.
"""

import math
import random
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise, product
from typing import Any, NoReturn, TypeVar

from babygpt_course.errors import ConfigError

WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")  # letters, with an ending as in Tom's
BREAK = re.compile(r"[^A-Za-z']+")  # where no word goes on
PART = re.compile(r"\{(\w+)(?:\.(\w+))?\}|\[([^\[\]]*)\]")  # {hero.he} or [big|huge]

T = TypeVar("T")
Table = dict[str, Any]  # of TOML
Row = dict[str, Any]  # a value of a kind: its forms, and its weight "w"
Env = dict[str, str]  # what is drawn so far: {"hero": "Tom", "place": "park"}
Joint = dict[tuple[str, ...], float]  # values of a few variables -> probability
Texts = dict[str, float]  # text -> probability
Mention = tuple[int, int, str, str]  # (start, end, variable, form) in a story
Mentions = tuple[Mention, ...]
Uniform = Callable[[], float]  # a source of random numbers in [0, 1)


@dataclass(frozen=True)
class Choice:
    """A gap in a sentence: `{hero.he}`, a form of a variable, or `[big|huge]`."""

    var: str | None  # None for [big|huge], whose options are equally likely
    form: str
    texts: dict[str, str]  # value -> text


Pattern = tuple[str | Choice, ...]  # a sentence, cut into texts and choices


@dataclass(frozen=True)
class Slot:
    """One place of a plot: weighted patterns, which may depend on the variable `by`."""

    name: str
    by: str | None
    cases: dict[str | None, list[tuple[Pattern, float]]]

    def patterns(self, env: Env) -> list[tuple[Pattern, float]]:
        """The patterns that fit what is drawn, with their probabilities."""
        return self.cases[env[self.by] if self.by else None]


@dataclass(frozen=True)
class Variable:
    """A random variable: the rows of a kind that fit its parents' values, by weight."""

    kind: str
    parents: tuple[str, ...]
    rows: Callable[[tuple[str, ...]], list[tuple[str, float]]]

    def given(self, env: Env) -> list[tuple[str, float]]:
        """The values that it can have, given its parents, with probabilities."""
        return self.rows(tuple(env[parent] for parent in self.parents))


@dataclass(frozen=True)
class Derivation:
    """One way to make a story, with its probability and where variables are named."""

    p: float
    plot: "Plot"
    env: Env
    mentions: Mentions


@dataclass(frozen=True)
class Plot:
    """Variables, in an order in which they can be drawn, and the slots that tell them."""

    name: str
    variables: dict[str, Variable]
    slots: list[Slot]
    marginals: dict[tuple[str, ...], Joint] = field(default_factory=dict)

    def marginal(self, names: tuple[str, ...]) -> Joint:
        """Exact joint distribution of a few variables: sums out all their ancestors."""
        if names in self.marginals:
            return self.marginals[names]
        wanted = set(names)
        for var in reversed(self.variables):
            wanted.update(self.variables[var].parents if var in wanted else ())
        order = [var for var in self.variables if var in wanted]
        joint: Joint = {(): 1.0}
        kept: list[str] = []
        for i, var in enumerate(order):
            later = [self.variables[v].parents for v in order[i + 1 :]]
            keep = [v for v in order[: i + 1] if v in set(names).union(*later)]
            summed: defaultdict[tuple[str, ...], float] = defaultdict(float)
            for values, p in joint.items():
                env: Env = dict(zip(kept, values))
                for value, q in self.variables[var].given(env):
                    world = env | {var: value}
                    summed[tuple(world[v] for v in keep)] += p * q
            joint, kept = summed, keep
        at = [kept.index(name) for name in names]
        self.marginals[names] = {tuple(v[i] for i in at): p for v, p in joint.items()}
        return self.marginals[names]

    def chance(self, by: str | None, case: str | None) -> float:
        """The probability that variable `by` is `case`; 1 where there is no `by`."""
        return 1.0 if by is None or case is None else self.marginal((by,))[(case,)]

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
    """A distribution over stories; the head of tinytales.toml shows how to write one."""

    def __init__(self, data: Table):
        forms, shared = data.get("forms", {}), data.get("shared", {})
        self.lists: dict[str, list[str]] = data.get("lists", {})
        self.probes: Table = data.get("probes", {})
        self.kinds: dict[str, dict[str, Row]] = {}
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

    def _plot(self, name: str, data: Table, shared: Table) -> Plot:
        where = f"plot {name}"
        plot = Plot(name, {}, [])
        for var, spec in _need(data, "vars", dict, where).items():
            plot.variables[var] = variable = self._variable(var, spec, plot)
            for values in plot.marginal(variable.parents):  # now, not in mid-run
                if not variable.rows(values):
                    pairs = zip(variable.parents, values)
                    given = ", ".join(f"{p} = {v}" for p, v in pairs)
                    given = given or "nothing is given"
                    _fail(f"Variable {var} of {where} has no value when {given}.")
        told = _need(data, "tell", list, where)
        if untold := set(data) - {"w", "vars", "tell", *told}:
            _fail(f"Slot {min(untold)!r} of {where} is not in its tell.")
        slots = shared | data
        for slot in told:
            patterns: list[Any] | Table = _need(slots, slot, (list, dict), where)
            after = "\n" if len(plot.slots) == len(told) - 1 else " "
            plot.slots.append(self._slot(slot, patterns, plot, after))
        return plot

    def _variable(self, var: str, spec: str | Table, plot: Plot) -> Variable:
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

    def _slot(self, name: str, data: list[Any] | Table, plot: Plot, after: str) -> Slot:
        where, by = f"slot {name} of plot {plot.name}", None
        lists: dict[str | None, list[Any]] = {}
        if isinstance(data, dict):
            by = _need(data, "by", str, where)
            _need(plot.variables, by, Variable, f"the variables, for {where}")
            for (value,) in plot.marginal((by,)):
                key = value if value in data else "else"
                lists[value] = _need(data, key, list, f"{where} for {value!r}")
        else:
            lists[None] = data
        cases: dict[str | None, list[tuple[Pattern, float]]] = {}
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
        parts: list[str | Choice] = []
        end, where = 0, f"{where}: {text!r}"
        for gap in PART.finditer(text):
            if gap.start() == end and parts:
                _fail(f"Two choices touch in {where}. Put a character between them.")
            parts += [text[end : gap.start()]] if gap.start() > end else []
            name, form, options = gap.groups(default="")
            choice = (
                self._named(name, form, plot, where)
                if name
                else self._options(options, where)
            )
            if not all(choice.texts.values()):
                _fail(f"Empty text for {gap[0]} in {where}. Give it a character.")
            parts.append(choice)
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
        check_whole("n", n)
        check_whole("seed", seed)
        uniform = random.Random(seed).random
        return [self._story(uniform) for _ in range(n)]

    def _story(self, uniform: Uniform) -> str:
        plot = _pick(self.plots, uniform)
        env: Env = {}
        text: list[str] = []
        for var, variable in plot.variables.items():
            env[var] = _pick(variable.given(env), uniform)
        for slot in plot.slots:
            for part in _pick(slot.patterns(env), uniform):
                ways = [(t, p) for t, _, p in plot.ways(part, env)]
                text.append(_pick(ways, uniform) if len(ways) > 1 else ways[0][0])
        return "".join(text)

    def parse(self, story: str) -> list[Derivation]:
        """Every derivation of a story: match slot after slot, and backtrack."""
        found: list[Derivation] = []

        def slot(
            plot: Plot, i: int, at: int, env: Env, p: float, said: Mentions
        ) -> None:
            if i == len(plot.slots):
                if at == len(story):
                    found.append(Derivation(p, plot, env, said))
                return
            for new, q in plot.draws(plot.slots[i].by, env):
                for parts, r in plot.slots[i].patterns(env | new):
                    read(parts, plot, i, at, env | new, p * q * r, said)

        def read(
            parts: Sequence[str | Choice],
            plot: Plot,
            i: int,
            at: int,
            env: Env,
            p: float,
            said: Mentions,
        ) -> None:
            if not parts:
                return slot(plot, i + 1, at, env, p, said)
            part, *rest = parts
            for text, new, q in plot.ways(part, env):
                if story.startswith(text, at):
                    end, now = at + len(text), said
                    if isinstance(part, Choice) and part.var:
                        now = (*said, (at, end, part.var, part.form))
                    read(rest, plot, i, end, env | new, p * q, now)

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
                    yield plot, slot, case, p * plot.chance(slot.by, case)

    def patterns(self) -> Iterator[tuple[Plot, Slot, Pattern, list[Texts], float]]:
        """Every pattern, the texts of its parts with probabilities, and that of its use.

        The texts' probabilities are given that the pattern is used.
        """
        for plot, slot, case, p in self._cases():
            for parts, q in slot.cases[case]:
                texts = [_texts(plot, slot.by, case, part) for part in parts]
                yield plot, slot, parts, texts, p * q

    def entropy(self) -> float:
        """Exact entropy of a story in nats, by the chain rule over its choices.

        Shannon 1948, section 6.
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
        counts: defaultdict[tuple[str, str], float] = defaultdict(float)
        for plot, slot, _, texts, p in self.patterns():
            left = {"\n" if slot is plot.slots[0] else " ": 1.0}
            for options in texts:
                right: defaultdict[str, float] = defaultdict(float)
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
            not_a_story(stories[log_probs.index(-math.inf)])
        return -math.fsum(log_probs) / sum(map(len, stories))

    def bigram_floor_nats_per_char(self) -> float:
        """Exact H(next character | previous one) in nats. Shannon 1948, section 7.

        No bigram model, however trained, has a lower expected loss.
        """
        counts = self.expected_pair_counts()
        rows: defaultdict[str, float] = defaultdict(float)
        for (a, _), count in counts.items():
            rows[a] += count
        log_probs = [c * math.log(c / rows[a]) for (a, _), c in counts.items()]
        return -math.fsum(log_probs) / sum(rows.values())

    def alphabet(self) -> str:
        """The characters that can occur, sorted."""
        return "".join(sorted({b for _, b in self.expected_pair_counts()}))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that can occur, choices inside one word taken as independent."""
        words: set[str] = set()
        for *_, texts, _ in self.patterns():
            begun = {""}  # what the next part of the pattern may go on with
            for options in texts:
                ends = set()
                for start, text in product(begun, options):
                    *whole, end = BREAK.split(start + text)
                    words.update(WORD.findall(" ".join(whole)))
                    ends.add(end)
                begun = ends  # {""} after the last part: it ends in a space or a break
        return frozenset(words)


def _texts(plot: Plot, by: str | None, case: str | None, part: str | Choice) -> Texts:
    """The texts that a part can show where the variable `by` is `case`."""
    if isinstance(part, str) or part.var is None:
        return {text: p for text, _, p in plot.ways(part, {})}
    names = (by, part.var) if by else (part.var,)
    shown: defaultdict[str, float] = defaultdict(float)
    whole = plot.chance(by, case)
    for values, p in plot.marginal(names).items():
        if not by or values[0] == case:
            shown[part.texts[values[-1]]] += p / whole
    return shown


def _row(kind: str, value: str, row: Table | str, forms: Table) -> Row:
    """A value with its forms: its own, those of the group that it `is` in, itself."""
    row = {"is": row} if isinstance(row, str) else row
    where = f"{kind} {value!r}"
    if "is" in row:
        row = _need(forms, row["is"], dict, f"[forms], for {where}") | row
    return {"": value} | row | {"w": _weight(row.get("w", 1), where)}


def _need(
    table: Mapping[str, Any],
    key: str,
    kind: type[T] | tuple[type[Any], ...],
    where: str,
) -> T:
    """`table[key]`, or a ConfigError that names what is missing or of the wrong type."""
    if key not in table:
        known = ", ".join(map(str, table)) or "nothing"
        _fail(f"No {key!r} in {where}. Known: {known}.")
    if not isinstance(table[key], kind):
        _fail(f"{key!r} in {where} is of the wrong type: {table[key]!r}.")
    value: T = table[key]
    return value


def _fail(message: str) -> NoReturn:
    raise ConfigError(message)


def not_a_story(text: str) -> NoReturn:
    """Raise the ConfigError for a text that the grammar cannot make."""
    _fail(f"Not a story: {text[:80]!r}. Pass whole stories, each ending in \\n.")


def _weight(w: float, where: str) -> float:
    if isinstance(w, bool) or not isinstance(w, int | float) or not 0 < w < math.inf:
        _fail(f"The weight {w!r} of {where} is not a positive number.")
    return w


def check_whole(name: str, value: int) -> None:
    """Raise a ConfigError unless the value is an integer >= 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _fail(f"{name} must be an integer >= 0; got {value!r}.")


def _pick(weighted: list[tuple[T, float]], uniform: Uniform) -> T:
    """Draw from [(item, probability)] with one uniform number."""
    u = uniform()
    for item, p in weighted:  # noqa: B007
        u -= p
        if u < 0:
            break
    return item


def _entropy(probabilities: Iterable[float]) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities)
