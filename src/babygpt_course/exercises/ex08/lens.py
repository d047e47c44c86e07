"""08.5: from which depth on the prediction is what it stays."""

import torch
import torch.nn.functional as F

from babygpt_course.exercises.exercise import Case, Exercise
from babygpt_course.exercises.faults import NON_CONTIGUOUS

exercise = Exercise(
    chapter="08_gpt",
    id="08.5",
    title="Read the stream on the way",
    kind="stretch",
    points=3,
    minutes=12,
    anchor="look-inside",
    hints="""
    What would the model say if it had to answer after block 2 already? Which two layers stand
    between the last stream and the logits?

    said[l, t] = the likeliest id of head(norm(states[l, t])). The depth of position t is the
    smallest l for which said[l, t], said[l + 1, t], ... said[L, t] are all the same.

    said = argmax over the vocabulary of norm(states) times head transposed: (L + 1, T). same =
    said equals its last row. Walk from the last row back while it is the same, or take
    the product of `same` from the end (`flip`, `cumprod`), add it up, and subtract from L + 1.
    """,
)


@exercise.oracle
def settled_at(states, weight, bias, head):
    depths = []
    for t in range(states.shape[1]):
        said = []
        for stream in states[:, t]:
            d = stream - sum(stream) / len(stream)
            x = d / (sum(d * d) / len(d) + 1e-5) ** 0.5 * weight + bias
            scores = [sum(x * row).item() for row in head]
            said.append(scores.index(max(scores)))
        depth = len(said) - 1
        while depth > 0 and said[depth - 1] == said[-1]:
            depth -= 1
        depths.append(depth)
    return torch.tensor(depths)


def says(*columns, C=None):
    """States that say these ids, a list for each position, with the norm and the head that
    read them: the id is the channel that stands out.
    """
    C = C or 1 + max(max(column) for column in columns)
    said = torch.tensor(columns).T  # (L + 1, T)
    return F.one_hot(said, C).float(), torch.ones(C), torch.zeros(C), torch.eye(C)


def random_case(L, T, C, V, seed, dtype=torch.float64):
    """A stream to which each depth adds less; norm and head matter for what it says."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = numbers(L + 1, T, C) * 0.7 ** torch.arange(L + 1.0)[:, None, None]
    states = steps.cumsum(0) * (1 + numbers(C) ** 2) + 2 * numbers(C)
    tensors = states, 0.3 + numbers(C).abs(), numbers(C), numbers(V, C)
    return tuple(x.to(dtype) for x in tensors)


@exercise.cases
def cases():
    yield Case(says([0, 1, 1]))
    yield Case(says([1, 0, 1]))
    yield Case(says([1, 0, 1, 1]))
    yield Case(says([1, 1, 1]))
    yield Case(says([0, 0, 1]))
    yield Case(says([0, 1, 2]))
    yield Case(says([1, 1, 0, 1]))
    yield Case(says([1, 0, 1], [0, 1, 1]))
    yield Case(says([0, 1, 2, 2], [2, 2, 2, 2], [2, 0, 0, 2]))
    yield Case(says([2, 2, 1, 0, 0], [0, 0, 0, 0, 1]), "channels beyond")
    yield Case(says([1], [0]), "no block at all")
    states = torch.tensor([[[3.0, 1, 0]], [[0.0, 0, 2]]])
    nothing = torch.zeros(3, 3)
    yield Case((states, torch.ones(3), torch.zeros(3), nothing), "ties")
    head = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    yield Case((states, torch.ones(3), torch.zeros(3), head), "ties")
    far = 1000 + states
    yield Case((far, torch.ones(3), torch.tensor([0.0, 0, 9]), torch.eye(3)))
    yield Case((states, torch.tensor([0.9, 1, -1]), torch.zeros(3), torch.eye(3)))
    for seed, sizes in enumerate(
        [(4, 6, 5, 7), (6, 9, 4, 9), (3, 7, 6, 6), (8, 5, 8, 3)]
    ):
        yield Case(random_case(*sizes, seed=seed))
        yield Case(random_case(*sizes, seed=seed, dtype=torch.float32), "float32")
    states, weight, bias, head = random_case(5, 8, 6, 10, seed=6)
    yield Case((states.flip(2)[:, ::2], weight, bias, head[1::2]), NON_CONTIGUOUS)
    turned = states.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    yield Case((turned, weight, bias, head.T.contiguous().T), NON_CONTIGUOUS)


# --- correct in other ways ------------------------------------------------------------


def said_by(states, weight, bias, head):
    """The likeliest id after each depth: (L + 1, T)."""
    return (F.layer_norm(states, weight.shape, weight, bias) @ head.T).argmax(-1)


@exercise.right
def walked_from_the_end(states, weight, bias, head):
    depths = []
    for said in said_by(states, weight, bias, head).T.tolist():
        depth = len(said) - 1
        while depth and said[depth - 1] == said[-1]:
            depth -= 1
        depths.append(depth)
    return torch.tensor(depths)


@exercise.right
def product_from_the_end(states, weight, bias, head):
    said = said_by(states, weight, bias, head)
    stays = (said == said[-1]).flip(0).long().cumprod(0).sum(0)
    return len(said) - stays


@exercise.right
def after_the_last_that_differs(states, weight, bias, head):
    said = said_by(states, weight, bias, head)
    depth = torch.arange(1, len(said) + 1)[:, None]
    return torch.where(said != said[-1], depth, 0).amax(dim=0)


@exercise.right
def smallest_that_does(states, weight, bias, head):
    probs = torch.softmax(
        F.linear(F.layer_norm(states, (states.shape[-1],), weight, bias), head), dim=-1
    )
    said = probs.max(dim=-1).indices
    return torch.tensor(
        [
            next(l for l in range(len(said)) if (said[l:, t] == said[-1, t]).all())
            for t in range(said.shape[1])
        ]
    )


# --- wrong, each with the misconception behind it -------------------------------------


def depth_of(said):
    return len(said) - (said == said[-1]).flip(0).long().cumprod(0).sum(0)


@exercise.wrong("look-inside")
def first_depth_that_says_it(states, weight, bias, head):
    """This is the first depth that says the final id. The model may have said it once and then
    changed its mind again.

    From the depth that is asked for, the id has to *stay*. Is it easier to look from the
    front, or from the end?
    """
    said = said_by(states, weight, bias, head)
    return (said == said[-1]).long().argmax(0)


@exercise.wrong("look-inside")
def depth_of_the_last_change(states, weight, bias, head):
    """This is the last depth that still says something else, one too early (and for a position
    that never changes its mind there is none).

    If the ids are 0, 1, 1, then 0 is the last other one. From which depth on is it 1?
    """
    return depth_of(said_by(states, weight, bias, head)) - 1


@exercise.also(depth_of_the_last_change)
def depth_of_the_last_change_not_below_0(states, weight, bias, head):
    return (depth_of(said_by(states, weight, bias, head)) - 1).clamp(min=0)


@exercise.wrong("look-inside")
def counted_from_1(states, weight, bias, head):
    """The depths are counted from 1. states[0] is the stream before the first block, and that is
    depth 0.

    A position whose id is right before any block has worked: which depth has it?
    """
    return depth_of(said_by(states, weight, bias, head)) + 1


@exercise.wrong("look-inside")
def counted_from_the_end(states, weight, bias, head):
    """This is how many depths have said the same at the end, not the depth at which that began.

    With L + 1 depths, of which the last n say the same: which one is the first of these?
    """
    said = said_by(states, weight, bias, head)
    return len(said) - depth_of(said)


@exercise.also(counted_from_the_end)
def blocks_left_over(states, weight, bias, head):
    said = said_by(states, weight, bias, head)
    return len(said) - 1 - depth_of(said)


@exercise.wrong("look-inside")
def embedding_left_out(states, weight, bias, head):
    """The stream before the first block is left out: no position can have the depth 0.

    The embedding alone may already say the right id. What does states[0] hold?
    """
    said = said_by(states, weight, bias, head)
    return depth_of(said[1:]) + 1 if len(said) > 1 else depth_of(said)


@exercise.wrong("look-inside")
def norm_forgotten(states, weight, bias, head):
    """The head reads the stream as it is. In the model a norm stands before the head, with a
    weight and a bias for each channel.

    Through what does the last stream go on its way to the logits? An earlier one should go
    the same way.
    """
    return depth_of((states @ head.T).argmax(-1))


@exercise.wrong("look-inside")
def norm_without_weight_and_bias(states, weight, bias, head):
    """The stream is normalized, and weight and bias of the norm are left out (both, or one of
    them).

    They decide how loud each channel is for the head. What does the formula do with them?
    """
    return depth_of((F.layer_norm(states, weight.shape) @ head.T).argmax(-1))


@exercise.also(norm_without_weight_and_bias)
def norm_without_bias(states, weight, bias, head):
    return depth_of((F.layer_norm(states, weight.shape, weight) @ head.T).argmax(-1))


@exercise.also(norm_without_weight_and_bias)
def norm_without_weight(states, weight, bias, head):
    return depth_of(((F.layer_norm(states, weight.shape) + bias) @ head.T).argmax(-1))


@exercise.wrong("look-inside")
def norm_over_the_positions(states, weight, bias, head):
    """The norm runs over another axis than the channels, so positions or depths are mixed.

    (L + 1, T, C): which axis belongs to one position at one depth?
    """
    d = states - states.mean(1, keepdim=True)
    x = d / (d.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() * weight + bias
    return depth_of((x @ head.T).argmax(-1))


@exercise.also(norm_over_the_positions)
def norm_over_the_depths(states, weight, bias, head):
    d = states - states.mean(0)
    x = d / (d.pow(2).mean(0) + 1e-5).sqrt() * weight + bias
    return depth_of((x @ head.T).argmax(-1))


@exercise.also(norm_over_the_positions)
def norm_over_everything(states, weight, bias, head):
    x = F.layer_norm(states, states.shape) * weight + bias
    return depth_of((x @ head.T).argmax(-1))


@exercise.wrong("look-inside")
def what_each_block_wrote(states, weight, bias, head):
    """This reads what each block *wrote*, the difference of two streams. The lens reads the
    stream: all that has been written so far.

    The head was trained on sums. What does states[l] hold, and what has to be subtracted
    from it?
    """
    wrote = torch.cat([states[:1], states[1:] - states[:-1]])
    return depth_of(said_by(wrote, weight, bias, head))


@exercise.wrong("look-inside")
def streams_added_up(states, weight, bias, head):
    """The streams of all depths are added up. But states[l] already holds everything that was
    written up to there.

    A stream is a running sum. What would a sum of running sums count several times?
    """
    return depth_of(said_by(states.cumsum(0), weight, bias, head))


@exercise.wrong("look-inside")
def number_of_other_ids(states, weight, bias, head):
    """This counts the depths that say something else. That is the same only if the model says
    the final id nowhere before it settles.

    With the ids 1, 0, 1 one depth says something else. From which depth on does the 1
    stay?
    """
    said = said_by(states, weight, bias, head)
    return (said != said[-1]).sum(0)


@exercise.wrong("look-inside")
def number_of_changes(states, weight, bias, head):
    """This counts how often the id changes from one depth to the next. Asked for is *where* the
    last change is.

    With the ids 0, 0, 1 there is one change. At which depth?
    """
    said = said_by(states, weight, bias, head)
    return (said[1:] != said[:-1]).sum(0)


@exercise.wrong("look-inside")
def first_change(states, weight, bias, head):
    """This is the depth of the first change (or 0 if there is none). After it the model may
    change its mind once more.

    Which change is the one after which nothing changes any more?
    """
    said = said_by(states, weight, bias, head)
    if len(said) == 1:
        return depth_of(said)
    changed = (said != said[0]).long()
    return changed.argmax(0)


@exercise.wrong("look-inside")
def all_positions_at_once(states, weight, bias, head):
    """This is one depth for all positions. Some positions are easy and are settled early.

    (T,) has a number for each position. Over which axis may nothing be reduced?
    """
    depth = depth_of(said_by(states, weight, bias, head))
    return depth.amax().expand(len(depth)).clone()


@exercise.also(all_positions_at_once)
def one_number_for_the_text(states, weight, bias, head):
    return depth_of(said_by(states, weight, bias, head)).amax()


@exercise.wrong("look-inside")
def ids_given_back(states, weight, bias, head):
    """This gives back the ids that are said at each depth, (L + 1, T). That is the lens itself;
    asked for is the depth from which on they stay.

    For each position, compare its ids with the last one. How far back do they agree?
    """
    return said_by(states, weight, bias, head)


@exercise.also(ids_given_back)
def final_ids_given_back(states, weight, bias, head):
    return said_by(states, weight, bias, head)[-1]


@exercise.wrong("look-inside")
def least_likely(states, weight, bias, head):
    """This takes the *smallest* logit at each depth.

    The likeliest id has the largest one. Which of `argmax` and `argmin` finds it?
    """
    said = (F.layer_norm(states, weight.shape, weight, bias) @ head.T).argmin(-1)
    return depth_of(said)


@exercise.wrong("look-inside")
def head_turned_around(states, weight, bias, head):
    """The head is multiplied the wrong way around. That stops, except when there are as many
    ids as channels, and then it mixes channels up with ids.

    head is (V, C), a row for each id. (T, C) times what gives (T, V)?
    """
    x = F.layer_norm(states, weight.shape, weight, bias)
    return depth_of((x @ head).argmax(-1))


@exercise.wrong("look-inside")
def largest_channel(states, weight, bias, head):
    """This takes the largest *channel* of the stream, without the head. A channel is not an id.

    What turns C channels into V logits?
    """
    return depth_of(F.layer_norm(states, weight.shape, weight, bias).argmax(-1))


@exercise.caught_as("wrong-dtype")
def depths_as_floats(states, weight, bias, head):
    return settled_at(states, weight, bias, head).float()


@exercise.caught_as("wrong-type")
def depths_in_a_list(states, weight, bias, head):
    return settled_at(states, weight, bias, head).tolist()


@exercise.caught_as("modified-input")
def normalized_in_place(states, weight, bias, head):
    states -= states.mean(-1, keepdim=True)
    return settled_at(states, weight, bias, head)


@exercise.caught_as("raised")
def norm_without_its_shape(states, weight, bias, head):
    return depth_of((F.layer_norm(states, weight, bias) @ head.T).argmax(-1))


@exercise.caught_as("returned-none")
def printed_not_returned(states, weight, bias, head):
    print(settled_at(states, weight, bias, head))


@exercise.caught_as("non-contiguous")
def memory_read_directly(states, weight, bias, head):
    L, T, C = states.shape
    return settled_at(states.as_strided((L, T, C), (T * C, C, 1)), weight, bias, head)
