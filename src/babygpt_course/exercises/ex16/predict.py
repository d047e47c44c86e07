"""16.3: what sharing and keeping cost and save, said before it runs."""

import math

import torch

from babygpt_course import ledger
from babygpt_course.checkpoint import CHECKPOINTS
from babygpt_course.exercises.prediction import Prediction
from babygpt_course.generate import generate
from babygpt_course.llama import Llama, LlamaConfig

exercise = Prediction(
    chapter="16_llama_2",
    id="16.3",
    title="Predict, then count",
    kind="predict",
    points=2,
    minutes=7,
    anchor="predict",
    hints="""
    For each number ask: is it counted once for a layer, for a pair of keys and values, or for a head?
    And does a token bring it once, or anew with each token that follows?

    A token leaves a key and a value of D numbers in each of G pairs of each layer: 2 L G D numbers, times
    the bytes of one. A score is one query with one key, for each of the H heads. wk leads from C channels to
    G * D.

    outgrows: the bytes of the weights over the bytes of a token, rounded up. positions_without: 1 + 2 + ... +
    100. scores_of_a_step: the number of heads times the number of kept tokens.
    """,
    equivalent={
        f"... _sharing': 64 / 8, 'outgrows': 4 * 2600{n} // (2 * 5 * 4 * 8 * 4) + 1, 'positions ...": (
            "one parameter more or less does not change the whole number of tokens"
        )
        for n in (31, 33)
    },
)

SMALL = CHECKPOINTS["stories260K"]
LARGE = LlamaConfig(
    8192, 80, 64, 8, hidden_dim=28_672, max_seq_len=4096, tie=False
)  # LLaMA 2 70B


def meta(config):
    with torch.device("meta"):
        return Llama(config)


def of_a_token(config, width):
    """The bytes of all layers' caches, over how many tokens there is room for."""
    caches = meta(config).new_cache(1)
    numbers = sum(c.n_bytes for c in caches) // 4
    return numbers * width / config.max_seq_len


@exercise.question
def bytes_a_token():
    """A LLaMA has 5 layers, 8 heads, 4 pairs of keys and values, 8 numbers in a key and four bytes a
    number. How many bytes does each token add to the cache?

    A key *and* a value, in each pair, in each layer. How many numbers is that?
    """
    return of_a_token(SMALL, 4)


@exercise.question
def kilobytes_of_70b():
    """LLaMA 2 70B has 80 layers, 64 heads, 8 pairs and 128 numbers in a key, with two bytes a number. How
    many kilobytes, of 2^10 bytes each, does a token add?

    2 times 80 times 8 times 128 numbers. How many bytes has each?
    """
    return of_a_token(LARGE, 2) / 1024


@exercise.question
def without_sharing():
    """The same model with a pair for each of its 64 heads, in place of 8 pairs. How many times as large is the
    cache?

    What of 2 L G D changes, and by which factor?
    """
    each = LlamaConfig(8192, 80, 64, 64, hidden_dim=28_672, max_seq_len=4096)
    return of_a_token(each, 2) / of_a_token(LARGE, 2)


@exercise.question
def outgrows():
    """The first model has 260,032 parameters of four bytes. From how many tokens on does the cache of one text take
    more memory than the weights?

    The weights have 4 times 260,032 bytes. How often does what a token adds fit in there?
    """
    n = 1
    while ledger.kv_cache_bytes(SMALL, n) <= 4 * SMALL.n_params:
        n += 1
    return n


def positions(kv_cache):
    """How many positions go through the first layer while 100 tokens are written."""
    config = LlamaConfig(8, 1, 2, 1, vocab_size=5, max_seq_len=128)
    model, seen = Llama(config).eval(), []
    model.blocks[0].register_forward_pre_hook(
        lambda block, args: seen.append(args[0].shape[1])
    )
    generate(model, torch.tensor([[0]]), 100, kv_cache=kv_cache)
    return sum(seen)


@exercise.question
def positions_without():
    """A text begins with 1 token, and 100 more are written. Nothing is kept. How many positions go through the
    model in all?

    For the first new token it reads 1 position, for the second 2, for the last 100. Add them up.
    """
    return positions(kv_cache=False)


@exercise.question
def positions_with():
    """The same text of 1 token, and 100 more are written, with a cache. How many positions go through the model
    in all?

    What goes through in each step, and how many steps are there?
    """
    return positions(kv_cache=True)


@exercise.question
def scores_of_a_step():
    """The cache holds 300 tokens, the newest among them. A layer has 8 heads and 4 pairs. How many scores does it
    compute for the newest token?

    A score is one query with one key. How many queries are there, and how many keys does each look
    at?
    """
    part = ledger.work(LlamaConfig(64, 1, 8, 4), 1, 1, past=299)["scores"]
    # A score takes 2 * D operations, and its weight takes as many again for the value.
    return part.flops / (4 * 8)


@exercise.question
def products_with_half_the_pairs():
    """8 heads share 4 pairs, where each had a pair of its own. How many times as many multiplications as before
    do the scores of a step need?

    Each head still has a query. With how many keys does it meet?
    """
    before, after = (LlamaConfig(64, 1, 8, pairs) for pairs in (8, 4))
    scores = [ledger.work(c, 1, 1, past=299)["scores"].flops for c in (after, before)]
    return scores[0] / scores[1]


@exercise.question
def numbers_in_wk():
    """The model has 64 channels, 8 heads and 4 pairs. How many numbers has wk, the matrix that makes its keys?

    From 64 channels to how many? A key has 64 / 8 numbers.
    """
    return meta(SMALL).blocks[0].attention.wk.weight.numel()


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
        "bytes_a_token": 4 * 2 * (5 * 4 * 8),
        "kilobytes_of_70b": 80 * (8 * 128) * 4 / 2**10,
        "without_sharing": 64 // 8,
        "outgrows": math.ceil(260_032 * 4 / (2 * 5 * 4 * 8 * 4)),
        "positions_without": sum(range(1, 101)),
        "positions_with": 100,
        "scores_of_a_step": 8 * 300,
        "products_with_half_the_pairs": 8 / 8,
        "numbers_in_wk": 64 * (64 // 2),
    }


# --- misconceptions, and the numbers they lead to -------------------------------------


@exercise.wrong("why-it-works")
def keys_without_values():
    """That counts keys only. For each key a value is kept as well.

    With which number do you multiply for the two of them?
    """
    return {"bytes_a_token": 640, "kilobytes_of_70b": 160}


@exercise.wrong("why-it-works")
def every_head_keeps():
    """That counts a key and a value for every head. The heads of a group share one pair, and it is kept
    once.

    How many pairs has a layer?
    """
    return {"bytes_a_token": 2560, "kilobytes_of_70b": 2560}


@exercise.wrong("why-it-works")
def one_layer_only():
    """That is one layer. Each layer has keys and values of its own, and keeps them.

    By how many layers do you multiply?
    """
    return {"bytes_a_token": (256, 64), "kilobytes_of_70b": (4, 2)}


@exercise.wrong("why-it-works")
def numbers_for_bytes():
    """That counts numbers, or takes another width for them. A number has the bytes that the question says.

    2 L G D is how many numbers. And in bytes?
    """
    return {
        "bytes_a_token": (320, 10_240),
        "kilobytes_of_70b": (640, 320 * 1024, 1280),
    }


@exercise.wrong("why-it-works")
def one_pair_only():
    """That is a single pair. A layer has several, and each keeps a key and a value.

    How many pairs, in each of how many layers?
    """
    return {"bytes_a_token": 2 * 5 * 8, "kilobytes_of_70b": 40}


@exercise.wrong("why-it-works")
def kilobytes_of_a_thousand():
    """That divides by 1,000. The question takes kilobytes of 2^10 = 1,024 bytes.

    How many bytes is it? And over 1,024?
    """
    return {"kilobytes_of_70b": 327.68}


@exercise.wrong("why-it-works")
def as_many_times_as_heads():
    """That is the number of heads, or of pairs before, or the ratio the other way round. The cache has as
    many keys as pairs, so it grows as they do.

    From 8 pairs to 64: how many times as many?
    """
    return {"without_sharing": (64, 16, 1 / 8, 1, 2, 56)}


@exercise.wrong("why-it-works")
def almost_as_large():
    """The cache is not yet larger with that many tokens, or it has been for a while: look at the rounding.

    812 tokens take 812 * 1,280 bytes. Is that more than 4 * 260,032?
    """
    return {"outgrows": (812, 814, 4 * 260_032 / 1280)}


@exercise.wrong("why-it-works")
def parameters_for_bytes():
    """That compares a number of parameters with a number of bytes, or leaves something out of the cache. Both
    sides are bytes.

    4 times 260,032 bytes of weights, over the bytes that you found for one token. What is that?
    """
    return {"outgrows": (204, 203, 1626, 1625, 407, 406, 3251, 3250)}


@exercise.wrong("why-it-works")
def each_position_once():
    """That is what it takes with a cache. Without one, every step reads the whole text again.

    How many positions does the tenth step read, and the hundredth?
    """
    return {"positions_without": (100, 101)}


@exercise.wrong("why-it-works")
def a_full_square():
    """That counts a full square: as if every step had as many positions as the last. The steps grow
    from 1 to 100.

    What is half of a square with its diagonal?
    """
    return {"positions_without": (10_000, 10_100, 10_201, 5000)}


@exercise.wrong("why-it-works")
def one_step_more_or_less():
    """That counts one step too many or one too few. The model runs once for each new token; the last one that
    it writes is not read any more.

    How long is the text in the first step, and how long in the hundredth?
    """
    return {"positions_without": (5151, 4950, 5150, 5049, 5051)}


@exercise.wrong("why-it-works")
def still_reads_all():
    """That reads old positions again. With a cache only the newest goes through the model.

    100 tokens are written, and each step reads how many positions?
    """
    return {"positions_with": (5050, 10_000, 5151)}


@exercise.wrong("why-it-works")
def last_one_read_too():
    """The token that is written last is not read any more: nothing comes after it. And the one the text began
    with is.

    One step for each new token. How many steps?
    """
    return {"positions_with": (101, 99, 1)}


@exercise.wrong("by-hand")
def scores_for_pairs():
    """That counts a score for each pair, or for one head. Every head has a query of its own and computes its own
    scores: sharing saves memory, and no scores.

    How many heads are there, and how many keys does each look at?
    """
    return {"scores_of_a_step": (1200, 300, 600)}


@exercise.wrong("why-it-works")
def scores_of_all_tokens():
    """That counts scores of other tokens too, or both sides of something. Only the newest token has a query in
    this step, and it has a score with each of the 300.

    One row of the attention map, for each of 8 heads. How long is it?
    """
    return {
        "scores_of_a_step": (720_000, 361_200, 90_000, 2392, 2408, 4800, 9600, 19_200),
    }


@exercise.wrong("by-hand")
def sharing_saves_products():
    """That says that sharing makes the scores cheaper (or dearer). The heads keep their own queries, and each of
    them meets every kept key, whoever else reads it.

    8 queries before, 8 queries after. What becomes less is memory, and the making of the keys.
    """
    return {"products_with_half_the_pairs": (0.5, 2, 0.25, 0.75, 4)}


@exercise.wrong("the-module")
def wk_as_large_as_wq():
    """That is a square matrix, as wq is. The keys of 4 pairs are narrower than the queries of 8 heads.

    4 pairs of 8 numbers each: how many channels go out?
    """
    return {"numbers_in_wk": (64 * 64, 2 * 64 * 64)}


@exercise.wrong("the-module")
def wk_of_one_pair():
    """That is the matrix of one pair, or another count of channels. wk makes the keys of all pairs at once.

    From 64 channels to 4 * 8. Rows times columns?
    """
    return {"numbers_in_wk": (64 * 8, 32 * 32, 64 * 4, 32, 5 * 64 * 32)}
