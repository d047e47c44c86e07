"""Write text with a model, one token at a time."""

import torch
from torch import Tensor, nn

from babygpt_course.errors import ConfigError


@torch.no_grad()
def generate(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Extend each row of idx (B, T) by max_new_tokens sampled ids: (B, T + max_new_tokens).

    Temperature 0 takes the most likely id instead of sampling.

    Raises:
        ConfigError: negative max_new_tokens or temperature, or idx that is not (B, T) with T >= 1.
    """
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must be 0 or more; got {max_new_tokens}.")
    if temperature < 0:
        raise ConfigError(f"temperature must be 0 or more; got {temperature}.")
    if idx.ndim != 2 or idx.shape[1] < 1:
        raise ConfigError(
            f"idx must have shape (B, T) with T >= 1, the text to go on from; got {tuple(idx.shape)}."
        )
    for _ in range(max_new_tokens):
        logits, _ = model(idx)  # (B, T, V)
        logits = logits[:, -1]  # (B, V): only the last position is asked what comes next
        if temperature == 0:
            new = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
        else:
            probs = torch.softmax(logits / temperature, dim=-1)  # (B, V)
            new = torch.multinomial(probs, 1, generator=generator)  # (B, 1)
        idx = torch.cat([idx, new], dim=1)  # (B, T + 1)
    return idx
