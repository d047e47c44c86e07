"""Attention: each position asks, and takes a weighted mean of what the others offer.

Shapes: B batch, T queries, S keys, C channels, H heads, D = C / H channels of one head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.errors import ConfigError


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """q (..., T, D), k (..., S, D), v (..., S, E) -> (..., T, E), written out.

    `mask` broadcasts to (..., T, S): bool, True where a query may look, or numbers that
    are added to the scores. `is_causal` hides key j from query i where j > i.
    A query that may look at nothing gets zeros. Vaswani et al. 2017, section 3.2.1.

    Raises:
        ConfigError: the mask is neither bool nor floating point.
    """
    return attention_weights(q, k, mask, is_causal) @ v  # (..., T, S) @ (..., S, E)


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """How much each query looks at each key: q (..., T, D), k (..., S, D) -> (..., T, S).

    A row sums to 1. A row whose keys are all hidden has no distribution (0 / 0), so it is
    set to zero, as torch does; its gradients are zero too, never NaN. The mask and its
    ConfigError are those of `scaled_dot_product_attention`.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask.is_floating_point():
        scores = scores + mask
    else:
        raise ConfigError(
            "An attention mask must be bool (True = may look) or floating point (added "
            f"to the scores); got {mask.dtype}. For a mask of 0 and 1 use mask.bool()."
        )
    blind = (scores == -math.inf).all(dim=-1, keepdim=True)  # (..., T, 1)
    weights = torch.softmax(scores.masked_fill(blind, 0.0), dim=-1)  # (..., T, S)
    return weights.masked_fill(blind, 0.0)


def causal_mask(T: int, S: int, device: torch.device | None = None) -> Tensor:
    """Which keys the last T of S positions may look at: bool (T, S), True = may look."""
    seen = torch.ones(T, S, dtype=torch.bool, device=device)
    return seen.tril(diagonal=S - T)  # the last query sees all S keys


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(B, T, C) -> (B, H, T, D): each head gets its own D = C / H channels."""
    x = torch.unflatten(x, -1, (n_head, -1))  # (B, T, C) -> (B, T, H, D)
    return x.transpose(1, 2)  # (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, C): the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)  # (B, T, H, D) -> (B, T, C)


def check_sizes(**sizes: int) -> None:
    """Raise a ConfigError that names the first size that is not a whole number >= 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(
                f"{name} must be a whole number of at least 1; got {size!r}."
            )


def check_heads(channels: int, heads: int, channels_name: str, heads_name: str) -> None:
    """Raise a ConfigError unless the channels divide evenly among the heads."""
    check_sizes(**{channels_name: channels, heads_name: heads})
    if channels % heads:
        raise ConfigError(
            f"{channels_name} = {channels} does not divide into {heads_name} = {heads} "
            f"heads of one size. Choose {channels_name} as a multiple of {heads_name}."
        )


class KVCache:
    """The keys and values that one layer has computed so far, kept for the next token.

    Two buffers (B, H, max_len, D), of which the first `length` positions are filled. It is
    for generation, without gradients; H is the number of key-value heads.
    """

    def __init__(
        self,
        batch_size: int,
        n_head: int,
        max_len: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        shape = (batch_size, n_head, max_len, head_dim)
        # Not zeros: memory that was never written takes no room on a CPU.
        self.k = torch.empty(shape, dtype=dtype, device=device)
        self.v = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def n_bytes(self) -> int:
        """Memory of both buffers in bytes, filled or not."""
        return self.k.nbytes + self.v.nbytes

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add k and v (B, H, T, D); return all so far, each (B, H, length, D).

        Raises:
            ConfigError: there is no room for T more positions.
        """
        start, end = self.length, self.length + k.shape[2]
        if end > self.k.shape[2]:
            raise ConfigError(
                f"The cache holds {self.k.shape[2]} positions and {start} are filled: no "
                f"room for {k.shape[2]} more. Make a longer cache or read a new window."
            )
        self.k[:, :, start:end] = k
        self.v[:, :, start:end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]


class Attention(nn.Module):
    """What every attention layer here shares: the manual path beside the fused one.

    Both give the same numbers. The manual path leaves the weights of its last call in
    `.weights` (B, H, T, S), to look at; the fused one never forms them and is faster.
    """

    def __init__(self, fused: bool = False):
        super().__init__()
        self.fused = fused
        self.weights: Tensor | None = None

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        """q (B, H, T, D), k and v (B, H, S, D) -> (B, H, T, D).

        Causal means that the queries are the last T of the S positions.
        """
        T, S = q.shape[2], k.shape[2]
        is_causal = causal and T == S and mask is None  # the fused kernel's fast case
        if causal and not is_causal and (T > 1 or mask is not None):
            seen = causal_mask(T, S, q.device)  # (T, S)
            if mask is None:
                mask = seen
            elif mask.dtype == torch.bool:
                mask = mask & seen
            else:
                mask = mask.masked_fill(~seen, -math.inf)
        if self.fused:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=is_causal
            )
        weights = attention_weights(q, k, mask, is_causal)  # (B, H, T, S)
        self.weights = weights.detach()
        return weights @ v  # (B, H, T, S) @ (B, H, S, D) -> (B, H, T, D)


class MultiHeadAttention(Attention):
    """Self-attention in H heads side by side. Vaswani et al. 2017, section 3.2.2.

    Raises:
        ConfigError: n_embd is not a multiple of n_head.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        causal: bool = False,
        bias: bool = True,
        fused: bool = False,
    ):
        super().__init__(fused)
        check_heads(n_embd, n_head, "n_embd", "n_head")
        self.n_head = n_head
        self.causal = causal
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=bias)
        self.proj = nn.Linear(n_embd, n_embd, bias=bias)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C); `mask` broadcasts to (B, H, T, S).

        With a cache, x holds the new positions only and S counts the cached ones too.
        """
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, 3C) -> three of (B, T, C)
        q = split_heads(q, self.n_head)  # (B, T, C) -> (B, H, T, D)
        k = split_heads(k, self.n_head)  # (B, T, C) -> (B, H, T, D)
        v = split_heads(v, self.n_head)  # (B, T, C) -> (B, H, T, D)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, H, T, D) -> (B, H, S, D)
        y = self.attend(q, k, v, mask, self.causal)  # (B, H, T, D)
        x = self.proj(merge_heads(y))  # (B, H, T, D) -> (B, T, C)
        return x


class CrossAttention(Attention):
    """Queries from one sequence, keys and values from another (the context).

    `context_dim` is the width of the context; without it, n_embd.

    Raises:
        ConfigError: n_embd is not a multiple of n_head.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        context_dim: int | None = None,
        bias: bool = True,
        fused: bool = False,
    ):
        super().__init__(fused)
        check_heads(n_embd, n_head, "n_embd", "n_head")
        self.n_head = n_head
        self.q = nn.Linear(n_embd, n_embd, bias=bias)
        self.kv = nn.Linear(context_dim or n_embd, 2 * n_embd, bias=bias)
        self.proj = nn.Linear(n_embd, n_embd, bias=bias)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, C), context (B, S, E) -> (B, T, C); `mask` broadcasts to (B, H, T, S).

        To hide padding from a bool (B, S), True where there is text, pass
        mask[:, None, None, :].
        """
        k, v = self.kv(context).chunk(2, dim=-1)  # (B, S, 2C) -> two of (B, S, C)
        q = split_heads(self.q(x), self.n_head)  # (B, T, C) -> (B, H, T, D)
        k = split_heads(k, self.n_head)  # (B, S, C) -> (B, H, S, D)
        v = split_heads(v, self.n_head)  # (B, S, C) -> (B, H, S, D)
        y = self.attend(q, k, v, mask, causal=False)  # (B, H, T, D)
        x = self.proj(merge_heads(y))  # (B, H, T, D) -> (B, T, C)
        return x


class SpatialAttention(Attention):
    """One head of attention over the positions of an image, added to the image.

    GroupNorm, then 1x1 convolutions for q, k, v and the output, as in the autoencoder of
    latent diffusion (Rombach et al. 2022). P = height * width positions cost P^2 scores.

    Raises:
        ConfigError: channels is not a multiple of n_groups.
    """

    def __init__(self, channels: int, n_groups: int = 32, fused: bool = False):
        super().__init__(fused)
        check_heads(channels, n_groups, "channels", "n_groups")
        self.norm = nn.GroupNorm(n_groups, channels, eps=1e-6)
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.proj = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, height, width) -> the same shape."""
        qkv = self.qkv(self.norm(x))  # (B, C, h, w) -> (B, 3C, h, w)
        qkv = qkv.flatten(2).transpose(1, 2)[:, None]  # -> (B, 1, P, 3C): one head
        q, k, v = qkv.chunk(3, dim=-1)  # three of (B, 1, P, C)
        y = self.attend(q, k, v, mask=None, causal=False)  # (B, 1, P, C)
        y = y[:, 0].transpose(1, 2).view_as(x)  # (B, 1, P, C) -> (B, C, h, w)
        x = x + self.proj(y)  # (B, C, h, w)
        return x


class GEGLU(nn.Module):
    """A feed-forward layer of width 4C whose GELU gates. Shazeer 2020, section 2."""

    def __init__(self, n_embd: int):
        super().__init__()
        self.fc = nn.Linear(n_embd, 8 * n_embd)
        self.proj = nn.Linear(4 * n_embd, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        value, gate = self.fc(x).chunk(2, dim=-1)  # (B, T, 8C) -> two of (B, T, 4C)
        x = self.proj(value * F.gelu(gate))  # (B, T, 4C) -> (B, T, C)
        return x


class SpatialTransformer(nn.Module):
    """The block with which latent diffusion lets an image read a text.

    Self-attention over the positions, cross-attention to a context, and a GEGLU
    feed-forward, each pre-norm with a residual; 1x1 convolutions lead in and out. The last
    starts at zero, so a new block changes nothing. Rombach et al. 2022, appendix E.2.1.

    Raises:
        ConfigError: channels is not a multiple of n_head and of n_groups.
    """

    def __init__(
        self,
        channels: int,
        n_head: int,
        context_dim: int | None = None,
        n_groups: int = 32,
        fused: bool = False,
    ):
        super().__init__()
        check_heads(channels, n_groups, "channels", "n_groups")
        self.norm = nn.GroupNorm(n_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm1 = nn.LayerNorm(channels)
        self.self_attention = MultiHeadAttention(channels, n_head, fused=fused)
        self.norm2 = nn.LayerNorm(channels)
        self.cross_attention = CrossAttention(
            channels, n_head, context_dim, fused=fused
        )
        self.norm3 = nn.LayerNorm(channels)
        self.mlp = GEGLU(channels)
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, C, height, width), context (B, S, E) -> the shape of x.

        `mask` says which of the context may be read; it broadcasts to (B, H, P, S).
        """
        y = self.proj_in(self.norm(x))  # (B, C, h, w)
        y = y.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, P, C)
        y = y + self.self_attention(self.norm1(y))
        y = y + self.cross_attention(self.norm2(y), context, mask)
        y = y + self.mlp(self.norm3(y))
        y = y.transpose(1, 2).reshape(x.shape)  # (B, P, C) -> (B, C, h, w)
        x = x + self.proj_out(y)
        return x
