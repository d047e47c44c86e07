"""Small functions that catch the faults real language-model code ships with.

Each returns evidence: what was changed, what moved, by how much, and whether that is as
it should be. A model is called as `model(idx)` with ids (B, T) and gives logits (B, T,
V), or a tuple that starts with them; probes put it in eval mode, without gradients. Ids
may be given; a model with `config.vocab_size` and `block_size` is asked random ones,
and any other without ids is a ConfigError.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from babygpt_course.attention import Attention, KVCache
from babygpt_course.errors import ConfigError

# In units of the spread of the logits. Rounding moves them by about a millionth
# (float32), and by some hundred-thousandths in a deep model; a fault by much more.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Evidence:
    """The finding of a probe. True in an `if` when nothing is wrong."""

    ok: bool
    finding: str
    data: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'ok' if self.ok else 'FAULT'}: {self.finding}"


def distinct(vocabulary: Sequence[str]) -> Evidence:
    """Does a vocabulary list each token once?

    A repeated token owns rows that nothing can reach.
    """
    repeated = {token: n for token, n in Counter(vocabulary).items() if n > 1}
    if not repeated:
        return Evidence(True, f"all {len(vocabulary)} entries are distinct")
    token, n = max(repeated.items(), key=lambda item: item[1])
    unreachable = len(vocabulary) - len(set(vocabulary))
    return Evidence(
        False,
        f"{len(vocabulary)} entries but {len(set(vocabulary))} tokens: {unreachable} "
        f"entries can never be used ({token!r} alone is listed {n} times)",
        {"repeated": repeated, "unreachable": unreachable},
    )


def rows_trained(before: Tensor, after: Tensor, at_least: float = 0.5) -> Evidence:
    """Which rows of a table (V, ...) did training move?

    Rows that never moved hold nothing but the start. `at_least` is the share of rows
    that must have moved.
    """
    moved = (before != after).flatten(1).any(dim=1)  # (V,)
    n, V = int(moved.sum()), len(moved)
    return Evidence(
        n >= at_least * V,
        f"training moved {n} of {V} rows",
        {"moved": moved.nonzero().flatten().tolist()},
    )


def below_floor(loss: float, floor: float, tolerance: float = 0.0) -> Evidence:
    """Is a held-out loss under the floor of its source?

    Then the model has seen what it should predict. Both in the same unit. `tolerance`
    allows for the luck of a short text.
    """
    if loss < floor - tolerance:
        return Evidence(
            False,
            f"the loss {loss:.4f} is below the floor {floor:.4f}: no honest model "
            "gets there; look for a leak of the targets into the inputs, or of the "
            "test text into the training text",
            {"below_by": floor - loss},
        )
    return Evidence(
        True, f"the loss {loss:.4f} is {loss - floor:.4f} above the floor {floor:.4f}"
    )


def is_lossless(tokenizer: Any, text: str) -> Evidence:
    """Does a text come back from a tokenizer as it went in?

    `tokenizer` has encode(text) -> ids and decode(ids) -> text. Ask with what its
    training text lacked: line breaks, runs of spaces, accents, other scripts, emoji.
    """
    try:
        ids = list(tokenizer.encode(text))
        back = tokenizer.decode(ids)
    except Exception as error:  # whatever the code under test does
        return Evidence(
            False,
            f"the text has no ids: {type(error).__name__}: {error}",
            {"at": None, "lost": {}},
        )
    if back == text:
        return Evidence(
            True,
            f"{len(text):,} characters became {len(ids):,} ids and came back the same",
            {"ids": len(ids)},
        )
    at = next(
        (i for i, (a, b) in enumerate(zip(text, back)) if a != b),
        min(len(text), len(back)),
    )
    near = slice(max(0, at - 6), at + 8)
    lost = dict((Counter(text) - Counter(back)).most_common())
    finding = (
        f"the text does not come back: at character {at}, {text[near]!r} became "
        f"{back[near]!r}"
    )
    if lost:
        finding += f"; lost: {_some([f'{c!r} {n} times' for c, n in lost.items()], 4)}"
    return Evidence(False, finding, {"at": at, "lost": lost, "ids": len(ids)})


# --- what may depend on what ----------------------------------------------------------


def is_causal(model: nn.Module, idx: Tensor | None = None) -> Evidence:
    """Does any position see a later one? Then it is trained on its own answers.

    Each token of idx (B, T) is changed in turn; no logit before it may move. A model
    whose logits change their shape from call to call is a fault too.

    Raises:
        ConfigError: fewer than 2 positions.
    """
    idx = _ids(model, idx)
    if idx.shape[1] < 2:
        raise ConfigError(
            "is_causal needs at least 2 positions, one to leak to another."
        )
    with _asking(model):
        base = _logits(model, idx)  # (B, T, V)
        scale = _scale(base)
        worst: dict[str, Any] = {"by": 0.0}
        for t in range(1, idx.shape[1]):
            changed = idx.clone()
            changed[:, t] = (changed[:, t] + 1) % base.shape[-1]
            got = _attempt(model, changed, base.shape)
            if isinstance(got, str):
                return _no_comparison("token", t, got)
            moved = _difference(got, base)[:, :t]  # (B, t, V)
            by = float(moved.max()) / scale
            if by > worst["by"]:
                at = moved.amax(dim=(0, 2)) / scale > TOLERANCE  # (t,)
                worst = {
                    "by": by,
                    "changed": t,
                    "moved": at.nonzero().flatten().tolist(),
                }
    if worst["by"] > TOLERANCE:
        return Evidence(
            False,
            f"changing token {worst['changed']} moves the logits of the earlier "
            f"positions {_some(worst['moved'])} by up to {_amount(worst['by'])}: the "
            "model reads what it should predict",
            worst,
        )
    return Evidence(
        True,
        f"each of tokens 1 to {idx.shape[1] - 1} was changed; no earlier logit moved "
        f"by more than {_amount(worst['by'])}",
        {"by": worst["by"]},
    )


def reads_newest(model: nn.Module, idx: Tensor) -> Evidence:
    """Does a prediction depend on the newest token, the one right before it?

    A window that ends one token early makes a skip-gram: it trains, and its text looks
    plausible. The last tokens of idx (B, T) are changed one at a time, the newest first,
    until the logits of the last position move.
    """
    with _asking(model):
        base = _logits(model, idx)[:, -1]  # (B, V)
        scale = _scale(base)
        for age in range(idx.shape[1]):  # 0: the newest
            changed = idx.clone()
            changed[:, -1 - age] = (changed[:, -1 - age] + 1) % base.shape[-1]
            by = float(_difference(_logits(model, changed)[:, -1], base).max()) / scale
            if by > TOLERANCE:
                break
        else:
            return Evidence(False, "no token moves the last prediction", {"age": None})
    data = {"age": age, "by": by}
    if age:
        return Evidence(
            False,
            f"changing the newest token moves nothing; the first that moves the last "
            f"prediction stands {age} before it: the context ends too early",
            data,
        )
    return Evidence(
        True,
        f"changing the newest token moves the last prediction by {_amount(by)}",
        data,
    )


def reads_source(model: nn.Module, source: Tensor, written: Tensor) -> Evidence:
    """Does an encoder-decoder read its source, or only what it has written itself?

    Each position of source ids (B, S) is changed in turn while the written ids (B, T)
    stay, and the logits of `model(source, written)` must move for at least one of them.
    "Cross" attention whose keys come from the writer's own text moves for none.

    Raises:
        ConfigError: a source of one id, so that there is nothing to change it into.
    """
    low, high = source.min(), source.max()
    if low == high:
        raise ConfigError(
            "reads_source swaps ids of the source, which takes two different ones; "
            f"this source holds the id {int(low)} only."
        )
    with _asking(model):
        base = _logits(model, source, written)
        scale = _scale(base)
        by = []
        for s in range(source.shape[1]):
            changed = source.clone()
            changed[:, s] = torch.where(source[:, s] == low, high, low)
            moved = _difference(_logits(model, changed, written), base)
            by.append(float(moved.max()) / scale)
    read = [s for s, x in enumerate(by) if x > TOLERANCE]
    data = {"read": read, "by": by}
    if not read:
        return Evidence(
            False,
            f"each of {len(by)} source positions was changed and no logit moved: the "
            "model does not read its source",
            data,
        )
    return Evidence(
        True,
        f"{len(read)} of {len(by)} source positions move the logits, by up to "
        f"{_amount(max(by))}",
        data,
    )


def is_batch_independent(model: nn.Module, idx: Tensor | None = None) -> Evidence:
    """Does a text in a batch depend on its neighbors?

    Each row of idx (B, T) is changed in turn, and no other row may move; and each row
    alone must give what it gives in the batch.

    Raises:
        ConfigError: fewer than 2 rows.
    """
    idx = _ids(model, idx, B=3)
    B = len(idx)
    if B < 2:
        raise ConfigError("is_batch_independent needs at least 2 rows.")
    with _asking(model):
        base = _logits(model, idx)  # (B, T, V)
        scale = _scale(base)
        for b in range(B):
            changed = idx.clone()
            changed[b] = (changed[b] + 1) % base.shape[-1]
            got = _attempt(model, changed, base.shape)
            if isinstance(got, str):
                return _no_comparison("row", b, got)
            moved = _difference(got, base).amax(dim=(1, 2)) / scale  # (B,)
            rows = [r for r in range(B) if r != b and moved[r] > TOLERANCE]
            if rows:
                by = float(moved[rows].max())
                return Evidence(
                    False,
                    f"changing row {b} of the batch moves row {_some(rows)} by up to "
                    f"{_amount(by)}: the texts of a batch are mixed",
                    {"changed": b, "moved": rows, "by": by},
                )
        by = 0.0
        for b in range(B):
            alone = _attempt(model, idx[b : b + 1], base[b : b + 1].shape)
            if isinstance(alone, str):
                return Evidence(
                    False,
                    f"row {b} alone, with the shape {tuple(idx[b : b + 1].shape)}, "
                    f"gives {alone}: a batch size is built into the model",
                    {"changed": "batch size", "moved": b, "by": math.inf},
                )
            by = max(by, float(_difference(alone[0], base[b]).max()) / scale)
    if by > TOLERANCE:
        return Evidence(
            False,
            f"a row alone and the same row in a batch of {B} differ by {_amount(by)}",
            {"changed": "batch size", "by": by},
        )
    return Evidence(
        True,
        f"each of {B} rows was changed and no other moved; alone they differ by at "
        f"most {_amount(by)}",
        {"by": by},
    )


def is_deterministic(
    model: nn.Module, idx: Tensor | None = None, calls: int = 3
) -> Evidence:
    """Does the same input give the same output, call after call?

    Ask a model that has not been called before: some faults show in the first call
    only.

    Raises:
        ConfigError: fewer than 2 calls.
    """
    if calls < 2:
        raise ConfigError(
            f"is_deterministic compares calls with each other; got calls = {calls}. "
            "Ask for at least 2."
        )
    idx = _ids(model, idx)
    with _asking(model):
        outputs: list[Tensor] = []
        for call in range(1, calls + 1):
            logits = _attempt(model, idx, outputs[0].shape if outputs else None)
            if isinstance(logits, str):
                return Evidence(
                    False,
                    f"call {call} of {calls} with the same ids gave {logits}",
                    {"call": call},
                )
            outputs.append(logits)
    scale = _scale(outputs[0])
    by = [float(_difference(a, b).max()) / scale for a, b in zip(outputs, outputs[1:])]
    pairs = ", ".join(
        f"{call} and {call + 1} differ by {_amount(x)}" for call, x in enumerate(by, 1)
    )
    if max(by) > TOLERANCE:
        return Evidence(
            False,
            f"with the same ids, calls {pairs}: the model keeps something between "
            "calls, or draws at random in eval mode",
            {"by": by},
        )
    return Evidence(True, f"with the same ids, calls {pairs}", {"by": by})


def ignores_positions(model: nn.Module, images: Tensor) -> Evidence:
    """Does an image model see a bag of pixels, without where each one stands?

    The pixels of images (B, C, height, width) are shuffled, the same way in all. An
    answer that stays what it was, or that is shuffled along with them where the model
    gives something for each pixel, knows nothing of positions: a FAULT if the answer
    depends on where things are.

    Raises:
        ConfigError: fewer than 2 pixels.
    """
    h, w = images.shape[-2:]
    if h * w < 2:
        raise ConfigError("ignores_positions needs at least 2 pixels to shuffle.")
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(0))

    def shuffle(x: Tensor) -> Tensor:
        return x.flatten(-2)[..., order.to(x.device)].view_as(x)

    with _asking(model):
        before = _logits(model, images)
        after = _logits(model, shuffle(images))
    along = before.dim() == 4 and before.shape[-2:] == images.shape[-2:]
    moved = _difference(after, shuffle(before) if along else before)
    by = float(moved.max()) / _scale(before)
    data = {"by": by, "per_pixel": along}
    if by > TOLERANCE:
        return Evidence(
            True, f"shuffling the pixels moves the answer by {_amount(by)}", data
        )
    what = "shuffles the answer the same way and does nothing else"
    return Evidence(
        False,
        f"shuffling all {h * w} pixels {what if along else 'does not move the answer'} "
        f"({_amount(by)}): the model does not know where a pixel stands",
        data,
    )


# --- what is computed -----------------------------------------------------------------


def block_calls(
    model: nn.Module,
    idx: Tensor | None = None,
    blocks: Iterable[nn.Module] | None = None,
) -> Evidence:
    """Is each block called once in a forward pass?

    `blocks` are model.blocks if not given; idx is (B, T).
    """
    idx = _ids(model, idx)
    blocks = list(cast(nn.ModuleList, model.blocks) if blocks is None else blocks)
    calls = [0] * len(blocks)

    def count(i: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            calls[i] += 1

        return hook

    hooks = [b.register_forward_pre_hook(count(i)) for i, b in enumerate(blocks)]
    try:
        with _asking(model):
            _logits(model, idx)
    finally:
        for hook in hooks:
            hook.remove()
    finding = f"{len(blocks)} blocks, {sum(calls)} calls in one forward pass"
    if set(calls) != {1}:
        finding += f" ({_some(calls)}): each block should run once"
    return Evidence(set(calls) == {1}, finding, {"calls": calls, "total": sum(calls)})


def collapses_to_affine(model: nn.Module, inputs: Tensor | None = None) -> Evidence:
    """Do two linear layers follow each other with nothing between?

    They are one affine map, and hidden channels between them buy nothing. A hidden
    layer narrower than both ends is a low-rank map made on purpose, and passes.
    `inputs` are ids (B, T), or whatever the module takes; T above 1.
    """
    inputs = _ids(model, None) if inputs is None else inputs
    seen: list[tuple[str, nn.Linear, Tensor, Tensor]] = []

    def keep(name: str) -> Callable[[nn.Linear, tuple[Tensor], Tensor], None]:
        return lambda module, args, out: seen.append((name, module, args[0], out))

    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    hooks = [m.register_forward_hook(keep(n)) for n, m in linears]
    try:
        with _asking(model):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for name, first, x, hidden in seen:
        for next_name, second, received, out in seen:
            if received.shape != hidden.shape or not torch.equal(received, hidden):
                continue
            if second is first or hidden.shape[-1] < min(x.shape[-1], out.shape[-1]):
                continue
            with torch.no_grad():
                as_one = _as_one(first, second)(x)
            error = float(_difference(as_one, out).max()) / _scale(out)
            spent = first.weight.numel() + second.weight.numel()
            found.append((name, next_name, spent, x.shape[-1] * out.shape[-1], error))
    if not found:
        return Evidence(
            True,
            f"of {len(linears)} linear layers none feeds another directly",
            {"pairs": []},
        )
    name, next_name, spent, enough, error = found[0]
    return Evidence(
        False,
        f"{name} feeds {next_name} with nothing between, {len(found)} such pairs: one "
        f"matrix of {enough:,} weights in place of {spent:,} gives the same output to "
        f"{error:.1g} of its size",
        {
            "pairs": [pair[:2] for pair in found],
            "weights": spent,
            "enough": enough,
            "by": error,
        },
    )


def cache_matches(model: nn.Module, idx: Tensor | None = None) -> Evidence:
    """Does reading token by token with a cache give the logits of reading all at once?

    The first half of idx (B, T) is read in one piece, as a prompt, then one token at a
    time; and all of it one token at a time.
    """
    idx = _ids(model, idx)
    T = idx.shape[1]
    new_cache = cast(Callable[[int], list[KVCache]], model.new_cache)
    with _asking(model):
        base = _logits(model, idx)  # (B, T, V)
        scale = _scale(base)
        for prompt in (max(T // 2, 1), 1):
            cache = new_cache(len(idx))
            at = 0
            differences = []
            for end in [prompt, *range(prompt + 1, T + 1)]:
                whole = base[:, at:end]
                got = _attempt(model, idx[:, at:end], whole.shape, cache=cache)
                if isinstance(got, str):
                    return Evidence(
                        False,
                        f"with {at} positions in the cache, {end - at} more give {got}",
                        {"prompt": prompt, "position": at, "by": math.inf},
                    )
                differences.append(_difference(got, whole).amax(dim=(0, 2)))
                at = end
            moved = torch.cat(differences) / scale  # (T,)
            wrong = (moved > TOLERANCE).nonzero().flatten().tolist()
            if wrong:
                by = float(moved.max())
                return Evidence(
                    False,
                    f"after a prompt of {prompt}, cached and full logits differ at "
                    f"positions {_some(wrong)} by up to {_amount(by)}",
                    {"prompt": prompt, "moved": wrong, "by": by},
                )
    return Evidence(
        True,
        f"with and without the cache, {T} positions differ by at most "
        f"{_amount(float(moved.max()))}",
        {"by": float(moved.max())},
    )


def rope_is_relative(model: nn.Module, T: int = 12) -> Evidence:
    """Do attention scores depend on how far apart two tokens are, and on nothing else?

    The model reads one token T times over, so that in its first block queries and keys
    can differ by position only; the score of query i and key j, against that of i and
    itself, must then be one number for each distance i - j. It is asked twice, since a
    rotation that is applied once per process is there in the first call only. For
    models whose `blocks[0].attention` keeps its `.weights`, as those of the course do
    when not fused. The property is that of Su et al. 2021, section 3.1.

    Raises:
        ConfigError: fewer than 3 positions, or attention that keeps no weights.
    """
    T = min(T, getattr(model, "block_size", T))
    if T < 3:
        raise ConfigError(
            "rope_is_relative compares pairs at the same distance, which takes T of at "
            f"least 3; this is T = {T}. Ask with a larger T, of a model that reads it."
        )
    block = cast(nn.ModuleList, model.blocks)[0]
    attention = cast(Attention, block.attention)
    device = next(model.parameters()).device
    idx = torch.zeros(1, T, dtype=torch.int64, device=device)
    fused, attention.fused = attention.fused, False
    try:
        with _asking(model):
            weights = []
            for _ in range(2):
                _logits(model, idx)
                if attention.weights is None:
                    raise ConfigError(
                        f"blocks[0].attention, a {type(attention).__name__}, has no "
                        "weights after a call. It must keep its attention weights "
                        "(B, H, T, T) in `.weights` when `.fused` is False."
                    )
                weights.append(attention.weights[0].double())  # (H, T, T)
    finally:
        attention.fused = fused
    findings = []
    for call, w in enumerate(weights, 1):
        score = w.log()  # (H, T, T), up to a number for each query
        score = score - score.diagonal(dim1=-2, dim2=-1)[..., None]
        by_distance = [score.diagonal(-d, dim1=-2, dim2=-1) for d in range(1, T - 1)]
        effect = max(float(x.abs().max()) for x in by_distance)
        spread = max(float((x.amax(-1) - x.amin(-1)).max()) for x in by_distance)
        data = {"call": call, "effect": effect, "spread": spread}
        findings.append(data)
        if not effect > 1e-5:  # rounding in float32
            return Evidence(
                False,
                f"in call {call} the scores do not depend on positions at all: no "
                "rotation is applied",
                data,
            )
        if not spread <= 0.02 * effect:
            return Evidence(
                False,
                f"in call {call} pairs at the same distance have scores that differ "
                f"by up to {spread:.2g}, where distance itself makes {effect:.2g}: "
                "positions act as absolute, not as relative",
                data,
            )
    return Evidence(
        True,
        f"in both calls the scores move by up to {effect:.2g} with the distance of two "
        f"tokens, and by {spread:.1g} with where they stand",
        findings[-1],
    )


def weights_mix(weights: Tensor, causal: bool = True, most: float = 0.99) -> Evidence:
    """Are these attention weights (..., T, S) shares of what each query may read?

    Each row must hold finite numbers from 0 up that add up to 1; if causal, with nothing
    on keys after the query (the queries are the last T of the S positions). And the
    queries must read something besides themselves: where they give themselves more than
    `most` on average, the layer hands its input on. Queries with one key are left out
    of that.
    """
    w = weights.detach().double()
    T, S = w.shape[-2:]
    if not bool(w.isfinite().all()):
        bad = int((~w.isfinite()).any(dim=-1).sum())
        n = w.shape[:-1].numel()
        return Evidence(
            False,
            f"{bad} of {n} rows hold NaN or infinity: look for +inf in a mask, or a row "
            "whose keys are all hidden",
            {"rows": bad},
        )
    off = float((w.sum(dim=-1) - 1).abs().max())
    if off > 1e-3 or float(w.min()) < 0:
        return Evidence(
            False,
            f"rows do not add up to 1 (one is off by {off:.2g}): the weights were "
            "changed after the softmax",
            {"off": off},
        )
    if causal and S > 1:
        late = float(w.triu(diagonal=S - T + 1).max())
        if late > TOLERANCE:
            return Evidence(
                False,
                f"a query gives {late:.2g} of its weight to a later position",
                {"late": late},
            )
    own = w.diagonal(offset=S - T, dim1=-2, dim2=-1)  # (..., T)
    own = own[..., 1:] if causal and S == T else own
    if own.numel() and S > 1 and float(own.mean()) > most:
        return Evidence(
            False,
            f"each position gives itself {float(own.mean()):.4f} of its weight: "
            "nothing is looked up, the output is the input",
            {"own": float(own.mean())},
        )
    return Evidence(
        True,
        f"each of {w.shape[:-1].numel()} rows adds up to 1; own weight "
        f"{float(own.mean()) if own.numel() else 1.0:.2f} on average",
        {"own": float(own.mean()) if own.numel() else 1.0},
    )


# --- what is measured -----------------------------------------------------------------


def per_position_loss(
    model: nn.Module,
    ids: Tensor,
    block_size: int | None = None,
    tolerance: float = 0.25,
) -> Evidence:
    """The loss of each position of a window, in nats, over a text ids (N,).

    More context helps, so an honest loss falls towards the end of the window. Where
    later tokens leak, all positions but the last, which has none, are far too good: the
    last one is worse than the mean of the others by more than `tolerance` nats and 4
    standard errors.

    Raises:
        ConfigError: a text too short for two windows of block_size, or that is below 2.
    """
    T = block_size or cast(int, model.block_size)
    n = (len(ids) - 1) // T  # windows
    if n < 2 or T < 2:
        raise ConfigError(
            f"{len(ids)} ids are too few for two windows of {T}. Use a longer text."
        )
    x, y = ids[: n * T].view(n, T), ids[1 : n * T + 1].view(n, T)
    parts = []
    with _asking(model):
        for xs, ys in zip(torch.split(x, 256), torch.split(y, 256)):
            logits = _logits(model, xs)  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1), ys.flatten(), reduction="none")
            parts.append(loss.view_as(ys))
    losses = torch.cat(parts).double()  # (n, T)
    loss = losses.mean(dim=0)  # (T,)
    rest = float(loss[:-1].mean())
    excess = float(loss[-1]) - rest
    error = float((losses[:, -1] - losses[:, :-1].mean(dim=1)).std()) / math.sqrt(n)
    data = {"loss": loss.tolist(), "excess": excess, "standard_error": error}
    where = f"the last of {T} positions has {float(loss[-1]):.3f} nats, the others"
    if not excess <= max(tolerance, 4 * error):
        return Evidence(
            False,
            f"{where} {rest:.3f}: only the last one has no later token to read",
            data,
        )
    return Evidence(True, f"{where} {rest:.3f}", data)


def times_the_model(
    benchmark: Callable[[nn.Module], float], model: nn.Module, delay: float = 0.02
) -> Evidence:
    """Does a benchmark, which takes a model and returns seconds, time that model?

    It is run on the model, and again while every call of the model takes `delay`
    seconds longer.
    """
    calls = 0

    def wait(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += 1
        time.sleep(delay)

    usual = benchmark(model)
    hook = model.register_forward_pre_hook(wait)
    try:
        slower = benchmark(model)
    finally:
        hook.remove()
    data = {"calls": calls, "seconds": usual, "slower": slower, "delay": delay}
    if calls == 0:
        return Evidence(False, "the benchmark never calls the model", data)
    if slower - usual < delay / 2:
        return Evidence(
            False,
            f"a model that is {delay} s slower takes {slower - usual:.4f} s longer in "
            "the benchmark: what it times is not the model",
            data,
        )
    return Evidence(
        True,
        f"a model that is {delay} s slower takes {slower - usual:.4f} s longer",
        data,
    )


# --- shared ---------------------------------------------------------------------------


@contextmanager
def _asking(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients, and the model's own mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _ids(model: nn.Module, idx: Tensor | None, B: int = 2) -> Tensor:
    """idx, or random ids (B, T) that this model can read; the same every time."""
    if idx is not None:
        return idx
    V = getattr(getattr(model, "config", None), "vocab_size", None)
    T = getattr(model, "block_size", None)
    if V is None or T is None:
        raise ConfigError(
            f"A {type(model).__name__} does not say what it reads. Give ids (B, T)."
        )
    g = torch.Generator().manual_seed(0)
    idx = torch.randint(V, (B, min(T, 16)), generator=g)
    return idx.to(next(model.parameters()).device)


def _logits(model: nn.Module, idx: Tensor, *more: Tensor, **options: Any) -> Tensor:
    out = model(idx, *more, **options)
    logits: Tensor = out[0] if isinstance(out, tuple) else out
    return logits


def _attempt(
    model: nn.Module, idx: Tensor, shape: torch.Size | None = None, **options: Any
) -> Tensor | str:
    """The logits, or in words why there are none, or none of the shape."""
    try:
        out = _logits(model, idx, **options)
    except Exception as error:  # whatever the code under test does
        return f"{type(error).__name__}: {error}"
    if not isinstance(out, Tensor):
        return f"{out!r}, not logits"
    if shape is not None and out.shape != shape:
        return f"logits of shape {tuple(out.shape)}, not {tuple(shape)}"
    return out


def _no_comparison(what: str, at: int, got: str) -> Evidence:
    """The finding that a later call gave no logits, or none of the first one's shape."""
    return Evidence(
        False,
        f"with {what} {at} changed, another call gives {got}: the model keeps something "
        "between calls, or cannot read the changed ids",
        {"changed": at, "by": math.inf},
    )


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|; equal infinities do not differ, and a NaN differs from everything."""
    return torch.where(a == b, 0.0, (a - b).abs()).nan_to_num(nan=math.inf)


def _scale(x: Tensor) -> float:
    """The spread of the finite values: what a difference is compared with."""
    finite = x[x.isfinite()].double()
    return float(finite.std()) if len(finite) > 1 and finite.std() > 0 else 1.0


def _as_one(first: nn.Linear, second: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The affine map that two linear layers make together."""
    weight = second.weight @ first.weight  # (out, in)
    bias = 0.0 if first.bias is None else F.linear(first.bias, second.weight)
    bias = bias + (0.0 if second.bias is None else second.bias)
    return lambda x: x @ weight.T + bias


def _amount(by: float) -> str:
    """A movement in words, in units of the spread of the logits."""
    if by == math.inf:
        return "infinity (or NaN)"
    return f"{by:.2g} of their spread"


def _some(items: Sequence[object], n: int = 8) -> str:
    """The first few of a list."""
    more = f", ... {len(items)} in all" if len(items) > n else ""
    return ", ".join(map(str, items[:n])) + more
