"""12.3: what an adapter costs and does, said before it is counted."""

import math

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course.exercises.prediction import Prediction
from babygpt_course.lora import LoRALinear, merge

exercise = Prediction(
    chapter="12_lora",
    id="12.3",
    title="Predict, then count",
    kind="predict",
    points=2,
    minutes=8,
    anchor="why-it-works",
    hints="""
    For each number ask first which of the three matrices it is about: the frozen W, A that reads x,
    or B that writes into y. Which of them has a gradient, and which is zero at the start?

    A has r rows of n_in numbers and B has n_out rows of r. The gradient of A is computed with B, and
    that of B with A. A sum of r matrices of rank 1 has at most rank r.

    trained: r (n_in + n_out). scale: alpha / r. after_merging: a plain layer again. error: the root of
    the sum of the squares that were cut off. flops: forward one product, backward one for each thing
    that needs a gradient. state: gradient and two means, 4 bytes each.
    """,
)


def layer(n_in, n_out, rank, alpha=1.0):
    base = nn.Linear(n_in, n_out, bias=False)
    base.requires_grad_(False)
    return LoRALinear(base, rank, alpha)


@exercise.question
def trained():
    """A linear layer has a weight of 300 by 200 and no bias. It gets an adapter of rank 4. How many
    numbers are trained?

    How many rows and columns has A? And B?
    """
    made = layer(200, 300, 4)
    return sum(p.numel() for p in made.parameters() if p.requires_grad)


@exercise.question
def largest_rank():
    """A is (4, 64) and B is (96, 4). Which is the highest rank that B A can have?

    Of how many products of a column and a row is B A the sum?
    """
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(4, 64, generator=generator, dtype=torch.float64)
    B = torch.randn(96, 4, generator=generator, dtype=torch.float64)
    return int(torch.linalg.matrix_rank(B @ A))


@exercise.question
def scale_falls():
    """An adapter has alpha = 16 and rank 8. Now the rank is raised to 32, and alpha stays. By which
    factor is the scale multiplied?

    What is alpha / r before, and what is it after?
    """
    return layer(64, 64, 32, 16.0).scale / layer(64, 64, 8, 16.0).scale


@exercise.question
def first_gradients():
    """A is random and B is zero, as LoRA begins. In the first backward pass, how many of the two get a
    gradient that is not zero?

    The gradient of A is computed with B. What is it, then? And that of B?
    """
    torch.manual_seed(0)
    made = layer(6, 5, 2)
    made(torch.randn(3, 6)).square().sum().backward()
    return sum(bool(p.grad.any()) for p in (made.A, made.B))


@exercise.question
def both_zero():
    """Somebody sets A to zero too. After 1,000 steps of AdamW without decay, how many numbers of A and B
    together are no longer zero?

    What is the gradient of B when A is zero? And that of A when B is zero?
    """
    made = layer(6, 5, 2)
    nn.init.zeros_(made.A)
    optimizer = torch.optim.AdamW([made.A, made.B], weight_decay=0.0)
    x = torch.ones(3, 6)
    for _ in range(5):  # nothing has changed after one step, so nothing ever will
        optimizer.zero_grad()
        made(x).square().sum().backward()
        optimizer.step()
    return int(made.A.count_nonzero() + made.B.count_nonzero())


@exercise.question
def error_left():
    """A weight has the singular values 7, 4, 3 and 0. It is replaced by its best approximation of rank
    1. How long is the error, as the root of the sum of the squares of all its entries?

    Which singular values has the error itself?
    """
    values = torch.tensor([7.0, 4, 3, 0], dtype=torch.float64)
    W = torch.diag(values)
    U, S, Vh = torch.linalg.svd(W)
    return (W - S[0] * torch.outer(U[:, 0], Vh[0])).norm().item()


@exercise.question
def flops():
    """The product of a linear layer takes 10 GFLOPs forward. How many GFLOPs do forward and backward take
    together when its weight is frozen and layers below it are trained? (Without A and B.)

    Two things can want a gradient backward: the weight, and what came in. Which of them does?
    """
    W = torch.zeros(5, 4)
    x = torch.zeros(10, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        (x @ W.T).sum().backward()
    return counter.get_total_flops() * 10 // (2 * 10 * 5 * 4)


@exercise.question
def state_bytes():
    """A model of 1,000,000 numbers in fp32 is trained with AdamW, and 10,000 of them belong to adapters. How
    many bytes do all gradients and all running means take when the rest is frozen?

    Who has a gradient, and what does AdamW keep for each number that it trains?
    """
    w = nn.Parameter(torch.zeros(10_000))
    frozen = nn.Parameter(torch.zeros(990_000), requires_grad=False)
    optimizer = torch.optim.AdamW([w, frozen])
    (w.sum() + frozen.sum()).backward()
    optimizer.step()
    kept = [w.grad, *optimizer.state[w].values(), frozen.grad]
    kept += list(optimizer.state[frozen].values())
    return sum(t.nbytes for t in kept if t is not None and t.ndim)


@exercise.question
def after_merging():
    """A layer of 100 by 100 (no bias) has an adapter of rank 10. How many numbers has the layer when the
    adapter has been merged?

    What are the shapes of W and of B A?
    """
    model = nn.Sequential(layer(100, 100, 10))
    return sum(p.numel() for p in merge(model).parameters())


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def as_floats():
    return {key: float(value) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {
        key: torch.tensor(value, dtype=torch.float64)
        for key, value in exercise.truth().items()
    }


@exercise.right
def worked_out_in_other_words():
    return {
        "trained": 4 * 200 + 300 * 4,
        "largest_rank": min(4, 64, 96),
        "scale_falls": (16 / 32) / (16 / 8),
        "first_gradients": 1,
        "both_zero": 0,
        "error_left": math.sqrt(4**2 + 3**2),
        "flops": 10 + 10,
        "state_bytes": 10_000 * 3 * 4,
        "after_merging": 100 * 100,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def frozen_counted_too():
    """That counts the frozen weight, alone or with the adapter. Frozen means that it is not trained.

    Which two matrices are left, and which shapes have they?
    """
    return {"trained": (300 * 200, 300 * 200 + 4 * 500), "state_bytes": 12 * 10**6}


@exercise.wrong("by-hand")
def sides_multiplied():
    """That multiplies the two sides with each other, as if the rank were one more axis of W. The two
    factors stand one beside the other.

    A has 4 rows of 200 numbers. How many has B, and what is done with the two counts?
    """
    return {"trained": (4 * 300 * 200, 4 * 4 * 500, 300 * 200 // 4)}


@exercise.wrong("by-hand")
def only_one_of_the_two():
    """That is only one of the two matrices of an adapter.

    A reads 200 numbers, B writes 300. Is either of them frozen?
    """
    return {"trained": (4 * 200, 4 * 300)}


@exercise.wrong("by-hand")
def rank_left_out():
    """That is the number for rank 1: one row and one column.

    How many rows and how many columns has rank 4?
    """
    return {"trained": 500}


@exercise.wrong("why-it-works")
def rank_of_the_large_matrix():
    """That is a side of the product. B A is 96 by 64, and yet it is a sum of only a few products of a
    column and a row.

    What is the size between B and A, over which the product sums up?
    """
    return {"largest_rank": (64, 96)}


@exercise.wrong("why-it-works")
def ranks_added_or_multiplied():
    """That adds or multiplies the ranks of the two. Each row of B A is a mix of the rows of A.

    How many rows has A? In how many directions can their mixes go?
    """
    return {"largest_rank": (8, 16)}


@exercise.wrong("by-hand")
def scale_does_not_care():
    """That is the factor for an adapter without alpha / r. The scale is alpha divided by the rank.

    What is 16 / 8? And 16 / 32?
    """
    return {"scale_falls": (1, 16)}


@exercise.wrong("by-hand")
def scale_the_other_way():
    """That goes the other way: a higher rank makes alpha / r smaller. (Or it is the scale itself, and not
    the factor between the two.)

    What is 16 / 8, what is 16 / 32, and by what must the first be multiplied to get the second?
    """
    return {"scale_falls": (4, 0.5, 2)}


@exercise.wrong("why-it-works")
def both_learn_at_once():
    """That would be so if both were random. A change in A changes nothing as long as B multiplies it by
    zero.

    The gradient of A has B as a factor. What is it in the first step? And that of B?
    """
    return {"first_gradients": 2}


@exercise.wrong("why-it-works")
def neither_can_begin():
    """That would be so if both were zero. The gradient of B has A x as a factor, and A is random.

    Which of the two is zero at the start? Whose gradient is zero because of that?
    """
    return {"first_gradients": 0}


@exercise.wrong("how-it-breaks")
def it_starts_in_the_end():
    """That expects one of the two to get going. The gradient of A has B as a factor and the gradient of B
    has A: with both zero, both gradients are zero, and after the step everything is as before.

    What would the second step do differently from the first?
    """
    return {"both_zero": (1, 10, 12, 22, 1000, 2)}


@exercise.wrong("why-it-works")
def values_added_up():
    """That adds up the values, or counts the wrong ones. A length is the root of a sum of squares, and the
    error holds what was cut off.

    Which values are cut off? What are their squares together?
    """
    return {"error_left": (7, 14, 3, 4, 10, 11)}


@exercise.wrong("why-it-works")
def squares_without_a_root():
    """That is the sum of the squares, without its root, or the length of what was kept too.

    The error is as long as the hypotenuse over which two sides?
    """
    return {"error_left": (25, 74, math.sqrt(74), math.sqrt(58), math.sqrt(65), 9)}


@exercise.wrong("why-it-works")
def whole_training_step():
    """That is a step with a trained weight: forward, the gradient of what came in, and the gradient of the
    weight.

    Who needs the gradient of a weight that never moves?
    """
    return {"flops": 30}


@exercise.wrong("why-it-works")
def nothing_backward():
    """That is the forward pass alone. Below the layer something is trained, and the gradient has to come
    through to it.

    How many products bring it from what came out to what came in?
    """
    return {"flops": (10, 0)}


@exercise.wrong("why-it-works")
def share_of_the_weights():
    """That takes the work for smaller because hardly any numbers are trained. The frozen weight still
    multiplies everything, forward and backward.

    Which of the three products of a training step is saved?
    """
    return {"flops": (15, 11, 10.1, 10.2, 12)}


@exercise.wrong("why-it-works")
def weights_counted_too():
    """That counts the weights themselves as well. Asked for are the gradients and the running means.

    How many numbers does AdamW need besides each weight?
    """
    return {"state_bytes": (160_000, 4_120_000, 16 * 10**6)}


@exercise.wrong("why-it-works")
def a_mean_forgotten():
    """That leaves out the gradient, or one of AdamW's two running means, or all of them but one.

    Count for one trained number: its gradient, m, v. How many bytes is that?
    """
    return {"state_bytes": (40_000, 80_000)}


@exercise.wrong("why-it-works")
def numbers_instead_of_bytes():
    """That counts numbers. A number in fp32 has 4 bytes.

    How many numbers are kept, and how many bytes do they take?
    """
    return {"state_bytes": (10_000, 20_000, 30_000)}


@exercise.wrong("the-module")
def adapter_still_there():
    """That still has the adapter in it, or only the adapter. Merging adds B A to W: numbers are changed,
    and none are added.

    Which shape has B A? And W + B A?
    """
    return {"after_merging": (12_000, 2_000, 11_000, 8_000, 20_000)}
