"""Chapter 16: a LLaMA writes a tale and keeps what it has read; the same without, and what that costs."""

import copy
import html

import torch

from babygpt_course.errors import ConfigError
from babygpt_course.generate import generate
from babygpt_course.ledger import kv_cache_bytes
from babygpt_course.live.figure import LiveFigure, still_table
from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.sentence_piece import Llama2cTokenizer

PROMPTS = ("", "One day, Tom saw a big dog.", "Lily had a red ball.")
MOST = 256  # tokens of a tale, its beginning included
LEAST = 10  # times as much work without a cache: what the title needs


def multiplies(c: LlamaConfig, past: int, T: int) -> int:
    """Multiplications of a read of T tokens after `past` cached ones, for the last logits.

    Scores count where the mask lets a query look. `figures/runtime/llama.mjs` counts so too.
    """
    row = 2 * c.dim**2 + 2 * c.dim * c.n_kv_heads * c.head_dim
    row += 3 * c.dim * c.hidden_dim
    pairs = T * past + T * (T + 1) // 2
    return c.n_layers * (T * row + 2 * c.dim * pairs) + c.dim * c.vocab_size


def tale_of(model: Llama, tokenizer: Llama2cTokenizer, prompt: str) -> list[int]:
    """The ids of a prompt and of the likeliest tokens after it, up to a new text.

    Raises:
        ConfigError: reading with the cache gives other tokens than without.
    """
    idx = torch.tensor([tokenizer.encode(prompt)])  # (1, T)
    n = min(MOST, model.config.max_seq_len) - idx.shape[1]
    ids, again = (
        generate(model, idx, n, temperature=0, kv_cache=cached)[0].tolist()
        for cached in (True, False)
    )
    if ids != again:
        raise ConfigError("With and without the cache this model writes other texts.")
    start = idx.shape[1]
    new = ids[start:]
    if tokenizer.bos_id in new:
        new = new[: new.index(tokenizer.bos_id)]
    return [*ids[:start], *new]


def llama_figure(
    model: Llama,
    tokenizer: Llama2cTokenizer,
    *,
    prompts: tuple[str, ...] = PROMPTS,
    title: str = "The cache changes no word of the tale, only what each word costs",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """A LLaMA with llama2.c's tokenizer, writing; its cache as it fills, and the work with and without.

    Raises:
        ConfigError: another tokenizer, or a tale so short that the cache hardly saves anything.
    """
    c = model.config
    if tokenizer.vocab_size != c.vocab_size:
        raise ConfigError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model {c.vocab_size}. "
            "Give the one it was trained with."
        )
    pieces = [piece.decode(errors="replace") for piece in tokenizer.pieces]
    if [piece.encode() for piece in pieces] != tokenizer.pieces:
        raise ConfigError("A piece of this tokenizer is no whole text in UTF-8.")
    rounded = copy.deepcopy(model).half().double().eval()  # what the browser gets
    rounded.cos, rounded.sin = model.cos.double(), model.sin.double()
    ids = tale_of(rounded, tokenizer, prompts[0])
    start = len(tokenizer.encode(prompts[0]))
    with_cache = multiplies(c, 0, start)
    with_cache += sum(multiplies(c, t, 1) for t in range(start, len(ids)))
    without = sum(multiplies(c, 0, t) for t in range(start, len(ids) + 1))
    times = without / with_cache
    if times < LEAST:
        raise ConfigError(
            f"A tale of {len(ids)} tokens takes {times:.1f} times as much work without a "
            f"cache: the title needs {LEAST}. Give a prompt with a longer tale."
        )
    text = tokenizer.decode(ids)
    alt = (
        f"A LLaMA of {c.n_params:,} parameters wrote a tale of {len(ids)} tokens. With a cache that took "
        f"{with_cache / 1e6:,.1f} million multiplications, without one {without / 1e6:,.1f} million, "
        f"{times:.0f} times as many, for the same text. At the end the cache holds "
        f"{kv_cache_bytes(c, len(ids)):,} bytes."
    )
    rows = [
        [
            f"{t}",
            f"{multiplies(c, t - 1, 1):,}",
            f"{multiplies(c, 0, t):,}",
            f"{multiplies(c, 0, t) / multiplies(c, t - 1, 1):.0f}",
        ]
        for t in (1, 16, 64, 128, 256)
        if t <= len(ids)
    ]
    picture = f'<p role="img" aria-label="{html.escape(alt)}">{html.escape(text)}</p>'
    tensors = {k: v.detach() for k, v in model.state_dict().items()}
    if c.tie:
        del tensors["head.weight"]  # the file holds it once
    head = ["token", "multiplications with the cache", "without", "times"]
    return LiveFigure(
        name="llama",
        title=title,
        alt=alt,
        picture=picture + still_table(head, rows),
        props={
            "pieces": pieces,
            "scores": tokenizer.scores,
            "config": {
                "n_heads": c.n_heads,
                "n_kv_heads": c.n_kv_heads,
                "max_seq_len": c.max_seq_len,
                "rope_theta": c.rope_theta,
                "norm_eps": c.norm_eps,
            },
            "prompts": list(prompts),
            "most": min(MOST, c.max_seq_len),
            "code_href": code_href,
            "card": card,
        },
        tensors=tensors,
    )
