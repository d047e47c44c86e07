"""Chapter 11: the roofline, with machines from their data sheets and the reader's browser."""

import html
import math

from babygpt_course import ledger
from babygpt_course.errors import ConfigError
from babygpt_course.live.figure import LiveFigure, still_table

Measured = tuple[
    str, float, float
]  # a name, an intensity, the FLOP/s that were reached


def roofline_figure(
    models: dict[str, ledger.Costed],
    *,
    here: ledger.Device,
    measured: list[Measured],
    opens: str,
    small: str,
    title: str = "One text waits for memory; many texts share the weights",
    code_href: str = "",
    card: str = "",
) -> LiveFigure:
    """What each part of a forward pass can attain on a machine, from its FLOPs and bytes.

    Args:
        models: what the reader can choose, GPTs or Llamas, by name.
        here: the machine that made the page, measured in fp32.
        measured: what was measured on it.
        opens: the model that the figure opens with.
        small: a model that is asked about beside it.
        code_href: link to the cell that measured.
        card: one line on where the numbers come from.

    Raises:
        ConfigError: an unknown model, a number that is not positive, or a model of
            which the title is not true: that it waits for memory with one text on every
            device, and no longer with enough texts.
    """
    for name in (opens, small):
        if name not in models:
            raise ConfigError(f"{name!r} is not among the models: {', '.join(models)}.")
    numbers = [here.bandwidth, *here.peaks.values()]
    numbers += [x for _, *pair in measured for x in pair]
    if not all(x > 0 and math.isfinite(x) for x in numbers):
        raise ConfigError(f"Rates and intensities must be positive; got {numbers}.")
    big = models[opens]
    rows, batches = [], {}
    for device in ledger.DEVICES:
        (number, peak) = list(device.peaks.items())[-1]
        ridge = peak / device.bandwidth
        alone = _step(big, 1)
        batch = ledger.ridge_batch(big, ridge, width=2)
        if alone.intensity >= ridge or batch is None:
            raise ConfigError(
                f"{opens} on {device.name}: {alone.intensity:.1f} FLOP/byte with one "
                f"text, the ridge is at {ridge:.0f}. This is not what the title says."
            )
        batches[device.name] = batch
        attained = ledger.attainable(alone.intensity, peak, device.bandwidth)
        rows.append(
            [
                f"{device.name}, {number}",
                f"{peak / 1e12:.1f} TFLOP/s",
                f"{device.bandwidth / 1e9:,.0f} GB/s",
                f"{ridge:.0f}",
                f"{100 * attained / peak:.2f} %",
                f"{batch:,}",
            ]
        )
    t4 = ledger.DEVICES[0]
    peak = list(t4.peaks.values())[-1]
    alt = (
        f"{opens} writing one text on a {t4.name} with 16 bits a number does "
        f"{_step(big, 1).intensity:.1f} FLOP a byte and attains at most {rows[0][4]} of "
        f"the peak. Its products with weights reach the ridge with {batches['T4']} "
        f"texts, on an H200 with {batches['H200']}."
    )
    T = min(ledger.shape_of(big).T, 1024)
    if min(w.intensity for w in ledger.work(big, 1, T, width=2).values()) < peak / (
        t4.bandwidth
    ):
        raise ConfigError(f"{opens} waits for memory even when it reads {T} tokens.")
    never = ledger.ridge_batch(models[small], peak / t4.bandwidth, width=2)
    whole = ledger.ridge_batch(
        big, peak / t4.bandwidth, past=T - 1, width=2, parts=tuple(ledger.work(big))
    )
    answer = (
        f"{opens} needs {batches['T4']} texts on a T4 and {batches['H200']} on an H200: "
        "the newer machine computes and reads faster in nearly the same proportion. "
        f"{small} {'never gets there' if never is None else f'needs {never}'} on a T4: "
        "its matrices are so small that the rows going in and out count as much. The "
        "scores never move with the batch, because each text has a cache of its own; "
        f"with {T:,} tokens each, all together "
        f"{'never reach the ridge' if whole is None else f'need {whole:,} texts'}. A "
        "prompt has many rows at once, and computing is the limit from the start."
    )
    head = ["machine", "peak", "bandwidth", "ridge", "one text", "texts to the ridge"]
    return LiveFigure(
        name="roofline",
        title=title,
        alt=alt,
        picture=_still(alt, peak, t4.bandwidth, big) + still_table(head, rows),
        props={
            "models": [
                {"name": name, **ledger.shape_of(model)._asdict()}
                for name, model in models.items()
            ],
            "devices": [d._asdict() for d in (*ledger.DEVICES, here)],
            "measured": [list(each) for each in measured],
            "ask": [[opens, "T4"], [opens, "H200"], [small, "T4"]],
            "opens": {
                "device": "T4",
                "bits": 16,
                "model": opens,
                "mode": "decode",
                "batch": 0,
                "length": math.floor(math.log2(T)),
            },
            "answer": answer,
            "code_href": code_href,
            "card": card,
        },
    )


def _step(model: ledger.Costed, B: int) -> ledger.Work:
    """One token for each of B texts, 16 bits a number: the products with weights."""
    parts = ledger.work(model, B, 1, width=2)
    some = [parts[part] for part in ("attention", "mlp", "head")]
    return ledger.Work(sum(w.flops for w in some), sum(w.bytes for w in some))


def _still(alt: str, peak: float, bandwidth: float, model: ledger.Costed) -> str:
    """The roof of one machine, and three batches on it."""

    def x(intensity: float) -> float:
        return 60 + 95 * (math.log10(intensity) + 1)

    def y(flops: float) -> float:
        return 20 + 45 * (15 - math.log10(flops))

    corner = [(0.1, 0.1 * bandwidth), (peak / bandwidth, peak), (1e4, peak)]
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corner)
    roof = f'<polyline points="{points}" style="fill:none;stroke:var(--ink);stroke-width:2.5"/>'
    drawn = []
    for a in (0.1, 1, 10, 100, 1000, 10_000):
        drawn.append(
            f'<text x="{x(a):.1f}" y="270" text-anchor="middle">{a:,}</text>'
            f'<line x1="{x(a):.1f}" x2="{x(a):.1f}" y1="20" y2="250" style="stroke:var(--line)"/>'
        )
    for name, b in (("1 T", 1e12), ("10 T", 1e13), ("100 T", 1e14)):
        drawn.append(
            f'<text x="52" y="{y(b) + 5:.1f}" text-anchor="end">{name}</text>'
            f'<line x1="60" x2="535" y1="{y(b):.1f}" y2="{y(b):.1f}" style="stroke:var(--line)"/>'
        )
    drawn.append(roof)
    for B in (1, 16, 256):
        a = _step(model, B).intensity
        b = ledger.attainable(a, peak, bandwidth)
        drawn.append(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="6" style="fill:var(--blue)"/>'
            f'<text x="{x(a) + 10:.1f}" y="{y(b) + 20:.1f}">{B} text{"s" if B > 1 else ""}</text>'
        )
    drawn.append('<text x="0" y="14">FLOP/s</text>')
    drawn.append('<text x="535" y="292" text-anchor="end">FLOP/byte</text>')
    return (
        f'<svg viewBox="0 0 560 298" role="img" aria-label="{html.escape(alt)}" '
        f'style="width:100%;max-width:640px;font-size:15px;fill:var(--ink)">{"".join(drawn)}</svg>'
    )
