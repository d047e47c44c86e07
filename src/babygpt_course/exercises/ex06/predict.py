"""06.3: numbers of cross-attention and of decoding, said before they are run."""

import functools
import math

import torch

from babygpt_course.attention import CrossAttention, attention_weights
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.seq2seq import ISO_LENGTH, Seq2Seq, Seq2SeqConfig

B, H, T, S = 16, 4, 10, 25
C, E = 64, 32
TEXT, PADDING = 4, 6

exercise = Prediction(
    chapter="06_cross_attention",
    id="06.3",
    title="Predict, then run",
    kind="predict",
    points=2,
    minutes=8,
    anchor="why-it-works",
    hints="""
    For each number ask first: does it depend on who asks, on who is asked, or on both? What
    stays the same from one written character to the next?

    Scores: one for each text, head, query and key. Equal scores share 1 among those that may
    be seen. If each of n characters is right with probability p, by itself, all are right
    with p to the n-th.

    scores = B * H * T * S. parameters: q from C to C, k and v from E to C, output from C to
    C, and one bias for each of the four times C outputs. Padding without a mask gets 6 shares
    of 10. k and v depend on the source alone: once instead of once a step.
    """,
)


@exercise.question
def scores():
    """B = 16 dates, H = 4 heads, T = 10 written characters, S = 25 positions of the source:
    how many scores has a cross-attention layer?

    Every query meets every key, in each head of each text. How many pairs is that?
    """
    q, k = torch.zeros(B, H, T, 1), torch.zeros(B, H, S, 1)
    return (q @ k.mT).numel()


@exercise.question
def parameters():
    """The decoder has C = 64 channels, the context E = 32. How many parameters have the
    projections of queries, keys, values and output (back to 64), with biases?

    Queries, keys and values have 64 channels each. Which of them are made of 32, and which of
    64?
    """
    with torch.device("meta"):
        layer = CrossAttention(C, H, context_dim=E)
    return sum(p.numel() for p in layer.parameters())


def weights(masked):
    """Attention with equal scores over 4 real and 6 padded positions."""
    mask = torch.arange(TEXT + PADDING) < TEXT if masked else None
    return attention_weights(torch.zeros(1, 2), torch.zeros(TEXT + PADDING, 2), mask)[0]


@exercise.question
def weight_with_mask():
    """A source of 4 characters and 6 positions of padding; all scores are equal. Which weight
    has each character, if the padding is masked?

    The weights that are left add up to 1. Among how many do they share it?
    """
    return weights(masked=True)[0].item()


@exercise.question
def lost_to_padding():
    """The same source of 4 characters and 6 positions of padding, without a mask. Which share
    of the attention goes to the padding, all in all?

    Ten positions with equal scores. How much do six of them get?
    """
    return weights(masked=False)[TEXT:].sum().item()


def small_model():
    with torch.random.fork_rng():  # the notebook's random numbers stay as they are
        return Seq2Seq(Seq2SeqConfig(n_head=1, n_embd=4))


@functools.cache
def written_once():
    """How often the encoder, the decoder and the projection of keys and values ran."""
    model = small_model()
    calls = {"kv": 0, "decoder": 0}
    counted = {"kv": model.decoder[0].cross_attention.kv, "decoder": model.decoder[0]}
    for name, module in counted.items():

        def count(*_, name=name):
            calls[name] += 1

        module.register_forward_hook(count)
    model.translate(torch.tensor([[5, 6, 7]]))
    return calls


@exercise.question
def decoder_calls():
    """A trained model writes a date of 10 characters; there is no end id. How often does the
    decoder run?

    Each character must be known before the next one can be asked for. How many have to be
    asked for?
    """
    return written_once()["decoder"]


@exercise.question
def decoder_calls_in_training():
    """In training the right characters so far are given. How often does the decoder run
    for one batch of dates of 10 characters?

    All inputs of the decoder are known before it starts. What keeps a position from looking
    ahead?
    """
    model = small_model()
    calls = []
    model.decoder[0].register_forward_hook(lambda *_: calls.append(1))
    model(torch.tensor([[5, 6, 7]]), torch.full((1, ISO_LENGTH), 8))
    return len(calls)


@exercise.question
def projections_saved():
    """A decoder with one layer of cross-attention writes 10 characters, and in each call it
    projects the keys and the values of the source anew. How many projections are saved if
    each of these two is computed once (keys count 1, values count 1)?

    What do keys and values depend on? Does that change while the date is written? How many
    projections are left?
    """
    return 2 * (written_once()["kv"] - 1)


def all_right(p, n=ISO_LENGTH):
    return math.prod([p] * n)


@exercise.question
def exact_match_99():
    """Each of the 10 characters of a date is right with probability 0.99, whatever the others
    are. Which share of the dates has no wrong character?

    Both of two characters are right with 0.99 * 0.99. And all of ten?
    """
    return all_right(0.99)


@exercise.question
def exact_match_90():
    """The same for dates of 10 characters, if each character is right with probability 0.9?

    Ten times the same factor. Write down the first three products.
    """
    return all_right(0.9)


# --- correct in other ways ------------------------------------------------------------


@exercise.right
def as_floats():
    return {key: float(value) for key, value in exercise.truth().items()}


@exercise.right
def in_tensors():
    return {key: torch.tensor(value) for key, value in exercise.truth().items()}


@exercise.right
def worked_out_in_other_words():
    return {
        "scores": 64 * 250,
        "parameters": (64 + 1) * 64 + 2 * (32 + 1) * 64 + (64 + 1) * 64,
        "weight_with_mask": 0.25,
        "lost_to_padding": 3 / 5,
        "decoder_calls": 10,
        "decoder_calls_in_training": 1,
        "projections_saved": 2 * 9,
        "exact_match_99": math.exp(10 * math.log(0.99)),
        "exact_match_90": 0.35,
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("by-hand")
def table_of_one_sequence():
    """That is a table of a sequence with itself. Here the queries are the T written
    characters and the keys are the S positions of the source.

    A row for each query, a column for each key. How many rows and how many columns?
    """
    return {"scores": (B * H * T * T, B * H * S * S, B * H * (T + S) ** 2)}


@exercise.wrong("by-hand")
def one_table_for_everyone():
    """Something is left out: every text has its own scores, and every head of it as well.

    How large is one table, and how many tables are there?
    """
    return {"scores": (T * S, H * T * S, B * T * S, B * H, B * H * T, B * H * S)}


@exercise.wrong("by-hand")
def channels_counted_with_the_scores():
    """That has the channels in it. A score is one number for a query and a key, however many
    channels they have.

    What does a dot product leave of its channels?
    """
    D = C // H
    return {"scores": (B * H * T * S * D, B * T * S * C, B * H * T * S * C)}


@exercise.wrong("the-module")
def context_as_wide_as_the_decoder():
    """That makes keys and values of 64 channels. They come from the context, which has 32.

    What goes into the projection of the keys, and what comes out?
    """
    return {"parameters": (4 * (C * C + C), 4 * C * C)}


@exercise.wrong("the-module")
def everything_from_the_context():
    """That makes the queries (or the output) of the context's 32 channels. The queries are made
    by the one who asks, the decoder, and the output goes back to its channels.

    Which of the four layers see the context at all?
    """
    return {
        "parameters": (
            4 * (E * C + C),
            3 * (E * C + C) + C * C + C,
            C * C + C + 2 * (E * C + C) + C * E + E,
            C * E + E + 2 * (E * E + E) + E * C + C,
        )
    }


@exercise.wrong("the-module")
def output_projection_forgotten():
    """That is queries, keys and values alone. The output has a projection too, from 64 to 64.

    Which layer mixes what the heads bring?
    """
    return {"parameters": (C * C + C + 2 * (E * C + C), C * C + 2 * E * C)}


@exercise.wrong("the-module")
def biases_forgotten():
    """The weights are right, and the biases are missing or too few: each of the four layers
    has one for every output.

    Each layer puts out 64 channels. How many biases is that?
    """
    w = 2 * C * C + 2 * E * C
    return {"parameters": (w, w + 4, w + C, w + 2 * C, w + 3 * C, w + 3 * C + E)}


@exercise.wrong("the-module")
def keys_and_values_counted_once():
    """That has one projection for keys and values together. They are two: what a position is
    found by, and what it hands over.

    How many layers from 32 to 64 channels are there?
    """
    return {"parameters": (2 * (C * C + C) + E * C + C, 2 * C * C + E * C)}


@exercise.wrong("vectorize")
def padding_still_counts():
    """That shares the attention among all ten positions. The masked ones get nothing, and
    what is left still adds up to 1.

    A masked score is -inf, and exp(-inf) is 0. Over how many positions does the softmax add
    up?
    """
    return {"weight_with_mask": (0.1, 0.4)}


@exercise.wrong("vectorize")
def whole_for_each():
    """That is the share of all characters together (or of the padding). The question asks for
    one character.

    Four equal weights add up to 1. How large is each?
    """
    return {"weight_with_mask": (1, 0.6, 1 / 6)}


@exercise.wrong("vectorize")
def padding_has_no_weight_of_its_own():
    """That says that padding is ignored by itself. To attention it is a position like any
    other: a key, a score, a weight.

    The model sees an id, and PAD is one. What would make its score low without a mask?
    """
    return {"lost_to_padding": 0}


@exercise.wrong("vectorize")
def characters_instead_of_padding():
    """That is the weight of one position, or the share of the characters. All of the padding
    is asked for.

    Six of ten equal weights: how much is that?
    """
    return {"lost_to_padding": (0.1, 0.4, 0.25, 1 / 6, 6)}


@exercise.wrong("the-module")
def written_all_at_once():
    """That would be training, where all characters so far are given. A model that writes does
    not have the second character before it has written the first.

    How many times is there something new to read?
    """
    return {"decoder_calls": 1}


@exercise.wrong("the-module")
def start_or_end_counted():
    """The start is shown, it costs no call of its own; and there is no end id to be asked for.

    The first call gives the first character. Which call gives the tenth?
    """
    return {"decoder_calls": (9, 11, 12)}


@exercise.wrong("the-module")
def encoder_counted_too():
    """That counts more than the decoder's calls: the source's characters, or every position of
    what is written so far.

    One call reads all that is there and gives one more character. How many characters are
    written?
    """
    return {"decoder_calls": (20, 25, 35, 45, 55, 250)}


@exercise.wrong("the-module")
def training_writes_one_by_one():
    """That is how often it runs to *write*. In training the right characters are there from the
    start, so all positions are computed in one run, each behind its causal mask.

    Which inputs does the last position need, and when are they known?
    """
    return {"decoder_calls_in_training": (10, 9, 11, 160)}


@exercise.wrong("why-it-works")
def queries_kept_as_well():
    """That saves the queries too. They are made of what is being written, and that grows with
    every character.

    Of q, k and v: which depend on the source alone?
    """
    return {"projections_saved": (27, 30, 28)}


@exercise.wrong("why-it-works")
def nothing_left_to_compute():
    """That saves all of them. Keys and values must be computed once, before they can be kept.

    Two projections in each of 10 calls. How many of these are the first ones?
    """
    return {"projections_saved": 20}


@exercise.wrong("why-it-works")
def one_of_the_two():
    """That counts one of the two: keys and values are two projections.

    How many projections does a call of the old decoder make, and how many the new one after
    the first?
    """
    return {"projections_saved": (9, 10)}


@exercise.wrong("why-it-works")
def nothing_can_be_saved():
    """That says that everything has to be computed anew, or it counts what is left. Keys and
    values come from the encoder's output, which has not changed since the first character.

    What does the second call hand to the projection of the keys?
    """
    return {"projections_saved": (0, 1, 2)}


@exercise.wrong("train-it")
def characters_instead_of_dates():
    """That is the share of right *characters*. A date is right when all ten are.

    With two characters, each right with probability p: how often are both?
    """
    return {"exact_match_99": 0.99, "exact_match_90": 0.9}


@exercise.wrong("train-it")
def percent_instead_of_a_share():
    """That is in percent. Asked for is a share (or a weight): 1 is all, and a half is 0.5.

    By what do you divide a percentage to get a share?
    """
    return {
        "weight_with_mask": 25,
        "lost_to_padding": 60,
        "exact_match_99": (100 * all_right(0.99), 90.4, 90),
        "exact_match_90": (100 * all_right(0.9), 34.9, 35),
    }


@exercise.wrong("train-it")
def errors_added_up():
    """That adds up the errors of ten characters, as if no date had two of them. For small
    errors it is nearly right, here it is not.

    Chances of independent things are multiplied. What is 0.9 to the tenth?
    """
    return {"exact_match_90": 0}


@exercise.wrong("train-it")
def any_character_right():
    """That is the chance that at least one character is right, or that all are wrong. Asked for
    is that all ten are right.

    Which event has the probability 0.9 to the tenth?
    """
    return {
        "exact_match_90": (1 - 0.1**10, 1 - 0.9**10),
        "exact_match_99": (1, 1 - 0.99**10),
    }


@exercise.wrong("train-it")
def length_or_digits_miscounted():
    """That multiplies another number of factors. A date such as 1998-03-05 has ten characters:
    eight digits and two hyphens, and all of them are written.

    Count the characters. How often is the model asked?
    """
    return {
        "exact_match_90": (0.9**8, 0.9**9, 0.9**11),
        "exact_match_99": (0.99**8, 0.99**11),
    }
