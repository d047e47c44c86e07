"""ngram.mjs: the ladder of counted n-grams, on contexts seen, never seen, empty, and shorter than the order."""

import random

import torch

from babygpt_course import tinytales
from babygpt_course.live.ngram import packed
from babygpt_course.ngram import SMOOTHING, NGram


def golden() -> dict:
    chance = random.Random(0)
    tales = "".join(tinytales.sample(12, seed=1))
    chars = sorted(set(tales))
    texts = {
        "tales": (
            [chars.index(c) for c in tales],
            len(chars) + 1,
        ),  # one id never comes
        "few ids": ([chance.randrange(3) for _ in range(41)], 4),
        "one id": ([2], 5),
    }
    cases = []
    for name, (ids, V) in texts.items():
        contexts = [[], [0], ids[:9], ids[-6:]]
        contexts += [[chance.randrange(V) for _ in range(n)] for n in (1, 2, 5, 8)]
        contexts += [ids[i : i + 7] for i in chance.sample(range(max(1, len(ids))), 1)]
        contexts.append([V - 1] * 6)  # never seen, from the newest token on
        contexts.append([V - 1, *ids[:3]])  # seen up to a point
        for order in (1, 2, 3, 6):
            for smoothing in SMOOTHING:
                options = {"k": chance.choice((0.01, 1.0)), "discount": 0.6}
                model = NGram(order, smoothing, **options).fit(ids, V)
                cases += [
                    {
                        "text": name,
                        "order": order,
                        "method": smoothing,
                        **options,
                        "context": context,
                        "probs": model.probs(context).tolist(),
                    }
                    for context in contexts
                ]
    return {
        "texts": {name: {"ids": ids, "V": V} for name, (ids, V) in texts.items()},
        "cases": cases,
        "packed": [packed(torch.tensor(ids)).tolist() for ids, _ in texts.values()],
    }


FAULTS = {
    "the discount is not handed down": (
        "ngram.mjs",
        'if (method === "kneser_ney") handed = discount * t;',
        "",
    ),
    "raw counts for continuation counts": (
        "ngram.mjs",
        'method === "kneser_ney" && length < order - 1',
        "false",
    ),
    "continuation counts on the top rung too": (
        "ngram.mjs",
        "&& length < order - 1",
        "",
    ),
    "the counts of another order": ("ngram.mjs", "i - j] !==", "i - j - 1] !=="),
    "the oldest token instead of the newest": (
        "ngram.mjs",
        "context[context.length - j]",
        "context[j - 1]",
    ),
    "Witten-Bell hands down to all alike": (
        "ngram.mjs",
        'method === "mle" || method === "add_k";',
        'method !== "kneser_ney";',
    ),
    "kinds counted as visits": ("ngram.mjs", "Number(c > 0)", "c"),
    "an unseen context is uniform": ("ngram.mjs", ": shorter;", ": even;"),
}
