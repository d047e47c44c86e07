"""llama.mjs: the LLaMA with its cache, all at once and token by token, and llama2.c's tokenizer."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from babygpt_course.llama import Llama, LlamaConfig
from babygpt_course.sentence_piece import Llama2cTokenizer
from tests.figures import ready, taps, weights

PARTS = ["norm1", "attention", "attention.weights", "norm2", "mlp"]
PIECES = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{b:02X}>" for b in range(256))]
PIECES += [
    " ",
    "a",
    "b",
    "c",
    "é",
    "ab",
    " a",
    "ab",
    "bc",
    " ab",
    "abc",
    "aa",
    "é\n",
    "cc",
]


def tokenizer() -> Llama2cTokenizer:
    scores = [0.0] * 264 + [-3.0, -1.0, -9.0, -2.0, -0.5, -0.5, -4.0, -1e10, -5.0]
    return Llama2cTokenizer([p.encode() for p in PIECES], scores)


def multiplied(c: LlamaConfig, past: int, T: int) -> int:
    """Products of a read of T after `past`, counted by torch: of scores the half that is seen, one row of logits."""
    model = Llama(c, fused=False)
    cache = model.new_cache(1)
    with torch.no_grad():
        if past:
            model(torch.zeros(1, past, dtype=torch.int64), cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, T, dtype=torch.int64), cache=cache)
    hidden = c.n_layers * 2 * c.dim * T * (T - 1) // 2  # pairs that the mask hides
    return counter.get_total_flops() // 2 - hidden - (T - 1) * c.dim * c.vocab_size


def golden() -> dict:
    generator = torch.Generator().manual_seed(16)
    shapes = {
        "two heads a group, tied": LlamaConfig(24, 2, 6, 3, 11, 20, 13),
        "one group, its own head": LlamaConfig(
            16, 3, 4, 1, 7, 10, 9, rope_theta=100.0, norm_eps=1e-3, tie=False
        ),
        "every head for itself": LlamaConfig(20, 1, 2, 2, 5, 12, 8),
    }
    models = {}
    for i, (name, c) in enumerate(shapes.items()):
        model = ready(Llama(c), seed=i)
        blocks = [f"blocks.{j}" for j in range(c.n_layers)]
        parts = [*blocks, *[f"{b}.{p}" for b in blocks for p in PARTS]]
        texts = []
        for T in (1, 7, c.max_seq_len):
            ids = torch.randint(c.vocab_size, (1, T), generator=generator)
            names = ["token_embedding", *parts, "norm", "head"]
            texts.append({"ids": ids[0], "taps": taps(model, names, ids)})
        models[name] = {
            "config": {
                "n_heads": c.n_heads,
                "n_kv_heads": c.n_kv_heads,
                "max_seq_len": c.max_seq_len,
                "rope_theta": c.rope_theta,
                "norm_eps": c.norm_eps,
            },
            "tensors": weights(model),
            "texts": texts,
            "multiplies": [
                [past, T, multiplied(c, past, T)]
                for past, T in ((0, 1), (0, 7), (1, 1), (6, 1), (3, 4))
            ],
        }
    words = tokenizer()
    written = [
        "",
        "a",
        "abc",
        " ab",
        "aab abab",
        "abcé é\n",
        "x中😀",
        "aaa",
        "ccc",
        "bcabc aéb",
    ]
    said = [[1, 269, 267], [1, 1, 264], [269, 1, 4, 5], [1, 198, 172, 2]]
    return {
        "models": models,
        "pieces": PIECES,
        "scores": words.scores,
        "encoded": [[text, words.encode(text)] for text in written],
        "decoded": [
            [ids, words.decode(ids)] for ids in [*map(words.encode, written), *said]
        ],
    }


FAULTS = {
    "a cached token turned as the first": (
        "llama.mjs",
        "q: rotate(q, H, table, start)",
        "q: rotate(q, H, table, 0)",
    ),
    "keys turned as the first": (
        "llama.mjs",
        "rotate(k, G, table, start).data",
        "rotate(k, G, table, 0).data",
    ),
    "keys not turned": (
        "llama.mjs",
        "rotate(k, G, table, start).data",
        "k.data",
    ),
    "the wrong way round": (
        "rotary.mjs",
        "a * cos[n] - b * sin[n]",
        "a * cos[n] + b * sin[n]",
    ),
    "heads dealt out in turn": (
        "llama.mjs",
        "Math.floor(h / (H / G)) * D",
        "(h % G) * D",
    ),
    "H and G swapped": ("llama.mjs", "S, H, G });", "S, H: G, G: H });"),
    "a mask from the first position": (
        "llama.mjs",
        "const seen = S - T + t + 1",
        "const seen = t + 1",
    ),
    "no mask": ("llama.mjs", "const seen = S - T + t + 1", "const seen = S"),
    "the newest key left out": (
        "llama.mjs",
        "const seen = S - T + t + 1",
        "const seen = Math.max(S - T + t, 1)",
    ),
    "keys kept where values belong": (
        "llama.mjs",
        "kept.v.set(v.data",
        "kept.v.set(k.data",
    ),
    "no square root": ("llama.mjs", "1 / Math.sqrt(D)", "1 / D"),
    "the mean taken out": (
        "llama.mjs",
        "const row = rowOf(x.data, C, t);",
        "const row = rowOf(x.data, C, t).map((v, i, r) => v - r.reduce((a, b) => a + b) / C);",
    ),
    "the gate and the value swapped": (
        "llama.mjs",
        "v * gate.data[i] * sigmoid(gate.data[i])",
        "v * gate.data[i] * sigmoid(v)",
    ),
    "no residual around the attention": (
        "llama.mjs",
        "x = add(x, note(`${name}.attention`",
        "x = (0, note(`${name}.attention`",
    ),
    "a cache that does not grow": (
        "llama.mjs",
        "cache.length = S;",
        "cache.length = 1;",
    ),
    "theta fixed": ("llama.mjs", "rotaryTable(D, most, theta)", "rotaryTable(D, most)"),
    "logits of the first of many": (
        "llama.mjs",
        "rowOf(x.data, C, ids.length - 1)",
        "rowOf(x.data, C, 0)",
    ),
    "the masked half counted": (
        "llama.mjs",
        "(T * (T + 1)) / 2",
        "T * T",
    ),
    "any pair merged": ("llama.mjs", "scores[id] > best[0]", "scores[id] > NEVER"),
    "of equals the last merged": (
        "llama.mjs",
        "scores[id] > best[0]",
        "scores[id] >= best[0] && scores[id] > NEVER",
    ),
    "no space before a text": ("llama.mjs", "text ? ` ${text}`", "text ? `${text}`"),
    "the first space kept": ("llama.mjs", 'replace(/^ /, "")', 'replace(/^_/, "")'),
    "bytes of a character lost": ("llama.mjs", "out.push(b + FIRST)", "out.push(b)"),
    "the last of two equal pieces": (
        "llama.mjs",
        "ids.has(piece) || ids.set(piece, i)",
        "ids.set(piece, i)",
    ),
}
