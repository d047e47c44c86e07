"""10.3: what a training run does, said before it runs."""

import math

import torch
from torch import nn

from babygpt_course.bigram import Bigram
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.generate import filter_logits
from babygpt_course.trainer import History, TrainConfig, learning_rate, train

exercise = Prediction(
    chapter="10_training",
    id="10.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="predict",
    hints="""
    For each number ask what it is a share of: of a batch, of the highest rate, of the length
    of all gradients together. What stays the same when the batch is cut in parts?

    Up by lr / warmup a step, and then down by lr / (steps - warmup). Clipping multiplies all
    gradients by clip / length, if the length of all of them together is above clip. At temperature
    t a probability p becomes p to the power 1 / t, over the sum of all.

    tokens: windows times positions. AdamW's first step: corrected m is g, the root of corrected v
    is the size of g. largest_rate: w becomes w - lr * 4 * w; when is that farther from 0 than w?
    stop: the best, and then `patience` evaluations that bring no better one.
    """,
)


@exercise.question
def tokens_of_a_step():
    """A step has a batch of 32 windows of 64 tokens, in accumulate = 4 parts. From how many
    targets is the gradient of the step made?

    The parts together are the batch. Does a cake grow when it is cut?
    """
    steps = TrainConfig(
        steps=1, batch_size=32, block_size=64, accumulate=4, progress=False
    )
    ids = torch.arange(200) % 3
    rows = train(Bigram(3), (ids, ids), steps).rows
    return int(rows[-1]["tokens"])


SCHEDULE = TrainConfig(steps=240, warmup=40, lr=1.0)


@exercise.question
def rate_of_the_10th_step():
    """The rate warms up linearly over 40 steps, so that step 40 has all of it, and falls
    linearly to 0 over the other 200. Which share of the highest rate has the 10th step?

    Equal steps from 0 to 1 in 40 steps. How much of that has been climbed after 10?
    """
    return learning_rate(9, SCHEDULE)


@exercise.question
def rate_in_the_middle():
    """The same schedule, 40 steps up and 200 down to 0. Which share has the rate when 140 of the
    240 steps have been made?

    At 40 it is 1, and at 240 it is 0. How far down is 140?
    """
    return learning_rate(140, SCHEDULE)


def diverges(lr, steps=200):
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (2 * w**2).backward()
        optimizer.step()
    return not abs(w.item()) <= 1


@exercise.question
def largest_rate():
    """The loss is 2 w^2, so its gradient is 4 w. Up to which learning rate does plain gradient
    descent not run away from the minimum?

    A step makes w - lr * 4 * w of w. For which lr is that as far from 0 as w was, on the other
    side?
    """
    low, high = 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if diverges(middle) else (middle, high)
    return low


@exercise.question
def first_step_of_adamw():
    """The very first gradient of a weight is 50. How many times lr does AdamW move the weight
    (betas 0.9 and 0.999, no decay)?

    Both means are corrected. What is corrected m, and what is the root of corrected v?
    """
    w = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
    w.grad = torch.tensor(50.0, dtype=torch.float64)
    torch.optim.AdamW([w], lr=1.0, weight_decay=0.0).step()
    return abs(w.item())


@exercise.question
def clipped():
    """A model has two weights, with gradients 3 and 4. They are clipped together to length 1.
    What is the second one afterward?

    The length of both together is a hypotenuse. By what is each of them divided?
    """
    model = nn.ParameterList([torch.zeros(()), torch.zeros(())])
    for p, slope in zip(model, (3.0, 4.0)):
        p.grad = torch.tensor(slope)
    nn.utils.clip_grad_norm_(model, 1.0)
    return model[1].grad.item()


@exercise.question
def accumulated():
    """A batch is cut in 2 equal parts. The gradient of a weight is 2 for the mean loss of the first
    part, and 6 for that of the second. What is it for the mean loss of the whole batch?

    Each part is half of the batch. Which share of its gradient counts?
    """
    w = torch.zeros((), requires_grad=True)
    for slope in (2.0, 6.0):
        (slope * w / 2).backward()
    return w.grad.item()


LOSSES = {0: 4.7, 100: 2.4, 200: 2.0, 300: 2.1, 400: 1.9, 500: 2.2, 600: 2.5, 700: 2.9}


@exercise.question
def stopped_at():
    """The validation losses at steps 0, 100, 200, 300, 400, 500, 600, 700 are 4.7, 2.4, 2.0, 2.1,
    1.9, 2.2, 2.5, 2.9. After which step does a run with patience = 2 stop?

    Go along the list and keep the best so far. When have two evaluations in a row brought no
    new best?
    """
    history = History()
    for step, loss in LOSSES.items():
        history.rows.append({"step": step, "val_loss": loss})
        if history.stalled(patience=2):
            return step


@exercise.question
def cooled():
    """Two tokens have the probabilities 0.8 and 0.2. Which probability has the first one at a
    temperature of 0.5?

    The logits are doubled, so the ratio of the two, which is 4, is squared. Of which two shares is
    that the ratio?
    """
    logits = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log()
    return filter_logits(logits, temperature=0.5).softmax(-1)[0, 0].item()


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
        "tokens_of_a_step": 4 * (8 * 64),
        "rate_of_the_10th_step": 10 / 40,
        "rate_in_the_middle": 1 - 100 / 200,
        "largest_rate": 2 / 4,
        "first_step_of_adamw": 50 / math.sqrt(50**2),
        "clipped": 4 / math.hypot(3, 4),
        "accumulated": (2 + 6) / 2,
        "stopped_at": 600,
        "cooled": 16 / 17,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("why-it-works")
def parts_make_it_larger():
    """That counts every part as a whole batch, or only one of the parts. `accumulate` cuts the
    batch that there is: the parts together are the 32 windows.

    How many windows has one part, and how many parts are there?
    """
    return {"tokens_of_a_step": (32 * 64 * 4, 32 * 64 // 4)}


@exercise.wrong("the-module")
def windows_instead_of_targets():
    """That counts windows, or positions of one window. Every position of a window has a target of
    its own.

    How many targets has a window of 64 tokens, and how many windows are there?
    """
    return {"tokens_of_a_step": (32, 64, 8, 32 * 4, 64 * 4, 32 * 63)}


@exercise.wrong("the-module")
def full_rate_from_the_start():
    """That is the rate without a warm-up. The steps begin small, because AdamW knows little of the
    gradients yet.

    Step 40 is the first with all of the rate. Which share has the 10th?
    """
    return {"rate_of_the_10th_step": (1, 230 / 240, 231 / 240)}


@exercise.wrong("the-module")
def warmup_over_the_whole_run():
    """That counts from the wrong place: the warm-up ends at step 40, and from there the fall to 0
    takes the other 200.

    Which step has the share 1? And how far is it from there to your step?
    """
    return {
        "rate_of_the_10th_step": (10 / 240, 10 / 200, 30 / 40),
        "rate_in_the_middle": (100 / 240, 140 / 240, 140 / 200, 60 / 200),
    }


@exercise.wrong("the-module")
def falls_along_a_cosine():
    """That is another schedule: it stays high and then falls. This one falls by the same amount in
    each step.

    100 of 200 steps down, all of them equally large. What is left?
    """
    return {"rate_in_the_middle": (1, 0.1, math.sqrt(0.5))}


@exercise.wrong("by-hand")
def no_overshoot_allowed():
    """With that rate the very first step lands on the minimum. Larger ones jump to the other side,
    and as long as they land nearer than before they still arrive.

    Start at w = 1. Where does a step with lr = 0.4 end, and is that nearer to 0?
    """
    return {"largest_rate": (0.25, 0.2)}


@exercise.wrong("by-hand")
def curvature_misread():
    """That takes another slope than 4 w. The step is lr times the gradient, and the gradient of
    2 w^2 is 4 w.

    w becomes (1 - 4 lr) w. For which lr is that factor -1?
    """
    return {"largest_rate": (1, 2, 4, 0.125, 1 / 3)}


@exercise.wrong("by-hand")
def as_large_as_the_gradient():
    """That is the step of plain gradient descent. AdamW divides by the size that the gradients
    have had so far.

    After one gradient, how large is "the size so far"? And the gradient divided by it?
    """
    return {"first_step_of_adamw": (50, 2500, 1 / 50, 5)}


@exercise.wrong("by-hand")
def means_not_corrected():
    """That forgets the correction of one mean or of both. After one step they have seen one
    gradient, and the rest of each is the 0 it began with.

    m is 0.1 of the gradient. What is it after it has been divided by 1 - 0.9?
    """
    raw = 0.1 / math.sqrt(0.001)
    return {"first_step_of_adamw": (raw, 0.1, 1 / math.sqrt(0.001), 0)}


@exercise.wrong("why-it-works")
def each_clipped_by_itself():
    """That clips each gradient by itself. They are clipped together, so that the direction of
    the step stays what it was.

    What is the length of (3, 4)? By which number are both divided to make it 1?
    """
    return {"clipped": 1}


@exercise.wrong("why-it-works")
def lengths_added_up():
    """That divides by the wrong length: by the sum of the two, by the square, or by the larger of
    them.

    The length of (3, 4) is the root of 9 + 16. How much is that?
    """
    return {"clipped": (4 / 7, 4 / 25, 0.6, 0.2, 5, 4)}


@exercise.wrong("why-it-works")
def gradients_of_means_added():
    """That adds the gradients of the two means. The loss of the whole is the *mean* of its halves,
    so each counts half.

    With ten parts and no division the step would be ten times as large. What is each loss divided
    by before `backward`?
    """
    return {"accumulated": (8, 12, 16)}


@exercise.wrong("why-it-works")
def only_one_part():
    """That is the gradient of one part, or half of it: what the other part says is lost.

    `backward` adds to the gradient that is there. What was there after the first part?
    """
    return {"accumulated": (2, 6, 1, 3)}


@exercise.wrong("why-it-works")
def stops_at_the_best():
    """That is the best step. At that time nobody knows that it is the best: only the evaluations
    after it show that.

    How many of them does patience = 2 wait for?
    """
    return {"stopped_at": 400}


@exercise.wrong("why-it-works")
def patience_miscounted():
    """The best so far is at step 400. From there, patience = 2 means two evaluations without a
    better one.

    Which is the first evaluation after the best, and which one the second?
    """
    return {"stopped_at": (500, 700, 402, 800)}


@exercise.wrong("why-it-works")
def first_rise_is_the_end():
    """That stops at the first rise. The loss at 300 is higher than at 200, and then 400 brings a
    new best: the waiting begins anew.

    How many evaluations in a row, without a new best, are there before 400?
    """
    return {"stopped_at": (300, 200)}


@exercise.wrong("look-inside")
def temperature_the_other_way():
    """That makes the likelier token less likely, or leaves it as it is. A temperature below 1 divides
    by something small, and so drives the logits apart.

    Is the ratio of the two larger or smaller than 4 now?
    """
    return {"cooled": (2 / 3, 0.8, 0.4, 1 / 17)}


@exercise.wrong("look-inside")
def doubled_and_not_squared():
    """That changes probabilities as if they were logits. Dividing logits by 0.5 doubles them, and a
    doubled logarithm is that of the square.

    The squares of 0.8 and 0.2 do not add up to 1. What must they be divided by?
    """
    return {"cooled": (0.64, 8 / 9, 1.6, 1, 0.9)}


@exercise.wrong("predict")
def percent_instead_of_a_share():
    """That is in percent. Asked for is a share (or a probability): 1 is all, and a half is 0.5.

    By what do you divide a percentage to get a share?
    """
    return {
        "rate_of_the_10th_step": 25,
        "rate_in_the_middle": 50,
        "cooled": (94, 94.12, 100 * 16 / 17),
    }
