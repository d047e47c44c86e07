"""01.1: count how often each character follows each other one."""

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise, Speed
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.rules import no_loops


def random_ids(n, vocab_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (n,), generator=generator)


exercise = Exercise(
    chapter="01_bigram",
    id="01.1",
    title="Count the pairs",
    kind="implement",
    points=2,
    minutes=8,
    anchor="vectorize",
    rules=(
        no_loops(
            "Python walks through a million characters one at a time; tensor code "
            "hands all of them over at once. Which two slices of `ids` hold, at the"
            " same position, the first and the second of each pair?"
        ),
    ),
    speed=Speed(
        args=lambda n: (random_ids(n, 58), 58),
        sizes=(10_000, 100_000, 1_000_000),
        ratio=50,
    ),
    hints="""
    Write down the pairs of [0, 1, 1, 2] on paper. Put all first members in one list
    and all second members in another. Where do you find those two lists in `ids`?

    The pair (a, b) belongs to row a and column b of a table with V columns. Read
    row by row, that cell has the number a * V + b.

    pair = previous * V + following; count how often each number from 0 to V * V - 1
    occurs (torch.bincount has a `minlength`); reshape the V * V counts to (V, V).
    """,
)


@exercise.oracle
def count_pairs(ids, vocab_size):
    table = [[0] * vocab_size for _ in range(vocab_size)]
    chars = ids.tolist()
    for previous, following in zip(chars[:-1], chars[1:]):
        table[previous][following] += 1
    return torch.tensor(table)


@exercise.cases
def cases():
    small = [([0, 1], 2), ([0, 1, 1], 2), ([0, 1, 2], 4), ([0, 1, 0, 1], 2), ([1], 2)]
    for ids, vocab_size in small:
        yield Case((torch.tensor(ids), vocab_size))
    for seed, (n, vocab_size) in enumerate([(12, 3), (90, 5), (301, 11)]):
        yield Case((random_ids(n, vocab_size, seed), vocab_size))
    yield Case((random_ids(2000, 58, 3), 58))  # where small integer types run over
    yield Case((random_ids(10, 3)[::2], 3), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def adds_ones_at_index_pairs(ids, vocab_size):
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.long)
    counts.index_put_(
        (ids[:-1], ids[1:]), torch.ones(len(ids) - 1, dtype=torch.long), accumulate=True
    )
    return counts


@exercise.right
def scatters_into_a_flat_table(ids, vocab_size):
    pair = ids[:-1] * vocab_size + ids[1:]
    flat = torch.zeros(vocab_size * vocab_size, dtype=torch.int64)
    return flat.scatter_add(0, pair, torch.ones_like(pair)).reshape(
        vocab_size, vocab_size
    )


@exercise.right
def lets_a_sparse_matrix_add(ids, vocab_size):
    where = torch.stack([ids[:-1], ids[1:]])
    ones = torch.ones(where.shape[1], dtype=torch.int64)
    return torch.sparse_coo_tensor(where, ones, (vocab_size, vocab_size)).to_dense()


# --- wrong, each with the misconception behind it -------------------------------------


@exercise.wrong("by-hand")
def rows_and_columns_swapped(ids, vocab_size):
    """Rows and columns are swapped: your row is the character that comes, your column
    the one that was there.

    You stand on a character and ask what follows. The character you stand on picks the
    row, so that one row holds everything that can come next and can be turned into one
    distribution. Which of your two slices picks the row?
    """
    return count_pairs(ids, vocab_size).T.contiguous()


@exercise.wrong("vectorize")
def repeated_pairs_counted_once(ids, vocab_size):
    """A pair that occurs twice is counted once. `counts[a, b] += 1` with index tensors
    reads the old counts, adds 1 to each, and writes them back; where a pair is listed
    twice, the same 1 is written twice.

    How can you add up instead of overwriting? Look at `accumulate=True` of
    `index_put_`, at `scatter_add_`, or give each pair one number and count numbers with
    `torch.bincount`.
    """
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
    counts[ids[:-1], ids[1:]] += 1
    return counts


@exercise.wrong("by-hand")
def end_joined_to_start(ids, vocab_size):
    """There is one pair too many: the last character is followed by the first one
    again, as on a ring.

    A text of N characters has N - 1 pairs. What does `torch.roll` put behind the last
    character, and what stands there in the text?
    """
    return count_pairs(torch.cat([ids, ids[:1]]), vocab_size)


@exercise.wrong("by-hand")
def last_pair_missing(ids, vocab_size):
    """The last pair is missing: your slices stop one character too early.

    In a text of N characters, which positions have a character after them? Which of
    them does your first slice leave out?
    """
    return count_pairs(ids[:-1], vocab_size)


@exercise.wrong("by-hand")
def first_pair_missing(ids, vocab_size):
    """The first pair is missing: your slices begin one character too late.

    The character at position 0 has a follower too. Where does your slice of previous
    characters begin?
    """
    return count_pairs(ids[1:], vocab_size)


@exercise.wrong("how-it-breaks")
def pairs_two_apart(ids, vocab_size):
    """These pairs are two characters apart: you counted the follower of the follower.

    If one slice drops the last two characters and the other the first two, how far
    apart are the two characters that share a position?
    """
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
    ones = torch.ones(max(len(ids) - 2, 0), dtype=torch.int64)
    return counts.index_put_((ids[:-2], ids[2:]), ones, accumulate=True)


@exercise.wrong("by-hand")
def pairs_that_do_not_overlap(ids, vocab_size):
    """The text is cut into blocks of two, so every second pair is missing.

    In "abc" the b ends one pair and begins the next one. How many pairs does a text of
    three characters have, and how many do you get?
    """
    blocks = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
    ones = torch.ones(len(blocks), dtype=torch.int64)
    return counts.index_put_((blocks[:, 0], blocks[:, 1]), ones, accumulate=True)


@exercise.wrong("by-hand")
def order_ignored(ids, vocab_size):
    """Each pair is counted in both directions, so your table is its own mirror image.

    "th" is common and "ht" is rare: a language model lives on that difference. Which of
    the two directions does the text contain?
    """
    counts = count_pairs(ids, vocab_size)
    return counts + counts.T


@exercise.wrong("by-hand")
def table_of_the_characters_seen(ids, vocab_size):
    """The table is only as large as the largest id in this text, not (vocab_size,
    vocab_size).

    A character that this text does not use still owns a row and a column, so that
    tables of different texts fit each other. Where do you take the size of the table
    from? (`bincount` has `minlength`.)
    """
    return count_pairs(ids, int(ids.max()) + 1)


@exercise.wrong("vectorize")
def probabilities_instead_of_counts(ids, vocab_size):
    """These are probabilities; the exercise asks for the counts they are made from.

    Counts can be added up over texts and smoothed later, probabilities cannot. Which is
    your last step, and what did you have before it?
    """
    counts = count_pairs(ids, vocab_size).float()
    return counts / counts.sum(dim=1, keepdim=True)


@exercise.caught_as("wrong-dtype")
def counts_that_are_floats(ids, vocab_size):
    return count_pairs(ids, vocab_size).float()


@exercise.caught_as("wrong-shape")
def counts_in_one_long_row(ids, vocab_size):
    return count_pairs(ids, vocab_size).flatten()


@exercise.caught_as("wrong-type")
def counts_in_lists(ids, vocab_size):
    return count_pairs(ids, vocab_size).tolist()


@exercise.caught_as("returned-none")
def printed_not_returned(ids, vocab_size):
    print(count_pairs(ids, vocab_size))


@exercise.caught_as("modified-input")
def writes_into_the_ids(ids, vocab_size):
    pair = ids[:-1]
    pair *= vocab_size
    pair += ids[1:]
    return torch.bincount(pair, minlength=vocab_size**2).view(vocab_size, vocab_size)


@exercise.caught_as("raised")
def one_index_too_far(ids, vocab_size):
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
    for i in range(len(ids)):
        counts[ids[i], ids[i + 1]] += 1
    return counts


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(ids, vocab_size):
    block = torch.as_strided(ids, (len(ids),), (1,))
    return torch.bincount(
        block[:-1] * vocab_size + block[1:], minlength=vocab_size**2
    ).view(vocab_size, vocab_size)


@exercise.caught_as("python-loop")
def the_loop_itself(ids, vocab_size):
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.int64)
    for previous, following in zip(ids[:-1], ids[1:]):
        counts[previous, following] += 1
    return counts


@exercise.caught_as("python-loop")
def a_loop_in_a_helper(ids, vocab_size):
    return count_pairs(ids, vocab_size)


@exercise.caught_as("too-slow")
def every_cell_compared_with_every_pair(ids, vocab_size):
    pair = ids[:-1] * vocab_size + ids[1:]
    cells = torch.arange(vocab_size * vocab_size)
    return (pair == cells[:, None]).sum(dim=1).view(vocab_size, vocab_size)


@exercise.caught_as("too-slow")
def one_number_for_every_character_and_pair(ids, vocab_size):
    hot = F.one_hot(ids, vocab_size).double()
    outer = hot[:-1, :, None] * hot[1:, None, :]
    return outer.sum(dim=0).long()
