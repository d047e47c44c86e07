"""12.5: which parts of a model a reduction in parameters comes from."""

import math

from babygpt_course.exercises.ex12.models import Model
from babygpt_course.exercises.exercise import Case, Exercise

exercise = Exercise(
    chapter="12_lora",
    id="12.5",
    title="Half the parameters, but of what?",
    kind="stretch",
    points=3,
    minutes=11,
    anchor="look-inside",
    equivalent={
        "lost[part] -= sign * p.numel()": "Every difference and their sum change their "
        "sign, and the shares do not."
    },
    hints="""
    Which parameters has the smaller model lost? Some matrices are smaller than before, and some
    are not there any more at all. Does your list have both?

    Count the numbers of each part in both models by themselves. The difference of the two counts is
    what the part has lost, and 100 times that by the difference of the whole models is its share.

    count(model): a dict that begins with 0 for each of [*parts, "rest"]; for name, p in
    model.named_parameters(): the pieces are name.split("."), the part is the first one of `parts`
    among them, else "rest"; add p.numel(). Then round(100 * (b - a) / (all b - all a), 1) for each.
    """,
)


@exercise.oracle
def attribute(before, after, parts):
    def numbers(model):
        seen, found = [], dict.fromkeys([*parts, "rest"], 0)
        for name, p in model.named_parameters(remove_duplicate=False):
            if any(p is other for other in seen):
                continue
            seen.append(p)
            size = 1
            for n in p.shape:
                size *= n
            home = "rest"
            for part in reversed(parts):
                if part in name.split("."):
                    home = part
            found[home] += size
        return found

    b, a = numbers(before), numbers(after)
    lost = {part: b[part] - a[part] for part in b}
    return {part: round(100 * n / sum(lost.values()), 1) for part, n in lost.items()}


@exercise.cases
def cases():
    big, small = Model({"head.weight": (5, 2)}), Model({"head.weight": (3, 2)})
    yield Case((big, small, ["head"]))
    yield Case((big, Model({"head.weight": (2, 1), "new": (3,)}), ["head"]), "grown")
    yield Case((big, Model({"embed.weight": (2, 3)}), ["head", "embed"]), "a part gone")
    big = Model(
        {"a.attn.w": (6, 2), "a.mlp.w": (8, 2), "head.w": (9, 2), "norm.b": (4,)}
    )
    small = Model({"a.attn.w": (1, 2), "a.mlp.w": (6, 2), "norm.b": (3,)})
    yield Case((big, small, ["attn", "mlp", "head"]))
    yield Case((big, small, ["mlp"]), "much of it the rest")
    yield Case((big, small, ["none", "head", "attn"]), "a part that is not there")
    big = Model({"embed.w": (7, 3), "mlp.w": (3, 5)}, tied={"head.w": "embed.w"})
    small = Model({"embed.w": (7, 2), "mlp.w": (2, 2)}, tied={"head.w": "embed.w"})
    yield Case((big, small, ["head", "mlp", "embed"]), "tied")
    big = Model({"a.attn.w": (3, 4), "head.w": (5, 4)}, buffers={"a.attn.mask": (9, 9)})
    small = Model(
        {"a.attn.w": (3, 1), "head.w": (5, 3)}, buffers={"a.attn.mask": (2, 2)}
    )
    yield Case((big, small, ["attn", "head"]), "with a buffer")
    big = Model({"a.heads.w": (4, 5), "head.w": (7, 3), "overhead": (2, 2)})
    small = Model({"a.heads.w": (2, 3), "head.w": (5, 3), "overhead": (1,)})
    yield Case((big, small, ["head", "heads"]), "alike names")
    big = Model({"attn.head.w": (6, 4), "head.w": (2, 8), "scale": ()})
    small = Model({"attn.head.w": (2, 5), "head.w": (1, 2)})
    yield Case((big, small, ["head", "attn"]), "two parts in a name")
    yield Case((big, small, ["attn", "head"]), "two parts in a name")
    code = {"embed.w": (50, 8), "pos.w": (16, 8), "head.w": (50, 8), "head.b": (50,)}
    big = {
        f"blocks.{i}.{k}": v
        for i in range(2)
        for k, v in {"attn.w": (32, 8), "mlp.up": (32, 8), "mlp.down": (8, 32)}.items()
    }
    small = {
        f"blocks.{i}.{k}": v
        for i in range(3)
        for k, v in {"attn.w": (8, 8), "mlp.up": (24, 8), "mlp.down": (8, 24)}.items()
    }
    args = Model(code | big), Model({"embed.w": (50, 8)} | small)
    yield Case((*args, ["head", "attn", "mlp", "pos"]), "another depth")


# --- correct in other ways ------------------------------------------------------------


def part_of(name, parts):
    return next((part for part in parts if part in name.split(".")), "rest")


def counted(model, parts, part=part_of, size=lambda p: p.numel(), named=None):
    """Numbers by part, of which one thing at a time is counted otherwise."""
    found = dict.fromkeys([*parts, "rest"], 0)
    for name, p in model.named_parameters() if named is None else named(model):
        home = part(name, parts)
        found[home] = found.get(home, 0) + size(p)
    return found


def shares(before, after, parts, of=None, rounded=lambda x: round(x, 1), **how):
    """The answer, with what the difference is divided by, and how it is counted."""
    b, a = counted(before, parts, **how), counted(after, parts, **how)
    whole = (sum(b.values()) - sum(a.values())) if of is None else of(b, a)
    return {part: rounded(100 * (b[part] - a[part]) / whole) for part in b}


@exercise.right
def both_counted(before, after, parts):
    return shares(before, after, parts)


@exercise.right
def one_sum_with_signs(before, after, parts):
    lost = {part: 0 for part in parts}
    lost["rest"] = 0
    for sign, model in ((1, before), (-1, after)):
        for name, p in model.named_parameters():
            pieces = set(name.split("."))
            inside = [part for part in parts if part in pieces]
            lost[inside[0] if inside else "rest"] += sign * math.prod(p.shape)
    total = sum(p.numel() for p in before.parameters())
    total -= sum(p.numel() for p in after.parameters())
    return {part: round(n / total * 100, 1) for part, n in lost.items()}


@exercise.right
def ties_by_hand(before, after, parts):
    def once(model):
        return {
            id(p): (name, p)
            for name, p in reversed(
                list(model.named_parameters(remove_duplicate=False))
            )
        }.values()

    return shares(before, after, parts, named=once)


@exercise.right
def from_the_smaller_to_the_larger(before, after, parts):
    return {k: v + 0.0 for k, v in shares(after, before, parts).items()}


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("look-inside")
def only_names_in_both(before, after, parts):
    """Only parameters that are in both models are compared. Those that are gone altogether, such as
    a deleted head, are never looked at, and they may be most of it.

    Which names has `before` that `after` has not? And the other way around?
    """
    both = (
        dict(before.named_parameters()).keys() & dict(after.named_parameters()).keys()
    )

    def named(model):
        return [(n, p) for n, p in model.named_parameters() if n in both]

    return shares(before, after, parts, named=named)


@exercise.also(only_names_in_both)
def only_names_in_both_of_all_that_is_lost(before, after, parts):
    both = (
        dict(before.named_parameters()).keys() & dict(after.named_parameters()).keys()
    )
    total = sum(counted(before, parts).values()) - sum(counted(after, parts).values())

    def named(model):
        return [(n, p) for n, p in model.named_parameters() if n in both]

    return shares(before, after, parts, named=named, of=lambda b, a: total)


@exercise.wrong("look-inside")
def only_what_was_there_before(before, after, parts):
    """Parameters that only the smaller model has are left out. They take back a part of what was
    saved.

    Which names has `after` that `before` has not? Are they in a sum of yours?
    """
    names = dict(before.named_parameters())

    def named(model):
        return [(n, p) for n, p in model.named_parameters() if n in names]

    return shares(before, after, parts, named=named)


@exercise.wrong("look-inside")
def only_what_is_left(before, after, parts):
    """The names are those of the smaller model alone. What was deleted is not among them, and it may
    be most of what is gone.

    Which names has `before` that `after` has not?
    """
    names = dict(after.named_parameters())

    def named(model):
        return [(n, p) for n, p in model.named_parameters() if n in names]

    return shares(before, after, parts, named=named)


@exercise.wrong("look-inside")
def state_dict_counted(before, after, parts):
    """A `state_dict` is counted. It holds buffers, such as a mask, which are no parameters, and a tied
    weight under each of its names.

    What does `named_parameters()` list, and how often does it list a tied weight?
    """
    return shares(before, after, parts, named=lambda model: model.state_dict().items())


@exercise.also(state_dict_counted)
def state_dict_counted_by_the_names_before(before, after, parts):
    names = before.state_dict()

    def named(model):
        return [(n, p) for n, p in model.state_dict().items() if n in names]

    return shares(before, after, parts, named=named)


@exercise.wrong("look-inside")
def tied_counted_twice(before, after, parts):
    """A weight that two layers share is counted for both. It is in memory once.

    `named_parameters()` lists it once, under the first of its names. What lists it twice in your
    function?
    """
    return shares(
        before,
        after,
        parts,
        named=lambda model: model.named_parameters(remove_duplicate=False),
    )


@exercise.wrong("look-inside")
def shares_of_the_larger_model(before, after, parts):
    """These are shares of all that the larger model has. Asked for are shares of what is *gone*: together
    they make 100.

    Add up what you return. By what would you have to divide to get 100?
    """
    return shares(before, after, parts, of=lambda b, a: sum(b.values()))


@exercise.wrong("look-inside")
def shares_of_the_smaller_model(before, after, parts):
    """The differences are divided by the size of the smaller model. Asked for are shares of what is
    *gone*: together they make 100.

    Add up what you return. By what would you have to divide to get 100?
    """
    return shares(before, after, parts, of=lambda b, a: sum(a.values()))


@exercise.wrong("look-inside")
def share_of_the_part_itself(before, after, parts):
    """These numbers say how much smaller each part has become. A small part may be halved and hardly
    matter for the whole.

    The question is which part the missing parameters were in. Of what must it be a share?
    """
    b, a = counted(before, parts), counted(after, parts)
    return {k: round(100 * (b[k] - a[k]) / b[k], 1) if b[k] else 0.0 for k in b}


@exercise.wrong("look-inside")
def shares_of_what_was_there(before, after, parts):
    """These are the shares that the parts have in the larger model, and the smaller one is never
    looked at.

    A large part may be as large as before. How much of it is gone?
    """
    b = counted(before, parts)
    return {k: round(100 * b[k] / sum(b.values()), 1) for k in b}


@exercise.wrong("look-inside")
def matrices_counted(before, after, parts):
    """Tensors are counted, and not the numbers in them. A matrix that has become smaller is still one.

    How many parameters has a weight of shape (5, 2)?
    """
    return shares(
        before,
        after,
        parts,
        size=lambda p: 1,
    )


@exercise.wrong("look-inside")
def rows_counted(before, after, parts):
    """Only the first side of each shape is counted. A matrix holds the product of its sides.

    How many parameters has a weight of shape (5, 2)?
    """
    return shares(
        before,
        after,
        parts,
        size=lambda p: len(p) if p.ndim else 1,
    )


@exercise.wrong("look-inside")
def part_of_a_piece(before, after, parts):
    """ "head" is found in "heads" and in "overhead" too: the part is looked for in the name as a text.
    A part is one whole piece between the dots.

    Which pieces has "a.heads.w"? Is "head" one of them?
    """

    def inside(name, parts):
        return next((part for part in parts if part in name), "rest")

    return shares(before, after, parts, part=inside)


@exercise.wrong("look-inside")
def first_piece_only(before, after, parts):
    """Only the first piece of a name is looked at. In a real model that is "blocks" for nearly all of
    them.

    Which pieces has "blocks.0.mlp.up"? At which of them does the part stand?
    """

    def first(name, parts):
        return name.split(".")[0] if name.split(".")[0] in parts else "rest"

    return shares(before, after, parts, part=first)


@exercise.wrong("look-inside")
def order_of_the_name(before, after, parts):
    """When two parts are in one name, the one that comes first in the *name* is taken. The task asks
    for the one that comes first in `parts`.

    "attn.head.w" with the parts ["head", "attn"]: which of the two comes first in the list?
    """

    def first(name, parts):
        return next((piece for piece in name.split(".") if piece in parts), "rest")

    return shares(before, after, parts, part=first)


@exercise.also(order_of_the_name)
def last_of_the_parts(before, after, parts):
    return shares(before, after, parts, part=lambda n, p: part_of(n, p[::-1]))


@exercise.wrong("look-inside")
def counted_for_each_part(before, after, parts):
    """A parameter whose name has two of the parts is counted for both. Then the shares add up to more
    than 100.

    To how many parts should each parameter belong?
    """

    def count(model):
        found = dict.fromkeys([*parts, "rest"], 0)
        for name, p in model.named_parameters():
            homes = [part for part in parts if part in name.split(".")] or ["rest"]
            for home in homes:
                found[home] += p.numel()
        return found

    b, a = count(before), count(after)
    whole = sum(p.numel() for p in before.parameters())
    whole -= sum(p.numel() for p in after.parameters())
    return {k: round(100 * (b[k] - a[k]) / whole, 1) for k in b}


@exercise.also(counted_for_each_part)
def counted_for_each_part_and_divided_by_their_sum(before, after, parts):
    made = counted_for_each_part(before, after, parts)
    whole = sum(p.numel() for p in before.parameters())
    whole -= sum(p.numel() for p in after.parameters())

    def count(model, part):
        return sum(
            p.numel() for n, p in model.named_parameters() if part in n.split(".")
        )

    lost = {k: count(before, k) - count(after, k) for k in parts}
    lost["rest"] = round(made["rest"] * whole / 100)
    return {k: round(100 * n / sum(lost.values()), 1) for k, n in lost.items()}


@exercise.wrong("look-inside")
def rest_left_out(before, after, parts):
    """What belongs to none of the parts is missing. Without it the shares do not add up to 100, and
    nobody sees what was overlooked.

    Which key does the task ask for besides those in `parts`?
    """
    made = shares(before, after, parts)
    return {k: v for k, v in made.items() if k != "rest"}


@exercise.wrong("look-inside")
def rest_of_one_hundred(before, after, parts):
    """The rest is what the rounded percentages leave of 100. It gets all their rounding errors, and it would hide a part
    that was counted wrongly.

    How many parameters does the rest itself have in both models? Round that share like the others.
    """
    made = shares(before, after, parts)
    named = sum(made[part] for part in parts)
    return {**made, "rest": round(100 - named, 1)}


@exercise.also(rest_of_one_hundred)
def rest_of_one_hundred_with_pieces_as_text(before, after, parts):
    def lost(part):
        b, a = (
            sum(p.numel() for n, p in model.named_parameters() if part in n)
            for model in (before, after)
        )
        return b - a

    whole = sum(p.numel() for p in before.parameters())
    whole -= sum(p.numel() for p in after.parameters())
    made = {part: round(100 * lost(part) / whole, 1) for part in parts}
    return {**made, "rest": round(100 - sum(made.values()), 1)}


@exercise.also(rest_of_one_hundred)
def rest_of_one_hundred_with_parts_that_overlap(before, after, parts):
    def lost(part):
        b, a = (
            sum(p.numel() for n, p in model.named_parameters() if part in n.split("."))
            for model in (before, after)
        )
        return b - a

    whole = sum(p.numel() for p in before.parameters())
    whole -= sum(p.numel() for p in after.parameters())
    made = {part: round(100 * lost(part) / whole, 1) for part in parts}
    return {**made, "rest": round(100 - sum(made.values()), 1)}


@exercise.wrong("look-inside")
def parts_not_found_left_out(before, after, parts):
    """Parts that no parameter belongs to are missing from the dict. Their share is 0.0, and whoever asked for them wants
    to read that.

    Which keys must the dict have, whatever is in the models?
    """

    def found(model):
        return {part_of(name, parts) for name, _ in model.named_parameters()}

    made = shares(before, after, parts)
    return {k: v for k, v in made.items() if k in found(before) | found(after)}


@exercise.wrong("look-inside")
def rounded_too_early(before, after, parts):
    """Each parameter's share is rounded before the shares of a part are added up, so the rounding errors are added up as
    well.

    Add up whole numbers of parameters. When is the one moment to round?
    """
    whole = sum(p.numel() for p in before.parameters())
    whole -= sum(p.numel() for p in after.parameters())
    made = dict.fromkeys([*parts, "rest"], 0.0)
    for sign, model in ((1, before), (-1, after)):
        for name, p in model.named_parameters():
            made[part_of(name, parts)] += round(100 * sign * p.numel() / whole, 1)
    return made


@exercise.also(rounded_too_early)
def rounded_early_and_late(before, after, parts):
    return {k: round(v, 1) for k, v in rounded_too_early(before, after, parts).items()}


@exercise.wrong("look-inside")
def rest_left_out_of_the_sum(before, after, parts):
    """The rest does not count in the whole: the shares of the named parts alone make 100.

    The whole is all that the larger model has more than the smaller one. Is the rest in your sum?
    """
    return shares(
        before,
        after,
        parts,
        of=lambda b, a: sum(b[k] - a[k] for k in parts),
    )


@exercise.wrong("look-inside")
def growth_hidden(before, after, parts):
    """A part that has *grown* is counted as if nothing had happened. Its share is negative: it gave
    back some of what others saved.

    What do your shares add up to when one part grows?
    """
    made = shares(before, after, parts)
    return {k: max(v, 0.0) for k, v in made.items()}


@exercise.also(growth_hidden)
def growth_hidden_in_the_sum_too(before, after, parts):
    b, a = counted(before, parts), counted(after, parts)
    lost = {k: max(b[k] - a[k], 0) for k in b}
    return {k: round(100 * n / sum(lost.values()), 1) for k, n in lost.items()}


@exercise.wrong("look-inside")
def growth_taken_for_loss(before, after, parts):
    """A part that has *grown* is counted as if it had shrunk. Its share is negative: it gave back some
    of what others saved.

    Which of the two counts is the larger one there? Is an `abs` in the way?
    """
    made = shares(before, after, parts)
    return {k: abs(v) for k, v in made.items()}


@exercise.also(growth_taken_for_loss)
def growth_taken_for_loss_in_the_sum_too(before, after, parts):
    b, a = counted(before, parts), counted(after, parts)
    lost = {k: abs(b[k] - a[k]) for k in b}
    return {k: round(100 * n / sum(lost.values()), 1) for k, n in lost.items()}


@exercise.wrong("look-inside")
def turned_around(before, after, parts):
    """The signs are turned around: what is lost is negative here.

    `before` is the larger model. Which of the two counts is taken from which, above the line and below
    it?
    """
    return {k: -v for k, v in shares(before, after, parts).items()}


@exercise.wrong("look-inside")
def fractions(before, after, parts):
    """These are shares between 0 and 1. Asked for is percent.

    By how much do you multiply a share to get percent?
    """
    return shares(before, after, parts, rounded=lambda x: round(x / 100, 1))


@exercise.also(fractions)
def fractions_not_rounded(before, after, parts):
    return shares(before, after, parts, rounded=lambda x: x / 100)


@exercise.also(fractions)
def fractions_of_three_digits(before, after, parts):
    return shares(before, after, parts, rounded=lambda x: round(x / 100, 3))


@exercise.wrong("look-inside")
def not_rounded(before, after, parts):
    """The shares are right, and they are not rounded to one decimal.

    `round(x, 1)` does it. On which line do you return the numbers?
    """
    return shares(before, after, parts, rounded=lambda x: x)


@exercise.wrong("look-inside")
def rounded_too_much(before, after, parts):
    """The shares are rounded to whole percents, or to another number of decimals. Asked for is one
    decimal.

    What is the second argument of `round`?
    """
    return shares(before, after, parts, rounded=lambda x: float(round(x)))


@exercise.also(rounded_too_much)
def two_decimals(before, after, parts):
    return shares(before, after, parts, rounded=lambda x: round(x, 2))


@exercise.wrong("look-inside")
def numbers_lost(before, after, parts):
    """That is how many parameters each part has lost. Asked for is which percentage of the whole
    loss that is.

    What do all of your numbers add up to? What should they add up to?
    """
    b, a = counted(before, parts), counted(after, parts)
    return {k: float(b[k] - a[k]) for k in b}


@exercise.caught_as("wrong-type")
def counts_as_whole_numbers(before, after, parts):
    b, a = counted(before, parts), counted(after, parts)
    return {k: b[k] - a[k] for k in b}


@exercise.caught_as("wrong-type")
def in_a_list(before, after, parts):
    return list(shares(before, after, parts).values())


@exercise.caught_as("wrong-type")
def as_text(before, after, parts):
    return {k: f"{v:.1f}" for k, v in shares(before, after, parts).items()}


@exercise.caught_as("returned-none")
def printed(before, after, parts):
    print(shares(before, after, parts))


@exercise.caught_as("modified-input")
def rest_added_to_the_parts(before, after, parts):
    parts.append("rest")
    return shares(before, after, parts)


@exercise.caught_as("raised")
def no_such_key(before, after, parts):
    small = dict(after.named_parameters())
    return {part: small[part].numel() for part in parts}
