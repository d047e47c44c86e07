"""The bigram model: the next character depends on one character only, the one before it.

It is one table. Counting fills it in closed form (maximum likelihood); gradient descent on the
cross-entropy arrives at the same table, and is the method that every later chapter needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.errors import ConfigError, VocabularyError


def count_pairs(ids: Tensor | list[int], vocab_size: int) -> Tensor:
    """How often each id follows each other: int64 (V, V), row = previous, column = next.

    Raises:
        ConfigError: fewer than two ids, so there is no pair.
        VocabularyError: an id is outside 0..V-1.
    """
    ids = _sequence(ids, vocab_size)
    pair = ids[:-1] * vocab_size + ids[1:]  # (N-1,) one number per (previous, next)
    counts = torch.bincount(pair, minlength=vocab_size**2)  # (V * V,)
    return counts.view(vocab_size, vocab_size)  # (V, V)


def count_probs(counts: Tensor, k: float = 0.0) -> Tensor:
    """Each row of counts (V, V) as a distribution, k added to every count ("add-k").

    k = 0 is maximum likelihood: a pair never seen gets probability 0. A row never seen
    is uniform.

    Raises:
        ConfigError: k is negative.
    """
    if k < 0:
        raise ConfigError(f"k must be 0 or more, since it is added to counts; got {k}.")
    smoothed = counts.to(torch.float64) + k  # (V, V)
    total = smoothed.sum(dim=1, keepdim=True)  # (V, 1)
    uniform = torch.full_like(smoothed, 1 / counts.shape[1])
    return torch.where(total > 0, smoothed / total.clamp(min=1e-300), uniform)


def count_nll(probs: Tensor, ids: Tensor | list[int]) -> float:
    """Mean of -log p(next | previous) over a sequence, in nats per character.

    It is infinite when the sequence holds a pair whose probability is 0.

    Raises:
        ConfigError: fewer than two ids, so there is no pair.
        VocabularyError: an id is outside 0..V-1.
    """
    ids = _sequence(ids, len(probs))
    return float(-probs[ids[:-1], ids[1:]].log().mean())


def _sequence(ids: Tensor | list[int], vocab_size: int) -> Tensor:
    ids = torch.as_tensor(ids, dtype=torch.int64)
    if ids.ndim != 1 or len(ids) < 2:
        raise ConfigError(
            "Pairs need one sequence of at least two ids; "
            f"got shape {tuple(ids.shape)}. Give a longer text."
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise _unknown(ids, vocab_size)
    return ids


def _unknown(ids: Tensor, vocab_size: int) -> VocabularyError:
    return VocabularyError(
        f"Ids must lie in 0..{vocab_size - 1}; "
        f"these go from {int(ids.min())} to {int(ids.max())}. "
        "Was the text encoded with another tokenizer?"
    )


class Bigram(nn.Module):
    """A table of logits (V, V), one row per previous id. It starts at zero: every next id equally likely.

    Raises:
        ConfigError: vocab_size is not positive.
    """

    def __init__(self, vocab_size: int):
        super().__init__()
        if vocab_size < 1:
            raise ConfigError(f"vocab_size must be at least 1; got {vocab_size}.")
        self.vocab_size = vocab_size
        self.logits = nn.Parameter(torch.zeros(vocab_size, vocab_size))

    @classmethod
    def from_counts(cls, counts: Tensor, k: float = 0.0) -> "Bigram":
        """The model that counting gives: logits are log probabilities of counts (V, V) plus k."""
        model = cls(len(counts))
        with torch.no_grad():
            model.logits.copy_(count_probs(counts, k).log())
        return model

    def forward(
        self, idx: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """idx (B, T) -> logits (B, T, V), and with targets (B, T) the loss in nats.

        Raises:
            VocabularyError: an id is outside 0..V-1; on a GPU it is CUDA's own error.
        """
        try:  # one row per previous id: self.logits[idx], but -1 is not the last row
            logits = F.embedding(idx, self.logits)  # (B, T) -> (B, T, V)
        except IndexError:
            raise _unknown(idx, self.vocab_size) from None
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
