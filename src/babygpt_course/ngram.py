"""n-gram models: the next token depends on the order - 1 tokens before it.

`NGram` counts, and has four ways to treat what it never saw. `NeuralNGram` learns the same
conditional distribution by gradient descent, with embeddings that similar tokens share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.errors import ConfigError, VocabularyError

SMOOTHING = ("mle", "add_k", "witten_bell", "kneser_ney")


@dataclass
class _Level:
    """The n-grams of one length, each with a number, in the order of their keys.

    The key of an n-gram is (number of its first n - 1 tokens) * V + its last token. That is
    less than N * V however long it is, where V**n would overflow; and the n-grams that
    continue one context stand together.
    """

    keys: Tensor  # (n-grams,) sorted
    counts: Tensor  # (n-grams,)
    totals: Tensor  # (contexts,) the sum of the counts after a context
    kinds: Tensor  # (contexts,) how many different tokens came after it

    def find(self, keys: Tensor) -> Tensor:
        """The numbers of n-grams with these keys; -1 for one that was never seen."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        at = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[at] == keys, at, -1)


class NGram:
    """A counted n-gram model over ids 0..V-1; fit it before use.

    With c = count(context, w), n = count(context), t = how many different tokens came after
    the context, and p' = the same model one token shorter (1/V below the unigram):

    - "mle": c / n. An unseen token has probability 0, an unseen context is uniform.
    - "add_k": (c + k) / (n + k V). The longest context alone decides.
    - "witten_bell": (c + t p') / (n + t). New tokens are as likely as they were before
      (Witten & Bell 1991, method C, interpolated).
    - "kneser_ney": max(c - D, 0) / n + (D t / n) p', where below the full order c is not
      how often (context, w) was seen but after how many different tokens: one that only
      ever follows one word is no good guess elsewhere (Kneser & Ney 1995; interpolated
      as in Chen & Goodman 1999, with one discount D).

    The last two give an unseen context what one token less gives. At the start of a
    sequence the context is what there is of it.

    Raises:
        ConfigError: a setting outside its range, named with the range.
    """

    def __init__(
        self,
        order: int,
        smoothing: str = "mle",
        k: float = 1.0,
        discount: float = 0.75,
    ):
        if not isinstance(order, int) or isinstance(order, bool) or order < 1:
            raise ConfigError(
                f"order must be a whole number of at least 1; got {order!r}."
            )
        if smoothing not in SMOOTHING:
            raise ConfigError(
                f"Unknown smoothing {smoothing!r}. There is: {', '.join(SMOOTHING)}."
            )
        if not 0 < k < float("inf"):
            raise ConfigError(
                f"k must be positive and finite; got {k}. For no smoothing use 'mle'."
            )
        if not 0 <= discount <= 1:
            raise ConfigError(f"discount must lie in 0..1; got {discount}.")
        self.order, self.smoothing, self.k, self.discount = (
            order,
            smoothing,
            k,
            discount,
        )
        self.vocab_size = 0  # V; nothing is counted yet
        self._levels: list[_Level] = []  # [j]: n-grams of j + 1 tokens

    def fit(self, ids: Tensor | Sequence[int], vocab_size: int) -> "NGram":
        """Count the n-grams of one sequence of ids (N,), and forget earlier counts.

        Raises:
            ConfigError: no ids, or so large a vocabulary that a key would overflow int64.
            VocabularyError: an id is outside 0..V-1.
        """
        ids = _sequence(ids, vocab_size)
        if not len(ids):
            raise ConfigError("There are no ids to count. Give a longer text.")
        if (len(ids) + 1) * vocab_size >= 2**63:
            raise ConfigError(
                f"{len(ids):,} ids of a vocabulary of {vocab_size:,} do not fit into keys of "
                "64 bits. Use a smaller vocabulary."
            )
        levels: list[_Level] = []
        n_contexts = 1
        context = torch.zeros_like(ids)  # of position i, its number; here the empty one
        number = context  # of the n-gram that ends at i, one level down
        for j in range(self.order):
            # From here on row i is position i + j: the first j have no context so long.
            keys, numbers, counts = torch.unique(
                context * vocab_size + ids[j:], return_inverse=True, return_counts=True
            )
            if self.smoothing == "kneser_ney" and j > 0:
                shorter = torch.empty_like(keys)
                shorter[numbers] = number[1:]  # each n-gram without its first token
                lower = torch.bincount(shorter, minlength=n_contexts)
                below = levels[-1]
                levels[-1] = _level(below.keys, lower, len(below.totals), vocab_size)
            levels.append(_level(keys, counts, n_contexts, vocab_size))
            n_contexts, number, context = len(keys), numbers, numbers[:-1]
        self.vocab_size, self._levels = vocab_size, levels
        return self

    @property
    def n_counts(self) -> int:
        """How many counts are stored: the different n-grams of each length up to the order.

        Raises:
            ConfigError: nothing is fitted yet.
        """
        self._fitted()
        return sum(len(level.keys) for level in self._levels)

    def log_prob(self, ids: Tensor | Sequence[int]) -> Tensor:
        """log p(id | the ids before it), for every position of ids (N,): float64 (N,), nats.

        Raises:
            ConfigError: nothing is fitted yet, or ids are not one sequence.
            VocabularyError: an id is outside 0..V-1.
        """
        self._fitted()
        ids = _sequence(ids, self.vocab_size)
        probs = torch.full(ids.shape, 1 / self.vocab_size, dtype=torch.float64)
        context = torch.zeros_like(ids)
        for j, level in enumerate(self._levels):
            number = level.find(context * self.vocab_size + ids[j:])
            probs[j:] = self._estimate(level, context, number, probs[j:])
            context = number[:-1]
        return probs.log()

    def nll(self, ids: Tensor | Sequence[int]) -> float:
        """Mean of -log p over ids (N,), in nats per token; infinite if one has p = 0.

        Raises:
            ConfigError: no ids, or nothing is fitted yet.
            VocabularyError: an id is outside 0..V-1.
        """
        log_probs = self.log_prob(ids)
        if not len(log_probs):
            raise ConfigError("There are no ids to score. Give a longer text.")
        return -float(log_probs.mean())

    def probs(self, context: Tensor | Sequence[int] = ()) -> Tensor:
        """p(next id | context): float64 (V,). Only the last order - 1 ids count.

        Raises:
            ConfigError: nothing is fitted yet.
            VocabularyError: an id is outside 0..V-1.
        """
        self._fitted()
        context = _sequence(context, self.vocab_size)
        context = context[max(0, len(context) - self.order + 1) :]
        every = torch.arange(self.vocab_size)  # (V,)
        probs = torch.full((self.vocab_size,), 1 / self.vocab_size, dtype=torch.float64)
        for j, level in enumerate(self._levels[: len(context) + 1]):
            at = torch.zeros(1, dtype=torch.int64)  # the number of the last j ids
            for shorter, i in zip(self._levels, context[len(context) - j :]):
                at = shorter.find(at * self.vocab_size + i)
            number = level.find(at * self.vocab_size + every)
            probs = self._estimate(level, at, number, probs)
        return probs

    def sample(
        self,
        n: int,
        generator: torch.Generator | int | None = None,
        context: Tensor | Sequence[int] = (),
    ) -> list[int]:
        """n ids drawn one after the other, the first after `context`.

        Args:
            generator: where chance comes from; a whole number is a seed.

        Raises:
            ConfigError: n is negative, or nothing is fitted yet.
            VocabularyError: an id of the context is outside 0..V-1.
        """
        if n < 0:
            raise ConfigError(f"n must be at least 0; got {n}.")
        if isinstance(generator, int):
            generator = torch.Generator().manual_seed(generator)
        self._fitted()
        ids: list[int] = _sequence(context, self.vocab_size).tolist()
        start = len(ids)
        for _ in range(n):
            probs = self.probs(ids[max(0, len(ids) - self.order + 1) :])
            ids.append(int(torch.multinomial(probs, 1, generator=generator)))
        return ids[start:]

    def _estimate(
        self, level: _Level, context: Tensor, number: Tensor, shorter: Tensor
    ) -> Tensor:
        """p by the formula of the smoothing; the numbers are -1 where never seen."""
        c = torch.where(number >= 0, _pick(level.counts, number), 0).double()
        n = torch.where(context >= 0, _pick(level.totals, context), 0).double()
        t = torch.where(context >= 0, _pick(level.kinds, context), 0).double()
        if self.smoothing == "add_k":
            return (c + self.k) / (n + self.k * self.vocab_size)
        if self.smoothing == "mle":
            p, shorter = c / n, torch.full_like(shorter, 1 / self.vocab_size)
        elif self.smoothing == "witten_bell":
            p = (c + t * shorter) / (n + t)
        else:
            kept = (c - self.discount).clamp(min=0)
            p = (kept + self.discount * t * shorter) / n
        return torch.where(n > 0, p, shorter)

    def _fitted(self) -> None:
        if not self._levels:
            raise ConfigError(
                "Nothing is counted yet. Call fit(ids, vocab_size) first."
            )

    def __repr__(self) -> str:
        return f"NGram({self.order}, {self.smoothing!r})"


def _level(keys: Tensor, counts: Tensor, n_contexts: int, vocab_size: int) -> _Level:
    context = keys // vocab_size
    totals = torch.zeros(n_contexts, dtype=torch.int64).index_add_(0, context, counts)
    kinds = torch.bincount(context[counts > 0], minlength=n_contexts)
    return _Level(keys, counts, totals, kinds)


def _pick(values: Tensor, at: Tensor) -> Tensor:
    """values[at], where -1 gives any of them; there may be none at all."""
    return values[at] if len(values) else torch.zeros_like(at)


def _sequence(ids: Tensor | Sequence[int], vocab_size: int) -> Tensor:
    ids = torch.as_tensor(ids).to(torch.int64)
    if ids.ndim != 1:
        raise ConfigError(
            f"Expected one sequence of ids; got shape {tuple(ids.shape)}."
        )
    if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
        raise VocabularyError(
            f"Ids must lie in 0..{vocab_size - 1}; these go from {int(ids.min())} to "
            f"{int(ids.max())}. Was the text encoded with another tokenizer?"
        )
    return ids


class NeuralNGram(nn.Module):
    """The feed-forward language model of Bengio et al. (2003), without direct connections.

    It reads exactly the `context` last tokens, the newest included: their embeddings side
    by side, one tanh layer, logits. Where there are fewer, a learned start embedding
    stands in for the missing ones. Any trainer of this course can train it.

    Raises:
        ConfigError: a size that is not a whole number of at least 1.
    """

    def __init__(self, vocab_size: int, context: int, n_embd: int, n_hidden: int):
        super().__init__()
        sizes = dict(
            vocab_size=vocab_size, context=context, n_embd=n_embd, n_hidden=n_hidden
        )
        for name, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ConfigError(
                    f"{name} must be a whole number of at least 1; got {size!r}."
                )
        self.vocab_size, self.context = vocab_size, context
        self.block_size = context  # what generate has to keep
        self.embedding = nn.Embedding(vocab_size + 1, n_embd)  # the last row: start
        self.hidden = nn.Linear(context * n_embd, n_hidden)
        self.head = nn.Linear(n_hidden, vocab_size)

    def forward(
        self, idx: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """idx (B, T) -> logits (B, T, V), and the mean loss in nats for targets (B, T)."""
        windows = self.windows(idx)  # (B, T, context)
        x = self.embedding(windows).flatten(2)  # (B, T, context * C)
        logits = self.head(torch.tanh(self.hidden(x)))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def windows(self, idx: Tensor) -> Tensor:
        """idx (B, T) -> (B, T, context): at t the ids of t - context + 1 .. t."""
        padded = F.pad(idx, (self.context - 1, 0), value=self.vocab_size)
        return padded.unfold(1, self.context, 1)
