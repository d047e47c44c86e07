"""LLaMA: RMSNorm, rotary positions, SwiGLU, grouped-query attention; no bias anywhere.

Touvron et al. 2023, section 2.2. LLaMA 1 is the config with as many key-value heads as
heads. The rotary pairs are interleaved, as in llama2.c; `checkpoint` converts to the
order of Hugging Face.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import (
    Attention,
    KVCache,
    check_heads,
    check_sizes,
    merge_heads,
    split_heads,
)
from babygpt_course.errors import ConfigError

__all__ = [
    "KVCache",
    "Llama",
    "LlamaConfig",
    "RMSNorm",
    "SwiGLU",
    "apply_rotary",
    "rotary_table",
]


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a LLaMA.

    Without `n_kv_heads` every head has its own keys and values; without `hidden_dim` the
    MLP gets 8/3 of dim, which costs as much as an MLP of two matrices and 4 dim.

    Raises:
        ConfigError: a number outside its range, named with the range.
    """

    dim: int  # C
    n_layers: int
    n_heads: int
    n_kv_heads: int = None  # type: ignore[assignment]  # becomes n_heads
    vocab_size: int = 32_000  # V
    hidden_dim: int = None  # type: ignore[assignment]  # becomes 8/3 dim
    max_seq_len: int = 256  # the longest T
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie: bool = True  # the head is the token embedding

    def __post_init__(self) -> None:
        check_heads(self.dim, self.n_heads, "dim", "n_heads")
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.hidden_dim is None:
            object.__setattr__(self, "hidden_dim", 8 * self.dim // 3)
        check_heads(self.n_heads, self.n_kv_heads, "n_heads", "n_kv_heads")
        check_sizes(
            n_layers=self.n_layers,
            vocab_size=self.vocab_size,
            hidden_dim=self.hidden_dim,
            max_seq_len=self.max_seq_len,
        )
        if self.head_dim % 2:
            raise ConfigError(
                f"dim / n_heads = {self.head_dim} must be even: rotary positions turn the "
                "channels of a head in pairs."
            )
        if not (0 < self.rope_theta < math.inf and 0 < self.norm_eps < math.inf):
            raise ConfigError(
                "rope_theta and norm_eps must be above 0; got "
                f"{self.rope_theta!r} and {self.norm_eps!r}."
            )

    @property
    def head_dim(self) -> int:
        """D, the channels of one head."""
        return self.dim // self.n_heads

    @property
    def n_params(self) -> int:
        """The number of parameters, from the shape alone; a tied head counts once."""
        C, kv = self.dim, self.n_kv_heads * self.head_dim
        attention = 2 * C**2 + 2 * C * kv  # wq and wo, wk and wv
        block = attention + 3 * C * self.hidden_dim + 2 * C
        embeddings = self.vocab_size * C * (1 if self.tie else 2)
        return embeddings + self.n_layers * block + C


class RMSNorm(nn.Module):
    """Divide by the root mean square over C. Zhang and Sennrich 2019, section 4."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., C); the mean is taken in float32 or better."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


def rotary_table(
    head_dim: int, length: int, theta: float = 10_000.0
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every angle, each (length, D / 2).

    Pair i turns by theta^(-2i / D) radians a position. Su et al. 2021, section 3.2.2.
    """
    rate = 1 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)  # (D / 2,)
    angle = torch.outer(torch.arange(length).float(), rate)  # (length, D / 2)
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of neighboring channels of x (B, H, T, D) by the angle of its position.

    cos and sin (T, D / 2) are the rows of `rotary_table` for the positions of x. A turn
    keeps the length, and q.k then depends on positions only by their difference.
    """
    pairs = torch.unflatten(x, -1, (-1, 2))  # (B, H, T, D) -> (B, H, T, D / 2, 2)
    a, b = pairs.unbind(-1)  # two of (B, H, T, D / 2)
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    return turned.flatten(-2)  # (B, H, T, D / 2, 2) -> (B, H, T, D)


class SwiGLU(nn.Module):
    """A SiLU that gates: w2(silu(w1 x) * w3 x). Shazeer 2020, section 2."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = F.silu(self.w1(x)) * self.w3(x)  # (B, T, C) -> (B, T, hidden)
        x = self.w2(x)  # (B, T, hidden) -> (B, T, C)
        return x


class GroupedQueryAttention(Attention):
    """Causal attention where n_heads / n_kv_heads query heads share keys and values.

    With n_kv_heads = n_heads it is multi-head attention. Ainslie et al. 2023, section 2.2.
    """

    def __init__(self, config: LlamaConfig, fused: bool):
        super().__init__(fused)
        self.n_heads = config.n_heads
        self.n_kv_heads = config.n_kv_heads
        kv_dim = config.n_kv_heads * config.head_dim
        self.wq = nn.Linear(config.dim, config.dim, bias=False)
        self.wk = nn.Linear(config.dim, kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, kv_dim, bias=False)
        self.wo = nn.Linear(config.dim, config.dim, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None
    ) -> Tensor:
        """x (B, T, C), cos and sin (T, D / 2) of its positions -> (B, T, C)."""
        q = split_heads(self.wq(x), self.n_heads)  # (B, T, C) -> (B, H, T, D)
        k = split_heads(self.wk(x), self.n_kv_heads)  # (B, T, C) -> (B, KV, T, D)
        v = split_heads(self.wv(x), self.n_kv_heads)  # (B, T, C) -> (B, KV, T, D)
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, KV, T, D) -> (B, KV, S, D)
        shared = self.n_heads // self.n_kv_heads
        if shared > 1:
            k = k.repeat_interleave(shared, dim=1)  # (B, KV, S, D) -> (B, H, S, D)
            v = v.repeat_interleave(shared, dim=1)  # (B, KV, S, D) -> (B, H, S, D)
        y = self.attend(q, k, v, mask=None, causal=True)  # (B, H, T, D)
        x = self.wo(merge_heads(y))  # (B, H, T, D) -> (B, T, C)
        return x


class Block(nn.Module):
    """One layer: it reads the residual stream through a norm, and adds to it, twice."""

    def __init__(self, config: LlamaConfig, fused: bool):
        super().__init__()
        self.norm1 = RMSNorm(config.dim, config.norm_eps)
        self.attention = GroupedQueryAttention(config, fused)
        self.norm2 = RMSNorm(config.dim, config.norm_eps)
        self.mlp = SwiGLU(config.dim, config.hidden_dim)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.attention(self.norm1(x), cos, sin, cache)
        x = x + self.mlp(self.norm2(x))
        return x


class Llama(nn.Module):
    """A LLaMA of the given shape. `fused` picks the attention path; the numbers are equal."""

    cos: Tensor  # (max_seq_len, D / 2), as is sin
    sin: Tensor

    def __init__(self, config: LlamaConfig, fused: bool = True):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(
            Block(config, fused) for _ in range(config.n_layers)
        )
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        cos, sin = rotary_table(config.head_dim, config.max_seq_len, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()
        self.tie_weights()

    @property
    def block_size(self) -> int:
        """The longest T that the model reads."""
        return self.config.max_seq_len

    def init_weights(self) -> None:
        """Draw new weights: normal, std 0.02; what is added to the stream gets less.

        The weights of norms start at 1.
        """
        for name, parameter in self.named_parameters():
            if name.endswith(("wo.weight", "w2.weight")):
                std = 0.02 / math.sqrt(2 * self.config.n_layers)
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
        """An empty cache for `forward`: one KVCache a layer, max_seq_len positions long."""
        c, weight = self.config, self.norm.weight  # its type is that of keys and values
        shape = (batch_size, c.n_kv_heads, c.max_seq_len, c.head_dim)
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
            ConfigError: more than max_seq_len positions.
        """
        start = cache[0].length if cache else 0
        end = start + idx.shape[1]
        if end > self.config.max_seq_len:
            raise ConfigError(
                f"{end} positions are more than max_seq_len = {self.config.max_seq_len}. "
                "Cut the text, or build the model with a larger max_seq_len."
            )
        cos, sin = self.cos[start:end], self.sin[start:end]  # (T, D / 2)
        x = self.token_embedding(idx)  # (B, T) -> (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, cache[i] if cache else None)  # (B, T, C)
        logits = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
