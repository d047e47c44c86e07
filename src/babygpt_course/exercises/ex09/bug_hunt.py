"""09.4: a model that runs all of its blocks once for each block."""

import math

import torch

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS
from babygpt_course.exercises.parts import Part

exercise = Exercise(
    chapter="09_babygpt",
    id="09.4",
    title="Bug hunt: the model that takes its time",
    kind="bug hunt",
    points=3,
    minutes=8,
    anchor="the-module",
    hints="""
    Let every block leave a trace of its own, and look at the stream. How often did each of
    them run, with 1, 2, 3 and 4 blocks?

    A loop over n blocks has n rounds. If each round runs all n blocks, there are n times n
    runs. One of the two loops is enough.

    `stack` goes through all blocks already. Call it once, without a loop around it; or keep
    the loop in `babygpt` and let each round run its own block only.
    """,
)


@exercise.oracle
def babygpt(idx, token, position, blocks, norm, head):
    x = token.new_zeros(*idx.shape, token.shape[1])
    for b, ids in enumerate(idx.tolist()):
        for t, i in enumerate(ids):
            x[b, t] = token[i] + position[t]
    for block in blocks:
        x = block(x)
    x = norm(x)
    logits = [[[(v * row).sum() for row in head] for v in vectors] for vectors in x]
    return torch.stack([torch.stack([torch.stack(p) for p in t]) for t in logits])


def started(idx, token, position):
    return token[idx] + position[: idx.shape[1]]


def stack(x, blocks):
    for block in blocks:
        x = block(x)
    return x


def with_blocks(run):
    """The model with another way to run its blocks: `run` gets x and the list of them."""

    def made(idx, token, position, blocks, norm, head):
        return norm(run(started(idx, token, position), blocks)) @ head.T

    made.__name__, made.__doc__ = run.__name__, run.__doc__
    return made


@exercise.given
@with_blocks
def stack_in_every_round(x, blocks):
    for _ in blocks:
        x = stack(x, blocks)
    return x


def parts(*codes):
    return [Part(f"lambda x: {code}") for code in codes]


def adds(channel, C):
    """A block that adds 1 to one of C channels, so that the stream counts its runs."""
    return f"x + torch.eye({C}, dtype=x.dtype)[{channel}]"


SAME = Part("lambda x: x")
NORM = Part("lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])")
SO_FAR = "x + 0.3 * x.cumsum(1).tanh()"  # like attention: it reads what came before
BENT = "x + x.roll(1, -1).relu()"
TURNED = "x - 0.5 * x.flip(-1).sigmoid()"
SCALED = "1.5 * x - 1"


def counting_case(n):
    """n blocks of which each counts its own runs; everything else passes on what it gets."""
    C = max(n, 1)
    zeros = torch.zeros(1, C)
    blocks = parts(*(adds(channel, C) for channel in range(n)))
    return torch.tensor([[0]]), zeros, zeros, blocks, SAME, torch.eye(C)


def random_case(B, T, V, C, blocks, seed, dtype=torch.float64, room=0, norm=NORM):
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        made = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.to(dtype)

    idx = torch.randint(V, (B, T), generator=generator)
    return idx, numbers(V, C), numbers(T + room, C), blocks, norm, numbers(V, C)


@exercise.cases
def cases():
    two = torch.tensor([[3.0], [5.0]])
    rows = torch.tensor([[10.0], [20.0]])
    ids = torch.tensor([[1, 0]])
    yield Case((ids, two, rows, parts("2 * x", "x + 1"), SAME, torch.ones(1, 1)))
    yield Case(counting_case(2))
    yield Case(counting_case(1), "one block")
    yield Case(counting_case(3))
    yield Case((ids, two, rows, parts("2 * x"), SAME, two), "one block")
    yield Case((ids, two, rows, [], Part("lambda x: x - 4"), two), "no block at all")
    yield Case((ids, two, rows, parts("x + 1", "x + 1"), SAME, torch.ones(1, 1)))
    yield Case((ids, two, rows, parts("2 * x", "x + 1", "3 * x"), SAME, two))
    twice = parts(SCALED)[0]
    yield Case((ids, two, rows, [twice, twice], SAME, two), "one block in two places")
    yield Case(counting_case(5))
    yield Case((ids, two, rows, parts(*["x / 2"] * 4), Part("lambda x: -x"), two))
    all_four = parts(SO_FAR, BENT, SCALED, TURNED)
    for seed, sizes in enumerate([(2, 3, 5, 4), (3, 2, 4, 6), (1, 4, 3, 5)]):
        blocks = all_four[: 3 - seed % 2] + all_four[:seed]
        yield Case(random_case(*sizes, blocks, seed))
        yield Case(random_case(*sizes, blocks, seed, torch.float32), "float32")
    yield Case(random_case(2, 3, 4, 3, all_four, 3, room=2))
    yield Case(random_case(1, 2, 3, 3, all_four[:2], 4), gradient=True)
    idx, token, position, blocks, norm, head = random_case(2, 3, 4, 6, all_four, 5)
    strided = token[:, ::2], position[:, ::2], blocks, norm, head[:, ::2]
    yield Case((idx.T.contiguous().T, *strided), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
@with_blocks
def stack_once(x, blocks):
    return stack(x, blocks)


@exercise.right
@with_blocks
def loop_without_the_stack(x, blocks):
    for i in range(len(blocks)):
        x = blocks[i](x)
    return x


@exercise.right
@with_blocks
def a_stack_of_one_in_every_round(x, blocks):
    for block in blocks:
        x = stack(x, [block])
    return x


@exercise.right
@with_blocks
def blocks_in_a_sequential(x, blocks):
    return torch.nn.Sequential(*blocks)(x)


@exercise.right
def one_after_the_other_inside_out(idx, token, position, blocks, norm, head):
    def after(n):
        return blocks[n - 1](after(n - 1)) if n else started(idx, token, position)

    return torch.einsum("btc,vc->btv", norm(after(len(blocks))), head)


# --- "fixes" that break something else ------------------------------------------------


@exercise.wrong("the-module")
@with_blocks
def first_block_in_every_round(x, blocks):
    """Every round runs the first block: the number of runs is right, and the other blocks are
    never used.

    Each round belongs to another block. Which one does yours take from the list?
    """
    for _ in blocks:
        x = blocks[0](x)
    return x


@exercise.also(first_block_in_every_round)
@with_blocks
def last_block_in_every_round(x, blocks):
    for _ in blocks:
        x = blocks[-1](x)
    return x


@exercise.wrong("the-module")
@with_blocks
def every_block_reads_the_start(x, blocks):
    """Every block reads the embeddings, and only what the last one gives is kept.

    Block 1 should read what block 0 has made of the stream. Which name does your loop hand to
    the block, and which does it write to?
    """
    y = x
    for block in blocks:
        y = block(x)
    return y


@exercise.wrong("the-module")
@with_blocks
def blocks_side_by_side(x, blocks):
    """All blocks read the embeddings, and their results are added up (or averaged). They stand side
    by side, where they should stand one after the other.

    A deep model can build on what an earlier block has found. Who reads what here?
    """
    return x + sum(block(x) - x for block in blocks)


@exercise.also(blocks_side_by_side)
@with_blocks
def results_added_up(x, blocks):
    return sum((block(x) for block in blocks), torch.zeros_like(x))


@exercise.wrong("the-module")
@with_blocks
def stream_added_again(x, blocks):
    """What comes in is added once more. The sums are inside the blocks: each gives back the
    stream, not what it has written.

    What does a block that adds nothing give back? And your model with it?
    """
    for block in blocks:
        x = x + block(x)
    return x


@exercise.also(stream_added_again)
@with_blocks
def start_added_at_the_end(x, blocks):
    return x + stack(x, blocks)


@exercise.wrong("the-module")
@with_blocks
def stack_twice(x, blocks):
    """The whole stack runs twice, whatever the number of blocks. The traces show it: each block has
    left two.

    How often should each block run?
    """
    return stack(stack(x, blocks), blocks)


@exercise.wrong("the-module")
@with_blocks
def one_round_less(x, blocks):
    """The loop has a round less (or more), and each round still runs the whole stack. It is the
    loop in the loop that is wrong, not where it ends.

    With four blocks there are still 12 (or 20) runs. How many should there be?
    """
    for _ in range(1, len(blocks)):
        x = stack(x, blocks)
    return x


@exercise.also(one_round_less)
@with_blocks
def one_round_more(x, blocks):
    for _ in range(len(blocks) + 1):
        x = stack(x, blocks)
    return x


@exercise.wrong("the-module")
@with_blocks
def each_block_many_times(x, blocks):
    """The order of the two loops has changed: each block now runs n times in a row. There are as many
    runs as before.

    One of the two loops has to go. Which of them do you need?
    """
    for block in blocks:
        for _ in blocks:
            x = block(x)
    return x


@exercise.wrong("the-module")
@with_blocks
def as_many_as_so_far(x, blocks):
    """Round i runs the blocks up to i (or from i on). The first ones still run several times.

    Let each block leave a trace. Which have left more than one?
    """
    for i in range(len(blocks)):
        x = stack(x, blocks[: i + 1])
    return x


@exercise.also(as_many_as_so_far)
@with_blocks
def as_many_as_are_left(x, blocks):
    for i in range(len(blocks)):
        x = stack(x, blocks[i:])
    return x


@exercise.wrong("the-module")
@with_blocks
def blocks_backward(x, blocks):
    """Each block runs once, and the last one runs first.

    The stream goes through blocks[0] first. In which order do you take them?
    """
    return stack(x, blocks[::-1])


@exercise.wrong("the-module")
@with_blocks
def last_block_left_out(x, blocks):
    """One block never runs: the first or the last one.

    With one block there would be none at all. Where does your list begin and end?
    """
    return stack(x, blocks[:-1])


@exercise.also(last_block_left_out)
@with_blocks
def first_block_left_out(x, blocks):
    return stack(x, blocks[1:])


@exercise.wrong("the-module")
@with_blocks
def one_block_alone(x, blocks):
    """Only one block runs, and the others never.

    The loop was one too many, and the stack is still needed. How many traces are there with
    four blocks?
    """
    return stack(x, blocks[:1])


@exercise.also(one_block_alone)
@with_blocks
def returned_in_the_first_round(x, blocks):
    for block in blocks:
        return block(x)
    return x


@exercise.wrong("the-module")
@with_blocks
def four_blocks(x, blocks):
    """The number of blocks is a constant in your code. It fits the model that you tried.

    The list knows how many there are. What would happen with five?
    """
    return stack(x, blocks[:4])


@exercise.also(four_blocks)
@with_blocks
def two_blocks(x, blocks):
    return stack(x, blocks[:2])


@exercise.wrong("the-module")
@with_blocks
def never_the_same_block_again(x, blocks):
    """A block that stands in the list twice runs only once. Models may share a block between two
    places, and then it works in both.

    Each *place* in the list is run once. How do you tell that a place is done?
    """
    done = []
    for block in blocks:
        if not any(block is other for other in done):
            x = block(x)
        done.append(block)
    return x


@exercise.also(never_the_same_block_again)
@with_blocks
def blocks_as_keys(x, blocks):
    return stack(x, dict.fromkeys(blocks))


@exercise.wrong("the-module")
def norm_in_every_round(idx, token, position, blocks, norm, head):
    """The last norm now runs after each block. It should run once, before the head.

    The given code had it in the last line, and that was no fault. What else have you
    changed?
    """
    x = started(idx, token, position)
    for block in blocks:
        x = norm(block(x))
    return x @ head.T


@exercise.also(norm_in_every_round)
def norm_in_every_round_and_at_the_end(idx, token, position, blocks, norm, head):
    x = started(idx, token, position)
    for block in blocks:
        x = norm(block(x))
    return norm(x) @ head.T


@exercise.also(norm_in_every_round)
def norm_left_out(idx, token, position, blocks, norm, head):
    return stack(started(idx, token, position), blocks) @ head.T


@exercise.wrong("vectorize")
def positions_lost(idx, token, position, blocks, norm, head):
    """The blocks run as they should, and the start of the stream has changed: the position
    embedding is missing, or it is added in every round.

    The given code added it once, before the blocks, and that was no fault. Which line is
    another one now?
    """
    return norm(stack(token[idx], blocks)) @ head.T


@exercise.also(positions_lost)
def positions_in_every_round(idx, token, position, blocks, norm, head):
    x = token[idx]
    for block in blocks:
        x = block(x + position[: idx.shape[1]])
    return norm(x) @ head.T


@exercise.caught_as("modified-input")
def blocks_taken_off_the_list(idx, token, position, blocks, norm, head):
    x = started(idx, token, position)
    while blocks:
        x = blocks.pop(0)(x)
    return norm(x) @ head.T


@exercise.caught_as("no-gradient")
def gradient_cut(idx, token, position, blocks, norm, head):
    with torch.no_grad():
        return norm(stack(started(idx, token, position), blocks)) @ head.T


@exercise.caught_as("wrong-gradient")
def blocks_not_trained(idx, token, position, blocks, norm, head):
    x = started(idx, token, position)
    return norm(x + (stack(x, blocks) - x).detach()) @ head.T


@exercise.caught_as("wrong-dtype")
def always_float32(idx, token, position, blocks, norm, head):
    return (norm(stack(started(idx, token, position), blocks)) @ head.T).float()


@exercise.caught_as("returned-none")
def nothing_returned(idx, token, position, blocks, norm, head):
    norm(stack(started(idx, token, position), blocks)) @ head.T


@exercise.caught_as("raised")
def rounds_by_the_root(idx, token, position, blocks, norm, head):
    x = started(idx, token, position)
    for _ in range(math.sqrt(len(blocks))):
        x = stack(x, blocks)
    return norm(x) @ head.T


@exercise.caught_as("wrong-shape")
def logits_of_the_last_position(idx, token, position, blocks, norm, head):
    return (norm(stack(started(idx, token, position), blocks)) @ head.T)[:, -1]
