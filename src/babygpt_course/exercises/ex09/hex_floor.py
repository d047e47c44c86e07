"""09.5: what a model can reach that knows nothing but the place of a digit in its number."""

import math
import random
from collections import Counter

from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="09_babygpt",
    id="09.5",
    title="The floor of a hex dump",
    kind="stretch",
    points=3,
    minutes=10,
    anchor="how-it-breaks",
    hints="""
    Write the numbers of the file below each other, one in a row. What stands in one column, and
    what is the best that can be said about a digit if only its column is known?

    In column p: each digit has a share q, its count over the number of digits in that column.
    One digit of it costs -ln q. Added up over all digits of the text, and divided by how many
    there are.

    `digits[p::period]` is column p. Count its digits; each digit d that occurs n times adds
    -n ln(n / length of the column) to a total. At the end the total over len(digits). An
    empty column adds nothing.
    """,
)


@exercise.oracle
def position_floor(digits, period):
    total = 0.0
    for i, digit in enumerate(digits):
        column = [d for j, d in enumerate(digits) if j % period == i % period]
        same = sum(1 for d in column if d == digit)
        total += math.log(len(column) / same)
    return total / len(digits)


def random_case(n, period, seed, kinds=6):
    """A text whose columns use more and more of the digits."""
    numbers = random.Random(seed)
    alphabet = "0123456789abcdef"
    digits = [
        numbers.choice(alphabet[: 1 + (i % period) * kinds // max(period, 1)] + "f")
        for i in range(n)
    ]
    return "".join(digits), period


@exercise.cases
def cases():
    yield Case(("0a0b", 2))
    yield Case(("0a0b", 1))
    yield Case(("0a0b0", 2), "the last number is cut off")
    yield Case(("aaab", 1))
    yield Case(("7777", 2))
    yield Case(("0f1f2f3f", 2))
    yield Case(("01230123", 4))
    yield Case(("01230123", 3), "another period")
    yield Case(("3c", 8), "shorter than one number")
    yield Case(("0000003f0000803f000000bf", 8))
    yield Case(("0a1b2c3d4e", 2))
    yield Case(("aabbccab", 4))
    yield Case(("abacabadabacab", 4), "the last number is cut off")
    yield Case(("f" * 9 + "0", 1))
    yield Case(("ab" * 20 + "ba" * 15, 2))
    for seed, (n, period) in enumerate([(40, 8), (61, 4), (93, 8), (75, 6)]):
        yield Case(random_case(n, period, seed))


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def columns_by_slices(digits, period):
    total = 0.0
    for p in range(period):
        column = digits[p::period]
        for n in Counter(column).values():
            total -= n * math.log(n / len(column))
    return total / len(digits)


@exercise.right
def entropies_weighted_by_length(digits, period):
    columns = [digits[p::period] for p in range(min(period, len(digits)))]
    return sum(len(c) / len(digits) * entropy(c) for c in columns)


@exercise.right
def log_probability_of_each_digit(digits, period):
    counts, sizes = Counter(), Counter()
    for i, digit in enumerate(digits):
        counts[i % period, digit] += 1
        sizes[i % period] += 1
    costs = [
        -math.log(counts[i % period, digit] / sizes[i % period])
        for i, digit in enumerate(digits)
    ]
    return sum(costs) / len(costs)


@exercise.right
def with_tensors(digits, period):
    import torch

    ids = torch.tensor([int(d, 16) for d in digits])
    table = torch.zeros(period, 16, dtype=torch.float64)
    at = torch.arange(len(ids)) % period
    table.index_put_((at, ids), torch.ones(len(ids), dtype=torch.float64), True)
    probs = table / table.sum(1, keepdim=True)
    return -probs[at, ids].log().mean()


# --- wrong, each with the misconception behind it -------------------------------------


def entropy(symbols):
    counts = Counter(symbols).values()
    n = sum(counts)
    return -sum(c / n * math.log(c / n) for c in counts)


def columns_of(digits, period):
    return [c for c in (digits[p::period] for p in range(period)) if c]


@exercise.wrong("how-it-breaks")
def place_ignored(digits, period):
    """This is the entropy of all digits together: `period` has no effect. A model that knows the
    place of a digit can do better.

    Each place in a number has its own digits. How many tables of counts should there be?
    """
    return entropy(digits)


@exercise.wrong("how-it-breaks")
def bits_instead_of_nats(digits, period):
    """This is in bits. The losses of the course, and of the page that is examined, are in nats.

    Which logarithm gives nats, and which one bits?
    """
    return position_floor(digits, period) / math.log(2)


@exercise.wrong("how-it-breaks")
def in_units_of_a_digit(digits, period):
    """The logarithm has the base 16, so that an even digit costs 1. Asked for are nats.

    Which base has the natural logarithm?
    """
    return position_floor(digits, period) / math.log(16)


@exercise.wrong("how-it-breaks")
def columns_count_the_same(digits, period):
    """The columns are averaged as if they were equally long. When the text ends inside a number,
    the first columns have a digit more, and a mean over digits lets them count more.

    The loss of a model is a mean over all digits. How many does each column hold?
    """
    columns = columns_of(digits, period)
    return sum(map(entropy, columns)) / len(columns)


@exercise.also(columns_count_the_same)
def divided_by_the_period(digits, period):
    return sum(map(entropy, columns_of(digits, period))) / period


@exercise.wrong("how-it-breaks")
def added_up_over_a_number(digits, period):
    """The entropies of the columns are added up: that is the cost of a whole number. Asked for is
    the mean cost of one digit.

    How many digits share this sum?
    """
    return sum(map(entropy, columns_of(digits, period)))


@exercise.also(added_up_over_a_number)
def added_up_over_the_text(digits, period):
    return position_floor(digits, period) * len(digits)


@exercise.wrong("how-it-breaks")
def rows_instead_of_columns(digits, period):
    """The digits are grouped by number, a row each; they should be grouped by their place in the
    number, a column each.

    The digits 0, period, 2 period and so on belong together. Which slice takes them?
    """
    rows = [digits[i : i + period] for i in range(0, len(digits), period)]
    return sum(len(row) * entropy(row) for row in rows) / len(digits)


@exercise.wrong("how-it-breaks")
def text_cut_into_stretches(digits, period):
    """The text is cut into `period` long stretches; a column takes every period-th digit.

    Digits 0 and `period` stand in the same place of two numbers. Are they together in
    yours?
    """
    n = math.ceil(len(digits) / period)
    parts = [digits[i : i + n] for i in range(0, len(digits), n)]
    return sum(len(part) * entropy(part) for part in parts) / len(digits)


@exercise.wrong("how-it-breaks")
def eight_whatever_is_asked(digits, period):
    """The period is a constant in your code. A float32 number has 8 hex digits, and other files
    have other numbers.

    Where does your code use `period`?
    """
    return position_floor(digits, 8)


@exercise.also(eight_whatever_is_asked)
def two_whatever_is_asked(digits, period):
    return position_floor(digits, 2)


@exercise.also(eight_whatever_is_asked)
def four_whatever_is_asked(digits, period):
    return position_floor(digits, 4)


@exercise.wrong("how-it-breaks")
def bytes_instead_of_digits(digits, period):
    """The digits are taken in twos, as bytes. The model that is examined reads one digit at a time.

    A column holds single digits. How many kinds can there be in it?
    """
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    columns = columns_of(pairs, max(period // 2, 1))
    return sum(len(c) * entropy(c) for c in columns) / len(pairs)


@exercise.also(bytes_instead_of_digits)
def bytes_per_digit(digits, period):
    return bytes_instead_of_digits(digits, period) / 2


@exercise.wrong("how-it-breaks")
def logarithm_of_the_kinds(digits, period):
    """Each column counts with the logarithm of how many kinds of digits it has. That is right only
    if they are equally frequent.

    A digit that is nearly always the same is cheap to guess. What must be counted besides the
    kinds?
    """
    columns = columns_of(digits, period)
    return sum(len(c) * math.log(len(set(c))) for c in columns) / len(digits)


@exercise.also(logarithm_of_the_kinds)
def sixteen_kinds_everywhere(digits, period):
    return math.log(16)


@exercise.wrong("how-it-breaks")
def likeliest_digit_alone(digits, period):
    """Each column counts with the cost of its likeliest digit. The loss is a mean over the digits
    that are there, and the rare ones cost more.

    If a column holds a, a, a, b: how much does the b cost?
    """
    columns = columns_of(digits, period)
    return sum(
        -len(c) * math.log(max(Counter(c).values()) / len(c)) for c in columns
    ) / len(digits)


@exercise.wrong("how-it-breaks")
def kinds_count_the_same(digits, period):
    """In each column the costs of the kinds are averaged as if all were equally frequent. A digit
    that occurs three times as often counts three times.

    The entropy is a mean over digits, not over kinds. With which weight does each kind count?
    """

    def cost(column):
        counts = Counter(column).values()
        return sum(math.log(len(column) / n) for n in counts) / len(counts)

    columns = columns_of(digits, period)
    return sum(len(c) * cost(c) for c in columns) / len(digits)


@exercise.wrong("how-it-breaks")
def share_of_the_whole_text(digits, period):
    """The digits are counted by column, and their shares are taken of the whole text. So a share
    also says how likely the column is, which the model knows already.

    The shares of one column should add up to 1. By what do you divide?
    """
    n = len(digits)
    return (
        sum(
            -k * math.log(k / n)
            for c in columns_of(digits, period)
            for k in Counter(c).values()
        )
        / n
    )


@exercise.wrong("how-it-breaks")
def sign_forgotten(digits, period):
    """The sign is wrong: a cost is never below 0.

    The logarithm of a share is negative. What does the formula put in front of it?
    """
    return -position_floor(digits, period)


@exercise.wrong("how-it-breaks")
def digit_before_it_instead_of_its_place(digits, period):
    """This knows the digit before, not the place. That is another model, the bigram of chapter 1.

    What is asked for is the best that can be said when only the place in the number is known.
    What do you group by?
    """
    groups = {}
    for i, digit in enumerate(digits):
        groups.setdefault(digits[i - 1] if i else "", []).append(digit)
    return sum(len(g) * entropy(g) for g in groups.values()) / len(digits)


@exercise.wrong("how-it-breaks")
def cut_off_number_dropped(digits, period):
    """The last number is left out when the text ends in the middle of it. Its digits have a place
    too, and they count.

    A text that is shorter than one number would have no digit at all. What is `digits[p::period]`
    there?
    """
    whole = digits[: len(digits) // period * period]
    return position_floor(whole, period) if whole else float("nan")


@exercise.also(cut_off_number_dropped)
def cut_off_number_dropped_or_zero(digits, period):
    whole = digits[: len(digits) // period * period]
    return position_floor(whole, period) if whole else 0.0


@exercise.caught_as("wrong-type")
def one_number_a_column(digits, period):
    return [entropy(digits[p::period]) for p in range(period)]


@exercise.caught_as("returned-none")
def printed_not_returned(digits, period):
    print(position_floor(digits, period))


@exercise.caught_as("raised")
def empty_columns_divide_by_zero(digits, period):
    columns = [digits[p::period] for p in range(period)]
    return sum(entropy(c) / len(c) * len(c) ** 2 for c in columns) / len(digits)


@exercise.caught_as("wrong-arguments")
def no_period_at_all(digits):
    return entropy(digits)
