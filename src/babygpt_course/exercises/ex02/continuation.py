"""02.4: after how many different characters a character comes (Kneser and Ney)."""

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="02_ngram",
    id="02.4",
    title="Common, or only common after one?",
    kind="implement",
    points=2,
    minutes=7,
    anchor="second-a-continuation-count",
    hints="""
    A letter that comes a hundred times, always after a q: how many different letters
    does it come after? Which cells of the table tell you?

    kinds of c = in column c, how many cells are greater than 0. The answer is kinds
    divided by the sum of all kinds, which is the number of different pairs.

    seen = counts > 0, as numbers in float64; add up each column (dim 0); divide by the
    sum of the whole table.
    """,
)


@exercise.oracle
def continuation_probs(counts):
    V = len(counts)
    kinds = [sum(counts[a, c].item() > 0 for a in range(V)) for c in range(V)]
    return torch.tensor([k / sum(kinds) for k in kinds], dtype=torch.float64)


def random_counts(vocab_size, seed, share=0.4):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(9, (vocab_size, vocab_size), generator=generator)
    kept = torch.rand(vocab_size, vocab_size, generator=generator) < share
    counts = counts * kept
    counts[0, 1] += 20
    return counts


@exercise.cases
def cases():
    yield Case((torch.tensor([[0, 1], [0, 0]]),))
    yield Case((torch.tensor([[0, 3], [1, 0]]),))
    yield Case((torch.tensor([[2, 1], [0, 1]]),))
    yield Case((torch.tensor([[0, 50, 0], [1, 0, 1], [1, 0, 0]]),))
    yield Case((torch.tensor([[0, 2, 5], [0, 0, 0], [0, 4, 1]]),))
    yield Case((torch.tensor([[6]]),))
    for seed, (vocab_size, share) in enumerate([(4, 0.4), (5, 0.3), (11, 0.2)]):
        yield Case((random_counts(vocab_size, seed, share),))
    yield Case((random_counts(58, 3, 0.1),))
    yield Case((random_counts(20, 4, 1.0) + 1,), "every pair seen")
    yield Case((random_counts(6, 5).T,), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def counts_cells_that_are_not_zero(counts):
    return counts.count_nonzero(dim=0).double() / counts.count_nonzero()


@exercise.right
def numbers_of_the_columns_seen(counts):
    column = counts.nonzero()[:, 1]
    return torch.bincount(column, minlength=len(counts)).double() / len(column)


@exercise.right
def a_set_for_each_character(counts):
    before = [{a for a, n in enumerate(column) if n} for column in counts.T.tolist()]
    pairs = sum(map(len, before))
    return torch.tensor([len(b) / pairs for b in before], dtype=torch.float64)


@exercise.right
def all_counts_cut_to_one(counts):
    ones = counts.clamp(max=1).to(torch.float64)
    return ones.sum(dim=0) / ones.sum()


# --- wrong, each with the misconception behind it -------------------------------------


def kinds(counts):
    """After how many different characters each one comes."""
    return (counts > 0).sum(dim=0).double()


@exercise.wrong("second-a-continuation-count")
def how_often_instead_of_after_how_many(counts):
    """This is how often each character occurs: its share of the text.

    A character that comes fifty times after the same one is no better a guess elsewhere
    than one that came once. What should a cell with 50 in it count for?
    """
    return counts.sum(dim=0).double() / counts.sum()


@exercise.wrong("second-a-continuation-count")
def rows_and_columns_swapped(counts):
    """You count how many different characters come after each one; asked is after how
    many it comes.

    The row is the character before, the column the one that comes. Which of the two is
    the c of the question, and along which dim do you add up?
    """
    return kinds(counts.T) / kinds(counts).sum()


@exercise.wrong("second-a-continuation-count")
def divided_by_the_vocabulary(counts):
    """The counts above the line are right, and they are divided by V: by how many
    characters there are before it.

    The result should be a distribution over c. Add up what you have. What must you
    divide by to make that 1?
    """
    return kinds(counts) / len(counts)


@exercise.wrong("second-a-continuation-count")
def divided_by_all_cells(counts):
    """You divide by the number of cells, V times V; asked is the number of different
    pairs that occur.

    Most cells are empty. Add up what you have. What must you divide by to make that 1?
    """
    return kinds(counts) / counts.numel()


@exercise.wrong("second-a-continuation-count")
def divided_by_the_length_of_the_text(counts):
    """You divide by the number of all pairs in the text; a pair that occurs fifty times
    counts once here.

    Above the line a cell counts as one, however large it is. What does that make of the
    sum below the line?
    """
    return kinds(counts) / counts.sum()


@exercise.wrong("second-a-continuation-count")
def not_divided(counts):
    """These are the numbers of different characters before each one, and not yet
    probabilities.

    They are the right numbers. What must you divide by so that they add up to 1?
    """
    return kinds(counts)


@exercise.wrong("second-a-continuation-count")
def followers_of_itself_left_out(counts):
    """A character that follows itself is left out: the diagonal of the table does not
    count here.

    In "book" an o comes after an o, and that is a pair like any other. Which line skips
    it?
    """
    other = counts * (1 - torch.eye(len(counts), dtype=torch.int64))
    return kinds(other) / kinds(other).sum().clamp(min=1)


@exercise.also(followers_of_itself_left_out)
def diagonal_put_to_zero(counts):
    other = (counts > 0).double().fill_diagonal_(0)
    return other.sum(dim=0) / other.sum()


@exercise.wrong("second-a-continuation-count")
def seen_once_left_out(counts):
    """A pair that occurs once does not count here.

    Once is enough: it shows that this character can come after that one. What is
    compared with 1 that should be compared with 0?
    """
    twice = (counts > 1).sum(dim=0).double()
    return twice / twice.sum().clamp(min=1)


@exercise.also(seen_once_left_out)
def more_than_one(counts):
    return (counts > 1).sum(dim=0).double() / (counts > 1).sum()


@exercise.wrong("second-a-continuation-count")
def only_those_seen_once(counts):
    """Only pairs that occur exactly once count here.

    A pair that occurs ten times is still one different pair. Is your test `== 1` where
    it should be `> 0`?
    """
    once = (counts == 1).sum(dim=0).double()
    return once / once.sum().clamp(min=1)


@exercise.also(only_those_seen_once)
def equal_to_one(counts):
    return (counts == 1).sum(dim=0).double() / (counts == 1).sum()


@exercise.wrong("second-a-continuation-count")
def average_of_the_rows(counts):
    """You turn each row into probabilities and average the rows. So a pair counts more if
    its row is short of others.

    All different pairs weigh the same here, in whichever row they stand. Where do the
    counts themselves, 50 or 1, still play a part?
    """
    rows = counts.sum(dim=1, keepdim=True)
    seen = rows.squeeze(1) > 0
    return (counts[seen].double() / rows[seen]).mean(dim=0)


@exercise.also(average_of_the_rows)
def average_of_all_rows(counts):
    rows = counts.sum(dim=1, keepdim=True).clamp(min=1)
    return (counts.double() / rows).mean(dim=0)


@exercise.also(average_of_the_rows)
def rows_added_up_and_scaled(counts):
    rows = counts.sum(dim=1, keepdim=True).clamp(min=1)
    total = (counts.double() / rows).sum(dim=0)
    return total / total.sum()


@exercise.also(average_of_the_rows)
def average_of_all_rows_and_empty_ones_forgotten(counts):
    return (counts.double() / counts.sum(dim=1, keepdim=True)).mean(dim=0)


@exercise.wrong("second-a-continuation-count")
def discounted_counts(counts):
    """A discount is subtracted from each count, and the counts are added up. That is the
    other half of Kneser-Ney, for the longer context.

    This exercise asks for the half that is asked when the longer context gives up: not
    how often, but after how many different characters.
    """
    kept = (counts.double() - 0.75).clamp(min=0)
    return kept.sum(dim=0) / kept.sum()


@exercise.wrong("second-a-continuation-count")
def one_added_to_each(counts):
    """One is added for each character, as in add-one smoothing.

    A character that comes after none has continuation probability 0; what remains for it
    is handed on one step further down, not here. Which line adds something?
    """
    return (kinds(counts) + 1) / (kinds(counts).sum() + len(counts))


@exercise.wrong("second-a-continuation-count")
def direction_ignored(counts):
    """You count with which characters each one stands together, before it or after it.

    "q" before "u" is not "u" before "q". Only the column of c says after which
    characters c came. Where does the row of c come in?
    """
    both = ((counts > 0) | (counts.T > 0)).sum(dim=0).double()
    return both / both.sum()


@exercise.caught_as("wrong-dtype")
def half_the_precision(counts):
    return continuation_probs(counts).float()


@exercise.caught_as("wrong-dtype")
def ints_divided_by_ints(counts):
    return (counts > 0).sum(dim=0) / (counts > 0).sum()


@exercise.caught_as("wrong-shape")
def one_row_of_a_table(counts):
    return continuation_probs(counts)[None, :]


@exercise.caught_as("wrong-shape")
def share_of_each_pair(counts):
    return (counts > 0).double() / counts.count_nonzero()


@exercise.caught_as("wrong-type")
def probabilities_in_a_list(counts):
    return continuation_probs(counts).tolist()


@exercise.caught_as("modified-input")
def counts_cut_in_place(counts):
    return counts.clamp_(max=1).double().sum(dim=0) / counts.sum()


@exercise.caught_as("non-contiguous")
def reads_the_memory_behind_the_tensor(counts):
    V = len(counts)
    return continuation_probs(torch.as_strided(counts, (V, V), (V, 1)))
