"""Live figures: a picture that computes in the reader's browser with the chapter's own numbers.

A figure is one JavaScript module (`static/<name>.js`, source in `figures/`), a dict of props and some tensors.
In a notebook it is an anywidget; in the built book it is a picture with a table that becomes live by script.
"""

import base64
import hashlib
import html
import io
import json
import os
import struct
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from babygpt_course.errors import ConfigError
from babygpt_course.files import replacing


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
    props: dict[str, Any] = field(default_factory=dict)
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
    def widget(self) -> Any:
        """The figure as an anywidget. Its `state` (a dict) follows what the reader does, and can be set."""
        import anywidget
        import traitlets

        class Figure(anywidget.AnyWidget):
            _esm = self.module
            props = traitlets.Dict().tag(sync=True)
            state = traitlets.Dict().tag(sync=True)

        widget = Figure(props=self._props)

        # The numbers are sent when asked for: as a trait they would be saved in every notebook.
        def answer(widget: Any, content: dict[str, Any], _buffers: Any) -> None:
            if content.get("type") == "tensors":
                widget.send({"type": "tensors"}, buffers=[self.weights])

        widget.on_msg(answer)
        return widget

    @property
    def html(self) -> str:
        """The figure for a page without Python: the picture, and what makes it live.

        The numbers lie in a file beside the page if BABYGPT_COURSE_STATIC names the folder for
        such files, as the build of the book does, and otherwise in the page itself.
        """
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
            f"{self._tensors_html()}</div>"
        )

    def _tensors_html(self) -> str:
        """Where the page finds the numbers: a file named by what is in it, or the numbers."""
        if folder := os.environ.get("BABYGPT_COURSE_STATIC"):
            name = f"{self.name}-{hashlib.sha256(self.weights).hexdigest()[:12]}.safetensors"
            with replacing(Path(folder) / name) as part:
                part.write_bytes(self.weights)
            return (
                f'<script type="application/json" data-tensors-file>"{name}"</script>'
            )
        data = base64.b64encode(self.weights).decode()
        return f'<script type="application/octet-stream" data-tensors>{data}</script>'

    @property
    def _props(self) -> dict[str, Any]:
        return {"title": self.title, "alt": self.alt, **self.props}

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
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


def still_panels(tables: list[tuple[str, Tensor]], alt: str) -> str:
    """Tables of probabilities side by side. Shades follow the square root, as in the live figure."""
    import matplotlib.image

    drawn = []
    for name, table in tables:
        png = io.BytesIO()
        matplotlib.image.imsave(
            png,
            table.sqrt().numpy(),
            format="png",
            cmap="cividis",
            vmin=0,
            vmax=1,
            metadata={"Software": None},  # type: ignore[dict-item]  # None leaves it out
        )
        data = base64.b64encode(png.getvalue()).decode()
        size = f'width="{len(table)}" height="{len(table)}"'
        drawn.append(
            f'<div>{html.escape(name)}<svg viewBox="0 0 {len(table)} {len(table)}" aria-hidden="true">'
            f'<image {size} href="data:image/png;base64,{data}"/></svg></div>'
        )
    return f'<div class="lf-panels" role="img" aria-label="{html.escape(alt)}">{"".join(drawn)}</div>'


def still_table(head: list[str], rows: list[list[str]]) -> str:
    """A table of the figure's numbers, for readers without scripts; a row begins with its name."""
    cells = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text}</td>" for text in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="lf-scroll" tabindex="0" role="region" aria-label="The numbers of the picture"><table class="lf-table"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
