"""seq2seq.mjs: encoder, decoder with its weights over the source, greedy decoding, hidden source positions."""

from dataclasses import replace

import torch

from babygpt_course.seq2seq import (
    START,
    Seq2Seq,
    Seq2SeqConfig,
    encode,
    fit,
    make_dates,
)
from tests.figures import ready, rounded, switch_off_heads, taps, weights


def many_dates() -> dict:
    """What a trained model of attention alone writes for many dates, and for half of them with a word hidden."""
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(n_embd=32, n_head=2, attention_only=True))
    fit(model, make_dates(500, seed=0), steps=150, batch_size=32, lr=5e-3)
    model.double().eval()
    for parameter in model.parameters():
        parameter.data = rounded(parameter)
    runs = []
    for i, (text, _) in enumerate(make_dates(60, seed=1)):
        source = encode([text])  # (1, S)
        seen = source != 0
        if i % 2:
            seen[0, 1:4] = False
        ids = model.translate(source, seen)
        with torch.no_grad():
            written = torch.cat([torch.full_like(ids[:, :1], START), ids[:, :-1]], 1)
            logits = model.decode(written, model.encode(source), seen)
        cross = model.decoder[0].cross_attention.weights[0]
        runs.append(
            {
                "source": source[0],
                "seen": seen[0].long(),
                "ids": ids[0],
                "logits": logits[0],
                "cross": cross,
            }
        )
    return {"tensors": weights(model), "config": {"n_head": 2}, "runs": runs}


def golden() -> dict:
    config = Seq2SeqConfig(source_length=24, n_layer=2, n_head=3, n_embd=21)
    model = ready(Seq2Seq(config), seed=11, std=0.3)
    encoder = [
        f"encoder.{i}{p}"
        for i in (0, 1)
        for p in ("", ".attention", ".attention.weights")
    ]
    parts = (
        "",
        ".attention",
        ".attention.weights",
        ".cross_attention",
        ".cross_attention.weights",
    )
    decoder = [f"decoder.{i}{p}" for i in (0, 1) for p in parts]
    generator = torch.Generator().manual_seed(2)
    runs = []
    for text, T, pad in [
        ("3", 1, 0),
        ("7. Mar. 1994", 7, 4),
        ("thursday, 5th march 1998", 10, 0),
    ]:
        ids = encode([text])  # (1, S)
        source = torch.cat([ids, torch.zeros(1, pad, dtype=torch.long)], 1)
        written = torch.randint(2, config.vocab_size, (1, T), generator=generator)
        written[0, 0] = START
        with torch.no_grad():
            memory = model.encode(source)
        runs.append(
            {
                "source": source[0],
                "written": written[0],
                "encoder": taps(
                    model, [*encoder, "memory_norm"], source, call=model.encode
                ),
                "decoder": taps(
                    model,
                    [*decoder, "head"],
                    written,
                    memory,
                    source != 0,
                    call=model.decode,
                ),
                "ids": model.translate(source)[0],
            }
        )
    # The decoder may not read position 3, which the encoder did read. In the model what hides is PAD.
    hidden = source.clone()
    hidden[0, 3] = 0
    hook = switch_off_heads(model.decoder[1].cross_attention, [2])
    off = taps(model, ["head"], written, memory, source != 0, call=model.decode)
    hook.remove()
    bare = ready(Seq2Seq(replace(config, attention_only=True)), seed=12, std=0.3)
    with torch.no_grad():
        bare_memory = bare.encode(source)
    return {
        "config": {"n_head": config.n_head},
        "many": many_dates(),
        "bare": {
            "tensors": weights(bare),
            "source": source[0],
            "written": written[0],
            "taps": taps(
                bare,
                [*decoder, "head"],
                written,
                bare_memory,
                source != 0,
                call=bare.decode,
            ),
            "ids": bare.translate(source)[0],
        },
        "tensors": weights(model),
        "runs": runs,
        "hidden": {
            "position": 3,
            "taps": taps(
                model,
                [*decoder, "head"],
                written,
                memory,
                hidden != 0,
                call=model.decode,
            ),
        },
        "off": {"cross": {1: [2]}, "taps": off},
    }


FAULTS = {
    "cross-attention reads what is written": (
        "seq2seq.mjs",
        "crossAttention(norm(x, get, `${name}.norm2`), memory, get",
        "crossAttention(norm(x, get, `${name}.norm2`), x, get",
    ),
    "padding is read": ("seq2seq.mjs", "Number(id !== PAD)", "Number(id !== PAD - 1)"),
    "the encoder looks back only": (
        "seq2seq.mjs",
        "{ H, mask: seen, tap }",
        "{ H, mask: seen, causal: true, tap }",
    ),
    "the decoder looks ahead": ("seq2seq.mjs", "causal: true", "causal: false"),
    "the source's positions for the target": (
        "seq2seq.mjs",
        'embed(written, get, "target")',
        'embed(written, get, "source")',
    ),
    "no norm of the memory": (
        "seq2seq.mjs",
        'norm(x, get, "memory_norm")',
        "x",
    ),
    "a model without norms gets them": (
        "seq2seq.mjs",
        "get.has(name) ? layerNorm(x, get(name)) : x",
        "layerNorm(x, get.has(name) ? get(name) : { weight: { data: [1] } })",
    ),
    "greedy decoding takes the least": (
        "seq2seq.mjs",
        "Math.max(...row)",
        "Math.min(...row)",
    ),
}
