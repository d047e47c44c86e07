"""Chapter 09: BabyGPT writes a tale, each word with its chance, and whether the tale keeps its promises."""

import copy
import html
import re
from dataclasses import dataclass
from typing import Any

import torch

from babygpt_course import tinytales
from babygpt_course.errors import ConfigError
from babygpt_course.gpt import GPT
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.live.rng import random_numbers
from babygpt_course.tokenizer import WordTokenizer

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
# What counts nothing and is nobody's wish: ducks that walk by, "one by one", somebody's umbrella.
ASIDE = (
    r"\b(?:Two|Three|Four|Five) (?:white|brown|gray|speckled)\b|\bone by(?: one)?\b|\bnot one too\b|\bone (?:great|big|secret)\b"
    r"|\btwo sisters\b|\bOne (?:bright|warm|fine|quiet)\b|\bOne, two\b|\bin one (?:hand|pocket)\b"
    r"|\bunder a \w+ umbrella\b|\ba drum out\b"
)
# A number of which the next words may still show that it is one of these.
UNSURE = r"\b(?:" + "|".join(NUMBERS) + r")\b,? ?\w*$"
PROMPTS = (
    "In the window of the toy shop, Nora saw a robot.",
    "Tom had a kite, and Mia had a drum.",
    "Lucy and Ben went to look for shells on the beach.",
    "",
)


@dataclass(frozen=True)
class Promise:
    """What a tale has said, and what became of it: "none" yet made, "open", "kept" or "broken"."""

    kind: str  # "name", "wish" or "count"
    state: str
    said: list[str]


def rules() -> dict[str, Any]:
    """The words that the promises of a TinyTale are made of, for this file and for the browser's."""
    kinds = tinytales.grammar().kinds
    return {
        "children": list(kinds["child"]),
        "toys": {name: row["fun"] for name, row in kinds["toy"].items()},
        "items": [row["many"] for row in kinds["item"].values()],
        "numbers": NUMBERS,
        "aside": ASIDE,
        "unsure": UNSURE,
    }


def promises(
    text: str, ended: bool, words: dict[str, Any] | None = None
) -> list[Promise]:
    """Name, wish and count of a tale as far as it is written.

    name: the last child named was named before. wish: so was the last toy, and what is
    done with a toy fits the toy named last. count: the price of coins, and the two numbers
    that it is the sum of; of things gathered, two numbers and then their sum. No further
    number comes, and the last one said is the sum.
    A tale of the grammar breaks none of them; not every broken tale is noticed.
    """
    w = words or rules()
    text = re.sub(w["aside"], lambda m: "#" * len(m[0]), text)
    names = _mentions(w["children"], text)
    toys = _mentions(list(w["toys"]), text)
    judged = "kept" if ended else "open"

    name = judged if names else "none"
    if ended and names and names.count(names[-1]) == 1:
        name = "broken"

    wish = judged if len(toys) > 1 else "none"
    if ended and len(set(toys)) > 1 and toys.count(toys[-1]) == 1:
        wish = "broken"
    for toy, fun in w["toys"].items():
        before = _mentions(list(w["toys"]), text[: max(text.find(fun), 0)])
        if before and before[-1] != toy:
            wish = "broken"

    if not ended:
        text = re.sub(w["unsure"], "", text, flags=re.IGNORECASE)
    said = [n.lower() for n in _mentions(w["numbers"], text, ignore_case=True)]
    values = [w["numbers"].index(n) + 1 for n in said]
    coins = bool(_mentions(["coins"], text))  # three numbers, the largest is the sum
    counts = coins or bool(_mentions(w["items"], text))  # two, and their sum later
    count = judged if counts and len(said) > 2 else "none"
    if count != "none":
        parts = sorted(values[:3])[:2] if coins else values[:2]
        total = max(values[:3]) if coins else sum(parts)
        stray = any(n not in (*parts, total) for n in values)
        late = ended and values[-1] != total
        count = "broken" if sum(parts) != total or stray or late else count
    return [
        Promise("name", name, list(dict.fromkeys(names))),
        Promise("wish", wish, list(dict.fromkeys(toys))),
        Promise("count", count, list(dict.fromkeys(said)) if counts else []),
    ]


def _mentions(words: list[str], text: str, ignore_case: bool = False) -> list[str]:
    """Which of the words stand in a text, in order. None begins with another and a space."""
    pattern = r"\b(?:" + "|".join(map(re.escape, words)) + r")\b"
    return re.findall(pattern, text, re.IGNORECASE if ignore_case else 0)


@torch.no_grad()
def written(
    model: GPT, tokenizer: WordTokenizer, prompt: str, seed: int | None = None
) -> list[tuple[int, float]]:
    """The tokens that follow a prompt, each with its probability, up to the line break.

    seed None takes the likeliest; a seed draws, with the random numbers of the browser.
    """
    ids = tokenizer.encode("\n" + prompt)
    most = model.config.block_size - len(ids)
    numbers = random_numbers(seed or 0, most).tolist()
    made: list[tuple[int, float]] = []
    while len(made) < most:
        logits = model(torch.tensor([ids]))[0][0, -1].double()
        p = logits.softmax(-1)
        new = int(p.argmax())
        if seed is not None:
            u = numbers[len(made)] * float(p.sum())
            new = min(int((p.cumsum(0) <= u).sum()), len(p) - 1)
        made.append((new, float(p[new])))
        ids.append(new)
        if tokenizer.tokens[new] == "\n":
            break
    return made


def babygpt_figure(
    model: GPT,
    tokenizer: WordTokenizer,
    *,
    prompts: tuple[str, ...] = PROMPTS,
    seeds: int = 40,
    title: str = "Words in order, broken promises: where BabyGPT fails over a whole tale",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """The chapter's model writing, word by word, with what came into question at each.

    The figure opens with a tale, drawn with the first seed for which it ends and makes all
    three promises, keeps one at least and breaks one.

    Args:
        model: a `gpt.GPT` over the tokenizer's tokens.
        tokenizer: its tokens are the rows of the embedding.
        prompts: beginnings to choose from; the first is the one that the figure opens with.
        seeds: how many seeds are tried for it.
        title: the claim.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.

    Raises:
        ConfigError: the model has other tokens, or writes no such tale.
    """
    state = model.state_dict()
    if len(state["token_embedding.weight"]) != tokenizer.vocab_size:
        raise ConfigError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model "
            f"{len(state['token_embedding.weight'])}. Give the one it was trained with."
        )
    rounded = copy.deepcopy(model).half().double().eval()  # what the browser gets
    words = rules()
    for seed in range(seeds):
        tale = written(rounded, tokenizer, prompts[0], seed)
        text = prompts[0] + tokenizer.decode([i for i, _ in tale])
        found = promises(text, ended=text.endswith("\n"), words=words)
        states = {promise.state for promise in found}
        if states == {"kept", "broken"} and text.endswith("\n"):
            break
    else:
        raise ConfigError(
            f"None of {seeds} tales after {prompts[0]!r} makes all three promises, keeps "
            "one and breaks one: the title is not true of this model."
        )
    verdicts = ", ".join(f"{p.kind} ({' '.join(p.said)}) {p.state}" for p in found)
    least = min(range(len(tale)), key=lambda i: tale[i][1])
    alt = (
        f"After “{prompts[0]}” BabyGPT wrote {len(tale)} words and signs. Its promises: {verdicts}. "
        f"The least likely word was “{tokenizer.tokens[tale[least][0]].strip()}”, {tale[least][1]:.1%}."
    )
    rows = [[p.kind, html.escape(" ".join(p.said)), p.state] for p in found]
    picture = f'<p role="img" aria-label="{html.escape(alt)}">{html.escape(text)}</p>'
    tensors = {k: v.detach() for k, v in state.items()}
    if state["head.weight"].data_ptr() == state["token_embedding.weight"].data_ptr():
        del tensors["head.weight"]  # tied: the file holds it once
    return LiveFigure(
        name="babygpt",
        title=title,
        alt=alt,
        picture=picture + still_table(["promise", "said", "in the end"], rows),
        props={
            "tokens": tokenizer.tokens,
            "config": {"n_head": model.config.n_head},
            "prompts": list(prompts),
            "rules": words,
            "seed": seed,
            "code_href": code_href,
            "card": card,
        },
        tensors=tensors,
    )
