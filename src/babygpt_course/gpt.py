"""GPT: learned positions, pre-norm blocks of attention and MLP, one residual stream.

With `tie` and `bias` on and `head_bias` off it is GPT-2 (Radford et al. 2019), and
`checkpoint` converts it both ways.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import (
    KVCache,
    MultiHeadAttention,
    check_heads,
    check_sizes,
)
from babygpt_course.errors import ConfigError


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    `bias`: in the linear layers of the blocks. `tie`: the head is the token embedding.
    `head_bias`: in the head. `dropout`: after the embedding and before each residual sum.

    Raises:
        ConfigError: a number outside its range, named with the range.
    """

    vocab_size: int  # V
    block_size: int  # the longest T
    n_layer: int
    n_head: int
    n_embd: int  # C
    bias: bool = True
    dropout: float = 0.0
    tie: bool = True
    head_bias: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes(
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
        )
        check_heads(self.n_embd, self.n_head, "n_embd", "n_head")
        if not 0 < self.norm_eps < math.inf:
            raise ConfigError(f"norm_eps must be above 0; got {self.norm_eps!r}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"dropout must be at least 0 and below 1; got {self.dropout!r}."
            )

    @property
    def n_params(self) -> int:
        """The number of parameters, from the shape alone; a tied head counts once."""
        V, C = self.vocab_size, self.n_embd
        embeddings = V * C + self.block_size * C
        block = 12 * C**2 + 4 * C  # qkv 3, proj 1, MLP 4 + 4; two norms of 2C
        if self.bias:
            block += 9 * C  # qkv 3C, proj C, MLP 4C + C
        head = (0 if self.tie else V * C) + (V if self.head_bias else 0)
        return embeddings + self.n_layer * block + 2 * C + head


class MLP(nn.Module):
    """C -> 4C -> C with a GELU between; without it the two layers would be one.

    Vaswani et al. 2017, section 3.3, with the GELU of Hendrycks and Gimpel 2016.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = F.gelu(self.fc(x), approximate="tanh")  # (B, T, C) -> (B, T, 4C)
        x = self.proj(x)  # (B, T, 4C) -> (B, T, C)
        return x


class Block(nn.Module):
    """One layer: it reads the residual stream through a norm, and adds to it, twice."""

    def __init__(self, config: GPTConfig, fused: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.n_embd, eps=config.norm_eps)
        self.attention = MultiHeadAttention(
            config.n_embd, config.n_head, causal=True, bias=config.bias, fused=fused
        )
        self.norm2 = nn.LayerNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.attention(self.norm1(x), cache=cache))
        x = x + self.dropout(self.mlp(self.norm2(x)))
        return x


class GPT(nn.Module):
    """A GPT of the given shape. `fused` picks the attention path; the numbers are equal."""

    def __init__(self, config: GPTConfig, fused: bool = True):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, fused) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, eps=config.norm_eps)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=config.head_bias)
        self.init_weights()
        self.tie_weights()

    @property
    def block_size(self) -> int:
        """The longest T that the model reads."""
        return self.config.block_size

    def init_weights(self) -> None:
        """Draw new weights: normal, std 0.02; what is added to the stream gets less.

        Biases start at 0 and the weights of norms at 1. 2 * n_layer terms are summed, so each starts 1 / sqrt(2 * n_layer) as large
        (Radford et al. 2019, section 2.3).
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("proj.weight"):
                std = 0.02 / math.sqrt(2 * self.config.n_layer)
                nn.init.normal_(parameter, std=std)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    def tie_weights(self) -> None:
        """Make the head and the token embedding one tensor, if the config says so."""
        if self.config.tie:
            self.head.weight = self.token_embedding.weight

    def new_cache(self, batch_size: int) -> list[KVCache]:
        """An empty cache for `forward`: one KVCache a layer, block_size positions long."""
        c, weight = self.config, self.norm.weight  # its type is that of keys and values
        shape = (batch_size, c.n_head, c.block_size, c.n_embd // c.n_head)
        return [KVCache(*shape, weight.dtype, weight.device) for _ in self.blocks]

    def forward(
        self,
        idx: Tensor,
        targets: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """idx (B, T) -> logits (B, T, V), and the mean cross-entropy in nats for targets.

        With a cache, idx holds only the ids that the cache has not read yet.

        Raises:
            ConfigError: more than block_size positions.
        """
        start = cache[0].length if cache else 0
        end = start + idx.shape[1]
        if end > self.config.block_size:
            raise ConfigError(
                f"{end} positions are more than block_size = {self.config.block_size}. "
                "Cut the text, or build the model with a larger block_size."
            )
        positions = torch.arange(start, end, device=idx.device)  # (T,)
        x = self.token_embedding(idx) + self.position_embedding(positions)  # (B, T, C)
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None)  # (B, T, C)
        logits = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
