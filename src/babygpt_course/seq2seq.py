"""An encoder-decoder that reads a written date and writes it as ISO 8601.

"Thursday, 5th of March 1998" -> "1998-03-05". The decoder reads the encoder's output
through cross-attention, so its weights show where each digit comes from.
"""

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import (
    CrossAttention,
    MultiHeadAttention,
    check_heads,
    check_sizes,
)
from babygpt_course.errors import ConfigError, VocabularyError

# --- the task --------------------------------------------------------------------------

MONTHS = (
    "January February March April May June July August September October November December"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PAD, START = 0, 1  # ids that stand for no character
CHARS = " ,-./0123456789abcdefghijklmnopqrstuvwxyz"  # ids 2, 3, ... of both sides
VOCAB_SIZE = 2 + len(CHARS)
ISO_LENGTH = 10  # "1998-03-05"


def make_dates(n: int, seed: int) -> list[tuple[str, str]]:
    """n pairs (as people write a date, ISO 8601), years 1900 to 2099; one seed, one list.

    Numbers alone stand day before month: "05.03.1998" is in March.

    Raises:
        ConfigError: n is negative.
    """
    if n < 0:
        raise ConfigError(f"n must be 0 or more; got {n}.")
    rng = random.Random(seed)
    first = datetime.date(1900, 1, 1).toordinal()
    last = datetime.date(2099, 12, 31).toordinal()
    pairs = []
    for _ in range(n):
        day = datetime.date.fromordinal(rng.randint(first, last))
        text = rng.choice(in_every_style(day))
        text = rng.choice([text, text.lower(), text.upper()])
        pairs.append((text, day.isoformat()))
    return pairs


def in_every_style(date: datetime.date) -> list[str]:
    """A date in each of the styles that `make_dates` draws from, in one order."""
    d, m, y = date.day, date.month, date.year
    month, weekday = MONTHS[m - 1], DAYS[date.weekday()]
    endings = {1: "st", 2: "nd", 3: "rd"}  # codespell:ignore nd
    ending = "th" if 11 <= d <= 13 else endings.get(d % 10, "th")
    return [
        f"{d} {month} {y}",
        f"{month} {d}, {y}",
        f"{month[:3]} {d} {y}",
        f"{d}. {month[:3]}. {y}",
        f"{d}{ending} of {month} {y}",
        f"{weekday}, {d} {month} {y}",
        f"{weekday[:3]} {month} {d}{ending}, {y}",
        f"{d:02}.{m:02}.{y}",
        f"{d}/{m}/{y}",
    ]


def encode(texts: list[str]) -> Tensor:
    """Texts as ids (B, S), padded with PAD to the longest; upper case counts as lower.

    Raises:
        ConfigError: no texts.
        VocabularyError: a character that no date has.
    """
    if not texts:
        raise ConfigError("There are no texts to encode. Give a list of at least one.")
    rows = []
    for text in texts:
        for c in text.lower():
            if c not in CHARS:
                raise VocabularyError(
                    f"{c!r} in {text!r} is not in the alphabet of dates: {CHARS!r}."
                )
        rows.append(torch.tensor([2 + CHARS.index(c) for c in text.lower()]).long())
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def decode(ids: Tensor) -> list[str]:
    """Ids (B, S) as texts; PAD and START stand for nothing."""
    return ["".join(CHARS[i - 2] for i in row if i > 1) for row in ids.tolist()]


# --- the model -------------------------------------------------------------------------


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The shape of an encoder-decoder.

    Raises:
        ConfigError: a number outside its range, named with the range.
    """

    vocab_size: int = VOCAB_SIZE  # V, of both sides
    source_length: int = 32  # the longest S
    target_length: int = ISO_LENGTH  # the longest T
    n_layer: int = 1  # of the encoder, and of the decoder
    n_head: int = 4
    n_embd: int = 64  # C
    attention_only: bool = False  # without norms and MLPs

    def __post_init__(self) -> None:
        check_sizes(
            vocab_size=self.vocab_size,
            source_length=self.source_length,
            target_length=self.target_length,
            n_layer=self.n_layer,
        )
        check_heads(self.n_embd, self.n_head, "n_embd", "n_head")


def norm(config: Seq2SeqConfig) -> nn.Module:
    """A LayerNorm, or nothing with `attention_only`."""
    return nn.Identity() if config.attention_only else nn.LayerNorm(config.n_embd)


def mlp(C: int) -> nn.Sequential:
    """C -> 4C -> C with a GELU between."""
    return nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))


class EncoderBlock(nn.Module):
    """Every position of the source looks at every other: no causal mask."""

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        C = config.n_embd
        self.norm1 = norm(config)
        self.attention = MultiHeadAttention(C, config.n_head)
        if not config.attention_only:
            self.norm2 = norm(config)
            self.mlp = mlp(C)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (B, S, C), seen (B, 1, 1, S) which of it is text -> (B, S, C)."""
        x = x + self.attention(self.norm1(x), seen)
        if hasattr(self, "mlp"):
            x = x + self.mlp(self.norm2(x))
        return x


class DecoderBlock(nn.Module):
    """Look back at what is written (causal), then over at the source (cross)."""

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        C = config.n_embd
        self.norm1, self.norm2 = norm(config), norm(config)
        self.attention = MultiHeadAttention(C, config.n_head, causal=True)
        self.cross_attention = CrossAttention(C, config.n_head)
        if not config.attention_only:
            self.norm3 = norm(config)
            self.mlp = mlp(C)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """x (B, T, C), memory (B, S, C), seen (B, 1, 1, S) -> (B, T, C)."""
        x = x + self.attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), memory, seen)
        if hasattr(self, "mlp"):
            x = x + self.mlp(self.norm3(x))
        return x


class Seq2Seq(nn.Module):
    """An encoder-decoder with learned positions and pre-norm.

    `seen` (B, S) says which source positions may be read; by default all but PAD.
    Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, config: Seq2SeqConfig | None = None):
        super().__init__()
        self.config = c = config or Seq2SeqConfig()
        self.token_embedding = nn.Embedding(c.vocab_size, c.n_embd)
        self.source_position = nn.Embedding(c.source_length, c.n_embd)
        self.target_position = nn.Embedding(c.target_length, c.n_embd)
        self.encoder = nn.ModuleList(EncoderBlock(c) for _ in range(c.n_layer))
        self.decoder = nn.ModuleList(DecoderBlock(c) for _ in range(c.n_layer))
        self.memory_norm = norm(c)
        self.norm = norm(c)
        self.head = nn.Linear(c.n_embd, c.vocab_size)
        for embedding in self.modules():
            if isinstance(embedding, nn.Embedding):
                nn.init.normal_(embedding.weight, std=0.1)

    def encode(self, source: Tensor, seen: Tensor | None = None) -> Tensor:
        """source ids (B, S) -> what the decoder will read, (B, S, C).

        Raises:
            ConfigError: more than source_length positions.
        """
        S = source.shape[1]
        if self.config.source_length < S:
            raise ConfigError(
                f"{S} source positions are more than source_length = "
                f"{self.config.source_length}. Shorten the text."
            )
        seen = source != PAD if seen is None else seen  # (B, S)
        seen = seen[:, None, None]  # (B, S) -> (B, 1, 1, S)
        x: Tensor = self.token_embedding(source)  # (B, S) -> (B, S, C)
        x = x + self.source_position.weight[:S]  # (B, S, C)
        for block in self.encoder:
            x = block(x, seen)  # (B, S, C)
        x = self.memory_norm(x)  # (B, S, C)
        return x

    def decode(self, written: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """written ids (B, T), START first -> logits (B, T, V) of what follows each.

        `memory` (B, S, C) is what `encode` made.

        Raises:
            ConfigError: more than target_length positions.
        """
        T = written.shape[1]
        if self.config.target_length < T:
            raise ConfigError(
                f"{T} target positions are more than target_length = "
                f"{self.config.target_length}. Shorten the target."
            )
        seen = seen[:, None, None]  # (B, S) -> (B, 1, 1, S)
        x = self.token_embedding(written) + self.target_position.weight[:T]  # (B, T, C)
        for block in self.decoder:
            x = block(x, memory, seen)  # (B, T, C)
        logits: Tensor = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        return logits

    def forward(self, source: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """source (B, S), targets (B, T) -> logits (B, T, V), mean cross-entropy in nats.

        The decoder is given the right characters so far ("teacher forcing").

        Raises:
            ConfigError: more than source_length or target_length positions.
        """
        written = F.pad(targets[:, :-1], (1, 0), value=START)  # (B, T): one step later
        logits = self.decode(written, self.encode(source), source != PAD)  # (B, T, V)
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PAD
        )
        return logits, loss

    @torch.no_grad()
    def translate(self, source: Tensor, seen: Tensor | None = None) -> Tensor:
        """source (B, S) -> the likeliest characters, one after another: (B, T).

        `seen` hides source positions from the decoder; the encoder still reads them.
        """
        memory = self.encode(source)  # (B, S, C)
        seen = source != PAD if seen is None else seen  # (B, S)
        written = torch.full_like(source[:, :1], START)  # (B, 1)
        for _ in range(self.config.target_length):
            logits = self.decode(written, memory, seen)[:, -1]  # (B, V)
            new = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
            written = torch.cat([written, new], dim=1)  # (B, t + 1)
        return written[:, 1:]  # without START


# --- fitting it ------------------------------------------------------------------------


def fit(
    model: Seq2Seq,
    pairs: list[tuple[str, str]],
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> list[float]:
    """Train in place on pairs (text, ISO date); the loss of each step, in nats a character.

    AdamW, with a rate that falls to zero in a straight line. `on_step` is called before
    each step with its number, and once after the last.
    """
    source = encode([text for text, _ in pairs])  # (N, S)
    target = encode([iso for _, iso in pairs])  # (N, T)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        if on_step:
            on_step(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        rows = torch.randint(len(pairs), (batch_size,), generator=generator)  # (B,)
        _, loss = model(source[rows], target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if on_step:
        on_step(steps)
    return losses


def exact_match(model: Seq2Seq, pairs: list[tuple[str, str]]) -> float:
    """The share of pairs whose date is written without one wrong character."""
    written = decode(model.translate(encode([text for text, _ in pairs])))
    return sum(a == iso for a, (_, iso) in zip(written, pairs)) / len(pairs)
