"""06.2: which positions of a padded batch are text."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="06_cross_attention",
    id="06.2",
    title="Hide the padding",
    kind="implement",
    points=2,
    minutes=8,
    anchor="vectorize",
    hints="""
    A text of 2 characters stands at positions 0 and 1. Which comparison of a position with
    the length is true for these two and for no other?

    Position s of text b may be looked at if s < lengths[b]. The scores are (B, H, T, S):
    the mask does not depend on the head nor on the query, so these two axes have size 1.

    positions 0 to S - 1 along the last axis, (1, 1, 1, S); the lengths as a tensor along
    the first, (B, 1, 1, 1); compare the two, and broadcasting does the rest.
    """,
)


@exercise.oracle
def padding_mask(lengths, S):
    mask = torch.zeros(len(lengths), 1, 1, S, dtype=torch.bool)
    for b, length in enumerate(lengths):
        for s in range(S):
            mask[b, 0, 0, s] = s < length
    return mask


@exercise.cases
def cases():
    yield Case(([2], 3))
    yield Case(([1, 3], 3))
    yield Case(([3, 1, 2], 4))
    yield Case(([2, 2], 2), "no padding")
    yield Case(([1], 1))
    yield Case(([0, 2], 3), "an empty text")
    yield Case((torch.tensor([2, 4, 1]), 5))
    yield Case((torch.tensor([3, 5], dtype=torch.int32), 7))
    for seed, (B, S) in enumerate([(3, 6), (5, 11), (11, 4)]):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, S + 1, (B,), generator=generator)
        yield Case((lengths.tolist(), S))
        yield Case((lengths, S))
    yield Case((torch.tensor([4, 0, 1, 0, 5, 0])[::2], 6), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def rows_then_two_axes(lengths, S):
    lengths = torch.as_tensor(lengths)
    return (torch.arange(S) < lengths[:, None])[:, None, None, :]


@exercise.right
def from_lists(lengths, S):
    return torch.tensor([[[[s < n for s in range(S)]]] for n in lengths])


@exercise.right
def filled_text_by_text(lengths, S):
    mask = torch.zeros((len(lengths), S), dtype=torch.bool)
    for b in range(len(lengths)):
        mask[b, : int(lengths[b])] = True
    return mask.unsqueeze(1).unsqueeze(2)


@exercise.right
def ones_padded_with_zeros(lengths, S):
    rows = [torch.cat([torch.ones(int(n)), torch.zeros(S - int(n))]) for n in lengths]
    return torch.stack(rows).bool()[:, None, None]


@exercise.right
def by_counting_up(lengths, S):
    ones = torch.ones(len(lengths), 1, 1, S, dtype=torch.int64)
    return (
        ones.cumsum(-1) <= torch.tensor([int(n) for n in lengths])[:, None, None, None]
    )


# --- wrong, each with the misconception behind it -------------------------------------


def seen(lengths, S):
    """(B, S), True where there is text."""
    return torch.arange(S) < torch.as_tensor(lengths)[:, None]


@exercise.wrong("the-module")
def true_hides(lengths, S):
    """The mask is the wrong way round: it is True on the padding. In this course True says
    "may look".

    Some libraries have both: `nn.MultiheadAttention` hides where its mask is True,
    `scaled_dot_product_attention` looks where it is True. Which positions may be read?
    """
    return ~padding_mask(lengths, S)


@exercise.also(true_hides)
def true_hides_all_but_the_first_padding(lengths, S):
    return (torch.arange(S) > torch.as_tensor(lengths)[:, None])[:, None, None]


@exercise.wrong("vectorize")
def first_padding_left_open(lengths, S):
    """One position too many can be seen: the first one of the padding.

    Positions count from 0. A text of 2 characters stands at positions 0 and 1. Is position
    2 text?
    """
    return (torch.arange(S) <= torch.as_tensor(lengths)[:, None])[:, None, None]


@exercise.wrong("vectorize")
def last_character_hidden(lengths, S):
    """The last character of every text is hidden.

    Positions count from 0. A text of 2 characters stands at positions 0 and 1. Which of
    them does your comparison leave out?
    """
    return (torch.arange(S) < torch.as_tensor(lengths)[:, None] - 1)[:, None, None]


@exercise.wrong("vectorize")
def first_character_hidden(lengths, S):
    """The positions are counted from 1: the first character of every text is hidden, and
    the first position of the padding can be seen.

    The first position is number 0. What does your `arange` begin with, and what does
    position 0 get?
    """
    at = torch.arange(S)
    return ((at >= 1) & (at <= torch.as_tensor(lengths)[:, None]))[:, None, None]


@exercise.wrong("vectorize")
def padding_taken_to_be_in_front(lengths, S):
    """The text is taken to stand at the end of each row, with the padding in front of it.

    Here the padding comes behind the text. Which positions has a text of 2 characters in a
    row of 3?
    """
    return seen(lengths, S).flip(1)[:, None, None]


@exercise.wrong("vectorize")
def two_axes_missing(lengths, S):
    """The mask is right and has two axes, (B, S). Held against scores (B, H, T, S) it would
    be taken for queries and keys, and B for T.

    Broadcasting counts axes from the right. Which two axes of size 1 belong between B and
    S?
    """
    return seen(lengths, S)


@exercise.wrong("vectorize")
def axis_of_the_heads_missing(lengths, S):
    """The mask has three axes, (B, 1, S). Broadcasting counts from the right, so against
    scores (B, H, T, S) its B would be taken for the heads.

    Without an error that happens when B and H are equal. How many axes have the scores?
    """
    return seen(lengths, S)[:, None]


@exercise.wrong("vectorize")
def queries_hidden_instead_of_keys(lengths, S):
    """The positions stand on the axis of the queries, (B, 1, S, 1). A padding mask hides
    positions from those who read them.

    Row = query, column = key. Along which axis of (B, H, T, S) do the positions lie that
    are read?
    """
    return seen(lengths, S)[:, None, :, None]


@exercise.wrong("vectorize")
def one_mask_for_each_head(lengths, S):
    """The texts stand on the axis of the heads, (1, B, 1, S): text b would be masked by
    all lengths, a different one in each head.

    The scores are (B, H, T, S). Which axis counts the texts?
    """
    return seen(lengths, S)[None, :, None]


@exercise.wrong("why-it-works")
def a_table_of_queries_and_keys(lengths, S):
    """This is a table, (B, 1, S, S), with one row for each position of the source as a
    query. The mask should not know who asks.

    In cross-attention the queries are T other positions. Which size lets one row serve any
    number of queries?
    """
    text = seen(lengths, S)
    return (text[:, None, :] & text[:, :, None])[:, None]


@exercise.also(a_table_of_queries_and_keys)
def the_same_row_for_each_position(lengths, S):
    return seen(lengths, S)[:, None, None].expand(-1, -1, S, -1)


@exercise.also(a_table_of_queries_and_keys)
def a_causal_table(lengths, S):
    causal = torch.ones(S, S, dtype=torch.bool).tril()
    return causal & padding_mask(lengths, S)


@exercise.wrong("the-module")
def numbers_instead_of_bool(lengths, S):
    """The mask holds the numbers 1 and 0; it should hold True and False. An attention that
    adds its mask to the scores would add 1 to the text and hide nothing.

    A comparison such as `<` gives bool by itself. What makes numbers of it, or which
    `dtype` was the mask made with?
    """
    return padding_mask(lengths, S).float()


@exercise.also(numbers_instead_of_bool)
def whole_numbers_instead_of_bool(lengths, S):
    return padding_mask(lengths, S).long()


@exercise.also(numbers_instead_of_bool)
def small_numbers_instead_of_bool(lengths, S):
    return padding_mask(lengths, S).int()


@exercise.also(numbers_instead_of_bool)
def bytes_instead_of_bool(lengths, S):
    return padding_mask(lengths, S).byte()


@exercise.wrong("the-module")
def mask_to_be_added(lengths, S):
    """This mask is made to be added to the scores: 0 on the text and a very low number on
    the padding. Asked for is bool.

    Both kinds are in use. Which of the two says "may look" without knowing what a score is?
    """
    hidden = ~padding_mask(lengths, S)
    return torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)


@exercise.also(mask_to_be_added)
def mask_to_be_added_with_a_billion(lengths, S):
    return torch.zeros(len(lengths), 1, 1, S).masked_fill(
        ~padding_mask(lengths, S), -1e9
    )


@exercise.wrong("vectorize")
def one_length_for_all(lengths, S):
    """All texts get the same mask, that of the longest (or of the first): the padding of the
    others can be seen.

    Each text has a length of its own. Where in your code does b choose among them?
    """
    longest = [max(int(n) for n in lengths)] * len(lengths)
    return padding_mask(longest, S)


@exercise.also(one_length_for_all)
def length_of_the_first_for_all(lengths, S):
    return padding_mask([lengths[0]] * len(lengths), S)


@exercise.wrong("vectorize")
def as_wide_as_the_longest_text(lengths, S):
    """The mask is as wide as the longest text, and `S` is not used. A batch may be padded
    further than that.

    The scores have S columns, whatever the lengths are. What should your `arange` count up
    to?
    """
    return padding_mask(lengths, max(int(n) for n in lengths))


@exercise.wrong("vectorize")
def only_one_position(lengths, S):
    """A single position of each text is marked, the one after its end (or its last one).
    All of its positions may be looked at.

    `==` and an index pick one position. Which comparison picks all those before?
    """
    return (torch.arange(S) == torch.as_tensor(lengths)[:, None])[:, None, None]


@exercise.also(only_one_position)
def only_the_last_character(lengths, S):
    at = torch.as_tensor(lengths)[:, None] - 1
    return (torch.arange(S) == at)[:, None, None]


@exercise.wrong("vectorize")
def empty_text_left_open(lengths, S):
    """An empty text gets one position to look at. It has none: length 0 means that all of
    its row is padding.

    What attention does with a row that hides everything is for attention to decide. Which
    line of yours treats 0 as a special case, or as 1?
    """
    return padding_mask([max(int(n), 1) for n in lengths], S)


@exercise.also(empty_text_left_open)
def empty_text_left_open_everywhere(lengths, S):
    return padding_mask([int(n) or S for n in lengths], S)


@exercise.wrong("vectorize")
def list_indexed_like_a_tensor(lengths, S):
    """`lengths` may be a list, and a list does not know `[:, None]`.

    `torch.as_tensor` makes a tensor of a list and leaves a tensor as it is. Where does it
    belong?
    """
    return (torch.arange(S) < lengths[:, None])[:, None, None]


@exercise.also(list_indexed_like_a_tensor)
def list_viewed_like_a_tensor(lengths, S):
    return torch.arange(S) < lengths.view(-1, 1, 1, 1)


@exercise.also(list_indexed_like_a_tensor)
def list_reshaped_like_a_tensor(lengths, S):
    return torch.arange(S) < lengths.reshape(-1, 1, 1, 1)


@exercise.also(list_indexed_like_a_tensor)
def list_unsqueezed_like_a_tensor(lengths, S):
    return (torch.arange(S) < lengths.unsqueeze(1))[:, None, None]


@exercise.caught_as("wrong-type")
def rows_in_a_list(lengths, S):
    return padding_mask(lengths, S).tolist()


@exercise.caught_as("wrong-shape")
def last_axis_first(lengths, S):
    return padding_mask(lengths, S).permute(3, 1, 2, 0)


@exercise.caught_as("returned-none")
def printed_not_returned(lengths, S):
    print(padding_mask(lengths, S))


@exercise.caught_as("modified-input")
def lengths_counted_down(lengths, S):
    mask = torch.zeros(len(lengths), 1, 1, S, dtype=torch.bool)
    for b in range(len(lengths)):
        while lengths[b] > 0:
            lengths[b] -= 1
            mask[b, 0, 0, int(lengths[b])] = True
    return mask


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(lengths, S):
    lengths = torch.as_tensor(lengths)
    return padding_mask(torch.as_strided(lengths, lengths.shape, (1,)), S)


@exercise.caught_as("raised")
def lengths_not_turned_into_a_column(lengths, S):
    return (torch.arange(S) < torch.as_tensor(lengths))[:, None, None, :]
