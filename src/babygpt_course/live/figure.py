"""Live figures: a picture that computes in the reader's browser with the chapter's own numbers.

A figure is one JavaScript module (`static/<name>.js`, source in `figures/`), a dict of props and some tensors.
In a notebook it is an anywidget; in the built book it is a picture with a table that becomes live by script.
"""

import base64
import html
import io
import json
import math
import os
import struct
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files

import torch
from torch import Tensor

from babygpt_course.bigram import count_probs
from babygpt_course.errors import ConfigError


def to_safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Tensors as one safetensors file: floats are rounded to float16, integers stay exact as int32.

    Raises:
        ConfigError: a number is not finite, or too large for its format.
    """
    header, chunks, start = {}, [], 0
    for name, tensor in tensors.items():
        dtype, code = (
            (torch.float16, "F16")
            if tensor.is_floating_point()
            else (torch.int32, "I32")
        )
        rounded = tensor.detach().cpu().to(dtype)
        if not rounded.isfinite().all() or (
            code == "I32" and not rounded.equal(tensor.cpu())
        ):
            raise ConfigError(
                f"The tensor {name!r} holds a number that {dtype} cannot: its largest size is "
                f"{tensor.abs().max()}. Give finite numbers, below 65,504 for floats."
            )
        data = rounded.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": code,
            "shape": list(tensor.shape),
            "data_offsets": [start, start + len(data)],
        }
        chunks.append(data)
        start += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(chunks)


@dataclass(frozen=True)
class LiveFigure:
    """A figure that a notebook shows live, and that the built book shows as a picture until its script runs.

    Args:
        name: the module, `static/<name>.js`.
        title: the claim the figure makes.
        alt: one or two sentences that state the finding, with its numbers.
        picture: HTML of the still picture and its table, for readers without scripts and for print.
        props: what the module needs besides tensors; anything JSON can hold.
        tensors: the chapter's numbers, see `to_safetensors`.
    """

    name: str
    title: str
    alt: str
    picture: str
    props: dict = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def module(self) -> str:
        """The JavaScript that draws the figure."""
        return _static(f"{self.name}.js")

    @cached_property
    def weights(self) -> bytes:
        """The tensors as the bytes of a safetensors file."""
        return to_safetensors(self.tensors)

    @cached_property
    def widget(self):
        """The figure as an anywidget. Its `state` (a dict) follows what the reader does, and can be set."""
        import anywidget
        import traitlets

        class Figure(anywidget.AnyWidget):
            _esm = self.module
            props = traitlets.Dict().tag(sync=True)
            state = traitlets.Dict().tag(sync=True)

        widget = Figure(props=self._props)

        # The numbers are sent when asked for: as a trait they would be saved in every notebook.
        def answer(widget, content, _buffers):
            if content.get("type") == "tensors":
                widget.send({"type": "tensors"}, buffers=[self.weights])

        widget.on_msg(answer)
        return widget

    @property
    def html(self) -> str:
        """The figure for a page without Python: the picture, and beside it the numbers that make it live."""
        props = json.dumps(self._props, ensure_ascii=False).replace("<", "\\u003c")
        version = self.module.split(maxsplit=3)[2][
            :12
        ]  # of the hash in the module's first line
        return (
            f'<div class="live-figure" data-figure="{self.name}" data-version="{version}">'
            f"<style>{_static('live-figure.css')}</style>"
            f'<figure class="lf"><figcaption class="lf-title">{html.escape(self.title)}</figcaption>'
            f'<div class="lf-body">{self.picture}<p class="lf-readout">{html.escape(self.alt)}</p></div></figure>'
            f'<script type="application/json" data-props>{props}</script>'
            f'<script type="application/octet-stream" data-tensors>{base64.b64encode(self.weights).decode()}</script>'
            "</div>"
        )

    @property
    def _props(self) -> dict:
        return {"title": self.title, "alt": self.alt, **self.props}

    def _repr_mimebundle_(self, **kwargs):
        plain = {"text/plain": repr(self)}
        if os.environ.get("BABYGPT_COURSE_STATIC"):
            return {**plain, "text/html": self.html}
        try:
            bundle = self.widget._repr_mimebundle_(**kwargs)
        except ImportError:
            return {**plain, "text/html": self.html}
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, **plain}, metadata

    def __repr__(self) -> str:
        return f"[live figure] {self.title}"


def _static(name: str) -> str:
    return (files("babygpt_course") / "static" / name).read_text(encoding="utf-8")


# --- chapter 01 ------------------------------------------------------------------------------------


def bigram_figure(
    chars: str,
    counts: Tensor,
    stages: list[tuple[int, Tensor, float]],
    *,
    title: str = "Gradient descent finds the table that counting finds",
    uniform: float | None = None,
    counted: float | None = None,
    floor: float | None = None,
    ask: str | None = None,
    code_href: str = "",
    card: str = "",
    seed: int = 1337,
) -> LiveFigure:
    """The counted table beside the trained one, at several training steps.

    Args:
        chars: the V characters, in the order of the ids.
        counts: how often each follows each, integers (V, V), row = previous.
        stages: (training step, logits (V, V), validation loss in nats), in order of the step.
        uniform, counted, floor: levels to draw in the loss curve, nats: the loss of knowing nothing
            (by default ln V), of the counted table, and of the text's own entropy.
        ask: the character the reader is first asked about; by default q, or the most predictable letter.
        code_href: link to the cell that trained the model.
        card: one line on the model: size, data, seed.
        seed: of the characters that the reader generates.

    Raises:
        ConfigError: the shapes do not fit the characters, or there is no stage.
    """
    size = len(chars)
    if not stages:
        raise ConfigError(
            "A bigram figure needs at least one stage: (step, logits, validation loss)."
        )
    steps, logits, losses = zip(*stages)
    for what, table in [
        ("counts", counts),
        *[(f"logits of step {s}", t) for s, t in zip(steps, logits)],
    ]:
        if tuple(table.shape) != (size, size):
            raise ConfigError(
                f"The {what} must be ({size}, {size}), one row a character; got {tuple(table.shape)}."
            )
    if list(steps) != sorted(set(steps)):
        raise ConfigError(
            f"The stages must be in order of their step, each step once; got {steps}."
        )

    for what, level in {
        "counted": counted,
        "floor": floor,
        "validation loss": sum(losses),
    }.items():
        if level is not None and not math.isfinite(level):
            raise ConfigError(
                f"The {what} must be finite to be drawn; got {level}. Smooth the table, or leave it out."
            )
    if ask not in (None, *chars):
        raise ConfigError(f"ask must be one of the {size} characters; got {ask!r}.")
    truth = count_probs(counts)  # (V, V) float64
    seen = counts.sum(1).double()  # (V,)
    if ask is None:
        letters = [i for i, c in enumerate(chars) if c.isalpha() and seen[i] > 0] or [
            int(seen.argmax())
        ]
        surest = max(letters, key=lambda i: float(truth[i].max()))
        ask = "q" if "q" in chars and seen[chars.index("q")] > 0 else chars[surest]

    logq = [torch.log_softmax(t.detach().double().cpu(), dim=1) for t in logits]
    # KL(counted || trained) of each row, weighted by how often the row was seen: nats.
    gaps = [
        float((seen / seen.sum()) @ (torch.xlogy(truth, truth) - truth * q).sum(1))
        for q in logq
    ]
    alt = (
        f"After {steps[-1]:,} steps the trained table is {gaps[-1]:.3f} nats from the counted one "
        f"(KL, mean over characters); at step {steps[0]:,} it was {gaps[0]:.3f}. Validation loss went from "
        f"{losses[0]:.3f} to {losses[-1]:.3f} nats = {losses[-1] / math.log(2):.3f} bits per character."
    )
    panels = [
        ("Counted", truth),
        *[(f"Trained, step {steps[i]:,}", logq[i].exp()) for i in (0, -1)],
    ]
    rows = [
        [f"{step:,}", f"{loss:.3f}", f"{loss / math.log(2):.3f}", f"{gap:.3f}"]
        for step, loss, gap in zip(steps, losses, gaps)
    ]
    head = [
        "training step",
        "validation loss, nats",
        "bits per character",
        "KL(counted ‖ trained), nats",
    ]
    return LiveFigure(
        name="bigram",
        title=title,
        alt=alt,
        picture=_panels(panels, alt) + _table(head, rows),
        props={
            "chars": list(chars),
            "steps": list(steps),
            "losses": [float(x) for x in losses],
            "uniform": math.log(size) if uniform is None else uniform,
            "counted": counted,
            "floor": floor,
            "ask": ask,
            "code_href": code_href,
            "card": card,
            "seed": seed,
        },
        tensors={
            "counts": counts,
            "stages": torch.stack([t.detach().cpu().float() for t in logits]),
        },
    )


def _panels(tables: list[tuple[str, Tensor]], alt: str) -> str:
    """Tables of probabilities side by side. Shades follow the square root, as in the live figure."""
    import matplotlib.image

    drawn = []
    for name, table in tables:
        png = io.BytesIO()
        shade = {
            "cmap": "cividis",
            "vmin": 0,
            "vmax": 1,
            "metadata": {"Software": None},
        }
        matplotlib.image.imsave(png, table.sqrt().numpy(), format="png", **shade)
        data = base64.b64encode(png.getvalue()).decode()
        size = f'width="{len(table)}" height="{len(table)}"'
        drawn.append(
            f'<div>{html.escape(name)}<svg viewBox="0 0 {len(table)} {len(table)}" aria-hidden="true">'
            f'<image {size} href="data:image/png;base64,{data}"/></svg></div>'
        )
    return f'<div class="lf-panels" role="img" aria-label="{html.escape(alt)}">{"".join(drawn)}</div>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="lf-scroll" tabindex="0" role="region" aria-label="The numbers of the picture"><table class="lf-table"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
