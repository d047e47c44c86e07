"""Write text with a model, one token at a time.

Any model whose `model(idx)` gives (logits, loss) can write. One with a `new_cache` reads
each token once; one with a `block_size` reads at most that many tokens back.
"""

import math
from collections.abc import Collection, Generator, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from babygpt_course.attention import KVCache
from babygpt_course.errors import ConfigError, VocabularyError


class Tokenizer(Protocol):
    """Text to ids and back. It may have a `bos_id` and an `eos_id`, which end a text."""

    def encode(self, text: str, /) -> list[int]:
        """The ids of a text."""

    def decode(self, ids: list[int], /) -> str:
        """The text of ids."""


def generate(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    kv_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Extend each row of idx (B, T) by max_new_tokens sampled ids: (B, T + max_new_tokens).

    Temperature 0 takes the most likely id instead of sampling; `filter_logits` says what
    the other settings do. `kv_cache` changes the cost, not the ids. Beyond the model's
    block size the window slides: each step reads the last block_size ids from scratch,
    because the position of every one of them has changed.

    Raises:
        ConfigError: a setting outside its range, or idx that is not (B, T) with T >= 1.
        VocabularyError: idx holds an id that the model does not have.
    """
    settings = (max_new_tokens, temperature, top_k, top_p, kv_cache, generator)
    return torch.cat([idx, *new_ids(model, idx, *settings)], dim=1)


def stream(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str = "",
    max_new_tokens: int = 256,
    *,
    stop: Collection[int] = (),
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    kv_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[str]:
    """The prompt and what the model adds to it, in pieces, as it comes.

    A piece never ends inside a UTF-8 character: its first bytes wait for the rest. If the
    tokenizer has a `bos_id`, the text starts with it. The text ends before an id of `stop`,
    a `bos_id` (a new text) or an `eos_id`. Settings and errors are those of `generate`.
    """
    bos, eos = (getattr(tokenizer, name, None) for name in ("bos_id", "eos_id"))
    ends = {*stop, bos, eos} - {None}
    ids = tokenizer.encode(prompt)
    if bos is not None and ids[:1] != [bos]:
        ids = [bos, *ids]
    device = next(model.parameters()).device
    idx = torch.tensor([ids], dtype=torch.int64, device=device)  # (1, T)
    settings = (max_new_tokens, temperature, top_k, top_p, kv_cache, generator)
    steps = new_ids(model, idx, *settings)
    written = ""
    while True:
        text = tokenizer.decode(ids)
        whole = text.rstrip("\ufffd")  # what an unfinished character decodes to
        if len(whole) > len(written):
            yield whole[len(written) :]
            written = whole
        new = next(steps, None)  # (1, 1)
        if new is None or int(new) in ends:
            break
        ids.append(int(new))
    steps.close()  # the model is back in its mode before the last piece is out
    if len(text) > len(written):
        yield text[len(written) :]


def filter_logits(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Logits (B, V) -> (B, V), sharpened, and -inf for what may not be drawn.

    In this order: divide by the temperature (> 0); keep the `top_k` largest and their
    equals (Fan et al. 2018); keep the fewest that together have probability `top_p`
    (Holtzman et al. 2020, section 3.1). Logits of +inf share all the probability.
    """
    infinite = logits == math.inf  # (B, V): inf - inf would be no number
    # Only differences count; from the largest they cannot overflow, however cold it is.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # (B, V)
    logits = logits.masked_fill(infinite, 0.0)
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p is not None and top_p < 1:
        ordered, at = logits.sort(dim=-1, descending=True)  # (B, V), (B, V)
        probs = torch.softmax(ordered, dim=-1)  # (B, V)
        before = probs.cumsum(dim=-1) - probs  # (B, V): the mass of all likelier ids
        cut = before >= top_p  # (B, V), in the order of `at`
        cut = torch.zeros_like(cut).scatter(-1, at, cut)  # (B, V), in the order of ids
        logits = logits.masked_fill(cut, -math.inf)
    return logits


@torch.no_grad()
def new_ids(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    kv_cache: bool,
    generator: torch.Generator | None,
) -> Generator[Tensor, None, None]:
    """The ids (B, 1) that continue idx (B, T), one by one; errors as in `generate`."""
    _check(model, idx, max_new_tokens, temperature, top_k, top_p)
    window = getattr(model, "block_size", None)
    new_cache = getattr(model, "new_cache", None) if kv_cache else None
    cache: list[KVCache] = []
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            if new_cache and idx.shape[1] <= (window or math.inf):
                cache = cache or new_cache(len(idx))
                read = cache[0].length
                logits, _ = model(idx[:, read:], cache=cache)  # (B, T - read, V)
            else:
                logits, _ = model(idx if window is None else idx[:, -window:])
            logits = logits[:, -1]  # (B, V): only the last position says what is next
            if temperature == 0:
                new = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
            else:
                logits = filter_logits(logits, temperature, top_k, top_p)  # (B, V)
                probs = torch.softmax(logits, dim=-1)  # (B, V)
                new = torch.multinomial(probs, 1, generator=generator)  # (B, 1)
            idx = torch.cat([idx, new], dim=1)  # (B, T + 1)
            yield new
    finally:
        model.train(was_training)


def _check(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must be 0 or more; got {max_new_tokens}.")
    if not (0 <= temperature < math.inf):
        raise ConfigError(f"temperature must be 0 or more; got {temperature}.")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, or None for all; got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"top_p must be above 0 and at most 1; got {top_p}.")
    if idx.ndim != 2 or idx.shape[1] < 1:
        raise ConfigError(
            "idx must have shape (B, T) with T >= 1, the text to go on from; "
            f"got {tuple(idx.shape)}."
        )
    V = getattr(getattr(model, "config", model), "vocab_size", None)
    if V is not None and idx.numel() and not 0 <= int(idx.min()) <= int(idx.max()) < V:
        raise VocabularyError(
            f"Ids must lie in 0..{V - 1} for this model; these go from {int(idx.min())} "
            f"to {int(idx.max())}. Was the text encoded with another tokenizer?"
        )
