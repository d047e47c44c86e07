"""16.4: a text read in parts, where the second part stands at the wrong place."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="16_llama_2",
    id="16.4",
    title="Bug hunt: the cache that forgot where it was",
    kind="bug hunt",
    points=3,
    minutes=9,
    anchor="how-it-breaks",
    hints="""
    Read one text in one part, and in two. Which rows of the result are the same? From which row on
    are they not?

    The score of a query and a key depends on how far apart they stand. The last token of the first
    part and the first token of the second are neighbors. Print the positions that the code turns
    the two by.

    A part of n tokens that begins at token `start` holds the positions start, start + 1, ...
    start + n - 1. One line makes the positions.
    """,
    equivalent={
        "rate = 10000 ** (-torch.arange(0, D, 2) / D)": (
            "the angles are float32 then, and still right to seven digits"
        ),
        "a, b = (x[:, ::2], x[:, 1::2])": "a slice begins at 0 without being told",
        "return torch.stack((a * c - b * s, a * s + b * c), dim=1).flatten(1)": (
            "queries and keys get their channels in the same other order: no score changes"
        ),
        "return torch.stack((a * c - b * s, a * s + b * c), dim=-2).flatten(1)": (
            "queries and keys get their channels in the same other order: no score changes"
        ),
        "out.append(scores.masked_fill(~seen, -math.inf).softmax(1) @ values)": (
            "of two axes, the last is number 1"
        ),
    },
)


@exercise.oracle
def read_in_parts(x, wq, wk, wv, parts):
    T, D = sum(parts), wq.shape[1]

    def turned(row, t):
        out = []
        for i in range(0, D, 2):
            angle = t * 10_000 ** (-i / D)
            a, b = row[i], row[i + 1]
            out += [a * math.cos(angle) - b * math.sin(angle)]
            out += [a * math.sin(angle) + b * math.cos(angle)]
        return out

    def product(row, w):
        return [sum(a * b for a, b in zip(row, column)) for column in w.T.tolist()]

    rows = x.tolist()[:T]
    queries = [turned(product(row, wq), t) for t, row in enumerate(rows)]
    keys = [turned(product(row, wk), t) for t, row in enumerate(rows)]
    values = [product(row, wv) for row in rows]
    out = []
    for t in range(T):
        scores = [
            sum(a * b for a, b in zip(queries[t], keys[s])) / math.sqrt(D)
            for s in range(t + 1)
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        pairs = [list(zip(weights, (v[e] for v in values))) for e in range(wv.shape[1])]
        out.append([sum(w * v for w, v in pair) / sum(weights) for pair in pairs])
    return torch.tensor(out, dtype=x.dtype)


def rotate(x, positions):
    """x (n, D), each row turned by its position: a copy of what the notebook hands out."""
    D = x.shape[1]
    rate = 10_000 ** (-torch.arange(0, D, 2, dtype=x.dtype) / D)
    angle = torch.as_tensor(positions, dtype=x.dtype)[:, None] * rate
    cos, sin = angle.cos(), angle.sin()
    a, b = x[:, 0::2], x[:, 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(1)


def same(start, n, i):
    return torch.arange(start, start + n)


def own(start, n, i):
    return torch.arange(n)


def corner(n, S):
    return torch.ones(n, S, dtype=torch.bool).tril(S - n)


def reading(
    x,
    wq,
    wk,
    wv,
    parts,
    q_at=same,
    k_at=None,
    mask=corner,
    again="",
    turns_values=False,
    keeps=True,
    scale=None,
):
    """The code of the exercise, of which one part at a time is replaced."""
    D = wq.shape[1]
    keys, values = x.new_empty(0, D), x.new_empty(0, wv.shape[1])
    out, start = [], 0
    for i, n in enumerate(parts):
        part = x[start : start + n]
        q = rotate(part @ wq, q_at(start, n, i))
        k = part @ wk
        if again != "only then":
            k = rotate(k, (k_at or q_at)(start, n, i))
        v = part @ wv
        if turns_values:
            v = rotate(v, q_at(start, n, i))
        if not keeps:
            keys, values = keys[:0], values[:0]
        keys, values = torch.cat((keys, k)), torch.cat((values, v))
        start += n
        if again:  # the kept keys are turned once more with each part
            at = same(0, len(keys), 0)
            keys = rotate(keys, at)
        scores = q @ keys.T / (math.sqrt(D) if scale is None else scale)
        scores = scores.masked_fill(~mask(n, len(keys)), -math.inf)
        out.append(scores.softmax(-1) @ values)
    return torch.cat(out)


@exercise.given
def each_part_begins_at_0(x, wq, wk, wv, parts):
    return reading(x, wq, wk, wv, parts, q_at=own)


def random_case(C, D, E, parts, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (sum(parts), C), (C, D), (C, D), (C, E)
    tensors = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    )
    return *tensors, parts


@exercise.cases
def cases():
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    eye = torch.eye(2)
    wv = torch.tensor([[1.0], [4]])
    yield Case((x[:1], eye, eye, wv, [1]), "one token")
    yield Case((x, 3 * eye, eye, wv, [3]), "one part")
    yield Case((x, 3 * eye, eye, wv, [2, 1]))
    yield Case((x, 3 * eye, eye, wv, [1, 1, 1]))
    yield Case((x, 3 * eye, eye, wv, [1, 2]))
    sizes = [(5, 4, 3, [3, 2, 4]), (3, 6, 2, [1] * 6), (4, 2, 5, [7]), (6, 4, 4, [5, 1, 1])]  # fmt: skip
    for seed, size in enumerate(sizes):
        yield Case(random_case(*size, seed))
        yield Case(random_case(*size, seed, torch.float32), "float32")
    x, wq, wk, wv, parts = random_case(5, 4, 3, [2, 6, 1], 9)
    yield Case((x.T.contiguous().T, wq.T.contiguous().T, wk, wv, parts), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def counted_from_elsewhere(x, wq, wk, wv, parts):
    """Only distances count: all positions may be shifted by the same number."""
    return reading(
        x, wq, wk, wv, parts, q_at=lambda start, n, i: torch.arange(n) + start + 7
    )


@exercise.right
def by_the_length_of_the_cache(x, wq, wk, wv, parts):
    keys, values, out = [], [], []
    for part in x[: sum(parts)].split(parts):
        done = sum(map(len, keys))
        at = [done + t for t in range(len(part))]
        q = rotate(part @ wq, at)
        keys.append(rotate(part @ wk, at))
        values.append(part @ wv)
        k, v = torch.cat(keys), torch.cat(values)
        scores = q @ k.T / wq.shape[1] ** 0.5
        scores[torch.ones_like(scores).triu(done + 1) > 0] = -torch.inf
        out.append(torch.softmax(scores, 1) @ v)
    return torch.cat(out)


@exercise.right
def keys_kept_unturned(x, wq, wk, wv, parts):
    """The cache holds the keys as they are, and turns all of them for each part."""
    plain, values, out = [], [], []
    start = 0
    for n in parts:
        part = x[start : start + n]
        plain, values = [*plain, part @ wk], [*values, part @ wv]
        keys = rotate(torch.cat(plain), range(start + n))
        q = rotate(part @ wq, range(start, start + n))
        scores = q @ keys.T / math.sqrt(wq.shape[1])
        hidden = torch.full_like(scores, -math.inf).triu(start + 1)
        out.append((scores + hidden).softmax(-1) @ torch.cat(values))
        start += n
    return torch.vstack(out)


# --- repairs that mend nothing, or break something else --------------------------------


def variant(anchor, name, text, of=None, **changed):
    """A wrong answer that is the code of the exercise with a part replaced."""

    def answer(x, wq, wk, wv, parts):
        return reading(x, wq, wk, wv, parts, **changed)

    answer.__name__, answer.__doc__ = name, text
    (exercise.also(of) if of else exercise.wrong(anchor))(answer)
    return answer


not_turned = variant(
    "how-it-breaks",
    "not_turned",
    """Nothing is turned any more. Now it is all the same how a text is cut, because the model no longer
    knows any positions: it reads a bag of tokens.

    Read the tokens of a first part in another order. Does the last row change? It should.
    """,
    q_at=lambda start, n, i: torch.zeros(n),
)
one_side_turned = variant(
    "how-it-breaks",
    "one_side_turned",
    """Only queries or only keys are turned. A score then depends on where one of the two stands, and no longer on
    the distance between them.

    Add 7 to all positions: which scores may change?
    """,
    k_at=lambda start, n, i: torch.zeros(n),
)
variant(
    "",
    "the_other_side_turned",
    None,
    of=one_side_turned,
    q_at=lambda start, n, i: torch.zeros(n),
    k_at=same,
)
its_own_length = variant(
    "how-it-breaks",
    "its_own_length",
    """The positions of a part begin at a number that comes from this part alone, such as its length. They begin
    at the number of tokens that were read before it.

    The parts are 3, 2 and 4 tokens long. At which position does the third begin?
    """,
    q_at=lambda start, n, i: torch.arange(n) + n,
)
only_the_queries = variant(
    "how-it-breaks",
    "only_the_queries",
    """The queries stand where they are, and the keys of each part still begin at 0. A query of the second
    part takes its own neighbors for tokens that are far away.

    Turning by position is done to both. At which positions do the keys stand?
    """,
    k_at=own,
)
only_the_keys = variant(
    "how-it-breaks",
    "only_the_keys",
    """The keys stand where they are, and the queries of each part still begin at 0: they look at keys
    that seem to lie ahead of them.

    The distance of a token to itself is 0. Which two positions must be the same for that?
    """,
    q_at=own,
    k_at=same,
)
parts_counted = variant(
    "how-it-breaks",
    "parts_counted",
    """The positions of a part begin at the number of *parts* before it. They begin at the number of tokens
    before it. With one token a part the two are the same.

    The parts are 3, 2 and 4 tokens long. At which position does the third begin?
    """,
    q_at=lambda start, n, i: torch.arange(n) + i,
)
one_position_for_a_part = variant(
    "how-it-breaks",
    "one_position_for_a_part",
    """All tokens of a part are turned by the same position. With one token a part that is right, and a
    longer part has no order inside.

    The second part has 3 tokens and begins at 2. Which positions are they?
    """,
    q_at=lambda start, n, i: torch.full((n,), start),
)
variant(
    "",
    "the_last_position_for_a_part",
    None,
    of=one_position_for_a_part,
    q_at=lambda start, n, i: torch.full((n,), start + n - 1),
)
starts_too_late = variant(
    "how-it-breaks",
    "starts_too_late",
    """The positions of a part begin where the part *ends*: `start` has been moved on before it was used.
    The first part then begins at its own length, and the second too far away from it.

    Two parts of 2 and 1 tokens: the positions must follow each other. Which ones do you get?
    """,
    q_at=lambda start, n, i: torch.arange(n) + start + n,
)
a_gap = variant(
    "how-it-breaks",
    "a_gap",
    """Between two parts a position is left out, or one is used twice. The first token of a part follows
    right after the last one of the part before.

    Write down the positions of two parts of 2 tokens each. They should be 0, 1, 2, 3.
    """,
    q_at=lambda start, n, i: torch.arange(n) + start + i,
)
variant(
    "",
    "one_used_twice",
    None,
    of=a_gap,
    q_at=lambda start, n, i: torch.arange(n) + start - i,
)
backward = variant(
    "how-it-breaks",
    "backward",
    """The positions run backward. A query then takes what came before it for what comes after.

    Position 0 is the first token of the text. Which has the last one?
    """,
    q_at=lambda start, n, i: -torch.arange(start, start + n),
)
variant(
    "",
    "backward_inside_a_part",
    None,
    of=backward,
    q_at=lambda start, n, i: torch.arange(start, start + n).flip(0),
)
turned_again = variant(
    "how-it-breaks",
    "turned_again",
    """Keys that are in the cache already are turned again with each new part. A kept key is turned once;
    turning it twice puts it at another position.

    Either keep turned keys and leave them, or keep plain ones and turn them all each time. Which
    do you do?
    """,
    again="only then",
)
variant("", "turned_at_once_and_again", None, of=turned_again, again="too")
values_turned_too = variant(
    "how-it-breaks",
    "values_turned_too",
    """The values are turned too. Only queries and keys are: positions are to change who is looked at, and
    not what is read there.

    Which two of q, k and v meet in a score?
    """,
    turns_values=True,
)
cache_emptied = variant(
    "the-module",
    "cache_emptied",
    """A part sees only itself: what was read before it is no longer in the cache.

    How many keys does the first token of the second part look at?
    """,
    keeps=False,
)
one_token_seen = variant(
    "how-it-breaks",
    "one_token_seen",
    """The positions may be right, and the mask is not any more: it is cut from the wrong corner, so the
    first token of a later part sees the very first token only.

    Row 0 of the part stands at position `start`. How many keys may it see?
    """,
    mask=lambda n, S: torch.ones(n, S, dtype=torch.bool).tril(),
)
all_seen = variant(
    "how-it-breaks",
    "all_seen",
    """The mask is gone, or it hides too little: a token sees later ones of its own part.

    The part was there before its last token was read. Which keys may its first token see?
    """,
    mask=lambda n, S: torch.ones(n, S, dtype=torch.bool),
)
variant(
    "",
    "one_ahead_seen",
    None,
    of=all_seen,
    mask=lambda n, S: torch.ones(n, S, dtype=torch.bool).tril(S - n + 1),
)


@exercise.wrong("how-it-breaks")
def mask_and_positions_from_the_corner(x, wq, wk, wv, parts):
    """Both the positions and the mask begin anew with each part. A part of one token sees one key, and
    that key is the first of the text.

    The mask was right in the code that you were given. Undo what you did to it.
    """
    return reading(
        x,
        wq,
        wk,
        wv,
        parts,
        q_at=own,
        mask=lambda n, S: torch.ones(n, S, dtype=torch.bool).tril(),
    )


@exercise.caught_as("wrong-shape")
def the_last_part_only(x, wq, wk, wv, parts):
    return read_in_parts(x, wq, wk, wv, parts)[-parts[-1] :]


@exercise.caught_as("wrong-shape")
def one_part_missing(x, wq, wk, wv, parts):
    y = read_in_parts(x, wq, wk, wv, parts)
    return y[: parts[0]]


@exercise.caught_as("wrong-type")
def a_list_of_parts(x, wq, wk, wv, parts):
    return list(read_in_parts(x, wq, wk, wv, parts).split(parts))


@exercise.caught_as("wrong-dtype")
def always_float32(x, wq, wk, wv, parts):
    return read_in_parts(x, wq, wk, wv, parts).float()


@exercise.caught_as("modified-input")
def pops_the_parts(x, wq, wk, wv, parts):
    y = read_in_parts(x, wq, wk, wv, parts)
    while parts:
        parts.pop()
    return y


@exercise.caught_as("raised")
def all_positions_at_once(x, wq, wk, wv, parts):
    return reading(
        x, wq, wk, wv, parts, q_at=lambda start, n, i: torch.arange(start + n)
    )
